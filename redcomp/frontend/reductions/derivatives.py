"""The derivatives of a reduction, which are reductions again.

gradient         cotangents of results to cotangents of arguments
differential     tangents of arguments to tangents of results
for_derivatives  the same results, and what the other two need to know
slopes           the same results, and derivatives of the value with respect to what a row has
pointwise        what is reduced, at pairs that are given one by one
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from redcomp.frontend.reductions.pair_reduction import (
    DerivedSource,
    PairReduction,
    PartSource,
    StoredSource,
)
from redcomp.ir import (
    Kernel,
    Kind,
    Output,
    Value,
    replace_variables,
    variable,
)
from redcomp.ops.reductions import REDUCTIONS
from redcomp.passes.derivatives import (
    NUMBERS,
    differential_of,
    gradient_of,
    with_kept_results,
    with_slopes,
)
from redcomp.records import record


def gradient(
    reduction: PairReduction, positions: tuple[int, ...], given: tuple[bool, ...]
) -> PairReduction:
    """The reduction that gives the cotangents of the arguments at `positions`.

    It takes the reduction's arguments, then the cotangents of the values that are `given`, then the
    results that are saved (see `redcomp.passes.derivatives`).  i-variables, which come first among
    the positions, are reduced over j, the others over i: where both are asked for, each has a
    kernel, and derivatives of the two are one function's.  A parameter's result has a row for each
    column, still to be summed.
    """
    source = GradientSource(reduction, positions, given)
    rows = source.rows_of_outputs
    return reduction.derive(source, rows[0] if len({*rows}) == 1 else "ij")


def differential(reduction: PairReduction, positions: tuple[int, ...]) -> PairReduction:
    """The reduction that gives the results' derivatives along tangents of some arguments.

    It takes the reduction's arguments, then a tangent for each of `positions`, then the results
    that are saved.  It gives one result for each value that has a cotangent.
    """
    return reduction.derive(DifferentialSource(reduction, positions), reduction.rows)


def for_derivatives(reduction: PairReduction) -> PairReduction:
    """The same reduction with further results of its outputs, which derivatives need.

    Extrema have their places, sums of exponentials what they are relative to, and so on;
    itself if it has all of that.
    """
    if all(own.for_derivatives == own.name for own in reduction.reductions):
        return reduction
    return reduction.derive(KeptSource(reduction), reduction.rows)


def is_kept_without_work(reduction: PairReduction) -> bool:
    """Whether kernels for hosts do the same work `for_derivatives`, but for what they store.

    With fast math sums of exponentials have another base where nothing is kept.
    """
    own = reduction.reductions
    kept = [REDUCTIONS[row.for_derivatives] for row in own]
    is_same = all(a.step is b.step and a.states is b.states for a, b in zip(own, kept, strict=True))
    return is_same and not reduction.options.use_fast_math


def slopes(reduction: PairReduction, positions: tuple[int, ...]) -> PairReduction:
    """The same reduction, which must have slopes, with those in the arguments at `positions`.

    There is a vector for each row, those of parameters too: times the row's cotangent it is the
    cotangent of the argument, or for a parameter what is still to be summed over rows.
    """
    return reduction.derive(SlopesSource(reduction, positions), reduction.rows)


def pointwise(
    reduction: PairReduction, output: int, spreads_parameters: bool = False
) -> PairReduction:
    """The value that an output reduces, at pairs that are given one by one, as rows.

    It takes the reduction's arguments, a row for each pair (of parameters too, if they are spread),
    and then the pairs' numbers of rows and columns that the formula has, as `numbers` says.
    """
    return reduction.derive(PointwiseSource(reduction, output, spreads_parameters), "i")


def positions_in_kept(reduction: PairReduction) -> tuple[int, ...]:
    """The positions of its results among those of `for_derivatives`."""
    kept = for_derivatives(reduction).results
    own = ([n for n, r in enumerate(kept) if r.output == k] for k in itertools.count())
    counts = (len(own.results) for own in reduction.reductions)
    return tuple(n for count, among in zip(counts, own, strict=False) for n in among[:count])


# -- kernels ---------------------------------------------------------------------------------------


@record
class GradientSource(DerivedSource):
    """The gradient of a reduction with respect to some arguments, from some cotangents."""

    stage = "gradient"

    positions: tuple[int, ...]
    given: tuple[bool, ...]

    def kernel(self, dtype: str) -> Kernel:
        parent = self.parent
        rows = parent.rows_of_outputs
        return gradient_of(parent.untransposed(dtype), rows, self.positions, self.given)

    @property
    def rows_of_outputs(self) -> tuple[Kind, ...]:
        kinds = (self.parent.parameters[position].kind for position in self.positions)
        return tuple("i" if kind == "i" else "j" for kind in kinds)


@record
class DifferentialSource(DerivedSource):
    """The derivative of a reduction along tangents of some arguments."""

    stage = "differential"

    positions: tuple[int, ...]

    def kernel(self, dtype: str) -> Kernel:
        parent = self.parent
        return differential_of(parent.untransposed(dtype), parent.rows_of_outputs, self.positions)


@record
class KeptSource(DerivedSource):
    """A reduction that also gives what its derivatives need."""

    stage = "for_derivatives"

    def kernel(self, dtype: str) -> Kernel:
        return with_kept_results(self.parent.untransposed(dtype))


@record
class SlopesSource(DerivedSource):
    """A reduction that also gives its value's derivatives with respect to some arguments."""

    positions: tuple[int, ...]

    def kernel(self, dtype: str) -> Kernel:
        return with_slopes(self.parent.untransposed(dtype), self.positions)


@record
class PointwiseSource(DerivedSource):
    """What an output reduces, for pairs that are given as rows."""

    stage = "pointwise"
    output: int
    spreads_parameters: bool

    def kernel(self, dtype: str) -> Kernel:
        kernel = self.parent.untransposed(dtype)
        value = kernel.outputs[self.output].value
        return pointwise_kernel(kernel, value, kernel.params, self.spreads_parameters)


SOURCES = (
    GradientSource,
    DifferentialSource,
    KeptSource,
    PartSource,
    PointwiseSource,
    SlopesSource,
    StoredSource,
)


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
