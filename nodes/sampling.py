"""Sampling: guidance of both towers, the reference's schedules and solvers, and all of it in one node."""

from __future__ import annotations

from comfy_api.latest import io

from ..ovi_core.errors import reported_by
from ..ovi_core.sampling import sample, solvers
from ..ovi_core.sampling.guider import Guidance, GuidanceOptions, parse_skip_layers
from ..ovi_core.sampling.guider import OviGuider as Guider
from ..ovi_core.sampling.schedules import Interval
from .guidance import NODES as GUIDANCE_NODES
from .guidance import GuidanceOptionsType
from .remix import NODES as REMIX_NODES

CATEGORY = "Ovi/sampling"


def _strength(name: str, default: float, tower: str) -> io.Float.Input:
    return io.Float.Input(
        name,
        default=default,
        min=0.0,
        max=30.0,
        step=0.1,
        tooltip=f"How closely the {tower} follows the prompt. 1 is without guidance; with both at 1 a step takes half "
        "the time.",
    )


def _skip_layers() -> io.String.Input:
    return io.String.Input(
        "skip_layers",
        default="11",
        advanced=True,
        tooltip="Block pairs left out of the negative pass, counted from 0; the full model has 30. 0 or nothing: none.",
    )


def _solver() -> io.Combo.Input:
    return io.Combo.Input(
        "solver",
        options=list(solvers.SOLVERS),
        default="unipc",
        tooltip="The reference's three solvers, each with its own schedule: use the same one for schedule and sampler.",
    )


def _options() -> io.Input:
    return GuidanceOptionsType.Input(
        "guidance_options",
        optional=True,
        tooltip="From Ovi Guidance Options: schedules, intervals and more for either tower.",
    )


def _schedule() -> list:
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


def _denoise() -> io.Float.Input:
    return io.Float.Input(
        "denoise",
        default=1.0,
        min=0.0,
        max=1.0,
        step=0.01,
        tooltip="Share of the schedule to run: 1 makes a new clip, less changes the given latent.",
    )


class OviGuider(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        percent = {"min": 0.0, "max": 1.0, "step": 0.01, "advanced": True}
        return io.Schema(
            node_id="OviGuider",
            display_name="Ovi Guider",
            category=CATEGORY,
            description="Guidance with a strength for each tower, for SamplerCustomAdvanced.",
            search_aliases=["ovi cfg", "dual guidance", "skip layer guidance"],
            inputs=[
                io.Model.Input("model", tooltip="An Ovi model."),
                io.Conditioning.Input("positive", tooltip="What the clip should show and sound like."),
                io.Conditioning.Input(
                    "negative", tooltip="What to keep away from; Ovi Dual Conditioning for both towers."
                ),
                _strength("video_cfg", 4.0, "picture"),
                _strength("audio_cfg", 3.0, "sound"),
                _skip_layers(),
                io.Float.Input(
                    "start_percent", default=0.0, tooltip="Share of the run after which guidance begins.", **percent
                ),
                io.Float.Input("end_percent", default=1.0, tooltip="Share of the run after which it ends.", **percent),
                _options(),
            ],
            outputs=[io.Guider.Output(display_name="guider")],
        )

    @classmethod
    @reported_by("Ovi Guider")
    def execute(
        cls,
        model,
        positive,
        negative,
        video_cfg: float,
        audio_cfg: float,
        skip_layers: str = "11",
        start_percent: float = 0.0,
        end_percent: float = 1.0,
        guidance_options=None,
    ) -> io.NodeOutput:
        layers = parse_skip_layers(skip_layers, sample.require_ovi(model).num_layers)
        interval, options = Interval(start_percent, end_percent), guidance_options or GuidanceOptions()
        guider = Guider(model, Guidance(video_cfg, audio_cfg, layers, interval, options))
        guider.set_conds(positive, negative)
        return io.NodeOutput(guider)


class OviScheduler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviScheduler",
            display_name="Ovi Scheduler",
            category=CATEGORY,
            description="The reference's noise schedule for one of its solvers.",
            search_aliases=["ovi sigmas", "ovi steps"],
            inputs=[_solver(), *_schedule(), _denoise()],
            outputs=[io.Sigmas.Output(display_name="sigmas")],
        )

    @classmethod
    @reported_by("Ovi Scheduler")
    def execute(cls, solver: str, steps: int, shift: float, denoise: float = 1.0) -> io.NodeOutput:
        return io.NodeOutput(sample.sigmas_for(solver, steps, shift, denoise))


class OviSamplerSelect(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviSamplerSelect",
            display_name="Ovi Sampler Select",
            category=CATEGORY,
            description="One of the reference's solvers as a SAMPLER. Stock samplers work too, on their own schedules.",
            search_aliases=["ovi solver", "unipc", "dpm++"],
            inputs=[_solver()],
            outputs=[io.Sampler.Output(display_name="sampler")],
        )

    @classmethod
    def execute(cls, solver: str) -> io.NodeOutput:
        return io.NodeOutput(solvers.sampler(solver))


class OviSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviSampler",
            display_name="Ovi Dual-Tower Sampler",
            category=CATEGORY,
            description="Make a clip and its sound together, with the reference's solvers, schedules and guidance.",
            search_aliases=["ovi ksampler", "video with sound", "talking video", "lip sync"],
            inputs=[
                io.Model.Input("model", tooltip="An Ovi model."),
                io.Conditioning.Input("positive", tooltip="What the clip should show and sound like."),
                io.Conditioning.Input(
                    "negative", tooltip="What to keep away from; Ovi Dual Conditioning for both towers."
                ),
                io.Latent.Input("latent", tooltip="From Empty Ovi Latent or Ovi Image To Video."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="The noise to start from: the same seed and settings give the same clip.",
                ),
                _schedule()[0],
                _strength("video_cfg", 4.0, "picture"),
                _strength("audio_cfg", 3.0, "sound"),
                _schedule()[1],
                _solver(),
                _skip_layers(),
                _denoise(),
                _options(),
            ],
            outputs=[io.Latent.Output(display_name="latent")],
        )

    @classmethod
    @reported_by("Ovi Dual-Tower Sampler")
    def execute(
        cls,
        model,
        positive,
        negative,
        latent,
        seed: int,
        steps: int,
        video_cfg: float,
        audio_cfg: float,
        shift: float,
        solver: str,
        skip_layers: str = "11",
        denoise: float = 1.0,
        guidance_options=None,
    ) -> io.NodeOutput:
        layers = parse_skip_layers(skip_layers, sample.require_ovi(model).num_layers)
        guidance = Guidance(video_cfg, audio_cfg, layers, options=guidance_options or GuidanceOptions())
        sigmas = sample.sigmas_for(solver, steps, shift, denoise)
        return io.NodeOutput(sample.sample(model, positive, negative, guidance, latent, solver, sigmas, seed))


NODES = [OviGuider, OviScheduler, OviSamplerSelect, OviSampler, *GUIDANCE_NODES, *REMIX_NODES]
