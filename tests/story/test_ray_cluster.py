"""Where a farm's address comes from, who reaches what Ray starts here, and what is taken from a worker."""

from __future__ import annotations

import ast
import pickle
import subprocess
import sys
from pathlib import Path

import folder_paths
import pytest
from ovi_native.nodes.storyboard import OviStoryboard
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.story import farm_worker, ray_cluster

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def user_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "get_user_directory", lambda: str(tmp_path))
    monkeypatch.delenv("OVI_FARM_ADDRESS", raising=False)
    return tmp_path


# -- the address


@pytest.mark.parametrize("switch", ["", "  ", "\n"])
def test_an_empty_switch_is_off_whatever_is_set(switch, monkeypatch):
    monkeypatch.setenv("OVI_FARM_ADDRESS", "auto")
    assert ray_cluster.address(switch) == ""


@pytest.mark.parametrize("switch", ["on", " On ", "ON\n"])
def test_the_address_is_that_of_this_machine(switch, user_folder, monkeypatch):
    (user_folder / "ovi_farm.txt").write_text("\ufeff# our farm\n\n  farm.local:6379  \nmore\n", encoding="utf-8")
    assert ray_cluster.address(switch) == "farm.local:6379"
    monkeypatch.setenv("OVI_FARM_ADDRESS", "local")
    assert ray_cluster.address(switch) == "local"


@pytest.mark.parametrize(
    "switch", ["auto", "local", "ray://192.168.0.7:10001", "10.0.0.1:6379", "off", "on\0", "o n", "1"]
)
def test_a_workflow_names_no_machine(switch, user_folder, monkeypatch):
    """Also where a farm is set up: an old workflow's address is never taken, and the message says where it belongs."""
    monkeypatch.setenv("OVI_FARM_ADDRESS", "auto")
    with pytest.raises(OviError) as caught:
        ray_cluster.address(switch)
    assert caught.value.input == "farm"
    assert "OVI_FARM_ADDRESS" in caught.value.remedy
    assert str(user_folder / "ovi_farm.txt") in caught.value.remedy
    assert "a workflow never names a machine" in OviStoryboard.validate_inputs(farm=switch)


@pytest.mark.parametrize(
    "address",
    ["", "ray://192.168.0.7:10001", "http://x:1", "x", "host:", ":6379", "a b:1", "host:6379 --evil", "h" * 5000, "\0"],
)
def test_an_address_that_is_none_is_refused(address, user_folder):
    (user_folder / "ovi_farm.txt").write_text(address)
    with pytest.raises(OviError, match="address") as caught:
        ray_cluster.address("on")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\0" * 10_000, b"x" * 10_000_000])
def test_a_file_that_is_no_text_is_refused(content, user_folder):
    (user_folder / "ovi_farm.txt").write_bytes(content)
    with pytest.raises(OviError):
        ray_cluster.address("on")


@pytest.mark.parametrize("address", ["auto", "local", "192.168.0.7:6379", "farm-1.example.org:6379", "[fe80::1]:6379"])
def test_addresses_of_clusters_are_taken(address, user_folder):
    (user_folder / "ovi_farm.txt").write_text(address)
    assert ray_cluster.address("on") == address


# -- what Ray starts here

LISTENING = """
import sys
sys.path.append(sys.argv[1])
from tools import pack
pack.load("--cpu")
import psutil
from ovi_native.ovi_core.story import ray_cluster

def listening():
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return {c.laddr.ip for p in processes for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN}

class Evil:
    def __reduce__(self):
        return print, ("unpickled",)

class Worker:
    def bytes(self):
        return b"a shot"
    def objects(self):
        return {"evil": Evil()}
    def raises(self):
        raise ValueError(Evil())
    def dies(self):
        import os
        os._exit(1)

with ray_cluster.connected("local") as cluster:
    print("addresses", sorted(listening()))
    from ray._private.worker import global_worker
    print("dashboard", global_worker.node.webui_url or "none")
    worker = cluster.remote(Worker).remote()
    print("bytes", cluster.bytes_of(worker.bytes.remote()))
    for name in ("objects", "raises"):
        try:
            cluster.bytes_of(getattr(worker, name).remote())
        except ray_cluster.OviError as error:
            print(name, error.found)
    print("lost", cluster.bytes_of(worker.dies.remote()))
"""


def test_what_ray_starts_here_listens_to_this_machine_alone_and_no_answer_is_unpickled():
    run = subprocess.run([sys.executable, "-c", LISTENING, str(ROOT)], capture_output=True, text=True, timeout=300)
    lines = dict(line.split(" ", 1) for line in run.stdout.splitlines() if " " in line)
    assert lines, run.stderr
    assert set(ast.literal_eval(lines["addresses"])) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert lines["dashboard"] == "none"
    assert lines["bytes"] == "b'a shot'"
    assert lines["objects"] == lines["raises"] == "a worker that answered with something else than bytes"
    assert lines["lost"] == "None"
    assert "unpickled" not in run.stdout


@pytest.mark.parametrize(
    ("ip", "here"),
    [
        ("127.0.0.1", True),
        ("127.8.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.7", False),
        ("fe80::1%eth0", False),
        ("::ffff:10.0.0.1", False),
    ],
)
def test_addresses_that_other_machines_reach_are_told_from_this_ones(ip, here):
    assert ray_cluster._is_loopback(ip) is here


# -- answers


def test_an_answer_is_a_file_or_what_was_refused():
    def refuse():
        raise OviError(input="model", found="x", accepted="y", remedy="z")

    def fail():
        raise KeyError("a\nb")

    assert farm_worker.file_in(farm_worker.answer(lambda: b"file")) == b"file"
    for work, input, found in ((refuse, "model", "x"), (fail, "farm", "KeyError: 'a")):
        with pytest.raises(OviError) as caught:
            farm_worker.file_in(farm_worker.answer(work))
        assert caught.value.input == input
        assert found in caught.value.found


class Evil:
    def __reduce__(self):
        return pytest.fail, ("it was unpickled",)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"x",
        b"-",
        b"-{",
        b"-[]",
        b"-1",
        b'-{"input": 1}',
        b"-" + b"[" * 100_000,
        pickle.dumps(Evil()),
        b"-" + pickle.dumps(Evil()),
    ],
)
def test_a_strange_answer_is_refused(answer):
    with pytest.raises(OviError, match="neither a shot nor an error"):
        farm_worker.file_in(answer)


def test_the_documentation_names_what_the_code_reads():
    page = (ROOT / "docs" / "storyboard.md").read_text(encoding="utf-8")
    for word in (ray_cluster.VARIABLE, ray_cluster.FILE, "`on`", "`auto`", "`local`"):
        assert word in page
    assert "ray://" not in page
