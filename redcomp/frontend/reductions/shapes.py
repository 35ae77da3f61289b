"""How the shape of an argument is read: each variable has a full shape, and may have shorter ones.

    Vi(D)   (..., M, D)      Vi(1) also (..., M)
    Vj(D)   (..., N, D)      Vj(1) also (..., N)
    Vij(D)  (..., M, N, D)
    Pm(D)   (..., D)         also (..., 1, D) and (..., D, 1); Pm(1) also (...), () and numbers

The dots are the axes of a batch, which broadcast.  Where a shape can be read in two ways:

1. A `Vi(1)` or `Vj(1)` is short if its last axis is not 1, and has its full shape if that is 1,
   unless the axis before is not the number of rows that other variables of its index have.
2. If the first i-variable or the first j-variable is short in a batch, so is every `Vi(1)` or
   `Vj(1)` with as many axes whose number of rows is 1 or is not known from another variable.
3. k is the largest number of batch axes of the variables of pairs in full shape and of the first
   i- and j-variable.  Whoever lacks an axis has at most k.
4. A `Pm(D)` with k + 2 axes whose last but one is 1 drops that one, and one that ends in (D, 1)
   drops the last.

What fits none of this is left as it is, and `calls.sizes` says what is wrong with it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from redcomp.errors import ArgumentError
from redcomp.frontend.reductions.calls import AXES, check_integers
from redcomp.frontend.reductions.pair_reduction import PairReduction, Parameter, remembered

Shape = tuple[int, ...]

Number = int | float | np.integer[Any] | np.floating[Any] | np.bool_
NUMBERS = (int, float, np.integer, np.floating, np.bool_)


@remembered
def full_shapes(reduction: PairReduction, shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
    """The full shapes that the arguments of a call are read with, one for each."""
    read = [tuple(shape) for shape in shapes]
    batch_axes = _read_pairs(reduction.parameters, read)
    for n, parameter in enumerate(reduction.parameters):
        if parameter.kind == "parameter":
            read[n] = _of_parameter(parameter.dim, read[n], batch_axes)
    return tuple(read)


def _read_pairs(parameters: Sequence[Parameter], shapes: list[Shape]) -> int:
    """Give the variables of pairs their full shapes; the number of batch axes."""
    is_full = _are_full(parameters, shapes)
    firsts = _firsts(parameters)
    batch_axes = 0
    for n, has_all in is_full.items():
        if has_all or n in firsts:
            own = len(AXES[parameters[n].kind]) + has_all
            batch_axes = max(batch_axes, len(shapes[n]) - own)
    for n, has_all in is_full.items():
        if not has_all and 1 <= len(shapes[n]) <= batch_axes + 1:
            shapes[n] = (*shapes[n], 1)
    return batch_axes


def _are_full(parameters: Sequence[Parameter], shapes: Sequence[Shape]) -> dict[int, bool]:
    """Whether each variable of pairs has all of its axes, or else lacks the last one."""
    pairs = [n for n, parameter in enumerate(parameters) if parameter.kind != "parameter"]
    scalars = [n for n in pairs if parameters[n].dim == 1 and len(AXES[parameters[n].kind]) == 1]
    unclear = [n for n in scalars if len(shapes[n]) > 1 and shapes[n][-1] == 1]
    is_full = {n: n not in scalars for n in pairs}
    rows: dict[str, int] = {}
    for n in (n for n in pairs if n not in unclear):
        axes = AXES[parameters[n].kind]
        before = shapes[n][:-1] if is_full[n] else shapes[n]
        for axis, count in zip(axes, before[-len(axes) :], strict=False):
            rows.setdefault(axis, count)
    in_batch = {len(shapes[n]) for n in _firsts(parameters) if not is_full[n] and n not in unclear}
    for n in unclear:
        kind, shape = parameters[n].kind, shapes[n]
        is_alike = len(shape) in in_batch and rows.get(kind, 1) == 1
        is_full[n] = not is_alike and (shape[-2] == 1 or rows.get(kind) != 1)
        if is_full[n]:
            rows.setdefault(kind, shape[-2])
    return is_full


def _firsts(parameters: Sequence[Parameter]) -> set[int]:
    """The positions of the first i-variable and of the first j-variable."""
    kinds = [parameter.kind for parameter in parameters]
    return {kinds.index(kind) for kind in AXES if kind in kinds and len(AXES[kind]) == 1}


def _of_parameter(dim: int, shape: Shape, batch_axes: int) -> Shape:
    """The full shape of a parameter."""
    if dim == 1 and len(shape) <= batch_axes and shape[-1:] != (1,):
        return (*shape, 1)
    if shape[-1:] == (dim,):
        is_row = len(shape) == batch_axes + 2 and shape[-2] == 1
        return (*shape[:-2], dim) if is_row else shape
    is_column = len(shape) <= batch_axes + 2 and shape[-2:] == (dim, 1)
    return shape[:-1] if is_column else shape


def is_numbers(parameter: Parameter, value: object) -> bool:
    """Whether an argument is a list of numbers for a parameter."""
    is_list = isinstance(value, (list, tuple)) and parameter.kind == "parameter"
    return is_list and all(isinstance(item, NUMBERS) for item in value)  # type: ignore[attr-defined]


def number(parameter: Parameter, value: Any, largest: float, of_list: bool = False) -> Any:
    """A number, or a list, in the place of an argument, for a call in a dtype of this largest one.

    Raises ArgumentError if the argument cannot be a number, or not this one.
    """
    if isinstance(value, (list, tuple)):
        return [number(parameter, item, largest, True) for item in value]
    name = parameter.name
    if not of_list and (parameter.kind, parameter.dim) != ("parameter", 1):
        raise ArgumentError(
            f"argument {name!r} is a number, which only a Pm(1) may be, a parameter of dimension 1"
        )
    if parameter.is_integer:
        if isinstance(value, (float, np.floating)):
            raise ArgumentError(f"argument {name!r} is {value!r}; its alias says integers")
        check_integers(parameter, int(value), int(value), "f64")
        return int(value)
    with contextlib.suppress(OverflowError):
        made = float(value)
        if not largest < abs(made) < math.inf:
            return made
    raise ArgumentError(
        f"argument {name!r} is a number above {largest:.4g}, the largest of the call's dtype"
    )
