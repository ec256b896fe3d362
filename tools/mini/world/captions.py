"""Prompts that say what a scene shows and sounds like, in Ovi's form: speech as ``<S>…<E>``, ``Audio: …`` at the end.

Every fact has several wordings; which of them a caption takes follows from a seed of its own, so that one clip can be
told in many ways.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .scene import Ball, Bar, Face, Lamp, Scene, Thing, is_loud

Choose = Callable[[tuple[str, ...]], str]

MATERIAL_WORDS = {"rubber": ("rubber",), "wood": ("wooden",), "metal": ("metal", "shiny metal")}
FLOOR_ONE = ("bounces on the floor", "keeps bouncing up and down", "bounces up and down on the ground")
FLOOR_TWO = ("bounce on the floor", "keep bouncing up and down", "bounce up and down on the ground")
WALLS = ("bounces from wall to wall", "flies back and forth between two walls", "bounces between the walls")
FLOAT = ("floats slowly through the air", "drifts around without touching anything", "hovers in the air")
LAMP = ("pulses slowly", "glows and dims", "gets brighter and darker")
BAR = ("sweeps from side to side", "slides left and right", "moves across the picture and back")
FACE = ("says", "speaks:", "is talking:")
TICKS = {
    "rubber": ("dull rubber thuds", "soft low thumps"),
    "wood": ("wooden knocks", "dry knocks on wood"),
    "metal": ("bright metal pings", "ringing metal clinks"),
}
EVERY_CONTACT = ("", " at every bounce", ", one for each bounce")
HUM = ("an electric hum that swells and fades", "a low hum that follows the light")
GLIDE = ("a tone that glides up and down", "a whistle that rises to the right and falls to the left")
VOICE = ("a clear voice", "a voice speaking")
SILENCE = ("silence", "no sound at all", "complete silence")
BACKDROP = ("The background is {}.", "Behind it is a {} wall.", "It is in front of a {} wall.")


def caption(scene: Scene, wording: int) -> str:
    """The prompt of a scene in one of its wordings, chosen by the seed ``wording``."""
    rng = np.random.default_rng([scene.seed, wording, 3])

    def one(choices: tuple[str, ...]) -> str:
        return choices[rng.integers(len(choices))]

    things = scene.things
    balls = [thing for thing in things if isinstance(thing, Ball)]
    if len(balls) == 2:
        sentence = _two_balls(balls[0], one, rng)
        things = things[:1]  # both sound alike
    else:
        parts = [_shown(thing, one, rng) for thing in things]
        if len(parts) == 2 and rng.random() < 0.5:
            parts.reverse()
        sentence = _capital(one((" while ", " and ")).join(parts))
    sentences = [sentence + "."]
    if rng.random() < 0.4:
        sentences.append(one(BACKDROP).format(scene.stage.tone))
    sounds = dict.fromkeys(_heard(thing, one) for thing in things) if is_loud(scene) else [one(SILENCE)]
    return f"{' '.join(sentences)} Audio: {_capital(' and '.join(sounds))}."


def _shown(thing: Thing, one: Choose, rng: np.random.Generator) -> str:
    if isinstance(thing, Ball):
        deeds = {"floor": FLOOR_ONE, "walls": WALLS, "float": FLOAT}[thing.motion]
        size = _sometimes(thing.size, 0.6, rng)
        return f"a {size}{thing.colour} {one(MATERIAL_WORDS[thing.material])} ball {one(deeds)}"
    if isinstance(thing, Lamp):
        size = _sometimes(thing.size, 0.5, rng)
        return f"a {size}{thing.colour} {one(('light', 'lamp'))} {one(LAMP)}"
    if isinstance(thing, Bar):
        size = _sometimes(thing.size, 0.5, rng)
        return f"a {size}{thing.colour} bar {one(BAR)}"
    return f"a {thing.colour} face {one(FACE)} <S>{spoken(thing)}<E>"


def _sometimes(word: str, share: float, rng: np.random.Generator) -> str:
    """The word and a space in that share of the captions, else nothing."""
    return f"{word} " if rng.random() < share else ""


def _two_balls(ball: Ball, one: Choose, rng: np.random.Generator) -> str:
    size = _sometimes(ball.size, 0.6, rng)
    return _capital(f"two {size}{ball.colour} {one(MATERIAL_WORDS[ball.material])} balls {one(FLOOR_TWO)}")


def _heard(thing: Thing, one: Choose) -> str:
    if isinstance(thing, Ball):
        return one(TICKS[thing.material]) + one(EVERY_CONTACT)
    return one({Lamp: HUM, Bar: GLIDE, Face: VOICE}[type(thing)])


def spoken(face: Face) -> str:
    """What the face says: its syllable, as often as the mouth opens."""
    return " ".join([face.word] * len(face.starts))


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
