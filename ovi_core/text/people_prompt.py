"""The structured caption that weights trained on reference people read (DreamID-Omni, arXiv 2602.12160).

Every person is introduced by a face (``<img1>: …, identified as <sub1>.``) and named by the tag ``<sub1>`` from then
on; speech stands in ``<S>…<E>`` as everywhere. A description of the sound is no part of what the model reads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from ..errors import OviError
from ..spec import MOST_PEOPLE

LONGEST = 20_000  # characters of a caption; the text encoder reads 512 tokens

UNREAD = ("SPEAKER_TIMESTAMPS", "AUDIO_DESCRIPTION")
"""Sections of a caption file that the model does not read."""

_SECTION_TAG = re.compile(r"\[[A-Z_]+\]")
_BLANK_LINES = re.compile(r"\n\s*\n")
_PERSON_TAG = re.compile(r"<\s*(sub|img)\s*(\d{0,9})\s*>", re.IGNORECASE)
_SPEAKER = re.compile(r"(?:<sub(?P<tag>\d)>|(?P<number>\d))(?: \((?P<manner>[^()]*)\))?:\s*(?P<words>.+)")


def read_caption(text: str, input: str = "caption") -> str:
    """The prompt of a caption file: a JSON file of one string with sections in brackets, or that string itself.

    Args:
        input: name of the node's input, for errors.

    Raises:
        OviError: JSON that is damaged, a text that is too long, or tags of people that are misnumbered.
    """
    _check_length(text, input)
    if text.lstrip().startswith('"'):
        try:
            text = json.loads(text)
        except ValueError as error:
            raise OviError(
                input=input,
                found=f"JSON that cannot be read ({error})",
                accepted="a caption file as it is, or its text",
                remedy="Open the file again and copy all of it.",
            ) from error
    for name in UNREAD:
        text = _without(text, f"[{name}_START]", f"[{name}_END]").strip()
    prompt = _BLANK_LINES.sub("\n", _SECTION_TAG.sub("", text)).strip()
    check_tags(prompt, input)
    return prompt


def read_prompt(text: str, input: str = "prompt") -> str:
    """A caption file's prompt, or a prompt that was written by hand, which may begin with a quotation mark.

    Raises:
        OviError: as :func:`read_caption`.
    """
    if text.lstrip().startswith('"') and not _SECTION_TAG.search(text):
        try:
            json.loads(text)
        except ValueError:  # words in quotation marks
            _check_length(text, input)
            check_tags(text, input)
            return text
    return read_caption(text, input)


def build(people: str, scene: str, looks: str, actions: str, speech: str) -> str:
    """The prompt of its parts.

    Args:
        people: a row for each person, the first in the first row: what the face image shows.
        scene: place, light and how the shot is framed.
        looks: what the people wear, with ``<sub1>`` and ``<sub2>`` for their names.
        actions: what they do.
        speech: rows ``1: words`` or ``<sub1> (softly): words``; a row without a number is an action between the lines.

    Raises:
        OviError: no person or more than two, a speaker that is none of them, or misnumbered tags.
    """
    described = [row for row in (" ".join(row.split()) for row in people.splitlines()) if row]
    if not 1 <= len(described) <= MOST_PEOPLE:
        raise OviError(
            input="people",
            found=f"{len(described)} rows",
            accepted=f"a row for each person, 1 or {MOST_PEOPLE}",
            remedy="Write in each row what the person's face image shows, such as: An old fisherman, white beard.",
        )
    rows = [f"<img{k}>: {row.rstrip('.')}, identified as <sub{k}>." for k, row in enumerate(described, 1)]
    for heading, words in (
        ("Overall Environment/Scene", scene),
        ("Main Characters/Subjects Appearance", looks),
        ("Main Characters/Subjects Actions", actions),
    ):
        if words.strip():
            rows.append(f"**{heading}**: {' '.join(words.split())}")
    said = " ".join(_spoken(speech, len(described)))
    prompt = "\n".join([*rows, said] if said else rows)
    _check_length(prompt, "scene")
    check_tags(prompt, "scene, looks, actions and speech")
    return prompt


def check_tags(prompt: str, input: str) -> None:
    """Raise OviError unless the tags of people are whole, counted from 1, and each is introduced before it is used."""
    faces: list[str] = []
    introduced: set[str] = set()
    for match in _PERSON_TAG.finditer(prompt):
        kind, number = match[1].lower(), match[2]
        whole = f"<{kind}{number}>"
        problem = ""
        if match[0] != whole or not number:
            problem = f"a misspelt tag '{match[0]}'"
        elif not 1 <= int(number) <= MOST_PEOPLE:
            problem = f"the tag '{whole}' of a person that there cannot be"
        elif kind == "img":
            if whole in faces or int(number) != len(faces) + 1:
                problem = f"'{whole}' in the place of '<img{len(faces) + 1}>'"
            faces.append(whole)
        else:
            if prompt[: match.start()].rstrip().endswith("identified as"):
                if int(number) != len(faces):
                    problem = f"'{whole}' for the face '<img{len(faces)}>'"
                introduced.add(whole)
            elif faces and whole not in introduced:
                problem = f"'{whole}' before it is introduced"
        if problem:
            raise OviError(
                input=input,
                found=f"{problem}, at {_place(prompt, match.start())}",
                accepted="<img1> and <sub1> for the first person, <img2> and <sub2> for the second",
                remedy="Introduce each person once, as '<img1>: …, identified as <sub1>.', and number them in order.",
            )


def _place(prompt: str, start: int) -> str:
    """Where in the prompt something stands, quoted with what is around it."""
    line = prompt.count("\n", 0, start) + 1
    return f"line {line}: '… {' '.join(prompt[max(0, start - 20) : start + 20].split())} …'"


def _spoken(speech: str, count: int) -> Iterator[str]:
    for number, row in enumerate(speech.splitlines(), 1):
        row = " ".join(row.split())
        match = _SPEAKER.fullmatch(row)
        if match is None:
            if row:
                yield row
            continue
        speaker = int(match["tag"] or match["number"])
        if not 1 <= speaker <= count:
            raise OviError(
                input="speech",
                found=f"a speaker {speaker} in row {number}",
                accepted=f"1 to {count}, as many as people has rows",
                remedy="Number the speaker, or describe one person more in people.",
            )
        manner = f", {match['manner']}" if match["manner"] else ""
        yield f"<sub{speaker}> says{manner}, <S>{match['words']}<E>"


def _without(text: str, begin: str, end: str) -> str:
    """The text without all that stands from ``begin`` to the next ``end``."""
    kept, at = [], 0
    while (start := text.find(begin, at)) >= 0 and (stop := text.find(end, start)) >= 0:
        kept.append(text[at:start])
        at = stop + len(end)
    return "".join([*kept, text[at:]])


def _check_length(text: str, input: str) -> None:
    if len(text) > LONGEST:
        raise OviError(
            input=input,
            found=f"{len(text)} characters",
            accepted=f"up to {LONGEST}",
            remedy="Shorten it: the text encoder reads about 512 words.",
        )
