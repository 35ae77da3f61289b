"""How a reduction is differentiated, whatever the array library: what runs, on which arrays.

A library with derivatives of its own computes `derivatives.for_derivatives` of the reduction where
somebody may ask for one, and saves the arguments and then the results that are `saved`.  From
those, backward `sweeps` take cotangents of the `values`, and a `differential` takes tangents of
arguments; both take their arrays in the order that `arguments` makes.  Extrema are constants for
all of that: their derivatives are those of what is reduced at the pairs that they are at.

Where a sum or a logarithm is one number for each row, the sweep that computes it can give its
`slopes` too, and the cotangents of what these are for need no sweep of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from redcomp.concurrency import cached_property
from redcomp.frontend.reductions import derivatives
from redcomp.frontend.reductions.pair_reduction import PairReduction, remembered
from redcomp.ops.reductions.row import Limited
from redcomp.passes.derivatives import has_slopes, saved_by, values_of
from redcomp.records import record

A = TypeVar("A")
T = TypeVar("T")

# The order of the arguments that share a sweep: results of rows come before those of columns.
_ORDER = ("i", "j", "parameter")


@record
class Sweep:
    """A reduction that gives the cotangents of some arguments at once.

    positions  of the arguments
    sums       for each, whether the result has a vector for each row, still to be summed
    at_pairs   whether the cotangents are what is reduced, at every pair: those of arrays of pairs
    """

    reduction: PairReduction
    positions: tuple[int, ...]
    sums: tuple[bool, ...]
    at_pairs: bool


@record
class Slopes:
    """The reduction whose further results are its value's derivatives with respect to arguments.

    positions  of the arguments
    sums       for each, whether what a row's cotangent makes of it is still to be summed over rows
    """

    reduction: PairReduction
    positions: tuple[int, ...]
    sums: tuple[bool, ...]

    def others(self, wanted: tuple[bool, ...]) -> tuple[bool, ...]:
        """Which of the wanted arguments have no slopes."""
        return tuple([w and n not in self.positions for n, w in enumerate(wanted)])


@record
class Extremum:
    """An output whose value depends on what is reduced at one pair of each row alone.

    value    the position of that result
    place    the position of the result that has the numbers of the pairs' columns
    neutral  the value where there is no column
    """

    output: int
    value: int
    place: int
    neutral: float


@record
class Limit:
    """A value whose derivatives of high orders are not right in some rows.

    value  the position of that result
    count  the position of the result that says in which rows
    rule   what the reduction says about them
    """

    value: int
    count: int
    rule: Limited


@dataclass(frozen=True, eq=False)
class Differentiation:
    """What derivatives of a reduction are made of.

    values          the positions of results that are values
    saved           the positions of results that derivatives are computed from
    differentiable  for each result, whether sweeps and differentials know it: it is no extremum
    extrema         the other values, if the reduction gives their places too
    limits          the values whose derivatives are not right to every order
    tables          the positions of arguments that a formula may look something up in
    """

    reduction: PairReduction
    values: tuple[int, ...]
    saved: tuple[int, ...]
    differentiable: tuple[bool, ...]
    extrema: tuple[Extremum, ...]
    limits: tuple[Limit, ...]
    tables: tuple[int, ...]

    @cached_property
    def positions_in_kept(self) -> tuple[int, ...]:
        """Where the results are among those of `derivatives.for_derivatives`."""
        return derivatives.positions_in_kept(self.reduction)

    def sweeps(self, wanted: tuple[bool, ...], given: tuple[bool, ...]) -> tuple[Sweep, ...]:
        """What gives the cotangents of the wanted arguments from those of the given values."""
        return _sweeps(self.reduction, wanted, given)

    def slopes(self, wanted: tuple[bool, ...]) -> Slopes | None:
        """What gives the value and its slopes in those of the wanted arguments where that pays."""
        return _slopes(self.reduction, wanted)

    def differential(self, moving: tuple[int, ...]) -> PairReduction | None:
        """What gives the tangents of the differentiable results from those of some arguments.

        None where there are no such results or no such arguments.
        """
        if not moving or True not in self.differentiable:
            return None
        return derivatives.differential(self.reduction, moving)

    def arguments(self, kept: Sequence[A], given: Sequence[A]) -> tuple[A, ...]:
        """The arrays that a sweep or a differential takes.

        kept   the reduction's arguments, and the results that are saved
        given  the cotangents of the values that are given, or the tangents of arguments that move
        """
        count = len(self.reduction.parameters)
        return (*kept[:count], *given, *kept[count:])

    def of_results(self, tangents: Iterable[T]) -> tuple[T | None, ...]:
        """What a differential gives, for each result; None for those that it does not know."""
        found = iter(tangents)
        return tuple([next(found) if is_one else None for is_one in self.differentiable])


@remembered
def differentiation(reduction: PairReduction) -> Differentiation:
    """What derivatives of a reduction are made of."""
    results, reductions = reduction.results, reduction.reductions
    kernel = reduction.description
    return Differentiation(
        reduction,
        values_of(kernel),
        saved_by(kernel),
        tuple(r.kind == "value" and not reductions[r.output].places for r in results),
        tuple(
            _extremum(reduction, output)
            for output, own in enumerate(reductions)
            if own.places == own.name
        ),
        _limits(reduction),
        tuple(n for n, p in enumerate(reduction.parameters) if p.kind == "parameter"),
    )


def _extremum(reduction: PairReduction, output: int) -> Extremum:
    value, place = (n for n, r in enumerate(reduction.results) if r.output == output)
    return Extremum(output, value, place, reduction.results[value].empty[0])


def _limits(reduction: PairReduction) -> tuple[Limit, ...]:
    found = []
    for output, own in enumerate(reduction.reductions):
        if own.limited is not None:
            first = next(n for n, r in enumerate(reduction.results) if r.output == output)
            found.append(Limit(first, first + own.limited.counted, own.limited))
    return tuple(found)


@remembered
def _sweeps(
    reduction: PairReduction, wanted: tuple[bool, ...], given: tuple[bool, ...]
) -> tuple[Sweep, ...]:
    """One for arrays of pairs, after the one for all other arguments."""
    kinds = [parameter.kind for parameter in reduction.parameters]
    asked = [position for position, is_one in enumerate(wanted) if is_one]
    summed = [n for kind in _ORDER for n in asked if kinds[n] == kind]
    at_pairs = [n for n in asked if n not in summed]
    return tuple(
        Sweep(
            derivatives.gradient(reduction, tuple(group), given),
            tuple(group),
            tuple(kinds[position] == "parameter" for position in group),
            at_pairs=group is at_pairs,
        )
        for group in (summed, at_pairs)
        if group
    )


@remembered
def _slopes(reduction: PairReduction, wanted: tuple[bool, ...]) -> Slopes | None:
    """Those in the wanted variables of rows.

    Parameters join them if no sweep over rows is needed anyway, which has their cotangents too.
    """
    kinds = [parameter.kind for parameter in reduction.parameters]
    asked = [position for position, is_one in enumerate(wanted) if is_one]
    sloped = reduction.reductions[0].sloped
    if sloped is None or not has_slopes(reduction.description):
        return None
    (rows,) = reduction.rows_of_outputs
    own = {rows} if any(kinds[n] not in (rows, "parameter") for n in asked) else {rows, "parameter"}
    positions = tuple([n for n in asked if kinds[n] in own])
    components = sum(reduction.parameters[n].dim for n in positions)
    if not 0 < components <= sloped.most:
        return None
    sums = tuple([kinds[n] == "parameter" for n in positions])
    return Slopes(derivatives.slopes(reduction, positions), positions, sums)
