"""Load Ovi Dataset: what is in a folder reaches the trainer at Ovi's clocks, is encoded once, and faults are named."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import comfy.utils
import folder_paths
import pytest
import torch
import torchaudio
from comfy_api.latest import InputImpl, Types
from native_cases import error, small_vaes, write_tiny
from ovi_native.nodes.training import OviLoadDataset, OviTrainLora
from ovi_native.ovi_core.loading.loader import load_model
from ovi_native.ovi_core.spec import VARIANTS, ClipShape
from ovi_native.ovi_core.text.encode import encode
from ovi_native.ovi_core.text.umt5 import load_text_encoder
from ovi_native.ovi_core.training import latent_cache
from ovi_native.ovi_core.vae.video_vae import load_video_vae
from ovi_native.tools import standins
from refusals import refusal

NODE = "Load Ovi Dataset"
WIDTH, HEIGHT, SECONDS = 64, 32, 0.5
CAPTION = "A man says, <S>Hello.<E> Audio: calm voice."


@pytest.fixture(scope="module")
def clip():
    return load_text_encoder(standins.text_encoder(0))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder "talks" in ComfyUI's input folder."""
    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path))
    (tmp_path / "talks").mkdir()
    return tmp_path / "talks"


def bars(count: int, rate: float, width: int = 96, height: int = 48) -> torch.Tensor:
    """A bar that moves at 40 px a second, whatever the frame rate, on a colour that slowly changes."""
    images = torch.zeros(count, height, width, 3)
    for i in range(count):
        images[i, ..., 0] = 0.3 + 0.4 * i / rate
        left = 10 + round(40 * i / rate)
        images[i, :, left : left + 12] = 1.0
    return images


def tone(seconds: float, rate: int = 44100, channels: int = 2) -> torch.Tensor:
    time = torch.arange(round(seconds * rate)) / rate
    return (0.5 * torch.sin(2 * math.pi * (300 + 400 * time) * time)).expand(1, channels, -1).contiguous()


def film(path: Path, seconds: float = 1.0, rate: float = 24.0, sound: bool = True, caption: str = CAPTION) -> Path:
    """A video file as ComfyUI saves it, and its caption."""
    audio = {"waveform": tone(seconds), "sample_rate": 44100} if sound else None
    images = bars(round(seconds * rate), rate)
    components = Types.VideoComponents(images, frame_rate=Fraction(rate).limit_denominator(1001), audio=audio)
    InputImpl.VideoFromComponents(components).save_to(str(path))
    if caption:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return path


def load(clip, vaes=None, folder="talks", **settings):
    """The node's outputs: latents and positive."""
    chosen = {"variant": "960x960_5s", "width": WIDTH, "height": HEIGHT, "seconds": SECONDS} | settings
    with torch.inference_mode():
        return OviLoadDataset.execute(folder, clip, *(vaes or small_vaes()), **chosen).result


@pytest.fixture
def notes(monkeypatch):
    found: list[str] = []
    monkeypatch.setattr("ovi_native.nodes.shared.notify.warn", lambda node, given: found.extend(given))
    return found


def test_latents_and_captions_are_those_of_the_clips_in_order(clip, folder, notes):
    film(folder / "b.mp4", caption="A second clip. Audio: rain.")
    film(folder / "a.mp4")
    (folder / "notes.md").write_text("no clip")
    loaded, positive = load(clip)
    wanted = ClipShape.from_seconds(WIDTH, HEIGHT, SECONDS)
    for latent, conditioning, caption in zip(loaded, positive, (CAPTION, "A second clip. Audio: rain."), strict=True):
        video, audio = latent["samples"].unbind()
        assert video.shape == wanted.video_shape()
        assert audio.shape == wanted.audio_shape()
        assert torch.equal(conditioning[0][0], encode(clip, caption, VARIANTS["960x960_5s"])[0][0][0])
    assert notes == []


def test_a_clip_is_what_the_vaes_make_of_its_beginning_cropped_and_in_mono(clip, folder):
    path = film(folder / "a.mp4")
    ((latent,), _) = load(clip, width=32)
    wanted, (vae, audio_vae) = ClipShape.from_seconds(32, HEIGHT, SECONDS), small_vaes()
    read = InputImpl.VideoFromFile(str(path)).get_components()
    shown = comfy.utils.common_upscale(read.images[: wanted.frames].movedim(-1, 1), 32, HEIGHT, "lanczos", "center")
    sound = torchaudio.functional.resample(read.audio["waveform"].mean(dim=1), 44100, 16000)[:, : wanted.samples]
    with torch.inference_mode():
        expected = [vae.encode(shown.movedim(1, -1)), audio_vae.encode(sound.unsqueeze(-1))]
    found = latent["samples"].unbind()
    assert error(found[:1], expected[:1]) < 1e-3
    assert error(found[1:], expected[1:]) < 5e-3  # the resampler sees the cut


@pytest.mark.parametrize("rate", [12.0, 30.0, 60.0])
def test_other_frame_rates_show_the_same_moments(clip, folder, rate):
    """A bar that has gone as far after as long: the latents of the same film at 24 and another rate are close."""
    film(folder / "a.mp4", rate=24.0, sound=False)
    film(folder / "b.mp4", rate=rate, sound=False)
    film(folder / "c.mp4", sound=False)
    still = bars(24, 24.0)[:1].expand(24, -1, -1, -1)
    components = Types.VideoComponents(still, frame_rate=Fraction(24), audio=None)
    InputImpl.VideoFromComponents(components).save_to(str(folder / "c.mp4"))
    at_24, other, frozen = (latent["samples"].unbind()[0] for latent in load(clip)[0])
    assert error([other], [at_24]) < 0.5 * error([frozen], [at_24])


def test_a_shorter_clip_stays_shorter_and_a_silent_one_is_reported(clip, folder, notes):
    film(folder / "a.mp4", seconds=0.25)
    film(folder / "b.mp4", sound=False)
    short, silent = (latent["samples"].unbind() for latent in load(clip)[0])
    assert [part.shape[2] for part in short] == [2, ClipShape(WIDTH, HEIGHT, 2).audio_frames]
    assert silent[1].isfinite().all()
    assert len(notes) == 1
    assert notes[0].startswith("b.mp4 has no audio")


class Counting:
    """A VAE that counts what it encodes."""

    def __init__(self, vae):
        self.vae, self.calls = vae, 0

    def __getattr__(self, name):
        return getattr(self.vae, name)

    def encode(self, pixels):
        self.calls += 1
        return self.vae.encode(pixels)


def test_a_clip_is_encoded_once_for_what_is_wanted_of_it(clip, folder):
    film(folder / "a.mp4")
    film(folder / "b.mp4", seconds=0.5)
    vaes = tuple(Counting(vae) for vae in small_vaes())
    first = load(clip, vaes)[0]
    again = load(clip, vaes)[0]
    assert [vae.calls for vae in vaes] == [2, 2]
    for one, other in zip(first, again, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one["samples"].unbind(), other["samples"].unbind(), strict=True))
    (folder / "a.mp4").rename(folder / "c.mp4")
    (folder / "a.txt").rename(folder / "c.txt")
    film(folder / "b.mp4", seconds=0.4)  # another film under the same name
    load(clip, vaes)
    assert vaes[0].calls == 4
    load(clip, vaes, width=32)
    assert vaes[0].calls == 6


def test_other_vaes_encode_again_and_what_was_kept_of_them_is_not_taken(clip, folder):
    film(folder / "a.mp4")
    vae, audio_vae = small_vaes()
    load(clip, (vae, audio_vae))
    other = Counting(load_video_vae(standins.video_vae(1)))
    load(clip, (other, audio_vae))
    assert other.calls == 1


def test_a_damaged_file_of_what_was_kept_is_made_again(clip, folder):
    film(folder / "a.mp4")
    ((first,), _) = load(clip)
    (kept,) = folder.glob("*.safetensors")
    kept.write_bytes(kept.read_bytes()[:100])
    ((again,), _) = load(clip)
    assert all(torch.equal(a, b) for a, b in zip(first["samples"].unbind(), again["samples"].unbind(), strict=True))
    assert len(kept.read_bytes()) > 100
    assert not list(folder.glob("*.partial"))


def test_where_nothing_can_be_kept_the_clips_are_used_all_the_same(clip, folder, notes, monkeypatch):
    film(folder / "a.mp4")

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(latent_cache.safetensors.torch, "save_file", full)
    assert len(load(clip)[0]) == 1
    assert "could not be written (disk full)" in notes[0]


def test_the_node_runs_again_when_clips_or_captions_change_and_not_for_what_it_keeps(clip, folder):
    film(folder / "a.mp4")
    before = OviLoadDataset.fingerprint_inputs("talks", clip=clip, width=32)
    load(clip)
    assert OviLoadDataset.fingerprint_inputs("talks") == before
    (folder / "a.txt").write_text("Another caption. Audio: wind.")
    assert OviLoadDataset.fingerprint_inputs("talks") != before
    assert OviLoadDataset.fingerprint_inputs("nowhere") == ""


def test_the_trainer_takes_what_comes_from_the_folder(clip, folder, tmp_path):
    film(folder / "a.mp4")
    film(folder / "b.mp4", seconds=0.25)
    loaded, positive = load(clip)
    model = load_model(write_tiny(tmp_path, text_dim=positive[0][0][0].shape[-1]))
    defaults = {i.id: [i.default] for i in OviTrainLora.GET_SCHEMA().inputs if getattr(i, "default", None) is not None}
    quick = {"steps": [2], "training_dtype": ["fp32"]}
    with torch.inference_mode():
        lora, losses, _ = OviTrainLora.execute([model], loaded, positive, **defaults | quick).result
    assert len(losses["loss"]) == 2
    assert all(value.isfinite().all() for value in lora.values())


# -- faults ---------------------------------------------------------------------------


def test_faults_of_the_folder_are_named_before_anything_is_encoded(clip, folder):
    vaes = tuple(Counting(vae) for vae in small_vaes())
    refuse = {"node": NODE, "input": "folder", "vaes": vaes}
    refusal(load, clip, **refuse, found="no video in 'talks'", remedy="Put the clips into that folder")
    film(folder / "a.mp4")
    film(folder / "b.mp4", caption="")
    refusal(load, clip, **refuse, found="no caption for b.mp4", remedy="Write what is seen and heard")
    (folder / "b.txt").write_text("He says, <S>Hello. Audio: calm.")
    refusal(load, clip, **refuse, found="'b.txt' with ", remedy="")
    (folder / "b.txt").write_bytes(b"caf\xe9")
    refusal(load, clip, **refuse, found="'b.txt', which is no UTF-8 text", remedy="Save the caption as UTF-8")
    assert [vae.calls for vae in vaes] == [0, 0]
    refusal(load, clip, **refuse | {"folder": "../elsewhere"}, found="'../elsewhere'", remedy="")


def test_a_clip_that_cannot_be_used_is_named_and_the_others_stay_encoded(clip, folder):
    film(folder / "a.mp4")
    film(folder / "b.mp4", seconds=0.1)
    refusal(load, clip, node=NODE, input="folder", found="'b.mp4' with 2 frame(s) at 24 a second", remedy="longer one")
    (folder / "b.mp4").write_bytes(b"no video at all" * 100)
    refusal(load, clip, node=NODE, input="folder", found="'b.mp4' with a content that cannot be read", remedy="H.264")
    assert len(list(folder.glob("a.ovi_*.safetensors"))) == 1


def test_the_wrong_vae_is_reported(clip, folder):
    film(folder / "a.mp4")
    vae, audio_vae = small_vaes()
    refusal(
        load, clip, vaes=(audio_vae, audio_vae), node=NODE, input="vae", found="20 latent channels", remedy="wan2.2_vae"
    )
    refusal(load, clip, vaes=(vae, vae), node=NODE, input="audio_vae", found="48 latent channels", remedy="Audio VAE")
