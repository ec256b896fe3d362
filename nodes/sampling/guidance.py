"""Guidance of each tower over the run, and how strongly the towers attend to each other."""

from __future__ import annotations

from comfy_api.latest import io

from ...ovi_core.errors import OviError
from ...ovi_core.model import base_model
from ...ovi_core.sampling import model_patches, schedules
from ...ovi_core.sampling.guidance import GuidanceOptions, TowerOptions
from ...ovi_core.sampling.schedules import Interval, Schedule
from ..shared.boundary import checked
from ..shared.widgets import GuidanceOptionsType, interval_inputs, model_input

CATEGORY = "Ovi/sampling"
TOWERS = ("both", "video", "audio")
AS_THE_GUIDER = "as the guider"


def _interval(start: float, end: float) -> Interval:
    if start <= end:
        return Interval(start, end)
    raise OviError(
        input="start_percent",
        found=f"a start at {start:g} and an end at {end:g}",
        accepted="a start that is not after the end",
        remedy="Exchange start_percent and end_percent.",
    )


def _option_inputs() -> list[io.Input]:
    return [
        io.Combo.Input("tower", options=list(TOWERS), default="both", tooltip="The tower this applies to."),
        *interval_inputs("guidance of this tower"),
        io.Combo.Input(
            "schedule",
            options=list(schedules.KINDS),
            default="constant",
            tooltip="How the strength changes from start to end. linear and cosine: from the guider's strength "
            "down to 1. points: as listed below.",
        ),
        io.String.Input(
            "points",
            default="0:4, 0.5:3, 1:1",
            tooltip="For schedule points: share of the run, colon, strength, such as 0:4, 0.5:3, 1:1; linear in "
            "between. They replace the guider's strength.",
        ),
        io.Float.Input(
            "modality_guidance",
            default=0.0,
            min=0.0,
            max=20.0,
            step=0.1,
            tooltip="How strongly to follow the other tower: lips the voice, sounds the visible events. Above "
            "0 a step takes half as long again.",
        ),
        io.Float.Input(
            "rescale",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="How far to bring the spread of the guided prediction back to that of the unguided one, "
            "against burnt colours and distorted sound at high strengths.",
        ),
        io.String.Input(
            "skip_layers",
            default=AS_THE_GUIDER,
            tooltip="Block pairs that this tower's negative pass skips, such as 11 or 10, 11. 0: none.",
        ),
        GuidanceOptionsType.Input(
            "options", optional=True, tooltip="Another Ovi Guidance Options. Its other tower is not changed."
        ),
        io.Float.Input(
            "reference_guidance",
            default=0.0,
            min=0.0,
            max=20.0,
            step=0.1,
            optional=True,
            tooltip="How strongly to follow the faces (video tower) and voices (audio tower) of Ovi Person. "
            "DreamID-Omni's own: 1.5 for the video, 2 for the audio. Above 0 a step takes half as long again "
            "for each tower.",
        ),
    ]


class OviGuidanceOptions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviGuidanceOptions",
            display_name="Ovi Guidance Options",
            category=CATEGORY,
            description="Guidance over time for the video tower, the audio tower or both, for Ovi Guider and Ovi "
            "Dual-Tower Sampler. If the towers differ, use one node for each, chained through options.",
            search_aliases=["cfg schedule", "guidance interval", "rescale cfg", "modality guidance", "skip layers"],
            inputs=_option_inputs(),
            outputs=[
                GuidanceOptionsType.Output(
                    display_name="options",
                    tooltip="For Ovi Dual-Tower Sampler, Ovi Guider, or another Ovi Guidance Options.",
                )
            ],
        )

    @classmethod
    @checked
    def execute(
        cls,
        tower: str = "both",
        start_percent: float = 0.0,
        end_percent: float = 1.0,
        schedule: str = "constant",
        points: str = "0:4, 0.5:3, 1:1",
        modality_guidance: float = 0.0,
        rescale: float = 0.0,
        skip_layers: str = AS_THE_GUIDER,
        options=None,
        reference_guidance: float = 0.0,
    ) -> io.NodeOutput:
        new = TowerOptions(
            interval=_interval(start_percent, end_percent),
            schedule=Schedule(schedule, schedules.parse_points(points) if schedule == "points" else ()),
            modality=modality_guidance,
            rescale=rescale,
            skip_layers=None if skip_layers.strip() == AS_THE_GUIDER else skip_layers,
            reference=reference_guidance,
        )
        before = options or GuidanceOptions()
        return io.NodeOutput(
            GuidanceOptions(*(new if tower in ("both", name) else old for name, old in before._asdict().items()))
        )


class OviCoupling(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        strength = {"default": 1.0, "min": 0.0, "max": 10.0, "step": 0.05}
        return io.Schema(
            node_id="OviCoupling",
            display_name="Ovi Coupling",
            category=CATEGORY,
            description="How strongly video and audio attend to each other, in the whole run or a part of it. The "
            "strengths of several nodes multiply.",
            search_aliases=["cross attention", "lip sync strength", "a2v", "v2a", "decouple towers"],
            inputs=[
                model_input(),
                io.Float.Input(
                    "video_to_audio",
                    tooltip="How strongly the audio tower attends to the video. 1: as trained. 0: not at all, which "
                    "also saves that work.",
                    **strength,
                ),
                io.Float.Input(
                    "audio_to_video",
                    tooltip="How strongly the video tower attends to the audio. 1: as trained. 0: "
                    "not at all, which also saves that work.",
                    **strength,
                ),
                *interval_inputs("this"),
                io.String.Input(
                    "layers",
                    default="all",
                    tooltip="Block pairs this applies to, counted from 0, such as 0-9, 20; the full model has 30.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="The model with these strengths.")],
        )

    @classmethod
    @checked
    def execute(
        cls,
        model,
        video_to_audio: float = 1.0,
        audio_to_video: float = 1.0,
        start_percent: float = 0.0,
        end_percent: float = 1.0,
        layers: str = "all",
    ) -> io.NodeOutput:
        chosen = model_patches.parse_layers(layers, base_model.require_ovi(model).num_layers)
        interval = _interval(start_percent, end_percent)
        scaling = model_patches.CrossModalScaling(video_to_audio, audio_to_video, chosen, interval)
        return io.NodeOutput(model_patches.with_cross_modal(model, scaling))


NODES = [OviGuidanceOptions, OviCoupling]
