"""Sampling: guidance of both towers, the reference's schedules and solvers, and all of it in one node."""

from __future__ import annotations

from comfy_api.latest import io

from ..ovi_core.errors import reported_by
from ..ovi_core.model import base_model
from ..ovi_core.sampling import sample, solvers
from ..ovi_core.sampling.guidance import Guidance, GuidanceOptions, parse_skip_layers
from ..ovi_core.sampling.guider import OviGuider as Guider
from ..ovi_core.sampling.schedules import Interval
from .guidance import NODES as GUIDANCE_NODES
from .guidance import GuidanceOptionsType
from .remix import NODES as REMIX_NODES
from .widgets import denoise_input, schedule_inputs, skip_layers_input, solver_input, strength_input

CATEGORY = "Ovi/sampling"


def _options() -> io.Input:
    return GuidanceOptionsType.Input(
        "guidance_options",
        optional=True,
        tooltip="From Ovi Guidance Options: schedules, intervals and more for either tower.",
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
                strength_input("video_cfg", 4.0, "picture"),
                strength_input("audio_cfg", 3.0, "sound"),
                skip_layers_input(),
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
        layers = parse_skip_layers(skip_layers, base_model.require_ovi(model).num_layers)
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
            inputs=[solver_input(), *schedule_inputs(), denoise_input()],
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
            inputs=[solver_input()],
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
                schedule_inputs()[0],
                strength_input("video_cfg", 4.0, "picture"),
                strength_input("audio_cfg", 3.0, "sound"),
                schedule_inputs()[1],
                solver_input(),
                skip_layers_input(),
                denoise_input(),
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
        layers = parse_skip_layers(skip_layers, base_model.require_ovi(model).num_layers)
        guidance = Guidance(video_cfg, audio_cfg, layers, options=guidance_options or GuidanceOptions())
        sigmas = sample.sigmas_for(solver, steps, shift, denoise)
        return io.NodeOutput(sample.sample(model, positive, negative, guidance, latent, solver, sigmas, seed))


NODES = [OviGuider, OviScheduler, OviSamplerSelect, OviSampler, *GUIDANCE_NODES, *REMIX_NODES]
