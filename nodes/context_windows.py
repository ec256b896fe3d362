"""Clips longer than the model was trained on."""

from __future__ import annotations

from comfy_api.latest import io

from ..ovi_core.errors import reported_by
from ..ovi_core.model.base_model import require_ovi
from ..ovi_core.sampling import context_windows
from ..ovi_core.spec import VARIANTS

CATEGORY = "Ovi/sampling"


class OviContextWindows(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviContextWindows",
            display_name="Ovi Context Windows",
            category=CATEGORY,
            description="For clips longer than the weights were trained on: the model works on overlapping windows of "
            "its trained length, pictures and sound in step, in every sampler. Shorter clips are made as without.",
            search_aliases=["long video", "sliding window", "longer than 10 seconds", "context length"],
            inputs=[
                io.Model.Input("model", tooltip="An Ovi model."),
                io.Combo.Input(
                    "variant",
                    options=list(VARIANTS),
                    default="960x960_10s",
                    tooltip="The weights in use: a window is as long as they were trained on.",
                ),
                io.Float.Input(
                    "overlap_seconds",
                    default=1.0,
                    min=0.1,
                    max=5.0,
                    step=0.1,
                    tooltip="What two windows have in common at least, and go over into one another within. More holds "
                    "faces and voices together better and takes longer.",
                ),
                io.Boolean.Input(
                    "repeat_first_frame",
                    default=False,
                    tooltip="Show every window the clip's first frame, such as a start picture, in place of the one "
                    "before it: a face stays the same, and motion may start anew.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model")],
        )

    @classmethod
    @reported_by("Ovi Context Windows")
    def execute(
        cls, model, variant: str, overlap_seconds: float = 1.0, repeat_first_frame: bool = False
    ) -> io.NodeOutput:
        require_ovi(model)
        steps = VARIANTS[variant].video_steps
        return io.NodeOutput(context_windows.with_windows(model, steps, overlap_seconds, repeat_first_frame))


NODES = [OviContextWindows]
