"""Loops: the end meets the start in the latent, in the frames and in the sound; each beside a run without."""

from __future__ import annotations

from types import SimpleNamespace

import comfy.model_patcher
import native_cases as cases
import pytest
import tiny_ovi as tiny
import torch
from ovi_native.nodes.decoding import OviDecode
from ovi_native.nodes.remix import OviLoop
from ovi_native.ovi_core import spec
from ovi_native.ovi_core.decoding.loop import stretched
from ovi_native.ovi_core.latents import joint
from ovi_native.ovi_core.network import circular_shift
from ovi_native.ovi_core.network.references import References
from ovi_native.ovi_core.network.rope import AUDIO_START
from refusals import refusal
from tiny_ovi import same

FRAMES, STEPS = 13, 63  # 2 s: a circle of 12 video and 62 audio steps


def latent(seed: int | None = None) -> dict:
    empty = {"samples": joint.join(torch.zeros(1, 48, FRAMES, 4, 4), torch.zeros(1, 20, STEPS))}
    return empty if seed is None else {"samples": tiny.noise_for(empty, seed)}


def looped(model):
    return OviLoop.execute(model).result[0]


# -- what the sampler makes ------------------------------------------------------------------------------


def knows_that_neighbours_resemble(x, timestep, context, options, **kwargs):
    """The best prediction there is for clips whose steps resemble their neighbours and whose ends know nothing of each
    other: the mean given noisy steps of a process with correlation exp(-distance / half the clip).
    """

    def velocity(noisy):
        count, sigma = noisy.shape[2], float(timestep[0]) / 1000
        places = torch.arange(count, dtype=torch.float64)
        likeness = torch.exp(-(places[:, None] - places).abs() / (count / 2))
        seen = (1 - sigma) ** 2 * likeness + sigma**2 * torch.eye(count)
        weights = (1 - sigma) * torch.linalg.solve(seen, likeness).T
        clean = torch.einsum("ij,bcj...->bci...", weights, noisy.double()).to(noisy)
        return (noisy - clean) / sigma

    return [velocity(part) for part in x]


def seams(result) -> list[float]:
    """How much the last step of each circle differs from its first, by how much neighbours do in the mean."""
    video, audio = result
    ratios = []
    for part in (video[:, :, 1:], audio[:, :, : spec.circular_audio_frames(FRAMES, STEPS)]):
        changes = (part - part.roll(-1, dims=2)).square().movedim(2, 0).flatten(1).mean(dim=1).sqrt()
        ratios.append(float(changes[-1] / changes[:-1].mean()))
    return ratios


@pytest.mark.parametrize("solver", ["unipc", "dpm++", "euler"])
def test_the_last_step_is_to_the_first_as_any_step_to_the_next(model, monkeypatch, solver):
    monkeypatch.setattr(model.model.diffusion_model, "_forward", knows_that_neighbours_resemble)
    settings = {"latent": latent(), "solver": solver, "steps": 20}
    open_ends = seams(tiny.run(tiny.guider(model, 1.0, 1.0), **settings))
    closed = seams(tiny.run(tiny.guider(looped(model), 1.0, 1.0), **settings))
    assert min(open_ends) > 2  # the control: without the loop the ends differ far more than neighbours
    assert max(closed) < 1.2


def test_what_repeats_the_circle_is_what_it_repeats(model):
    for solver in ("unipc", "dpm++", "euler"):
        video, audio = tiny.run(tiny.guider(looped(model)), latent(), solver=solver)
        assert torch.allclose(video[:, :, 0], video[:, :, -1], atol=2e-3)
        assert torch.allclose(audio[:, :, 62:], audio[:, :, : STEPS - 62], atol=2e-3)
    video, audio = tiny.run(tiny.guider(model), latent())
    assert not torch.allclose(video[:, :, 0], video[:, :, -1], atol=0.5)


def forward(model, x: list, turn: int, loop: bool = True) -> list:
    """One forward in the ``turn``-th of ten steps of a run."""
    sigmas = torch.linspace(1, 0, 11)
    options = {
        "sample_sigmas": sigmas,
        "sigmas": sigmas[turn : turn + 1],
        **({circular_shift.KEY: True} if loop else {}),
    }
    text = torch.randn((1, 512, 64), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model.model.diffusion_model(x, sigmas[turn : turn + 1] * 1000, text, options)


def test_a_turned_step_is_the_forward_of_the_turned_clip(model):
    """By half the circle, 6 of 12 video and 31 of 62 audio steps: the same as turning the clip by hand."""
    video, audio = latent(3)["samples"].unbind()
    by = 6
    turn = next(i for i in range(10) if round(i * circular_shift.GOLDEN % 1 * 12) % 12 == by)
    ours = forward(model, [video, audio], turn)
    turned = [1 + (by - 1 + i) % 12 for i in range(13)]
    sounds = [(31 + i) % 62 for i in range(63)]
    theirs = forward(model, [video[:, :, turned], audio[:, :, sounds]], turn, loop=False)
    for i, place in enumerate(turned[1:], start=1):
        assert torch.allclose(ours[0][:, :, place], theirs[0][:, :, i], atol=1e-5)
    for i, place in enumerate(sounds[:62]):
        assert torch.allclose(ours[1][:, :, place], theirs[1][:, :, i], atol=1e-5)


def test_sound_that_begins_between_two_steps_is_shown_at_its_time(model):
    turned, start = circular_shift.audio_turn(63, 62, 5 / 12)  # 25.83 steps on
    assert turned.shown[0] == 26
    assert start == pytest.approx(1 / 6)
    table = model.model.diffusion_model.audio_model.table
    run = SimpleNamespace(once=lambda key, compute: compute())
    at_once = table(torch.zeros(1, 20, 3), References(), run, {AUDIO_START: 1.0})
    assert torch.equal(at_once[:, :2], table(torch.zeros(1, 20, 3), References(), run, {})[:, 1:])


def test_a_kept_first_picture_is_shown_at_the_beginning_of_every_other_step(model):
    given = tiny.first_frame_kept(latent(5))
    seen = []
    looks = looped(model).clone()
    original = model.model.diffusion_model._forward

    def look(x, timestep, *args, **more):
        seen.append(x[0][:1, :, 0].clone())
        return original(x, timestep, *args, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.model.diffusion_model, "_forward", look)
        video, _ = tiny.run(tiny.guider(looks), given, steps=4)
    picture = given["samples"].unbind()[0][:, :, 0]
    assert torch.equal(video[:, :, 0], picture)
    shown = model.model.process_latent_in(given["samples"].unbind()[0])[:, :, 0]
    assert [torch.allclose(first, shown, atol=1e-5) for first in seen] == [True, False, True, False]


def test_context_windows_beside_it_are_refused(model):
    x = [*latent(3)["samples"].unbind()]
    turning = circular_shift.around(lambda *args, **more: x)
    with pytest.raises(Exception, match="context windows"):
        turning(x, torch.tensor([500.0]), None, {"context_window": object()})


# -- what the decoder makes ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def decoded():
    """The images and sound of one latent: as a loop, as it is, and three times the circle in a row."""
    vae, audio_vae = cases.small_vaes()
    video, audio = latent(9)["samples"].unbind()
    given = {"samples": joint.join(video, audio)}
    loop = OviDecode.execute(given, vae, audio_vae, "off", True).result
    plain = OviDecode.execute(given, vae, audio_vae, "off").result
    rows = torch.cat([video[:, :, 1:]] * 3, dim=2), torch.cat([audio[:, :, :62]] * 3, dim=2)
    endless = vae.decode(rows[0])[0][1 + 4 * 11 :][:48], audio_vae.decode(rows[1])[0, 512 * 62 : 512 * 124, 0]
    return loop, plain, endless


def test_frames_of_a_loop_are_those_of_a_clip_that_goes_round_and_round(decoded):
    (images, _, video), (open_images, *_), (endless, _) = decoded
    assert images.shape[0] == 48
    assert float(video.get_duration()) == pytest.approx(2.0)
    assert torch.allclose(images, endless.roll(1, dims=0).to(images), atol=2e-3)
    control = (open_images[:-1] - images).abs().amax(dim=(1, 2, 3))
    assert float(control[1:5].max()) > 0.02


def test_sound_of_a_loop_lasts_as_long_as_its_frames_and_goes_round_without_a_click(decoded):
    (_, audio, _), (_, open_audio, _), (_, endless) = decoded
    sound = audio["waveform"][0, 0]
    assert sound.shape[-1] == 32_000
    around_the_end = sound.roll(512)[:1024], stretched(endless, 32_000).roll(512)[:1024]
    assert same([around_the_end[0]], [around_the_end[1]], 0.03)
    cut = open_audio["waveform"][0, 0][:32_000].roll(512)[:1024]  # the control: as it is, put end to end
    assert not same([cut], [around_the_end[1]], 0.1)


def test_a_stretched_period_stays_the_same_tone():
    seconds = torch.arange(31_744, dtype=torch.float64) / 31_744
    tone = torch.sin(2 * torch.pi * 440 * seconds)
    longer = torch.sin(2 * torch.pi * 440 * torch.arange(32_000, dtype=torch.float64) / 32_000)
    assert torch.allclose(stretched(tone, 32_000), longer.float(), atol=1e-4)


def test_a_model_of_another_family_is_refused():
    other = comfy.model_patcher.ModelPatcher(torch.nn.Identity(), torch.device("cpu"), torch.device("cpu"))
    refusal(OviLoop.execute, other, node="Ovi Loop", input="model", found="Identity", remedy="Load Ovi")
