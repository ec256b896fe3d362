"""Reads a file as untrusted, and holds what it is refused with."""

from __future__ import annotations

import pytest
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.weights.files import read_file


def read(path):
    return read_file(str(path), input="file", accepted="weights")


def refused(path, found="", run=read):
    with pytest.raises(OviError) as caught:
        run(path)
    assert found in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value
