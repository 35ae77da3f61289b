"""A reduction over pairs, independent of the array library: what `Genred` is underneath.

It knows its variables, builds its kernel for each dtype, compiles it once, and makes the reductions
that are its gradients.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from redcomp.compile import Lowering, Options, lower
from redcomp.errors import CompilerError, FormulaError
from redcomp.frontend.aliases import Alias, parse_aliases
from redcomp.frontend.lower import lower_formulas
from redcomp.ir import Kernel, Kind, Output, Type, Value, variable
from redcomp.llvm_backend.schedule import FEW_ROWS
from redcomp.ops.reductions import REDUCTIONS
from redcomp.ops.table import ShapeError
from redcomp.passes.grad import gradients
from redcomp.passes.transpose import transpose
from redcomp.runtime.host import HostKernel


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of a call, in the order of the call: its name, its kind and its dimension."""

    name: str
    kind: Kind
    dim: int


@dataclass(frozen=True, slots=True)
class Result:
    """One result of a call: its dimension, whether it is int64, and its value for no columns."""

    dim: int
    is_index: bool
    empty: float


@dataclass(frozen=True, slots=True)
class GradientSpec:
    """Which reduction a gradient is derived from, and with respect to which arguments."""

    parent: PairReduction
    positions: tuple[int, ...]


@dataclass(eq=False)
class PairReduction:
    """One or more results, each reduced over the same axis; rows are what is left.

    formulas    their texts, or a gradient's description
    aliases     the declared variables
    reduction   the reduction's name
    rows        "i" if it reduces over j (axis 1), "j" if it reduces over i (axis 0)
    """

    formulas: tuple[str, ...] | GradientSpec
    aliases: tuple[Alias, ...]
    reduction: str
    rows: Kind
    options: Options
    _kernels: dict[str, Kernel] = field(default_factory=dict, repr=False)
    _compiled: dict[tuple[str, bool], HostKernel] = field(default_factory=dict, repr=False)
    _gradients: dict[tuple[int, ...], PairReduction] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        kernel = self._untransposed("f64")  # the wider one: numbers that float32 lacks are fine
        self.parameters = tuple(Parameter(v["name"], v["kind"], v.dim) for v in kernel.params)
        row = REDUCTIONS[self.reduction]
        dims = [output.type.dim for output in kernel.outputs]
        for dim in dims:
            row.check(dim)
        self.results = tuple(
            Result(dim, is_index, empty)
            for dim in dims
            for is_index, empty in zip(row.gives_index, row.empty, strict=True)
        )

    @property
    def uses_result(self) -> bool:
        """Whether a gradient needs the results."""
        return REDUCTIONS[self.reduction].uses_result

    @property
    def is_differentiable(self) -> bool:
        """Whether there are gradients."""
        return REDUCTIONS[self.reduction].cotangent is not None

    def __getstate__(self) -> dict[str, object]:
        # Compiled code stays behind; what it is made from is enough to make it again.
        names = ("formulas", "aliases", "reduction", "rows", "options")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    # -- kernels -----------------------------------------------------------------------------------

    def kernel(self, dtype: str) -> Kernel:
        """The kernel in "f32" or "f64", reducing over j whatever the axis."""
        kernel = self._untransposed(dtype)
        return kernel if self.rows == "i" else transpose(kernel)

    def _untransposed(self, dtype: str) -> Kernel:
        if dtype not in self._kernels:
            build = (
                self._gradient_kernel if isinstance(self.formulas, GradientSpec) else self._lower
            )
            self._kernels[dtype] = build(dtype)
        return self._kernels[dtype]

    def _lower(self, dtype: str) -> Kernel:
        assert not isinstance(self.formulas, GradientSpec)
        values, variables = lower_formulas(self.formulas, self.aliases, dtype)
        return Kernel(variables, tuple(Output(value, self.reduction) for value in values))

    def _gradient_kernel(self, dtype: str) -> Kernel:
        assert isinstance(self.formulas, GradientSpec)
        parent, positions = self.formulas.parent, self.formulas.positions
        kernel = parent._untransposed(dtype)
        count = len(kernel.params)
        row = REDUCTIONS[parent.reduction]
        if row.cotangent is None:
            raise CompilerError(f"the reduction {row.spelling!r} has no gradient")
        kinds = ("cotangent", "result") if row.uses_result else ("cotangent",)
        taken = {v["name"] for v in kernel.params}
        extra = [
            variable(_new_name(kind, taken), parent.rows, count + n, Type(dtype, output.type.dim))
            for n, (kind, output) in enumerate(itertools.product(kinds, kernel.outputs))
        ]
        cotangents, results = extra[: len(kernel.outputs)], extra[-len(kernel.outputs) :]
        wrt = tuple(kernel.params[position] for position in positions)
        totals: list[Value | None] = [None] * len(wrt)
        for output, e, result in zip(kernel.outputs, cotangents, results, strict=True):
            cotangent = row.cotangent(output.value, result, e)
            for n, part in enumerate(gradients(output.value, wrt, cotangent)):
                known = totals[n]
                totals[n] = part if known is None else known + part
        outputs = tuple(Output(total, "sum") for total in totals if total is not None)
        return Kernel((*kernel.params, *extra), outputs)

    def gradient(self, positions: tuple[int, ...]) -> PairReduction:
        """The reduction that gives the cotangents of the arguments at `positions` in one sweep.

        It takes this one's arguments, then one cotangent a result, then, if `uses_result`, the
        results.  i-variables are reduced over j, the others over i; so a call asks for arguments of
        one of the two groups.  A parameter's result has a row for each row of the group, still to
        be summed.
        """
        known = self._gradients.get(positions)
        if known is not None:
            return known
        kinds = {self.parameters[p].kind for p in positions} - {"parameter"}
        rows: Kind = "i" if kinds == {"i"} else "j"
        made = PairReduction(GradientSpec(self, positions), (), "sum", rows, self.options)
        return self._gradients.setdefault(positions, made)

    # -- compilation -------------------------------------------------------------------------------

    def lower(self, dtype: str, target: str = "host", few_rows: bool = False) -> Lowering:
        """The compilation for a dtype and a target, stage by stage."""
        return lower(self.kernel(dtype), dtype, target, self.options, few_rows)

    def compiled(self, dtype: str, rows: int) -> HostKernel:
        """The loaded kernel for a dtype and a number of rows, compiled at the first call."""
        key = (dtype, rows <= FEW_ROWS)
        kernel = self._compiled.get(key)
        if kernel is None:
            kernel = self._compiled[key] = self.lower(dtype, few_rows=key[1]).load()
        return kernel


def _new_name(stem: str, taken: set[str]) -> str:
    """A name that no variable has, which is then taken."""
    name = next(n for k in itertools.count() if (n := f"{stem}{k}") not in taken)
    taken.add(name)
    return name


def make_reduction(
    formulas: Sequence[str], aliases: Sequence[str], reduction_op: str, axis: int, options: Options
) -> PairReduction:
    """Check what a user gave and build the reduction; raises FormulaError or ValueError."""
    by_spelling = {row.spelling: row.name for row in REDUCTIONS.values()}
    if reduction_op not in by_spelling:
        known = ", ".join(by_spelling)
        raise FormulaError(f"unknown reduction_op {reduction_op!r}; known ones: {known}")
    if axis not in (0, 1):
        raise ValueError(f"axis must be 0 (reduce over i) or 1 (reduce over j), not {axis!r}")
    rows: Kind = "i" if axis == 1 else "j"
    parsed = parse_aliases(list(aliases))
    try:
        return PairReduction(tuple(formulas), parsed, by_spelling[reduction_op], rows, options)
    except ShapeError as error:
        raise FormulaError(str(error), formulas[0], 0, len(formulas[0])) from None
