"""Clips longer than the model was trained on: windows of both towers in step, seams that are neither heard nor seen."""

from __future__ import annotations

import logging
import math
from itertools import pairwise

import comfy.model_management
import comfy.model_patcher
import pytest
import tiny_ovi as tiny
import torch
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode
from native_cases import drawn, small_vaes
from ovi_native.nodes.decoding import OviDecode
from ovi_native.nodes.latents import EmptyOviLatent, OviImageToVideo
from ovi_native.nodes.locked_media import OviLockAudio, OviLockVideo
from ovi_native.nodes.sampling.context_windows import OviContextWindows
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.latents import joint
from ovi_native.ovi_core.network.rope import AUDIO_TIME_SCALE
from ovi_native.ovi_core.sampling import context_windows
from ovi_native.ovi_core.spec import VARIANTS, audio_frames_for
from ovi_native.tools.mini.measure import seams
from refusals import refusal

from nodes import KSampler

PER_FRAME = 125 / 24  # audio steps, of 32 ms, while one latent frame of four pictures shows
FIVE, TEN = 31, 61  # latent frames of a trained clip


pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.fixture(scope="module")
def vaes():
    return small_vaes()


def windowed(model, variant="mini", overlap=1.0, repeat=False):
    return OviContextWindows.execute(model, variant, overlap, repeat).result[0]


def empty(seconds, batch=1):
    """32x32 pixels: one token a frame."""
    return EmptyOviLatent.execute(32, 32, seconds, batch).result[0]


class Seen:
    """What reaches the transformer, window by window."""

    def __init__(self, model):
        self.model, self.windows, self.forwards = model.clone(), [], []
        self.model.set_model_patch_replace(self._look, "dit", "double_block", 0)
        self.model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "seen", self._keep)

    def _look(self, args, extra):
        window = args["transformer_options"].get("context_window")
        self.windows.append((window, [stream.table for stream in args["streams"]]))
        return extra["original_block"](args)

    def _keep(self, executor, x, timestep, context, options, **more):
        self.forwards.append(([part.clone() for part in x], [more.get(f"{t}_shares") for t in ("video", "audio")]))
        return executor(x, timestep, context, options, **more)


# -- which windows --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [FIVE, TEN])
@pytest.mark.parametrize("overlap", [1, 6, 15])
def test_windows_of_the_trained_length_cover_the_clip_and_overlap(length, overlap):
    for total in range(length + 1, 800, 7):
        starts = context_windows.starts(total, length, overlap)
        assert starts[0] == 0
        assert starts[-1] == total - length
        assert all(0 < b - a <= length - overlap for a, b in pairwise(starts))
        assert len(starts) == math.ceil((total - overlap) / (length - overlap))  # no more than it takes


@pytest.mark.parametrize(("variant", "video", "audio"), [("mini", 31, 157), ("960x960_10s", 61, 314)])
def test_every_window_has_the_trained_geometry(model, variant, video, audio):
    """As many pictures and as much sound as in training, and both begin at the same time."""
    seen, latent = Seen(windowed(model, variant)), empty(23.0)
    total, steps = (part.shape[2] for part in latent["samples"].unbind())
    tiny.run(tiny.guider(seen.model), latent, steps=1)
    counted = [torch.zeros(total), torch.zeros(steps)]
    assert len(seen.windows) >= 3
    for (window, tables), (x, _) in zip(seen.windows, seen.forwards, strict=True):
        assert x[0].shape[2] == video
        sound = window.modality_windows[1].index_list
        last = window.index_list[-1] == total - 1
        assert audio <= len(sound) <= audio + 2 if last else len(sound) == audio
        assert x[1].shape[2] == len(sound)
        first = max(0, window.index_list[0] - 1)  # shown, but not counted
        distance = sound[0] - first * PER_FRAME
        assert abs(distance) <= 0.5
        assert tiny.turn(tables[1], 0) - tiny.turn(tables[0], 0) == pytest.approx(distance * AUDIO_TIME_SCALE, abs=1e-5)
        counted[0][window.index_list] += 1
        counted[1][sound] += 1
    assert all(bool((count > 0).all()) for count in counted)


def test_a_window_sees_what_a_clip_of_its_own_would(model):
    """One step over 55 latent frames: two windows, the second from frame 24 on, that is audio step 125."""
    latent = empty(54 * 4 / 24)
    assert [part.shape[2] for part in latent["samples"].unbind()] == [55, 283]
    noise = tiny.noise_for(latent)
    video, audio = tiny.run(tiny.guider(windowed(model)), latent, noise, steps=1)
    parts = noise.unbind()
    for (first, begin, end), counts in (((0, 0, 157), (slice(0, 24), slice(0, 125))), ((24, 125, 283), (31, 157))):
        part = joint.join(parts[0][:, :, first : first + 31], parts[1][..., begin:end])
        own = tiny.run(tiny.guider(model), {"samples": part}, part, steps=1)
        if first == 0:
            ours = (video[:, :, counts[0]], audio[..., counts[1]])
            own = (own[0][:, :, counts[0]], own[1][..., counts[1]])
        else:
            ours = (video[:, :, counts[0] :], audio[..., counts[1] :])
            own = (own[0][:, :, counts[0] - 24 :], own[1][..., counts[1] - 125 :])
        assert tiny.same(ours, own)


def test_a_clip_of_the_trained_length_is_made_as_without(model):
    latent = empty(5.0)
    assert tiny.same(tiny.run(tiny.guider(windowed(model)), latent), tiny.run(tiny.guider(model), latent), 0)


def test_clips_of_a_batch_are_made_as_each_alone(model):
    one, two = (tiny.noise_for(empty(7.0), seed).unbind() for seed in (1, 2))
    both = joint.join(*(torch.cat(pair) for pair in zip(one, two, strict=True)))
    made = tiny.run(tiny.guider(windowed(model)), empty(7.0, 2), both, steps=2)
    alone = tiny.run(tiny.guider(windowed(model)), empty(7.0), joint.join(*two), steps=2)
    assert tiny.same([part[1:] for part in made], alone)


@pytest.mark.parametrize("repeat", [False, True])
def test_the_first_frame_is_shown_to_every_window_on_demand(model, vaes, repeat):
    picture = drawn(1, 32, 32, 3, seed=5).sigmoid()
    latent = OviImageToVideo.execute(vaes[0], empty(12.0), picture).result[0]
    seen = Seen(windowed(model, repeat=repeat))
    tiny.run(tiny.guider(seen.model), latent, steps=2)
    kept = model.model.latent_format.process_in(latent["samples"].unbind()[0])[:, :, 0]
    for (window, _), (x, (shares, _)) in zip(seen.windows, seen.forwards, strict=True):
        shown = repeat or window.index_list[0] == 0
        assert torch.allclose(x[0][:1, :, 0], kept, atol=1e-5) == shown
        values = shares.values[shares.index[0]].tolist()
        assert values == [0.0 if shown else 1.0] + [1.0] * (len(values) - 1)
        assert len(values) == x[0].shape[2] == FIVE


def test_memory_is_asked_for_one_window(model, monkeypatch):
    asked = []
    load = comfy.model_management.load_models_gpu

    def look(models, memory_required=0, **more):
        asked.append(memory_required)
        return load(models, memory_required=memory_required, **more)

    monkeypatch.setattr(comfy.model_management, "load_models_gpu", look)
    for patcher, seconds in ((model, 5.0), (windowed(model), 5.0), (windowed(model), 20.0), (model, 30.0)):
        tiny.run(tiny.guider(patcher), empty(seconds), steps=1)
    plain, short, long, without = (max(asked[i : i + 1]) for i in range(4))
    assert plain == short
    assert long == pytest.approx(plain, rel=0.05)
    assert without > 2 * plain


# -- a whole clip, a whole sound ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "frames", "mode"), [(25.0, 180, "follow the noise"), (12.5, 90, "clean")])
def test_a_long_silent_clip_gets_sound_for_all_of_it_and_comes_back_as_it_was(model, vaes, caplog, rate, frames, mode):
    images = drawn(frames, 33, 48, 3, seed=3).sigmoid()
    with caplog.at_level(logging.WARNING):
        latent = OviLockVideo.execute(vaes[0], empty(5.0), images, rate, mode, "the whole clip").result[0]
    assert "Ovi Context Windows" in caplog.text
    made = KSampler().sample(windowed(model), 3, 2, 4.0, "euler", "simple", tiny.positive(), tiny.negative(), latent)[0]
    assert torch.equal(made["samples"].unbind()[0], latent["samples"].unbind()[0])
    shown, audio, video = OviDecode.execute(made, *vaes, "off").result
    assert torch.equal(shown, images)
    assert float(video.get_components().frame_rate) == pytest.approx(rate, abs=1e-3)
    sound = audio["waveform"][0, 0]
    assert sound.shape[0] == pytest.approx(frames / rate * 16_000, abs=1)
    loudness = sound[: len(sound) // 4000 * 4000].unflatten(0, (-1, 4000)).std(dim=1)  # of every quarter second
    assert loudness.min() > 0.2 * loudness.median()


def test_a_long_voice_gets_pictures_for_all_of_it_and_comes_back_as_it_was(model, vaes, caplog):
    voice = {"waveform": drawn(1, 2, 8 * 22_050, seed=4) * 0.1, "sample_rate": 22_050}
    with caplog.at_level(logging.WARNING):
        latent = OviLockAudio.execute(
            vaes[1], empty(5.0), voice, 0.5, "follow the noise", "the whole sound"
        ).result[0]  # fmt: skip
    assert "Ovi Context Windows" in caplog.text
    made = tiny.run_both(tiny.guider(windowed(model)), latent, steps=2)[0]
    assert torch.equal(made["samples"].unbind()[1], latent["samples"].unbind()[1])
    shown, audio, _ = OviDecode.execute(made, *vaes, "off").result
    assert torch.equal(audio["waveform"], voice["waveform"][..., 11_025:])
    assert shown.shape == (181, 32, 32, 3)  # 7.5 s are 180 pictures, 46 latent frames 181
    assert (shown.flatten(1).std(dim=1) > 0.01).all()


@pytest.mark.parametrize("seconds", [3.0, 8.0])
def test_the_latent_becomes_as_long_as_the_sound_and_keeps_what_it_had(vaes, seconds):
    picture = drawn(1, 32, 32, 3, seed=5).sigmoid()
    before = OviImageToVideo.execute(vaes[0], empty(5.0, 2), picture).result[0]
    voice = {"waveform": drawn(1, 1, round(seconds * 16_000), seed=4) * 0.1, "sample_rate": 16_000}
    latent = OviLockAudio.execute(vaes[1], before, voice, 0.0, "clean", "the whole sound").result[0]
    video, audio = latent["samples"].unbind()
    steps = 1 + math.ceil((seconds * 24 - 1) / 4)
    assert (video.shape[2], audio.shape[2]) == (steps, audio_frames_for(steps))
    assert torch.equal(video[:, :, :1], before["samples"].unbind()[0][:, :, :1])
    nothing = model_zero(video)
    assert torch.allclose(video[:, :, 1:], nothing.expand_as(video[:, :, 1:]), atol=1e-6)
    pictures, sound = latent["noise_mask"].unbind()
    assert pictures.shape == (2, 1, steps, 2, 2)
    assert (pictures[:, :, 0] == 0).all()
    assert (pictures[:, :, 1:] == 1).all()
    assert sound.shape == (2, 1, audio.shape[2])
    assert (sound == 0).all()


def model_zero(video):
    """What the sampler takes for an empty video, [1, 48, 1, 1, 1]."""
    return joint.free_video(torch.zeros_like(video[:1, :, :1, :1, :1]))


@pytest.mark.parametrize("total", [62, 100, 241, 721])
def test_sound_of_a_long_clip_fills_its_pictures(total):
    """31.4 steps a second, as at the trained lengths, would be 0.4 s too many for two minutes."""
    assert 0 <= audio_frames_for(total) * 0.032 - (4 * total - 3) / 24 < 0.032


# -- seams ----------------------------------------------------------------------------------------------------------


LOUD, SOFT = 0.5, 0.1


def at_odds(model):
    """A MODEL whose windows want other sound and pictures in turn, loud and bright or soft and dark, and get them."""
    model, seen = model.clone(), {}

    def answer(executor, x, timestep, context, options, **more):
        sigma = timestep.reshape(-1, 1, 1) / 1000
        wanted = (LOUD, SOFT)[seen.setdefault(options["context_window"].index_list[0], len(seen)) % 2]
        return [(x[0] - wanted) / sigma[..., None, None], (x[1] - wanted) / sigma]

    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "at odds", answer)
    return model


def rendered(made):
    """A plain stand-in for decoding: a tone as loud as the sound's latent is high, frames as bright as the video's.

    The frames flicker a little, for something moves in every clip.
    """
    video, audio = made
    loudness = audio[0].mean(dim=0).repeat_interleave(512)
    tone = loudness * (torch.arange(len(loudness)) * (2 * math.pi * 440 / 16_000)).sin()
    steps = video[0].mean(dim=(0, 2, 3))
    brightness = torch.nn.functional.interpolate(steps[None, None], 4 * len(steps) - 3, mode="linear")[0, 0]
    brightness = brightness + 0.02 * torch.arange(len(brightness)).sin()
    return brightness.reshape(-1, 1, 1, 1).numpy(), tone.numpy()


def worst(frames, sound):
    """The largest click, step of loudness in dB and cut anywhere in a clip."""
    times = [i * 0.016 for i in range(10, round(len(sound) / 16_000 / 0.016) - 10)]
    return (
        max(seams.jump(sound, 16_000, at) for at in times),
        max(abs(seams.level_step(sound, 16_000, at, 0.1)) for at in times),
        max(seams.cut(frames, at) for at in range(2, len(frames) - 2)),
    )


def test_windows_at_odds_are_joined_without_click_step_or_cut(model):
    """Measured all along the clip; the same windows put together without overlap have all three."""
    model, latent = at_odds(model), empty(13.4)
    overlapping, beside = (
        worst(*rendered(tiny.run(tiny.guider(patched), latent, steps=2)))
        for patched in (windowed(model), tiny.windowed(model, FIVE, 0, "batched"))
    )
    assert overlapping[0] < 1.6
    assert overlapping[1] < 4
    assert overlapping[2] < 4
    assert beside[0] > 3
    assert beside[1] > 12
    assert beside[2] > 6


def test_lazy_cache_spares_forwards_and_easy_cache_is_refused(model):
    seen = Seen(windowed(model))
    tiny.run(tiny.guider(LazyCacheNode.execute(seen.model, 1.0, 0.1, 0.95, False).result[0]), empty(7.0), steps=8)
    assert 4 <= len(seen.forwards) < 16  # two windows in every step
    easy = EasyCacheNode.execute(windowed(model), 1.0, 0.1, 0.95, False).result[0]
    with pytest.raises(OviError, match="Replace EasyCache with LazyCache"):
        tiny.run(tiny.guider(easy), empty(7.0), steps=2)


def test_a_window_that_begins_after_the_audio_is_refused(model):
    video, audio = empty(20.0)["samples"].unbind()
    latent = {"samples": joint.join(video, audio[..., :400])}
    with pytest.raises(OviError, match="400 audio frames for 121 latent frames"):
        tiny.run(tiny.guider(windowed(model)), latent, steps=1)


def test_an_overlap_of_more_than_half_a_window_is_refused(model):
    refusal(
        OviContextWindows.execute, model, "mini", 4.0, node="Ovi Context Windows", input="overlap_seconds",
        found="4 s", remedy="Set it to 1",
    )  # fmt: skip


def test_another_model_is_refused():
    other = comfy.model_patcher.ModelPatcher(torch.nn.Identity(), torch.device("cpu"), torch.device("cpu"))
    refusal(
        OviContextWindows.execute, other, "mini", node="Ovi Context Windows", input="model", found="Identity",
        remedy="Load Ovi Model",
    )  # fmt: skip


def test_every_variant_has_its_window(model):
    for name, variant in VARIANTS.items():
        handler = windowed(model, name).model_options["context_handler"]
        assert handler.context_length == {5.0: FIVE, 10.0: TEN}[variant.seconds]
