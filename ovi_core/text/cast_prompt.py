"""The prompt of a shot in which people of a cast appear, for weights that were trained on reference people."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from ..spec import Variant
from . import people_prompt, prompt_builder


def build(people: Sequence[tuple[str, str]], scene: str, speech: str, variant: Variant) -> tuple[str, str]:
    """The structured caption of a shot, and a report of it in plain lines.

    The people's names become the tags ``<sub1>`` and ``<sub2>``, in the scene and where somebody speaks; what they say
    stays as it is. With one person alone, rows without a speaker are theirs.

    Args:
        people: name and description of each, in the order of their references.
        scene: plain words.
        speech: as :func:`.prompt_builder.build` takes it.

    Raises:
        OviError: as :func:`.prompt_builder.build`, or tags of people that are misnumbered.
    """
    _, report = prompt_builder.build(scene, speech, "", variant)
    tags = {name: f"<sub{number}>" for number, (name, _) in enumerate(people, 1)}
    described = "\n".join(description or name for name, description in people)
    rows = []
    for line in prompt_builder.read_speech(speech, variant):
        speaker = line.speaker or (next(iter(tags)) if len(tags) == 1 else "")
        # a speaker may be typed in other letters than the cast has; a word of the scene may not
        named = next((name for name in tags if name.lower() == speaker.lower()), speaker)
        rows.append(replace(line, speaker=_tagged(named, tags)).written())
    return people_prompt.build(described, _tagged(scene, tags), "", "", "\n".join(rows)), report


def _tagged(text: str, tags: dict[str, str]) -> str:
    """A text with tags instead of names that stand as words of their own."""
    longest_first = sorted(map(re.escape, tags), key=len, reverse=True)
    return re.sub(rf"(?<!\w)(?:{'|'.join(longest_first)})(?!\w)", lambda match: tags[match[0]], text)
