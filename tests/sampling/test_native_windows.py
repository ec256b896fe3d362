"""ComfyUI's context windows: a clip longer than the model was trained on, sampled in overlapping parts."""

from __future__ import annotations

import pytest
import tiny_ovi as tiny
import torch
from comfy.nested_tensor import NestedTensor
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_context_windows import WanContextWindowsManualNode
from ovi_native.ovi_core.network.rope import AUDIO_TIME_SCALE
from tiny_ovi import both_differ, finite, same

FRAMES, STEPS = 8, 40  # latent frames and audio steps
PER_FRAME = 125 / 24  # audio steps, of 32 ms, while one latent frame of four pictures shows


def joint(seed: int, frames: int = FRAMES, steps: int = STEPS) -> NestedTensor:
    made = torch.Generator().manual_seed(seed)
    return NestedTensor([torch.randn(1, 48, frames, 4, 6, generator=made), torch.randn(1, 20, steps, generator=made)])


def empty() -> dict:
    return {"samples": joint(0) * 0}


def part(nested: NestedTensor, first: int, last: int) -> NestedTensor:
    """Frames ``first`` to ``last`` (not included) and their sound; both of them multiples of 24."""
    video, audio = nested.unbind()
    return NestedTensor([video[:, :, first:last], audio[..., first * 125 // 24 : last * 125 // 24]])


def test_a_clip_within_one_window_is_sampled_as_without(model):
    plain = tiny.run(tiny.guider(model), empty(), joint(1))
    assert same(tiny.run(tiny.guider(tiny.windowed(model, 16, 4)), empty(), joint(1)), plain, 0)


@pytest.mark.parametrize("mode", ["t2v", "i2v"])
def test_windows_that_do_not_overlap_equal_clips_of_their_own(model, mode):
    """So each sees its own frames, its own sound and its own part of the noise mask, with both prompts."""
    latent, noise = {"samples": joint(2, 48, 250)}, joint(1, 48, 250)
    if mode == "i2v":
        latent = tiny.first_frame_kept(latent)
    result = NestedTensor(list(tiny.run(tiny.guider(tiny.windowed(model, 24, 0, "batched")), latent, noise)))
    for first in (0, 24):
        clip = {"samples": part(latent["samples"], first, first + 24)}
        if mode == "i2v" and first == 0:
            clip = tiny.first_frame_kept(clip)
        alone = tiny.run(tiny.guider(model), clip, part(noise, first, first + 24))
        assert same(part(result, first, first + 24), alone)


@pytest.mark.parametrize("schedule", ["standard_static", "standard_uniform", "looped_uniform"])
def test_the_wan_node_samples_both_parts_in_overlapping_windows(model, schedule):
    sizes = []

    def look(executor, x, *args, **more):
        sizes.append((x[0].shape[2], x[1].shape[2]))
        return executor(x, *args, **more)

    patched = WanContextWindowsManualNode.execute(
        model, 17, 8, schedule, 1, False, "pyramid", True, retain_first_frame=False
    ).result[0]
    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "look", look)
    out = tiny.run(tiny.guider(patched), empty(), joint(1))
    assert finite(out)
    assert both_differ(out, tiny.run(tiny.guider(model), empty(), joint(1)), by=0.05)
    assert {audio for _, audio in sizes} == {25}  # 17 pictures are 5 latent frames
    assert {video for video, _ in sizes} == {5, 6}  # ComfyUI adds one before the window and drops it again


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("steps", [STEPS, 43])
def test_the_sound_of_a_window_begins_where_its_picture_does(model, causal, steps):
    """A picture that ComfyUI puts before a window has no sound there: the sound must not move up to it."""
    seen = []

    def look(args, extra):
        seen.append((args["transformer_options"]["context_window"], [stream.table for stream in args["streams"]]))
        return extra["original_block"](args)

    patched = tiny.windowed(model, 4, 1, causal_window_fix=causal)
    patched.set_model_patch_replace(look, "dit", "double_block", 0)
    tiny.run(tiny.guider(patched), {"samples": joint(0, steps=steps) * 0}, joint(1, steps=steps), steps=1)
    assert [window.index_list[0] for window, _ in seen] == [0, 3, 4]
    for window, (video, audio) in seen:
        frame, step = window.index_list[0], window.modality_windows[1].index_list[0]
        before = 1 if causal and frame > 0 else 0
        distance = step - (frame - before) * PER_FRAME  # in steps, from the first picture shown
        assert distance == pytest.approx(before * PER_FRAME, abs=2)
        assert tiny.turn(audio, 0) - tiny.turn(video, 0) == pytest.approx(distance * AUDIO_TIME_SCALE, abs=1e-5)


def test_a_first_frame_kept_in_every_window_is_clean_in_each(model):
    shown = []

    def look(executor, x, timestep, *args, **more):
        shares = more["video_shares"]
        shown.append((x[0][:1, :, 0], shares.values[shares.index[0]].tolist()))
        return executor(x, timestep, *args, **more)

    patched = tiny.windowed(model, 4, 1, latent_retain_index_list="0", causal_window_fix=True)
    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "look", look)
    latent = tiny.first_frame_kept({"samples": joint(2)})
    tiny.run(tiny.guider(patched), latent, joint(1), steps=2)
    kept = patched.model.latent_format.process_in(latent["samples"].unbind()[0])[:, :, 0]
    assert len(shown) == 6
    for frame, shares in shown:
        assert torch.allclose(frame, kept, atol=1e-5)
        assert shares == [0.0] + [1.0] * (len(shares) - 1)
