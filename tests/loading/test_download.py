"""Downloads against a server that cuts, stalls, lies and damages: what is told, what is left, and the second try."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import comfy.model_management
import folder_paths
import hub_server
import huggingface_hub.constants as settings
import pytest
import torch
from filelock import FileLock
from hub_server import File
from native_cases import finite, sample, tiny_weights
from ovi_native.nodes.loading.loaders import OviPipelineLoader
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.loading import fingerprints, installed
from ovi_native.ovi_core.loading import manifest as files_of_ovi
from ovi_native.ovi_core.loading.download import Gone, Source, fetch
from ovi_native.ovi_core.loading.variant_detection import variant_of
from ovi_native.ovi_core.spec import METADATA_KEY, VARIANTS
from ovi_native.tools import standins
from ovi_native.tools.dev import fetch_models
from ovi_native.tools.dev.problems import DevError
from refusals import LONGEST
from safetensors.torch import save

ROOT = Path(__file__).resolve().parents[2]
PIECE = settings.DOWNLOAD_CHUNK_SIZE  # the library hands over this much at a time
SOURCE = Source("someone/weights", "folder/big.safetensors")
ADDRESS = "someone/weights/folder/big.safetensors"
DATA = random.Random(1).randbytes(2 * PIECE + 12_345)


@pytest.fixture
def hub(monkeypatch):
    """The server, which the library takes for the hub; its waits are short."""
    with hub_server.running() as server:
        monkeypatch.setattr(settings, "ENDPOINT", server.url)
        monkeypatch.setattr(
            settings, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(settings, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
        monkeypatch.setattr("huggingface_hub.file_download.time", SimpleNamespace(sleep=lambda seconds: None))
        server.files[ADDRESS] = File(DATA)
        yield server


class Once:
    """Progress that keeps what it was told, and raises ``error`` when half has come."""

    def __init__(self, error=None):
        self.told, self.error = [], error

    def __call__(self, done, total):
        self.told.append((done, total))
        if self.error and done >= total / 3:
            raise self.error


def get(target, error=None, say=lambda line: None):
    progress = Once(error)
    fetch([(SOURCE, target)], progress, say)
    return progress.told


def refused(target, *, found, remedy="", error=None):
    with pytest.raises(OviError) as caught:
        get(target, error)
    assert caught.value.input == "download_missing"
    assert found in caught.value.found
    assert remedy in caught.value.remedy
    assert len(str(caught.value)) <= LONGEST
    assert "\n" not in str(caught.value)
    assert not target.exists()


def left(folder):
    return sorted(path.suffix for path in folder.iterdir() if path.name != fingerprints.LIST)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "big.safetensors"


def test_a_file_comes_whole_of_one_revision_and_leaves_nothing_else(hub, target):
    lines = []
    told = get(target, say=lines.append)
    assert target.read_bytes() == DATA
    assert left(target.parent) == [".safetensors"]
    assert [(method, revision) for method, revision, _, _ in hub.log] == [("HEAD", "main"), ("GET", hub_server.COMMIT)]
    assert told[-1] == (len(DATA), len(DATA))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert "size and SHA-256" in lines[-1]


def test_what_is_stopped_goes_on_where_it_was(hub, target):
    with pytest.raises(KeyboardInterrupt):
        get(target, KeyboardInterrupt())
    assert not target.exists()
    assert ".partial" in left(target.parent)
    get(target)
    assert target.read_bytes() == DATA
    assert hub.ranges() == ["", f"bytes={PIECE}-"]
    assert left(target.parent) == [".safetensors"]


@pytest.mark.parametrize("fault", ["cut", "stall"])
def test_a_connection_that_breaks_is_taken_up_again_in_the_same_try(hub, target, fault):
    hub.files[ADDRESS].faults = [fault]
    get(target)
    assert target.read_bytes() == DATA
    assert hub.ranges() == ["", f"bytes={PIECE}-"]


def test_a_connection_that_stays_broken_is_told_and_the_next_try_goes_on(hub, target):
    hub.files[ADDRESS].faults = ["cut"] * 20
    refused(target, found="connection failed or stalled", remedy="what has come is kept")
    hub.files[ADDRESS].faults, kept = [], len(hub.ranges())
    get(target)
    assert target.read_bytes() == DATA
    assert int(re.sub(r"\D", "", hub.ranges()[kept])) >= PIECE


@pytest.mark.parametrize(
    ("fault", "found"),
    [("page", "a web page came"), ("damage", "damaged on the way"), ("short", "bytes came, Hugging Face has")],
)
def test_what_is_wrong_is_removed_and_the_next_try_is_clean(hub, target, fault, found):
    hub.files[ADDRESS].faults = [fault]
    refused(target, found=found, remedy="Try again")
    assert left(target.parent) in ([], [".lock"])
    get(target)
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("more", [-1000, 1000])
def test_a_hub_that_lies_about_the_size_is_not_believed(hub, target, more):
    hub.files[ADDRESS].size += more
    refused(target, found=f"{len(DATA):,} bytes came, Hugging Face has {len(DATA) + more:,}")
    hub.files[ADDRESS].size = len(DATA)
    get(target)
    assert target.read_bytes() == DATA


def test_a_damaged_rest_does_not_spoil_the_try_after_it(hub, target):
    with pytest.raises(KeyboardInterrupt):
        get(target, KeyboardInterrupt())
    hub.files[ADDRESS].faults = ["damage"]
    refused(target, found="damaged on the way")
    get(target)
    assert target.read_bytes() == DATA
    assert hub.ranges()[-1] == ""


def test_another_revision_is_not_the_rest_of_the_first(hub, target):
    with pytest.raises(KeyboardInterrupt):
        get(target, KeyboardInterrupt())
    hub.files[ADDRESS] = File(DATA[::-1])
    get(target)
    assert target.read_bytes() == DATA[::-1]


@pytest.mark.parametrize(
    ("status", "found", "remedy"),
    [(401, "refused access (401)", "HF_TOKEN"), (403, "refused", "licence"), (404, "no such file", "HF_ENDPOINT")],
)
def test_a_refusal_of_the_hub_says_what_to_do(hub, target, status, found, remedy):
    hub.files[ADDRESS].status = status
    refused(target, found=found, remedy=remedy)


def test_a_gated_repository_asks_for_a_token(hub, target):
    hub.token = "secret"
    refused(target, found="refused access (401)", remedy="set HF_TOKEN")


def test_a_server_in_trouble_is_told_with_its_answer(hub, target):
    hub.files[ADDRESS].status = 503
    refused(target, found="answered 503", remedy="Run again")


def test_a_log_in_page_in_place_of_the_hub_is_named(hub, target):
    hub.files[ADDRESS].faults = ["log-in page"]
    refused(target, found="no file of Hugging Face (a log-in page", remedy="HF_ENDPOINT and proxy")


def test_without_a_network_nothing_is_left(hub, target):
    hub.shutdown()
    hub.server_close()
    refused(target, found="connection failed", remedy="Check the network")
    assert left(target.parent) == []


def test_offline_by_the_librarys_setting_is_told(hub, target, monkeypatch):
    monkeypatch.setattr(settings, "HF_HUB_OFFLINE", True)
    refused(target, found="HF_HUB_OFFLINE is set", remedy="Unset it")
    assert hub.log == []


def test_too_small_a_disk_is_told_with_the_figures_before_anything_is_fetched(hub, target, monkeypatch):
    real = shutil.disk_usage(target.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: real._replace(free=20_000_000))
    refused(target, found="20.0 MB free", remedy="Free 1.0 MB or more")
    assert hub.ranges() == []


def test_a_disk_that_fills_up_keeps_what_came(hub, target):
    refused(target, found="the disk is full", remedy="kept", error=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    get(target)
    assert target.read_bytes() == DATA
    assert hub.ranges() == ["", f"bytes={PIECE}-"]


def test_two_at_once_do_not_write_into_one_file(hub, target):
    with pytest.raises(KeyboardInterrupt):
        get(target, KeyboardInterrupt())
    partial = next(target.parent.glob("*.partial"))
    with FileLock(f"{partial}.lock"):
        refused(target, found="another program is fetching it", remedy="Wait")
    get(target)


def test_without_a_hash_only_the_size_is_checked_and_said_so(hub, target):
    hub.files[ADDRESS].etag = "a" * 40
    lines = []
    get(target, say=lines.append)
    assert "no SHA-256, but its size" in lines[-1]


# What was fetched is known again.


def renamed_after_fetching(hub, folder, published="model_960x960.safetensors"):
    hub.files[f"chetwinlow1/Ovi/{published}"] = File(DATA)
    fetch([(Source("chetwinlow1/Ovi", published), folder / published)], lambda done, total: None)
    return (folder / published).rename(folder / "my favourite.safetensors")


def test_a_renamed_file_is_known_by_its_content(hub, tmp_path):
    file = renamed_after_fetching(hub, tmp_path)
    variant, how = variant_of(str(file), {})
    assert variant == VARIANTS["960x960_5s"]
    assert "content" in how
    assert variant_of(str(file), {METADATA_KEY: "720x720_5s"})[0] == VARIANTS["720x720_5s"]
    (tmp_path / "other.safetensors").write_bytes(DATA[::-1])
    assert variant_of(str(tmp_path / "other.safetensors"), {})[0] is None


def test_content_counts_more_than_a_misleading_name(hub, tmp_path):
    file = renamed_after_fetching(hub, tmp_path).rename(tmp_path / "model_960x960_10s.safetensors")
    assert variant_of(str(file), {})[0] == VARIANTS["960x960_5s"]


def test_the_list_tells_the_published_hash_and_a_broken_one_is_as_none(hub, tmp_path):
    file = renamed_after_fetching(hub, tmp_path)
    (entry,) = json.loads((tmp_path / fingerprints.LIST).read_text(encoding="utf-8")).values()
    assert entry == {"source": "chetwinlow1/Ovi/model_960x960.safetensors", "sha256": hashlib.sha256(DATA).hexdigest()}
    for broken in ("{", "[]", '{"a": 1}'):
        (tmp_path / fingerprints.LIST).write_text(broken, encoding="utf-8")
        assert variant_of(str(file), {})[0] is None


# The node and the command.

VARIANT = VARIANTS["720x720_5s"]


def publish(hub):
    """Small weights in the place of every published file of the variant."""
    sound = standins.audio_vae(0)
    weights = {
        "model": tiny_weights(),
        "text encoder": standins.text_encoder(0),
        "video VAE": standins.video_vae(0),
        "audio VAE": {key.removeprefix("vae."): weight for key, weight in sound.items() if key.startswith("vae.")},
        "vocoder": {
            key.removeprefix("vocoder."): weight for key, weight in sound.items() if key.startswith("vocoder.")
        },
    }
    for part in files_of_ovi.parts_of(VARIANT):
        hub.files[address(part)] = File(as_file(weights[part.what], part.file))


def half(weights, prefix):
    return {key.removeprefix(prefix): weight for key, weight in weights.items() if key.startswith(prefix)}


def as_file(weights, name):
    if name.endswith(".safetensors"):
        return save(weights)
    file = io.BytesIO()
    torch.save(weights, file)
    return file.getvalue()


def address(part):
    return f"{part.source.repo}/{part.source.path}"


@pytest.fixture
def models(tmp_path, monkeypatch):
    """Folders of models, empty; the first of diffusion_models has its older name, as ComfyUI's."""
    for kind, names in {"diffusion_models": ("unet", "diffusion_models"), "text_encoders": (), "vae": ()}.items():
        endings = folder_paths.folder_names_and_paths[kind][1]
        folders = [str(tmp_path / name) for name in names or (kind,)]
        monkeypatch.setitem(folder_paths.folder_names_and_paths, kind, (folders, endings))
        for folder in folders:
            os.mkdir(folder)
    folder_paths.filename_list_cache.clear()
    return tmp_path


def test_nothing_is_fetched_unasked(hub, models):
    publish(hub)
    with pytest.raises(OviError, match="switch download_missing on"):
        OviPipelineLoader.execute(VARIANT.name)
    assert hub.log == []


def test_the_loader_fetches_what_is_missing_and_loads_it(hub, models):
    publish(hub)
    there = next(part for part in files_of_ovi.parts_of(VARIANT) if part.what == "video VAE")
    (models / "vae" / "Wan2.2_VAE.safetensors").write_bytes(hub.files[address(there)].data)
    model = OviPipelineLoader.execute(VARIANT.name, download_missing=True).result[0]
    assert finite(sample(model))
    assert address(there) not in {path for _, _, path, _ in hub.log}
    assert sorted(str(path.relative_to(models)) for path in models.rglob("[!.]*.*")) == [
        "diffusion_models/ovi_720x720_5s.safetensors",
        "text_encoders/umt5_xxl_fp16.safetensors",
        "vae/Wan2.2_VAE.safetensors",
        "vae/best_netG.pt",
        "vae/v1-16.pth",
    ]
    asked = len(hub.log)
    OviPipelineLoader.execute(VARIANT.name, download_missing=True)
    assert len(hub.log) == asked


# Sources that are gone.


def gone(hub, what, **how):
    """Publish some bytes as each file, but ``what`` at its second source alone; returns the part."""
    parts = {part.what: part for part in files_of_ovi.parts_of(VARIANT)}
    for part in parts.values():
        hub.files[address(part)] = File(part.what.encode() * 100)
    file = hub.files.pop(address(parts[what]))
    if how:
        hub.files[address(parts[what])] = File(file.data, **how)
    hub.files[second(parts[what])] = file
    return parts[what]


def second(part):
    return f"{part.others[0].repo}/{part.others[0].path}"


@pytest.mark.parametrize("how", [{}, {"status": 403}, {"status": 401}, {"moved": "http://127.0.0.1:9/elsewhere"}])
def test_a_source_that_is_gone_leads_to_the_next_one_when_the_user_agrees(hub, models, how):
    part = gone(hub, "text encoder", **how)
    with pytest.raises(OviError) as caught:
        installed.fetch_missing(VARIANT, lambda done, total: None)
    assert "switch other_sources on" in caught.value.remedy
    assert f"(11.4 GB, https://huggingface.co/{part.others[0].repo}/" in caught.value.remedy
    assert not [method for method, *_ in hub.log if method == "GET"], "nothing is fetched before the user is asked"
    assert not list(models.rglob("*.*"))
    (note,) = installed.fetch_missing(VARIANT, lambda done, total: None, other_sources=True)
    assert "is gone from huggingface.co/Comfy-Org/Wan_2.1" in note
    assert "(11.4 GB, https://huggingface.co/Comfy-Org/Wan_2.2" in note
    assert {path for method, _, path, _ in hub.log if method == "GET"} == {
        *(address(other) for other in files_of_ovi.parts_of(VARIANT) if other is not part),
        second(part),
    }


def test_the_node_passes_on_that_the_user_agrees_and_says_what_came(hub, models, caplog):
    publish(hub)
    part = next(part for part in files_of_ovi.parts_of(VARIANT) if part.what == "video VAE")
    hub.files[second(part)] = hub.files.pop(address(part))
    with pytest.raises(OviError, match="switch other_sources on"):
        OviPipelineLoader.execute(VARIANT.name, download_missing=True)
    assert finite(sample(OviPipelineLoader.execute(VARIANT.name, "bf16", True, True).result[0]))
    assert "'wan2.2_vae.safetensors' is gone from huggingface.co/Comfy-Org/Wan_2.2_ComfyUI" in caplog.text


def test_a_repository_that_was_renamed_is_followed_to_its_new_name(hub, target):
    hub.files["other/weights/folder/big.safetensors"] = hub.files[ADDRESS]
    hub.files[ADDRESS] = File(DATA, moved="/other/weights/resolve/main/folder/big.safetensors")
    get(target)
    assert target.read_bytes() == DATA


def test_where_no_source_is_left_the_error_is_the_last_ones(hub, models):
    part = gone(hub, "video VAE")
    del hub.files[second(part)]
    with pytest.raises(OviError, match=r"huggingface.co/Comfy-Org/Wan-2.2: .*404"):
        installed.fetch_missing(VARIANT, lambda done, total: None, other_sources=True)


def test_what_had_come_before_a_source_failed_is_not_fetched_again(hub, models, monkeypatch):
    """Gone in the middle: the first file of the list is there when the second one's source refuses."""
    parts = [part for part in files_of_ovi.parts_of(VARIANT) if part.what in ("text encoder", "video VAE")]
    asked = []

    def fetch(files, *more):
        asked.append([source.repo for source, _ in files])
        if len(asked) == 1:
            error = Gone(files[1][0], OviError(input="x", found="y", accepted="z", remedy="w"))
            error.done = 1
            raise error

    monkeypatch.setattr(files_of_ovi, "fetch", fetch)
    places = [(part, models / part.folder / part.saved_as) for part in parts]
    notes = files_of_ovi.fetch_parts(places, lambda done, total: None, agree=lambda part, other: True)
    assert asked == [[part.source.repo for part in parts], ["Comfy-Org/Wan-2.2"]]
    assert len(notes) == 1


def test_a_known_hash_is_checked_where_the_server_gives_none(hub, target):
    hub.files[ADDRESS].etag = "no-hash"
    wrong = Source(SOURCE.repo, SOURCE.path, 0, "0" * 64)
    with pytest.raises(OviError, match="damaged on the way"):
        fetch([(wrong, target)], Once())
    fetch([(Source(SOURCE.repo, SOURCE.path, 0, hashlib.sha256(DATA).hexdigest()), target)], Once())
    assert target.read_bytes() == DATA


@pytest.mark.parametrize(
    ("yes", "answer", "agreed"), [(False, "y", True), (True, None, True), (False, "", False), (False, EOFError, False)]
)
def test_the_command_asks_before_it_takes_another_source(hub, tmp_path, monkeypatch, yes, answer, agreed):
    part, asked = gone(hub, "text encoder"), []

    def answered(question):
        asked.append(question)
        if answer is EOFError:
            raise EOFError
        return answer

    monkeypatch.setattr("builtins.input", answered)
    with nullcontext() if agreed else pytest.raises(DevError, match=r"Or give --yes, and 'umt5_xxl_fp16"):
        fetch_models.run(VARIANT.name, tmp_path, yes)
    assert len(asked) == (not yes)
    assert all("'umt5_xxl_fp16.safetensors' (11.4 GB) from huggingface.co/Comfy-Org/Wan_2.2" in line for line in asked)
    assert (tmp_path / part.folder / part.saved_as).exists() == agreed


def test_a_stopped_run_stops_the_download(hub, models):
    publish(hub)
    comfy.model_management.interrupt_current_processing(True)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        OviPipelineLoader.execute(VARIANT.name, download_missing=True)
    assert not list(models.rglob("*.safetensors"))


def test_progress_reaches_the_hosts_bar(hub, models, monkeypatch):
    publish(hub)
    shown = []
    monkeypatch.setattr(
        "comfy.utils.PROGRESS_BAR_HOOK", lambda value, total, *more, **others: shown.append((value, total))
    )
    OviPipelineLoader.execute(VARIANT.name, download_missing=True)
    size = sum(len(file.data) for path, file in hub.files.items() if path != ADDRESS)
    assert shown[0][1] == size
    assert (size, size) in shown


def command(hub, folder, **environment):
    settings = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_TELEMETRY": "1", **environment}
    arguments = ["--with-packages", "fetch-models", "--variant", VARIANT.name, "--to", str(folder)]
    return subprocess.run(
        [sys.executable, str(ROOT / "dev.py"), *arguments],
        env=settings,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_goes_by_the_librarys_own_mirror_and_token(hub, tmp_path):
    publish(hub)
    hub.token = "secret"
    without = command(hub, tmp_path, HF_TOKEN="")
    assert without.returncode == 1
    assert "refused access (401)" in without.stderr
    assert "Traceback" not in without.stderr
    done = command(hub, tmp_path, HF_TOKEN="secret")
    assert done.returncode == 0, done.stderr
    for part in files_of_ovi.parts_of(VARIANT):
        assert (tmp_path / part.folder / part.saved_as).read_bytes() == hub.files[address(part)].data
    assert "there" in command(hub, tmp_path, HF_HUB_OFFLINE="1").stdout


# What shipped workflows say of their files.

WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
PUBLISHED = {entry["name"]: entry for variant in VARIANTS.values() for entry in files_of_ovi.model_list(variant)}
MODEL_FILE = re.compile(r".+\.(safetensors|sft|ckpt|pth?|bin|gguf)$")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_shipped_workflow_tells_the_host_where_its_files_are_to_be_had(path):
    (subgraph,) = json.loads(path.read_text(encoding="utf-8"))["definitions"]["subgraphs"]
    for node in subgraph["nodes"]:
        models = {entry["name"]: entry for entry in node["properties"].get("models", [])}
        if not node["type"].startswith("Ovi"):
            assert all(entry["url"].startswith("https://huggingface.co/") for entry in models.values()), node["type"]
            models = {name: entry for name, entry in models.items() if name in PUBLISHED}  # not the others'
        assert models.items() <= PUBLISHED.items(), node["type"]
        # A file that a loader names is offered by ComfyUI's own dialog, by what the node says of it.
        values = node.get("widgets_values", [])
        named = {value for value in values if isinstance(value, str) and MODEL_FILE.match(value)}
        assert named & PUBLISHED.keys() <= models.keys(), node["type"]
        if node["type"] == "OviPipelineLoader":
            assert list(models.values()) == files_of_ovi.model_list(VARIANTS[values[0]])
            assert values[2] is False


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_file_can_be_offered_by_the_hosts_dialog(name):
    entry = PUBLISHED[name]
    assert entry["url"].startswith("https://huggingface.co/")
    assert entry["url"].partition("/resolve/main/")[2]
    assert name.endswith((".safetensors", ".pth", ".pt"))  # the endings that the dialog downloads
    assert entry["directory"] in folder_paths.folder_names_and_paths
    found = [part for variant in VARIANTS.values() for part in files_of_ovi.parts_of(variant) if part.among([name])]
    assert found, "what is fetched has to be found by its name"
