"""The script of a storyboard: shots in plain text, as users type them. Described in ``docs/storyboard.md``."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field

from ..errors import OviError
from ..spec import MOST_PEOPLE

TEXTS = ("scene", "speech", "sound")
"""Fields that may take several lines."""
FIELDS = (*TEXTS, "picture", "seed", "guidance", "with", "reference")
ACCEPTED = "lines such as 'shot 5 s, go on', then 'scene: …', 'speech: …', 'sound: …'"
HIGHEST_SEED = 2**64 - 1
HIGHEST_GUIDANCE = 30.0
LONGEST_SHOT = 60.0
"""Seconds, as Empty Ovi Latent takes them."""
LONGEST_SCRIPT, LONGEST_TEXT = 500_000, 5_000
"""Characters of a script, and of one field; a prompt has room for about 2,500."""
LONGEST_TEXTS = 1_000_000
"""Characters of scenes, speech and sounds of all shots, those above the first shot counted for each."""
MOST_LINES, MOST_SHOTS = 10_000, 1_000
MOST_CAST, LONGEST_NAME = 100, 40
LATEST_VOICE = 3600.0
"""Seconds, as Ovi Person takes them."""
CAST_FORM = "a line such as 'cast Anna: face anna.png, voice anna.wav from 1.5 s'"

_HEADING = re.compile(r"shot\b(?:\s*(?:\d+\s*)?:)?(?P<terms>.*)", re.IGNORECASE)
_FIELD = re.compile(rf"(?P<name>{'|'.join(FIELDS)})\s*:(?P<text>.*)", re.IGNORECASE)
_CAST = re.compile(r"cast\b(?P<name>[^:：]*)[:：](?P<terms>.*)", re.IGNORECASE)
_CAST_TERM = re.compile(r"(?P<kind>face|voice)\s(?P<file>.*)", re.IGNORECASE)
_NEXT_CAST_TERM = re.compile(r",\s*(?=(?:face|voice)\s)", re.IGNORECASE)
_NOT_IN_NAMES = re.compile(r"[,()（）<>\[\]]")
_LABEL = re.compile(r"(?P<name>\w[\w ]{0,20}?)\s*:")
_SECONDS = re.compile(r"(?P<number>\d+(?:\.\d+)?|\.\d+)\s*(?:s|sec|secs|seconds?)?", re.IGNORECASE)


@dataclass(frozen=True)
class Person:
    """A member of the cast: a face, a voice, or both, that stay the same over the film.

    Attributes:
        line: of the script, counted from 1.
        name: as shots and speech name the person.
        description: what the face image shows; may be empty.
        face, voice: file names; one of them may be empty.
        voice_start: second of the voice's file at which the second that is taken begins.
    """

    line: int
    name: str
    description: str
    face: str
    voice: str
    voice_start: float = 1.0


@dataclass(frozen=True)
class Shot:
    """One shot as the script has it.

    Attributes:
        line: of its heading, counted from 1.
        seconds: None where the script does not say.
        goes_on: it starts with the end of the shot before; otherwise it starts with a cut.
        scene, sound: plain words.
        speech: one spoken line per row; the row's number is that of the line in the script.
        picture: file name of the first frame; may be empty.
        seed: None where the script does not say.
        guidance: strengths for video and audio; None where the script does not say.
        people: of the cast, in the order of their slots; at most two.
        reference: strengths of the guidance by faces and by voices; None where the script does not say.
    """

    line: int
    seconds: float | None
    goes_on: bool
    scene: str
    speech: str
    sound: str
    picture: str
    seed: int | None
    guidance: tuple[float, float] | None
    people: tuple[Person, ...] = ()
    reference: tuple[float, float] | None = None


def parse(script: str) -> list[Shot]:
    """The shots of a script, at least one, in time linear in its length.

    Raises:
        OviError: a line that cannot be read, named by its number, or a script that is too long.
    """
    _check_size(script)
    common, *shots = _sections(script.lstrip("\ufeff"))
    if not shots:
        raise error(0, "no shot", ACCEPTED, "Begin each shot with a line 'shot 5 s', its scene below it.")
    if len(shots) > MOST_SHOTS:
        found, accepted = f"a shot number {MOST_SHOTS + 1:,}", f"at most {MOST_SHOTS:,} shots"
        raise error(shots[MOST_SHOTS].line, found, accepted, "Make several films and join them with Ovi Join Clips.")
    cast = _cast(common)
    read, length = [], 0
    for section in shots:
        shot = _shot(section, common, cast, first=section is shots[0])
        length += len(shot.scene) + len(shot.speech) - shot.speech.count("\n") + len(shot.sound)
        length += sum(len(person.description) for person in shot.people)
        if length > LONGEST_TEXTS:
            found, accepted = "too much text", f"texts of {LONGEST_TEXTS:,} characters in all shots together"
            raise error(shot.line, found, accepted, "Shorten the texts, those above the first shot above all.")
        read.append(shot)
    return read


def _check_size(script: str) -> None:
    accepted = f"Unicode text of at most {LONGEST_SCRIPT:,} characters in {MOST_LINES:,} lines"
    lines = len(script.splitlines()) if len(script) <= LONGEST_SCRIPT else 0
    if not 0 < lines <= MOST_LINES and script:
        found = f"{lines:,} lines" if lines else f"{len(script):,} characters"
        raise error(0, found, accepted, "Make several films and join them with Ovi Join Clips.")
    try:
        script.encode()
    except UnicodeEncodeError as problem:
        line = len(script[: problem.start].splitlines()) or 1
        raise error(line, "half of a character", accepted, "Delete that character.") from problem


def error(line: int, found: str, accepted: str, remedy: str) -> OviError:
    """An error of the script at ``line``; 0 for the script as a whole."""
    return OviError(
        input="script", found=f"{found} in line {line}" if line else found, accepted=accepted, remedy=remedy
    )


@dataclass
class _Section:
    """A heading and the rows of its fields, each with its line; the first section has no heading, but the cast."""

    line: int = 0
    terms: str = ""
    fields: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    last: str = ""
    cast: list[tuple[str, list[tuple[int, str]]]] = field(default_factory=list)
    """Names, each with the rows of its terms and of its description."""

    def open(self, name: str, line: int, text: str) -> None:
        if name in self.fields:
            raise error(line, f"a second '{name}:'", "each field once in a shot", "Make one of both, or begin a shot.")
        self.fields[name], self.last = [(line, text)], name

    def open_cast(self, line: int, name: str, terms: str) -> None:
        if self.line:
            remedy = "Move the line above the first shot, and write 'with: Anna' here."
            raise error(line, "a cast within a shot", "the cast above the first shot", remedy)
        self.cast.append((name, [(line, terms)]))
        self.last = "cast"

    def is_cast(self, terms: str) -> bool:
        """Whether a row that begins with 'cast …:' is one of the cast: in speech it may be a speaker."""
        return bool(_CAST_TERM.match(terms)) or not (self.line or self.last == "speech")

    def go_on(self, line: int, row: str) -> None:
        """Take a row that starts no field: it continues the last one."""
        indented, text = row[0].isspace(), row.strip()
        if self.last not in (*TEXTS, "cast"):
            remedy = "Begin it with 'scene:', 'speech:' or 'sound:', or with # to have it ignored."
            raise error(line, f'"{_excerpt(text)}", which belongs to no field,', ACCEPTED, remedy)
        label = _LABEL.match(text)
        if label and not indented:
            known = FIELDS if self.last != "speech" else FIELDS[:-2]  # a witch may speak
            near = difflib.get_close_matches(label["name"].lower(), known, n=1, cutoff=0.75)
            if near or self.last != "speech":
                wanted = f"Write '{near[0]}:'" if near else f"Write one of {', '.join(FIELDS)}"
                remedy = f"{wanted}; or, to continue the {self.last}, begin the line with a blank."
                raise error(line, f"'{label['name']}:', which is no field,", ACCEPTED, remedy)
        rows = self.cast[-1][1] if self.last == "cast" else self.fields[self.last]
        rows.append((line, text))


def _sections(script: str) -> list[_Section]:
    sections = [_Section()]
    for line, row in enumerate(script.splitlines(), 1):
        if not row.strip() or row.lstrip().startswith("#"):
            continue
        heading, named, cast = _HEADING.fullmatch(row.rstrip()), _FIELD.match(row), _CAST.match(row)
        if heading:
            sections.append(_Section(line, heading["terms"]))
        elif cast and sections[-1].is_cast(cast["terms"].strip()):
            sections[-1].open_cast(line, " ".join(cast["name"].split()), cast["terms"].strip())
        elif named:
            sections[-1].open(named["name"].lower(), line, named["text"].strip())
        else:
            sections[-1].go_on(line, row)
    return sections


def _cast(common: _Section) -> dict[str, Person]:
    """The cast, by its names in small letters."""
    cast: dict[str, Person] = {}
    for name, rows in common.cast:
        line = rows[0][0]
        if not 0 < len(name) <= LONGEST_NAME or _NOT_IN_NAMES.search(name):
            found = f'the name "{_excerpt(name)}"' if name else "a cast without a name"
            accepted = f"a name of at most {LONGEST_NAME} characters, without commas and brackets"
            raise error(line, found, accepted, f"Write {CAST_FORM}.")
        if name.lower() in cast:
            found = f"a second '{name}' in the cast"
            raise error(line, found, "each name once, capital letters aside", "Choose another name.")
        if len(cast) == MOST_CAST:
            accepted = f"at most {MOST_CAST} people"
            raise error(line, f"a person number {MOST_CAST + 1}", accepted, "Leave out who is in no shot.")
        cast[name.lower()] = _person(name, rows)
    return cast


def _person(name: str, rows: list[tuple[int, str]]) -> Person:
    described = _joined("cast", {"cast": rows})  # raises where it is too long
    (line, terms), description = rows[0], [text for _, text in rows[1:] if text]
    files, start = {"face": "", "voice": ""}, 1.0
    for term in filter(None, (part.strip(", \t") for part in _NEXT_CAST_TERM.split(terms))):
        match = _CAST_TERM.fullmatch(term)
        kind, file = (match["kind"].lower(), match["file"].strip()) if match else ("", "")
        if not file or files[kind]:
            raise error(line, f"\"{_excerpt(term)}\" for '{name}'", CAST_FORM, "Correct the line.")
        if kind == "voice":
            file, start = _voice(file, line)
        files[kind] = file
    if not described or not any(files.values()):
        found = f"neither a face nor a voice for '{name}'"
        raise error(line, found, f"a face, a voice, or both, as {CAST_FORM}", "Add 'face …' or 'voice …'.")
    return Person(line, name, " ".join(description), files["face"], files["voice"], start)


def _voice(text: str, line: int) -> tuple[str, float]:
    """File and start of a voice, 'anna.wav from 1.5 s'."""
    file, _, start = text.rpartition(" from ")
    seconds = _SECONDS.fullmatch(start.strip().removeprefix("-"))
    if not seconds or not file.strip():
        return text, 1.0
    number = float(seconds["number"])
    if start.strip().startswith("-") or number > LATEST_VOICE:
        found, accepted = f'a voice "from {_excerpt(start.strip())}"', f"0 s to {LATEST_VOICE:g} s"
        raise error(line, found, accepted, "Write where a second of clear speech begins, as 'from 1.5 s'.")
    return file.strip(), number


def _people(row: tuple[int, str], cast: dict[str, Person]) -> tuple[Person, ...]:
    """The people that a 'with:' names."""
    line, text = row
    people: list[Person] = []
    for name in filter(None, (" ".join(part.split()) for part in text.split(","))):
        person = cast.get(name.lower())
        if person is None:
            near = difflib.get_close_matches(name.lower()[:LONGEST_NAME], cast, n=1)
            known = ", ".join(member.name for member in list(cast.values())[:12]) or "nobody: there is no cast"
            remedy = f"Write '{cast[near[0]].name}'." if near else f"Add {CAST_FORM} above the first shot."
            raise error(line, f"'{_excerpt(name)}', who is not in the cast,", f"people of the cast ({known})", remedy)
        if person in people:
            raise error(line, f"'{person.name}' twice", "each person once in a shot", "Delete one of both.")
        people.append(person)
        if len(people) > MOST_PEOPLE:
            found, accepted = "more than two people", f"at most {MOST_PEOPLE} people of the cast in a shot"
            raise error(line, found, accepted, "Describe others in the scene, or make another shot.")
    return tuple(people)


def _shot(section: _Section, common: _Section, cast: dict[str, Person], first: bool) -> Shot:
    seconds, goes_on = _terms(section)
    if goes_on and first:
        remedy = "Take 'go on' out of the first shot."
        raise error(section.line, "'go on'", "a first shot that begins with a cut", remedy)
    if goes_on and "picture" in section.fields:
        raise error(
            section.fields["picture"][0][0],
            "a picture for a shot that goes on",
            "a picture only where a shot begins with a cut",
            "Delete the picture, which is the end of the shot before, or write 'cut' instead of 'go on'.",
        )
    # A shot that goes on takes its picture from the shot before, and its seed after it.
    held = {name: rows for name, rows in common.fields.items() if not (goes_on and name in ("picture", "seed"))}
    fields = {**held, **section.fields}
    shot = Shot(
        line=section.line,
        seconds=seconds,
        goes_on=goes_on,
        scene=_joined("scene", fields),
        speech=_at_their_lines("speech", fields),
        sound=_joined("sound", fields),
        picture=_joined("picture", fields),
        seed=_seed(fields["seed"][0]) if "seed" in fields else None,
        guidance=_guidance("guidance", fields["guidance"][0]) if "guidance" in fields else None,
        people=_people(fields["with"][0], cast) if "with" in fields else (),
        reference=_guidance("reference", fields["reference"][0]) if "reference" in fields else None,
    )
    if not shot.scene:
        raise error(
            section.line,
            "a shot without a scene",
            "what is seen, in plain words",
            "Add 'scene: …' to the shot, or above the first shot for all of them.",
        )
    return shot


def _terms(section: _Section) -> tuple[float | None, bool]:
    """Seconds and whether the shot goes on, from what stands behind 'shot'."""
    seconds, way = None, ""
    for term in filter(None, (part.strip() for part in section.terms.split(","))):
        length, known = _SECONDS.fullmatch(term), " ".join(term.lower().split())
        if length and seconds is None:
            seconds = float(length["number"])
        elif known in ("cut", "go on") and not way:
            way = known
        else:
            raise error(
                section.line,
                f"\"{_excerpt(term)}\" behind 'shot'",
                "a length and 'cut' or 'go on', as in 'shot 5 s, go on'",
                "Correct the heading; or, if the line is part of a text, begin it with a blank.",
            )
    if seconds is not None and not 0 < seconds <= LONGEST_SHOT:
        found = f"a length of {seconds:g} s"
        accepted = f"a length above 0 s, up to {LONGEST_SHOT:g} s"
        raise error(section.line, found, accepted, "Write 'shot 5 s' or 'shot 10 s'.")
    return seconds, way == "go on"


def _rows(name: str, fields: dict[str, list[tuple[int, str]]]) -> list[tuple[int, str]]:
    """The rows of a field, each with its line.

    Raises:
        OviError: together they are too long.
    """
    rows = fields.get(name, [])
    length = sum(len(text) for _, text in rows)
    if length > LONGEST_TEXT:
        accepted = f"at most {LONGEST_TEXT:,} characters"
        raise error(rows[0][0], f"'{name}:' of {length:,} characters", accepted, "Shorten it.")
    return rows


def _joined(name: str, fields: dict[str, list[tuple[int, str]]]) -> str:
    return " ".join(text for _, text in _rows(name, fields) if text)


def _at_their_lines(name: str, fields: dict[str, list[tuple[int, str]]]) -> str:
    """Rows below one another, each in the line in which it stands in the script."""
    texts = dict(_rows(name, fields))
    return "\n".join(texts.get(line, "") for line in range(1, max(texts, default=0) + 1)) if any(texts.values()) else ""


def _seed(row: tuple[int, str]) -> int:
    line, text = row
    digits = text.lstrip("0") or text[:1]
    if digits.isdecimal() and len(digits) <= len(str(HIGHEST_SEED)) and int(digits) <= HIGHEST_SEED:
        return int(digits)
    found, accepted = f'the seed "{_excerpt(text)}"', f"a whole number from 0 to {HIGHEST_SEED}"
    raise error(line, found, accepted, "Write 'seed: 7'.")


def _guidance(name: str, row: tuple[int, str]) -> tuple[float, float]:
    line, text = row
    parts_of = "picture and sound" if name == "guidance" else "faces and voices"
    parts = text.replace(",", " ").split()
    try:
        video, audio = (float(part) for part in parts)
    except ValueError:
        video = audio = -1.0
    if not (0 <= video <= HIGHEST_GUIDANCE and 0 <= audio <= HIGHEST_GUIDANCE):
        raise error(
            line,
            f'the {name} "{_excerpt(text)}"',
            f"two numbers from 0 to {HIGHEST_GUIDANCE:g}, for {parts_of}",
            f"Write '{name}: {'4, 3' if name == 'guidance' else '1.5, 2'}'.",
        )
    return video, audio


def _excerpt(text: str, longest: int = 60) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
