"""What ComfyUI's own latent nodes do to a joint latent and to its parts, and that the FAQ says so.

Each node's answer is held against what a user means by it: a flip turns the frames over, a crop leaves out their edge.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy_extras.nodes_post_processing as posts  # before nodes_latent, which imports it in a circle
import folder_paths
import pytest
import torch
import torch.nn.functional as F
from comfy_extras import nodes_latent as latents
from comfy_extras.nodes_mask import LatentCompositeMasked
from comfy_extras.nodes_rebatch import LatentRebatch
from comfy_extras.nodes_wan import TrimVideoLatent
from native_cases import drawn, sample, write_tiny
from ovi_native.ovi_core.latents import joint
from ovi_native.ovi_core.loading.loader import load_model
from torch import Tensor

import nodes

FAQ = Path(__file__).parents[2] / "docs" / "faq.md"
PIXELS = 16  # a side of a latent cell
STOPS, RIGHT, WRONG, NONE = "stops", "right", "wrong", ""
Latents = Callable[..., dict[str, Any]]  # of a seed and a batch size
Means = Callable[[Tensor, Tensor], Tensor]  # of the tensors of two seeds


@dataclass(frozen=True)
class Case:
    """A node, run on latents.

    Attributes:
        run: returns the node's LATENT.
        video, audio: what it means for a part, as a function of two latents; None where it means nothing.
        batch: of the latents.
    """

    run: Callable[[Latents], Any]
    video: Means
    audio: Means | None = None
    batch: int = 1


def frames_to(size: int) -> Means:
    return lambda v, _: F.interpolate(v[0].movedim(1, 0), (size, size), mode="bilinear").movedim(0, 1)[None]


def put_in(v: Tensor, other: Tensor) -> Tensor:
    out = v.clone()
    out[..., 1:] = other[..., :3]
    return out


def as_image(node: Any) -> Means:
    """A node's own answer for latents of images, in which it knows all axes."""

    def run(one: Tensor, other: Tensor) -> Tensor:
        flat = [{"samples": x.reshape(*x.shape[:2], -1, x.shape[-1])} for x in (one, other)]
        return node(*flat)["samples"].reshape(one.shape)

    return run


def result(answer: Any) -> Any:
    answer = getattr(answer, "result", answer)[0]
    return answer[0] if isinstance(answer, list) else answer


def saved(make: Latents) -> Any:
    nodes.SaveLatent().save(make(0), "part")
    file = max(Path(folder_paths.get_output_directory()).glob("part_*"))
    return nodes.LoadLatent().load(f"{file.name} [output]")


def same(v: Tensor, _: Tensor) -> Tensor:
    return v


def blended(one: Tensor, other: Tensor) -> Tensor:
    return one * 0.25 + other * 0.75


def joined(dim: int) -> Means:
    return lambda v, other: torch.cat((v, other), dim)


def interpolated(one: dict, other: dict) -> Any:
    return result(latents.LatentInterpolate.execute(one, other, 0.5))


UPSCALE = nodes.LatentUpscale()
HALF = 2 * PIXELS
ALL = torch.ones(1, 64, 64)
SHARPEN = latents.LatentOperationSharpen.execute(3, 1.0, 0.1).result[0]
FLIP, TURN = "x-axis: vertically", "90 degrees"
CASES = {
    "LatentUpscale": Case(
        lambda x: UPSCALE.upscale(x(0), "bilinear", 8 * PIXELS, 8 * PIXELS, "disabled"), frames_to(8)
    ),
    "LatentUpscaleBy": Case(lambda x: nodes.LatentUpscaleBy().upscale(x(0), "bilinear", 1.5), frames_to(6)),
    "LatentCrop": Case(
        lambda x: nodes.LatentCrop().crop(x(0), 2 * PIXELS, 2 * PIXELS, 0, 0), lambda v, _: v[..., :2, :2]
    ),
    "LatentFlip": Case(lambda x: nodes.LatentFlip().flip(x(0), FLIP), lambda v, _: v.flip(-2)),
    "LatentRotate": Case(lambda x: nodes.LatentRotate().rotate(x(0), TURN), lambda v, _: v.rot90(1, (-1, -2))),
    "LatentComposite": Case(lambda x: nodes.LatentComposite().composite(x(0), x(1), PIXELS, 0), put_in),
    "LatentCompositeMasked": Case(lambda x: LatentCompositeMasked.execute(x(0), x(1), PIXELS, 0, False, ALL), put_in),
    "LatentBlend": Case(lambda x: nodes.LatentBlend().blend(x(0), x(1), 0.25), blended, blended),
    "LatentInterpolate": Case(
        lambda x: latents.LatentInterpolate.execute(x(0), x(1), 0.5), as_image(interpolated), as_image(interpolated)
    ),
    "LatentAdd": Case(lambda x: latents.LatentAdd.execute(x(0), x(1)), torch.add, torch.add),
    "LatentSubtract": Case(lambda x: latents.LatentSubtract.execute(x(0), x(1)), torch.sub, torch.sub),
    "LatentMultiply": Case(
        lambda x: latents.LatentMultiply.execute(x(0), 0.5), lambda v, _: v * 0.5, lambda a, _: a * 0.5
    ),
    "LatentBatch": Case(lambda x: latents.LatentBatch.execute(x(0), x(1)), joined(0), joined(0)),
    "BatchLatentsNode": Case(lambda x: posts.BatchLatentsNode.execute({"a": x(0), "b": x(1)}), joined(0), joined(0)),
    "RepeatLatentBatch": Case(
        lambda x: nodes.RepeatLatentBatch().repeat(x(0), 2),
        lambda v, _: v.repeat(2, 1, 1, 1, 1),
        lambda a, _: a.repeat(2, 1, 1),
    ),
    "LatentFromBatch": Case(
        lambda x: nodes.LatentFromBatch().frombatch(x(0), 1, 1), lambda v, _: v[1:], lambda a, _: a[1:], batch=2
    ),
    "RebatchLatents": Case(
        lambda x: LatentRebatch.execute([x(0)], [1]), lambda v, _: v[:1], lambda a, _: a[:1], batch=2
    ),
    "LatentConcat": Case(lambda x: latents.LatentConcat.execute(x(0), x(1), "t"), joined(2), joined(2)),
    "LatentCut": Case(
        lambda x: latents.LatentCut.execute(x(0), "t", 0, 2), lambda v, _: v[:, :, :2], lambda a, _: a[:, :, :7]
    ),
    "TrimVideoLatent": Case(
        lambda x: TrimVideoLatent.execute(x(0), 2), lambda v, _: v[:, :, 2:], lambda a, _: a[:, :, 7:]
    ),
    "ReplaceVideoLatentFrames": Case(
        lambda x: latents.ReplaceVideoLatentFrames.execute(x(0), 0, x(1)), lambda _, other: other
    ),
    "LatentApplyOperation": Case(lambda x: latents.LatentApplyOperation.execute(x(0), SHARPEN), same),
    "SaveLatent": Case(saved, same, same),
}


def part(index: int, batch: int) -> Latents:
    shape = ((batch, 48, 3, 4, 4), (batch, 20, 10))[index]
    return lambda seed: {"samples": drawn(*shape, seed=10 * seed + index)}


def whole(batch: int) -> Latents:
    video, audio = part(0, batch), part(1, batch)
    return lambda seed: {"samples": joint.join(video(seed)["samples"], audio(seed)["samples"])}


def verdict(case: Case, make: Latents, means: tuple[Means, ...]) -> str:
    """What the node does to latents whose parts it should change as ``means`` does."""
    try:
        out = result(case.run(make))["samples"]
    except Exception:
        return STOPS
    got = out.unbind() if out.is_nested else [out]
    given = [make(seed)["samples"] for seed in (0, 1)]
    parts = [x.unbind() if x.is_nested else [x] for x in given]
    wanted = [mean(*pair) for mean, pair in zip(means, zip(*parts, strict=True), strict=True)]
    equal = [g.shape == w.shape and torch.allclose(g, w, atol=1e-5) for g, w in zip(got, wanted, strict=True)]
    return RIGHT if all(equal) else WRONG


def rows() -> dict[str, list[str]]:
    """Cells of the FAQ's table by node id: with a joint latent, its video part, its audio part, use instead."""
    table = FAQ.read_text(encoding="utf-8").split("\n## Latents")[1].split("\n## ")[0]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| *")]
    return {re.findall(r"`(\w+)`", row[0])[-1]: row[1:] for row in cells}


@pytest.mark.parametrize("name", CASES)
def test_a_stock_latent_node_does_what_the_faq_says(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    case = CASES[name]
    with torch.inference_mode():
        audio = case.audio or same
        found = [
            verdict(case, whole(case.batch), (case.video, audio)),
            verdict(case, part(0, case.batch), (case.video,)),
        ]
        found += [verdict(case, part(1, case.batch), (audio,)) if case.audio else NONE]
    assert [re.match(r"\w*", cell)[0] for cell in rows()[name][:3]] == found


def test_every_row_of_the_faq_is_run():
    assert rows().keys() == CASES.keys()


@torch.inference_mode()
def test_a_stock_mask_is_for_the_video_and_the_audio_is_regenerated(tmp_path: Path):
    given = whole(1)(0)
    mask = torch.ones(1, 64, 64)
    mask[:, :, :32] = 0
    (masked,) = nodes.SetLatentNoiseMask().set_mask(given, mask)
    made = sample(load_model(write_tiny(tmp_path)), masked, steps=1)
    (video, audio), (video_before, audio_before) = made.unbind(), given["samples"].unbind()
    changed = (video - video_before).abs().amax((0, 1, 2, 3))
    assert changed[:2].max() == 0 < changed[2:].min()
    assert (audio != audio_before).all()
