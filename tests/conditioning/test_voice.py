"""A voice before the clip: what the model sees of it, and that nothing of it is left in what is decoded."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import tiny_ovi as tiny
import torch
from comfy.patcher_extension import WrappersMP
from native_cases import drawn, small_vaes
from ovi_native.nodes.decoding import OviDecode
from ovi_native.nodes.latents import OviImageToVideo, OviKeepSpan
from ovi_native.nodes.locked_media import OviLockAudio, OviLockVideo, OviVoice
from ovi_native.ovi_core.decoding import towers
from ovi_native.ovi_core.latents import joint
from refusals import refusal

from nodes import KSampler

MODES = ["follow the noise", "clean"]


pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.fixture(scope="module")
def vaes():
    return small_vaes()


def speech(seconds=3.0, rate=44_100, channels=2, seed=2, batch=1):
    """Noise in syllables."""
    time = torch.arange(round(seconds * rate)) / rate
    wave = drawn(batch, channels, len(time), seed=seed) * (0.2 + (time * 25).sin().abs()) * 0.1
    return {"waveform": wave, "sample_rate": rate}


def voiced(vaes, latent=None, voice=None, seconds=0.6, mode=MODES[0]):
    return OviVoice.execute(vaes[1], latent or tiny.empty_latent(), voice or speech(), seconds, mode).result[0]


def decoded(vaes, latent):
    return OviDecode.execute(latent, *vaes, "off").result


def made(model, latent, steps=2, seed=3):
    prompts = tiny.positive(), tiny.negative()
    return KSampler().sample(model, seed, steps, 4.0, "euler", "simple", *prompts, latent)[0]


def shapes(latent):
    return [part.shape[2] for part in latent["samples"].unbind()]


# 0.6 s and a pause of 0.2 s at least are 5 latent steps of the video, 20 frames, 13333 samples and 27 steps of sound,
# 26 of them whole.
STEPS, FRAMES, SAMPLES, SOUND, KEPT = 5, 20, 13_333, 27, 26


@pytest.mark.parametrize(("seconds", "steps", "sound"), [(0.5, 5, 27), (0.6, 5, 27), (1.0, 8, 42), (2.0, 14, 73)])
@pytest.mark.parametrize("length", [0.4, 1.5])
def test_the_clip_keeps_its_frames_and_samples_whatever_leads_to_it(vaes, seconds, steps, sound, length):
    plain = tiny.drawn_latent(1, seconds=length)
    latent = voiced(vaes, plain, seconds=seconds)
    assert shapes(latent) == [shapes(plain)[0] + steps, shapes(plain)[1] + sound]
    frames, audio, video = decoded(vaes, latent)
    without = decoded(vaes, plain)
    assert frames.shape == without[0].shape
    assert audio["sample_rate"] == 16_000
    assert audio["waveform"].shape == without[1]["waveform"].shape
    ours, theirs = (one.get_components() for one in (video, without[2]))
    assert ours.images.shape == theirs.images.shape
    assert ours.audio["waveform"].shape == theirs.audio["waveform"].shape


def test_frames_and_sound_are_cut_out_at_the_same_moment(model, vaes):
    latent = made(model, voiced(vaes))
    frames, audio, _ = decoded(vaes, latent)
    video, sound = latent["samples"].unbind()
    assert torch.equal(frames, towers.decode_video(vaes[0], video, "off")[0, FRAMES:])
    assert abs(SAMPLES - FRAMES / 24 * 16_000) <= 0.5
    heard = towers.decode_audio(vaes[1], sound[..., KEPT - 4 :])[..., SAMPLES - (KEPT - 4) * 512 :]
    assert torch.equal(audio["waveform"][..., 80:], heard[..., 80:5120])  # but for 5 ms in which it rises
    assert audio["waveform"].shape[-1] == 5120
    assert frames.std() > 0.01
    assert audio["waveform"].std() > 0.01


def test_the_sound_begins_without_a_click(model, vaes):
    """It rises from nothing; cut out as it is, it would begin with a jump of its whole height."""
    clicks = []
    for seed in range(4):
        latent = made(model, voiced(vaes), steps=1, seed=seed)
        sound = decoded(vaes, latent)[1]["waveform"][0, 0]
        heard = towers.decode_audio(vaes[1], latent["samples"].unbind()[1][..., KEPT - 4 :])[0, 0]
        cut = heard[SAMPLES - (KEPT - 4) * 512 :][:4000]
        assert sound[0].abs() < 0.02 * sound[:4000].abs().max()
        usual = np.abs(np.diff(cut.numpy(), prepend=0)).max()
        assert np.abs(np.diff(sound[:80].numpy(), prepend=0)).max() <= usual
        clicks.append(float(cut[0].abs() / cut.std()))
    assert max(clicks) > 0.5


def test_of_the_voice_nothing_is_left(vaes):
    """One clip after two voices: the pause between them and it makes one as good as the other."""
    plain = tiny.drawn_latent(1, seconds=1.5)
    one, other = (voiced(vaes, plain, speech(seed=seed), seconds=1.0) for seed in (2, 9))
    clips = [decoded(vaes, latent)[1]["waveform"] for latent in (one, other)]
    sounds = [towers.decode_audio(vaes[1], latent["samples"].unbind()[1])[..., :16_000] for latent in (one, other)]
    apart = rms(sounds[0] - sounds[1])
    assert apart > 0.1 * rms(clips[0])
    assert rms(clips[0] - clips[1]) < 0.01 * apart


def rms(sound):
    return float(sound.square().mean().sqrt())


@pytest.mark.parametrize("mode", MODES)
def test_the_model_sees_the_voice_and_its_pause_before_the_clip(model, vaes, mode):
    seen = []

    def look(executor, x, timestep, context, options, **more):
        seen.append((x[1].clone(), float(timestep[0]) / 1000, more.get("audio_shares")))
        return executor(x, timestep, context, options, **more)

    patched = model.clone()
    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "look", look)
    latent = voiced(vaes, mode=mode)
    heard = speech()["waveform"].mean(dim=1)
    mono = torch.nn.functional.pad(_at_16_khz(heard)[:, : round(0.6 * 16_000)], (0, KEPT * 512 - 9600))
    expected = vaes[1].encode(mono.unsqueeze(-1))
    given = latent["samples"].unbind()[1][..., :KEPT]
    assert float((given - expected).norm() / expected.norm()) < 0.1  # faded over its last 10 ms
    result = made(patched, latent)
    assert torch.equal(result["samples"].unbind()[1][..., :KEPT], given)
    noise = tiny.noise_for(latent, 3).unbind()[1][..., :KEPT]
    for sound, sigma, shares in seen:
        if mode == "clean":
            assert torch.allclose(sound[:1, :, :KEPT], given, atol=1e-6)
            assert shares.values[shares.index[0]].tolist() == [0.0] * KEPT + [1.0] * (10 + SOUND - KEPT)
        else:
            assert torch.allclose(sound[:1, :, :KEPT], sigma * noise + (1 - sigma) * given, atol=1e-4)
            assert shares is None


def _at_16_khz(wave):
    from torchaudio.functional import resample

    return resample(wave, 44_100, 16_000)


def test_the_clip_depends_on_the_voice(model, vaes):
    one, other, again = (
        made(model, voiced(vaes, voice=speech(seed=seed)))["samples"].unbind()[1] for seed in (2, 9, 2)
    )
    assert torch.equal(one, again)
    assert float((one - other)[..., SOUND:].norm() / one[..., SOUND:].norm()) > 1e-3


def test_each_clip_of_a_batch_has_its_voice(vaes):
    latent = voiced(vaes, tiny.empty_latent(2), speech(batch=2))
    sound = latent["samples"].unbind()[1][..., :KEPT]
    assert not torch.allclose(sound[0], sound[1], atol=0.1)


# -- together with pictures and clips -------------------------------------------------------------------------------


def test_a_start_picture_begins_the_clip_and_is_shown_before_the_voice_too(model, vaes):
    picture = drawn(1, 64, 96, 3, seed=5).sigmoid()
    plain = OviImageToVideo.execute(vaes[0], tiny.empty_latent(), picture).result[0]
    first = plain["samples"].unbind()[0][:, :, 0]
    latent = voiced(vaes, plain)
    result = made(model, latent)
    video, _ = result["samples"].unbind()
    for step in (0, STEPS):
        assert torch.equal(video[:, :, step], first)
        assert (latent["noise_mask"].unbind()[0][:, :, step] == 0).all()
    assert (latent["noise_mask"].unbind()[0][:, :, 1:STEPS] == 1).all()
    frames, _, _ = decoded(vaes, result)
    assert torch.equal(frames, towers.decode_video(vaes[0], video[:, :, STEPS:], "off")[0])
    alone = towers.decode_video(
        vaes[0], torch.cat((first[:, :, None], torch.zeros_like(video[:, :, :2])), dim=2), "off"
    )
    assert torch.allclose(frames[0], alone[0, 0], atol=1e-5)  # as any clip that begins with the picture


def test_a_locked_clip_that_gets_a_voice_comes_back_as_it_was(model, vaes):
    images = drawn(9, 40, 72, 3, seed=1).sigmoid()
    latent = OviLockVideo.execute(vaes[0], tiny.empty_latent(), images, 25.0, MODES[0]).result[0]
    frames, audio, _ = decoded(vaes, made(model, voiced(vaes, latent)))
    assert torch.equal(frames, images)
    assert audio["waveform"].shape == (1, 1, 5760)


# -- what is refused ------------------------------------------------------------------------------------------------


def test_a_latent_whose_sound_is_given_is_refused(vaes):
    given = OviLockAudio.execute(vaes[1], tiny.empty_latent(), speech(), 0.0, "clean").result[0]
    for latent, found in ((given, "sound is given"), (voiced(vaes), "starts with a voice already")):
        refusal(
            OviVoice.execute, vaes[1], latent, speech(), 2.0, node="Ovi Own Voice", input="latent", found=found,
            remedy="Ovi Own Voice",
        )  # fmt: skip


def test_a_lock_after_the_voice_is_refused(vaes):
    expected = {"input": "latent", "found": "starts with a voice", "remedy": "Own Voice last"}
    refusal(OviLockAudio.execute, vaes[1], voiced(vaes), speech(), 0.0, "clean", node="Ovi Lock Audio", **expected)
    images = torch.zeros(9, 64, 96, 3)
    refusal(OviLockVideo.execute, vaes[0], voiced(vaes), images, 24.0, "clean", node="Ovi Lock Video", **expected)


def test_a_picture_or_a_span_after_the_voice_is_refused(vaes):
    expected = {"input": "latent", "found": "starts with a voice", "remedy": "Own Voice last"}
    picture = torch.zeros(1, 64, 96, 3)
    refusal(OviImageToVideo.execute, vaes[0], voiced(vaes), picture, node="Ovi Image To Video", **expected)
    refusal(OviKeepSpan.execute, voiced(vaes), "redo", "0.1-0.2", "", node="Ovi Keep Span", **expected)


def hush(seconds):
    return {"waveform": torch.zeros(1, 1, round(seconds * 16_000)), "sample_rate": 16_000}


@pytest.mark.parametrize(
    ("voice", "seconds", "input", "found"),
    [
        (None, 2.0, "voice", "no audio"),
        (speech(0.4), 2.0, "voice", "a voice of 0.40 s"),
        (hush(2.0), 1.0, "voice", "silence in the first 1 s"),
        (speech(batch=3), 2.0, "voice", "3 audio(s) for 1 clip(s)"),
        (speech(), 0.1, "seconds", "0.1"),
        (speech(), float("nan"), "seconds", "nan"),
    ],
)
def test_a_voice_that_is_none_is_refused(vaes, voice, seconds, input, found):
    remedy = {"no audio": "Load Audio", "3 audio(s) for 1 clip(s)": "one audio"}.get(found, "Trim Audio Duration")
    refusal(
        OviVoice.execute, vaes[1], tiny.empty_latent(), voice, seconds, node="Ovi Own Voice", input=input, found=found,
        remedy="Set seconds to " if input == "seconds" else remedy,
    )  # fmt: skip


def test_the_other_vae_is_named(vaes):
    refusal(
        OviVoice.execute, vaes[0], tiny.empty_latent(), speech(), 2.0, node="Ovi Own Voice", input="audio_vae",
        found="48 latent", remedy="Load Ovi Audio VAE",
    )  # fmt: skip


@pytest.mark.parametrize(("seconds", "told"), [(5.0, "the run lasts 7.38 s"), (1.0, None)])
def test_the_artist_is_told_when_voice_and_clip_are_longer_than_trained(vaes, caplog, seconds, told):
    with caplog.at_level(logging.WARNING):
        voiced(vaes, tiny.empty_latent(seconds=seconds), seconds=2.0)
    assert (told in caplog.text) if told else not caplog.text


def test_inputs_are_left_as_they_were(vaes):
    latent, voice = tiny.drawn_latent(1), speech(rate=16_000, channels=1)
    before = [part.clone() for part in latent["samples"].unbind()] + [voice["waveform"].clone()]
    voiced(vaes, latent, voice)
    assert list(latent) == ["samples"]
    after = [*latent["samples"].unbind(), voice["waveform"]]
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


def test_a_latent_of_one_tower_is_refused(vaes):
    latent = {"samples": joint.split(tiny.empty_latent()["samples"], "latent")[0]}
    refusal(
        OviVoice.execute, vaes[1], latent, speech(), 2.0, node="Ovi Own Voice", input="latent", found="1 part(s)",
        remedy="Empty Ovi Latent",
    )  # fmt: skip
