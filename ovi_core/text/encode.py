"""A prompt to conditioning, read word for word: no prompt weights, no embeddings, 512 positions."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from ..errors import OviError
from ..spec import DEFAULT_VARIANT, SPOKEN, TEXT_LENGTH, Variant
from ..weights.variant_note import noted_variant
from . import comfyui, people_prompt
from .prompt import Problem, checked_text, clean, format_for, problems, spoken_seconds

if TYPE_CHECKING:
    from comfy.sd import CLIP

PAD, EOS = 0, 1  # umt5's ids of padding and of the end of a text
MATTERS = re.compile(r"<(?:AUD|ENDAUD)CAP>|<(?:img|sub)\d>|\[[A-Z_]+_START\]", re.IGNORECASE)
"""What variants read differently."""
ERRORS_REPORTED = 3  # a user repairs a few at a time


def encode(clip: CLIP, prompt: str, variant: Variant) -> tuple[list[list[Any]], list[str]]:
    """Encode what the user wrote, for both towers.

    Cleaning, the caption of the audio as ``variant`` reads it, tokens, at most 511 of them and the end of the text,
    padding to 512. The reference cleans after it looks for the caption, so that it misses one with a full-width colon;
    the result is the same for every other text. Weights that were trained on reference people read a caption file of
    DreamID-Omni, or a prompt of its form.

    Args:
        clip: umt5-xxl, as CLIPLoader of type ``wan`` gives it.
        prompt: as the user wrote it.
        variant: the weights that will read it.

    Returns:
        ComfyUI's CONDITIONING with one tensor ``[1, 512, text_dim]``, zero after the end of the text, and the seconds
        that its speech takes; and warnings, each a paragraph that quotes the place.

    Raises:
        OviError: ``clip`` is no umt5, the prompt is no text or far too long, or a tag of it is misspelt, nested or
            unbalanced, or a person's tag misnumbered.
    """
    spiece = umt5_sentencepiece(clip)
    prompt = checked_text(prompt, "prompt")
    if variant.people:
        prompt = people_prompt.read_prompt(prompt)
    found = problems(prompt, variant, math.inf)  # the sampler knows how long the clip is
    _refuse([problem for problem in found if problem.severity == "error"])
    ids, unread = _token_ids(spiece, " ".join(format_for(clean(prompt), variant).split()))
    # ComfyUI's tokenizer would look for weights, escapes and embeddings in the text, and never cut it.
    tokens = {clip.tokenizer.clip_name: [[(token, 1.0) for token in ids]]}
    warnings = [problem.message for problem in found]
    if unread:
        warnings.append(_unread_warning(unread))
    conditioning = clip.encode_from_tokens_scheduled(tokens)
    if seconds := spoken_seconds(prompt):
        conditioning = [[tensor, {**options, SPOKEN: seconds}] for tensor, options in conditioning]
    return conditioning, warnings


def variant_for(clip: CLIP, prompt: str, chosen: Variant | None) -> tuple[Variant, list[str]]:
    """The weights that a prompt is written for, and notes for the user.

    Args:
        chosen: by the user; None for those that ``clip`` was loaded for, or Ovi's first where that is not known.
    """
    noted = noted_variant(getattr(clip, "patcher", None))
    if chosen is None:
        unsure = noted is None and isinstance(prompt, str) and MATTERS.search(prompt)
        doubt = (
            f"variant is auto, and the CLIP does not show what it was loaded for: '{unsure[0]}' is read as "
            f"{DEFAULT_VARIANT.name} reads it. Set variant for other weights."
            if unsure
            else ""
        )
        return noted or DEFAULT_VARIANT, [doubt] if doubt else []
    if noted is not None and noted.caption != chosen.caption:
        other = (
            f"variant is {chosen.name}, but the CLIP was loaded for {noted.name}, which reads prompts of another form."
        )
        return chosen, [f"{other} Set variant to auto."]
    return chosen, []


def umt5_sentencepiece(clip: CLIP) -> Any:
    """The sentencepiece processor inside ``clip``, whose file brings its own vocabulary."""
    found = comfyui.sentencepiece_of(clip)
    if found is not None:
        return found
    if clip is None:
        what = "no text encoder (the loader found none in its file)"
    else:
        tokenizer = getattr(clip, "tokenizer", None)
        names = [type(tokenizer or clip).__name__, getattr(tokenizer, "clip_name", "")]
        what = f"a CLIP of another family ({', '.join(filter(None, names))})"
    raise OviError(
        input="clip",
        found=what,
        accepted="umt5-xxl, the text encoder of Wan",
        remedy="Load a umt5_xxl file with CLIPLoader, type 'wan', and connect that.",
    )


def _refuse(errors: list[Problem]) -> None:
    if not errors:
        return
    first = errors[:ERRORS_REPORTED]
    more = f"; and {len(errors) - len(first)} more" if len(errors) > len(first) else ""
    raise OviError(
        input="prompt",
        found="; ".join(f'{error.found}: "{error.quote}"' for error in first) + more,
        accepted="speech as <S>words<E>, the audio as <AUDCAP>caption<ENDAUDCAP> or 'Audio: caption' at the end",
        remedy=" ".join(error.remedy for error in first),
    )


def _token_ids(spiece: Any, text: str) -> tuple[list[int], str]:
    """Ids of ``text``, its end and the padding, 512 in all; and the end of the text for which there was no room."""
    try:
        pieces = spiece.encode(text, add_bos=False, add_eos=False)
    except RuntimeError as error:  # a damaged table of characters, which is noticed only by some texts
        raise OviError(
            input="clip",
            found=f"a tokenizer that cannot read this prompt ({error})",
            accepted="umt5-xxl with its own tokenizer",
            remedy="Fetch the text encoder's file again.",
        ) from error
    kept, unread = pieces[: TEXT_LENGTH - 1], pieces[TEXT_LENGTH - 1 :]
    ids = [*kept, EOS]
    return ids + [PAD] * (TEXT_LENGTH - len(ids)), spiece.decode(unread)


def _unread_warning(unread: str) -> str:
    words = unread.split()
    start = " ".join(words[:12]) + ("…" if len(words) > 12 else "")
    return (
        f"The prompt is longer than the {TEXT_LENGTH} tokens that Ovi reads. The last {len(words)} words are not read: "
        f'"{start}". Shorten the prompt; what matters most goes first.'
    )
