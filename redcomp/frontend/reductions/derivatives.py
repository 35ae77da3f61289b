"""The kernels of a reduction's derivatives, which are reductions again.

gradient         cotangents of results to cotangents of arguments
differential     tangents of arguments to tangents of results
for_derivatives  the same results, and what the other two need to know
pointwise        what is reduced, at pairs that are given one by one
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from redcomp.frontend.reductions.pair_reduction import DerivedSource, PairReduction
from redcomp.frontend.reductions.variables import NUMBERS, Names, arguments_of
from redcomp.ir import (
    INTEGER_OF_WIDTH,
    Kernel,
    Kind,
    Output,
    Type,
    Value,
    number_variable,
    replace_variables,
    topological,
    variable,
)
from redcomp.ops.reductions import REDUCTIONS, Arrived
from redcomp.passes.grad import gradients, reverse
from redcomp.passes.jvp import jvp


def gradient(
    reduction: PairReduction, positions: tuple[int, ...], given: tuple[bool, ...]
) -> PairReduction:
    """The reduction that gives the cotangents of the arguments at `positions` in one sweep.

    It takes the reduction's arguments, then the cotangents of the values (see `values_of`) that are
    `given`, then the results that are saved (see `saved_by`).  i-variables are reduced over j, the
    others over i; so a call asks for arguments of one of the two groups.  A parameter's result has
    a row for each row of the group, still to be summed.
    """
    kinds = {reduction.parameters[p].kind for p in positions} - {"parameter"}
    rows: Kind = "i" if kinds == {"i"} else "j"
    return reduction.derive(GradientSource(reduction, positions, given), rows)


def differential(reduction: PairReduction, positions: tuple[int, ...]) -> PairReduction:
    """The reduction that gives the results' derivatives along tangents of some arguments.

    It takes the reduction's arguments, then a tangent for each of `positions`, then the results
    that are saved.  It gives one result for each value of a row with a cotangent.
    """
    return reduction.derive(DifferentialSource(reduction, positions), reduction.rows)


def for_derivatives(reduction: PairReduction) -> PairReduction:
    """The same reduction with further results of its outputs, which derivatives need.

    Extrema have their places, sums of exponentials what they are relative to, and so on;
    itself if it has all of that.
    """
    if all(row.for_derivatives == row.name for row in reduction.rows_of_outputs):
        return reduction
    return reduction.derive(KeptSource(reduction), reduction.rows)


def pointwise(
    reduction: PairReduction, output: int, spreads_parameters: bool = False
) -> PairReduction:
    """The value that an output reduces, at pairs that are given one by one, as rows.

    It takes the reduction's arguments, a row for each pair (of parameters too, if they are spread),
    and then the pairs' numbers of rows and columns that the formula has, as `numbers` says.
    """
    return reduction.derive(PointwiseSource(reduction, output, spreads_parameters), "i")


def values_of(reduction: PairReduction) -> tuple[int, ...]:
    """The positions of the results that are values, which have cotangents."""
    return tuple(n for n, result in enumerate(reduction.results) if result.kind == "value")


def saved_by(reduction: PairReduction) -> tuple[int, ...]:
    """The positions of the results that derivatives are computed from."""
    rows = reduction.rows_of_outputs
    return tuple(n for n, result in enumerate(reduction.results) if rows[result.output].saves)


def positions_in_kept(reduction: PairReduction) -> tuple[int, ...]:
    """The positions of its results among those of `for_derivatives`."""
    kept = for_derivatives(reduction).results
    own = ([n for n, r in enumerate(kept) if r.output == k] for k in itertools.count())
    counts = (len(row.results) for row in reduction.rows_of_outputs)
    return tuple(n for count, among in zip(counts, own, strict=False) for n in among[:count])


# -- kernels ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GradientSource(DerivedSource):
    """The gradient of a reduction with respect to some arguments, from some cotangents."""

    positions: tuple[int, ...]
    given: tuple[bool, ...]

    def kernel(self, dtype: str) -> Kernel:
        made = _Extended(self.parent, dtype)
        values = itertools.compress(values_of(self.parent), self.given)
        cotangents = made.with_results("cotangent", values)
        saved = made.with_results("result", saved_by(self.parent))
        wrt = tuple(made.arguments[position] for position in self.positions)
        parts = [gradients(s.value, wrt, s.cotangent) for s in made.seeds(cotangents, saved)]
        totals = (functools.reduce(operator.add, terms) for terms in zip(*parts, strict=True))
        return made.kernel(tuple(map(Output, totals)))


@dataclass(frozen=True, slots=True)
class DifferentialSource(DerivedSource):
    """The derivative of a reduction along tangents of some arguments.

    A row's rule takes cotangents of the results to each pair's value, linearly; its transpose takes
    the tangent of each pair's value to the results, where they add up.
    """

    positions: tuple[int, ...]

    def kernel(self, dtype: str) -> Kernel:
        made = _Extended(self.parent, dtype)
        wrt = [made.arguments[position] for position in self.positions]
        tangents = [made.with_argument("tangent", v["kind"], v.type) for v in wrt]
        saved = made.with_results("result", saved_by(self.parent))
        cotangents = {n: made.stand_in(n) for n in values_of(self.parent)}
        outputs: list[Output] = []
        for seed in made.seeds(cotangents, saved):
            along = (seed.cotangent, jvp(seed.value, wrt, tangents))
            outputs += map(Output, reverse((along,), tuple(cotangents[n] for n in seed.results)))
        return made.kernel(tuple(outputs))


@dataclass(frozen=True, slots=True)
class KeptSource(DerivedSource):
    """A reduction that also gives what its derivatives need."""

    def kernel(self, dtype: str) -> Kernel:
        kernel = self.parent.untransposed(dtype)
        outputs = (
            replace(output, reduction=REDUCTIONS[output.reduction].for_derivatives)
            for output in kernel.outputs
        )
        return Kernel(kernel.params, tuple(outputs))


@dataclass(frozen=True, slots=True)
class PointwiseSource(DerivedSource):
    """What an output reduces, for pairs that are given as rows."""

    output: int
    spreads_parameters: bool

    def kernel(self, dtype: str) -> Kernel:
        kernel = self.parent.untransposed(dtype)
        value = kernel.outputs[self.output].value
        return pointwise_kernel(kernel, value, kernel.params, self.spreads_parameters)


def pointwise_kernel(
    kernel: Kernel, value: Value, read: Sequence[Value], spreads_parameters: bool = False
) -> Kernel:
    """A value of a kernel, whose variables are among the `read` ones, at rows given one by one."""

    def kind(v: Value) -> Kind:
        return "parameter" if v["kind"] == "parameter" and not spreads_parameters else "i"

    params = sorted(read, key=lambda v: v["kind"] in NUMBERS)
    moved = {v: v for v in kernel.params} | {
        v: variable(v["name"], kind(v), position, v.type, v.span)
        for position, v in enumerate(params)
    }
    rewritten = replace_variables(Kernel(kernel.params, (Output(value),)), moved)
    return Kernel(tuple(moved[v] for v in params), rewritten.outputs)


class _Seed(NamedTuple):
    """A value that is reduced, its cotangent for each pair, and the results that this comes from:
    the positions of those of its output that have cotangents.
    """

    value: Value
    cotangent: Value
    results: tuple[int, ...]


class _Extended:
    """A reduction's kernel with more arguments, which a derivative of it takes."""

    def __init__(self, reduction: PairReduction, dtype: str) -> None:
        self._reduction, self._dtype = reduction, dtype
        self._own = reduction.untransposed(dtype)
        self._added: list[Value] = []
        self._names = Names(self._own)
        self._column = _column_number(self._own, reduction.rows, dtype)
        self.arguments = arguments_of(self._own)

    def with_argument(self, stem: str, kind: Kind, of: Type) -> Value:
        """One more argument, behind all others."""
        position = len(self.arguments) + len(self._added)
        self._added.append(variable(self._names.new(stem), kind, position, of))
        return self._added[-1]

    def with_results(self, stem: str, positions: Iterable[int]) -> dict[int, Value]:
        """One more argument for each of the results at some positions, of its type."""
        rows = self._reduction.rows
        return {n: self.with_argument(stem, rows, self._type(n)) for n in positions}

    def stand_in(self, n: int) -> Value:
        """What stands for the cotangent of a result while kernels are made; none has it."""
        return variable(self._names.new("cotangent"), self._reduction.rows, 0, self._type(n))

    def _type(self, n: int) -> Type:
        """The type of a result."""
        result = self._reduction.results[n]
        of = INTEGER_OF_WIDTH[self._dtype] if result.kind == "index" else self._dtype
        return Type(of, result.dim)

    def seeds(self, cotangents: Mapping[int, Value], saved: Mapping[int, Value]) -> Iterator[_Seed]:
        """What the rows' rules make of some results' cotangents, for each output that has one."""
        for number, output in enumerate(self._own.outputs):
            own = [n for n, r in enumerate(self._reduction.results) if r.output == number]
            rule = REDUCTIONS[output.reduction].cotangent
            given = tuple(n for n in own if n in cotangents)
            if rule is not None and given:
                results = tuple(saved[n] for n in own if n in saved)
                arrived = Arrived(results, tuple(cotangents.get(n) for n in own), self._column)
                yield _Seed(output.value, rule(output.value, arrived), given)

    def kernel(self, outputs: tuple[Output, ...]) -> Kernel:
        """The kernel of these outputs; it has the column's number if they read that."""
        params, number = (*self._own.params, *self._added), self._column
        if number not in params and number in topological([output.value for output in outputs]):
            params = (*params, number)
        return Kernel(params, outputs)


def _column_number(kernel: Kernel, rows: Kind, dtype: str) -> Value:
    """The number of the column over which a kernel reduces: its own variable, if it has one."""
    kind: Kind = "j_index" if rows == "i" else "i_index"
    made = number_variable(kind, dtype)
    return next((v for v in kernel.params if v["kind"] == kind), made)
