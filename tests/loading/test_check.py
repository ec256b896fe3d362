"""Ovi Check's report: what is there, damaged, missing, and what fits which card; nothing private in it."""

from __future__ import annotations

import getpass
import json
import platform
import re
from pathlib import Path

import folder_paths
import pytest
import tiny_ovi as tiny
import torch
from fusion_cases import published_weights
from ovi_native.nodes.loading.check import OviCheck
from ovi_native.ovi_core.loading import check, contents, machine
from ovi_native.ovi_core.loading.machine import Card
from ovi_native.ovi_core.model.checkpoint import stored_bytes
from ovi_native.ovi_core.network.transformer import OviConfig
from ovi_native.ovi_core.spec import VARIANTS
from safetensors.torch import save_file

from tools import standins
from tools.dev import check as command

ROOT = Path(__file__).resolve().parents[2]
GIB = 2**30
TEN = VARIANTS["960x960_10s"]


@pytest.fixture
def models(tmp_path, monkeypatch):
    """ComfyUI's folders in the home of a user called anna, on a computer called laptop-of-anna."""
    home = tmp_path / "home" / "anna"
    monkeypatch.setattr(Path, "home", lambda: home)
    monkeypatch.setattr(getpass, "getuser", lambda: "anna")
    monkeypatch.setattr(platform, "node", lambda: "laptop-of-anna.local")
    for kind in (kind for kind in (*check.FOLDERS, check.LORAS) if kind in folder_paths.folder_names_and_paths):
        endings = folder_paths.folder_names_and_paths[kind][1]
        monkeypatch.setitem(folder_paths.folder_names_and_paths, kind, ([str(home / "models" / kind)], endings))
        (home / "models" / kind / "sub").mkdir(parents=True)
    folder_paths.filename_list_cache.clear()
    return home / "models"


def tower(models, folder, name):
    save_file({key: value.bfloat16() for key, value in published_weights(tiny.SIZES).items()}, models / folder / name)


def section(text: str, title: str) -> list[str]:
    parts = {part.splitlines()[0]: part.splitlines()[1:] for part in text.split("\n\n")}
    return [line.strip() for line in parts.get(title, [])]


def test_every_file_is_named_by_what_is_in_it_and_where_it_belongs(models):
    tower(models, "diffusion_models", "sub/Ovi 960x960 10s, mine.safetensors")
    tower(models, "checkpoints", "model.safetensors")
    save_file(standins.text_encoder(0), models / "text_encoders" / "encoder.safetensors")
    save_file(standins.audio_vae(0), models / "vae" / "both.safetensors")
    save_file(standins.video_vae(0), models / "diffusion_models" / "vae of video.safetensors")
    save_file({"lonely": torch.zeros(2)}, models / "vae" / "other.safetensors")
    text = OviCheck.execute().result[0]
    files = section(text, "Files")
    elsewhere = "Load Ovi (all in one) takes it from here; for other nodes put it into models"
    for line in (
        r"diffusion_models/sub/Ovi 960x960 10s, mine\.safetensors: model, [\d.]+ MB, 16 bits a value, 960x960_10s",
        r"text_encoders/encoder\.safetensors: text encoder, .*",
        r"vae/both\.safetensors: audio VAE, vocoder, .*",
        rf"checkpoints/model\.safetensors: model, .*: {re.escape(elsewhere)}/diffusion_models",
        rf"diffusion_models/vae of video\.safetensors: video VAE, .*: {re.escape(elsewhere)}/vae",
        r"1 other files in .*",
    ):
        assert [found for found in files if re.fullmatch(line, found)], (line, files)
    assert len(files) == 6
    assert section(text, "Files that cannot be used") == []
    assert [line for line in section(text, "Variants") if line.startswith("960x960_10s: complete")]
    assert section(text, "LoRAs") == []


SIZES = {"for Ovi": (3072, 3072), "for Wan 14B": (5120, 5120), "for the small model": (256, 256)}


def test_loras_that_fit_are_listed_by_what_is_in_them(models):
    for name, (rows, columns) in SIZES.items():
        halves = {"lora_A.weight": torch.zeros(4, columns), "lora_B.weight": torch.zeros(rows, 4)}
        named = {f"diffusion_model.blocks.0.self_attn.q.{half}": value for half, value in halves.items()}
        save_file(named, models / "loras" / f"{name}.safetensors")
    layer = "lora_unet_audio_model_blocks_1_ffn_0"  # as kohya's trainers write it
    sound = {f"{layer}.lora_down.weight": torch.zeros(4, 3072), f"{layer}.lora_up.weight": torch.zeros(14336, 4)}
    save_file(sound, models / "loras" / "sub" / "sound.safetensors")
    save_file({"lora_te_text_model.lora_down.weight": torch.zeros(4, 768)}, models / "loras" / "SD.safetensors")
    save_file({"blocks.0.self_attn.q.weight": torch.zeros(4, 4)}, models / "loras" / "none.safetensors")
    (models / "loras" / "damaged.safetensors").write_bytes(b"\xff" * 100)
    assert section(OviCheck.execute().result[0], "LoRAs") == [
        "loras/for Ovi.safetensors: for the video tower, 0.1 MB",
        "loras/for the small model.safetensors: for the video tower of the small model, 0.0 MB",
        "loras/sub/sound.safetensors: for the audio tower, 0.3 MB",
    ]


def test_what_is_missing_is_named_with_size_folder_and_link(models):
    lines = section(OviCheck.execute("960x960_10s").result[0], "Missing for 960x960_10s")
    hub = "https://huggingface.co"
    assert lines[0] == (
        "model: model_960x960_10s.safetensors, 23.3 GB, into models/diffusion_models, from "
        f"{hub}/chetwinlow1/Ovi/resolve/main/model_960x960_10s.safetensors"
    )
    assert lines[1].startswith("or Wan2_2-5B-Ovi_960x960_10s_fp8_e4m3fn_scaled_KJ.safetensors, 12.3 GB, into models/")
    found = "\n".join(lines)
    for part in ("umt5_xxl_fp16.safetensors, 11.4 GB", "wan2.2_vae.safetensors, 1.4 GB", "v1-16.pth, 0.7 GB"):
        assert part in found
    assert "best_netG.pt, 0.4 GB, into models/vae, from https://huggingface.co/hkchengrex/MMAudio/" in found
    assert "umt5_xxl_fp8_e4m3fn_scaled.safetensors, 6.7 GB" in found


BROKEN = {
    "empty.safetensors": b"",
    "noise.safetensors": b"\xff" * 100,
    "page.safetensors": b"<!DOCTYPE html><html>log in</html>",
    "pointer.safetensors": b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
    "code.pt": b"\x80\x04cos\nsystem\n(S'echo'\ntR.",
    "header.gguf": b"GGUF\x03\x00\x00\x00" + b"\xff" * 40,
    "length.safetensors": (1 << 40).to_bytes(8, "little") + b"{}",
}


@pytest.mark.parametrize("folder", ["diffusion_models", "text_encoders", "vae"])
def test_a_damaged_file_is_a_line(models, folder):
    for name, data in BROKEN.items():
        (models / folder / name).write_bytes(data)
    tower(models, folder, "cut.safetensors")
    with (models / folder / "cut.safetensors").open("rb+") as file:
        file.truncate(5000)
    (models / folder / "folder.safetensors").mkdir()
    (models / folder / "nowhere.safetensors").symlink_to(models / "not there")
    wrong = section(OviCheck.execute().result[0], "Files that cannot be used")
    assert {line.partition("/")[2].partition(":")[0] for line in wrong} == {*BROKEN, "cut.safetensors"}
    said = "\n".join(wrong)
    for what in ("an empty file", "a web page", "a Git LFS pointer", "holds code or is damaged"):
        assert what in said


def test_an_incomplete_model_says_what_it_lacks(models):
    weights = published_weights(tiny.SIZES)
    del weights["video_model.blocks.0.self_attn.q.weight"]
    save_file(weights, models / "diffusion_models" / "model_960x960.safetensors")
    (line,) = section(OviCheck.execute().result[0], "Files that cannot be used")
    assert "self_attn.q" in line


def test_a_parser_that_fails_is_a_line_too(models, monkeypatch):
    tower(models, "diffusion_models", "model.safetensors")

    def fail(path):
        raise RuntimeError("not foreseen")

    monkeypatch.setattr(check.inspection, "inspect", fail)
    (line,) = section(OviCheck.execute().result[0], "Files that cannot be used")
    assert line == "diffusion_models/model.safetensors: cannot be read (RuntimeError)"


def test_a_file_that_came_since_comfyui_listed_the_folder_is_seen(models):
    folder_paths.get_filename_list("vae")
    save_file(standins.video_vae(0), models / "vae" / "new.safetensors")
    assert "vae/new.safetensors" in OviCheck.execute().result[0]
    assert OviCheck.fingerprint_inputs(variant="auto") != OviCheck.fingerprint_inputs(variant="auto")


# Nothing private, nothing that runs over.


def test_neither_user_nor_computer_nor_a_folder_above_the_models_is_named(models, monkeypatch):
    tower(models, "diffusion_models", "Ovi of anna.safetensors")
    (models / "vae" / "Laptop-of-Anna.safetensors").write_bytes(b"")
    locked = models / "vae" / "locked.safetensors"
    save_file(standins.video_vae(0), locked)
    real = contents.read_header

    def refuse(path, **more):
        if path == str(locked):
            raise contents.OviError(
                input="", found=f"'x', [Errno 13] Permission denied: '{path}'", accepted="", remedy=""
            )
        return real(path, **more)

    monkeypatch.setattr(contents, "read_header", refuse)
    text = OviCheck.execute().result[0]
    assert "Ovi of ….safetensors" in text
    assert "Permission denied: '~/models/vae/locked.safetensors'" in text
    assert not re.search("anna|laptop", text, re.IGNORECASE)
    assert str(models.parents[2]) not in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"C:\Users\Anna\ComfyUI\models", r"~\ComfyUI\models"),
        (r"open 'C:\\Users\\anna\\x' failed", r"open '~\\x' failed"),
        ("hanna, annabel and anna", "hanna, annabel and …"),
    ],
)
def test_names_are_taken_out_on_windows_too(monkeypatch, text, expected):
    from pathlib import PureWindowsPath

    monkeypatch.setattr(Path, "home", lambda: PureWindowsPath(r"C:\Users\anna"))
    monkeypatch.setattr(getpass, "getuser", lambda: "anna")
    monkeypatch.setattr(platform, "node", lambda: "DESKTOP-1")
    assert check.anonymous(text) == expected


def test_a_system_without_users_is_reported_too(models, monkeypatch):
    def nobody():
        raise OSError("no user")

    monkeypatch.setattr(getpass, "getuser", nobody)
    monkeypatch.setattr(Path, "home", lambda: Path("/"))
    assert "https://huggingface.co/" in OviCheck.execute().result[0]


def test_hostile_names_and_many_files_stay_short(models):
    for index in range(100):
        (models / "vae" / f"{index}{'x' * 180}.safetensors").write_bytes(b"")
    (models / "vae" / "line\nbreak\x1b[31m.safetensors").write_bytes(b"")
    text = OviCheck.execute().result[0]
    assert "\x1b" not in text
    assert "and 41 more such files" in text
    assert max(map(len, text.splitlines())) <= check.LONGEST_LINE + 10


# The card.


def test_the_weights_have_the_size_that_a_card_was_measured_to_hold():
    report = json.loads((ROOT / "docs" / "benchmark-h200.json").read_text())
    measured = re.findall(r'"weights[^"]*": (\d{10,})', json.dumps(report))
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    assert measured or "besides the weights (23.6 GB)" in page
    assert stored_bytes(OviConfig(), torch.bfloat16) / 1e9 == pytest.approx(23.6, abs=0.05)


def cards() -> list[tuple[int, str, str]]:
    """Of each card in the README's table: its memory, and the variant and precision that it recommends."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) GB \| `(\w+)`, [\dx]+ \| (\w+) \|", text, re.MULTILINE)
    return [(int(size), variant, precision) for size, variant, precision in rows]


@pytest.mark.parametrize(("size", "variant", "precision"), cards())
def test_the_readme_and_the_check_recommend_the_same(size, variant, precision):
    card = Card("a card", size * GIB, size * GIB)
    best = machine.best(card, machine.needs())
    assert (best.variant.name, best.precision) == (variant, precision)
    assert len(cards()) == 5


@pytest.mark.parametrize(
    ("size", "advice"),
    [
        (1, "too large for this card"),
        (2, "one prompt after the other; ComfyUI streams 11.3 GB of the weights (90%) in every step: slower"),
        (8, "with Ovi Low Memory at 4096; ComfyUI streams 6.2 GB of the weights (49%) in every step: slower"),
        (16, "fits with Ovi Low Memory at 4096"),
        (24, "fits, nothing to switch on"),
    ],
)
def test_what_to_switch_on_is_said(size, advice):
    card = Card("a card", size * GIB, size * GIB)
    lines = machine.fit(card)
    assert lines[0].endswith(advice)
    assert any("in tiles" in line for line in lines)
    assert len([line for line in lines if " in fp8 (" in line]) == 3


def test_a_card_that_others_use_is_said(monkeypatch):
    assert "less than half of the card is free" in machine.fit(Card("a card", 24 * GIB, 5 * GIB))[-1]


def test_without_a_card_the_small_model_is_what_runs(models):
    text = OviCheck.execute().result[0]
    assert "card: none, ComfyUI uses the CPU" in text
    assert "no card: the small model" in section(text, "This card")[0]


def test_flags_that_give_noise_or_black_frames_are_named(monkeypatch):
    import comfy.cli_args

    monkeypatch.setattr(comfy.cli_args.args, "use_sage_attention", True)
    monkeypatch.setattr(comfy.cli_args.args, "fp16_unet", True)
    monkeypatch.setattr(comfy.cli_args.args, "reserve_vram", 1.5)
    text = "\n".join(machine.facts("1", Card("")))
    assert "--use-sage-attention" in text
    assert "--reserve-vram 1.5" in text
    assert "flag --fp16-unet: the published weights overflow in float16" in text


def test_the_command_prints_it_for_a_folder_that_it_is_given(models, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command.pack, "load", lambda *flags: None)  # it is loaded already
    (tmp_path / "given" / "diffusion_models").mkdir(parents=True)
    tower(tmp_path / "given", "diffusion_models", "Ovi 960x960.safetensors")
    assert command.main(str(tmp_path / "given")) == 0
    printed = capsys.readouterr().out
    assert "diffusion_models/Ovi 960x960.safetensors: model" in printed
    assert "mini: complete" in printed
