"""Runs something in a process of its own that is killed in the middle."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable


class KillsItself:
    """Progress whose process kills itself, as the system does, when ``share`` of the whole is done."""

    def __init__(self, share: float) -> None:
        self.share = share

    def __call__(self, done: int, total: int) -> None:
        if done > self.share * total:
            os.kill(os.getpid(), signal.SIGKILL)


def killed(run: Callable[[], object]) -> bool:
    """Whether ``run``, in a copy of this process, was killed before its end."""
    child = os.fork()
    if child == 0:
        try:
            run()
        finally:
            os._exit(1)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])
