"""Two processes that train together: the mean of their gradients, one's wish to stop, the same weights in both."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import sys
from pathlib import Path
import torch
from torch import nn
from tools.mini.training import data_parallel as together
from tools.mini.training.muon import Muon, groups_of

with together.joined():
    process, processes = together.share()
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 5), nn.Linear(5, 3))
    x = torch.randn(8, 6)
    optimizer = Muon(groups_of(network, 0.0, 0.5))
    optimizer.set_rate(0.1)
    for step in range(3):
        optimizer.zero_grad()
        network(x[process::processes]).square().mean().backward()
        stop = together.agree(network.parameters(), process == 1 and step == 2)
        optimizer.step()
    means = together.means(process, 1.5)
left = [thread for thread in Path("/proc/self/task").glob("*/comm") if "gloo" in thread.read_text()]
found = {"weights": network.state_dict(), "stop": stop, "means": means, "left": len(left)}
torch.save(found, f"{sys.argv[1]}/{process}.pt")
"""


def learned(tmp_path: Path, processes: int) -> list[dict]:
    """What each of so many processes has in the end."""
    (folder := tmp_path / str(processes)).mkdir()
    script = folder / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    together = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(together if processes > 1 else []), script, folder]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, env=environment, timeout=240, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return [torch.load(folder / f"{process}.pt", weights_only=True) for process in range(processes)]


def test_two_processes_learn_what_one_learns_from_the_whole_batch(tmp_path: Path) -> None:
    (alone,) = learned(tmp_path, 1)
    for one in learned(tmp_path, 2):
        assert one["stop"]
        assert one["means"] == [0.5, 1.5]
        assert not one["left"], "a thread of the group at a process' end may abort it"
        for key, value in alone["weights"].items():
            torch.testing.assert_close(one["weights"][key], value, rtol=0, atol=5e-3)  # of steps of 0.1
