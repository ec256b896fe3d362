"""What decoding refuses or reports: values that are not finite, VAEs that give NaN, locks that another node removed."""

from __future__ import annotations

import logging
from unittest.mock import Mock

import pytest
import tiny_ovi as tiny
import torch
from native_cases import drawn, small_vaes
from ovi_native.nodes.decoding import OviDecode
from ovi_native.nodes.latents import OviEncodeClip, OviImageToVideo, OviKeepSpan
from ovi_native.nodes.locked_media import OviLockAudio, OviLockVideo
from ovi_native.ovi_core.latents import joint, source_media
from refusals import refusal

from nodes import KSampler, SetLatentNoiseMask

NODE = "Ovi AV Decode"


pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.fixture(scope="module")
def vaes():
    return small_vaes()


def images(frames=9):
    return drawn(frames, 64, 96, 3, seed=1).sigmoid()


def audio(seconds=1.0):
    return {"waveform": drawn(1, 2, round(seconds * 44_100), seed=2) * 0.1, "sample_rate": 44_100}


def sampled(model, latent):
    return KSampler().sample(model, 3, 2, 4.0, "euler", "simple", tiny.positive(), tiny.negative(), latent)[0]


# -- not finite -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(("part", "name"), [(0, "video"), (1, "audio")])
def test_a_latent_that_is_not_finite_stops_before_a_vae_sees_it(vaes, part, name, value, loop):
    parts = [one.clone() for one in tiny.drawn_latent(1)["samples"].unbind()]
    parts[part][0, 3, 1] = value
    unused = [replace_decode(vae) for vae in vaes]
    expected = {"node": NODE, "input": "samples", "found": f"the {name} part", "remedy": "LoRA"}
    refusal(OviDecode.execute, {"samples": joint.join(*parts)}, *unused, "off", loop, **expected)
    for vae in unused:
        vae.decode.assert_not_called()


@pytest.mark.parametrize(("parts", "name"), [((0, None), "video"), ((None, 1), "audio")])
def test_one_tower_that_is_not_finite_stops_too(vaes, parts, name):
    both = [torch.full_like(one, float("nan")) for one in tiny.drawn_latent(1)["samples"].unbind()]
    alone = joint.join(*(None if index is None else both[index] for index in parts))
    expected = {"node": NODE, "input": "samples", "found": f"the {name} part", "remedy": "guidance"}
    refusal(OviDecode.execute, {"samples": alone}, *vaes, **expected)


def test_a_given_clip_does_not_hide_a_latent_that_is_not_finite(vaes):
    latent = OviLockAudio.execute(vaes[1], tiny.empty_latent(), audio()).result[0]
    video, given = latent["samples"].unbind()
    latent = {**latent, "samples": joint.join(torch.full_like(video, float("nan")), given)}
    refusal(OviDecode.execute, latent, *vaes, node=NODE, input="samples", found="the video part", remedy="sample again")


@pytest.mark.parametrize(("index", "name"), [(0, "vae"), (1, "audio_vae")])
def test_a_vae_that_gives_nan_is_named_with_its_type(vaes, index, name):
    failing = [*vaes]
    failing[index] = replace_decode(vaes[index])
    failing[index].decode.side_effect = lambda *given: torch.full_like(vaes[index].decode(*given), float("nan"))
    expected = {"node": NODE, "input": name, "found": "computes in float32 and gives NaN", "remedy": "--fp16-vae"}
    refusal(OviDecode.execute, tiny.drawn_latent(1), *failing, "off", **expected)


def replace_decode(vae):
    """The VAE, whose ``decode`` is only noted."""
    return Mock(wraps=vae, decode=Mock(), **{name: getattr(vae, name) for name in SHOWN if hasattr(vae, name)})


SHOWN = ("latent_channels", "latent_dim", "audio_sample_rate", "vae_dtype", "first_stage_model")


@pytest.mark.parametrize("latent", [None, {}, "latent", {"samples": None}, {"samples": "x"}], ids=str)
def test_what_is_no_latent_is_refused(vaes, latent):
    refusal(OviDecode.execute, latent, *vaes, node=NODE, input="samples", found="", remedy="Connect")


# -- locks ----------------------------------------------------------------------------------------------------------


def locked(vaes, tower):
    latent = tiny.empty_latent()
    if tower == "video":
        return OviLockVideo.execute(vaes[0], latent, images()).result[0]
    return OviLockAudio.execute(vaes[1], latent, audio()).result[0]


def with_stock_mask(latent):
    return SetLatentNoiseMask().set_mask(latent, torch.ones(1, 64, 96))[0]


def decoded(vaes, latent, caplog):
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        out = OviDecode.execute(latent, *vaes, "off").result
    return out, caplog.text


@pytest.mark.parametrize(("tower", "node"), [("video", "Ovi Lock Video"), ("audio", "Ovi Lock Audio")])
def test_a_lock_that_another_node_removed_is_reported(model, vaes, caplog, tower, node):
    (frames, sound, _), text = decoded(vaes, sampled(model, with_stock_mask(locked(vaes, tower))), caplog)
    assert text.count("no longer in the latent") == 1
    assert f"Connect {node} after" in text
    assert "Set Latent Noise Mask" in text
    assert not torch.equal(frames, images())
    assert sound["sample_rate"] == 16_000


def test_a_lock_connected_after_the_other_node_holds(model, vaes, caplog):
    latent = OviLockAudio.execute(vaes[1], with_stock_mask(tiny.empty_latent()), audio()).result[0]
    (_, sound, _), text = decoded(vaes, sampled(model, latent), caplog)
    assert text == ""
    assert sound["sample_rate"] == 44_100


@pytest.mark.parametrize("tower", ["video", "audio"])
def test_a_lock_that_holds_and_a_part_changed_on_purpose_are_not_reported(model, vaes, caplog, tower):
    latent = locked(vaes, tower)
    assert decoded(vaes, sampled(model, latent), caplog)[1] == ""
    redone = OviKeepSpan.execute(latent, "redo", "0-end" if tower == "video" else "", "0-end", combine=False).result[0]
    assert decoded(vaes, sampled(model, redone), caplog)[1] == ""
    if tower == "video":
        shown = OviImageToVideo.execute(vaes[0], latent, images(1)).result[0]
        assert decoded(vaes, sampled(model, shown), caplog)[1] == ""


def test_a_clip_that_was_encoded_may_change_without_a_word(model, vaes, caplog):
    latent = OviEncodeClip.execute(*vaes, tiny.empty_latent(), images(), audio()).result[0]
    assert decoded(vaes, sampled(model, latent), caplog)[1] == ""


def test_what_another_pack_left_under_our_keys_is_no_clip(vaes):
    latent = {**tiny.drawn_latent(1), source_media.VIDEO: "x", source_media.AUDIO: {"latent": None}}
    plain = {"samples": latent["samples"]}
    ours, expected = (OviDecode.execute(one, *vaes, "off").result[0] for one in (latent, plain))
    assert torch.equal(ours, expected)
