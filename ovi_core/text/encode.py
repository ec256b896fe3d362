"""A prompt to conditioning, read word for word: no prompt weights, no embeddings, 512 positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import OviError
from ..spec import TEXT_LENGTH, Variant
from . import comfyui
from .prompt import Problem, checked_text, clean, format_for, problems

if TYPE_CHECKING:
    from comfy.sd import CLIP

PAD, EOS = 0, 1  # umt5's ids of padding and of the end of a text
ERRORS_REPORTED = 3  # a user repairs a few at a time


def encode(clip: CLIP, prompt: str, variant: Variant) -> tuple[list[list[Any]], list[str]]:
    """Encode what the user wrote, for both towers.

    Cleaning, the caption of the audio as ``variant`` reads it, tokens, at most 511 of them and the end of the text,
    padding to 512. The reference cleans after it looks for the caption, so that it misses one with a full-width colon;
    the result is the same for every other text.

    Args:
        clip: umt5-xxl, as CLIPLoader of type ``wan`` gives it.
        prompt: as the user wrote it.
        variant: the weights that will read it.

    Returns:
        ComfyUI's CONDITIONING with one tensor ``[1, 512, text_dim]``, zero after the end of the text; and warnings,
        each a paragraph that quotes the place.

    Raises:
        OviError: ``clip`` is no umt5, the prompt is no text or far too long, or a tag of it is misspelt, nested or
            unbalanced.
    """
    spiece = umt5_sentencepiece(clip)
    found = problems(checked_text(prompt, "prompt"), variant)
    _refuse([problem for problem in found if problem.severity == "error"])
    ids, unread = _token_ids(spiece, " ".join(format_for(clean(prompt), variant).split()))
    # ComfyUI's tokenizer would look for weights, escapes and embeddings in the text, and never cut it.
    tokens = {clip.tokenizer.clip_name: [[(token, 1.0) for token in ids]]}
    warnings = [problem.message for problem in found]
    if unread:
        warnings.append(_unread_warning(unread))
    return clip.encode_from_tokens_scheduled(tokens), warnings


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
