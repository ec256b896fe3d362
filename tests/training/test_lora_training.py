"""Train Ovi LoRA on a tiny model: it learns what it is shown, its file fits ComfyUI's loader, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import comfy.model_management
import folder_paths
import pytest
import torch
from comfy_extras.nodes_train import LoraModelLoader, SaveLoRA
from native_cases import TINY, drawn, error, forward, loaded, text, write_tiny
from ovi_native.nodes.conditioning import OviDualConditioning
from ovi_native.nodes.loading.lora import OviLoraLoader
from ovi_native.ovi_core.latents import joint
from ovi_native.ovi_core.loading.loader import load_model
from ovi_native.ovi_core.training import trainer
from refusals import refusal
from safetensors.torch import load_file
from training_cases import QUICK, clip, stop_after, train

from tools.convert import convert

NODE = "Train Ovi LoRA"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(write_tiny(tmp_path_factory.mktemp("model")))


@pytest.fixture
def output(tmp_path, monkeypatch):
    """ComfyUI's output folder, whose loras are among the LoRAs."""
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    (tmp_path / "loras").mkdir()
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras", ([str(tmp_path / "loras")], {".safetensors"}))
    folder_paths.filename_list_cache.clear()
    return tmp_path / "loras"


def asked(model, lora=None, strength: float = 1.0, data=None, positive=None, **settings) -> list[float]:
    """Losses of both towers on the very questions of a training run, without learning."""
    patched = model if lora is None else LoraModelLoader.execute(model, lora, strength).result[0]
    losses = train(patched, data, positive, learning_rate=0.0, **settings)[1]
    return [sum(losses[tower]) / len(losses[tower]) for tower in ("video", "audio")]


# -- learning ------------------------------------------------------------------------


def test_both_towers_learn_what_they_are_shown_and_without_learning_nothing_changes(model):
    before = asked(model)
    lora, losses, steps = train(model)
    after = asked(model, lora)
    assert steps == len(losses["loss"]) == QUICK["steps"]
    assert all(new < 0.95 * old for new, old in zip(after, before, strict=True)), (before, after)
    idle = train(model, learning_rate=0.0)[0]
    assert asked(model, idle) == before


@pytest.mark.parametrize("algorithm", ["LoRA", "LoHa", "LoKr", "OFT"])
def test_every_algorithm_of_comfyui_learns_and_is_loaded_as_it_was_trained(model, algorithm):
    """The last step's questions, asked of the loaded LoRA, have the answers that training had."""
    settings = {"algorithm": algorithm, "optimizer": "SGD", "learning_rate": 0.5}
    lora = train(model, steps=2, **settings)[0]
    trained = train(model, steps=3, **settings)[1]
    applied = LoraModelLoader.execute(model, lora, 1.0).result[0]
    same, before = (train(on, steps=3, **settings | {"learning_rate": 0.0})[1] for on in (applied, model))
    for tower in ("video", "audio"):
        assert same[tower][2] == pytest.approx(trained[tower][2], rel=1e-4)
        assert same[tower][2] != pytest.approx(before[tower][2], rel=1e-4)


def test_the_model_that_was_given_stays_as_it_is(model):
    before = [part.clone() for part in forward(loaded(model))]
    train(model)
    assert all(torch.equal(a, b) for a, b in zip(forward(loaded(model)), before, strict=True))
    assert not comfy.model_management.in_training
    assert not model.patches


def test_the_objective_is_the_velocity_of_the_shown_latents(model):
    """An independent reckoning of the first step's losses, from the network and the definition alone."""
    losses = train(model, learning_rate=0.0, steps=1, first_frame=0.0)[1]
    source = trainer._source(QUICK["seed"], 0)
    torch.multinomial(torch.ones(1), 1, generator=source), torch.randperm(1, generator=source)
    place = torch.rand(1, generator=source).item()
    level = 5.0 * (1 - place) / (1 + 4.0 * (1 - place))
    torch.rand(1, generator=source)
    video, audio = model.model.process_latent_in(clip()["samples"]).unbind()
    noises = [torch.randn(part.shape, generator=source) for part in (video, audio)]
    shown = [(1 - level) * part + level * noise for part, noise in zip((video, audio), noises, strict=True)]
    context = torch.nn.functional.pad(text(1)[0][0], (0, 0, 0, 503))
    with torch.no_grad():
        found = loaded(model).model.diffusion_model(shown, torch.tensor([1000 * level]), context)
    for tower, velocity, x, e in zip(("video", "audio"), found, (video, audio), noises, strict=True):
        assert losses[tower] == pytest.approx([float((velocity - (e - x)).square().mean())], rel=1e-4)


def test_a_first_frame_that_is_given_is_shown_clean_at_timestep_0_and_does_not_count(model, monkeypatch):
    seen = []
    network = type(model.model.diffusion_model)
    original = network.forward

    def look(self, x, timestep, context, options, **more):
        seen.append((x[0].detach().clone(), more["video_shares"]))
        return original(self, x, timestep, context, options, **more)

    monkeypatch.setattr(network, "forward", look)
    train(model, steps=1, first_frame=1.0)
    (video, shares), clean = seen[0], model.model.process_latent_in(clip()["samples"]).unbind()[0]
    assert torch.equal(video[:, :, 0], clean[:, :, 0])
    assert not torch.allclose(video[:, :, 1], clean[:, :, 1])
    assert shares.values[shares.index].tolist() == [[0.0, 1.0]]


def test_a_tower_whose_loss_is_0_is_not_trained(model):
    names = {key.startswith("diffusion_model.audio_model.") for key in train(model, steps=1, video_loss=0.0)[0]}
    assert names == {True}
    names = {key.startswith("diffusion_model.audio_model.") for key in train(model, steps=1, audio_loss=0.0)[0]}
    assert names == {False}


def test_checkpointing_changes_nothing_and_keeps_less(model):
    kept = {}

    def count(how):
        def pack(tensor):
            kept[how] = kept.get(how, 0) + tensor.numel()
            return tensor

        return torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)

    with count("all"):
        plain = train(model, steps=2, gradient_checkpointing=False)
    with count("few"):
        checkpointed = train(model, steps=2, gradient_checkpointing=True)
    assert plain[1] == checkpointed[1]
    assert all(torch.allclose(plain[0][key], checkpointed[0][key], atol=1e-6) for key in plain[0])
    assert kept["few"] < 0.9 * kept["all"]


@pytest.mark.parametrize("settings", [{"training_dtype": "bf16"}, {"offloading": True}, {"loss_function": "Huber"}])
def test_other_types_offloading_and_losses_learn_too(model, settings):
    lora = train(model, **settings)[0]
    before, after = asked(model, **settings), asked(model, lora, **settings)
    assert all(new < 0.97 * old for new, old in zip(after, before, strict=True)), (before, after)


@pytest.mark.parametrize("training_dtype", ["bf16", "none"])
@pytest.mark.parametrize("scaled", [False, True], ids=["cast to fp8", "a file of scaled fp8"])
def test_a_model_of_eight_bits_can_be_trained_on(tmp_path, scaled, training_dtype):
    path = write_tiny(tmp_path)
    if scaled:
        convert([Path(path)], tmp_path / "scaled.safetensors", "fp8")
        path = str(tmp_path / "scaled.safetensors")
    model = load_model(path, weight_dtype="default" if scaled else "fp8_e4m3fn")
    settings = {"training_dtype": training_dtype}
    lora = train(model, **settings)[0]
    before, after = asked(model, **settings), asked(model, lora, **settings)
    assert all(new < 0.97 * old for new, old in zip(after, before, strict=True)), (before, after)


# -- data ----------------------------------------------------------------------------


def test_clips_of_several_sizes_each_with_its_caption_are_trained_on_together(model):
    data = [clip(1), clip(2, frames=3, steps=16), clip(3, batch=2)]
    captions = [text(seed) for seed in range(4)]
    dual = OviDualConditioning.execute(captions[0], captions[3]).result[0]
    lora, losses, _ = train(model, data, [dual, *captions[1:]], batch_size=2, steps=3, grad_accumulation_steps=2)
    assert len(losses["loss"]) == 3
    assert all(value.isfinite().all() for value in lora.values())


def test_captions_are_read_with_their_clips(model):
    """With the captions swapped the same questions have other answers."""
    data, captions = [clip(1), clip(2)], [text(1), text(2)]
    assert asked(model, data=data, positive=captions) != asked(model, data=data, positive=captions[::-1])


@pytest.mark.parametrize(
    ("data", "positive", "input", "found"),
    [
        ([clip(), clip()], [text(1), text(2), text(3)], "positive", "3 captions for 2 clip(s)"),
        ([clip()], [text(1, width=8)], "positive", "text of width 8"),
        ([{"samples": torch.zeros(1, 48, 2, 4, 4)}], [text(1)], "latents", "a latent of 1 part(s)"),
        (
            [{"samples": joint.join(torch.zeros(1, 48, 2, 4, 4), torch.zeros(1, 20, 10))}],
            [text(1)],
            "latents",
            "an empty",
        ),
        (
            [{"samples": joint.join(torch.full((1, 48, 2, 4, 4), torch.nan), torch.zeros(1, 20, 10))}],
            [text(1)],
            "latents",
            "not numbers",
        ),
    ],
)
def test_data_that_does_not_fit_is_refused_before_anything_is_loaded(model, monkeypatch, data, positive, input, found):
    monkeypatch.setattr(model, "clone", lambda **_: pytest.fail("loaded"))
    refusal(train, model, data, positive, node=NODE, input=input, found=found, remedy="")


# -- the file ------------------------------------------------------------------------


def test_the_saved_file_loads_everywhere_and_at_strength_0_does_nothing(model, output):
    lora, _, steps = train(model, lora_dtype="bf16")
    SaveLoRA.execute(lora, "loras/taught", steps)
    (file,) = output.iterdir()
    assert "_4_steps_" in file.name
    before = forward(loaded(model))
    ours = forward(loaded(OviLoraLoader.execute(model, file.name, 1.0, 1.0).result[0]))
    theirs = forward(loaded(LoraModelLoader.execute(model, lora, 1.0).result[0]))
    assert error(ours, theirs) == 0
    assert error(ours, before) > 1e-3
    for nothing in (
        OviLoraLoader.execute(model, file.name, 0.0, 0.0).result[0],
        LoraModelLoader.execute(model, lora, 0.0).result[0],
    ):
        assert all(torch.equal(a, b) for a, b in zip(forward(loaded(nothing)), before, strict=True))


def test_the_same_seed_gives_the_same_lora_and_another_seed_another(model):
    one, same, other = (train(model, steps=2, seed=seed)[0] for seed in (7, 7, 8))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


def test_continuing_from_a_file_is_as_if_training_had_not_stopped(model, output):
    settings = {"optimizer": "SGD", "learning_rate": 0.5}
    whole, losses, _ = train(model, steps=4, **settings)
    half, _, steps = train(model, steps=2, **settings)
    SaveLoRA.execute(half, "loras/half", steps)
    (file,) = output.iterdir()
    rest, later, total = train(model, steps=2, existing_lora=file.name, rank=16, **settings)
    assert total == 4
    assert later["loss"] == losses["loss"][2:]
    assert all(torch.equal(rest[key], whole[key]) for key in whole)


def test_a_lora_of_another_maker_is_continued_with_all_it_holds(model, output):
    """Another spelling, without alpha, on a layer that is trained and on one that is not."""
    layers = ("blocks.0.self_attn.q", "time_embedding.2")
    foreign = {
        f"transformer.{layer}.{half}.weight": drawn(*shape, seed=i) / 20
        for i, layer in enumerate(layers)
        for half, shape in (("lora_A", (4, TINY["dim"])), ("lora_B", (TINY["dim"], 4)))
    }
    SaveLoRA.execute({key: value.contiguous() for key, value in foreign.items()}, "loras/foreign")
    (file,) = output.iterdir()
    before = asked(OviLoraLoader.execute(model, file.name, 1.0, 1.0).result[0])
    idle = train(model, learning_rate=0.0, existing_lora=file.name)
    assert [sum(idle[1][tower]) / 4 for tower in ("video", "audio")] == pytest.approx(before, rel=1e-4)
    theirs = forward(loaded(OviLoraLoader.execute(model, file.name, 1.0, 1.0).result[0]))
    ours = forward(loaded(LoraModelLoader.execute(model, idle[0], 1.0).result[0]))
    assert error(ours, theirs) < 1e-5


def test_what_cannot_be_continued_is_refused(model, output):
    down, up = drawn(4, TINY["dim"]), drawn(TINY["dim"], 4)
    q = "diffusion_model.blocks.0.self_attn.q"
    dora = {f"{q}.lora_down.weight": down, f"{q}.lora_up.weight": up, f"{q}.dora_scale": torch.ones(TINY["dim"], 1)}
    SaveLoRA.execute(dora, "loras/dora")
    SaveLoRA.execute({"single_blocks.0.linear1.lora_A.weight": down}, "loras/flux")
    for name, found in (
        ("dora", "a LoRA of a kind that can be used but not trained"),
        ("flux", "a LoRA for another model"),
    ):
        (file,) = output.glob(f"{name}*")
        refusal(train, model, existing_lora=file.name, node=NODE, input="existing_lora", found=found, remedy="")


# -- ending early ----------------------------------------------------------------------


def saved(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = folder.iterdir()
    assert "ovi_interrupted_2_steps_" in file.name
    return load_file(file)


def test_an_interrupt_stops_within_the_step_and_keeps_what_was_learned(model, output, monkeypatch):
    two = train(model, steps=2)[0]
    stop_after(monkeypatch, 2, comfy.model_management.interrupt_current_processing)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        train(model, steps=6)
    kept = saved(output)
    assert all(torch.equal(kept[key], two[key]) for key in two)
    assert not comfy.model_management.in_training


def test_an_error_keeps_what_was_learned(model, output, monkeypatch):
    def out_of_memory():
        raise comfy.model_management.OOM_EXCEPTION("no memory")

    stop_after(monkeypatch, 2, out_of_memory)
    with pytest.raises(comfy.model_management.OOM_EXCEPTION):
        train(model, steps=6)
    assert saved(output)


def test_a_gradient_that_is_no_number_stops_before_it_spoils_the_lora(model, output, monkeypatch):
    two = train(model, steps=2)[0]
    endless = {"MSE": lambda found, wanted, reduction: (found - wanted) * torch.inf}
    stop_after(monkeypatch, 2, lambda: monkeypatch.setattr(trainer, "LOSSES", endless))
    refusal(
        train, model, node=NODE, input="learning_rate", found="0.02, with which step 3 has no finite gradient",
        remedy="Train again with a third",
    )  # fmt: skip
    kept = saved(output)
    assert all(torch.equal(kept[key], two[key]) for key in two)


def test_with_both_losses_0_nothing_is_trained(model):
    refusal(train, model, video_loss=0.0, audio_loss=0.0, node=NODE, input="video_loss", found="0", remedy="to 1")
