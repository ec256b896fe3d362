"""The language of a prompt: tags round the speech, a caption of the sound, and what is wrong with them.

``<S>words<E>`` is said aloud. The caption of the sound is ``<AUDCAP>...<ENDAUDCAP>`` for the 720x720 weights and
``Audio: ...`` at the end for the others.
"""

from __future__ import annotations

import difflib
import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ..spec import Variant

CLOSERS = {"<S>": "<E>", "<AUDCAP>": "<ENDAUDCAP>"}
OPENERS = {closer: opener for opener, closer in CLOSERS.items()}
ALIASES = {
    "S": "<S>",
    "SPEECH": "<S>",
    "SPEAK": "<S>",
    "E": "<E>",
    "ENDS": "<E>",
    "ENDSPEECH": "<E>",
    "AUDCAP": "<AUDCAP>",
    "AUD": "<AUDCAP>",
    "AUDIO": "<AUDCAP>",
    "AUDIOCAP": "<AUDCAP>",
    "AUDIOCAPTION": "<AUDCAP>",
    "ENDAUDCAP": "<ENDAUDCAP>",
    "AUDCAPEND": "<ENDAUDCAP>",
    "ENDAUDIO": "<ENDAUDCAP>",
    "ENDAUDIOCAP": "<ENDAUDCAP>",
    "ENDAUDIOCAPTION": "<ENDAUDCAP>",
}
HOW_TO_WRITE = {
    "<S>": "before the first spoken word",
    "<E>": "after the last spoken word",
    "<AUDCAP>": "before the caption of the sound",
    "<ENDAUDCAP>": "after the caption of the sound",
}

# Clear, unhurried speech; a clip that asks for more comes out as babble.
WORDS_PER_SECOND = 2.5
CJK_PER_SECOND = 4.5  # Chinese characters and kana; Korean puts blanks between words

_SPEECH = re.compile(r"<S>(.*?)<E>", re.DOTALL)
_CAPTION = re.compile(r"<AUDCAP>(.*?)<ENDAUDCAP>", re.DOTALL)
_TRAILING_CAPTION = re.compile(r"Audio:\s*(.*)", re.DOTALL)
_CAPTION_START = re.compile(r"<AUDCAP>|Audio:")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_TAG = re.compile(
    r"(?P<open><|＜|&lt;|\[|\{)(?P<inner>\s*(?P<before>[/\\]?)\s*(?P<name>[A-Za-z][A-Za-z_ -]{0,20}?)\s*"
    r"(?P<after>[/\\]?)\s*)(?P<close>>|＞|&gt;|\]|\})"
)


@dataclass(frozen=True)
class Problem:
    """Something in a prompt that the model would not read as meant.

    Attributes:
        severity: an error makes the prompt unusable, a warning tells what to expect.
        found: what is wrong, without the place.
        remedy: what to write instead, as a sentence.
        quote: the place, with its surroundings; the part at fault stands between » and «.
        position: index of that part in the prompt, in characters.
    """

    severity: Literal["error", "warning"]
    found: str
    remedy: str
    quote: str
    position: int

    @property
    def message(self) -> str:
        return f'{self.found}: "{self.quote}". {self.remedy}'


def format_for(prompt: str, variant: Variant) -> str:
    """The prompt with the caption of its sound written as ``variant`` was trained to read it.

    For ``<AUDCAP>`` everything from the first ``Audio:`` to the end becomes the caption.
    Source: the formatters in the reference's ``ovi_fusion_engine.py``, after the strip of its ``inference.py``.
    """
    prompt = prompt.strip()
    if variant.caption == "<AUDCAP>":
        return _TRAILING_CAPTION.sub(r"<AUDCAP>\1<ENDAUDCAP>", prompt)
    return _CAPTION.sub(r"Audio: \1", prompt)


def clean(text: str) -> str:
    """Text as the reference's tokenizer reads it: repaired Unicode, HTML entities resolved, single blanks.

    Entities are resolved twice, so that ``&amp;quot;`` ends as a quotation mark.
    """
    import ftfy  # here, so that loading the pack does not wait for it

    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())


def speech_lines(prompt: str) -> list[str]:
    """What is said aloud: the text of each ``<S>...<E>``, in order, without outer blanks."""
    return [line.strip() for line in _SPEECH.findall(prompt)]


def speech_seconds(text: str) -> float:
    """Estimated time in seconds to say ``text``, which holds no tags.

    A second holds 2.5 words; in languages written without blanks, 4.5 Chinese characters or kana.
    """
    spaced, characters = _CJK.subn(" ", text)
    words = sum(any(map(str.isalnum, word)) for word in spaced.split())
    return words / WORDS_PER_SECOND + characters / CJK_PER_SECOND


def problems(prompt: str, variant: Variant, seconds: float | None = None) -> list[Problem]:
    """Everything in ``prompt`` that would not be read as meant, in order of place.

    Args:
        prompt: as the artist wrote it.
        variant: the weights that will read it.
        seconds: length of the clip; by default the variant's.
    """
    found = [
        *_tag_problems(prompt),
        *_speech_problems(prompt, variant.seconds if seconds is None else seconds),
        *_caption_problems(prompt, variant),
    ]
    return sorted(found, key=lambda problem: problem.position)


def _tag_problems(prompt: str) -> Iterator[Problem]:
    """Misspelt, nested and unbalanced tags. A misspelt tag counts as the one it means, so it is reported once."""
    opened: re.Match[str] | None = None
    opener = ""
    excused: list[str] = []  # closers of pairs already reported as nested
    for match in _TAG.finditer(prompt):
        tag = _meant(match, opener)
        if tag is None:
            continue
        if match[0] != tag and not _cleaned_into(match[0], tag):
            yield _error(prompt, match, f"{match[0]} is not a tag of Ovi", f"Write {tag} {HOW_TO_WRITE[tag]}.")
        if tag in CLOSERS:
            if opened:
                closer = CLOSERS[opener]
                excused.append(closer)
                yield _error(
                    prompt,
                    match,
                    f"{tag} inside a {opener} that is still open",
                    f"Write {closer} before it, or in its place.",
                )
            opened, opener = match, tag
        elif opened and OPENERS[tag] == opener:
            opened, opener = None, ""
        elif tag in excused:
            excused.remove(tag)
        elif opened:
            yield _error(prompt, match, f"{tag} where {opener} is open", f"Write {CLOSERS[opener]} instead.")
            opened, opener = None, ""
        else:
            start = OPENERS[tag]
            yield _error(
                prompt, match, f"{tag} without a {start}", f"Write {start} {HOW_TO_WRITE[start]}, or delete the {tag}."
            )
    if opened:
        closer = CLOSERS[opener]
        yield _error(prompt, opened, f"{opener} is never closed", f"Write {closer} {HOW_TO_WRITE[closer]}.")


def _meant(match: re.Match[str], opener: str) -> str | None:
    """The tag that a bracketed word stands for, or None for a word of the scene. ``opener`` is the tag still open."""
    word = re.sub(r"[_ -]", "", match["name"])
    if match["open"] in "[{" or match["close"] in "]}":
        tag = ALIASES.get(word) if word in ("S", "E", "AUDCAP", "ENDAUDCAP") else None
    elif len(word) == 1 and word.islower() and match["inner"] != match["inner"].strip():
        return None  # "a < s > b" compares
    else:
        tag = ALIASES.get(word.upper()) or _near_tag(word.upper())
    if tag in CLOSERS and (match["before"] or (match["after"] and opener == tag)):
        return CLOSERS[tag]
    return tag


def _cleaned_into(written: str, tag: str) -> bool:
    """Whether cleaning makes the tag of it (&lt;S&gt;, full-width ＜S＞); captions are converted before that."""
    return tag in ("<S>", "<E>") and clean(written) == tag


def _near_tag(word: str) -> str | None:
    """A tag of which ``word`` looks like a slip of the pen."""
    near = difflib.get_close_matches(word, ["AUDCAP", "ENDAUDCAP"], n=1, cutoff=0.75)
    return ALIASES[near[0]] if near else None


def _speech_problems(prompt: str, seconds: float) -> Iterator[Problem]:
    total = sum(map(speech_seconds, speech_lines(prompt)))
    said = 0.0
    for match in _SPEECH.finditer(prompt):
        if not match[1].strip():
            yield _warning(prompt, match, "nothing is said here", "Write the spoken words between <S> and <E>.")
        before, said = said, said + speech_seconds(match[1])
        if before <= seconds < said:
            yield _warning(
                prompt,
                match,
                f"about {total:.1f} s of speech for a clip of {seconds:g} s",
                f"Shorten what is said to about {seconds * WORDS_PER_SECOND:.0f} words "
                f"({seconds * CJK_PER_SECOND:.0f} characters in Chinese or Japanese), or make the clip longer.",
            )


def _caption_problems(prompt: str, variant: Variant) -> Iterator[Problem]:
    captions = list(_CAPTION_START.finditer(prompt))
    wanted = "<AUDCAP>...<ENDAUDCAP>" if variant.caption == "<AUDCAP>" else "Audio: ..."
    if len(captions) > 1:
        yield _warning(
            prompt,
            captions[1],
            f"{len(captions)} captions of the sound",
            f"Write one, as {wanted} at the end of the prompt.",
        )
    label = re.search("Audio:", prompt)
    if label and (speech := re.search(r"<[SE]>", prompt[label.end() :])):
        yield _warning(
            prompt,
            label,
            f"{speech[0]} after Audio: is read as part of the caption of the sound",
            "Move the caption to the end of the prompt.",
        )


def _error(prompt: str, match: re.Match[str], found: str, remedy: str) -> Problem:
    return Problem("error", found, remedy, _quote(prompt, match), match.start())


def _warning(prompt: str, match: re.Match[str], found: str, remedy: str) -> Problem:
    return Problem("warning", found, remedy, _quote(prompt, match), match.start())


def _quote(prompt: str, match: re.Match[str], around: int = 24) -> str:
    """The match between » and «, with a few characters of its surroundings, on one line."""
    start, end = match.span()
    marked = match[0] if end - start <= 2 * around else f"{match[0][:around]}…{match[0][-around:]}"
    before = "…" * (start > around) + prompt[max(0, start - around) : start]
    after = prompt[end : end + around] + "…" * (end + around < len(prompt))
    return re.sub(r"\s+", " ", f"{before}»{marked}«{after}")
