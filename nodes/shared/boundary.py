"""Values that reach a node, checked against its schema.

ComfyUI checks what is typed into a widget. A value that comes from another node reaches ``execute`` unchecked: a choice
that is not in the list, a number beyond the limits, NaN, any type. Links are checked for their shape alone; what is in
a latent, an image or a model is checked where it is used.
"""

from __future__ import annotations

import functools
import inspect
import math
import numbers
from collections.abc import Callable, Iterable
from typing import Any

from comfy_api.latest import io

from ...ovi_core.errors import OviError
from ...ovi_core.safe_write import plain_name
from ...ovi_core.sampling.guidance import GuidanceOptions

LONGEST_TEXT = 1_000_000  # characters
LISTED = 12  # choices that an error names


def checked(execute: Callable[..., io.NodeOutput]) -> Callable[..., io.NodeOutput]:
    """Decorator for a node's ``execute``, under ``classmethod``.

    Every value of a widget is checked against the schema and converted to the widget's type. Every :class:`OviError`
    that leaves ``execute`` carries the node's display name.
    """
    signature = inspect.signature(execute)

    @functools.wraps(execute)
    def run(cls: type[io.ComfyNode], *args: Any, **kwargs: Any) -> io.NodeOutput:
        schema = cls.define_schema()
        try:
            given = signature.bind(cls, *args, **kwargs)
            for slot in schema.inputs:
                if slot.id in given.arguments:
                    value = given.arguments[slot.id]
                    given.arguments[slot.id] = _list(slot, value) if schema.is_input_list else check(slot, value)
            return execute(*given.args, **given.kwargs)
        except OviError as error:
            error.node = error.node or schema.display_name
            raise

    return run


def check(slot: io.Input, value: Any) -> Any:
    """``value`` as the widget of ``slot`` would give it, or as it came through a link.

    Raises:
        OviError: the value has another type, is not finite, is out of range, or is not among the choices.
    """
    kind = slot.get_io_type()
    if value is None and slot.optional:
        return getattr(slot, "default", None)
    if kind in WIDGETS:
        return WIDGETS[kind](slot, _scalar(value))
    if kind in LINKS and not LINKS[kind](value):
        raise _refused(slot, _describe(value), f"a {kind}", f"Connect a node that gives a {kind}.")
    return value


def _list(slot: io.Input, values: Any) -> list:
    if not isinstance(values, (list, tuple)) or not values:
        raise _refused(
            slot, _describe(values), "a list of at least one value", "Check the node that is connected here."
        )
    return [check(slot, value) for value in values]


def _scalar(value: Any) -> Any:
    """A number of Python instead of a tensor or array that holds it without axes."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value


def _whole(slot: Any, value: Any) -> int:
    if isinstance(value, numbers.Integral) or (isinstance(value, float) and value.is_integer()):
        whole = int(value)
        if slot.min <= whole <= slot.max:
            return whole
    raise _refused_number(slot, value, "a whole number")


def _number(slot: Any, value: Any) -> float:
    if isinstance(value, numbers.Real) and slot.min <= value <= slot.max:  # NaN is in no range
        return float(value)
    raise _refused_number(slot, value, "a number")


def _text(slot: Any, value: Any) -> str:
    accepted = f"text of at most {LONGEST_TEXT:,} characters"
    if not isinstance(value, str):
        raise _refused(slot, _describe(value), accepted, "Connect a node that gives text.")
    if len(value) > LONGEST_TEXT:
        raise _refused(slot, f"{len(value):,} characters", accepted, "Shorten the text.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        found = f"a character that is only half of one (U+{ord(value[error.start]):04X})"
        raise _refused(slot, found, "Unicode text", "Delete that character.") from error
    return value


def _switch(slot: Any, value: Any) -> bool:
    if isinstance(value, numbers.Integral) and value in (0, 1):
        return bool(value)
    raise _refused(slot, _describe(value), "true or false", f"Set {slot.id} to {str(slot.default).lower()}.")


def _choice(slot: Any, value: Any) -> str:
    options: list[str] = list(slot.options or [])
    if isinstance(value, str):
        if value in options:
            return value
        same = plain_name(value)  # a file as another system writes its name
        for option in options:
            if plain_name(option) == same:
                return option
    remedy = "Choose a value in the list. A file has to be in its folder first."
    raise _refused(slot, _describe(value), _listed(options), remedy)


def _is_latent(value: Any) -> bool:
    return isinstance(value, dict) and "samples" in value


def _is_conditioning(value: Any) -> bool:
    entries = value if isinstance(value, (list, tuple)) else []
    pairs = [isinstance(entry, (list, tuple)) and len(entry) == 2 and isinstance(entry[1], dict) for entry in entries]
    return bool(pairs) and all(pairs)


def _is_video(value: Any) -> bool:
    return all(callable(getattr(value, name, None)) for name in ("get_dimensions", "save_to"))


WIDGETS = {"INT": _whole, "FLOAT": _number, "STRING": _text, "BOOLEAN": _switch, "COMBO": _choice}
LINKS: dict[str, Callable[[Any], bool]] = {
    "MODEL": lambda value: all(hasattr(value, name) for name in ("model", "model_options", "clone")),
    "LATENT": _is_latent,
    "CONDITIONING": _is_conditioning,
    "VIDEO": _is_video,
    "OVI_GUIDANCE_OPTIONS": lambda value: isinstance(value, GuidanceOptions),
}


def _listed(options: Iterable[str]) -> str:
    names = [f"'{option}'" for option in options]
    if not names:
        return "a file, but there is none in the folder"
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _refused_number(slot: Any, value: Any, kind: str) -> OviError:
    least, most, default = _short(slot.min), _short(slot.max), _short(slot.default)
    limit = kind
    if isinstance(value, numbers.Real) and value < slot.min:
        limit = f"{least} or more"
    elif isinstance(value, numbers.Real) and value > slot.max:
        limit = f"{most} or less"
    accepted, remedy = f"{kind} from {least} to {most}", f"Set {slot.id} to {limit}, such as {default}."
    return _refused(slot, _describe(value), accepted, remedy)


def _refused(slot: io.Input, found: str, accepted: str, remedy: str) -> OviError:
    return OviError(input=slot.id, found=found, accepted=accepted, remedy=remedy)


def _describe(value: Any) -> str:
    """What an error says of a value, in a few words."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f"'{value if len(value) <= 100 else value[:100] + ' …'}'"
    if isinstance(value, (bool, numbers.Real)):
        return _short(value)
    if hasattr(value, "shape"):
        return f"a {type(value).__name__} of shape {list(value.shape)}"
    return f"a {type(value).__name__}" + (f" of {len(value)} values" if isinstance(value, (list, tuple)) else "")


def _short(value: Any) -> str:
    if isinstance(value, numbers.Integral):
        bits = int(value).bit_length()
        return str(value) if bits <= 128 else f"a whole number of {bits:,} bits"
    return f"{float(value):g}" if math.isfinite(value) else str(float(value))
