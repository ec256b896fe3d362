"""Copies of a MODEL with other settings of the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import comfy.model_patcher

from ..errors import OviError
from ..network import circular_shift, cross_modal
from ..network.layers import CHUNK_TOKENS
from ..network.run_cache import noise_level
from ..stable_names import stable_name
from .comfyui import WrappersMP
from .guidance import is_layer
from .schedules import WHOLE_RUN, Interval


def with_loop(patcher: comfy.model_patcher.ModelPatcher) -> comfy.model_patcher.ModelPatcher:
    """A copy of a MODEL that generates clips whose end meets their start."""
    patcher = patcher.clone()
    patcher.model_options.setdefault("transformer_options", {})[circular_shift.KEY] = True
    return patcher


def with_chunks(patcher: Any, chunk_tokens: int) -> Any:
    """A copy of a MODEL that runs feed-forward and attention queries on ``chunk_tokens`` tokens at most at a time."""
    patcher = patcher.clone()
    patcher.model_options.setdefault("transformer_options", {})[CHUNK_TOKENS] = chunk_tokens
    return patcher


@stable_name("coupling.Coupling", fields=("video_to_audio", "audio_to_video", "layers", "interval"))
@dataclass(frozen=True)
class CrossModalScaling:
    """Scales of the attention between the towers: 1 as trained, 0 without.

    Attributes:
        video_to_audio: scale of the audio tower's attention to the video.
        audio_to_video: scale of the video tower's attention to the audio.
        layers: block pairs to which it applies, counted from 0; None for all.
        interval: part of the run in which it applies.
    """

    video_to_audio: float = 1.0
    audio_to_video: float = 1.0
    layers: tuple[int, ...] | None = None
    interval: Interval = WHOLE_RUN

    def of_block(self, i: int) -> tuple[float, float]:
        """Scales of the video and the audio tower in block pair ``i``."""
        return (self.audio_to_video, self.video_to_audio) if self.layers is None or i in self.layers else (1.0, 1.0)


def parse_layers(text: str, num_layers: int) -> tuple[int, ...] | None:
    """Block pairs from a text such as ``"all"``, ``"11"`` or ``"0-9, 20"``; None for all.

    Raises:
        OviError: a text that is no such list, an empty one, or a number that the model has no block pair for.
    """
    words = text.replace(";", ",").replace(" - ", "-").replace(" ", ",").split(",")
    parts = [word for word in words if word]
    if [part.lower() for part in parts] == ["all"]:
        return None
    layers: set[int] = set()
    for part in parts:
        ends = part.split("-")
        if len(ends) > 2 or not all(is_layer(end, num_layers) for end in ends) or int(ends[0]) > int(ends[-1]):
            raise _wrong_layers(f"'{part}'", num_layers)
        layers.update(range(int(ends[0]), int(ends[-1]) + 1))
    if not layers:
        raise _wrong_layers(f"'{text}'", num_layers)
    return tuple(sorted(layers))


def _wrong_layers(found: str, num_layers: int) -> OviError:
    return OviError(
        input="layers",
        found=found,
        accepted=f"'all', or block pairs 0 to {num_layers - 1}, as in '11' or '0-9, 20'",
        remedy="Correct the list of block pairs.",
    )


def with_cross_modal(
    patcher: comfy.model_patcher.ModelPatcher, scaling: CrossModalScaling
) -> comfy.model_patcher.ModelPatcher:
    """A copy of a MODEL with ``scaling`` of its cross-modal attention; several multiply."""

    @stable_name("coupling.couple.<locals>.wrapper", holds=(scaling,))
    def wrapper(
        executor: Any, x: Any, sigma: Any, concat: Any, context: Any, control: Any, options: dict, **kwargs: Any
    ) -> Any:
        model = executor.class_obj
        if scaling.interval.whole or scaling.interval.holds(noise_level(options, sigma), model.model_sampling):
            before = options.get(cross_modal.KEY, [(1.0, 1.0)] * model.num_layers)
            new = [
                (video * own[0], audio * own[1])
                for (video, audio), own in zip(before, map(scaling.of_block, range(model.num_layers)), strict=True)
            ]
            options = {**options, cross_modal.KEY: new}
        return executor(x, sigma, concat, context, control, options, **kwargs)

    patcher = patcher.clone()
    patcher.add_wrapper_with_key(WrappersMP.APPLY_MODEL, cross_modal.KEY, wrapper)
    return patcher
