"""Makes batches ahead of time in processes of their own, each a pure function of its step.

Nothing here imports the pack or ComfyUI before a worker has made them importable.
"""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from threading import Thread
from typing import Any, TypeVar

Key = TypeVar("Key")
Made = TypeVar("Made")


def load_pack(device: str) -> None:
    """Make ``comfy`` and the pack importable, with gradients through ComfyUI's rope."""
    from tools import pack

    pack.load(*(["--cpu"] if device == "cpu" else []), "--use-pytorch-cross-attention")
    import comfy.model_management

    comfy.model_management.in_training = True


def _ready() -> None:
    Thread(target=_die_with, args=(os.getppid(),), daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that trains
    load_pack("cpu")
    import torch

    torch.set_num_threads(1)


def _die_with(parent: int) -> None:
    """End this process when its parent has gone, however that went."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


@contextmanager
def made_ahead(make: Callable[[Key], Made], keys: Iterable[Key], workers: int) -> Iterator[Iterator[tuple[Key, Made]]]:
    """Pairs (key, ``make(key)``) in the order of ``keys``, made by ``workers`` processes; by this one if 0."""
    if not workers:
        yield ((key, make(key)) for key in keys)
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_ready)
    try:
        yield _in_order(pool, make, iter(keys), 2 * workers + 1)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _in_order(
    pool: ProcessPoolExecutor, make: Callable[[Key], Made], keys: Iterator[Key], ahead: int
) -> Iterator[tuple[Key, Made]]:
    waiting: deque[tuple[Any, Future]] = deque()
    for key in keys:
        waiting.append((key, pool.submit(make, key)))
        if len(waiting) > ahead:
            first, future = waiting.popleft()
            yield first, future.result()
    for key, future in waiting:
        yield key, future.result()
