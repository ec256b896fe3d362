"""A prompt from its parts: a scene, spoken lines with their speakers, and a caption of the audio."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import OviError
from ..spec import Variant
from .prompt import CLOSERS, Problem, checked_text, format_for, problems, speech_lines, speech_seconds

UNNAMED = "The person"  # as the reference's own examples call a speaker without a name
LONGEST_NAME = 10  # words; longer, and what stands before the colon was probably meant to be said
SPEECH_FORM = "one spoken line per row, as words, Speaker: words or Speaker (manner): words, without tags"

# Alphabets, as Unicode names its letters, of one language each. Others, as Cyrillic, write many.
LANGUAGES = {
    "CJK": "Chinese",
    "HIRAGANA": "Japanese",
    "KATAKANA": "Japanese",
    "HANGUL": "Korean",
    "GREEK": "Greek",
    "HEBREW": "Hebrew",
    "THAI": "Thai",
}
WITHOUT_BLANKS = {"THAI", "LAO", "KHMER", "MYANMAR"}  # between words: nothing to count

_SPEAKER = re.compile(r"(?P<name>[^:：()（）]*)(?:[(（](?P<manner>[^()（）]*)[)）]\s*)?[:：](?!(?<=\d:)\d|[/)])")
_PARENTHETICAL = re.compile(r"[(（]([^()（）]*)[)）]\s*")
_SAYING = r"(?:says?|speaks?|asks?|answers?|repl(?:y|ies)|sings?|shouts?|yells?|screams?|whispers?|murmurs?|mutters?)"
_SAID = re.compile(rf"(?<!\bwho )(?<!\bthat )\b{_SAYING}\b")
_LEADS_UP = re.compile(rf"(?:[,:]|\b(?:{_SAYING}|saying|speaking|asking|singing|shouting|whispering))$")
_SENTENCE_END = re.compile(r"(?<!\bMr)(?<!\bMrs)(?<!\bMs)(?<!\bDr)(?<!\bSt)(?<!\b\w)[.!?…。！？]\s")
_NAMED_LANGUAGE = re.compile(r"\bin (?:[a-z]+ )?([A-Z]\w+)")
_QUOTES = {'"': '"', "“": "”", "„": "“", "«": "»", "「": "」"}


@dataclass(frozen=True)
class SpokenLine:
    """One row of speech.

    Attributes:
        number: of the row, from 1.
        speaker: as the prompt names them, with or without a verb of saying; empty when none has been named.
        manner: how, and in which language, it is said; may be empty.
        words: what is said aloud.
    """

    number: int
    speaker: str
    manner: str
    words: str

    @property
    def alphabet(self) -> str:
        """That of most letters, as Unicode names it; HIRAGANA where Chinese characters stand with kana."""
        letters = filter(str.isalpha, unicodedata.normalize("NFKC", self.words))
        counted = Counter(re.split("[ -]", unicodedata.name(letter, "LATIN"))[0] for letter in letters)
        alphabet = max(counted, key=counted.__getitem__, default="LATIN")
        return "HIRAGANA" if alphabet == "CJK" and {"HIRAGANA", "KATAKANA"} & counted.keys() else alphabet

    @property
    def language(self) -> str:
        """What the manner names (French of "in French"), else that of the alphabet; empty when neither names one."""
        named = _NAMED_LANGUAGE.search(f"{self.speaker if _SAID.search(self.speaker) else ''}, {self.manner}")
        return named[1] if named else LANGUAGES.get(self.alphabet, "")

    def written(self, introduced: bool = False) -> str:
        """As it stands in the prompt; ``introduced`` when the words before it already say who speaks."""
        name = self.speaker or UNNAMED
        said = [name if _SAID.search(self.speaker) else f"{name} says", self.manner]
        if self.language.lower() not in " ".join(said).lower():
            said.append(f"in {self.language}")
        before = "" if introduced else ", ".join(filter(None, said)) + ", "
        return f"{before}<S>{self.words}<E>"


def build(
    scene: str, speech: str, audio_caption: str, variant: Variant, seconds: float | None = None
) -> tuple[str, str]:
    """A prompt as ``variant`` reads it, and a report of it in plain lines.

    Args:
        scene: plain words; may hold ``<S>words<E>`` of its own.
        speech: one spoken line per row, as ``words``, ``Speaker: words`` or ``Speaker (manner): words``. A row without
            a speaker is said by the last one in the same manner. A row that begins with a colon names no speaker.
        audio_caption: the audio in plain words.
        variant: the weights that will read it.
        seconds: length of the clip, against which the speech is estimated; by default the variant's.

    Raises:
        OviError: a tag stands in ``speech`` or ``audio_caption``, a tag of ``scene`` is misspelt or unbalanced,
            ``scene`` holds a caption of the audio, a row names a speaker but no words, or a text is far too long.
    """
    scene, caption = (
        checked_text(scene, "scene").strip(),
        " ".join(checked_text(audio_caption, "audio_caption").split()),
    )
    _check_scene(scene, variant)
    lines = read_speech(speech, variant)
    _refuse_tags(
        caption, "<AUDCAP>", variant, input="audio_caption", place="the caption", accepted="the audio in plain words"
    )
    prompt = format_for(_joined(scene, lines, caption), variant)
    return prompt, _report(prompt, scene, lines, caption, variant, seconds or variant.seconds)


def read_speech(speech: str, variant: Variant) -> list[SpokenLine]:
    """The rows of ``speech`` that are not blank, each with its speaker.

    Raises:
        OviError: a row holds a tag, or a speaker but no words.
    """
    lines: list[SpokenLine] = []
    for number, row in enumerate(checked_text(speech, "speech").splitlines(), 1):
        row = " ".join(row.split())
        if not row:
            continue
        last = lines[-1] if lines else SpokenLine(0, "", "", "")
        lines.append(_read_row(number, row, last, variant))
    return lines


def _read_row(number: int, row: str, last: SpokenLine, variant: Variant) -> SpokenLine:
    _refuse_tags(row, "<S>", variant, input="speech", place=f"line {number}", accepted=SPEECH_FORM)
    all_words = row[0] in ":："
    head = _SPEAKER.match(row)
    name, manner = (head["name"].strip(), (head["manner"] or "").strip()) if head else ("", "")
    words = row[head.end() :].strip() if head else row
    aside = _PARENTHETICAL.match(words)
    if aside and not all_words:
        manner, words = ", ".join(filter(None, (manner, aside[1].strip()))), words[aside.end() :]
    if len(words) > 1 and _QUOTES.get(words[0]) == words[-1] and words[0] not in words[1:-1]:
        words = words[1:-1].strip()
    if not words:
        raise OviError(
            input="speech",
            found=f'no words in line {number}: "{_excerpt(row)}"',
            accepted=SPEECH_FORM,
            remedy="Write what is said after the colon, or delete the line.",
        )
    return SpokenLine(number, name or last.speaker, manner or ("" if name else last.manner), words)


def _check_scene(scene: str, variant: Variant) -> None:
    accepted = "the scene in plain words, in which speech may stand as <S>words<E>"
    faults = _errors(scene, variant)
    if faults:
        found = " ".join(f'{faults[0].found}: "{faults[0].quote}"'.split())
        raise OviError(input="scene", found=found, accepted=accepted, remedy=faults[0].remedy)
    for start in ("Audio:", "<AUDCAP>"):
        if start in scene:
            raise OviError(
                input="scene",
                found=f'a caption of the audio: "{_excerpt(scene, scene.index(start))}"',
                accepted=accepted,
                remedy="Move the caption to audio_caption, without its tags.",
            )


def _refuse_tags(text: str, within: str, variant: Variant, *, input: str, place: str, accepted: str) -> None:
    """Raise :class:`OviError` if ``text``, which will stand after the tag ``within``, holds any tag of its own."""
    errors = _errors(text, variant)
    nested = [] if errors else _errors(f"{within}{text}{CLOSERS[within]}", variant)
    starts = [*(error.position for error in errors), *(error.position - len(within) for error in nested)]
    if starts:
        raise OviError(
            input=input,
            found=f'a tag in {place}: "{_excerpt(text, starts[0])}"',
            accepted=accepted,
            remedy="Delete the tags: the node writes them.",
        )
    label = text.find("Audio:")
    if label >= 0:
        raise OviError(
            input=input,
            found=f'Audio:, which begins the caption of the audio, in {place}: "{_excerpt(text, label)}"',
            accepted=accepted,
            remedy="Describe the audio in audio_caption, without Audio: in it.",
        )


def _errors(prompt: str, variant: Variant) -> list[Problem]:
    return [problem for problem in problems(prompt, variant) if problem.severity == "error"]


def _excerpt(text: str, position: int = 0, around: int = 40) -> str:
    """The surroundings of ``position``, on one line."""
    start, end = max(0, position - around), position + around
    return " ".join(f"{'…' * (start > 0)}{text[start:end]}{'…' * (end < len(text))}".split())


def _joined(scene: str, lines: list[SpokenLine], caption: str) -> str:
    introduced = bool(lines) and not lines[0].speaker and not lines[0].manner and bool(_LEADS_UP.search(scene))
    if scene and scene[-1].isalnum() and not introduced:
        scene += "."
    spoken = [line.written(introduced and line is lines[0]) for line in lines]
    return " ".join(filter(None, [scene, *spoken, f"Audio: {caption}" if caption else ""]))


def _report(prompt: str, scene: str, lines: list[SpokenLine], caption: str, variant: Variant, seconds: float) -> str:
    if not prompt:
        return "The prompt is empty: video and audio are left to Ovi."
    lines_of_report = [
        *_times(scene, lines, seconds),
        *_language_hints(lines),
        *_reading_hints(lines),
    ]
    if not caption:
        lines_of_report.append("No audio caption: the audio is left to Ovi.")
    lines_of_report += [f"Warning: {problem.message}" for problem in problems(prompt, variant, seconds)]
    return "\n".join(lines_of_report)


def _times(scene: str, lines: list[SpokenLine], seconds: float) -> Iterator[str]:
    own = speech_lines(scene)
    total = sum(map(speech_seconds, [*own, *(line.words for line in lines)]))
    if not own and not lines:
        yield f"No speech: {seconds:g} s without words."
        return
    speakers = list(dict.fromkeys(_who(line) for line in lines))
    by = f", {_counted(len(speakers), 'speaker')} ({', '.join(speakers)})" if speakers else ""
    yield f"{_counted(len(own) + len(lines), 'spoken line')}{by}."
    over = total - seconds
    rest = f"about {over:.1f} s too long" if over > 0 else f"about {-over:.1f} s left"
    yield f"About {total:.1f} s of speech for {seconds:g} s: {rest}."
    for words in own:
        yield f'In the scene: about {speech_seconds(words):.1f} s, "{_excerpt(words)}"'
    for line in lines:
        yield f'Line {line.number}, {_who(line)}: about {speech_seconds(line.words):.1f} s, "{_excerpt(line.words)}"'


def _who(line: SpokenLine) -> str:
    """The speaker without the verb that the user may have given them."""
    return _SAID.split(line.speaker)[0].rstrip(" ,") or line.speaker or UNNAMED


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


def _language_hints(lines: list[SpokenLine]) -> Iterator[str]:
    foreign = False
    for line in lines:
        accented = not all(letter.isascii() for letter in line.words if letter.isalpha())
        if line.language and line.language != "English":
            foreign = True
            yield f"Line {line.number}: the prompt names the language, in {line.language}."
        elif line.alphabet != "LATIN" and not line.language:
            foreign = True
            letters = line.alphabet.capitalize()
            yield f"Line {line.number} is in {letters} letters. Name its language, as in Speaker (in French): words."
        elif accented and not line.language:
            foreign = True
            yield f"Line {line.number}: if this is not English, name its language, as in Speaker (in French): words."
        if line.alphabet in WITHOUT_BLANKS:
            yield f"Line {line.number} has no blanks between words, so its time is underestimated."
    if foreign:
        yield "Ovi was trained mostly on English; other languages come out less surely."


def _reading_hints(lines: list[SpokenLine]) -> Iterator[str]:
    if lines and not lines[0].speaker:
        first = lines[0].number
        yield f"Line {first} names no speaker. With several people in the scene, write it as Speaker: words."
    for name, number in {line.speaker: line.number for line in reversed(lines)}.items():
        if len(name.split()) > LONGEST_NAME or _SENTENCE_END.search(name):
            yield (
                f'Warning: in line {number} "{_excerpt(name)}" is read as the name of the speaker. If it is to be '
                "spoken, begin the line with a colon."
            )
