"""Inputs that several nodes share."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...ovi_core.conditioning import locked_media
from ...ovi_core.decoding.towers import TILED
from ...ovi_core.media import drift_correction
from ...ovi_core.media.audio import FORMATS
from ...ovi_core.media.images import FITS
from ...ovi_core.sampling import solvers
from ...ovi_core.sampling.variant_settings import AUTO
from ...ovi_core.spec import DEFAULT_VARIANT, SIZE_GRID, VARIANTS

MAX_SIDE = 4096
GuidanceOptionsType = io.Custom("OVI_GUIDANCE_OPTIONS")


# -- links ---------------------------------------------------------------------------------------------------------


def model_input() -> io.Input:
    return io.Model.Input("model", tooltip="An Ovi model.")


def text_encoder_input() -> io.Input:
    return io.Clip.Input("clip", tooltip="umt5-xxl: from Load CLIP (type wan) or Load Ovi (all in one).")


def video_vae_input() -> io.Input:
    return io.Vae.Input("vae", tooltip="The Wan 2.2 video VAE.")


def audio_vae_input() -> io.Input:
    return io.Vae.Input("audio_vae", tooltip="From Load Ovi Audio VAE.")


def prompt_inputs() -> list[io.Input]:
    return [
        io.Conditioning.Input("positive", tooltip="What the clip shows and sounds like."),
        io.Conditioning.Input("negative", tooltip="What to avoid. Ovi Dual Conditioning gives each tower its own."),
    ]


def guidance_options_input() -> io.Input:
    return GuidanceOptionsType.Input(
        "guidance_options",
        optional=True,
        tooltip="From Ovi Guidance Options: schedules, intervals and more for each tower.",
    )


# -- the clip ------------------------------------------------------------------------------------------------------


def variant_input(tooltip: str, auto: bool = False) -> io.Combo.Input:
    """A variant of the weights; with ``auto``, the default, the node takes what its model or text encoder is of."""
    options = [*VARIANTS, AUTO] if auto else list(VARIANTS)
    return io.Combo.Input("variant", options=options, default=AUTO if auto else DEFAULT_VARIANT.name, tooltip=tooltip)


def size_inputs(
    default: int, width: str = "Pixels, a multiple of 32.", height: str = "Pixels, a multiple of 32."
) -> list[io.Input]:
    """width and height, with their tooltips."""
    side = {"default": default, "min": SIZE_GRID, "max": MAX_SIDE, "step": SIZE_GRID}
    return [io.Int.Input("width", tooltip=width, **side), io.Int.Input("height", tooltip=height, **side)]


def seconds_input(default: float, tooltip: str) -> io.Float.Input:
    return io.Float.Input("seconds", default=default, min=0.2, max=60.0, step=0.1, tooltip=tooltip)


def frame_rate_input(tooltip: str, **more: Any) -> io.Float.Input:
    return io.Float.Input("frame_rate", default=24.0, min=1.0, max=240.0, step=0.001, tooltip=tooltip, **more)


def fit_input() -> io.Combo.Input:
    return io.Combo.Input(
        "fit",
        options=list(FITS),
        default="crop",
        tooltip="How an image of another shape gets the clip's size. crop: its edges are cut. pad: black bars. "
        "stretch: it is distorted.",
    )


def mode_input(more: str = "") -> io.Combo.Input:
    return io.Combo.Input(
        "mode",
        options=list(locked_media.MODES),
        default=next(iter(locked_media.MODES)),
        tooltip="How the model sees what stays. follow the noise: as noisy as the rest in each step, as in training; "
        f"the default. clean: without noise from the first step on, like a start image{more}.",
    )


def overlap_input(least: float, tooltip: str) -> io.Float.Input:
    return io.Float.Input("overlap_seconds", default=1.0, min=least, max=10.0, step=0.01, tooltip=tooltip)


def correct_input(tooltip: str) -> io.Combo.Input:
    options = list(drift_correction.CORRECTIONS)
    return io.Combo.Input("correct", options=options, default=options[0], tooltip=tooltip)


def tiled_input(tooltip: str, **more: Any) -> io.Combo.Input:
    return io.Combo.Input("tiled", options=list(TILED), default="auto", tooltip=tooltip, **more)


def audio_format_input(unchanged: str) -> io.Combo.Input:
    return io.Combo.Input(
        "audio_format",
        options=list(FORMATS),
        default=next(iter(FORMATS)),
        optional=True,
        tooltip=f"unchanged: {unchanged}. Video editors expect 48 kHz and stereo. Nothing is added above 8 kHz, and "
        "both channels are equal if the sound is mono.",
    )


# -- sampling ------------------------------------------------------------------------------------------------------


def strength_input(name: str, default: float, tower: str) -> io.Float.Input:
    return io.Float.Input(
        name,
        default=default,
        min=0.0,
        max=30.0,
        step=0.1,
        tooltip=f"How closely the {tower} follows the prompt. 1: no guidance. With both at 1 a step takes half the "
        "time.",
    )


def skip_layers_input() -> io.String.Input:
    return io.String.Input(
        "skip_layers",
        default=AUTO,
        advanced=True,
        tooltip="Block pairs that the negative pass skips, counted from 0, such as 11 or 10, 11; the full model has "
        "30. auto: the value for the model's variant. 0 or empty: none.",
    )


def interval_inputs(subject: str, **more: Any) -> list[io.Input]:
    """start_percent and end_percent of ``subject``, as shares of the run."""
    share = {"min": 0.0, "max": 1.0, "step": 0.01, **more}
    return [
        io.Float.Input("start_percent", default=0.0, tooltip=f"Share of the run at which {subject} starts.", **share),
        io.Float.Input("end_percent", default=1.0, tooltip=f"Share of the run at which {subject} ends.", **share),
    ]


def solver_input() -> io.Combo.Input:
    return io.Combo.Input(
        "solver",
        options=list(solvers.SOLVERS),
        default="unipc",
        tooltip="The three solvers of Ovi's published code, each with its own schedule. Choose the same one for "
        "schedule and sampler.",
    )


def seed_input(tooltip: str, **more: Any) -> io.Int.Input:
    return io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, tooltip=tooltip, **more)


def steps_input() -> io.Int.Input:
    return io.Int.Input(
        "steps", default=50, min=1, max=1000, tooltip="Number of sampling steps. Ovi's published code uses 50."
    )


def shift_input() -> io.Float.Input:
    return io.Float.Input(
        "shift",
        default=5.0,
        min=1.0,
        max=100.0,
        step=0.1,
        tooltip="Moves steps towards high noise, where large shapes and timing are decided. Ovi's published code uses "
        "5.",
    )


def denoise_input() -> io.Float.Input:
    return io.Float.Input(
        "denoise",
        default=1.0,
        min=0.0,
        max=1.0,
        step=0.01,
        tooltip="Share of the schedule to run. 1: a new clip. Less: the given latent is changed.",
    )
