"""Names under which stored hashes know our classes and functions, wherever these stand and whatever they are called.

A storyboard finds its shots again by a hash of what is on a MODEL: objects and functions by name, with the values they
hold. The names and values here are those that were hashed when shots were first stored, so that moving or renaming a
class redoes nobody's shots. They never change; what is added later gets a name of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
ATTRIBUTE = "__ovi_stable_name__"
PACKAGE = __name__.rpartition(".")[0]


@dataclass(frozen=True)
class StableName:
    """What stands in a hash for a class or a function.

    Attributes:
        name: its qualified name below this package.
        holds: of a function, the values of its closure that decide what it does.
        defaults: of a function, its parameters' defaults when the name was given.
        fields: of a dataclass, those that it had then. A later one counts only where it differs from its default.
    """

    name: str
    holds: tuple[Any, ...] = ()
    defaults: tuple[Any, ...] | None = None
    fields: tuple[str, ...] = ()


def stable_name(
    name: str,
    *,
    holds: tuple[Any, ...] = (),
    defaults: tuple[Any, ...] | None = None,
    fields: tuple[str, ...] = (),
) -> Callable[[T], T]:
    """Decorator: give a class or a function the stable ``name``; subclasses do not inherit it.

    A class whose attributes are renamed too, or are partly ComfyUI's, has a method ``stable_values`` that returns them
    as a dictionary under the names that were first hashed.
    """

    def mark(thing: T) -> T:
        setattr(thing, ATTRIBUTE, StableName(f"{PACKAGE}.{name}", holds, defaults, fields))
        return thing

    return mark


def stable_name_of(thing: Any) -> StableName | None:
    """The stable name of a class or function, or None."""
    return getattr(thing, "__dict__", {}).get(ATTRIBUTE)


def fields_of(value: Any) -> dict[str, Any] | None:
    """Names and values of a dataclass that has a stable name with fields; None for anything else."""
    stable = stable_name_of(type(value))
    if not stable or not stable.fields:
        return None
    found = {field.name: (getattr(value, field.name), field.default) for field in dataclasses.fields(value)}
    return {name: held for name, (held, default) in found.items() if name in stable.fields or held != default}
