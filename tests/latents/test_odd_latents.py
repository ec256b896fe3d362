"""LATENTs as other nodes and packs may give them: every node makes a clip of them, or says what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from comfy.nested_tensor import NestedTensor
from comfy_extras.nodes_lt import LTXVSeparateAVLatent
from native_cases import sample, small_vaes, text, write_tiny
from ovi_native.nodes.decoding import OviDecode
from ovi_native.nodes.latents import EmptyOviLatent, OviEncodeClip, OviImageToVideo, OviKeepSpan, OviKeyframe
from ovi_native.nodes.locked_media import OviLockAudio, OviLockVideo, OviVoice
from ovi_native.nodes.person import OviPerson
from ovi_native.nodes.remix import OviRemix
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.latents.source_media import LEAD, Lead
from ovi_native.ovi_core.loading.loader import load_model

VIDEO, AUDIO = (1, 48, 3, 4, 4), (1, 20, 10)
SOUND = {"waveform": torch.sin(torch.arange(16_000) / 8.0)[None, None] / 2, "sample_rate": 16_000}
IMAGES = torch.linspace(0, 1, 9 * 64 * 64 * 3).reshape(9, 64, 64, 3)


pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(write_tiny(tmp_path_factory.mktemp("model")))


def drawn(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def parts(*shapes: tuple[int, ...], change: Callable[[torch.Tensor], Any] = lambda part: part) -> dict:
    return {"samples": NestedTensor([change(drawn(shape)) for shape in shapes])}


def masked(*masks: Any) -> dict:
    return {**parts(VIDEO, AUDIO), "noise_mask": NestedTensor(list(masks)) if len(masks) != 1 else masks[0]}


FREE = torch.ones(1, 1, *VIDEO[2:]), torch.ones(1, 1, AUDIO[2])
REFUSED = {
    "no parts": (parts(), "NestedTensor without parts"),
    "three parts": (parts(VIDEO, AUDIO, AUDIO), "3 part(s)"),
    "swapped": (parts(AUDIO, VIDEO), "[1, 20, 10] and [1, 48, 3, 4, 4]"),
    "a list": ({"samples": [drawn(VIDEO), drawn(AUDIO)]}, "samples of type list"),
    "NumPy": ({"samples": drawn(VIDEO).numpy()}, "samples of type ndarray"),
    "no clips": (parts((0, *VIDEO[1:]), (0, *AUDIO[1:])), "[0, 48, 3, 4, 4]"),
    "no frames": (parts((1, 48, 0, 4, 4), AUDIO), "[1, 48, 0, 4, 4]"),
    "no rows": (parts((1, 48, 3, 0, 4), AUDIO), "[1, 48, 3, 0, 4]"),
    "no audio frames": (parts(VIDEO, (1, 20, 0)), "[1, 20, 0]"),
    "int32": (parts(VIDEO, AUDIO, change=torch.Tensor.int), "int32"),
    "bool": (parts(VIDEO, AUDIO, change=torch.Tensor.bool), "bool"),
    "complex": (parts(VIDEO, AUDIO, change=lambda part: part.to(torch.complex64)), "complex64"),
    "fp8": (parts(VIDEO, AUDIO, change=lambda part: part.to(torch.float8_e4m3fn)), "float8_e4m3fn"),
    "meta": (parts(VIDEO, AUDIO, change=lambda part: part.to("meta")), "on meta"),
    "sparse": (parts(VIDEO, AUDIO, change=torch.Tensor.to_sparse), "sparse_coo"),
}
REFUSED_MASKS = {
    "text": (masked("white"), "a noise mask of shape str"),
    "no parts": (masked(), "a noise mask of shape []"),
    "none in it": (masked(FREE[0], None), "NoneType"),
    "empty": (masked(torch.ones(0, 64, 64)), "[0, 64, 64]"),
    "empty audio": (masked(FREE[0], torch.ones(1, 1, 0)), "[1, 1, 0]"),
    "NaN": (masked(FREE[0] * torch.nan, FREE[1]), "from nan to nan"),
    "of 255": (masked(torch.full((1, 64, 64), 255, dtype=torch.uint8)), "from 255 to 255"),
    "complex": (masked(FREE[0].to(torch.complex64), FREE[1]), "complex64"),
    "meta": (masked(*(part.to("meta") for part in FREE)), "on meta"),
    "sparse": (masked(torch.ones(1, 64, 64).to_sparse()), "sparse_coo"),
}
TAKEN = {
    "float16": parts(VIDEO, AUDIO, change=torch.Tensor.half),
    "float64": parts(VIDEO, AUDIO, change=torch.Tensor.double),
    "an uneven grid": parts((1, 48, 3, 3, 5), AUDIO),
    "mask of another size": masked(torch.rand(1, 65, 31)),
    "mask of whole numbers": masked(FREE[0].int(), FREE[1].bool()),
    "mask of one part": {**parts(VIDEO, AUDIO), "noise_mask": NestedTensor([FREE[0]])},
    "mask that overshoots": masked(FREE[0] * 1.05, FREE[1]),
    "foreign keys": {**parts(VIDEO, AUDIO), "ovi_lead": "x", "ovi_kept_video": "x", "ovi_kept_audio": 3},
}
TEXT = [[torch.zeros(1, 3, 8), {}]]


def nodes() -> dict[str, Callable[[dict], Any]]:
    """What takes a LATENT, by display name."""
    vae, audio_vae = small_vaes()
    return {
        "Ovi Image To Video": lambda latent: OviImageToVideo.execute(vae, latent, IMAGES[:1]),
        "Ovi Keyframe": lambda latent: OviKeyframe.execute(vae, latent, IMAGES[:1], 0.2, 0.0),
        "Ovi Encode Clip": lambda latent: OviEncodeClip.execute(vae, audio_vae, latent, IMAGES, SOUND),
        "Ovi Keep Span": lambda latent: OviKeepSpan.execute(latent, "redo", "", "0-0.1", combine=False),
        "Ovi Lock Video": lambda latent: OviLockVideo.execute(vae, latent, IMAGES),
        "Ovi Lock Audio": lambda latent: OviLockAudio.execute(audio_vae, latent, SOUND),
        "Ovi Own Voice": lambda latent: OviVoice.execute(audio_vae, latent, SOUND, 0.5),
        "Ovi Person": lambda latent: OviPerson.execute(TEXT, TEXT, vae, audio_vae, latent, IMAGES[:1]),
        "Ovi Remix": lambda latent: OviRemix.execute(latent, 0.5, 0.5),
        "Ovi AV Decode": lambda latent: OviDecode.execute(latent, vae, audio_vae),
    }


def refused(run: Callable[[], Any], node: str, found: str) -> None:
    with pytest.raises(OviError) as caught:
        run()
    assert caught.value.node == node
    assert caught.value.input in ("latent", "samples")
    assert found in caught.value.found


@pytest.mark.parametrize(("latent", "found"), REFUSED.values(), ids=REFUSED)
def test_what_nothing_can_be_made_of_is_refused_by_every_node(latent, found, model):
    for name, run in nodes().items():
        refused(lambda run=run: run(latent), name, found)
    refused(lambda: sample(model, latent, text(5), text(6)), "Ovi Dual-Tower Sampler", found)


@pytest.mark.parametrize(("latent", "found"), REFUSED_MASKS.values(), ids=REFUSED_MASKS)
def test_a_mask_that_means_nothing_is_refused_by_every_node_that_reads_it(latent, found, model):
    for name, run in nodes().items():
        if name != "Ovi AV Decode":
            refused(lambda run=run: run(latent), name, found)
    refused(lambda: sample(model, latent, text(5), text(6)), "Ovi Dual-Tower Sampler", found)


@pytest.mark.parametrize("latent", TAKEN.values(), ids=TAKEN)
def test_what_means_a_clip_is_taken_by_every_node(latent):
    for name, run in nodes().items():
        for value in run(latent).result:
            samples = value["samples"].unbind() if isinstance(value, dict) and "samples" in value else []
            assert all(bool(part.isfinite().all()) for part in samples), name


def voiced() -> tuple[dict, Lead]:
    """A sampled clip with a voice before it, and what that is."""
    led = OviVoice.execute(small_vaes()[1], EmptyOviLatent.execute(64, 64, 0.4).result[0], SOUND, 0.5).result[0]
    filled = [drawn(tuple(part.shape)) for part in led["samples"].unbind()]
    return {**led, "samples": NestedTensor(filled)}, led[LEAD]


def test_a_voice_is_cut_off_the_video_alone_too():
    latent, lead = voiced()
    whole = OviDecode.execute(latent, *small_vaes()).result[0]
    separated = LTXVSeparateAVLatent.execute(latent).result[0]
    alone = OviDecode.execute(separated, *small_vaes()).result[0]
    assert lead.frames > 0
    np.testing.assert_array_equal(alone.numpy(), whole.numpy())


def test_a_given_clip_behind_a_voice_is_no_longer_than_its_latent():
    vae, audio_vae = small_vaes()
    longer = torch.cat([IMAGES] * 5)
    latent = OviEncodeClip.execute(vae, audio_vae, EmptyOviLatent.execute(64, 64, 0.4).result[0], longer, SOUND)
    led = OviVoice.execute(audio_vae, latent.result[0], SOUND, 0.5).result[0]
    images, sound, _ = OviDecode.execute(led, vae, audio_vae).result
    assert torch.equal(images, longer[:9])
    assert sound["waveform"].shape[-1] == 9 * 16_000 // 24


def test_a_voice_that_another_node_cut_away_is_cut_off_no_more():
    latent, lead = voiced()
    video, audio = latent["samples"].unbind()
    rest = {**latent, "samples": NestedTensor([video[:, :, lead.latent_frames :], audio[..., lead.audio_frames :]])}
    images, sound, _ = OviDecode.execute(rest, *small_vaes()).result
    assert images.shape[0] == 9
    assert sound["waveform"].shape[-1] == 512 * (audio.shape[-1] - lead.audio_frames)


def test_a_loop_of_one_frame_or_after_a_voice_is_refused_and_nothing_is_lost():
    run = OviDecode.execute
    refused(lambda: run(parts((1, 48, 1, 4, 4), AUDIO), *small_vaes(), loop=True), "Ovi AV Decode", "1 frame")
    latent, _ = voiced()
    refused(lambda: run(latent, *small_vaes(), loop=True), "Ovi AV Decode", "starts with a voice")
    assert run(latent, *small_vaes()).result[0].shape[0] == 9
