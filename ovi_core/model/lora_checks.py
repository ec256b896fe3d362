"""Whether the parts of a LoRA's adapter fit each other, and which shape of weight they are for.

ComfyUI logs an adapter that it cannot apply and goes on without it, or stops with whatever torch raises. So the shapes
that its ``comfy.weight_adapter`` relies on are checked here first. An adapter that contradicts itself is an error that
names the key; a sound one for a weight of another shape is left out and reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import OviError

ACCEPTED = "a LoRA for Ovi or for Wan 2.2 TI2V 5B"
WHOLE = ("diff", "set_weight")
"""Parts that are the difference to a weight, or a whole weight."""
BIAS = "diff_b"
"""Part that is the difference to the bias of a layer."""

LARGEST = 1e7
"""Of values. Trained ones stay far below, and the product of several larger ones is no number in float32."""

Shape = tuple[int, ...]


class Parts(Mapping[str, Tensor]):
    """The tensors of one layer's adapter by part.

    Attributes:
        keys_in_file: of the tensors, by part.
        spellings: of the parts, as ComfyUI reads them.
        file, input: name of the LoRA's file and of the input that it comes from, for errors.
    """

    def __init__(self, file: str, input: str):
        self.tensors: dict[str, Tensor] = {}
        self.keys_in_file: dict[str, str] = {}
        self.spellings: dict[str, str] = {}
        self.file, self.input = file, input

    def add(self, part: str, tensor: Tensor, key: str, spelling: str) -> None:
        """Take in a tensor of the file by its ``key`` there."""
        self.tensors[part], self.keys_in_file[part], self.spellings[part] = tensor, key, spelling

    def __getitem__(self, part: str) -> Tensor:
        return self.tensors[part]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def broken(self, part: str, what: str) -> OviError:
        """The error for a tensor that does not fit the others of its adapter."""
        return OviError(
            input=self.input,
            found=f"'{self.file}', a LoRA whose weight '{self.keys_in_file[part]}' {what}",
            accepted=ACCEPTED,
            remedy="The file is damaged, or written by a faulty tool: download it again, or pick another one.",
        )

    def incomplete(self, part: str, missing: str) -> OviError:
        """The error for a tensor whose counterpart is not in the file."""
        return OviError(
            input=self.input,
            found=f"'{self.file}', a LoRA without its weight {missing} beside '{self.keys_in_file[part]}'",
            accepted=ACCEPTED,
            remedy="The file is cut short: download it again.",
        )


class Kind(NamedTuple):
    """A kind of adapter.

    Attributes:
        parts: the parts that only this kind has; any of them marks it.
        needs: which have to be there: alternatives are joined by ``|``, parts of an alternative by ``+``.
        changes: from an adapter's parts and the shape of its layer's weight, the shape [out, in] of the weight that
            the adapter changes, further axes counted as columns; None where it could be of several shapes.
        alpha: what a missing alpha counts as; None where ComfyUI has a value for that.
    """

    parts: tuple[str, ...]
    needs: tuple[str, ...]
    changes: Callable[[Parts, Shape], Shape | None]
    alpha: Callable[[Parts], float] | None = None


def kind_of(parts: Parts) -> str | None:
    """Name of the kind of a layer's adapter, None where there is only a whole difference, a bias or nothing known.

    Raises:
        OviError: parts of two kinds for one layer.
    """
    marks = [whole for whole in WHOLE if whole in parts]
    found = {}
    for kind_name, kind in KINDS.items():
        first = next((part for part in kind.parts if part in parts), None)
        if first is not None and kind_name != "boft":  # which has the parts of oft
            found[kind_name] = first
    if len(found) + len(marks) > 1:
        raise parts.broken([*found.values(), *marks][0], "stands beside a change of another kind to the same layer")
    name = next(iter(found), None)
    return "boft" if name == "oft" and "oft_blocks" in parts and parts["oft_blocks"].ndim == 4 else name


def check_values(parts: Parts) -> None:
    """Raise OviError for a tensor that is empty, holds no real numbers, NaN or huge values, and for several alphas."""
    for part, tensor in parts.items():
        if not tensor.numel():
            raise parts.broken(part, f"is empty (shape {list(tensor.shape)})")
        if tensor.is_complex():
            raise parts.broken(part, "holds complex numbers")
        # In float32, for torch does not test every type; a few bytes of fp8 or int8 become few, too.
        if not bool(torch.isfinite(tensor.float()).all()):
            raise parts.broken(part, "holds values that are not numbers (NaN or infinite)")
        if float(tensor.float().abs().max()) > LARGEST:
            raise parts.broken(part, f"holds values up to {float(tensor.float().abs().max()):.0e}")
    if "alpha" in parts and parts["alpha"].numel() != 1:
        raise parts.broken("alpha", f"has {parts['alpha'].numel()} values where one is needed")


def check_parts(parts: Parts, name: str) -> None:
    """Raise OviError for an adapter of the kind ``name`` that lacks a part."""
    here = next(part for part in KINDS[name].parts if part in parts)
    for need in KINDS[name].needs:
        if not any(all(part in parts for part in way.split("+")) for way in need.split("|")):
            raise parts.incomplete(here, need.replace("|", " or ").replace("+", " and "))


def dora_scale(parts: Parts, weight: Shape) -> Tensor:
    """DoRA's magnitudes in the shape that ComfyUI reads: [out, 1, ...] by rows, or [1, in, 1, ...] by columns.

    Raises:
        OviError: another number of magnitudes than the weight has rows or columns.
    """
    scale = parts["dora_scale"]
    by_rows, ones = (weight[0], *[1] * (len(weight) - 1)), [1] * (len(weight) - 2)
    if len(weight) > 1 and tuple(scale.shape) == (1, weight[1], *ones):
        return scale
    if scale.numel() == weight[0]:
        return scale.reshape(by_rows)
    raise parts.broken("dora_scale", f"has the shape {list(scale.shape)} for a weight of {said(weight)}")


# -- the shapes that each kind changes ------------------------------------------------------


def matrix_of(shape: Shape) -> Shape:
    """Shape [out, rest] of a weight whose axes after the first are taken as one."""
    return shape[0], math.prod(shape[1:])


def _flat(parts: Parts, part: str) -> Shape:
    """Shape of a half as a matrix."""
    tensor = parts[part]
    if tensor.ndim < 2:
        raise parts.broken(part, f"has the shape {list(tensor.shape)} where a matrix is needed")
    return matrix_of(tuple(tensor.shape))


def _plain(parts: Parts, part: str, axes: int = 2) -> Shape:
    """Shape of a tensor that has to have so many axes."""
    tensor = parts[part]
    if tensor.ndim != axes:
        raise parts.broken(part, f"has the shape {list(tensor.shape)} where {axes} axes are needed")
    return tuple(tensor.shape)


def _product(parts: Parts, left: str, right: str) -> Shape:
    """Shape of the product of two halves."""
    (rows, rank), (other, columns) = _flat(parts, left), _flat(parts, right)
    if rank != other:
        raise parts.broken(left, f"is of rank {rank}, while '{parts.keys_in_file[right]}' is of rank {other}")
    return rows, columns


def _lora(parts: Parts, weight: Shape) -> Shape | None:
    if "reshape_weight" in parts and parts["reshape_weight"].flatten().tolist() != list(weight):
        return None
    changed = _product(parts, "lora_up.weight", "lora_down.weight")
    if "lora_mid.weight" not in parts:
        return changed
    middle, (rank, inner) = _plain(parts, "lora_mid.weight", 4), _flat(parts, "lora_down.weight")
    if middle[:2] != (rank, rank) or parts["lora_down.weight"].shape[1] != inner:
        raise parts.broken("lora_mid.weight", f"has the shape {list(middle)} beside halves of rank {rank}")
    return changed[0], inner * math.prod(middle[2:])


def _loha(parts: Parts, weight: Shape) -> Shape | None:
    if "hada_t1" not in parts and "hada_t2" not in parts:
        for part in KINDS["loha"].needs:
            _plain(parts, part)
        first, second = (_product(parts, f"hada_w{i}_a", f"hada_w{i}_b") for i in (1, 2))
        return first if first == second else _unlike(parts, "hada_w1_a", "hada_w2_a", first, second)
    shapes = []
    for i in (1, 2):
        if f"hada_t{i}" not in parts:
            raise parts.incomplete(f"hada_t{3 - i}", f"hada_t{i}")
        core = _plain(parts, f"hada_t{i}", 4)
        (rank_a, rows), (rank_b, columns) = _plain(parts, f"hada_w{i}_a"), _plain(parts, f"hada_w{i}_b")
        if core[:2] != (rank_a, rank_b):
            raise parts.broken(f"hada_t{i}", f"has the shape {list(core)} beside halves of rank {rank_a} and {rank_b}")
        shapes.append((rows, columns * math.prod(core[2:])))
    return shapes[0] if shapes[0] == shapes[1] else _unlike(parts, "hada_t1", "hada_t2", *shapes)


def _unlike(parts: Parts, one: str, other: str, first: Shape, second: Shape) -> Shape:
    raise parts.broken(
        one, f"is for a weight of {said(first)}, '{parts.keys_in_file[other]}' for one of {said(second)}"
    )


def _lokr(parts: Parts, weight: Shape) -> Shape | None:
    sizes = []
    for i in (1, 2):
        if f"lokr_w{i}" in parts:
            factor = tuple(parts[f"lokr_w{i}"].shape)
            if len(factor) not in ((2,) if i == 1 else (2, 4)):
                raise parts.broken(f"lokr_w{i}", f"has the shape {list(factor)} where a matrix is needed")
            sizes.append(matrix_of(factor))
        elif i == 2 and "lokr_t2" in parts:
            if len(weight) < 4:  # ComfyUI logs an error and changes nothing
                raise parts.broken("lokr_t2", "is the core of a change to a convolution, which this layer is not")
            core = _plain(parts, "lokr_t2", 4)
            (rank_a, rows), (rank_b, columns) = _plain(parts, "lokr_w2_a"), _plain(parts, "lokr_w2_b")
            if core[:2] != (rank_a, rank_b):
                raise parts.broken("lokr_t2", f"has the shape {list(core)} beside halves of {rank_a} and {rank_b}")
            sizes.append((rows, columns * math.prod(core[2:])))
        else:
            for half in "ab":
                _plain(parts, f"lokr_w{i}_{half}")
            sizes.append(_product(parts, f"lokr_w{i}_a", f"lokr_w{i}_b"))
    (rows_1, columns_1), (rows_2, columns_2) = sizes
    return rows_1 * rows_2, columns_1 * columns_2


def _glora(parts: Parts, weight: Shape) -> Shape | None:
    """LyCORIS writes two layouts, b1 @ b2 + w @ a1 @ a2, and an older one of b2 @ b1 + w @ a2 @ a1."""
    a_1, a_2, b_1, b_2 = (_flat(parts, f"{name}.weight") for name in ("a1", "a2", "b1", "b2"))
    if len(weight) < 2:
        return None
    columns = math.prod(weight[1:])
    new = b_2[0] == b_1[1] == a_1[1] == a_2[0]
    old = b_2[1] == b_1[0] == a_1[0] == a_2[1]
    if old and (not new or a_2[0] == weight[0] == weight[1]):
        return (b_2[0], b_1[1]) if a_2[0] == a_1[1] == columns else None
    if new:
        return (b_1[0], b_2[1]) if a_1[0] == a_2[1] == weight[1] else None
    raise parts.broken("a1.weight", "and the other three weights of its layer are of different ranks")


def _oft(parts: Parts, weight: Shape) -> Shape | None:
    """Rotations of the rows: they fit every number of columns."""
    count, size, other = _plain(parts, "oft_blocks", 3)
    return _rotated(parts, weight, count * size if size == other else 0)


def _boft(parts: Parts, weight: Shape) -> Shape | None:
    stages, count, size, other = _plain(parts, "oft_blocks", 4)
    fits = size == other and size % 2 == 0 and (count * size) % (2 ** (stages - 1) * size) == 0
    return _rotated(parts, weight, count * size if fits else 0)


def _rotated(parts: Parts, weight: Shape, rows: int) -> Shape:
    if not rows:
        raise parts.broken("oft_blocks", f"has the shape {list(parts['oft_blocks'].shape)}, which makes no rotations")
    scale = parts.get("rescale")
    if scale is not None and rows == weight[0] and tuple(scale.shape) != (rows, *[1] * (len(weight) - 1)):
        raise parts.broken("rescale", f"has the shape {list(scale.shape)} beside rotations of {rows} rows")
    return rows, math.prod(weight[1:])


def _size(part: str, axis: int) -> Callable[[Parts], float]:
    return lambda parts: float(parts[part].shape[axis])


def _lokr_alpha(parts: Parts) -> float:
    """Rank of a factor that is a product, of the second if both are; 1 where none is."""
    return next((float(parts[part].shape[0]) for part in ("lokr_w2_b", "lokr_w1_b") if part in parts), 1.0)


LORA = ("lora_up.weight", "lora_down.weight")
LOHA = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
LOKR = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2")
GLORA = ("a1.weight", "a2.weight", "b1.weight", "b2.weight")
ROTATIONS = ("oft_blocks", "rescale")
KINDS = {
    "lora": Kind((*LORA, "lora_mid.weight", "reshape_weight"), LORA, _lora, _size("lora_down.weight", 0)),
    "loha": Kind((*LOHA, "hada_t1", "hada_t2"), LOHA, _loha, _size("hada_w1_b", 0)),
    "lokr": Kind(LOKR, ("lokr_w1|lokr_w1_a+lokr_w1_b", "lokr_w2|lokr_w2_a+lokr_w2_b"), _lokr, _lokr_alpha),
    "glora": Kind(GLORA, GLORA, _glora),
    "oft": Kind(ROTATIONS, ROTATIONS[:1], _oft, lambda parts: 0.0),
    "boft": Kind(ROTATIONS, ROTATIONS[:1], _boft, lambda parts: 0.0),
}
"""Kinds of adapters by ComfyUI's name. Of both rotations alpha is a bound, and 0 is none."""


def said(shape: Shape) -> str:
    """A shape in words."""
    return "x".join(str(size) for size in shape) if shape else "a single value"
