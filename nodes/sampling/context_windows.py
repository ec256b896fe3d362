"""Clips longer than the weights were trained on."""

from __future__ import annotations

from comfy_api.latest import io

from ...ovi_core.model.base_model import require_ovi
from ...ovi_core.sampling import context_windows
from ...ovi_core.spec import VARIANTS
from ..shared.boundary import checked
from ..shared.widgets import model_input, variant_input


class OviContextWindows(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviContextWindows",
            display_name="Ovi Context Windows",
            category="Ovi/sampling",
            description="For clips longer than the weights were trained on: the model works on overlapping windows of "
            "the trained length, with both towers in sync, in every sampler. Shorter clips are not affected. Untested "
            "with the published weights.",
            search_aliases=["long video", "sliding window", "longer than 10 seconds", "context length"],
            inputs=[
                model_input(),
                variant_input("The variant in use. A window has the length it was trained on."),
                io.Float.Input(
                    "overlap_seconds",
                    default=1.0,
                    min=0.1,
                    max=5.0,
                    step=0.1,
                    tooltip="Minimum overlap of two windows, in which they cross-fade. More keeps faces and voices "
                    "more consistent and takes longer.",
                ),
                io.Boolean.Input(
                    "repeat_first_frame",
                    default=False,
                    tooltip="Show every window the clip's first frame, such as a start image, instead of the frame "
                    "before the window. Faces stay the same, but motion may restart.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="The model, set to work in windows.")],
        )

    @classmethod
    @checked
    def execute(
        cls, model, variant: str, overlap_seconds: float = 1.0, repeat_first_frame: bool = False
    ) -> io.NodeOutput:
        require_ovi(model)
        steps = VARIANTS[variant].latent_frames
        return io.NodeOutput(context_windows.with_context_windows(model, steps, overlap_seconds, repeat_first_frame))


NODES = [OviContextWindows]
