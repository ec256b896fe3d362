"""Measures the shortcuts of Ovi Speed and writes the table into docs/speed.md: ``python3 dev.py speed-report``.

Each row is the small model with one shortcut against the same run without, and the reference's recorded run of six
steps (``tests/golden``). The clips are kept in ``.mini/speed``, so a report that was stopped goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
from scipy.ndimage import uniform_filter

from ..training.workers import load_pack
from .__main__ import MODELS, ROOT, into_page

if TYPE_CHECKING:
    from .studio import Made, Order, Studio

PAGE, SHELF = ROOT / "docs" / "speed.md", ROOT / ".mini" / "speed"
KINDS = ("face", "floor", "lamp", "two balls", "walls", "bar")
GOLDEN_RUN = "sample_unipc"
HEAD = (
    "| setting | forwards | PSNR, dB | SSIM | sound, dB | events heard | facts right | six steps: video, audio |\n"
    "|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Setting:
    """One row.

    Attributes:
        change: MODEL to MODEL.
        guided: False for a run at guidance 1.
        fp8: whether the CPU counts as a card with fp8; its arithmetic is emulated.
    """

    name: str
    change: Callable[[Any], Any]
    guided: bool = True
    fp8: bool = False


def settings() -> list[Setting]:
    from comfy_extras.nodes_easycache import EasyCacheNode
    from comfy_extras.nodes_nag import NAGuidance
    from ovi_native.ovi_core.sampling.shortcuts.speed import EXACT, PRESETS, with_shortcuts

    def of(name: str, fp8: bool = False, **parts: Any) -> Setting:
        shortcuts = replace(EXACT, **parts) if parts else PRESETS[name]
        return Setting(name, lambda model: with_shortcuts(model, shortcuts)[0], fp8=fp8)

    return [
        *(of(name) for name in PRESETS),
        *(of(f"step_cache {x}", step_cache=x) for x in (0.1, 0.2, 0.3, 0.5, 0.8)),
        *(of(f"negative_every {n}", negative_every=n) for n in (2, 3, 5, 8)),
        *(of(f"guidance_end_percent {x}", guidance_end=x) for x in (0.8, 0.6, 0.4)),
        of("fp8_matmuls on, emulated", fp8=True, fp8_matmuls="on"),
        Setting("ComfyUI's EasyCache, 0.2", lambda m: EasyCacheNode.execute(m, 0.2, 0.15, 0.95, False).result[0]),
        Setting("guidance 1", lambda model: model.clone(), guided=False),
        Setting("guidance 1, NAGuidance 5", lambda m: NAGuidance.execute(m, 5.0, 0.5, 1.5).result[0], guided=False),
    ]


def rows_of(studio: Studio, orders: list[Order], chosen: list[Setting]) -> Iterator[str]:
    """The table's rows; the first setting is what the others are held against."""
    exact, rows_then = None, 0
    for setting in chosen:
        clips, rows = _made(studio, orders, setting)
        exact, rows_then = exact or clips, rows_then or rows
        yield _row(setting, orders, clips, exact, rows / rows_then)


def _made(studio: Studio, orders: list[Order], setting: Setting) -> tuple[list[Made], int]:
    """The clips of the orders, and how many rows went through the transformer for them."""
    from ovi_native.ovi_core.sampling.comfyui import WrappersMP

    clips, total = [], 0
    for order in orders:
        own = order if setting.guided else replace(order, video_cfg=1.0, audio_cfg=1.0, skip_layers=())
        counts: list[int] = []

        def count(executor: Any, x: Any, timestep: Any, *args: Any, counts: list = counts, **more: Any) -> Any:
            counts.append(len(timestep))
            return executor(x, timestep, *args, **more)

        def make(own: Order = own, count: Callable = count) -> Made:
            model = setting.change(studio.model)
            model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "count", count)
            return studio.decoded(studio.sampled(own, studio.latent(own), model))

        name = {"setting": setting.name, **asdict(own)}
        with _as_if_fp8() if setting.fp8 else nullcontext():
            clips.append(studio.kept(name, make))
        total += _remembered(studio, name, sum(counts))
    return clips, total


def _remembered(studio: Studio, name: dict, rows: int) -> int:
    """The rows of a clip, also when it comes from the shelf."""
    if studio.shelf is None:
        return rows
    file = studio.shelf / f"{hashlib.sha256(json.dumps(name).encode()).hexdigest()[:24]}.rows"
    if rows:
        file.write_text(str(rows), encoding="utf-8")
    return int(file.read_text(encoding="utf-8"))


def _as_if_fp8() -> Any:
    import comfy.model_management

    return mock.patch.object(comfy.model_management, "supports_fp8_compute", return_value=True)


def _row(setting: Setting, orders: list[Order], clips: list[Made], exact: list[Made], rows: float) -> str:
    from ..measure.checks import log_mel_distance, psnr
    from .scores import examined, rightness, sync_of

    found = [examined(order, made) for order, made in zip(orders, clips, strict=True)]
    pairs = list(zip(clips, exact, strict=True))
    same = all(np.array_equal(a.frames, b.frames) and np.array_equal(a.sound, b.sound) for a, b in pairs)
    picture, likeness, sound = (
        float(np.mean(values))
        for values in zip(
            *(
                (psnr(a.frames, b.frames), ssim(a.frames, b.frames), log_mel_distance(a.sound, b.sound))
                for a, b in pairs
            ),
            strict=True,
        )
    )
    errors = "equal | 1 | 0" if same else f"{picture:.1f} | {likeness:.3f} | {sound:.1f}"
    video, audio = golden_errors(setting)
    return (
        f"| {setting.name} | {rows:.0%} | {errors} | {sync_of(found).heard_share:.0%} | {rightness(found)['all']:.0%} "
        f"| {video:.1g}, {audio:.1g} |"
    )


def ssim(one: np.ndarray, other: np.ndarray) -> float:
    """Structural similarity of the brightness of two clips [F, H, W, 3] in 0..1, windows of 7x7 (Wang et al., 2004)."""
    a, b = (frames.astype(np.float64).mean(axis=-1) for frames in (one, other))

    def mean(x: np.ndarray) -> np.ndarray:
        return uniform_filter(x, (0, 7, 7))

    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b, both = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2, mean(a * b) - mean_a * mean_b
    small, smaller = 0.01**2, 0.03**2
    return float(
        np.mean(
            (2 * mean_a * mean_b + small)
            * (2 * both + smaller)
            / ((mean_a**2 + mean_b**2 + small) * (var_a + var_b + smaller))
        )
    )


def golden_errors(setting: Setting) -> tuple[float, float]:
    """Relative error of video and audio against the reference's recorded run."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    import comfy.latent_formats
    import fusion_cases as cases
    import torch
    from comfy.nested_tensor import NestedTensor
    from ovi_native.ovi_core.latents import joint
    from ovi_native.ovi_core.loading.loader import load_model
    from ovi_native.ovi_core.model.base_model import AUDIO_TEXT
    from ovi_native.ovi_core.sampling import sample, solvers
    from ovi_native.ovi_core.sampling.guidance import Guidance

    case = cases.CASES[GOLDEN_RUN]
    inputs = cases.Inputs(case)
    guidance = Guidance(case["video_cfg"], case["audio_cfg"], (case["slg_layer"],))
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        model = setting.change(load_model(str(cases.write_model(Path(folder)))))
        guider = sample.OviGuider(model, guidance if setting.guided else Guidance(1.0, 1.0, ()))
        negative = [[inputs.text("vneg"), {AUDIO_TEXT: inputs.text("aneg")}]]
        guider.set_conds([[inputs.text("pos"), {}]], negative)
        sigmas = sample.sigmas_for(case["solver"], case["steps"], case["shift"], 1.0)
        start = joint.join(torch.zeros_like(inputs.video), torch.zeros_like(inputs.audio))
        noise = NestedTensor([inputs.video, inputs.audio])
        video, audio = guider.sample(noise, start, solvers.sampler(case["solver"]), sigmas).unbind()
        video = comfy.latent_formats.Wan22().process_in(video)
    parts = (video[0], "video"), (audio[0].T, "audio")
    errors = [cases.relative_error(part, cases.results()[f"{GOLDEN_RUN}.t2v.{name}"]) for part, name in parts]
    return errors[0], errors[1]


def main(argv: list[str] | None = None) -> int:
    """Write the table."""
    parser = argparse.ArgumentParser(prog="dev.py speed-report", description=__doc__)
    parser.add_argument("--models", type=Path, default=MODELS, metavar="DIR", help="folder with the exported files")
    parser.add_argument("--clips", type=int, default=6, help="clips of each setting (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=30, help="steps of each clip (default: %(default)s)")
    parser.add_argument("--page", type=Path, default=PAGE, metavar="FILE", help="page to write the table into")
    parser.add_argument("--shelf", type=Path, default=SHELF, metavar="DIR", help="keeps the clips")
    parser.add_argument(
        "--only", default="", metavar="WORDS", help="settings with these words in their name, and exact"
    )
    arguments = parser.parse_args(argv)
    load_pack("cpu")
    import comfy.model_management

    comfy.model_management.in_training = False
    from ovi_native.ovi_core.loading import loader

    from .figures import of_kinds
    from .studio import Studio

    loader.MULTIPLIED_OUT = 0  # fp8 weights stay so, for the row of fp8
    studio = Studio(arguments.models, arguments.shelf)
    orders = of_kinds(KINDS, arguments.clips, steps=arguments.steps)
    chosen = [some for some in settings() if some.name == "exact" or arguments.only in some.name]
    rows = []
    for row in rows_of(studio, orders, chosen):
        print(row, flush=True)
        rows.append(row)
    text = f"{arguments.clips} clips of {arguments.steps} steps (UniPC).\n\n{HEAD}\n" + "\n".join(rows) + "\n"
    arguments.page.write_text(into_page(arguments.page.read_text(encoding="utf-8"), "table", text), encoding="utf-8")
    print(json.dumps({"page": str(arguments.page)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
