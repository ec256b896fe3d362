"""The language of a prompt: tags around speech, a caption of the audio, and what is wrong with them.

``<S>words<E>`` is said aloud. The caption of the audio is ``<AUDCAP>...<ENDAUDCAP>`` for the 720x720 weights and
``Audio: ...`` at the end for the others. Every search takes time in proportion to the text.
"""

from __future__ import annotations

import difflib
import html
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ..errors import OviError
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
    "<AUDCAP>": "before the caption of the audio",
    "<ENDAUDCAP>": "after the caption of the audio",
}

# Clear, unhurried speech; a clip that asks for more comes out as babble.
WORDS_PER_SECOND = 2.5
CJK_PER_SECOND = 4.5  # Chinese characters and kana; Korean puts blanks between words

LONGEST_PROMPT = 50_000  # characters; the model reads 512 tokens, some 2,000 characters

_TRAILING_CAPTION = re.compile(r"Audio:\s*(.*)", re.DOTALL)
_CAPTION_START = re.compile(r"<AUDCAP>|Audio:")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_INVISIBLE = re.compile(r"[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_WIDE = {wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F)}
"""Full-width forms of letters and signs, which cleaning turns into those of ASCII."""
_TAG = re.compile(
    r"(?P<open><|&lt;|\[|\{)(?P<inner>\s{0,8}(?P<before>[/\\]?)\s{0,8}(?P<name>[A-Za-z][A-Za-z_ -]{0,20}?)\s{0,8}"
    r"(?P<after>[/\\]?)\s{0,8})(?P<close>>|&gt;|\]|\})"
)


class _Span(NamedTuple):
    """A place in a prompt, in characters."""

    start: int
    end: int


class _View:
    """A prompt as its tags are looked for: without invisible characters, full-width forms as those of ASCII."""

    def __init__(self, prompt: str) -> None:
        self.prompt = prompt
        hidden = {match.start() for match in _INVISIBLE.finditer(prompt)}
        self.places = [at for at in range(len(prompt)) if at not in hidden] if hidden else range(len(prompt))
        self.text = _INVISIBLE.sub("", prompt).translate(_WIDE)

    def span(self, match: re.Match[str]) -> _Span:
        """Where a match in the view stands in the prompt."""
        return _Span(self.places[match.start()], self.places[match.end() - 1] + 1)

    def written(self, match: re.Match[str]) -> str:
        """What the prompt has in the place of a match in the view."""
        start, end = self.span(match)
        return self.prompt[start:end]


@dataclass(frozen=True)
class Problem:
    """Something in a prompt that the model would not read as meant.

    Attributes:
        severity: an error makes the prompt unusable, a warning says what to expect.
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


def checked_text(text: object, input: str) -> str:
    """A prompt or a part of one; OviError unless it is a text that is not far longer than any that is read."""
    if isinstance(text, str) and len(text) <= LONGEST_PROMPT:
        return text
    raise OviError(
        input=input,
        found=f"a text of {len(text):,} characters" if isinstance(text, str) else f"a {type(text).__name__}",
        accepted=f"a text of up to {LONGEST_PROMPT:,} characters, of which Ovi reads about the first 2,000",
        remedy="Shorten the text." if isinstance(text, str) else "Connect a STRING.",
    )


def format_for(prompt: str, variant: Variant) -> str:
    """The prompt with the caption of its audio written as ``variant`` was trained to read it.

    For ``<AUDCAP>`` everything from the first ``Audio:`` to the end becomes the caption. For weights without a form of
    caption the prompt stays as it is.
    Source: the formatters in the reference's ``ovi_fusion_engine.py``, after the strip of its ``inference.py``.
    """
    prompt = prompt.strip()
    if variant.caption == "none":
        return prompt
    if variant.caption == "<AUDCAP>":
        return _TRAILING_CAPTION.sub(r"<AUDCAP>\1<ENDAUDCAP>", prompt)
    parts, at = [], 0
    for start, end in _enclosed(prompt, "<AUDCAP>"):
        parts += [prompt[at : start - len("<AUDCAP>")], "Audio: ", prompt[start:end]]
        at = end + len("<ENDAUDCAP>")
    return "".join([*parts, prompt[at:]])


def clean(text: str) -> str:
    """Text as the reference's tokenizer reads it: repaired Unicode, HTML entities resolved, single blanks.

    Entities are resolved twice, so that ``&amp;quot;`` ends as a quotation mark.
    """
    import ftfy  # here, so that loading the pack does not wait for it

    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())


def _enclosed(text: str, opener: str) -> Iterator[_Span]:
    """What stands between each ``opener`` and the next of its closers."""
    at, closer = 0, CLOSERS[opener]
    while (start := text.find(opener, at)) >= 0 and (end := text.find(closer, start + len(opener))) >= 0:
        yield _Span(start + len(opener), end)
        at = end + len(closer)


def speech_lines(prompt: str) -> list[str]:
    """What is said aloud: the text of each ``<S>...<E>``, in order, without outer blanks."""
    return [prompt[start:end].strip() for start, end in _enclosed(prompt, "<S>")]


def speech_seconds(text: str) -> float:
    """Estimated time in seconds to say ``text``, which holds no tags.

    A second holds 2.5 words; in languages written without blanks, 4.5 Chinese characters or kana.
    """
    spaced, characters = _CJK.subn(" ", text)
    words = sum(any(map(str.isalnum, word)) for word in spaced.split())
    return words / WORDS_PER_SECOND + characters / CJK_PER_SECOND


def spoken_seconds(prompt: str) -> float:
    """Estimated time in seconds to say all that a prompt has said aloud."""
    return sum(map(speech_seconds, speech_lines(prompt)))


def too_much_speech(spoken: float, seconds: float) -> tuple[str, str]:
    """What is wrong and what to do where more seconds are spoken than a clip has."""
    remedy = (
        f"Shorten what is said to about {seconds * WORDS_PER_SECOND:.0f} words "
        f"({seconds * CJK_PER_SECOND:.0f} characters in Chinese or Japanese), or make the clip longer."
    )
    return f"about {spoken:.1f} s of speech for a clip of {seconds:.3g} s", remedy


def problems(prompt: str, variant: Variant, seconds: float | None = None) -> list[Problem]:
    """Everything in ``prompt`` that would not be read as meant, in order of place.

    Args:
        prompt: as the user wrote it.
        variant: the weights that will read it.
        seconds: length of the clip, by default the variant's; infinite where it is not known, and then what is said is
            not compared with it.
    """
    found = [
        *_tag_problems(prompt),
        *_speech_problems(prompt, variant.seconds if seconds is None else seconds),
        *(_caption_problems(prompt, variant) if variant.caption != "none" else ()),
    ]
    return sorted(found, key=lambda problem: problem.position)


def _tag_problems(prompt: str) -> Iterator[Problem]:
    """Misspelt, nested and unbalanced tags. A misspelt tag counts as the one it means, so it is reported once."""
    view = _View(prompt)
    opened: _Span | None = None
    opener = ""
    excused: Counter[str] = Counter()  # closers of pairs already reported as nested
    for match in _TAG.finditer(view.text):
        span, written = view.span(match), view.written(match)
        tag = _meant(match, opener)
        if tag is None:
            continue
        if written != tag and not _cleaned_into(written, tag):
            yield _error(prompt, span, f"{_visible(written)} is not a tag of Ovi", f"Write {tag} {HOW_TO_WRITE[tag]}.")
        if tag in CLOSERS:
            if opened:
                closer = CLOSERS[opener]
                excused[closer] += 1
                yield _error(
                    prompt,
                    span,
                    f"{tag} inside a {opener} that is still open",
                    f"Write {closer} before it, or in its place.",
                )
            opened, opener = span, tag
        elif opened and OPENERS[tag] == opener:
            opened, opener = None, ""
        elif excused[tag]:
            excused[tag] -= 1
        elif opened:
            yield _error(prompt, span, f"{tag} where {opener} is open", f"Write {CLOSERS[opener]} instead.")
            opened, opener = None, ""
        else:
            start = OPENERS[tag]
            yield _error(
                prompt, span, f"{tag} without a {start}", f"Write {start} {HOW_TO_WRITE[start]}, or delete the {tag}."
            )
    if opened:
        closer = CLOSERS[opener]
        yield _error(prompt, opened, f"{opener} is never closed", f"Write {closer} {HOW_TO_WRITE[closer]}.")


def _visible(written: str) -> str:
    """A text in which characters that cannot be seen are named."""
    return _INVISIBLE.sub(lambda match: f"(U+{ord(match[0]):04X}, invisible)", written)


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
    """Whether cleaning makes the tag of it (&lt;S&gt;, full-width ＜S＞); those of a caption have to stand so."""
    return tag in ("<S>", "<E>") and clean(written) == tag


def _near_tag(word: str) -> str | None:
    """A tag of which ``word`` looks like a slip of the pen."""
    near = difflib.get_close_matches(word, ["AUDCAP", "ENDAUDCAP"], n=1, cutoff=0.75)
    return ALIASES[near[0]] if near else None


def _speech_problems(prompt: str, seconds: float) -> Iterator[Problem]:
    total = spoken_seconds(prompt)
    said = 0.0
    for start, end in _enclosed(prompt, "<S>"):
        span = _Span(start - len("<S>"), end + len("<E>"))
        words = prompt[start:end]
        if not words.strip():
            yield _warning(prompt, span, "nothing is said here", "Write the spoken words between <S> and <E>.")
        before, said = said, said + speech_seconds(words)
        if before <= seconds < said:
            yield _warning(
                prompt,
                span,
                *too_much_speech(total, seconds),
            )


def _caption_problems(prompt: str, variant: Variant) -> Iterator[Problem]:
    view = _View(prompt)
    captions = list(_CAPTION_START.finditer(view.text))
    wanted = "<AUDCAP>...<ENDAUDCAP>" if variant.caption == "<AUDCAP>" else "Audio: ..."
    if len(captions) > 1:
        yield _warning(
            prompt,
            view.span(captions[1]),
            f"{len(captions)} captions of the audio",
            f"Write one, as {wanted} at the end of the prompt.",
        )
    label = next((match for match in captions if match[0] == "Audio:"), None)
    if label is None:
        return
    if _INVISIBLE.search(written := view.written(label)):
        yield _error(prompt, view.span(label), f"{_visible(written)} is not read as a caption", "Write Audio: again.")
    if speech := re.compile(r"<[SE]>").search(view.text, label.end()):
        yield _warning(
            prompt,
            view.span(label),
            f"{speech[0]} after Audio: is read as part of the caption of the audio",
            "Move the caption to the end of the prompt.",
        )


def _error(prompt: str, span: _Span, found: str, remedy: str) -> Problem:
    return Problem("error", found, remedy, _quote(prompt, span), span.start)


def _warning(prompt: str, span: _Span, found: str, remedy: str) -> Problem:
    return Problem("warning", found, remedy, _quote(prompt, span), span.start)


def _quote(prompt: str, span: _Span, around: int = 24) -> str:
    """A place between » and «, with a few characters of its surroundings, on one line."""
    start, end = span
    whole = prompt[start:end] if end - start <= 2 * around else ""
    marked = whole or f"{prompt[start : start + around]}…{prompt[end - around : end]}"
    before = "…" * (start > around) + prompt[max(0, start - around) : start]
    after = prompt[end : end + around] + "…" * (end + around < len(prompt))
    return re.sub(r"\s+", " ", f"{before}»{marked}«{after}")
