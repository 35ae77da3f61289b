"""What a row of the table of reductions is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np

from redcomp.ir import INTEGER_OF_WIDTH, Value
from redcomp.ops.table import ShapeError
from redcomp.records import record

INF, NAN = float("inf"), float("nan")

ResultKind = Literal["value", "constant", "index", "truth"]
States = tuple[Value, ...]
Cotangents = tuple[Value | None, ...]


class Columns(NamedTuple):
    """The number of a column: within its tile, a float; in the call, an integer."""

    in_tile: Value
    in_call: Value


def highest(dtype: str) -> float:
    """The highest finite number."""
    return float(np.finfo(dtype.replace("f", "float")).max)


def lowest(dtype: str) -> float:
    """The lowest finite number."""
    return -highest(dtype)


@record
class State:
    """What a reduction carries from column to column.

    dim      its number of components
    initial  its value before the first column, the neutral element; or that for a dtype
    kind     "value", "column" (the number of a column within its tile) or "index" (in the call)
    resumes  whether a tile of columns starts from the total of those before it
    """

    dim: int
    initial: float | Callable[[str], float]
    kind: Literal["value", "column", "index"] = "value"
    resumes: bool = False

    def first(self, dtype: str) -> float:
        """Its initial value in a dtype."""
        return self.initial(dtype) if callable(self.initial) else self.initial

    def dtype(self, of_values: str) -> str:
        """Its dtype, given that of the reduced values."""
        return INTEGER_OF_WIDTH[of_values] if self.kind == "index" else of_values


@record
class Result:
    """One result of a reduction.

    kind  "value", the only one that can be differentiated; "constant", a float that derivatives
          take for one; "index" (of a column, int64); or "truth"
    """

    kind: ResultKind = "value"


VALUE, CONSTANT, INDEX = Result(), Result("constant"), Result("index")


@record
class Limited:
    """What derivatives of high orders ask of a reduction.

    orders  up to this one derivatives are right everywhere
    counted  the result that counts something: those of order n > `orders` are wrong where it is
            more than `orders` and at most n
    what    is counted: the subject of a sentence
    """

    orders: int
    counted: int
    what: str


@record
class Sloped:
    """How the derivatives of a row's only number are reduced in the sweep that computes it.

    reduction  the name of the row that does it: those of each pair follow the value, if it reads
               that, and it is linear in them
    cotangent  of a pair's value, but for what that row multiplies by
    most       components that they have at most; those of longer vectors cost more in this sweep
    """

    reduction: str
    cotangent: Callable[[Value], Value]
    most: int


class Arrived(NamedTuple):
    """What a gradient knows of one i: results, their cotangents, and the number of the column.

    A result on which nothing depends has no cotangent; at least one has.
    """

    results: tuple[Value, ...]
    cotangents: Cotangents
    column: Value

    @property
    def cotangent(self) -> Value:
        """The cotangent of the only result that can have one."""
        return next(e for e in self.cotangents if e is not None)


@record
class Reduction:
    """One row of the table; `count` is how many columns it keeps where it keeps several.

    name        the reduction's name in the IR
    spellings   its names in `reduction_op`, the usual one first
    doc         one line of documentation
    results     what it gives
    states      (dimension of the values, count) to the states
    step        (states, values, number of the column) to the next states
    finish      states to the results
    merge       (states, states) to the states of both sets of columns, the first ones coming first;
                None where all states resume
    join        as `merge`, of sets of columns that may lie between each other; None where `merge`
                does not depend on which come first.  Columns are not split without either
    guard       (states, values) to a truth value: whether to adjust the states before the step
    adjust      as `step`, but rarely needed; it changes no result where the guard is false or the
                value is NaN, so it does not matter what the guard says of NaN
    cotangent   (values, what arrived) to the values' cotangent for each pair
    saves       whether `cotangent` reads the results
    limited     which derivatives of its first result are not right; None if all are
    places      the name of the row that also says where the values are, from which gradients follow
    kept        the name of the row that also gives what derivatives need, which has the `cotangent`
    weighted    the name of the row that takes weights too
    takes       "vector": each component is reduced; "scalar": only dimension 1; "weights": a scalar
                and its weights; "components": one reduction for each component; "complex": a
                vector of pairs (re, im), each of which is reduced
    keeps       whether it keeps `count` columns
    accumulates whether it adds terms up, so that the accumulation's options mean something
    fast        the row to compute it by where rounding may change
    linear_from from which component of the values on the only result is linear, so that a factor
                that depends on i only can be taken out; None: from none
    sloped      how derivatives are reduced beside a result of one component; None: not at all
    gradient    the gradient at special points, for the documentation
    differs     where and why it differs from KeOps, for the documentation
    """

    name: str
    spellings: tuple[str, ...]
    doc: str
    results: tuple[Result, ...]
    states: Callable[[int, int], tuple[State, ...]]
    step: Callable[[States, Value, Columns], States]
    finish: Callable[[States], tuple[Value, ...]]
    merge: Callable[[States, States], States] | None = None
    join: Callable[[States, States], States] | None = None
    guard: Callable[[States, Value], Value] | None = None
    adjust: Callable[[States, Value, Columns], States] | None = None
    cotangent: Callable[[Value, Arrived], Value] | None = None
    saves: bool = False
    limited: Limited | None = None
    places: str = ""
    kept: str = ""
    weighted: str = ""
    takes: Literal["vector", "scalar", "weights", "components", "complex"] = "vector"
    keeps: bool = False
    accumulates: bool = False
    fast: Reduction | None = None
    linear_from: int | None = None
    sloped: Sloped | None = None
    gradient: str = ""
    differs: str = ""

    @property
    def spelling(self) -> str:
        """The usual name in `reduction_op`."""
        return self.spellings[0]

    @property
    def join_any(self) -> Callable[[States, States], States] | None:
        """How states of any two sets of columns are joined; None if columns are not split."""
        return self.join or self.merge

    @property
    def has_gradient(self) -> bool:
        """Whether its results can be differentiated."""
        return self.cotangent is not None or bool(self.places or self.kept)

    @property
    def for_derivatives(self) -> str:
        """The name of the row that is computed where results are differentiated."""
        return self.places or self.kept or self.name

    def check(self, dim: int) -> None:
        """Raise ShapeError if a formula of this dimension cannot be reduced."""
        if self.takes in ("scalar", "weights") and dim != 1:
            raise ShapeError(f"{self.spelling} takes a formula of dimension 1, not {dim}")
        if self.takes == "complex" and dim % 2:
            raise ShapeError(
                f"{self.spelling} takes complex numbers, two components each: an even number of "
                f"components, not {dim}"
            )

    def problem(self, dim: int, count: int) -> str:
        """Why an output cannot have a value of this dimension and this count; "" if it can.

        `dim` is that of what the row gets: with the weights, or of one component.
        """
        smallest, largest = {
            "vector": (1, dim),
            "scalar": (1, 1),
            "weights": (2, dim),
            "components": (1, 1),
            "complex": (2, dim - dim % 2),
        }[self.takes]
        if not max(smallest, (self.linear_from or 0) + 1) <= dim <= largest:
            return f"is a value of dimension {dim} for {self.name!r}"
        if (count > 0) != self.keeps or count < 0:
            return f"keeps {count} columns by {self.name!r}"
        return ""


# The rows by name, and by what `reduction_op` may be.
REDUCTIONS: dict[str, Reduction] = {}
REDUCTIONS_BY_SPELLING: dict[str, Reduction] = {}


def register(*rows: Reduction) -> None:
    """Add rows to the table; names and spellings are unique."""
    for row in rows:
        if row.name in REDUCTIONS or not REDUCTIONS_BY_SPELLING.keys().isdisjoint(row.spellings):
            raise ValueError(f"reduction {row.name!r} or its spelling is registered twice")
        REDUCTIONS[row.name] = row
        REDUCTIONS_BY_SPELLING.update(dict.fromkeys(row.spellings, row))


def usual_spellings() -> tuple[str, ...]:
    """The usual names in `reduction_op`, for messages that list them."""
    return tuple(row.spelling for row in REDUCTIONS.values() if row.spellings)


def with_kept(row: Reduction) -> tuple[Reduction, Reduction]:
    """A row of one result, and the given one, whose further results are for derivatives only.

    The given one is never replaced by a faster one: derivatives repeat what it has computed, to the
    last bit.
    """
    kept = replace(row, name=f"{row.name}_kept", spellings=(), weighted="", fast=None)
    visible = replace(
        row,
        results=row.results[:1],
        finish=lambda states: row.finish(states)[:1],
        cotangent=None,
        saves=False,
        sloped=None,
        kept=kept.name,
        fast=None if row.fast is None else with_kept(row.fast)[0],
    )
    return visible, kept


def value_states(initial: float) -> Callable[[int, int], tuple[State, ...]]:
    """One state of the values' dimension."""
    return lambda dim, count: (State(dim, initial),)


def same_states(states: States) -> States:
    return states


def add_states(a: States, b: States) -> States:
    return tuple(left + right for left, right in zip(a, b, strict=True))
