"""``dev.py convert``: any layout and type to any other; streamed, verified, whole or not there, and able to go on."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import pytest
import torch
import weight_layouts as layouts
from comfy.quant_ops import QuantizedTensor
from native_cases import error, forward, loaded, tiny_weights
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.loading.inspection import inspect
from ovi_native.ovi_core.loading.loader import load_model
from ovi_native.ovi_core.model import checkpoint
from ovi_native.ovi_core.network.transformer import OviConfig
from safetensors.torch import load_file, save_file

from tools import convert as tool
from tools.conversion import recipes
from tools.convert import convert

SILENT = {"say": lambda text: None}


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    path = layouts.saved(tmp_path_factory.mktemp("exact"), "model_960x960.safetensors", tiny_weights())
    return Path(path), forward(loaded(load_model(path)))


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The same model in each kind of file that can be a source, with what the model computes."""
    made = {}
    for name in ("fp32", "two files", "in pairs", "scaled fp8", "nvfp4", "GGUF"):
        folder = tmp_path_factory.mktemp("source")
        if name == "fp32":
            files = layouts.LOSSLESS["published"](tiny_weights(), folder)
        elif name == "two files":
            files = layouts.two_files("", "")(tiny_weights(), folder)
        elif name == "in pairs":
            files = layouts.LOSSLESS["blocks in pairs"](tiny_weights(), folder)
        elif name == "GGUF":
            files = (layouts.write_gguf(folder / "model.gguf", tiny_weights(), "Q5_1")[0],)
        else:
            stored, _ = layouts.in_host_format(tiny_weights(), "float8_e4m3fn" if name == "scaled fp8" else name)
            files = (layouts.saved(folder, "model.safetensors", stored),)
        files = [Path(file) for file in files if file]
        made[name] = files, forward(loaded(load_model(*map(str, files))))
    return made


# What a type costs at most, relative to the source's own velocity.
COST = {"keep": 2e-2, "fp32": 1e-5, "bf16": 2e-2, "fp8": 0.08, "q8_0": 0.03, "q4_0": 0.3}


@pytest.mark.parametrize("source", ["fp32", "two files", "in pairs", "scaled fp8", "nvfp4", "GGUF"])
@pytest.mark.parametrize("kind", ["fp32", "fp8", "q8_0"])
def test_every_source_becomes_every_type(source, kind, sources, tmp_path):
    files, expected = sources[source]
    target = tmp_path / ("target.gguf" if kind in recipes.PACKED else "target.safetensors")
    convert(files, target, kind, **SILENT)
    found = loaded(load_model(str(target)))
    assert error(forward(found), expected) <= COST[kind]
    packed = isinstance(found.model.diffusion_model.blocks[0].self_attn.q.weight, QuantizedTensor)
    assert packed == (kind != "fp32")
    assert [file.name for file in tmp_path.iterdir()] == [target.name]


@pytest.mark.parametrize(
    ("source", "ending"), itertools.product(["fp32", "scaled fp8", "nvfp4", "GGUF"], ["safetensors", "gguf"])
)
def test_kept_types_stay_what_the_target_can_hold(source, ending, sources, tmp_path):
    files, expected = sources[source]
    convert(files, tmp_path / f"target.{ending}", **SILENT)
    held = {
        "fp32": True,
        "scaled fp8": ending == "safetensors",
        "nvfp4": ending == "safetensors",
        "GGUF": ending == "gguf",
    }
    bound = 1e-6 if held[source] else COST["keep"]
    assert error(forward(loaded(load_model(str(tmp_path / f"target.{ending}")))), expected) <= bound


@pytest.mark.parametrize("layout", list(tool.LAYOUTS))
def test_every_layout_is_written_with_its_names(layout, exact, tmp_path):
    convert([exact[0]], tmp_path / "target.safetensors", layout=layout, **SILENT)
    keys = set(load_file(tmp_path / "target.safetensors"))
    expected = {
        "published": set(tiny_weights()),
        "comfyui": {f"model.diffusion_model.{key}" for key in tiny_weights()},
        "wan": {
            key.replace("modulation.modulation", "modulation") for key in layouts.without_video_prefix(tiny_weights())
        },
    }
    assert keys == expected[layout]
    assert error(forward(loaded(load_model(str(tmp_path / "target.safetensors")))), exact[1]) == 0


def test_each_tower_can_be_a_file_of_its_own(exact, tmp_path):
    files = [tmp_path / "video.safetensors", tmp_path / "audio.safetensors"]
    for file, tower in zip(files, ("video", "audio"), strict=True):
        convert([exact[0]], file, layout="wan", tower=tower, **SILENT)
    assert error(forward(loaded(load_model(*map(str, files)))), exact[1]) == 0


@pytest.mark.parametrize("ending", ["safetensors", "gguf"])
def test_the_variant_is_noted_in_the_file(ending, exact, tmp_path):
    convert([exact[0]], tmp_path / f"target.{ending}", **SILENT)
    assert inspect(str(tmp_path / f"target.{ending}")).lines["variant"] == "960x960_5s, its header says so."
    convert([tmp_path / f"target.{ending}"], tmp_path / f"b.{ending}", variant="mini", **SILENT)
    assert "mini, its header" in inspect(str(tmp_path / f"b.{ending}")).lines["variant"]


# -- broken off, damaged, impossible -----------------------------------------------------------------------------------


class Killed(Exception):
    pass


def killed_at(share):
    def progress(done, total):
        if done > share * total:
            raise Killed

    return progress


@pytest.mark.parametrize(("kind", "name"), [("fp8", "t.safetensors"), ("q8_0", "t.gguf")])
def test_what_was_broken_off_goes_on_and_ends_the_same(kind, name, exact, tmp_path, monkeypatch):
    convert([exact[0]], tmp_path / f"whole_{name}", kind, **SILENT)
    target = tmp_path / name
    for share in (0.1, 0.3):
        with pytest.raises(Killed):
            convert([exact[0]], target, kind, progress=killed_at(share), **SILENT)
        assert not target.exists()
    partial = target.with_name(name + ".partial")
    with partial.open("r+b") as file:
        file.truncate(partial.stat().st_size - 7)  # in the middle of a tensor
    said = []
    convert([exact[0]], target, kind, say=said.append)
    assert said[0].startswith("Going on after ")
    assert target.read_bytes() == (tmp_path / f"whole_{name}").read_bytes()
    assert not partial.exists()


def test_another_conversion_to_the_same_name_begins_anew(exact, tmp_path):
    target = tmp_path / "t.safetensors"
    with pytest.raises(Killed):
        convert([exact[0]], target, "fp8", progress=killed_at(0.3), **SILENT)
    said = []
    convert([exact[0]], target, "bf16", say=said.append)
    assert not said
    assert error(forward(loaded(load_model(str(target)))), exact[1]) <= COST["bf16"]


def test_a_disk_that_gives_back_something_else_is_found_out(exact, tmp_path, monkeypatch):
    def damage(done, total):
        if done == total // 2:  # all is written, nothing verified
            with (tmp_path / "t.safetensors.partial").open("r+b") as file:
                file.seek(-1000, 2)
                file.write(b"\xff" * 4)

    with pytest.raises(OviError, match="differs from what was written"):
        convert([exact[0]], tmp_path / "t.safetensors", progress=damage, **SILENT)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_reported_before_anything_is_written(exact, tmp_path, monkeypatch):
    monkeypatch.setattr(tool.shutil, "disk_usage", lambda path: type("usage", (), {"free": 1_500_000}))
    with pytest.raises(OviError, match=r"0\.00 GB free"):
        convert([exact[0]], tmp_path / "t.safetensors", **SILENT)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "name", "found"),
    [("q8_0", "t.safetensors", "ends in .gguf"), ("fp8", "t.gguf", "ends in .safetensors"), ("keep", "t.bin", ".gguf")],
)
def test_a_target_that_cannot_hold_the_type_is_refused(kind, name, found, exact, tmp_path):
    with pytest.raises(OviError, match=found):
        convert([exact[0]], tmp_path / name, kind, **SILENT)


def test_the_source_is_never_the_target(exact):
    with pytest.raises(OviError, match="which is a source"):
        convert([exact[0]], exact[0], "bf16", **SILENT)


def test_fp16_that_overflows_is_refused(tmp_path):
    weights = dict(tiny_weights())
    weights["video_model.blocks.0.ffn.0.weight"] = weights["video_model.blocks.0.ffn.0.weight"] * 1e6
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(OviError, match=r"'blocks\.0\.ffn\.0\.weight' overflows"):
        convert([tmp_path / "model.safetensors"], tmp_path / "t.safetensors", "fp16", **SILENT)


def test_a_matrix_of_zeros_stays_one_in_fp8(tmp_path):
    weights = dict(tiny_weights())
    key = "video_model.blocks.0.ffn.0.weight"
    weights[key] = torch.zeros_like(weights[key])
    save_file(weights, tmp_path / "model.safetensors")
    convert([tmp_path / "model.safetensors"], tmp_path / "t.safetensors", "fp8", **SILENT)
    weight = load_model(str(tmp_path / "t.safetensors")).model.diffusion_model.blocks[0].ffn[0].weight
    assert weight.dequantize().abs().max() == 0


def test_the_command_tells_what_is_wrong_in_one_line(tmp_path, capsys):
    save_file({"something": torch.zeros(1)}, tmp_path / "model.safetensors")
    assert tool.main([str(tmp_path / "model.safetensors"), str(tmp_path / "t.safetensors")]) == 1
    assert "Found a file of an unknown kind" in capsys.readouterr().err


# -- memory ------------------------------------------------------------------------------------------------------------


class OwnMemory(threading.Thread):
    """Watches this process's bytes that are no mapped file: the machine must have these, files' pages it can drop."""

    def __enter__(self):
        self.stop, self.first, self.most = threading.Event(), self.now(), 0
        self.start()
        return self

    def __exit__(self, *error):
        self.stop.set()
        self.join()

    def run(self):
        while not self.stop.wait(0.002):
            self.most = max(self.most, self.now())

    @staticmethod
    def now():
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))

    @property
    def growth(self):
        return self.most - self.first


@pytest.mark.parametrize(("kind", "name"), [("fp8", "t.safetensors"), ("q8_0", "t.gguf")])
def test_memory_holds_a_few_tensors_not_the_file(kind, name, tmp_path):
    sizes = {"dim": 512, "ffn_dim": 1024, "num_layers": 4, "text_dim": 64}
    shapes = checkpoint.to_published_keys(checkpoint.expected_weights(OviConfig(**sizes)))
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(max(map(torch.Tensor.numel, shapes.values())), generator=generator).bfloat16()
    source = tmp_path / "large.safetensors"
    save_file({key: drawn[: value.numel()].reshape(value.shape).clone() for key, value in shapes.items()}, source)
    size = source.stat().st_size
    with OwnMemory() as memory:
        convert([source], tmp_path / name, kind, **SILENT)
    assert size > 90e6
    assert memory.most > 0
    assert memory.growth < size / 4
