"""What is installed, missing and possible, as text."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ...ovi_core.loading import check
from ...ovi_core.sampling.variant_settings import AUTO
from ...ovi_core.spec import VARIANTS
from ..shared.boundary import checked
from ..shared.widgets import variant_input
from ..sharing import version


class OviCheck(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviCheck",
            display_name="Ovi Check",
            category="Ovi/loaders",
            description="Lists the files of Ovi that are there, which are missing and where to get them, and which "
            "variant and precision fit your card. Paste the text into a question: it names neither you nor your "
            "computer.",
            search_aliases=["ovi files", "missing models", "which card", "vram", "system info", "report", "diagnose"],
            inputs=[
                variant_input(
                    "For which weights to list what is missing and what fits. auto: the best for this card.", auto=True
                ),
            ],
            outputs=[io.String.Output(display_name="report", tooltip="The text that the node shows.")],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> float:
        return float("nan")  # equal to nothing, so every run looks again

    @classmethod
    @checked
    def execute(cls, variant: str = AUTO) -> io.NodeOutput:
        text = check.report(version(), VARIANTS.get(variant))
        return io.NodeOutput(text, ui=ui.PreviewText(text))


NODES = [OviCheck]
