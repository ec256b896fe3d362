"""Reads films back and compares them."""

from __future__ import annotations

import av
import numpy as np
import torch
from ovi_native.ovi_core.story import film
from story_cases import store


def decoded(path):
    """Frames [F, H, W, 3] and samples [C, S] of a file, as libav gives them."""
    with av.open(str(path)) as file:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])
    with av.open(str(path)) as file:
        samples = np.concatenate([frame.to_ndarray() for frame in file.decode(audio=0)], axis=1)
    return frames, samples


def put_together(store, planned):
    """Frames and samples of the film that the store's shots make, before they are encoded."""
    frames, heard = [], []
    for part, samples in film.parts(store, planned):
        frames += [torch.from_numpy(frame) for frame in part]
        heard.append(samples)
    return torch.stack(frames).float() / 255, torch.cat(heard, dim=-1)


def assert_shows(in_file, frames):
    """Pictures [F, H, W, 3] in 8 bit from a film are the ``frames`` in 0..1 that it was made of, but for H.264."""
    assert in_file.shape == tuple(frames.shape)
    assert np.abs(in_file / 255 - frames.numpy()).mean() < 0.05


def assert_same_film(planned, *rendered):
    """Of two stories, each the folder of its store and its film, the same frames and audio went into the films.

    The files' frames may differ: where rows are no multiple of 128 pixels, x264's AVX-512 code for mbtree encodes
    the same frames now one way, now another (not without mbtree, and not with its AVX2 code).
    """
    parts = [put_together(store(folder), planned) for folder, _ in rendered]
    files = [decoded(path) for _, path in rendered]
    for ours, theirs in zip(*parts, strict=True):
        assert torch.equal(ours, theirs)
    assert np.array_equal(files[0][1], files[1][1])
    for (frames, _), (in_file, _) in zip(parts, files, strict=True):
        assert_shows(in_file, frames)
