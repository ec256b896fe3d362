"""Tiny random weights in the published layouts, so that every workflow runs before trained small weights exist.

Clips made with them are noise. The files are named ``ovi_mini…`` and lie in ComfyUI's model folders; a
file of that name that this script did not write is left alone.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import itertools
import json
import os
import runpy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden"
STAND_IN = {"format": "pt", "ovi_variant": "mini", "stand_in": "random weights"}

Shapes = dict[str, tuple[int, ...]]
Weights = dict[str, torch.Tensor]

# The published sizes, and the stand-ins' in their place. Every number stands for one size throughout its table.
TRANSFORMER_SIZES = {3072: 256, 14336: 512, 18432: 6 * 256, 4096: 64, 8192: 768}  # dim, ffn, 6 dim, text, gated conv
TRANSFORMER_BLOCKS = 4
SPECTROGRAM_SIZES = {384: 16, 768: 32, 1536: 64, 4608: 192}  # 1, 2 and 4 times the hidden width; the last is 3 · 4
VOCODER_SIZES = {1536 >> level: 64 >> level for level in range(7)}
TEXT_SIZES = {"d_model": 64, "d_ff": 128, "d_kv": 16, "num_heads": 4, "num_layers": 2}
LATENT_CHANNELS = 48
CONTRAST = 0.4  # gain of the picture's last filter, so that few pixels are clipped
LOUDNESS = 20.0  # gain of the vocoder's last filter, for sound of about 0.1 rms


def make(models_dir: Path, seed: int = 0) -> None:
    """Write the stand-ins under ``models_dir``, whole or not at all; those already there are kept.

    Args:
        models_dir: ComfyUI's ``models`` folder, or one laid out like it.
        seed: another seed gives other noise.
    """
    recipe = hashlib.sha256(Path(__file__).read_bytes() + str(seed).encode()).hexdigest()[:16]
    for name, weights_of in FILES.items():
        path = Path(models_dir) / name
        if path.exists() and _recipe_of(path) in (recipe, None):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        safetensors.torch.save_file(weights_of(seed), part, metadata=STAND_IN | {"recipe": recipe})
        os.replace(part, path)


def _recipe_of(path: Path) -> str | None:
    """The recipe a stand-in was made by; None for a file that is no stand-in, such as a trained one."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("recipe")
    except (OSError, safetensors.SafetensorError):
        return None


def transformer(seed: int) -> Weights:
    """Both towers, by the keys of the published one-file checkpoint."""
    table = _table("checkpoint_11b_keys.json")
    shapes = {key: shape for key, shape in table.items() if _block_of(key) < TRANSFORMER_BLOCKS}
    return _draw(_resized(shapes, TRANSFORMER_SIZES), seed)


def _block_of(key: str) -> int:
    parts = key.split(".")
    return int(parts[2]) if parts[1] == "blocks" else 0


def audio_vae(seed: int) -> Weights:
    """Spectrogram VAE and vocoder in one file, the vocoder weight-normalised as published."""
    tables = _table("audio_vae_keys.json")
    vae = _draw(_resized(tables["v1-16.pth"], SPECTROGRAM_SIZES), seed)
    vae["data_mean"].fill_(-2.0)  # of a log10 spectrogram
    vae["data_std"].fill_(1.0)
    vocoder = _draw(_resized(tables["best_netG.pt[generator]"], VOCODER_SIZES), seed)
    for key, value in vocoder.items():
        if key.endswith(".filter"):
            value.copy_(half_band_filter(value.shape[-1]).reshape(value.shape))
    last = vocoder["conv_post.parametrizations.weight.original1"]
    last -= last.mean(dim=-1, keepdim=True)  # random activations have a mean, which sound must not
    vocoder["conv_post.parametrizations.weight.original0"] *= LOUDNESS
    vocoder["conv_post.bias"].zero_()
    return {f"vae.{key}": value for key, value in vae.items()} | {f"vocoder.{key}": v for key, v in vocoder.items()}


def half_band_filter(taps: int) -> torch.Tensor:
    """BigVGAN's fixed low-pass for resampling by 2: a sinc cut at a quarter of the rate, Kaiser-windowed, of sum 1."""
    width = 4 * 0.3
    attenuation = 2.285 * (taps // 2 - 1) * np.pi * width + 7.95  # dB, Kaiser's formula
    beta = 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21)
    if attenuation > 50:
        beta = 0.1102 * (attenuation - 8.7)
    time = np.arange(-taps // 2, taps // 2) + 0.5
    impulse = np.kaiser(taps, beta) * np.sinc(0.5 * time)
    return torch.from_numpy(impulse / impulse.sum()).float()


def video_vae(seed: int) -> Weights:
    """Wan 2.2's layout; 2 channels at full resolution, one residual block per level: CPUs are slow at 3-D filters."""
    weights = _draw(wan_vae_shapes(dim=4, decoder_dim=2, multiples=(1, 2, 4, 4), blocks=1), seed)
    for key in ("decoder.head.2.weight", "decoder.head.2.bias"):  # one value per 2x2 patch: clouds, not pixel noise
        weights[key] = CONTRAST * weights[key][::4].repeat_interleave(4, dim=0)
    return weights


def wan_vae_shapes(dim: int, decoder_dim: int, multiples: tuple[int, ...], blocks: int) -> Shapes:
    """Keys and shapes of Wan 2.2's VAE: 2x2 patches of RGB are 12 channels; levels 2 and 3 also halve time."""
    shapes: Shapes = {}

    def conv(key: str, inner: int, outer: int, *kernel: int) -> None:
        shapes[f"{key}.weight"], shapes[f"{key}.bias"] = (outer, inner, *kernel), (outer,)

    def residual(key: str, inner: int, outer: int) -> None:
        shapes[f"{key}.residual.0.gamma"], shapes[f"{key}.residual.3.gamma"] = (inner, 1, 1, 1), (outer, 1, 1, 1)
        conv(f"{key}.residual.2", inner, outer, 3, 3, 3)
        conv(f"{key}.residual.6", outer, outer, 3, 3, 3)
        if inner != outer:
            conv(f"{key}.shortcut", inner, outer, 1, 1, 1)

    def half(name: str, side: str, widths: list[int], ends: tuple[int, int], blocks: int, in_time: list[bool]) -> None:
        middle = widths[-1] if side == "down" else widths[0]
        conv(f"{name}.conv1", ends[0], widths[0], 3, 3, 3)
        for level, (inner, outer) in enumerate(itertools.pairwise(widths)):
            key = f"{name}.{side}samples.{level}.{side}samples"
            for block in range(blocks):
                residual(f"{key}.{block}", inner if block == 0 else outer, outer)
            if level < len(in_time):
                conv(f"{key}.{blocks}.resample.1", outer, outer, 3, 3)
            if level < len(in_time) and in_time[level]:
                conv(f"{key}.{blocks}.time_conv", outer, outer * (2 if side == "up" else 1), 3, 1, 1)
        residual(f"{name}.middle.0", middle, middle)
        shapes[f"{name}.middle.1.norm.gamma"] = (middle, 1, 1)
        conv(f"{name}.middle.1.to_qkv", middle, 3 * middle, 1, 1)
        conv(f"{name}.middle.1.proj", middle, middle, 1, 1)
        residual(f"{name}.middle.2", middle, middle)
        shapes[f"{name}.head.0.gamma"] = (widths[-1], 1, 1, 1)
        conv(f"{name}.head.2", widths[-1], ends[1], 3, 3, 3)

    moments = 2 * LATENT_CHANNELS
    half("encoder", "down", [dim, *(dim * m for m in multiples)], (12, moments), blocks, [False, True, True])
    rising = [decoder_dim * m for m in (multiples[-1], *multiples[::-1])]
    half("decoder", "up", rising, (LATENT_CHANNELS, 12), blocks + 1, [True, True, False])
    conv("conv1", moments, moments, 1, 1, 1)
    conv("conv2", LATENT_CHANNELS, LATENT_CHANNELS, 1, 1, 1)
    return shapes


def text_encoder(seed: int) -> Weights:
    """UMT5's layout with a tokenizer of its own that can spell any text."""
    tokenizer = train_tokenizer()
    sizes = TEXT_SIZES
    width, inner = sizes["d_model"], sizes["d_kv"] * sizes["num_heads"]
    shapes: Shapes = {"shared.weight": (_pieces(tokenizer), width), "encoder.final_layer_norm.weight": (width,)}
    for layer in range(sizes["num_layers"]):
        attention, feed_forward = (f"encoder.block.{layer}.layer.{index}" for index in (0, 1))
        for name in ("q", "k", "v"):
            shapes[f"{attention}.SelfAttention.{name}.weight"] = (inner, width)
        shapes[f"{attention}.SelfAttention.o.weight"] = (width, inner)
        shapes[f"{attention}.SelfAttention.relative_attention_bias.weight"] = (32, sizes["num_heads"])
        for name in ("wi_0", "wi_1"):
            shapes[f"{feed_forward}.DenseReluDense.{name}.weight"] = (sizes["d_ff"], width)
        shapes[f"{feed_forward}.DenseReluDense.wo.weight"] = (width, sizes["d_ff"])
        shapes[f"{attention}.layer_norm.weight"] = shapes[f"{feed_forward}.layer_norm.weight"] = (width,)
    weights = _draw(shapes, seed)
    weights["spiece_model"] = torch.frombuffer(bytearray(tokenizer), dtype=torch.uint8)
    return weights


def train_tokenizer() -> bytes:
    """A small sentencepiece model of English, bytes for all other characters; pad 0, end 1, unknown 2 as UMT5's."""
    import sentencepiece  # of ComfyUI's requirements; slow to import

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS.strip().splitlines()),
        model_writer=model,
        model_type="unigram",
        vocab_size=900,
        hard_vocab_limit=False,
        byte_fallback=True,
        normalization_rule_name="identity",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def _pieces(tokenizer: bytes) -> int:
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_proto=tokenizer).get_piece_size()


def _table(name: str) -> dict:
    return json.loads((GOLDEN / name).read_text(encoding="utf-8"))


def _resized(shapes: dict[str, list[int]], sizes: dict[int, int]) -> Shapes:
    return {key: tuple(sizes.get(size, size) for size in shape) for key, shape in shapes.items()}


def _draw(shapes: Shapes, seed: int) -> Weights:
    """Bfloat16 weights, scaled by role as in the reference cases, so that activations stay near unit size."""
    seeded = runpy.run_path(str(GOLDEN / "seeded.py"))

    def drawn(key: str, shape: tuple[int, ...]) -> np.ndarray:
        if key.endswith(".gamma"):  # of a norm, though it has more than one axis
            return 1 + 0.1 * seeded["draw"](key, shape, seed)
        return seeded["weight"](key, shape, seed)

    return {key: torch.as_tensor(drawn(key, shape)).bfloat16() for key, shape in shapes.items()}


FILES: dict[str, Callable[[int], Weights]] = {
    "diffusion_models/ovi_mini.safetensors": transformer,
    "vae/ovi_mini_video_vae.safetensors": video_vae,
    "vae/ovi_mini_audio_vae.safetensors": audio_vae,
    "text_encoders/ovi_mini_umt5.safetensors": text_encoder,
}

CORPUS = """
A small boat drifts across a calm sea at sunrise while gulls circle above the mast.
An old sailor leans on the rail, looks into the camera and says that the wind is turning.
The young woman smiles, lifts her cup of tea and whispers good morning to her sleeping cat.
Two children run through tall grass, laughing, as thunder rolls behind the hills.
Close-up of a man with a grey beard speaking slowly in a quiet, warm voice.
A crowd cheers in a bright stadium; the singer raises one hand and the music stops.
Rain falls on a busy street at night, neon signs reflect in the puddles, cars pass by.
The camera moves slowly towards the window and stays on the empty chair.
She turns around, surprised, and asks who left the door open.
He answers with a tired laugh that nobody has been here for years.
A robot made of brass walks down a narrow hall, its steps ringing on the stone floor.
Steam rises from a train as it leaves the station, and a whistle echoes over the valley.
The chef cuts onions quickly, the knife taps on the board, oil sizzles in a hot pan.
A dog barks twice, then sits and waits for the ball to be thrown again.
Snow covers the village, a church bell rings far away, and a child pulls a wooden sledge.
The teacher writes three words on the board and reads them aloud to the class.
Waves break on black rocks below the lighthouse and spray flies high into the air.
An astronaut opens the hatch and looks at the blue planet without saying a word.
The wizard closes the heavy book, candles flicker, and the room grows dark and silent.
A violin plays a slow melody while dancers in red move across the wooden stage.
Footsteps on gravel, leaves moving in the wind, distant birds, soft breathing.
Clear male voice, calm and deep; light room echo; low hum of a machine in the background.
Clear female voice, bright and excited; street noise, a passing bus, people talking.
Gentle piano music, rain against glass, the crackle of a fire, a clock ticking.
Loud engine, squealing brakes, a door slams, someone shouts from across the road.
Hello and welcome back, today we are going to build something very simple together.
I have waited my whole life for this moment, and now I do not know what to say.
Please come closer, because the story that I want to tell you is a short one.
We are not afraid of the dark, we are afraid of what we might find when it is light.
Nobody told me that the ocean could be so loud and so peaceful at the same time.
You should have called me before you left, I would have come with you.
Do you hear that? It sounds as if someone is playing music under the floor.
Yes, of course, this is exactly what we were looking for, thank you so much.
No, wait, stop the car, there is a horse standing in the middle of the bridge.
Once upon a time a king had three daughters, and each of them could sing with the birds.
The market is full of people, fruit, spices, bright cloth and the smell of fresh bread.
A black horse gallops along the beach, its hooves throwing sand and water behind it.
Medium shot, shallow focus, warm light from the left, natural skin, handheld camera.
Wide shot of a desert under a pale sky, a single road, a red truck raising dust.
Low angle, the tower stands against storm clouds, lightning flashes, thunder follows.
Slow motion of a glass falling from the table, breaking, water spreading over the tiles.
Black and white film, grain, a detective in a long coat lights a cigarette and frowns.
Cartoon style, round shapes, a yellow duck wearing a blue hat sings a cheerful song.
Robotic, muffled, echo, distorted, noise, jitter, bad hands, blur, distortion.
One two three four five six seven eight nine ten hundred thousand first second third.
0 1 2 3 4 5 6 7 8 9 10 24 30 60 720 960 <S> <E> <AUDCAP> <ENDAUDCAP> Audio: ( ) [ ] { } " ' ! ? . , ; : - / & %
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models_dir", type=Path, help="ComfyUI's models folder, or one laid out like it")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    make(arguments.models_dir, arguments.seed)


if __name__ == "__main__":
    main()
