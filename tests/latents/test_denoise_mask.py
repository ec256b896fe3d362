"""What callers ask of a sampling run, and the mask values that ComfyUI's samplers get for it."""

from __future__ import annotations

import comfy.utils
import pytest
import torch
from ovi_native.ovi_core.latents import denoise_mask as masks
from ovi_native.ovi_core.latents import layout, resize
from ovi_native.ovi_core.latents.denoise_mask import CLEAN, FOLLOWING, FREE, approached, held_until

VIDEO, AUDIO = torch.zeros(1, 48, 5, 2, 3), torch.zeros(1, 20, 21)
INTENTS = {
    "free": (FREE, 1.0),
    "clean": (CLEAN, 0.0),
    "following": (FOLLOWING, 2.0**-20),
    "approached": (approached(0.75), 0.25),
    "held": (held_until(0.5), 1.5 * 2.0**-18),
}
"""Each intent with the value that stored workflows' masks have."""


@pytest.mark.parametrize("name", INTENTS)
@pytest.mark.parametrize("part", [VIDEO, AUDIO], ids=["video", "audio"])
def test_an_intent_is_a_value_of_the_mask_and_is_read_back(name, part):
    intent, value = INTENTS[name]
    mask = masks.mask_of(part, intent)
    assert mask.shape == (1, 1, *part.shape[2:])
    assert (mask == value).all()
    scaled = comfy.utils.reshape_mask(mask, part.shape)  # as ComfyUI does before it samples
    for found in (mask, scaled):
        assert masks.is_free(found).all() == (name == "free")
        assert masks.is_masked(found).all() == (name in ("clean", "following"))
        assert masks.is_held(found).all() == (name == "held")
        assert masks.follows(found).all() == (name in ("following", "held"))


def test_held_to_the_end_is_following_and_held_never_is_free():
    assert held_until(0) == FOLLOWING
    assert held_until(1) == FREE
    values = [held_until(share).mask_value for share in (0.01, 0.3, 0.99)]
    assert values == sorted(values)
    assert masks.is_held(torch.tensor(values)).all()


def test_a_span_changes_nothing_else():
    free = masks.mask_of(AUDIO)
    mask = masks.with_span(free, 3, 7, CLEAN)
    assert (free == 1).all()
    assert mask[0, 0].tolist() == [1] * 3 + [0] * 4 + [1] * 14
    assert masks.with_span(free, 18, 99, FOLLOWING)[0, 0].tolist() == [1] * 18 + [2.0**-20] * 3
    assert torch.equal(masks.with_span(free, 5, 5, CLEAN), free)


def test_only_what_is_free_is_changed():
    mask = torch.tensor([1.0, 0.0, 0.25, 2.0**-20])
    assert masks.with_free_as(mask, FOLLOWING).tolist() == [2.0**-20, 0.0, 0.25, 2.0**-20]


def test_two_masks_generate_what_both_do():
    old = torch.tensor([1.0, 1.0, 0.0, 2.0**-20, 0.5])
    new = masks.of_region(torch.tensor([1.0, 0.0, 1.0, 0.0, 0.75]), CLEAN)
    assert masks.both(old, new).tolist() == [1.0, 0.0, 0.0, 2.0**-20, 0.5]


@pytest.mark.parametrize(
    ("before", "after"), [((0, 0), (2, 10)), ((1, 5), (0, 0)), ((0, 0), (-2, -9)), ((3, 4), (-4, -20))]
)
def test_parts_and_masks_are_made_longer_and_shorter_alike(before, after):
    video, audio = torch.rand(VIDEO.shape) + 1, torch.rand(AUDIO.shape) + 1
    latent = masks.with_parts({}, video, audio, masks.mask_of(video, CLEAN), masks.mask_of(audio, FOLLOWING))
    changed = resize.padded(latent, before, after)
    for index, (old, value) in enumerate(((video, 0.0), (audio, 2.0**-20))):
        part, mask = changed["samples"].unbind()[index], changed["noise_mask"].unbind()[index]
        rest = old.shape[2] + min(0, after[index])
        assert layout.length(part) == layout.length(mask) == rest + before[index] + max(0, after[index])
        assert torch.equal(layout.span(part, before[index], before[index] + rest), layout.span(old, 0, rest))
        values = mask.amax(dim=tuple(range(3, mask.ndim)))[0, 0] if mask.ndim > 3 else mask[0, 0]
        assert values.tolist() == [1.0] * before[index] + [value] * rest + [1.0] * max(0, after[index])


def test_the_clocks_of_both_parts():
    clip = layout.clip_of(VIDEO, 31)
    assert (clip.width, clip.height, clip.frames) == (48, 32, 121)
    assert layout.frames_after_start(30) == 120
    assert layout.samples_at(120) == 80_000
    assert layout.samples_of(157) == 80_384
