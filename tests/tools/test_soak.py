"""``dev.py soak``: a short run on a real server, and that growth and wrong clips are found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import INSTALLATION

from tools.dev import client
from tools.dev.server import Server
from tools.soak import prompts, run, watch
from tools.soak.__main__ import shown
from tools.soak.watch import State


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    base, models = tmp_path_factory.mktemp("base"), tmp_path_factory.mktemp("models")
    run.prepare(base, models)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(base / "tmp"))
        with Server(INSTALLATION, base, models=models) as running:
            yield running


SEED = 40  # of eight prompts that end in all three ways


def test_eight_mixed_prompts_leave_nothing_behind(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    report = run.soak(server, 8, SEED)
    assert report.wrong == []
    assert report.ends == {"done": 6, "interrupted": 1, "refused": 1}
    assert report.clips >= 5
    assert len(report.states) == 8
    assert [state.temporary for state in report.states] == [0] * 8
    kept = [file.relative_to(server.base / "output") for file in (server.base / "output").rglob("*.*")]
    assert {file.parts[0] for file in kept} <= {"ovi_stories"}  # shots and films are kept to be used again
    assert {file.suffix for file in kept} <= {".mkv", ".mp4", ".sha256"}
    monkeypatch.setattr("tools.soak.__main__.OUTPUT", tmp_path / "soak.json")
    assert shown(report) == 0


def test_a_clip_that_is_not_as_ordered_and_an_input_that_should_be_refused_are_found(server: Server):
    order = next(order for order in prompts.orders(client.object_info(server.url), 0) if order.frames)
    wrong = prompts.Order(order.title, order.prompt, refused="skip_layers", frames=(order.frames or 0) + 4, size=(8, 8))
    report = run.Report()
    run._run(server, wrong, report)
    assert [line.split(": ")[1].split()[0] for line in report.wrong] == ["a", "frames", "size"]


def test_growth_is_found_and_what_only_goes_up_and_down_is_not():
    steady = [State(10**9 + (index % 3) * 10**7, 20 + index % 4, 5, index % 2) for index in range(40)]
    assert watch.complaints(watch.growth(steady, 8)) == []
    leaking = [State(10**9 + index * 10**7, 20 + index, 5 + index, index) for index in range(40)]
    found = watch.complaints(watch.growth(leaking, 8))
    assert [line.split()[0] for line in found] == ["memory", "descriptors", "threads", "temporary"]
    late = [State(10**9 if index < 8 else 2 * 10**9, 20, 5, 0) for index in range(40)]  # what is loaded once
    assert watch.complaints(watch.growth(late, 8)) == []


def test_the_curve_shows_where_it_grows():
    assert watch.curve([0, 7, 14]) == "▁▄█"
    assert len(watch.curve(list(range(1000)))) == 60
    lines = watch.table([State(10**9, 20, 5, 0)] * 300).splitlines()
    assert lines[2] == "| 1 | 1,000 MB | 20 | 5 | 0 |"
    assert lines[-1].startswith("| 300 |")
