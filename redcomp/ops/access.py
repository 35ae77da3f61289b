"""What rows of operations on vectors share: how their element rules read operands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, TypeVar

import numpy as np

from redcomp.ir import Value, elementwise
from redcomp.ops.table import ALIKE, Array, Domain, Operation, Section, Typing, broadcast_dim

Position = int | Value
Reader = Callable[[Position], Value]
T = TypeVar("T")


class Access(Protocol):
    """How an element rule reads its operands; `redcomp.passes.scalarize` implements it."""

    def element(self, vector: Value, position: Position) -> Value:
        """A component of an operand; a scalar gives itself at every position.

        The operand is an argument of the value, none that the rule makes.
        """

    def fold(
        self,
        combine: str,
        initial: Value | None,
        operands: Callable[[Position], tuple[Value, ...]],
        extent: int,
    ) -> Value:
        """state = combine(*operands(k), state) for k in range(extent).

        Without `initial`, the fold starts from the first operand (from its product, for fma).
        """

    def scan(
        self, vector: Value, cell: Callable[[Reader, Position], Value], position: Position
    ) -> Value:
        """A component of a vector whose components are made in order, once for all who ask.

        `cell(earlier, k)` is the component at k; `earlier(position)` is one that has been made
        before.
        """

    def loop(
        self, initial: Value, following: Callable[[Value, Value], Value], extent: int
    ) -> Value:
        """state = following(state, k) for k in range(extent), in a loop."""

    def once(self, operands: tuple[Value, ...], make: Callable[[], T]) -> T:
        """What all components of values of the same operands are taken from, made for the first."""

    def position(self, value: Position, dtype: str) -> Value:
        """A position as a number of the given dtype."""


def shifted(position: Position, distance: int) -> Position:
    """position + distance.

    Shifts of a loop's counter add up, so that elements at one place are one value, however the
    place was reached.
    """
    if isinstance(position, int):
        return position + distance
    if position.op == "add" and position.args[1].is_constant:
        position, first = position.args
        distance += first["value"]
    return position + distance if distance else position


def quotient(position: Position, divisor: int, bound: int) -> Position:
    """position // divisor for positions from 0 to `bound`, both below 2**30.

    In a loop the division is a multiplication and a shift (Granlund and Montgomery 1994, theorem
    4.2), so that targets need no integer division, which would trap for a divisor of 0.
    """
    if isinstance(position, int):
        return position // divisor
    shift = bound.bit_length() + divisor.bit_length()
    multiplier = -(-(1 << shift) // divisor)
    return elementwise("shift_right_logical", position * multiplier, shift)


VECTOR = Domain(((-4.0, 4.0),))
VECTORS = Domain(((-4.0, 4.0), (-4.0, 4.0)))


def one_component(*dims: int, **attrs: int) -> int:
    return 1


def one_of_pair(f: int, g: int) -> int:
    broadcast_dim(f, g)
    return 1


def vector_row(
    name: str,
    spelling: str,
    arity: int,
    doc: str,
    evaluate: Callable[..., Array],
    shape: Callable[..., int],
    element: Callable[..., Value],
    pullback: Callable[[Value, Value], tuple[Value | None, ...]] | None,
    parameters: tuple[str, ...] = (),
    *,
    gradient: str = "",
    differs: str = "",
    domain: Domain | None = None,
    moves: Literal["", "all", "some"] = "",
    selection: Callable[..., Value] | None = None,
    typing: Typing = ALIKE,
    is_polynomial: bool = False,
    integers: Literal["", "same"] = "",
) -> Operation:
    return Operation(
        name,
        arity,
        doc,
        evaluate,
        spelling,
        "Vectors",
        parameters,
        shape,
        elementwise=False,
        element=element,
        pullback=pullback,
        moves=moves,
        selection=selection,
        domain=domain or Domain(VECTOR.intervals * arity),
        typing=typing,
        is_polynomial=is_polynomial,
        integers=integers,
        ulp=8.0,
        gradient=gradient,
        differs=differs,
    )


def composite(
    spelling: str,
    arity: int,
    doc: str,
    shape: Callable[..., int],
    definition: Callable[..., Value],
    parameters: tuple[str, ...] = (),
    *,
    section: Section = "Vectors",
    domain: Domain = VECTOR,
    gradient: str = "",
    differs: str = "",
    operands: tuple[str, ...] = (),
) -> Operation:
    """A row that is built from others: value and derivative follow from its definition."""
    return Operation(
        spelling.lower(),
        arity,
        doc,
        None,
        spelling,
        section,
        parameters,
        shape,
        elementwise=False,
        definition=definition,
        domain=domain,
        ulp=8.0,
        gradient=gradient,
        differs=differs,
        operands=operands,
    )


def total(array: Array) -> Array:
    return np.asarray(array.sum(axis=-1, keepdims=True))


def placed(n: int, start: int, f: Array) -> Array:
    out = np.zeros((*f.shape[:-1], n), dtype=f.dtype)
    out[..., start : start + f.shape[-1]] = f
    return out


def same_dimension(f: int) -> int:
    return f
