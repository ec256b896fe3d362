"""What a run's settings should be for the variant of Ovi that a MODEL is noted to be, and where they are not.

Notes are for the user; nothing is changed but what is set to ``auto``.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch import Tensor

from ..conditioning.person import with_people, without_people
from ..latents.joint import is_absent
from ..latents.layout import TIME, clip_of, length
from ..model.base_model import require_ovi
from ..network.references import KEY
from ..spec import (
    DEFAULT_VARIANT,
    FPS,
    METADATA_KEY,
    SPOKEN,
    VARIANTS,
    ClipShape,
    Variant,
    audio_seconds,
    frames_for,
)
from ..text.prompt import too_much_speech
from ..weights.variant_note import noted_variant
from .guidance import Guidance, parse_skip_layers

AUTO = "auto"
PARTS = ("face", "voice")
TOWERS = ("video", "audio")


def skip_layers_for(text: str, patcher: Any) -> tuple[int, ...]:
    """Block pairs that the negative pass skips, from a node's text; ``auto`` gives those of the model's variant.

    Of a model of unknown variant ``auto`` gives those of Ovi's published weights, as far as it has so many pairs.

    Raises:
        OviError: a MODEL of another family; else as :func:`.guidance.parse_skip_layers`.
    """
    count = require_ovi(patcher).num_layers
    if text.strip().lower() != AUTO:
        return parse_skip_layers(text, count)
    own = (noted_variant(patcher) or DEFAULT_VARIANT).sampling.skip_layers
    return tuple(layer for layer in own if layer < count)


def notes_for(patcher: Any, positive: Any, guidance: Guidance) -> list[str]:
    """What does not fit the variant of a MODEL, for the user; nothing where the variant is not known.

    Args:
        positive: ComfyUI's CONDITIONING.
    """
    variant = noted_variant(patcher)
    if variant is None:
        return []
    options = [entry[1] for entry in positive if len(entry) > 1 and isinstance(entry[1], dict)]
    given = parts_given(options)
    return [
        *people_notes(variant, given),
        *_text_notes(variant, options),
        *_strength_notes(variant, guidance.video_cfg, guidance.audio_cfg, guidance.skip_layers),
        *(_reference_notes(variant, guidance, given) if variant.people else ()),
    ]


def clip_notes(patcher: Any, latent: dict) -> Iterator[str]:
    """What of a latent's size and length the variant of a MODEL was not trained on, where it was trained on few.

    Args:
        latent: the LATENT that is sampled, not checked yet.
    """
    variant = noted_variant(patcher)
    samples: Any = latent.get("samples")
    video = next(iter(samples.unbind()), None) if getattr(samples, "is_nested", False) else samples
    if variant is None or not variant.sizes or not isinstance(video, Tensor) or video.ndim != 5:
        return
    if is_absent(video.shape):
        return
    yield from size_notes(variant, [clip_of(video, length(video))])


def speech_notes(positive: Any, shapes: Sequence[Sequence[int]]) -> list[str]:
    """Whether a prompt has more said than its clip has time for.

    Args:
        positive: what each conditioning holds beside its tensor.
        shapes: of the run's latent: the video's, the audio's, or both.
    """
    lengths = [options.get(SPOKEN) for options in positive if isinstance(options, dict)]
    spoken = max((value for value in lengths if isinstance(value, float) and math.isfinite(value)), default=0.0)
    videos = [frames_for(shape[TIME]) / FPS for shape in shapes if len(shape) == 5 and not is_absent(shape)]
    seconds = videos or [audio_seconds(shape[TIME]) for shape in shapes if len(shape) == 3]
    if not seconds or spoken <= seconds[0]:
        return []
    found, remedy = too_much_speech(spoken, seconds[0])
    return [f"{found[:1].upper()}{found[1:]}. {remedy}"]


def latent_speech_notes(positive: Any, latent: dict) -> list[str]:
    """:func:`speech_notes` before a run.

    Args:
        positive: ComfyUI's CONDITIONING.
        latent: the LATENT that is sampled, not checked yet.
    """
    samples: Any = latent.get("samples")
    parts = samples.unbind() if getattr(samples, "is_nested", False) else [samples]
    options = [entry[1] for entry in positive if len(entry) > 1]
    return speech_notes(options, [part.shape for part in parts if isinstance(part, Tensor)])


def note_speech(conds: Any, shapes: Sequence[Sequence[int]]) -> None:
    """Log :func:`speech_notes` for a run.

    Args:
        conds: the guider's conditionings by name, as ComfyUI holds them.
    """
    for note in speech_notes((conds or {}).get("positive") or [], shapes):
        logging.warning("Ovi: %s", note)


def size_notes(variant: Variant, clips: Iterable[ClipShape]) -> Iterator[str]:
    """The sizes and lengths of clips that a variant was not trained on, each once, where it was trained on few."""
    clips = list(clips) if variant.sizes else []
    known = " and ".join(f"{width}x{height}" for width, height in variant.sizes)
    for width, height in dict.fromkeys((clip.width, clip.height) for clip in clips):
        if (width, height) not in variant.sizes:
            yield f"The weights {variant.name} were trained at {known} px; this clip has {width}x{height}."
    for frames, seconds in dict.fromkeys((clip.latent_frames, clip.seconds) for clip in clips):
        if frames != variant.latent_frames:
            yield f"The weights {variant.name} were trained on {variant.seconds:g} s; this clip has {seconds:.2f} s."


def story_notes(
    variant: Variant,
    clips: Iterable[ClipShape],
    people: bool,
    strengths: Iterable[tuple[float, float]],
    skip_layers: tuple[int, ...],
) -> list[str]:
    """What of a storyboard does not fit its variant.

    Args:
        clips: its shots.
        people: whether any shot is given a face or a voice.
        strengths: of each shot, for video and audio.
        skip_layers: block pairs that the negative pass skips.
    """
    unseen = people and not variant.people
    return [
        *([without_people(variant)] if unseen else []),
        *dict.fromkeys(note for pair in strengths for note in _strength_notes(variant, *pair, skip_layers)),
        *size_notes(variant, clips),
    ]


def parts_given(options: Iterable[dict]) -> set[str]:
    """``face`` and ``voice``, if any of a conditioning's reference people have one."""
    given = [entry.get(KEY) for entry in options]
    people = [person for some in given if isinstance(some, (list, tuple)) for person in some]
    return {part for part in PARTS if any(isinstance(p, dict) and p.get(part) is not None for p in people)}


def people_notes(variant: Variant, given: set[str]) -> Iterator[str]:
    """Whether the reference people are what the weights were trained on.

    Args:
        given: see :func:`parts_given`.
    """
    if given and not variant.people:
        yield (
            f"{without_people(variant)} What Ovi Person adds may disturb the clip. Load dreamid_omni, or leave Ovi "
            "Person out."
        )
    elif variant.people and not given:
        yield (f"{with_people(variant)} This run has none. Connect Ovi Person, or load Ovi's own weights.")
    elif variant.people and len(given) < len(PARTS):
        (lacking,) = set(PARTS) - given
        yield f"The weights {variant.name} were trained with at least one {lacking} as well; this run has none."


def note_people(patcher: Any, conds: Any) -> None:
    """Log :func:`people_notes` for a run of another guider than ours.

    Args:
        conds: the guider's conditionings by name, as ComfyUI holds them.
    """
    variant = noted_variant(patcher)
    entries = (conds or {}).get("positive") or []
    if variant is not None:
        for note in people_notes(variant, parts_given(entry for entry in entries if isinstance(entry, dict))):
            logging.warning("Ovi: %s", note)


def _text_notes(variant: Variant, options: list[dict]) -> Iterator[str]:
    """A prompt that was written for weights that read another form."""
    written = {VARIANTS[name] for entry in options if (name := entry.get(METADATA_KEY)) in VARIANTS}
    for other in written:
        if other.caption != variant.caption:
            yield (
                f"The prompt is encoded for {other.name}, the model is {variant.name}, which reads another form of "
                "prompt. Set variant of Ovi Text Encode to auto or to the model's."
            )


def _strength_notes(variant: Variant, video_cfg: float, audio_cfg: float, skip_layers: tuple) -> Iterator[str]:
    """Strengths and skipped pairs that are still those of Ovi's published weights."""
    own, ovi = variant.sampling, DEFAULT_VARIANT.sampling
    defaults = math.isclose(video_cfg, ovi.video_cfg) and math.isclose(audio_cfg, ovi.audio_cfg)
    if defaults and (own.video_cfg, own.audio_cfg) != (ovi.video_cfg, ovi.audio_cfg):
        yield (
            f"video_cfg {ovi.video_cfg:g} and audio_cfg {ovi.audio_cfg:g} are for Ovi's own weights. For "
            f"{variant.name} set {own.video_cfg:g} and {own.audio_cfg:g}."
        )
    if skip_layers == ovi.skip_layers != own.skip_layers:
        yield (
            f"skip_layers {_listed(ovi.skip_layers)} is for Ovi's own weights. For {variant.name} set auto, which is "
            f"{_listed(own.skip_layers)}."
        )


def _reference_notes(variant: Variant, guidance: Guidance, given: set[str]) -> Iterator[str]:
    """Reference people whose guidance is off."""
    own = (variant.sampling.video_reference, variant.sampling.audio_reference)
    for tower, part, strength, options in zip(TOWERS, PARTS, own, guidance.options, strict=True):
        if part in given and strength and not options.reference:
            yield (
                f"reference_guidance of the {tower} is 0, so the {part} acts weakly. For {variant.name} set "
                f"{strength:g} in Ovi Guidance Options (tower: {tower}) and connect it to guidance_options."
            )


def _listed(layers: tuple[int, ...]) -> str:
    return ", ".join(map(str, layers)) or "0 (none)"
