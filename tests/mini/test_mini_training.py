"""Training: it learns, goes on after a kill as if nothing had happened, and its files load in the pack."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Thread

import comfy.latent_formats
import comfy.model_management
import numpy as np
import pytest
import torch
from comfy.text_encoders.t5 import T5
from ovi_native.ovi_core.loading.loader import load_model
from ovi_native.ovi_core.network import layers
from ovi_native.ovi_core.network.layers import HEAD_DIM
from ovi_native.ovi_core.spec import TEXT_LENGTH
from ovi_native.ovi_core.text.umt5 import read_text_encoder
from ovi_native.ovi_core.vae.audio_vae import read_audio_vae
from ovi_native.ovi_core.vae.video_vae import read_video_vae
from ovi_native.ovi_core.weights.checks import without_prefix
from safetensors.torch import save_file

from tools.mini.paths import AUDIO_VAE, MODEL, TEXT, VIDEO_VAE
from tools.mini.stages import latent_cache
from tools.mini.stages.__main__ import AUTOENCODERS, make_stage
from tools.mini.stages.audio import make_batch as make_sounds
from tools.mini.stages.audio import with_deviation
from tools.mini.stages.autoencoders import Autoencoders
from tools.mini.stages.export import export, twin_file
from tools.mini.stages.latent_cache import Pool, draw_clips, encode_all, frequencies, scene_of
from tools.mini.stages.unpack import twin_weights, unpack
from tools.mini.stages.video_basis import axes_by_effect, make_basis, with_axes
from tools.mini.stages.video_vae import fold_moments
from tools.mini.training import config as configuration
from tools.mini.training import networks
from tools.mini.training.config import (
    AudioVAE,
    Bucket,
    Config,
    Crops,
    Finish,
    Learning,
    Text,
    Twin,
    VideoBasis,
    VideoVAE,
    Vocoder,
    with_changes,
)
from tools.mini.training.flow import Model, Question, ask, mix
from tools.mini.training.loop import Options, rate_at, train
from tools.mini.training.tokenizer import Tokenizer, learn_pieces
from tools.mini.training.twin_precision import twin_entries
from tools.mini.training.workers import made_ahead
from tools.mini.world.render import render

STEPS = 8


def learning(rate: float) -> Learning:
    return Learning(steps=STEPS, rate=rate, warm_up=2, descent=0.1, averaging=0.5)


TINY = Config(
    video_vae=VideoVAE(learning(3e-3), dim=8, dec_dim=8, crops=(Crops(0.5, 1, 32, 2), Crops(1.0, 5, 32, 1))),
    video_decoder=VideoVAE(learning(3e-3), crops=(Crops(1.0, 5, 32, 1),)),
    audio_vae=AudioVAE(learning(3e-3), hidden=8, batch=2, columns=32),
    vocoder=Vocoder(learning(2e-3), channels=16, resblock_kernels=(3,), batch=2, columns=8),
    text=Text(d_model=32, d_ff=32, d_kv=8, num_heads=2, pieces=400, captions=300),
    video_basis=VideoBasis(clips=2),
    twin=Twin(
        learning(3e-2),
        dim=128,
        ffn_dim=128,
        num_layers=2,
        buckets=(Bucket(64, 64, 0.4, clips=6, share=1.0, batch=4),),
        audio_weight=2.0,
    ),
    finish=Finish(
        learning(1.5e-2),
        buckets=(Bucket(64, 64, 0.4, clips=4, share=1.0, batch=4, kind="walls"),),
        audio_weight=2.0,
        shift=5.0,
        eight_bit=True,
    ),
)
STAGES = ("video-vae", "video-decoder", "audio-vae", "vocoder", "twin", "finish")


@contextmanager
def as_in_training() -> Iterator[None]:
    """As ``train.py`` sets it up, and as before after it; small tensors are computed faster by one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comfy.model_management, "in_training", True)
        for name in ("apply_rope1", "picked"):  # the twin's stage puts its own there
            patch.setattr(layers, name, getattr(layers, name))
        try:
            yield
        finally:
            torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def gradients_through_the_host() -> Iterator[None]:
    with as_in_training():
        yield


def quietly(folder: Path, **changes) -> Options:
    return replace(Options(folder, workers=0, preview_minutes=float("inf"), save_minutes=float("inf")), **changes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every stage of the tiny configuration has run."""
    folder = tmp_path_factory.mktemp("mini")
    with as_in_training():
        for stage in STAGES:
            if stage == "twin":
                assert make_basis(TINY, quietly(folder))
                assert all(encode_all(config, quietly(folder)) for config in (TINY, TINY.finishing()))
            assert train(TINY, make_stage(stage, TINY, "cpu", folder), quietly(folder))
    return folder


@pytest.mark.parametrize("name", STAGES)
def test_training_lowers_the_error_of_every_stage(name: str, trained: Path) -> None:
    stage = make_stage(name, TINY, "cpu", trained)
    before = average_loss(stage)
    state = torch.load(trained / name / "checkpoint.pt", weights_only=True)
    stage.module.load_state_dict(state["weights"])
    assert state["step"] == STEPS
    assert average_loss(stage) < 0.97 * before


@torch.no_grad()
def average_loss(stage) -> float:
    """Over steps that training has not seen."""
    return float(np.mean([float(stage.loss(step, stage.make_batch(step))[0]) for step in range(100, 104)]))


@pytest.mark.parametrize("name", STAGES)
def test_every_weight_learns(name: str, trained: Path) -> None:
    stage = make_stage(name, TINY, "cpu", trained)
    for step in (0, STEPS - 1):  # the video VAE meets time only in the later steps
        # A head that starts at zero passes nothing on, so one step is made first.
        optimizer = torch.optim.SGD(stage.module.parameters(), lr=1e-3)
        stage.loss(step, stage.make_batch(step))[0].backward()
        optimizer.step()
    stage.loss(STEPS - 1, stage.make_batch(STEPS - 1))[0].backward()
    still = [name for name, weight in stage.module.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert still == []


@pytest.mark.parametrize("name", STAGES)
def test_a_killed_run_goes_on_bit_by_bit_as_an_uninterrupted_one(name: str, trained: Path, tmp_path: Path) -> None:
    for part in (*AUTOENCODERS, "latents", "twin"):
        if part != name:
            (tmp_path / part).symlink_to(trained / part)
    train(TINY, make_stage(name, TINY, "cpu", tmp_path), quietly(tmp_path, until=3))
    killed = make_stage(name, TINY, "cpu", tmp_path)
    loss = killed.loss

    def die(step: int, batch):
        if step == 4:
            raise SystemError("killed")
        return loss(step, batch)

    killed.loss = die
    with pytest.raises(SystemError):
        train(TINY, killed, quietly(tmp_path))
    assert train(TINY, make_stage(name, TINY, "cpu", tmp_path), quietly(tmp_path))
    whole, resumed = (torch.load(folder / name / "checkpoint.pt", weights_only=True) for folder in (trained, tmp_path))
    for part in ("weights", "average"):
        assert all(torch.equal(value, resumed[part][key]) for key, value in whole[part].items())
    one, other = (torch.load(folder / name / "trained.pt", weights_only=True) for folder in (trained, tmp_path))
    assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_the_decoders_stage_leaves_the_latents_as_they_are(trained: Path) -> None:
    before, after = (torch.load(trained / name / "trained.pt", weights_only=True) for name in STAGES[:2])
    changed = {key for key, value in before.items() if not torch.equal(value, after[key])}
    assert changed
    assert all(key.startswith(("decoder.", "conv2.")) for key in changed)


def test_a_stage_that_lacks_an_earlier_one_says_which(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="train the stage 'audio-vae' first"):
        make_stage("vocoder", TINY, "cpu", tmp_path)


def test_batches_made_by_another_process_are_the_same() -> None:
    make = partial(make_sounds, TINY, "audio-vae", 2, 8)
    with made_ahead(make, range(3), workers=1) as batches:
        ahead = dict(batches)
    assert list(ahead) == [0, 1, 2]
    for step, batch in ahead.items():
        np.testing.assert_array_equal(batch, make(step))


def test_the_rate_rises_stays_and_falls() -> None:
    plan = Learning(steps=1000, rate=1.0, warm_up=100, descent=0.2)
    assert [rate_at(plan, step) for step in (0, 49, 99, 500, 799)] == [0.01, 0.5, 1.0, 1.0, 1.0]
    assert rate_at(plan, 900) == pytest.approx(0.5)
    assert rate_at(plan, 999) < 0.01


def test_text_is_encoded_as_the_host_encodes_it() -> None:
    text = networks.text_encoder(TINY, "cpu")
    ids, mask = Tokenizer(learn_pieces(TINY))(["A red metal ball bounces.", "A face says <S>ba<E>. Audio: A voice."])
    host = T5(TINY.text.sizes(), torch.float32, "cpu", networks.LAYERS)
    host.load_state_dict(text.state_dict())
    with torch.no_grad():
        wanted = host(ids, mask)[0] * mask.unsqueeze(-1)
        torch.testing.assert_close(networks.encode_text(text, ids, mask), wanted, rtol=1e-5, atol=1e-6)


def test_a_short_text_counts_as_one_that_is_padded_to_all_its_positions() -> None:
    twin = networks.twin(TINY, "cpu")
    torch.nn.init.normal_(twin.head.head.weight, std=0.1)
    torch.nn.init.normal_(twin.audio_model.head.head.weight, std=0.1)
    model = Model(twin, networks.text_encoder(TINY, "cpu"), Tokenizer(learn_pieces(TINY)))
    video, audio, timestep = torch.randn(2, 48, 3, 4, 4), torch.randn(2, 20, 10), torch.tensor([700.0, 30.0])
    free = Question(timestep / 1000, torch.ones(2, 3), torch.ones(2, 1))
    with torch.no_grad():
        contexts = model.contexts(["A red ball bounces on the floor.", "No."], ["", "A hum."])
        found = model.velocity(video, audio, timestep, contexts, free)
        padded = [torch.nn.functional.pad(text, (0, 0, 0, TEXT_LENGTH - text.shape[1])) for text in contexts]
        wanted = twin([video, audio], timestep, padded[0], audio_context=padded[1])
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_matrices_in_sixteen_bits_give_nearly_the_same_and_learn_in_thirty_two() -> None:
    twin = networks.twin(TINY, "cpu")
    torch.nn.init.normal_(twin.head.head.weight, std=0.1)
    text, tokenizer = networks.text_encoder(TINY, "cpu"), Tokenizer(learn_pieces(TINY))
    video, audio, timestep = torch.randn(2, 48, 3, 4, 4), torch.randn(2, 20, 10), torch.tensor([700.0, 30.0])
    question = Question(timestep / 1000, torch.tensor([[1.0, 1, 1], [0, 1, 0]]), torch.ones(2, 10))
    found = []
    for rounded in (True, False):
        model = Model(twin, text, tokenizer, rounded=rounded)
        contexts = model.contexts(["A red ball bounces on the floor.", "No."], ["", "A hum."])
        velocity = model.velocity(video, audio, timestep, contexts, question)[0]
        (gradient,) = torch.autograd.grad(velocity.float().square().mean(), twin.blocks[0].self_attn.v.weight)
        found.append((velocity, gradient))
    (sixteen, gradient), (thirty_two, wanted) = found
    assert (sixteen.dtype, gradient.dtype) == (torch.bfloat16, torch.float32)
    for one, other in ((sixteen.float(), thirty_two), (gradient, wanted)):
        assert 1e-4 < (one - other).norm() / other.norm() < 0.05


def test_matrices_in_eight_bits_are_those_of_the_file_and_learn_in_thirty_two(tmp_path: Path) -> None:
    twin, in_file = networks.twin(TINY, "cpu"), networks.twin(TINY, "cpu")
    torch.nn.init.normal_(twin.head.head.weight, std=0.1)
    save_file(twin_file(twin.state_dict()), tmp_path / "twin.safetensors")
    stored = twin_weights(tmp_path / "twin.safetensors")
    large = set(networks.eight_bit_weights(twin))
    in_file.load_state_dict(stored)
    twin.load_state_dict({key: value if key in large else stored[key] for key, value in twin.state_dict().items()})
    text, tokenizer = networks.text_encoder(TINY, "cpu"), Tokenizer(learn_pieces(TINY))
    video, audio, timestep = torch.randn(1, 48, 3, 4, 4), torch.randn(1, 20, 10), torch.tensor([700.0])
    found = []
    for network, eight_bit in ((twin, False), (twin, True), (in_file, False)):
        model = Model(network, text, tokenizer, eight_bit=eight_bit)
        question = Question(timestep / 1000, torch.ones(1, 3), torch.ones(1, 10))
        contexts = model.contexts(["A red ball bounces on the floor."], [""])
        velocity = model.velocity(video, audio, timestep, contexts, question)[0]
        (gradient,) = torch.autograd.grad(velocity.square().mean(), network.blocks[0].self_attn.v.weight)
        found.append((velocity, gradient))
    exact, rounded, wanted = found
    torch.testing.assert_close(rounded, wanted, rtol=1e-4, atol=1e-6)
    assert 1e-3 < (exact[0] - wanted[0]).norm() / wanted[0].norm() < 0.2


def test_a_new_tower_looks_at_the_words_and_not_at_the_many_positions_after_them() -> None:
    twin = networks.twin(replace(TINY, twin=replace(TINY.twin, dim=256)), "cpu")
    context = torch.zeros(1, TEXT_LENGTH, TINY.text.d_model)
    context[:, :20] = torch.randn(1, 20, TINY.text.d_model, generator=torch.Generator().manual_seed(0))
    for tower in (twin, twin.audio_model):
        for block, (keys, _) in zip(tower.blocks, tower.text_keys(context), strict=True):
            attention = block.cross_attn
            queries = attention.norm_q(attention.q(torch.randn(1, 30, 256, generator=torch.Generator().manual_seed(1))))
            q, k = (part.detach().unflatten(-1, (-1, HEAD_DIM)).transpose(1, 2) for part in (queries, keys))
            seen = (q @ k.mT / HEAD_DIM**0.5).softmax(dim=-1)[..., :20].sum(dim=-1)
            assert seen.mean() > 0.7  # it would be 0.06 if all positions were alike


def test_what_is_given_clean_is_neither_noised_nor_asked_for() -> None:
    settings = replace(TINY.twin, video_clean=0.3, audio_clean=0.3, span=0.0, first_frame=0.5)
    question = ask(settings, 400, 5, 12, torch.Generator().manual_seed(1))
    whole = question.video_free.sum(dim=1)
    assert 80 < (whole == 0).sum() < 160
    assert 80 < (question.audio_free == 0).all(dim=1).sum() < 160
    assert set(question.audio_free.sum(dim=1).tolist()) == {0, 12}
    assert not ((whole == 0) & (question.audio_free[:, 0] == 0)).any()
    assert (whole == 4).sum() > 80
    clean, noise = torch.zeros(400, 48, 5, 2, 2), torch.ones(400, 48, 5, 2, 2)
    mixed = mix(clean, noise, question.level, question.video_free)
    assert not mixed[whole == 0].any()
    assert not mixed[whole == 4][:, :, 0].any()
    torch.testing.assert_close(mixed[whole == 5][:, 0, 1, 0, 0], question.level[whole == 5])


def test_of_a_span_both_towers_are_asked_at_the_same_time_and_all_else_is_given() -> None:
    settings = replace(TINY.twin, video_clean=0.0, audio_clean=0.0, span=1.0, first_frame=0.0)
    question = ask(settings, 200, 13, 61, torch.Generator().manual_seed(2))
    assert question.video_free.any(dim=1).all()
    for free, length in ((question.video_free, 13), (question.audio_free, 61)):
        changes = free.diff(dim=1).ne(0).sum(dim=1)
        assert set(changes.tolist()) == {0, 1, 2}  # all of it, from or up to a moment, or from one to another
        assert 0.4 < free.sum(dim=1).mean() / length < 0.7
    starts = [free.argmax(dim=1) / (free.shape[1] - 1) for free in (question.video_free, question.audio_free)]
    assert (starts[0] - starts[1]).abs().max() < 1 / 12


def test_levels_follow_the_shifted_schedule_from_clean_to_noise() -> None:
    level = ask(replace(TINY.twin, shift=5.0), 1000, 2, 3, torch.Generator().manual_seed(0)).level.sort().values
    place = (torch.arange(1000) + 0.5) / 1000
    torch.testing.assert_close(level, 5 * place / (1 + 4 * place), rtol=0, atol=6e-3)


def test_folded_latents_have_the_moments_the_host_expects() -> None:
    network = networks.video_vae(TINY, "cpu")
    clip = torch.rand(2, 3, 5, 32, 32) * 2 - 1
    with torch.no_grad():
        latents = network.encode(clip)
        wanted = network.decode(latents)
        flat = latents.transpose(0, 1).flatten(1)
        network.load_state_dict(fold_moments(network.state_dict(), flat.mean(dim=1), flat.std(dim=1)))
        folded = network.encode(clip)
        normal = comfy.latent_formats.Wan22().process_in(folded).transpose(0, 1).flatten(1)
        torch.testing.assert_close(normal.mean(dim=1), torch.zeros(48), rtol=0, atol=1e-4)
        torch.testing.assert_close(normal.std(dim=1), torch.ones(48), rtol=0, atol=1e-4)
        torch.testing.assert_close(network.decode(folded), wanted, rtol=1e-4, atol=1e-4)


def test_other_axes_leave_the_pictures_as_they_are() -> None:
    network, axes, mean = networks.video_vae(TINY, "cpu"), torch.randn(48, 48).double(), torch.randn(48).double()
    clip, wan = torch.rand(1, 3, 5, 32, 32) * 2 - 1, comfy.latent_formats.Wan22()
    with torch.no_grad():
        before = wan.process_in(network.encode(clip))
        wanted = network.decode(wan.process_out(before))
        network.load_state_dict(with_axes(network.state_dict(), axes, mean))
        after = wan.process_in(network.encode(clip))
        moved = torch.einsum("kc,bcthw->bkthw", axes.float(), before - mean.float().view(1, -1, 1, 1, 1))
        torch.testing.assert_close(after, moved, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(network.decode(wan.process_out(after)), wanted, rtol=1e-2, atol=1e-3)


def test_kinds_that_are_learned_last_are_seen_more_often() -> None:
    twin = replace(TINY.twin, buckets=(replace(TINY.twin.buckets[0], clips=60),), often=(("walls", 3.0),))
    config = replace(TINY, twin=twin)
    often = frequencies(config, 0)
    walled = np.array([scene_of(config, 0, index).stage.walls > 0 for index in range(60)])
    assert 0 < walled.sum() < 60
    np.testing.assert_array_equal(often, np.where(walled, 3.0, 1.0))
    config = replace(config, twin=replace(twin, buckets=(replace(twin.buckets[0], batch=20000),)))
    drawn = np.bincount(draw_clips(config, 0, 0, np.random.default_rng(0)), minlength=60)
    np.testing.assert_allclose(drawn / 20000, often / often.sum(), atol=5e-3)


def test_clips_join_while_training_goes_on(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (configuration, latent_cache):
        monkeypatch.setattr(module, "PER_FILE", 16)
    bucket = Bucket(64, 64, 0.4, clips=36, share=1.0, batch=500, at_first=10, joining=10.0)
    config = replace(TINY, twin=replace(TINY.twin, buckets=(bucket,)))
    rng = np.random.default_rng(0)
    for step, known in ((0, 10), (1, 20), (9, 36)):
        assert draw_clips(config, 0, step, rng).max() == known - 1
    assert len(draw_clips(with_changes(config, ["twin.batch_share=0.1"]), 0, 0, rng)) == 50
    for part in AUTOENCODERS:
        (tmp_path / part).symlink_to(trained / part)
    pool = Pool(config, tmp_path, 0, "cpu", patience=60)
    with pytest.raises(FileNotFoundError, match="train the stage 'latents' first"):
        Pool(config, tmp_path, 0, "cpu").reach(10)
    maker = Thread(target=encode_all, args=(config, quietly(tmp_path)))
    maker.start()
    pool.reach(36)  # waits for them
    maker.join()
    scene = scene_of(config, 0, 25)
    clip = render(scene)
    video, audio = Autoencoders(config, "cpu", tmp_path).encode(clip.frames[None], clip.sound[None])
    assert (pool.video[25] - video[0]).abs().mean() < 0.05 < 0.5 < (pool.video[24] - video[0]).abs().mean()
    torch.testing.assert_close(pool.audio[25].float(), audio[0], rtol=0, atol=1e-2)
    later = replace(bucket, clips=16, first=16, at_first=0)
    config = replace(TINY, twin=replace(TINY.twin, buckets=(later,)))
    second = Pool(config, tmp_path, 0, "cpu")
    second.reach(16)
    assert torch.equal(second.video, pool.video[16:32])
    assert scene_of(config, 0, 25 - 16).seed == scene.seed
    with pytest.raises(ValueError, match="first clip is number 10; accepted: multiples of 16"):
        replace(bucket, first=10)


def test_latents_of_another_deviation_sound_as_before() -> None:
    vae = networks.audio_autoencoder(TINY, "cpu").vae
    mel = torch.randn(2, 80, 32)
    with torch.no_grad():
        before = vae.encode(mel).mean
        wanted = vae.decode(before)
        vae.load_state_dict(with_deviation(vae.state_dict(), 0.25))
        after = vae.encode(mel).mean
        torch.testing.assert_close(after, 0.25 * before)
        torch.testing.assert_close(vae.decode(after), wanted)


def test_the_axes_that_are_seen_most_spread_most_and_those_never_seen_stay_small() -> None:
    torch.manual_seed(0)
    mixed, seen = torch.randn(6, 6).double(), torch.diag(torch.tensor([9.0, 4.0, 1.0, 0.1, 0.0, 0.0]).double())
    covariance, effect = mixed @ mixed.T, torch.linalg.inv(mixed).T @ seen @ torch.linalg.inv(mixed)
    axes = axes_by_effect(covariance, effect, VideoBasis(largest=2.0, power=0.5, least=0.01, floor=0.0))
    new = axes @ covariance @ axes.T
    spread = new.diagonal().sqrt()
    torch.testing.assert_close(new, torch.diag(spread**2), rtol=0, atol=1e-6)
    torch.testing.assert_close(
        spread, 2 * (torch.tensor([1, 2 / 3, 1 / 3, 0.1054, 0.01, 0.01]).double()) ** 0.5, rtol=0, atol=1e-3
    )


def test_changes_to_the_configuration_are_made_by_name() -> None:
    changed = with_changes(TINY, ["twin.learning.steps=99", "seed=3"])
    assert (changed.twin.learning.steps, changed.seed, changed.twin.dim) == (99, 3, TINY.twin.dim)
    with pytest.raises(ValueError, match=r"'twin.stepz=1': no 'stepz' here; accepted: learning, dim"):
        with_changes(TINY, ["twin.stepz=1"])


def test_the_log_holds_the_curve_of_a_run(trained: Path) -> None:
    config = with_changes(TINY, ["audio_vae.learning.steps=20"])
    train(config, make_stage("audio-vae", config, "cpu", trained), quietly(trained / "again"))
    entry = json.loads((trained / "again" / "audio-vae" / "log.jsonl").read_text().splitlines()[-1])
    assert entry["step"] == 20
    assert {"seconds", "loss", "mel", "norm"} <= set(entry)


@pytest.fixture(scope="module")
def exported(trained: Path) -> Path:
    out = trained / "models"
    export(trained, out, TINY, "2030-01-02")
    return out


def test_the_exported_transformer_is_the_trained_one(trained: Path, exported: Path) -> None:
    patcher = load_model(str(exported / MODEL))
    twin = networks.twin(TINY, "cpu")
    taken_up = twin_weights(exported / MODEL)
    assert_nearly(taken_up, without_prefix(torch.load(trained / "finish" / "trained.pt", weights_only=True), "twin."))
    twin.load_state_dict(taken_up)
    x = [torch.randn(1, 48, 3, 4, 4), torch.randn(1, 20, 10)]
    inputs = torch.tensor([500.0]), torch.randn(1, TEXT_LENGTH, TINY.text.d_model)
    with torch.no_grad():
        for one, other in zip(patcher.model.diffusion_model(x, *inputs), twin(x, *inputs), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def assert_nearly(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    """Rounding a twin's large matrices to 8 bits moves them by 3 %; test_mini_files.py looks at each value."""
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        assert (found[key] - value).norm() <= 0.03 * value.norm(), key


def test_the_exported_vaes_are_the_trained_ones(trained: Path, exported: Path) -> None:
    own = Autoencoders(TINY, "cpu", trained)
    frames = np.random.default_rng(0).random((5, 64, 64, 3), dtype=np.float32)
    sound = 0.1 * np.random.default_rng(1).standard_normal(8192).astype(np.float32)
    video, audio = (latent[0] for latent in own.encode(frames[None], sound[None]))
    pictures, heard = own.decode(video, audio)
    vae, audio_vae = read_video_vae(str(exported / VIDEO_VAE)), read_audio_vae(str(exported / AUDIO_VAE))
    wan = comfy.latent_formats.Wan22()
    assert distance(wan.process_in(vae.encode(torch.from_numpy(frames)))[0], video) < 0.02
    assert distance(vae.decode(wan.process_out(video[None]))[0], torch.from_numpy(pictures)) < 0.02
    assert distance(audio_vae.encode(torch.from_numpy(sound)[None, :, None])[0], audio) < 0.02
    assert distance(audio_vae.decode(audio[None])[0, :, 0], torch.from_numpy(heard)) < 0.05


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Relative: rounding the weights to 16 bits stays small."""
    return float((one.detach().float() - other).norm() / other.norm())


def test_the_exported_text_encoder_is_the_trained_one(trained: Path, exported: Path) -> None:
    clip = read_text_encoder(str(exported / TEXT))
    prompt = "A red metal ball bounces on the floor. Audio: bright metal pings."
    wanted = clip.encode_from_tokens_scheduled(clip.tokenize(prompt))[0][0]
    weights = torch.load(trained / "finish" / "trained.pt", weights_only=True)
    text = networks.text_encoder(TINY, "cpu")
    text.load_state_dict({key[5:]: value for key, value in weights.items() if key.startswith("text.")})
    ids, mask = Tokenizer((trained / "twin" / "pieces.model").read_bytes())([prompt])
    with torch.no_grad():
        found = networks.encode_text(text, ids, mask)
    torch.testing.assert_close(found[0], wanted[0, : ids.shape[1]].float(), rtol=0, atol=0.02)
    assert not wanted[0, ids.shape[1] :].any()


def test_training_is_taken_up_from_the_exported_files(trained: Path, exported: Path, tmp_path: Path) -> None:
    unpack(exported, tmp_path)
    for name in ("video-basis", "audio-vae", "vocoder"):
        own, again = (torch.load(run / name / "trained.pt", weights_only=True) for run in (trained, tmp_path))
        assert own.keys() == again.keys() if name != "vocoder" else own.keys() <= again.keys()
        for key, value in own.items():
            torch.testing.assert_close(again[key], value, rtol=2e-3, atol=1e-6)
    (tmp_path / "latents").symlink_to(trained / "latents")
    whole = torch.load(trained / "finish" / "trained.pt", weights_only=True)
    config = with_changes(TINY, ["seed=5"])
    encode_all(config.finishing(), quietly(tmp_path))
    stage = make_stage("finish", config, "cpu", tmp_path)
    taken_up = stage.module.state_dict()
    assert_nearly(without_prefix(taken_up, "twin."), without_prefix(whole, "twin."))
    for key, value in without_prefix(taken_up, "text.").items():
        torch.testing.assert_close(value, whole[f"text.{key}"], rtol=1e-2, atol=1e-6)
    train(config, stage, quietly(tmp_path, until=2))
    sizes = export(tmp_path, tmp_path / "models", config, "2030-01-03")
    stages = json.loads((tmp_path / "models" / "training.json").read_text())
    assert len(sizes) == 4
    assert (stages["finish"]["steps"], stages["audio-vae"]["steps"]) == (STEPS + 2, STEPS)


def test_the_real_sizes_fit_into_thirty_megabytes() -> None:
    config = Config()
    with torch.device("meta"):
        twin = networks.OviTransformer(operations=torch.nn, dtype=torch.float32, **config.twin_sizes().as_dict())
        text = T5(config.text.sizes(), torch.float32, "meta", networks.LAYERS)
        video = networks.build_network(config.video_vae.sizes())
        audio = networks.AudioAutoencoder(config.audio_sizes())
    entries = list(twin_entries(twin.state_dict()))
    tensors = [value for network in (text, video, audio) for value in network.state_dict().values()]
    headers = 150 * (len(entries) + len(tensors)) + 60_000  # names and shapes, metadata, tokenizer
    values = sum(entry.size for entry in entries) + 2 * sum(value.numel() for value in tensors)
    assert values + headers < 30_000_000
    assert config.twin.dim % 128 == 0
    assert config.twin.num_layers >= 4
