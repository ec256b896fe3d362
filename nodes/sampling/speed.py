"""Shortcuts of a run, by name."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...ovi_core.model.fp8_matmuls import CHOICES
from ...ovi_core.sampling.shortcuts.speed import BALANCED, EIGHT_BITS, PRESETS, Shortcuts, with_shortcuts
from ..shared import notify
from ..shared.boundary import checked
from ..shared.widgets import model_input

CUSTOM = "custom"


def _part_inputs() -> list[io.Input]:
    """The parts of ``custom``, each with its cost in quality."""
    return [
        io.Float.Input(
            "step_cache",
            default=BALANCED.step_cache,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Skips steps in which both towers are predicted to change by less than this share. 0: none. Small "
            "motion and fine sound change first. With the small model, 0.1 is hard to tell from exact (51 dB PSNR), "
            "0.3 changes detail (35 dB), 0.8 much (23 dB).",
        ),
        io.Int.Input(
            "negative_every",
            default=1,
            min=1,
            max=10,
            step=1,
            tooltip="In the middle of the run the negative pass, and modality and reference guidance, are computed "
            "once in this many steps. 1: in every step. With the small model, 3 is hard to tell from exact (49 dB "
            "PSNR), 8 changes picture and sound (29 dB).",
        ),
        io.Float.Input(
            "guidance_end_percent",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Share of the run after which guidance ends. 1: guided to the end. Costs most for what it saves: "
            "with the small model, 0.8 changes picture and sound (31 dB PSNR), and at 0.4 one clip of six no longer "
            "matched its prompt.",
        ),
        io.Combo.Input(
            "fp8_matmuls",
            options=list(CHOICES),
            default=CHOICES[0],
            tooltip="Matrix products with scaled fp8 weights. as loaded: as ComfyUI does them. on: in fp8, on NVIDIA "
            "cards from Ada on; adds a small error to that of the fp8 weights. off: in the type of the activations, "
            "slower and more precise. Plain fp8 weights: choose weight_dtype fp8_e4m3fn_fast in Load Ovi Model "
            "instead.",
        ),
        io.Combo.Input(
            "attention",
            options=list(EIGHT_BITS),
            default=next(iter(EIGHT_BITS)),
            tooltip="sage: 8 bits, with the package sageattention. sage3: 4 bits, with sageattn3, on Blackwell cards. "
            "Fine detail suffers. A choice by another node or a ComfyUI flag takes precedence.",
        ),
    ]


class OviSpeed(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviSpeed",
            display_name="Ovi Speed",
            category="Ovi/loaders",
            description="Shortcuts for faster sampling, with any sampler. Their cost in quality is measured with the "
            "small model (docs/speed.md) and untested with the published weights.",
            search_aliases=[
                "speed",
                "faster",
                "teacache",
                "easycache",
                "magcache",
                "sage attention",
                "fp8",
                "cfg cache",
            ],
            inputs=[
                model_input(),
                io.Combo.Input(
                    "preset",
                    options=[*PRESETS, CUSTOM],
                    default="balanced",
                    tooltip="exact: nothing is skipped. balanced: skips steps with little change, and half of the "
                    "negative passes in the middle of the run. fast: skips more steps, and uses fp8 and 8-bit "
                    "attention if this computer has them; detail changes. custom: the settings below, which "
                    "the other presets ignore.",
                ),
                *_part_inputs(),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="The model with these shortcuts.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @checked
    def execute(
        cls,
        model: Any,
        preset: str = "balanced",
        step_cache: float = BALANCED.step_cache,
        negative_every: int = 1,
        guidance_end_percent: float = 1.0,
        fp8_matmuls: str = CHOICES[0],
        attention: str = next(iter(EIGHT_BITS)),
    ) -> io.NodeOutput:
        own = Shortcuts(step_cache, negative_every, guidance_end_percent, fp8_matmuls, attention)
        patched, notes = with_shortcuts(model, PRESETS.get(preset, own))
        notify.warn(cls, notes)
        return io.NodeOutput(patched)


NODES = [OviSpeed]
