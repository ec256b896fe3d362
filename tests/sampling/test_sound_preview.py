"""Sound that is heard while a run goes on: what is played and when, and that nothing else changes."""

from __future__ import annotations

import comfy.model_management
import comfy.utils
import pytest
import tiny_ovi as tiny
import torch
from comfy_extras.nodes_audio import vae_decode_audio
from native_cases import small_vaes
from ovi_native.nodes.latents import EmptyOviLatent
from ovi_native.nodes.sampling import audio_preview
from ovi_native.nodes.sampling.audio_preview import OviPreviewSound
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.sampling.audio_preview import NO_AUDIO
from ovi_native.ovi_core.story.model_fingerprint import identity
from refusals import refusal
from sampler_cases import each_sampler

STEPS = 4


pytestmark = pytest.mark.usefixtures("no_gradients")


class Page:
    """In the page's place: what is played, and what is written under the node."""

    def __init__(self, monkeypatch):
        self.sounds: list = []
        self.notes: list = []
        monkeypatch.setattr(audio_preview, "_play", lambda node_id, sound, rate: self.play(sound, rate))
        monkeypatch.setattr(audio_preview, "_warn", lambda node_id, note: self.notes.append(note))

    def play(self, sound, rate):
        assert rate == 16_000
        self.sounds.append(sound)

    def listening(self, model, every=1):
        return OviPreviewSound.execute(model, small_vaes()[1], every).result[0]


@pytest.fixture
def page(monkeypatch):
    return Page(monkeypatch)


def stock_sound(audio):
    """ComfyUI's own decoding of an audio latent, [B, 1, S]; it makes loud sound quieter."""
    sound = vae_decode_audio(small_vaes()[1], {"samples": audio})["waveform"]
    return sound / sound.abs().amax(dim=(1, 2), keepdim=True)


def alike(ours, theirs):
    return float((ours / ours.abs().max() - theirs).abs().max()) < 1e-4


@each_sampler
def test_every_sampler_is_heard_in_every_step_and_last_as_the_clip_will_sound(model, page, sample):
    sample(page.listening(model), tiny.empty_latent())
    assert [sound.shape for sound in page.sounds] == [(1, 1, 10 * 512)] * 2
    assert all(float(sound.std()) > 0.01 for sound in page.sounds)
    assert not torch.allclose(*page.sounds, atol=1e-3)
    assert page.notes == []


@pytest.mark.parametrize(("every", "times"), [(1, 4), (2, 2), (3, 2), (5, 1)])
def test_it_is_heard_as_often_as_asked_and_at_the_end(model, page, every, times):
    tiny.run(tiny.guider(page.listening(model, every)))
    assert len(page.sounds) == times


def test_the_last_sound_is_that_of_the_finished_clip_and_the_clip_is_the_same_bit_for_bit(model, page):
    plain = tiny.run(tiny.guider(model))
    heard = tiny.run(tiny.guider(page.listening(model)))
    assert all(map(torch.equal, plain, heard))
    assert alike(page.sounds[-1], stock_sound(heard[1]))
    assert not alike(page.sounds[0], stock_sound(heard[1]))


def test_of_a_batch_the_first_clip_is_heard(model, page):
    _, audio = tiny.run(tiny.guider(page.listening(model, STEPS)), tiny.empty_latent(batch=2))
    (sound,) = page.sounds
    first, second = stock_sound(audio)
    assert alike(sound, first)
    assert not alike(sound, second)


def test_sound_alone_is_heard_and_pictures_alone_are_told_to_be_silent(model, page):
    for towers in ("audio only", "video only"):
        latent = EmptyOviLatent.execute(96, 64, 0.4, 1, towers).result[0]
        tiny.run_both(tiny.guider(page.listening(model, STEPS)), latent)
    assert len(page.sounds) == 1
    assert page.notes == [NO_AUDIO]


def test_both_are_in_memory_for_all_of_the_run_and_the_host_is_asked_for_room_once(model, page, monkeypatch):
    asked, there = [], []
    load = comfy.model_management.load_models_gpu
    monkeypatch.setattr(
        comfy.model_management, "load_models_gpu", lambda models, **more: asked.append(models) or load(models, **more)
    )
    model = page.listening(model)
    networks = {id(model.model), id(small_vaes()[1].first_stage_model)}
    page.play = lambda *_: there.append({id(loaded.model) for loaded in comfy.model_management.loaded_models()})
    tiny.run(tiny.guider(model))
    assert len(there) == STEPS
    assert all(networks <= loaded for loaded in there)
    assert len(asked) == 1
    assert networks == {id(patcher.model) for patcher in asked[0]}


@each_sampler
def test_a_run_that_is_stopped_while_a_step_is_shown_is_not_heard(model, page, monkeypatch, sample):
    # On a card nothing of the decoding itself would look whether to stop.
    monkeypatch.setattr(small_vaes()[1].first_stage_model, "decode", lambda latent: torch.zeros(1, 1, 512))
    stop = comfy.model_management.interrupt_current_processing
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", lambda *_, **more: stop())
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        sample(page.listening(model), tiny.empty_latent())
    assert page.sounds == []
    stop(False)


@pytest.mark.parametrize("failure", [OSError("No space left"), comfy.model_management.OOM_EXCEPTION("out of memory")])
def test_what_memory_or_disk_has_no_room_for_is_told_once_and_the_run_goes_on(model, page, failure):
    def fail(sound, rate):
        page.sounds.append(sound)
        raise failure

    page.play = fail
    heard = tiny.run(tiny.guider(page.listening(model)))
    assert all(map(torch.equal, tiny.run(tiny.guider(model)), heard))
    assert len(page.sounds) == 1
    (note,) = page.notes
    assert str(failure) in note


def test_other_failures_are_not_hidden(model, page):
    def fail(sound, rate):
        raise ZeroDivisionError

    page.play = fail
    with pytest.raises(ZeroDivisionError):
        tiny.run(tiny.guider(page.listening(model)))


def test_a_second_one_takes_the_place_of_the_first(model, page):
    tiny.run(tiny.guider(page.listening(page.listening(model, 1), STEPS)))
    assert len(page.sounds) == 1


def test_a_story_does_not_make_its_shots_anew_for_it(model, page):
    assert identity(page.listening(model)) == identity(model)


def test_another_vae_is_refused(model):
    refusal(
        OviPreviewSound.execute, model, small_vaes()[0], node="Ovi Preview Sound", input="audio_vae",
        found="a VAE of 48 latent channels", remedy="Load Ovi Audio VAE",
    )  # fmt: skip


def test_another_model_is_refused(model):
    with pytest.raises(OviError, match="Ovi Preview Sound"):
        OviPreviewSound.execute(small_vaes()[1].patcher, small_vaes()[1])
