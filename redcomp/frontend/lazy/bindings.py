"""What stands in the slots of an expression: arrays, numbers, and symbols for what a call brings.

An argument is known by the object that was given: what is given twice is one argument.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from redcomp.errors import ArgumentError
from redcomp.frontend.language.expressions import Placement, Slot
from redcomp.frontend.lazy.library import Library
from redcomp.ir import Kind


class Unique:
    """The key of an argument that is no other one."""

    __slots__ = ()


def _with_new_key(*rest: Any) -> Argument:
    return Argument(Unique(), *rest)


# Neither of these classes is frozen, though nothing changes them: they would take twice the time.
@dataclass(eq=False, slots=True)
class Argument:
    """One argument.

    key     equal for arguments that are the same
    given   the object, which the key may be the identity of
    value   what a call gets: an array as `Genred` takes it, a number, a list of numbers, or None
            for a symbol
    slot    the variable that it stands for
    rows    the number of i, None where it has none
    columns the number of j, likewise
    batch   the axes before these
    dtype   its name, or None for what takes the dtype of the others
    is_complex  whether its numbers are parts, of each complex number re and then im
    is_special  whether it is a symbol, or an array of another library: a call looks at these first
    """

    key: Hashable
    given: object
    value: Any
    slot: Slot
    rows: int | None = None
    columns: int | None = None
    batch: tuple[int, ...] = ()
    dtype: str | None = None
    is_complex: bool = False
    is_special: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy is of another array, and a number that was an `id` means nothing elsewhere.
        rest = tuple([getattr(self, field.name) for field in fields(self)[1:]])
        if isinstance(self.given, Symbol):
            return Argument, (self.key, *rest)
        return _with_new_key, rest


@dataclass(eq=False, slots=True)
class Bindings:
    """The arguments of an expression, what they agree on, and whether one is special or complex."""

    arguments: tuple[Argument, ...]
    everywhere: Placement
    rows: int | None
    columns: int | None
    batch: tuple[int, ...]
    dtype: str | None
    is_special: bool = False
    is_complex: bool = False

    @classmethod
    def of(cls, argument: Argument) -> Bindings:
        """The only argument."""
        a = argument
        sizes = (a.rows, a.columns, a.batch, a.dtype)
        return cls((a,), (0,), *sizes, a.is_special, a.is_complex)

    def merged(self, other: Bindings, library: Library) -> tuple[Bindings, Placement]:
        """Both, those of `other` after these, and where they are; raises ArgumentError."""
        if other is self or not other.arguments:
            return self, other.everywhere
        known: dict[Hashable, int] = {}
        for a in self.arguments:  # loops: comprehensions are calls of functions
            known[a.key] = len(known)
        added, places = list(self.arguments), []
        for a in other.arguments:
            place = known.setdefault(a.key, len(known))
            places.append(place)
            if place == len(added):
                added.append(a)
        placement = tuple(places)
        if len(added) == len(self.arguments):
            return self, placement
        everywhere = tuple(range(len(known)))
        rows, columns, batch, dtype = self.rows, self.columns, self.batch, self.dtype
        if rows is None:
            rows = other.rows
        elif other.rows not in (rows, None):
            raise _differ("ni, the numbers of rows", rows, other.rows)
        if columns is None:
            columns = other.columns
        elif other.columns not in (columns, None):
            raise _differ("nj, the numbers of columns", columns, other.columns)
        if batch != other.batch:
            batch = _broadcast(batch, other.batch)
        if dtype is None:
            dtype = other.dtype
        elif other.dtype not in (dtype, None):
            dtype = _common_dtype(self, other, library)
        is_special = self.is_special or other.is_special
        is_complex = self.is_complex or other.is_complex
        sizes = (rows, columns, batch, dtype)
        return Bindings(tuple(added), everywhere, *sizes, is_special, is_complex), placement

    def with_arguments(self, arguments: tuple[Argument, ...]) -> Bindings:
        """Other arguments for the same slots, of the same sizes."""
        is_special = any(a.is_special for a in arguments)
        return replace(self, arguments=arguments, is_special=is_special)

    @property
    def has_symbols(self) -> bool:
        """Whether a call has to bring something."""
        return self.is_special and any(isinstance(a.given, Symbol) for a in self.arguments)

    @property
    def symbols(self) -> list[Argument]:
        """What a call brings, in its order; raises ArgumentError if one is missing."""
        found = {a.given.position: a for a in self.arguments if isinstance(a.given, Symbol)}
        for n in range(len(found)):
            if n not in found:
                raise ArgumentError(
                    f"the symbolic variables have the positions {sorted(found)}, without {n}"
                )
        return [found[n] for n in range(len(found))]


NOTHING = Bindings((), (), None, None, (), None)


# No record: the tracer of `torch.compile` knows Python's own dataclasses.
@dataclass(frozen=True, slots=True)
class Symbol:
    """A variable whose values a call brings: its position among such variables, and its slot."""

    position: int
    slot: Slot


def parts_of(library: Library, array: Any, is_indexed: bool) -> Any:
    """A complex array as one of re, im, re, im, ...; scalars of an index get an axis first."""
    if is_indexed and len(array.shape) == 1:
        array = array[:, None]
    return library.real(array)


# -- the same arrays for other indices


def exchanged(bindings: Bindings, library: Library) -> Bindings:
    """The arguments, those of i being those of j and the reverse."""
    made = tuple([exchanged_argument(a, library) for a in bindings.arguments])
    return replace(bindings, arguments=made, rows=bindings.columns, columns=bindings.rows)


def exchanged_argument(argument: Argument, library: Library) -> Argument:
    """An argument of j for one of i, and the reverse."""
    kind = argument.slot.kind
    value = argument.value
    if kind == "ij" and not isinstance(argument.given, Symbol):
        value = library.transposed(value)
    rows, columns = argument.columns, argument.rows
    return _moved(argument, _OTHER[kind], value, rows, columns, argument.batch)


def columns_as_batch(bindings: Bindings, library: Library) -> Bindings:
    """The arguments, j being the last axis of the batch; nothing depends on j then."""
    axes = len(bindings.batch)
    made = []
    for a in bindings.arguments:
        shape = tuple(getattr(a.value, "shape", ()))
        kind: Kind = "parameter" if a.slot.kind == "j" else a.slot.kind
        value, batch = a.value, a.batch
        if a.slot.kind == "ij":
            kind, value = "i", library.transposed(value)
        if shape:
            batch = (1,) * (axes - len(batch)) + batch + (_length(a.columns),)
            rows = () if kind == "parameter" else (a.rows,)
            value = value.reshape((*batch, *rows, a.slot.dim))
        made.append(_moved(a, kind, value, a.rows, None, batch))
    batch = (*bindings.batch, _length(bindings.columns))
    return replace(bindings, arguments=tuple(made), columns=None, batch=batch)


def _first(rows: int | None, columns: int | None) -> int | None:
    return columns if rows is None else rows


def _length(count: int | None) -> int:
    """That of an axis, which has length 1 where nothing depends on its index."""
    return 1 if count is None else count


def with_one_row(bindings: Bindings) -> Bindings:
    """The arguments, arrays of parameters being variables of i with one row.

    Shapes of a batch are counted from the axis of i or j, which parameters alone do not have.
    """
    made = []
    for a in bindings.arguments:
        shape = tuple(getattr(a.value, "shape", ()))
        if shape:
            value = a.value.reshape((*shape[:-1], 1, shape[-1]))
            a = _moved(a, "i", value, 1, None, a.batch)
        made.append(a)
    return replace(bindings, arguments=tuple(made), rows=1)


def diagonal(bindings: Bindings, library: Library) -> Bindings:
    """The arguments at the pairs (k, k): nothing depends on j then."""
    made = []
    for a in bindings.arguments:
        kind: Kind = "parameter" if a.slot.kind == "parameter" else "i"
        value = library.diagonal(a.value) if a.slot.kind == "ij" else a.value
        made.append(_moved(a, kind, value, _first(a.rows, a.columns), None, a.batch))
    rows = _first(bindings.rows, bindings.columns)
    return replace(bindings, arguments=tuple(made), rows=rows, columns=None)


_OTHER: Mapping[Kind, Kind] = {"i": "j", "j": "i", "ij": "ij", "parameter": "parameter"}


def _moved(
    argument: Argument,
    kind: Kind,
    value: Any,
    rows: int | None,
    columns: int | None,
    batch: tuple[int, ...],
) -> Argument:
    """The argument as a variable of another kind, unless it is the same."""
    if kind == argument.slot.kind and value is argument.value:
        return argument
    key = (argument.key, kind) if value is not None else argument.key
    slot = argument.slot._replace(kind=kind)
    dtype, *flags = argument.dtype, argument.is_complex, argument.is_special
    return Argument(key, argument.given, value, slot, rows, columns, batch, dtype, *flags)


def _differ(what: str, a: object, b: object) -> ArgumentError:
    return ArgumentError(f"these LazyTensors have different {what}: {a} and {b}")


def _common_dtype(a: Bindings, b: Bindings, library: Library) -> str:
    """What arguments of two dtypes are computed in; raises ArgumentError where they cannot be."""
    found = None
    if not (a.is_complex or b.is_complex):
        arrays = [argument.value for argument in (*a.arguments, *b.arguments) if argument.dtype]
        found = library.common_dtype(arrays)
    if found is None:
        raise ArgumentError(
            f"these LazyTensors have different dtype: {a.dtype} and {b.dtype}; convert the arrays "
            f"that one of them is made of, by {library.conversion.format(a.dtype)}"
        )
    return found


def _broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(a, b)
    except ValueError:
        raise ArgumentError(
            f"these LazyTensors have batch dimensions that do not broadcast: {a} and {b}"
        ) from None
