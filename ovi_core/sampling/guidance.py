"""Settings of the guidance of both towers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..errors import OviError
from ..stable_names import stable_name
from .schedules import CONSTANT, WHOLE_RUN, Interval, Schedule, share_of_run


@stable_name("guidance.TowerOptions", fields=("interval", "schedule", "modality", "rescale", "skip_layers"))
@dataclass(frozen=True)
class TowerOptions:
    """What one tower's guidance does beside its strength.

    Attributes:
        interval: part of the run in which this tower is guided at all.
        schedule: how its strength changes there.
        modality: how far its prediction is pushed away from the one without cross-modal attention.
        rescale: 0 to 1, how far the guided velocity is brought back to the spread of the positive one.
        skip_layers: block pairs that its negative pass leaves out, as the text of the nodes; None as the guider says.
        reference: how far its prediction is pushed away from the one whose reference people lack what this tower reads
            of them: faces for the video, voices for the audio.
    """

    interval: Interval = WHOLE_RUN
    schedule: Schedule = CONSTANT
    modality: float = 0.0
    rescale: float = 0.0
    skip_layers: str | None = None
    reference: float = 0.0


@stable_name("guidance.GuidanceOptions")
class GuidanceOptions(NamedTuple):
    """Options of both towers."""

    video: TowerOptions = TowerOptions()
    audio: TowerOptions = TowerOptions()


class Strengths(NamedTuple):
    """What applies to one tower in one step; see :class:`Guidance` and :class:`TowerOptions`."""

    cfg: float = 1.0
    modality: float = 0.0
    rescale: float = 0.0
    reference: float = 0.0


@dataclass(frozen=True)
class Guidance:
    """n + g (p - n) on the velocity, with a strength g for each tower, and what ``options`` add to it.

    With a the prediction for the positive prompt without cross-modal attention, modality guidance m adds m (p - a), as
    LTX-2 does; rescaling by f then mixes in the share f of the same multiplied by std(p) / std(guided)
    (arXiv 2305.08891, section 3.4), for each clip and tower.

    With f the prediction in which the faces are zeros, and s the one in which the voices are, reference guidance r adds
    r (p - f) to the video and r (p - s) to the audio (DreamID-Omni, arXiv 2602.12160).

    skip_layers: block pairs (counted from 0) that the negative pass leaves out.
    interval: part of the run in which guidance applies; outside only the positive prompt runs.
    """

    video_cfg: float = 4.0
    audio_cfg: float = 3.0
    skip_layers: tuple[int, ...] = (11,)
    interval: Interval = WHOLE_RUN
    options: GuidanceOptions = field(default_factory=GuidanceOptions)

    @property
    def off(self) -> bool:
        """Both strengths always 1: the negative pass would not change the result, so it does not run."""
        unguided = math.isclose(self.video_cfg, 1.0) and math.isclose(self.audio_cfg, 1.0)
        return unguided and all(options.schedule.kind != "points" for options in self.options)

    @property
    def constant(self) -> bool:
        """The same in every step."""
        return self.interval.whole and all(
            options.interval.whole and options.schedule.kind == "constant" for options in self.options
        )

    @property
    def has_modality(self) -> bool:
        return any(options.modality for options in self.options)

    def at(self, sigma: float, model_sampling: Any) -> tuple[Strengths, Strengths] | None:
        """What applies to video and audio at the noise level ``sigma``; None where neither is guided."""
        if not self.interval.holds(sigma, model_sampling):
            return None
        share = share_of_run(sigma, model_sampling)
        inside = [options.interval.holds(sigma, model_sampling) for options in self.options]
        return self._strengths(share, inside) if any(inside) else None

    def always(self) -> tuple[Strengths, Strengths]:
        """What applies in every step, where it is :attr:`constant`."""
        return self._strengths(0.0, [True, True])

    def _strengths(self, share: float, inside: Sequence[bool]) -> tuple[Strengths, Strengths]:
        video, audio = (
            Strengths(
                options.schedule.at(cfg, share, options.interval), options.modality, options.rescale, options.reference
            )
            if guided
            else Strengths()
            for cfg, options, guided in zip((self.video_cfg, self.audio_cfg), self.options, inside, strict=True)
        )
        return video, audio


def is_layer(word: str, num_layers: int) -> bool:
    """Whether ``word`` is the number of one of the model's block pairs, counted from 0."""
    return word.isdecimal() and len(word) < 10 and int(word) < num_layers  # int() refuses thousands of digits


def parse_skip_layers(text: str, num_layers: int) -> tuple[int, ...]:
    """Numbers of block pairs from a text such as ``"11"`` or ``"10, 11"``; "" and "0" skip none.

    As in the reference 0 stands for none: the first pair cannot be skipped.

    Raises:
        OviError: text that is no list of whole numbers, or a number the model has no block pair for.
    """
    parts = [part for part in text.replace(";", ",").replace(" ", ",").split(",") if part]
    accepted = f"block pairs 1 to {num_layers - 1}, as in '11' or '10, 11'; '0' or nothing for none"
    for part in parts:
        if not is_layer(part, num_layers):
            raise OviError(
                input="skip_layers", found=f"'{part}'", accepted=accepted, remedy="Correct the list of block pairs."
            )
    return tuple(sorted({int(part) for part in parts} - {0}))
