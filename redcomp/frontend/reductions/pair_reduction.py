"""A reduction over pairs, independent of the array library: what `Genred` is underneath.

It knows its variables, builds its kernel for each dtype, compiles it once, and makes the reductions
that are its gradients.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

import numpy as np

from redcomp import config
from redcomp.backends.gpu import GpuLowering
from redcomp.backends.host import HostLowering
from redcomp.compile import lower
from redcomp.concurrency import once
from redcomp.errors import FormulaError, SizeError
from redcomp.frontend.language.aliases import Alias
from redcomp.frontend.language.lower import lower_formulas
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
    replace_variables,
    topological,
    variable,
)
from redcomp.limits import MAX_OPERATIONS
from redcomp.llvm_backend.host.schedule import FEW_ROWS
from redcomp.ops.reductions import REDUCTIONS, Arrived, Reduction, ResultKind
from redcomp.ops.table import Array, ShapeError, apply
from redcomp.passes.cse import with_shared_values
from redcomp.passes.grad import gradients, reverse
from redcomp.passes.jvp import jvp
from redcomp.passes.size import written_out
from redcomp.passes.transpose import transpose
from redcomp.runtime.gpu import GpuKernel
from redcomp.runtime.host import HostKernel
from redcomp.target import Options

HOST = "host"

# Variables that a call has no arguments for.
NUMBERS: tuple[Kind, ...] = ("i_index", "j_index")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of a call, in the order of the call."""

    name: str
    kind: Kind
    dim: int
    is_integer: bool


@dataclass(frozen=True, slots=True)
class Result:
    """One result of a kernel: which output it belongs to, and what it is for no columns: its
    components, or one for all of them.
    """

    output: int
    dim: int
    kind: ResultKind
    empty: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """A formula to be reduced: by which row, with which weights, how many columns to keep."""

    formula: str
    reduction: str
    weights: str | None = None
    count: int = 0


class Source(Protocol):
    """What kernels are made from."""

    def kernel(self, dtype: str) -> Kernel:
        """The kernel over rows i and columns j, as the formula names them."""


@dataclass(eq=False)
class PairReduction:
    """One or more results, all reduced over the same axis; rows are what is left.

    source      what its kernels are made from
    rows        "i" if it reduces over j (axis 1), "j" if it reduces over i (axis 0)
    """

    source: Source
    rows: Kind
    options: Options
    _kernels: dict[str, Kernel] = field(default_factory=dict, repr=False)
    _compiled: dict[tuple[str, bool, str], HostKernel | GpuKernel] = field(
        default_factory=dict, repr=False
    )
    _derived: dict[Source, PairReduction] = field(default_factory=dict, repr=False)
    _remembered: dict[Callable[..., Any], Callable[..., Any]] = field(
        default_factory=dict, repr=False
    )

    def __post_init__(self) -> None:
        kernel = self.untransposed("f64")  # the wider one: numbers that float32 lacks are fine
        self.parameters = tuple(
            Parameter(v["name"], v["kind"], v.dim, not v.type.is_float)
            for v in arguments_of(kernel)
        )
        self.results = tuple(
            Result(n, dim, result.kind, empty)
            for n, output in enumerate(kernel.outputs)
            for (dim, empty), result in zip(
                _empty_results(output), REDUCTIONS[output.reduction].results, strict=True
            )
        )

    def __getstate__(self) -> dict[str, object]:
        # Compiled code stays behind; what it is made from is enough to make it again.
        return {"source": self.source, "rows": self.rows, "options": self.options}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # mypy wants no call of __init__ on an object

    @property
    def rows_of_outputs(self) -> list[Reduction]:
        """The table's row of each output."""
        return [REDUCTIONS[output.reduction] for output in self.untransposed("f64").outputs]

    # -- kernels -----------------------------------------------------------------------------------

    def kernel(self, dtype: str) -> Kernel:
        """The kernel in "f32" or "f64", reducing over j whatever the axis."""
        kernel = self.untransposed(dtype)
        outputs = tuple(
            replace(o, reduction=self.options.sum) if o.reduction == "sum" else o
            for o in kernel.outputs
        )
        kernel = Kernel(kernel.params, outputs)
        return kernel if self.rows == "i" else transpose(kernel)

    def untransposed(self, dtype: str) -> Kernel:
        """The kernel with the formula's own i and j."""
        if dtype not in self._kernels:
            # Equal values are one before they are differentiated: it gets one cotangent.
            kernel = with_shared_values(self.source.kernel(dtype))
            if written_out(kernel.values) > MAX_OPERATIONS:
                raise self._too_large(f"becomes more than {MAX_OPERATIONS:,} operations")
            self._kernels[dtype] = kernel
        return self._kernels[dtype]

    def _too_large(self, what: str) -> SizeError:
        """The error of a formula that a limit forbids, or whose derivative it forbids."""
        source: Any = self.source
        subject = "the formula" if isinstance(source, FormulaSource) else "a derivative of it"
        while not isinstance(source, FormulaSource):
            source = source.parent.source
        text = ", ".join(request.formula for request in source.requests)
        return SizeError(what, subject, text)

    # -- derived reductions ------------------------------------------------------------------------

    def gradient(self, positions: tuple[int, ...], given: tuple[bool, ...]) -> PairReduction:
        """The reduction that gives the cotangents of the arguments at `positions` in one sweep.

        It takes this one's arguments, then the cotangents of the results that are `given`, then all
        results of the outputs whose row saves them.  i-variables are reduced over j, the others
        over i; so a call asks for arguments of one of the two groups.  A parameter's result has a
        row for each row of the group, still to be summed.
        """
        kinds = {self.parameters[p].kind for p in positions} - {"parameter"}
        rows: Kind = "i" if kinds == {"i"} else "j"
        return self.derive(GradientSource(self, positions, given), rows)

    def differential(self, positions: tuple[int, ...]) -> PairReduction:
        """The reduction that gives the results' derivatives along tangents of some arguments.

        It takes this one's arguments, then a tangent for each of `positions`, then all results of
        the outputs whose row saves them.  It gives one result for each result that is a value of
        a row with a cotangent.
        """
        return self.derive(DifferentialSource(self, positions), self.rows)

    def for_derivatives(self) -> PairReduction:
        """The same reduction with further results of its outputs, which derivatives need.

        Extrema have their places, sums of exponentials what they are relative to, and so on;
        itself if it has all of that.
        """
        if all(row.for_derivatives == row.name for row in self.rows_of_outputs):
            return self
        return self.derive(KeptSource(self), self.rows)

    def positions_in_kept(self) -> tuple[int, ...]:
        """The positions of its results among those of `for_derivatives()`."""
        kept = self.for_derivatives().results
        own = ([n for n, r in enumerate(kept) if r.output == k] for k in itertools.count())
        counts = (len(row.results) for row in self.rows_of_outputs)
        return tuple(n for count, among in zip(counts, own, strict=False) for n in among[:count])

    def pointwise(self, output: int, spreads_parameters: bool = False) -> PairReduction:
        """The value that an output reduces, at pairs that are given one by one, as rows.

        It takes this one's arguments, a row for each pair (of parameters too, if they are spread),
        and then the pairs' numbers of rows and columns that the formula has, as `numbers` says.
        """
        return self.derive(PointwiseSource(self, output, spreads_parameters), "i")

    @property
    def numbers(self) -> tuple[Kind, ...]:
        """The kinds of the numbers that the formulas have: "i_index", "j_index"."""
        return numbers_of(self.untransposed("f64").params)

    def derive(self, source: Source, rows: Kind) -> PairReduction:
        """The reduction with the same options that another source gives; made once."""
        known = self._derived.get(source)
        if known is None:
            known = self._derived.setdefault(source, PairReduction(source, rows, self.options))
        return known

    # -- compilation -------------------------------------------------------------------------------

    def lower(
        self, dtype: str, target: str = HOST, few_rows: bool = False
    ) -> HostLowering | GpuLowering:
        """The compilation for a dtype and a target, stage by stage."""
        return lower(self.kernel(dtype), dtype, target, self.options, few_rows)

    def compiled(self, dtype: str, rows: int, target: str = HOST) -> HostKernel | GpuKernel:
        """The loaded kernel for a dtype and a number of rows, compiled at the first call.

        The target is "host", which REDCOMP_TARGET may name, or a device's.
        """
        key = (dtype, rows <= FEW_ROWS, config.target() or HOST if target == HOST else target)
        kernel = self._compiled.get(key)
        if kernel is None:
            try:
                kernel = once(self._compiled, key, lambda: self.lower(dtype, target, key[1]).load())
            except SizeError as error:
                raise self._too_large(error.what) from None
        return kernel


R = TypeVar("R")
P = ParamSpec("P")
# Results of a function that a reduction keeps, of calls with different other arguments.
_REMEMBERED = 128


def remembered(
    function: Callable[Concatenate[PairReduction, P], R],
) -> Callable[Concatenate[PairReduction, P], R]:
    """The function, its latest results kept by the reduction, as long as that lives.

    A cache of the function's own would hold reductions, and their machine code, that nobody needs.
    Arguments are given by position: names take time.
    """

    @functools.wraps(function)
    def look_up(reduction: PairReduction, /, *rest: Any) -> R:
        known = reduction._remembered.get(function)
        if known is None:
            own = functools.partial(function, reduction)
            known = functools.lru_cache(maxsize=_REMEMBERED)(own)
            known = reduction._remembered.setdefault(function, known)
        result: R = known(*rest)
        return result

    return cast(Callable[Concatenate[PairReduction, P], R], look_up)


def _empty_results(output: Output) -> list[tuple[int, tuple[float, ...]]]:
    """Dimension and value of each result over no columns, a value that every dtype has."""
    row = REDUCTIONS[output.reduction]
    states = tuple(
        broadcast(constant(state.first("f32"), "f64"), state.dim)
        for state in row.states(output.value.dim, output.count)
    )
    finished = row.finish(states)
    return [
        (value.dim, _components(np.broadcast_to(array, (value.dim,))))
        for value, array in zip(finished, interpret(finished, {}), strict=True)
    ]


def _components(vector: Array) -> tuple[float, ...]:
    """The components, or the only one of a vector that repeats it."""
    is_repeated = np.array_equal(vector, np.broadcast_to(vector[:1], vector.shape), equal_nan=True)
    return tuple((vector[:1] if is_repeated else vector).tolist())


# -- where kernels come from -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FormulaSource:
    """Formulas over declared variables."""

    requests: tuple[Request, ...]
    aliases: tuple[Alias, ...]

    def kernel(self, dtype: str) -> Kernel:
        outputs, variables = self._outputs(dtype)
        return Kernel(variables, tuple(itertools.chain.from_iterable(outputs)))

    def parts(self) -> tuple[int, ...]:
        """The number of outputs that each request has become."""
        if not any(REDUCTIONS[r.reduction].takes == "components" for r in self.requests):
            return (1,) * len(self.requests)
        return tuple(len(outputs) for outputs in self._outputs("f64")[0])

    def _outputs(self, dtype: str) -> tuple[list[list[Output]], tuple[Value, ...]]:
        """The outputs of each request, and all variables."""
        texts = [r.formula for r in self.requests]
        texts += [r.weights for r in self.requests if r.weights is not None]
        values, variables = lower_formulas(texts, self.aliases, dtype)
        weights = iter(values[len(self.requests) :])
        outputs: list[list[Output]] = []
        for request, value in zip(self.requests, values, strict=False):
            row = REDUCTIONS[request.reduction]
            try:
                row.check(value.dim)
            except ShapeError as error:
                text = request.formula
                raise FormulaError(str(error), text, 0, len(text)) from None
            if request.weights is not None:
                value = apply("concat", value, next(weights))
            parts = [value]
            if row.takes == "components":
                parts = [apply("elem", value, m=m) for m in range(value.dim)]
            outputs.append([Output(part, row.name, count=request.count) for part in parts])
        return outputs, variables


@dataclass(frozen=True, slots=True)
class GradientSource:
    """The gradient of a reduction with respect to some arguments, from some cotangents."""

    parent: PairReduction
    positions: tuple[int, ...]
    given: tuple[bool, ...]

    def kernel(self, dtype: str) -> Kernel:
        parent = self.parent
        kernel = parent.untransposed(dtype)
        names = Names(kernel)
        values = [n for n, result in enumerate(parent.results) if result.kind == "value"]
        given = [n for n, is_given in zip(values, self.given, strict=True) if is_given]
        saved = [n for n, r in enumerate(parent.results) if parent.rows_of_outputs[r.output].saves]
        count = len(parent.parameters)

        def extra(stem: str, position: int, n: int) -> Value:
            result = parent.results[n]
            of = INTEGER_OF_WIDTH[dtype] if result.kind == "index" else dtype
            return variable(names.new(stem), parent.rows, position, Type(of, result.dim))

        cotangents = {n: extra("cotangent", count + k, n) for k, n in enumerate(given)}
        count += len(given)
        results = {n: extra("result", count + k, n) for k, n in enumerate(saved)}
        column = _column_number(kernel, parent.rows, dtype)
        arguments = arguments_of(kernel)
        wrt = tuple(arguments[position] for position in self.positions)
        totals: list[Value | None] = [None] * len(wrt)
        for number, output in enumerate(kernel.outputs):
            own = [n for n, result in enumerate(parent.results) if result.output == number]
            cotangent = REDUCTIONS[output.reduction].cotangent
            if cotangent is None or not any(n in cotangents for n in own):
                continue
            arrived = Arrived(
                tuple(results[n] for n in own if n in results),
                tuple(cotangents.get(n) for n in own),
                column,
            )
            parts = gradients(output.value, wrt, cotangent(output.value, arrived))
            totals = [
                part if total is None else total + part
                for part, total in zip(parts, totals, strict=True)
            ]
        outputs = tuple(Output(total) for total in totals if total is not None)
        params = [*kernel.params, *cotangents.values(), *results.values()]
        return Kernel(_with_number(params, outputs, column), outputs)


@dataclass(frozen=True, slots=True)
class DifferentialSource:
    """The derivative of a reduction along tangents of some arguments.

    A row's rule takes cotangents of the results to each pair's value, linearly; its transpose takes
    the tangent of each pair's value to the results, where they add up.
    """

    parent: PairReduction
    positions: tuple[int, ...]

    def kernel(self, dtype: str) -> Kernel:
        parent = self.parent
        kernel = parent.untransposed(dtype)
        names = Names(kernel)
        arguments = arguments_of(kernel)
        wrt = [arguments[position] for position in self.positions]
        count = len(parent.parameters)
        tangents = [
            variable(names.new("tangent"), v["kind"], count + k, v.type) for k, v in enumerate(wrt)
        ]
        count += len(tangents)
        saved = [n for n, r in enumerate(parent.results) if parent.rows_of_outputs[r.output].saves]

        def of_result(stem: str, n: int, position: int) -> Value:
            result = parent.results[n]
            of = INTEGER_OF_WIDTH[dtype] if result.kind == "index" else dtype
            return variable(names.new(stem), parent.rows, position, Type(of, result.dim))

        results = {n: of_result("result", n, count + k) for k, n in enumerate(saved)}
        column = _column_number(kernel, parent.rows, dtype)
        outputs: list[Output] = []
        for number, output in enumerate(kernel.outputs):
            own = [n for n, result in enumerate(parent.results) if result.output == number]
            cotangent = REDUCTIONS[output.reduction].cotangent
            if cotangent is None:
                continue
            values = [n for n in own if parent.results[n].kind == "value"]
            dummies = {n: of_result("cotangent", n, 0) for n in values}
            arrived = Arrived(
                tuple(results[n] for n in own if n in results),
                tuple(dummies.get(n) for n in own),
                column,
            )
            seed = (cotangent(output.value, arrived), jvp(output.value, wrt, tangents))
            outputs += map(Output, reverse((seed,), tuple(dummies.values())))
        params = [*kernel.params, *tangents, *results.values()]
        return Kernel(_with_number(params, outputs, column), tuple(outputs))


@dataclass(frozen=True, slots=True)
class KeptSource:
    """A reduction that also gives what its derivatives need."""

    parent: PairReduction

    def kernel(self, dtype: str) -> Kernel:
        kernel = self.parent.untransposed(dtype)
        outputs = (
            replace(output, reduction=REDUCTIONS[output.reduction].for_derivatives)
            for output in kernel.outputs
        )
        return Kernel(kernel.params, tuple(outputs))


@dataclass(frozen=True, slots=True)
class PointwiseSource:
    """What an output reduces, for pairs that are given as rows."""

    parent: PairReduction
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


def numbers_of(variables: Sequence[Value]) -> tuple[Kind, ...]:
    """The kinds of the numbers among variables."""
    return tuple(v["kind"] for v in variables if v["kind"] in NUMBERS)


def arguments_of(kernel: Kernel) -> tuple[Value, ...]:
    """The variables that a call has arguments for, by position."""
    return tuple(v for v in kernel.params if v["kind"] not in NUMBERS)


class Names:
    """Names that no variable of a kernel has."""

    def __init__(self, kernel: Kernel) -> None:
        self.taken = {v["name"] for v in kernel.params}

    def new(self, stem: str) -> str:
        name = next(n for k in itertools.count() if (n := f"{stem}{k}") not in self.taken)
        self.taken.add(name)
        return name


def _column_number(kernel: Kernel, rows: Kind, dtype: str) -> Value:
    """The number of the column over which a kernel reduces: its own variable, if it has one."""
    kind: Kind = "j_index" if rows == "i" else "i_index"
    made = number_variable(kind, dtype)
    return next((v for v in kernel.params if v["kind"] == kind), made)


def _with_number(
    params: Sequence[Value], outputs: Sequence[Output], number: Value
) -> tuple[Value, ...]:
    """The parameters and, if the outputs read it and it is not among them, the number."""
    if any(v is number for v in params):
        return tuple(params)
    is_read = any(v is number for v in topological([output.value for output in outputs]))
    return (*params, number) if is_read else tuple(params)
