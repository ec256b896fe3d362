"""A long given clip is the largest thing in memory: it is there once, however it is checked, fitted and returned."""

from __future__ import annotations

import pytest
import torch
from native_cases import small_vaes
from ovi_native.nodes.decoding import OviDecode
from ovi_native.nodes.latents import EmptyOviLatent
from ovi_native.nodes.locked_media import OviLockVideo
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Largest(TorchDispatchMode):
    """The most bytes of any storage that an operation gave and that was not one of its inputs'.

    Operations that are made of others are seen through only where there is no inference mode.
    """

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        given = {storage.data_ptr() for storage in storages((args, kwargs))}
        new = [storage.nbytes() for storage in storages(out) if storage.data_ptr() not in given]
        self.bytes = max([self.bytes, *new])
        return out


def storages(values):
    return [leaf.untyped_storage() for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]


@pytest.mark.parametrize("rate", [24.0, 25.0])
@torch.no_grad()
def test_a_long_clip_is_in_memory_once(rate):
    images = torch.rand(60, 240, 320, 3)
    vaes, latent = small_vaes(), EmptyOviLatent.execute(32, 32, 2.0, 1).result[0]
    with Largest() as largest:
        locked = OviLockVideo.execute(vaes[0], latent, images, rate, "clean", "the whole clip").result[0]
        shown, _, video = OviDecode.execute(locked, *vaes, "off").result
    own, held = images.untyped_storage(), (shown, video.get_components().images)
    size, places = own.nbytes(), {own.data_ptr(), *(tensor.untyped_storage().data_ptr() for tensor in held)}
    assert largest.bytes < size / 2
    assert len(places) == 1
    assert torch.equal(shown, images)
