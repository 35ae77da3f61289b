"""What users give to make a `LazyTensor` of, as arguments: numbers, lists, arrays and symbols."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from redcomp import arguments, foreign
from redcomp.errors import ArgumentError
from redcomp.frontend.language.aliases import KIND_OF_CATEGORY
from redcomp.frontend.language.expressions import Slot
from redcomp.frontend.lazy.bindings import Argument, Symbol, Unique, parts_of
from redcomp.frontend.lazy.library import ArrayType, Library, Shaped
from redcomp.ir import Kind
from redcomp.limits import MAX_DIM

INTEGERS = (int, np.integer, np.bool_)
_FLOATS = (float, np.floating)
COMPLEX = (complex, np.complexfloating)
_REAL = (*INTEGERS, *_FLOATS)
OPERANDS = (*_REAL, *COMPLEX, list)


def argument_of(library: Library, given: Any, axis: object = None) -> Argument:
    """A number, a list of numbers or an array as an argument; raises ArgumentError."""
    if not isinstance(given, library.array_class):
        return _of_no_array(library, given, axis)
    type_ = library.type_of(given)
    if type_.is_complex:
        return _of_complex(library, given, axis)
    shape = tuple(given.shape)
    if not shape:
        # It gets the others' dtype, so it is no integer by the time it is one of the arguments.
        return Argument((library.identity(given), "parameter"), given, given, Slot("parameter", 1))
    value = given
    if axis is not None:
        axis = arguments.integer("axis", axis)
        if len(shape) == 1 and axis != 2:
            value, shape = given[:, None], (*shape, 1)
    slot, singles, rows, columns, batch, dtype = library.shaped(type_, shape, axis)
    for single in singles:
        value = value.squeeze(single)
    key = (library.identity(given), slot.kind)
    return Argument(key, given, value, slot, rows, columns, batch, dtype)


def _of_other(library: Library, given: Any, axis: object) -> Argument:
    """An array of another library, known by the object that was given."""
    own = argument_of(library, library.taken("the array of a LazyTensor", given), axis)
    key = (library.identity(given), own.slot.kind)
    return replace(own, key=key, given=given, is_special=True)


def _of_no_array(library: Library, given: Any, axis: object) -> Argument:
    """A number, a list of numbers, or an array of another library."""
    if isinstance(given, _REAL):
        return scalar(given)
    if isinstance(given, list):
        return vector(given)
    if isinstance(given, COMPLEX):
        return _parts(given, [given])
    if foreign.speaks(given):
        return _of_other(library, given, axis)
    shown, hint = arguments.shown(given), ""
    if foreign.is_tensor(given):
        shown, hint = "a torch.Tensor", ": redcomp.torch.LazyTensor takes tensors"
    elif isinstance(given, np.ndarray):
        shown, hint = "a numpy.ndarray", ": torch.from_numpy makes a tensor of it"
    elif hasattr(given, "toarray"):
        shown, hint = f"a {type(given).__name__}", ": .toarray() makes a dense array of it"
    raise ArgumentError(
        f"a LazyTensor is made of an array of {library.name}, a number, a list of numbers or "
        f"a tuple (position, dimension, category), not of {shown}{hint}"
    )


def _of_complex(library: Library, given: Any, axis: object) -> Argument:
    """A complex array, as one of its parts, known by the array that was given."""
    if not given.shape:
        slot = Slot("parameter", 2)
        return Argument((library.identity(given), "parameter"), given, given, slot, is_complex=True)
    real = argument_of(library, parts_of(library, given, axis in (0, 1)), axis)
    return replace(
        real, key=(library.identity(given), real.slot.kind), given=given, is_complex=True
    )


def shaped(type_: ArrayType, shape: tuple[int, ...], axis: int | None) -> Shaped:
    """What an array is as an argument: it follows from these three; raises ArgumentError.

    shape  not ()
    axis   as for `LazyTensor`
    """
    return _of_whole_shape(type_, shape) if axis is None else _of_axis(type_, shape, axis)


# By whether an array has one i, and one j: what it is, and the axes that its value lacks.
_KINDS: Mapping[tuple[bool, bool], tuple[Kind, tuple[int, ...]]] = {
    (False, False): ("ij", ()),
    (False, True): ("i", (-2,)),
    (True, False): ("j", (-3,)),
    (True, True): ("parameter", (-2, -2)),
}


def _of_whole_shape(type_: ArrayType, shape: tuple[int, ...]) -> Shaped:
    """An array with axes for i and j, or a vector."""
    own = None if type_.is_integer else type_.dtype
    if len(shape) == 1:
        return Shaped(_slot("parameter", shape[0], type_.is_integer), (), None, None, (), own)
    if len(shape) == 2:
        raise ArgumentError(
            f"an array of shape {shape} needs axis=0 (a vector for each i), 1 (for each j) or 2, "
            "as Vi(x), Vj(x) and Pm(x) say; or give it the axes of i and j, as x[:, None, :] for "
            "each i, x[None, :, :] for each j, x[:, :, None] for each pair"
        )
    *batch, rows, columns, dim = shape
    kind, singles = _KINDS[bool(rows == 1), bool(columns == 1)]
    return Shaped(
        _slot(kind, dim, type_.is_integer),
        singles,
        rows if "i" in kind else None,
        columns if "j" in kind else None,
        tuple(batch),
        own,
    )


def _of_axis(type_: ArrayType, shape: tuple[int, ...], axis: int) -> Shaped:
    """An array of a vector for each i, for each j, or of a parameter."""
    if axis not in (0, 1, 2):
        raise ArgumentError(f"axis must be 0 (i), 1 (j) or 2 (a parameter), not {axis}")
    own = None if type_.is_integer else type_.dtype
    kind = KIND_OF_CATEGORY[axis]
    slot = _slot(kind, shape[-1], type_.is_integer)
    if kind == "parameter":
        is_row = len(shape) == 2 and shape[0] == 1
        return Shaped(slot, (0,) if is_row else (), None, None, () if is_row else shape[:-1], own)
    *batch, count, _ = shape
    rows, columns = (count, None) if kind == "i" else (None, count)
    return Shaped(slot, (), rows, columns, tuple(batch), own)


def _slot(kind: Any, dim: int, is_integer: bool = False) -> Slot:
    if not 1 <= dim <= MAX_DIM:
        raise ArgumentError(f"vectors have a dimension from 1 to {MAX_DIM:,}, not {dim}")
    # The sizes of tensors that torch.jit.trace follows are tensors.
    return Slot(kind, operator.index(dim), is_integer)


def scalar(value: Any) -> Argument:
    """A number of the others' dtype."""
    return Argument(Unique(), value, _float(value), Slot("parameter", 1))


def vector(values: list[Any]) -> Argument:
    """A vector of the others' dtype."""
    for value in values:
        if not isinstance(value, (*_REAL, *COMPLEX)):
            raise ArgumentError(
                f"a list for a LazyTensor holds numbers, not {arguments.shown(value)}"
            )
    if any(isinstance(value, COMPLEX) for value in values):
        return _parts(values, values)
    return Argument(Unique(), values, list(map(_float, values)), _slot("parameter", len(values)))


def _parts(given: object, values: list[Any]) -> Argument:
    """A vector of complex numbers, whose parts have the others' dtype."""
    parts = [_float(part) for value in values for part in (value.real, value.imag)]
    return Argument(Unique(), given, parts, _slot("parameter", len(parts)), is_complex=True)


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ArgumentError(f"{arguments.shown(value)} is too large for a float") from None


def symbol(given: tuple[Any, ...], is_complex: bool = False) -> Argument:
    """A variable whose values a call brings; of complex ones, its dimension counts both parts."""
    if len(given) != 3:
        raise ArgumentError(f"a symbol is (position, dimension, category), not {given!r}")
    names = ("the position", "the dimension", "the category")
    position, dim, category = map(arguments.integer, names, given)
    if category not in (0, 1, 2) or position < 0:
        raise ArgumentError(
            "a symbol has a position from 0 on, and category 0 (i), 1 (j) or 2 (a parameter); "
            f"this is {given!r}"
        )
    if is_complex and dim % 2:
        raise ArgumentError(
            f"a complex symbol holds both parts of its numbers: its dimension is even, not {dim}"
        )
    slot = _slot(KIND_OF_CATEGORY[category], dim)
    key, what = ("symbol", position), Symbol(position, slot)
    return Argument(key, what, None, slot, is_complex=is_complex, is_special=True)
