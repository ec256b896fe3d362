"""How much memory a block of code takes."""

from __future__ import annotations

import contextlib
import tracemalloc


@contextlib.contextmanager
def memory_below(most: int):
    """Fail if Python's objects, numpy's arrays included, take more than ``most`` bytes at once in the block."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= most, f"{peak:,} bytes"
