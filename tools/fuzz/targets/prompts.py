"""Prompts: their tags, what is warned of, the form for each variant, and the prompt builder."""

from __future__ import annotations

from pathlib import Path
from random import Random

from ovi_native.ovi_core.spec import VARIANTS
from ovi_native.ovi_core.text import prompt, prompt_builder

from ..mutate import mutated_text
from ..text import to_bytes, to_text

SUFFIX = ".txt"
STARTS = (
    "A woman on a pier says <S>Good morning.<E> Audio: Waves.",
    "A face says <S>bee bee<E>. <AUDCAP>A clear voice.<ENDAUDCAP>",
    "He (slowly): words\n: no speaker\nShe: <S>no tags<E>",
    "Audio：风声。<S>你好<E>",
    "",
)
WORDS = (
    "<S>", "<E>", "<AUDCAP>", "<ENDAUDCAP>", "Audio:", "audio：", "<s>", "< S >", "＜S＞", "[S]", "</S>", "<SE>",
    "\n\n", " (", "): ", ": ", "&lt;S&gt;", "<\u200bS>", "<S" * 50, "<S>" * 300,
)  # fmt: skip


def make(random: Random) -> bytes:
    return to_bytes(mutated_text(random, random.choice(STARTS), WORDS))


def run(data: bytes, folder: Path) -> None:
    text = to_text(data)
    for variant in VARIANTS.values():
        prompt.problems(text, variant, 5.0)
        prompt.format_for(text, variant)
    prompt.clean(text)
    for line in prompt.speech_lines(text):
        prompt.speech_seconds(line)
    for scene, speech, caption in (("A pier.", text, "Waves."), (text, "He: words", ""), ("A pier.", "", text)):
        _build(scene, speech, caption)


def _build(scene: str, speech: str, caption: str) -> None:
    from ovi_native.ovi_core.errors import OviError

    try:
        prompt_builder.build(scene, speech, caption, VARIANTS["960x960_10s"])
    except OviError as error:
        if len(str(error).splitlines()) != 1:
            raise
