"""What stands in the slots of an expression: arrays, numbers, and symbols for what a call brings.

An argument is known by the object that was given: what is given twice is one argument.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from redcomp.errors import ArgumentError
from redcomp.frontend.language.expressions import Placement, Slot
from redcomp.frontend.lazy.library import Agreed, Library, Shaped
from redcomp.ir import Kind


class Unique:
    """The key of an argument that is no other one."""

    __slots__ = ()


def agreed(a: Agreed, b: Agreed) -> Agreed:
    """What both agree on, whose dtypes are the same if both have one; raises ArgumentError."""
    return Agreed(
        _count("ni, the numbers of rows", a.rows, b.rows),
        _count("nj, the numbers of columns", a.columns, b.columns),
        a.batch if a.batch == b.batch else _broadcast(a.batch, b.batch),
        a.dtype or b.dtype,
        a.is_complex or b.is_complex,
        a.is_special or b.is_special,
        a.is_loose or b.is_loose,
    )


# Neither of these classes is frozen, though nothing changes them: they would take twice the time.
@dataclass(eq=False, slots=True)
class Argument:
    """One argument.

    key     equal for arguments that are the same
    given   the object, which the key may be the identity of
    value   what a call gets: an array as `Genred` takes it, a number, a list of numbers, or None
            for a symbol
    shaped  the variable that it stands for, and what it says of an expression
    """

    key: Hashable
    given: object
    value: Any
    shaped: Shaped

    @property
    def slot(self) -> Slot:
        """The variable."""
        return self.shaped.slot

    @property
    def agreed(self) -> Agreed:
        """What it says of an expression."""
        return self.shaped.agreed

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy is of another array, and a number that was an `id` means nothing elsewhere.
        if isinstance(self.given, Symbol):
            return Argument, (self.key, self.given, self.value, self.shaped)
        return _with_new_key, (self.given, self.value, self.shaped)


def _with_new_key(given: object, value: Any, shaped: Shaped) -> Argument:
    return Argument(Unique(), given, value, shaped)


def special(argument: Argument, given: object) -> Argument:
    """The argument, which was made of another library's array."""
    shaped = argument.shaped
    agreed = shaped.agreed._replace(is_special=True)
    return replace(argument, given=given, shaped=shaped._replace(agreed=agreed))


@dataclass(eq=False, slots=True)
class Bindings:
    """The arguments of an expression in the order of its slots, by their keys."""

    by_key: dict[Hashable, Argument]
    agreed: Agreed

    @classmethod
    def of(cls, arguments: Sequence[Argument], agreed: Agreed) -> Bindings:
        """Arguments in the order of slots."""
        by_key = {a.key: a for a in arguments}
        if len(by_key) < len(arguments):  # a symbol has been put in another one's place
            by_key = {Unique(): a for a in arguments}
        return cls(by_key, agreed)

    def __reduce__(self) -> tuple[Any, ...]:
        return Bindings.of, (self.arguments, self.agreed)

    def merged(self, other: Bindings, library: Library) -> tuple[Bindings, Placement]:
        """Both, those of `other` after these, and where they are; raises ArgumentError."""
        mine, others = self.by_key, other.by_key
        both = {**mine, **others}
        count = len(mine)
        placement = tuple(range(count, len(both)))
        if len(placement) < len(others):  # some are among these
            places = {key: place for place, key in enumerate(both)}
            placement = tuple([places[key] for key in others])
            if len(both) == count:
                return self, placement
        a, b = self.agreed, other.agreed
        if a.dtype != b.dtype and a.dtype and b.dtype:
            a = a._replace(dtype=_common_dtype(self, other, library))
            b = b._replace(dtype=a.dtype)
        return Bindings(both, library.agreed(a, b)), placement

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """In the order of slots."""
        return tuple(self.by_key.values())

    def with_arguments(self, arguments: Sequence[Argument]) -> Bindings:
        """Other arguments for the same slots, of the same sizes."""
        is_special = any(a.agreed.is_special for a in arguments)
        return Bindings.of(arguments, self.agreed._replace(is_special=is_special))

    @property
    def has_symbols(self) -> bool:
        """Whether a call has to bring something."""
        return self.agreed.is_special and any(isinstance(a.given, Symbol) for a in self.arguments)

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


NOTHING = Bindings({}, Agreed())


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
    made = [exchanged_argument(a, library) for a in bindings.arguments]
    return Bindings.of(made, _exchanged(bindings.agreed))


def exchanged_argument(argument: Argument, library: Library) -> Argument:
    """An argument of j for one of i, and the reverse."""
    kind = argument.slot.kind
    value = argument.value
    if kind == "ij" and not isinstance(argument.given, Symbol):
        value = library.transposed(value)
    return _moved(argument, _OTHER[kind], value, _exchanged(argument.agreed))


def _exchanged(agreed: Agreed) -> Agreed:
    return agreed._replace(rows=agreed.columns, columns=agreed.rows)


def columns_as_batch(bindings: Bindings, library: Library) -> Bindings:
    """The arguments, j being the last axis of the batch; nothing depends on j then."""
    whole = bindings.agreed
    axes = len(whole.batch)
    made = []
    for a in bindings.arguments:
        shape = tuple(getattr(a.value, "shape", ()))
        kind: Kind = "parameter" if a.slot.kind == "j" else a.slot.kind
        value, own, batch = a.value, a.agreed, a.agreed.batch
        if a.slot.kind == "ij":
            kind, value = "i", library.transposed(value)
        if shape:
            batch = (1,) * (axes - len(batch)) + batch + (_length(own.columns),)
            rows = () if kind == "parameter" else (own.rows,)
            value = value.reshape((*batch, *rows, a.slot.dim))
        made.append(_moved(a, kind, value, own._replace(columns=None, batch=batch)))
    batch = (*whole.batch, _length(whole.columns))
    return Bindings.of(made, whole._replace(columns=None, batch=batch))


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
            a = _moved(a, "i", value, a.agreed._replace(rows=1, columns=None))
        made.append(a)
    return Bindings.of(made, bindings.agreed._replace(rows=1))


def diagonal(bindings: Bindings, library: Library) -> Bindings:
    """The arguments at the pairs (k, k): nothing depends on j then."""
    made = []
    for a in bindings.arguments:
        kind: Kind = "parameter" if a.slot.kind == "parameter" else "i"
        value = library.diagonal(a.value) if a.slot.kind == "ij" else a.value
        made.append(_moved(a, kind, value, _of_rows(a.agreed)))
    return Bindings.of(made, _of_rows(bindings.agreed))


def _of_rows(agreed: Agreed) -> Agreed:
    return agreed._replace(rows=_first(agreed.rows, agreed.columns), columns=None)


_OTHER: Mapping[Kind, Kind] = {"i": "j", "j": "i", "ij": "ij", "parameter": "parameter"}


def _moved(argument: Argument, kind: Kind, value: Any, agreed: Agreed) -> Argument:
    """The argument as a variable of another kind, unless it is the same."""
    if kind == argument.slot.kind and value is argument.value:
        return argument
    key = (argument.key, kind) if value is not None else argument.key
    shaped = Shaped(argument.slot._replace(kind=kind), None, agreed)
    return Argument(key, argument.given, value, shaped)


def _count(what: str, a: int | None, b: int | None) -> int | None:
    """The number of rows or columns that two agree on."""
    if a is not None and b is not None and a != b:
        raise ArgumentError(f"these LazyTensors have different {what}: {a} and {b}")
    return _first(a, b)


def _common_dtype(a: Bindings, b: Bindings, library: Library) -> str:
    """What arguments of two dtypes are computed in; raises ArgumentError where they cannot be."""
    found = None
    if not (a.agreed.is_complex or b.agreed.is_complex):
        both = (*a.arguments, *b.arguments)
        arrays = [argument.value for argument in both if argument.agreed.dtype]
        found = library.common_dtype(arrays)
    if found is None:
        own, theirs = a.agreed.dtype, b.agreed.dtype
        raise ArgumentError(
            f"these LazyTensors have different dtype: {own} and {theirs}; convert the arrays "
            f"that one of them is made of, by {library.conversion.format(own)}"
        )
    return found


def _broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(a, b)
    except ValueError:
        raise ArgumentError(
            f"these LazyTensors have batch dimensions that do not broadcast: {a} and {b}"
        ) from None
