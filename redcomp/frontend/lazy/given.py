"""What users give to make a `LazyTensor` of, as arguments: numbers, lists, arrays and symbols."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from redcomp import arguments, foreign
from redcomp.errors import ArgumentError
from redcomp.frontend.language.aliases import KIND_OF_CATEGORY
from redcomp.frontend.language.expressions import Slot
from redcomp.frontend.lazy.bindings import Argument, Symbol, Unique, parts_of, special
from redcomp.frontend.lazy.library import Agreed, ArrayType, Library, Shaped
from redcomp.ir import Kind
from redcomp.limits import MAX_DIM

INTEGERS = (int, np.integer, np.bool_)
_FLOATS = (float, np.floating)
COMPLEX = (complex, np.complexfloating)
_REAL = (*INTEGERS, *_FLOATS)
OPERANDS = (*_REAL, *COMPLEX, list)


def argument_of(library: Library, given: Any, axis: object = None) -> Argument:
    """A number, a list of numbers or an array as an argument; raises ArgumentError."""
    if isinstance(given, library.array_class):
        return argument_of_array(library, given, axis)
    return _of_no_array(library, given, axis)


def argument_of_array(library: Library, given: Any, axis: Any) -> Argument:
    """An array of the library as an argument; raises ArgumentError."""
    if axis is not None and type(axis) is not int:
        axis = arguments.integer("axis", axis)
    shaped = library.shaped(given, axis)
    value = given
    if shaped.agreed.is_complex and given.shape:
        value = parts_of(library, given, axis in (0, 1))
    if shaped.shape is not None:
        value = value.reshape(shaped.shape)
    return Argument((library.identity(given), axis), given, value, shaped)


def _of_other(library: Library, given: Any, axis: object) -> Argument:
    """An array of another library, known by the object that was given."""
    own = argument_of(library, library.taken("the array of a LazyTensor", given), axis)
    key = (library.identity(given), axis)
    return replace(special(own, given), key=key)


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


def shaped(type_: ArrayType, shape: tuple[int, ...], axis: int | None) -> Shaped:
    """What an array is as an argument: it follows from these three; raises ArgumentError.

    axis   as for `LazyTensor`
    """
    parts = 2 if type_.is_complex else 1
    if not shape:
        # It gets the others' dtype, so it is no integer by the time it is one of the arguments.
        return Shaped(
            Slot("parameter", parts), None, Agreed(is_complex=type_.is_complex, is_loose=True)
        )
    axes = len(shape)
    if axes == 1 and axis in (0, 1):
        shape = (*shape, 1)
    if type_.is_complex:
        axes, shape = len(shape), (*shape[:-1], 2 * shape[-1])  # as `parts_of` makes them
    made = _of_whole_shape(type_, shape) if axis is None else _of_axis(type_, shape, axis)
    return made._replace(shape=None) if len(made.shape or ()) == axes else made


# The dtype of parts of complex numbers.
_PARTS: Mapping[str, str] = {"complex64": "float32", "complex128": "float64"}

# By whether an array has one i, and one j, what it is.
_KINDS: Mapping[tuple[bool, bool], Kind] = {
    (False, False): "ij",
    (False, True): "i",
    (True, False): "j",
    (True, True): "parameter",
}


def _of_whole_shape(type_: ArrayType, shape: tuple[int, ...]) -> Shaped:
    """An array with axes for i and j, or a vector."""
    if len(shape) == 1:
        return _variable(type_, "parameter", shape[0], (), None, None)
    if len(shape) == 2:
        raise ArgumentError(
            f"an array of shape {shape} needs axis=0 (a vector for each i), 1 (for each j) or 2, "
            "as Vi(x), Vj(x) and Pm(x) say; or give it the axes of i and j, as x[:, None, :] for "
            "each i, x[None, :, :] for each j, x[:, :, None] for each pair"
        )
    *batch, rows, columns, dim = shape
    kind = _KINDS[bool(rows == 1), bool(columns == 1)]
    counts = rows if "i" in kind else None, columns if "j" in kind else None
    return _variable(type_, kind, dim, batch, *counts)


def _of_axis(type_: ArrayType, shape: tuple[int, ...], axis: int) -> Shaped:
    """An array of a vector for each i, for each j, or of a parameter."""
    if axis not in (0, 1, 2):
        raise ArgumentError(f"axis must be 0 (i), 1 (j) or 2 (a parameter), not {axis}")
    kind = KIND_OF_CATEGORY[axis]
    if kind == "parameter":
        is_row = len(shape) == 2 and shape[0] == 1
        return _variable(type_, kind, shape[-1], () if is_row else shape[:-1], None, None)
    *batch, count, dim = shape
    counts = (count, None) if kind == "i" else (None, count)
    return _variable(type_, kind, dim, batch, *counts)


def _variable(
    type_: ArrayType,
    kind: Kind,
    dim: int,
    batch: Sequence[int],
    rows: int | None,
    columns: int | None,
) -> Shaped:
    """A variable whose value has an axis for each of these that it has."""
    dtype = None if type_.is_integer else _PARTS.get(type_.dtype, type_.dtype)
    counts = [count for count in (rows, columns) if count is not None]
    return Shaped(
        _slot(kind, dim, type_.is_integer),
        (*batch, *counts, dim),
        Agreed(rows, columns, tuple(batch), dtype, type_.is_complex),
    )


def _slot(kind: Any, dim: int, is_integer: bool = False) -> Slot:
    if not 1 <= dim <= MAX_DIM:
        raise ArgumentError(f"vectors have a dimension from 1 to {MAX_DIM:,}, not {dim}")
    # The sizes of tensors that torch.jit.trace follows are tensors.
    return Slot(kind, operator.index(dim), is_integer)


_LOOSE = Agreed(is_loose=True)
_NUMBER = Shaped(Slot("parameter", 1), None, _LOOSE)


def scalar(value: Any) -> Argument:
    """A number of the others' dtype."""
    return Argument(Unique(), value, _float(value), _NUMBER)


def vector(values: list[Any]) -> Argument:
    """A vector of the others' dtype."""
    for value in values:
        if not isinstance(value, (*_REAL, *COMPLEX)):
            raise ArgumentError(
                f"a list for a LazyTensor holds numbers, not {arguments.shown(value)}"
            )
    if any(isinstance(value, COMPLEX) for value in values):
        return _parts(values, values)
    shaped = Shaped(_slot("parameter", len(values)), None, _LOOSE)
    return Argument(Unique(), values, list(map(_float, values)), shaped)


def _parts(given: object, values: list[Any]) -> Argument:
    """A vector of complex numbers, whose parts have the others' dtype."""
    parts = [_float(part) for value in values for part in (value.real, value.imag)]
    shaped = Shaped(_slot("parameter", len(parts)), None, Agreed(is_complex=True, is_loose=True))
    return Argument(Unique(), given, parts, shaped)


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
    agreed = Agreed(is_complex=is_complex, is_special=True, is_loose=True)
    return Argument(key, what, None, Shaped(slot, None, agreed))
