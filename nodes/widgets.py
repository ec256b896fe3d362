"""Inputs that several nodes share."""

from __future__ import annotations

from comfy_api.latest import io

from ..ovi_core.sampling import solvers


def overlap_input(least: float, tooltip: str) -> io.Float.Input:
    return io.Float.Input("overlap_seconds", default=1.0, min=least, max=10.0, step=0.01, tooltip=tooltip)


MAX_SIDE = 4096


def strength_input(name: str, default: float, tower: str) -> io.Float.Input:
    return io.Float.Input(
        name,
        default=default,
        min=0.0,
        max=30.0,
        step=0.1,
        tooltip=f"How closely the {tower} follows the prompt. 1 is without guidance; with both at 1 a step takes half "
        "the time.",
    )


def skip_layers_input() -> io.String.Input:
    return io.String.Input(
        "skip_layers",
        default="11",
        advanced=True,
        tooltip="Block pairs left out of the negative pass, counted from 0; the full model has 30. 0 or nothing: none.",
    )


def solver_input() -> io.Combo.Input:
    return io.Combo.Input(
        "solver",
        options=list(solvers.SOLVERS),
        default="unipc",
        tooltip="The reference's three solvers, each with its own schedule: use the same one for schedule and sampler.",
    )


def schedule_inputs() -> list:
    steps = io.Int.Input("steps", default=50, min=1, max=1000, tooltip="Sampling steps; the reference takes 50.")
    shift = io.Float.Input(
        "shift",
        default=5.0,
        min=1.0,
        max=100.0,
        step=0.1,
        tooltip="Moves steps towards high noise, where large forms and timing are decided. The reference takes 5.",
    )
    return [steps, shift]


def denoise_input() -> io.Float.Input:
    return io.Float.Input(
        "denoise",
        default=1.0,
        min=0.0,
        max=1.0,
        step=0.01,
        tooltip="Share of the schedule to run: 1 makes a new clip, less changes the given latent.",
    )
