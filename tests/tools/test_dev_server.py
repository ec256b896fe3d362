"""A real ComfyUI server: started, fed with workflows, and gone without a trace."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from ovi_native.ovi_core.spec import VARIANTS
from servers import COMFYUI, INSTALLATION, is_valid

from tools.dev import client, demo, full_weights, workflow
from tools.dev.problems import DevError
from tools.dev.server import Server, free_port, prepare_base
from tools.dev.setup import ROOT


@pytest.fixture
def server(shared_server: Server) -> Server:
    """A running server with the pack; its models folder has none of the published weights."""
    return shared_server


@pytest.fixture
def nodes(shared_nodes: dict[str, Any]) -> dict[str, Any]:
    return shared_nodes


def node(key: int, kind: str, values: list, *inputs: tuple[str, str, int], **more: Any) -> dict[str, Any]:
    """A node as a saved workflow holds it; ``inputs`` are (name, type, link)."""
    sockets = [{"name": name, "type": type_, "link": link} for name, type_, link in inputs]
    return {"id": key, "type": kind, "mode": 0, "inputs": sockets, "widgets_values": values, **more}


def silent_clip(frames: int = 24) -> dict[str, Any]:
    """A workflow of stock nodes that saves a video of one colour."""
    return {
        "version": 0.4,
        "nodes": [
            node(1, "EmptyImage", [64, 32, frames, 0x336699]),
            node(2, "CreateVideo", [24.0, 8], ("images", "IMAGE", 1)),
            node(3, "SaveVideo", ["video/test", "mp4", "h264", "re-encode", 30.0], ("video", "VIDEO", 2)),
            node(4, "MarkdownNote", ["only for the page"]),
        ],
        "links": [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "VIDEO"]],
    }


def test_a_subgraph_is_unfolded_with_what_its_node_is_given(nodes: dict[str, Any]):
    """Names, links in and out, and values are those of ComfyUI's page; tests/page/test_templates.py compares both."""
    inside = {
        "id": "x",
        "inputs": [{"name": "text"}, {"name": "image"}, {"name": "not set"}],
        "outputs": [{"name": "made", "linkIds": [3]}],
        "nodes": [
            node(1, "PrimitiveInt", [3, "fixed"], ("value", "INT", 4)),
            node(2, "CreateVideo", [24.0, 8], ("images", "IMAGE", 1)),
            node(3, "SaveVideo", ["inner", "mp4", "h264"], ("filename_prefix", "STRING", 2)),
        ],
        "links": [
            {"id": 1, "origin_id": -10, "origin_slot": 1, "target_id": 2, "target_slot": 0, "type": "IMAGE"},
            {"id": 2, "origin_id": -10, "origin_slot": 0, "target_id": 3, "target_slot": 0, "type": "STRING"},
            {"id": 3, "origin_id": 2, "origin_slot": 0, "target_id": -20, "target_slot": 0, "type": "VIDEO"},
            {"id": 4, "origin_id": -10, "origin_slot": 2, "target_id": 1, "target_slot": 0, "type": "INT"},
        ],
    }
    host = node(7, "x", ["outer"], ("image", "IMAGE", 1))
    host["inputs"] += [{"name": "text", "type": "STRING", "link": None, "widget": {"name": "text"}}]
    graph = {
        "nodes": [node(5, "LoadImage", ["a.png", "image"]), host, node(8, "SaveVideo", ["o"], ("video", "VIDEO", 2))],
        "links": [[1, 5, 0, 7, 0, "IMAGE"], [2, 7, 0, 8, 0, "VIDEO"]],
        "definitions": {"subgraphs": [inside]},
    }
    prompt = workflow.to_prompt(graph, nodes)
    assert list(prompt) == ["5", "7:1", "7:2", "7:3", "8"]
    assert prompt["7:1"]["inputs"] == {"value": 3}
    assert prompt["7:2"]["inputs"]["images"] == ["5", 0]
    assert prompt["7:3"]["inputs"]["filename_prefix"] == "outer"
    assert prompt["8"]["inputs"]["video"] == ["7:2", 0]


NESTED = {"id": "x", "nodes": [{"id": 1, "type": "x"}]}
"""A subgraph that holds itself."""


def test_widgets_become_inputs_by_name_and_links_win_over_them(nodes: dict[str, Any]):
    sampler = [7, "randomize", 20, 8.0, "euler", "simple", 0.5]
    graph = {
        "nodes": [
            node(1, "PrimitiveInt", [3, "fixed"]),
            node(2, "KSampler", sampler, ("steps", "INT", 1)),
            node(3, "LoadImage", ["a.png", "image"]),
        ],
        "links": [{"id": 1, "origin_id": 1, "origin_slot": 0, "target_id": 2, "target_slot": 4, "type": "INT"}],
    }
    prompt = workflow.to_prompt(graph, nodes)
    assert prompt["1"]["inputs"] == {"value": 3}
    assert prompt["2"]["inputs"] == {
        "seed": 7,
        "steps": ["1", 0],
        "cfg": 8.0,
        "sampler_name": "euler",
        "scheduler": "simple",
        "denoise": 0.5,
    }
    assert prompt["3"]["inputs"] == {"image": "a.png"}


def test_choices_that_bring_inputs_of_their_own_and_notes(nodes: dict[str, Any]):
    prompt = workflow.to_prompt(silent_clip(), nodes)
    assert set(prompt) == {"1", "2", "3"}
    assert prompt["3"]["inputs"] == {
        "filename_prefix": "video/test",
        "format": "mp4",
        "codec": "h264",
        "codec.encoding": "re-encode",
        "codec.encoding.crf": 30.0,
        "video": ["2", 0],
    }


def test_a_prompt_passes_through_and_seeds_can_be_set(nodes: dict[str, Any]):
    prompt = {"1": {"class_type": "KSampler", "inputs": {"seed": 1, "steps": 2}}}
    linked = {"2": {"class_type": "RandomNoise", "inputs": {"noise_seed": ["9", 0]}}}
    assert workflow.to_prompt(prompt, nodes) is prompt
    assert workflow.set_seed({**prompt, **linked}, 5) == {
        "1": {"class_type": "KSampler", "inputs": {"seed": 5, "steps": 2}},
        **linked,
    }


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        ({"nodes": [node(4, "EmptyImage", [64, 64, 1, 0], mode=4)]}, r"Node 4 \(EmptyImage\) is bypassed"),
        ({"nodes": [node(4, "EmptyImage", [64, 64, 1, 0], mode=2)]}, r"Node 4 \(EmptyImage\) is muted"),
        ({"nodes": [node(4, "Reroute", [])]}, "exists only on ComfyUI's page"),
        (
            {"nodes": [node(4, "x", [], mode=4)], "definitions": {"subgraphs": [{"id": "x"}]}},
            r"Node 4 \(x\) is bypassed",
        ),
        ({"nodes": [node(4, "x", [])], "definitions": {"subgraphs": [NESTED]}}, "more than 20 deep"),
        ({"nodes": [node(4, "NoSuchNode", [])]}, "no node of type 'NoSuchNode'"),
        ({"nodes": [node(4, "EmptyImage", [64, 64, 1, 0, 0])]}, r"has 5 widget values, .* has 4"),
        ({"nodes": [node(4, "CreateVideo", [24.0, 8], ("images", "IMAGE", 3))]}, "the file lacks its link 3"),
        ({"version": 0.4}, "neither a workflow saved in ComfyUI"),
    ],
)
def test_what_only_the_page_can_resolve_is_named(nodes: dict[str, Any], graph: dict, message: str):
    with pytest.raises(DevError, match=message):
        workflow.to_prompt(graph, nodes)


@pytest.mark.parametrize("file", demo.SHIPPED, ids=lambda file: file.stem)
def test_shipped_workflow_holds_one_valid_value_for_every_widget(nodes: dict[str, Any], file: Path):
    graph = workflow.load(file)
    assert file.with_suffix(".jpg").is_file()  # ComfyUI's template browser shows it
    (inside,) = graph["definitions"]["subgraphs"]
    for entry in [*graph["nodes"], *inside["nodes"]]:
        if entry["type"] in {*workflow.NOTES, inside["id"]}:
            continue
        values = entry["widgets_values"]
        slots = workflow.widget_slots(nodes[entry["type"]], values)
        assert len(values) == len(slots), entry["type"]
        for slot, value in zip(slots, values, strict=True):
            assert is_valid(slot, value), (entry["type"], slot.name, value)


@pytest.mark.parametrize("file", demo.SHIPPED, ids=lambda file: file.stem)
def test_shipped_workflow_is_accepted_and_only_lacks_the_weights(server: Server, nodes: dict[str, Any], file: Path):
    """The full ones, that is: those of the small variant come with the pack."""
    prompt = full_weights.fit_to_variant(workflow.to_prompt(workflow.load(file), nodes), VARIANTS["960x960_10s"])
    # A workflow the server refuses fails with other words: nothing of it runs.
    with pytest.raises(DevError, match=r"^Load Ovi"):
        client.run_prompt(server.url, prompt)


def test_a_workflow_runs_to_the_file_it_saves(server: Server, nodes: dict[str, Any], capsys: pytest.CaptureFixture):
    graph = silent_clip()
    history = client.run_prompt(server.url, workflow.to_prompt(graph, nodes), graph)
    assert history["status"]["status_str"] == "success"
    assert history["prompt"][3]["extra_pnginfo"]["workflow"] == graph
    (video,) = demo.saved_videos(history, server.base)
    assert video.is_file()
    assert capsys.readouterr().err.split("\n")[:3] == ["  Empty Image", "  Create Video", "  Save Video"]


def test_a_refused_value_is_reported_with_node_and_input(server: Server, nodes: dict[str, Any]):
    graph = silent_clip()
    graph["nodes"][0]["widgets_values"] = [64, 32, 0, 0]
    with pytest.raises(DevError, match=r"refused the workflow\. Empty Image \(node 1\): .* batch_size"):
        client.run_prompt(server.url, workflow.to_prompt(graph, nodes))


def test_a_failing_node_is_reported_with_what_it_said(server: Server, nodes: dict[str, Any]):
    prompt = workflow.to_prompt(silent_clip(), nodes)
    prompt["3"]["inputs"]["filename_prefix"] = "../../outside"
    with pytest.raises(DevError, match=r"^Save Video \(node 3\) failed: \w+: .*outside"):
        client.run_prompt(server.url, prompt)


def test_progress_is_printed_as_plain_lines_without_a_terminal(capsys: pytest.CaptureFixture):
    seconds = iter(range(0, 100, 2))
    with client.Progress({"5": "Sampler"}, clock=lambda: next(seconds)) as progress:
        for step in range(6):
            progress.update("5", step + 1, 6)
            progress.update("5", step + 1, 6)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "  Sampler"
    assert lines[-1] == "  Sampler: 6 of 6"
    assert len(lines) == len(set(lines)) < 7


def processes(port: int) -> list[int]:
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        line = process.info["cmdline"] or []
        if str(port) in line and any(part.endswith("main.py") for part in line):
            found.append(process.info["pid"])
    return found


def start_serve(port: int, base: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "dev.py"), "serve", "--port", str(port), "--base", str(base)]
    environment = {**os.environ, "OVI_DEV_PYTHON": sys.executable, "COMFYUI_PATH": str(COMFYUI)}
    return subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        # A shell that runs the tests in the background makes them ignore Ctrl-C, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.mark.parametrize(
    ("how", "ready", "status"), [(signal.SIGINT, True, 130), (signal.SIGTERM, False, 128 + signal.SIGTERM)]
)
def test_ending_dev_py_leaves_no_process_behind(tmp_path: Path, how: signal.Signals, ready: bool, status: int):
    port = free_port()
    dev = start_serve(port, tmp_path)
    deadline = time.monotonic() + 60
    while not processes(port):
        assert time.monotonic() < deadline
        assert dev.poll() is None
        time.sleep(0.05)
    if ready:
        assert "ComfyUI is running at" in dev.stderr.readline()
    dev.send_signal(how)
    assert dev.wait(30) == status
    dev.stderr.close()
    assert processes(port) == []


def test_a_taken_port_is_reported_with_the_way_out(tmp_path: Path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        dev = start_serve(port, tmp_path)
        message = dev.communicate(timeout=60)[1].strip()
    assert dev.returncode == 1
    assert message.startswith(f"Port {port} is taken")
    assert "--port" in message
    assert "\n" not in message


def test_a_pack_that_cannot_be_imported_stops_the_start(tmp_path: Path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "__init__.py").write_text("import no_such_module_anywhere\n")
    server = Server(INSTALLATION, tmp_path / "base", pack=broken)
    with pytest.raises(DevError, match="No module named 'no_such_module_anywhere'"):
        server.start()
    assert processes(server.port) == []


def test_another_custom_node_in_the_working_folder_is_refused(tmp_path: Path):
    (tmp_path / "custom_nodes" / "stranger").mkdir(parents=True)
    with pytest.raises(DevError, match="stranger"):
        prepare_base(tmp_path, ROOT, None)


def test_models_of_another_folder_replace_those_of_the_last_run(tmp_path: Path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        prepare_base(tmp_path / "base", ROOT, tmp_path / name)
        assert (tmp_path / "base" / "models").resolve() == tmp_path / name
    prepare_base(tmp_path / "base", ROOT, None)
    assert (tmp_path / "base" / "models").is_dir()
