"""derivatives: from a kernel to the kernels of its derivatives, which are reductions again.

gradient         from cotangents of the results to cotangents of the arguments
differential     from tangents of the arguments to tangents of the results
for_derivatives  the same results, and additional ones that the other two need as arguments
slopes           the same results, and the value's derivatives with respect to what its row has
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from redcomp.concurrency import cached_property
from redcomp.errors import ArgumentError
from redcomp.interpret import interpret
from redcomp.ir import (
    INTEGER_OF_WIDTH,
    Kernel,
    Kind,
    Output,
    Type,
    Value,
    broadcast,
    constant,
    number_variable,
    variable,
)
from redcomp.ops.reductions import REDUCTIONS, Arrived, ResultKind
from redcomp.ops.table import apply
from redcomp.passes.grad import reverse
from redcomp.passes.jvp import jvp
from redcomp.passes.registry import compiler_pass
from redcomp.target import Context


@compiler_pass
def gradient(
    kernel: Kernel, context: Context, *, wrt: tuple[int, ...], given: tuple[int, ...] = ()
) -> Kernel:
    """The kernel of the cotangents of some arguments, by position.

    given   numbers of the values among the results whose cotangents arrive; all without it

    The cotangents of i-variables are reduced over j as they are; those of others over i, so that
    `transpose` has to follow.
    """
    values = values_of(kernel)
    _check(wrt, len(arguments_of(kernel)), "arguments")
    _check(given, len(values), "values")
    arriving = [n in given or not given for n in range(len(values))]
    return gradient_of(kernel, _all_of_rows(kernel), wrt, arriving)


@compiler_pass
def differential(kernel: Kernel, context: Context, *, wrt: tuple[int, ...]) -> Kernel:
    """The kernel of the tangents of all values, from tangents of some arguments, by position."""
    _check(wrt, len(arguments_of(kernel)), "arguments")
    return differential_of(kernel, _all_of_rows(kernel), wrt)


@compiler_pass
def for_derivatives(kernel: Kernel, context: Context) -> Kernel:
    """The kernel that also gives what its derivatives need."""
    return with_kept_results(kernel)


@compiler_pass
def slopes(kernel: Kernel, context: Context, *, wrt: tuple[int, ...]) -> Kernel:
    """The kernel that also gives its value's derivatives with respect to arguments, by position.

    These must be i-variables or parameters, and `has_slopes` of the kernel.
    """
    _check(wrt, len(arguments_of(kernel)), "arguments")
    if not has_slopes(kernel):
        rows = sorted(name for name, row in REDUCTIONS.items() if row.sloped)
        raise ArgumentError(f"only a single result of dimension 1 has slopes, by {', '.join(rows)}")
    return with_slopes(kernel, wrt)


def _all_of_rows(kernel: Kernel) -> list[Kind]:
    return ["i" for _ in kernel.outputs]


def _check(positions: tuple[int, ...], count: int, what: str) -> None:
    for position in positions:
        if not 0 <= position < count:
            raise ArgumentError(f"there is no number {position} among {count} {what}")


def gradient_of(
    kernel: Kernel, rows: Sequence[Kind], positions: Sequence[int], given: Sequence[bool]
) -> Kernel:
    """The kernel of the cotangents of the arguments at some positions.

    It takes the kernel's arguments, then the cotangents of the values that are `given`, then the
    results that are saved.  `rows` says what is left of i and j in each output.  All outputs are
    values of the same pairs, so what they depend on gets one cotangent.
    """
    made = _Extended(kernel, rows)
    cotangents = made.with_results("cotangent", itertools.compress(values_of(kernel), given))
    saved = made.with_results("result", saved_by(kernel))
    wrt = tuple(made.arguments[position] for position in positions)
    seeds = [(seed.value, seed.cotangent) for seed in made.seeds(cotangents, saved)]
    return made.kernel(tuple(map(Output, reverse(seeds, wrt))) if seeds else ())


def differential_of(kernel: Kernel, rows: Sequence[Kind], positions: Sequence[int]) -> Kernel:
    """The kernel of the tangents of results, along tangents of the arguments at some positions.

    A reduction's rule takes cotangents of the results to each pair's value, linearly; its transpose
    takes the tangent of each pair's value to the results, where they add up.
    """
    made = _Extended(kernel, rows)
    wrt = [made.arguments[position] for position in positions]
    tangents = [made.with_argument("tangent", v["kind"], v.type) for v in wrt]
    saved = made.with_results("result", saved_by(kernel))
    cotangents = {n: made.stand_in(n) for n in values_of(kernel)}
    outputs: list[Output] = []
    for seed in made.seeds(cotangents, saved):
        along = (seed.cotangent, jvp(seed.value, wrt, tangents))
        outputs += map(Output, reverse((along,), tuple(cotangents[n] for n in seed.results)))
    return made.kernel(tuple(outputs))


def with_kept_results(kernel: Kernel) -> Kernel:
    """The kernel whose outputs also give what derivatives need."""
    outputs = (
        replace(output, reduction=REDUCTIONS[output.reduction].for_derivatives)
        for output in kernel.outputs
    )
    return Kernel(kernel.params, tuple(outputs))


def has_slopes(kernel: Kernel) -> bool:
    """Whether all that a kernel gives is one number for each row, with the derivatives of which
    its row of the table can go on, and what these need.
    """
    reductions = [REDUCTIONS[output.reduction] for output in kernel.outputs]
    is_one = len(reductions) == 1 and reductions[0].sloped is not None
    return is_one and all(result.dim == 1 for result in results_of(kernel))


def with_slopes(kernel: Kernel, positions: Sequence[int]) -> Kernel:
    """The kernel that also gives the derivatives of its value with respect to some arguments.

    The value has one component, and the arguments are what a row of the result depends on:
    variables of rows, and parameters.  A derivative of a sum is the sum of the derivatives of its
    terms, that of a LogSumExp their mean, weighted by the terms.  So they come from the same sweep,
    and share what they have in common with the terms.
    """
    (output,) = kernel.outputs
    sloped = REDUCTIONS[output.reduction].sloped
    assert sloped is not None  # `has_slopes` says so
    own, row = output.value, REDUCTIONS[sloped.reduction]
    wrt = tuple(arguments_of(kernel)[position] for position in positions)
    derivatives = reverse(((own, sloped.cotangent(own)),), wrt)
    reduced = (apply("concat", own, d) if row.linear_from else d for d in derivatives)
    return Kernel(kernel.params, (output, *(Output(v, row.name) for v in reduced)))


# -- results ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """One result of a kernel: which output it belongs to, and its value over no columns."""

    output: int
    kind: ResultKind
    over_nothing: Value

    @property
    def dim(self) -> int:
        """The number of its components."""
        return self.over_nothing.dim

    @cached_property
    def empty(self) -> tuple[float, ...]:
        """What it is for no columns: its components, or one for all of them."""
        (array,) = interpret([self.over_nothing], {})
        vector = np.broadcast_to(array, (self.dim,))
        is_repeated = np.array_equal(vector, np.broadcast_to(vector[:1], self.dim), equal_nan=True)
        return tuple((vector[:1] if is_repeated else vector).tolist())


def results_of(kernel: Kernel) -> tuple[Result, ...]:
    """The results of a kernel's outputs, in order."""
    return tuple(
        Result(number, result.kind, value)
        for number, output in enumerate(kernel.outputs)
        for value, result in zip(
            _over_nothing(output), REDUCTIONS[output.reduction].results, strict=True
        )
    )


def _over_nothing(output: Output) -> tuple[Value, ...]:
    """The results over no columns, values that every dtype has."""
    row = REDUCTIONS[output.reduction]
    states = tuple(
        broadcast(constant(state.first("f32"), "f64"), state.dim)
        for state in row.states(output.value.dim, output.count)
    )
    return row.finish(states)


def values_of(kernel: Kernel) -> tuple[int, ...]:
    """The positions of the results that are values, which have cotangents."""
    return tuple(n for n, result in enumerate(results_of(kernel)) if result.kind == "value")


def saved_by(kernel: Kernel) -> tuple[int, ...]:
    """The positions of the results that derivatives are computed from."""
    saves = [REDUCTIONS[output.reduction].saves for output in kernel.outputs]
    return tuple(n for n, result in enumerate(results_of(kernel)) if saves[result.output])


# -- variables -------------------------------------------------------------------------------------

# Variables that a call has no arguments for.
NUMBERS: tuple[Kind, ...] = ("i_index", "j_index")


def arguments_of(kernel: Kernel) -> tuple[Value, ...]:
    """The variables that a call has arguments for, by position."""
    return tuple(v for v in kernel.params if v["kind"] not in NUMBERS)


def numbers_of(variables: Sequence[Value]) -> tuple[Kind, ...]:
    """The kinds of the numbers among variables."""
    return tuple(v["kind"] for v in variables if v["kind"] in NUMBERS)


class Names:
    """Names that no variable of a kernel has."""

    def __init__(self, kernel: Kernel) -> None:
        self.taken = {v["name"] for v in kernel.params}

    def new(self, stem: str) -> str:
        name = next(n for k in itertools.count() if (n := f"{stem}{k}") not in self.taken)
        self.taken.add(name)
        return name


# -- kernels with more arguments -------------------------------------------------------------------


class _Seed(NamedTuple):
    """A value that is reduced, its cotangent for each pair, and the results that this comes from:
    the positions of those of its output that have cotangents.
    """

    value: Value
    cotangent: Value
    results: tuple[int, ...]


class _Extended:
    """A kernel with more arguments, which a derivative of it takes; `rows` is what is left of i and
    j in each output.
    """

    def __init__(self, kernel: Kernel, rows: Sequence[Kind]) -> None:
        self._own, self._rows, self._dtype = kernel, rows, _dtype_of(kernel)
        self._results = results_of(kernel)
        self._added: list[Value] = []
        self._names = Names(kernel)
        self._columns = {r: _column_number(kernel, r, self._dtype) for r in rows}
        self.arguments = arguments_of(kernel)

    def with_argument(self, stem: str, kind: Kind, of: Type) -> Value:
        """One more argument, behind all others."""
        position = len(self.arguments) + len(self._added)
        self._added.append(variable(self._names.new(stem), kind, position, of))
        return self._added[-1]

    def with_results(self, stem: str, positions: Iterable[int]) -> dict[int, Value]:
        """One more argument for each of the results at some positions, of its type."""
        return {n: self.with_argument(stem, self._rows_of(n), self._type(n)) for n in positions}

    def stand_in(self, n: int) -> Value:
        """What stands for the cotangent of a result while kernels are made; none has it."""
        return variable(self._names.new("cotangent"), self._rows_of(n), 0, self._type(n))

    def _rows_of(self, n: int) -> Kind:
        """What is left of i and j in a result."""
        return self._rows[self._results[n].output]

    def _type(self, n: int) -> Type:
        """The type of a result."""
        result = self._results[n]
        of = INTEGER_OF_WIDTH[self._dtype] if result.kind == "index" else self._dtype
        return Type(of, result.dim)

    def seeds(self, cotangents: Mapping[int, Value], saved: Mapping[int, Value]) -> Iterator[_Seed]:
        """What reductions make of some results' cotangents, for each output that has one."""
        for number, output in enumerate(self._own.outputs):
            own = [n for n, r in enumerate(self._results) if r.output == number]
            rule = REDUCTIONS[output.reduction].cotangent
            given = tuple(n for n in own if n in cotangents)
            if rule is not None and given:
                results = tuple(saved[n] for n in own if n in saved)
                column = self._columns[self._rows[number]]
                arrived = Arrived(results, tuple(cotangents.get(n) for n in own), column)
                yield _Seed(output.value, rule(output.value, arrived), given)

    def kernel(self, outputs: tuple[Output, ...]) -> Kernel:
        """The kernel of these outputs; it has the column's number if they read that."""
        made = Kernel((*self._own.params, *self._added), outputs)
        new = tuple(n for n in self._columns.values() if n not in made.params and n in made.values)
        return made.with_params((*made.params, *new)) if new else made


def _dtype_of(kernel: Kernel) -> str:
    """The dtype that a kernel computes in."""
    return next(value.dtype for value in kernel.values if value.type.is_float)


def _column_number(kernel: Kernel, rows: Kind, dtype: str) -> Value:
    """The number of the column over which a kernel reduces: its own variable, if it has one."""
    kind: Kind = "j_index" if rows == "i" else "i_index"
    made = number_variable(kind, dtype)
    return next((v for v in kernel.params if v["kind"] == kind), made)
