"""Training that ends early loses nothing, wherever there is room for it, and goes on to end as it was about to."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import comfy.model_management
import folder_paths
import pytest
import safetensors
import safetensors.torch
import torch
from native_cases import write_tiny
from ovi_native.nodes.shared import notify
from ovi_native.nodes.training import OviTrainLora
from ovi_native.ovi_core.loading.loader import load_model
from ovi_native.ovi_core.training import saving, trainer
from safetensors.torch import load_file
from training_cases import stop_after, train


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(write_tiny(tmp_path_factory.mktemp("model")))


@pytest.fixture
def folders(tmp_path, monkeypatch) -> dict[str, Path]:
    """ComfyUI's folders, all of them empty."""
    for name in ("output", "user", "temp"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(
            folder_paths,
            f"get_{name}_directory" if name != "output" else "output_directory",
            str(tmp_path / name) if name == "output" else lambda name=name: str(tmp_path / name),
        )
    (tmp_path / "system").mkdir()
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "system"))
    monkeypatch.setattr(saving, "_unsaved", [])
    return {name: tmp_path / name for name in ("output", "user", "temp", "system")}


@pytest.fixture
def notes(monkeypatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(notify, "warn", lambda node, given: found.extend(given))
    return found


def fail_in(monkeypatch, *folders: Path, number: int = errno.ENOSPC) -> None:
    """Let nothing be written to these folders, as safetensors reports a full or read-only disk."""
    original = safetensors.torch.save_file

    def save_file(weights, path, *args, **kwargs):
        if any(Path(path).is_relative_to(folder) for folder in folders):
            raise safetensors.SafetensorError(f"I/O error: {os.strerror(number)} (os error {number})")
        return original(weights, path, *args, **kwargs)

    monkeypatch.setattr(safetensors.torch, "save_file", save_file)


def interrupted(model, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 2, comfy.model_management.interrupt_current_processing)
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            train(model, steps=6)


def test_an_interrupt_saves_the_lora_in_the_output_folder(model, folders, notes, monkeypatch):
    interrupted(model, monkeypatch)
    (file,) = (folders["output"] / "loras").iterdir()
    assert file.name == "ovi_interrupted_2_steps_00001_.safetensors"
    assert file.name in notes[0]
    interrupted(model, monkeypatch)
    assert len(list((folders["output"] / "loras").iterdir())) == 2


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize(
    ("full", "taken"), [(["output"], "user"), (["output", "user"], "temp"), (["output", "user", "temp"], "system")]
)
def test_where_the_output_folder_takes_nothing_another_does(model, folders, notes, monkeypatch, full, taken, number):
    two = train(model, steps=2)[0]
    fail_in(monkeypatch, *(folders[name] for name in full), number=number)
    interrupted(model, monkeypatch)
    (file,) = [path for path in folders[taken].rglob("*") if path.is_file()]
    assert str(file) in notes[0]
    kept = load_file(file)
    assert all(torch.equal(kept[key], two[key]) for key in two)
    assert not [path for name in full for path in folders[name].rglob("*") if path.is_file()]


def test_a_folder_that_is_a_file_is_passed_over(model, folders, notes, monkeypatch):
    (folders["output"] / "loras").write_bytes(b"")
    interrupted(model, monkeypatch)
    assert len(list((folders["user"] / "ovi_loras").iterdir())) == 1


def test_where_nothing_takes_it_the_lora_is_held_and_saved_by_the_next_training(model, folders, notes, monkeypatch):
    two = train(model, steps=2)[0]
    with monkeypatch.context() as patch:
        fail_in(patch, *folders.values())
        interrupted(model, monkeypatch)
    assert "held until ComfyUI ends" in notes[0]
    train(model, steps=1)
    (file,) = (folders["output"] / "loras").iterdir()
    assert str(file) in notes[1]
    assert all(torch.equal(value, two[key]) for key, value in load_file(file).items())
    train(model, steps=1)
    assert len(notes) == 2


def test_an_error_while_saving_does_not_replace_the_interrupt(model, folders, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(OviTrainLora, "_keep", fail)
    interrupted(model, monkeypatch)


@pytest.mark.parametrize("there", ["PREFIX_00001_.SAFETENSORS", "prefix_00001_.safetensors"])
def test_a_name_is_free_only_if_it_is_in_no_letter_case(tmp_path, there):
    (tmp_path / there).write_bytes(b"kept")
    assert saving.free_name(tmp_path, "prefix").name == "prefix_00002_.safetensors"
    assert saving.free_name(tmp_path / "nowhere", "prefix").name == "prefix_00001_.safetensors"


# -- a ComfyUI that computes its layers in another way --------------------------------------


def test_where_layers_do_not_reach_the_adapters_training_ends_with_a_message(model, folders, monkeypatch):
    """As a rework of Linear's forward could do: hooks and wrappers of weights are passed by."""
    monkeypatch.setattr(torch.nn.Module, "register_forward_hook", lambda self, hook: _Nothing())
    with pytest.raises(
        trainer.OviError, match=r"ComfyUI \d+\.\d+\.\d+, whose layers do not take the adapters"
    ) as caught:
        train(model, steps=1)
    assert "Update Ovi native" in caught.value.remedy
    assert not comfy.model_management.in_training


@pytest.mark.parametrize("algorithm", ["LoHa", "OFT"])
def test_where_weights_cannot_be_wrapped_other_algorithms_are_named(model, folders, monkeypatch, algorithm):
    for patcher in (type(model), *type(model).__mro__):
        if "add_weight_wrapper" in vars(patcher):
            monkeypatch.delattr(patcher, "add_weight_wrapper")
    with pytest.raises(trainer.OviError) as caught:
        train(model, steps=1, algorithm=algorithm)
    assert caught.value.input == "algorithm"
    assert caught.value.accepted == "LoRA or LoKr"
    assert train(model, steps=1)[2] == 1


class _Nothing:
    def remove(self) -> None:
        pass
