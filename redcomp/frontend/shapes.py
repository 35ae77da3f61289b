"""How the shape of an argument is read: each variable has a full shape, and may have shorter ones.

    Vi(D)   (..., M, D)      Vi(1) also (..., M)
    Vj(D)   (..., N, D)      Vj(1) also (..., N)
    Vij(D)  (..., M, N, D)
    Pm(D)   (..., D)         also (..., 1, D) and (..., D, 1); Pm(1) also (...), () and numbers

The dots are the axes of a batch, which broadcast.  Where a shape can be read in two ways:

1. A `Vi(1)` or `Vj(1)` has its full shape if the last axis is 1 and the one before it is the number
   of rows that the other variables of its index have; else its last axis is missing.
2. k is the largest number of batch axes of the variables of pairs in their full shapes (without
   any, of those that lack an axis).  Who lacks an axis has at most k batch axes.
3. A `Pm(D)` with k + 2 axes whose last but one is 1 drops that one, and one that ends in (D, 1)
   drops the last.

What fits none of this is left as it is, and `calls.sizes` says what is wrong with it.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from redcomp.errors import ArgumentError
from redcomp.frontend.calls import AXES, Call, check_integers, prepare
from redcomp.frontend.pair_reduction import PairReduction, Parameter

Shape = tuple[int, ...]

Number = int | float | np.integer[Any] | np.floating[Any] | np.bool_
NUMBERS = (int, float, np.integer, np.floating, np.bool_)


@functools.lru_cache(maxsize=1024)
def full_shapes(reduction: PairReduction, shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
    """The full shapes that the arguments of a call are read with, one for each."""
    read = [tuple(shape) for shape in shapes]
    batch_axes = _read_pairs(reduction.parameters, read)
    for n, parameter in enumerate(reduction.parameters):
        if parameter.kind == "parameter":
            read[n] = _of_parameter(parameter.dim, read[n], batch_axes)
    return tuple(read)


@functools.lru_cache(maxsize=1024)
def prepare_read(reduction: PairReduction, dtype: str, shapes: tuple[Shape, ...]) -> Call:
    """The call with arguments of these shapes, as they are read; raises ArgumentError."""
    return prepare(reduction, dtype, full_shapes(reduction, shapes))


def _read_pairs(parameters: Sequence[Parameter], shapes: list[Shape]) -> int:
    """Give the variables of pairs their full shapes; the number of batch axes."""
    rows: dict[str, int] = {}
    short, full_axes = [], []
    # Those that can have one shape only tell first how many rows there are.
    for n in sorted(_of_pairs(parameters), key=lambda n: _may_be_short(parameters[n])):
        axes, shape = AXES[parameters[n].kind], shapes[n]
        own = shape[-1 - len(axes) : -1]
        if _may_be_short(parameters[n]) and not _is_full(shape, rows.get(axes)):
            short.append(n)
        elif len(own) == len(axes):
            full_axes.append(len(shape) - len(axes) - 1)
            for axis, count in zip(axes, own, strict=True):
                rows.setdefault(axis, count)
    batch_axes = max(full_axes or [len(shapes[n]) - 1 for n in short] or [0])
    for n in short:
        if _is_short(shapes[n], rows.get(parameters[n].kind), batch_axes):
            shapes[n] = (*shapes[n], 1)
    return max(batch_axes, 0)


def _of_pairs(parameters: Sequence[Parameter]) -> Iterable[int]:
    return (n for n, parameter in enumerate(parameters) if parameter.kind != "parameter")


def _may_be_short(parameter: Parameter) -> bool:
    return parameter.dim == 1 and len(AXES[parameter.kind]) == 1


def _is_full(shape: Shape, rows: int | None) -> bool:
    """Whether a scalar of each row has its last axis, where others have so many rows."""
    return len(shape) >= 2 and shape[-1] == 1 and rows in (None, shape[-2])


def _is_short(shape: Shape, rows: int | None, batch_axes: int) -> bool:
    """Whether a scalar of each row that is not full lacks its last axis, and no more is wrong."""
    is_last_rows = len(shape) == 1 or shape[-1:] != (1,) or rows == 1
    return 1 <= len(shape) <= batch_axes + 1 and is_last_rows


def _of_parameter(dim: int, shape: Shape, batch_axes: int) -> Shape:
    """The full shape of a parameter."""
    if dim == 1 and len(shape) <= batch_axes and shape[-1:] != (1,):
        return (*shape, 1)
    if shape[-1:] == (dim,):
        is_row = len(shape) == batch_axes + 2 and shape[-2] == 1
        return (*shape[:-2], dim) if is_row else shape
    is_column = len(shape) <= batch_axes + 2 and shape[-2:] == (dim, 1)
    return shape[:-1] if is_column else shape


def number(parameter: Parameter, value: Number, largest: float) -> int | float:
    """A number in the place of an argument, for a call in a dtype with this largest number.

    Raises ArgumentError if the argument cannot be a number, or not this one.
    """
    name = parameter.name
    if (parameter.kind, parameter.dim) != ("parameter", 1):
        raise ArgumentError(f"argument {name!r} is a number, which only a Pm(1) may be")
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
