"""ComfyUI still has everything that the pack uses beyond its documented interface.

One row per use. A row that fails names what ComfyUI has changed and which file of ours needs it; the other tests then
say what it breaks. Rows stand in the order of our packages.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
KINDS = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class Use:
    """One name of ComfyUI that we use.

    Attributes:
        name: dotted, such as ``comfy.samplers.CFGGuider.inner_sample``.
        file: ours that uses it, from the root of the repository.
        positional: its first parameters in order, without ``self``, as we pass or take them.
        keywords: parameters that we pass or take by name; ``**kwargs`` takes any.
        attributes: that it has.
        mentions: words in its source: keys of dictionaries and attributes of instances that we rely on.
        kind: ``callable``, ``class`` or ``value``.
        optional: ComfyUI may lack it (older or newer ones do), and the pack does without.
    """

    name: str
    file: str
    positional: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    mentions: tuple[str, ...] = ()
    kind: str = "callable"
    optional: bool = False


USES = [
    # -- network
    Use(
        "comfy.ops.cast_bias_weight",
        "ovi_core/network/layers.py",
        positional=("s",),
        keywords=("dtype", "device", "bias_dtype", "offloadable"),
    ),
    # -- sampling
    Use(
        "comfy.samplers.calc_cond_batch",
        "ovi_core/sampling/guider.py",
        positional=("model", "conds", "x_in", "timestep", "model_options"),
    ),
]


@pytest.mark.parametrize("use", USES, ids=lambda use: f"{use.file}-{use.name}")
def test_comfyui_has_what_we_use(use):
    found = _find(use.name)
    if found is None and use.optional:
        pytest.skip(f"this ComfyUI has no {use.name}; {use.file} does without")
    assert found is not None, f"ComfyUI has no {use.name} any more; {use.file} needs it"
    problems = list(_problems(use, found))
    assert not problems, f"{use.name}, which {use.file} needs: " + "; ".join(problems)


@pytest.mark.parametrize("use", USES, ids=lambda use: f"{use.file}-{use.name}")
def test_a_row_names_a_file_that_uses_it(use):
    assert use.name.rpartition(".")[2] in (ROOT / use.file).read_text(encoding="utf-8"), (
        f"{use.file} does not mention {use.name}: correct the row, or delete it"
    )


def _find(dotted: str) -> Any:
    """What a dotted name stands for, None where there is nothing."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part, None)
        return found
    return None


def _problems(use: Use, found: Any) -> Iterator[str]:
    """What is not as the row says, in words."""
    if use.kind == "class" and not inspect.isclass(found):
        yield f"is no class but {found!r:.80}"
    if use.kind == "callable" and not callable(found):
        yield f"cannot be called, it is {found!r:.80}"
    if use.positional or use.keywords:
        yield from _parameter_problems(use, found)
    for attribute in use.attributes:
        if not hasattr(found, attribute):
            yield f"has no attribute {attribute}"
    if use.mentions:
        source = inspect.getsource(found)
        yield from (f"its source no longer mentions {word}" for word in use.mentions if word not in source)


def _parameter_problems(use: Use, found: Any) -> Iterator[str]:
    parameters = [p for p in inspect.signature(found).parameters.values() if p.name not in ("self", "cls")]
    any_position = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)
    any_name = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    in_order = [p.name for p in parameters if p.kind in KINDS]
    if not any_position and in_order[: len(use.positional)] != list(use.positional):
        yield f"takes {', '.join(in_order) or 'nothing'} in this order, where we pass {', '.join(use.positional)}"
    named = {p.name for p in parameters}
    missing = [name for name in use.keywords if name not in named and not any_name]
    if missing:
        yield f"takes no {', '.join(missing)}"
    passed = {*use.positional, *use.keywords}
    wanted = [p.name for p in parameters if p.default is p.empty and p.kind in KINDS and p.name not in passed]
    if wanted and not any_position:
        yield f"also wants {', '.join(wanted)}, which we do not pass"
