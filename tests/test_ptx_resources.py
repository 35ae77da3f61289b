"""Stacks and spills of kernels for GPUs: needs ptxas (the "test" extra)."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import reduction_cases
from operation_cases import Case, apart, cases
from reference_reductions import ASKED

from redcomp.abi import JOIN, RUN, kernel_name
from redcomp.backends.gpu import GpuLowering
from redcomp.frontend.reductions import derivatives
from redcomp.frontend.reductions.pair_reduction import PairReduction
from redcomp.numpy import Genred
from redcomp.ops import OPERATIONS, SPELLINGS
from redcomp.ops.reductions import Reduction
from redcomp.ptx.assemble import assemble

pytestmark = [pytest.mark.ptxas, pytest.mark.slow]

TARGETS = ("sm_75", "sm_80", "sm_90", "sm_100", "sm_120")
DTYPES = ("f32", "f64")
LONGEST = 64  # components of a vector, matrices and results included

on_targets = pytest.mark.parametrize("target", TARGETS)
of_dtypes = pytest.mark.parametrize("dtype", DTYPES)


def check(
    reduction: PairReduction, dtype: str, target: str, stack: int = 0, rows: int | None = None
) -> None:
    """The assembler takes the kernels; a thread has so many bytes of stack at most."""
    lowering = reduction.lower(dtype, target, rows)
    assert isinstance(lowering, GpuLowering)
    assert ".local" not in lowering.asm
    kernels = assemble(lowering.asm, target).kernels
    names = {kernel_name(RUN, n) for n in range(len(lowering.planned))}
    assert names <= set(kernels)
    assert set(kernels) <= names | {kernel_name(JOIN, n) for n in range(len(lowering.planned))}
    spilling = {name: taken for name, taken in kernels.items() if taken.stack_frame > stack}
    assert spilling == {}, lowering.schedule


# -- operations ------------------------------------------------------------------------------------


def operation(case: Case) -> Genred:
    """A sum over j of an operation whose first operand belongs to j."""
    formula, names, kinds, dims = apart(case, first=1)
    names = [*names, "w"]
    aliases = [f"{n} = {k}({d})" for n, k, d in zip(names, kinds, dims, strict=True)]
    return Genred(formula, aliases, axis=1)


def is_longest(case: Case) -> bool:
    """Whether no operand and no result is longer than is asked for."""
    if max(case.dims, default=1) > LONGEST:
        return False
    result = operation(case).reduction.kernel("f32").outputs[0].value.dim
    return result <= LONGEST


@functools.cache
def long_cases() -> list[Case]:
    """Each operation with vectors of up to 64 components, its matrices included."""
    found: list[Case] = []
    by_dim = [cases(d, 8) for d in (64, 32, 16, 8)]
    for spelling in SPELLINGS:
        fitting = (
            [case for case in listed if case.spelling == spelling and is_longest(case)]
            for listed in by_dim
        )
        found += next(filter(None, fitting))
    return found


OPERATION_CASES = [*cases(3, 3), *long_cases()]


def test_all_operations_are_there() -> None:
    """In both tables: those that a formula can spell."""
    rows = {row.spelling for row in OPERATIONS.values() if row.spelling}
    assert {case.spelling for case in cases(3, 3)} == rows
    assert {case.spelling for case in long_cases()} == rows
    assert max(max(case.dims, default=0) for case in long_cases()) == LONGEST


@pytest.mark.sampled(5440)
@on_targets
@of_dtypes
@pytest.mark.parametrize("case", OPERATION_CASES, ids=str)
def test_operation_does_not_spill(case: Case, dtype: str, target: str) -> None:
    check(operation(case).reduction, dtype, target)


@pytest.mark.thorough
@pytest.mark.parametrize("target", TARGETS)
@of_dtypes
@pytest.mark.parametrize("wrt", [(), (0,), (1,), (2,)], ids=str)
@pytest.mark.parametrize("dim", [5, 8, 15, 24, 50])
def test_tables_of_alignments_are_on_no_stack(
    dim: int, wrt: tuple[int, ...], dtype: str, target: str
) -> None:
    """Nor is much else: up to 24 of the components of a gradient, in float64."""
    aliases = [f"x = Vi({dim})", f"y = Vj({dim})", "g = Pm(1)"]
    reduction = Genred("SoftDTW_SqDist(x,y,g)", aliases, axis=1).reduction
    if wrt:
        reduction = derivatives.gradient(reduction, wrt, (True,))
    check(reduction, dtype, target, stack=192 if dtype == "f64" else 0)


# -- reductions ------------------------------------------------------------------------------------

COUNTS = (3, 10, 64, 100)
WIDTHS = (2, 16, 64)


def cases_of_reductions() -> Iterator[reduction_cases.Case]:
    """Each reduction with all it takes: vectors, numbers of columns to keep, widths of weights."""
    for row in ASKED:
        is_scalar = row.takes in ("scalar", "weights")
        for is_vector in (False,) if is_scalar else (False, True):
            for count in COUNTS if row.keeps else (0,):
                for width in WIDTHS if row.takes == "weights" else (0,):
                    yield reduction_cases.Case(row, is_vector, count, width)


@pytest.mark.sampled(900)
@on_targets
@of_dtypes
@pytest.mark.parametrize("case", list(cases_of_reductions()), ids=str)
def test_reduction_does_not_spill(case: reduction_cases.Case, dtype: str, target: str) -> None:
    check(case.genred(1).reduction, dtype, target)


def vectors_of(row: Reduction, dim: int) -> Genred:
    """A reduction of pairs of long vectors; only rows that take vectors."""
    name = row.spellings[0] if row.spellings else "Sum"
    scheme = {"sum_scheme": "kahan_scheme"} if row.name == "compensated_sum" else {}
    aliases = [f"x = Vi({dim})", f"y = Vj({dim})", "b = Vj(1)"]
    return Genred("(x - y) * b", aliases, reduction_op=name, axis=1, **scheme)


@pytest.mark.thorough
@on_targets
@of_dtypes
@pytest.mark.parametrize("dim", [16, 64])
@pytest.mark.parametrize("row", [r for r in ASKED if r.takes == "vector"], ids=lambda r: r.name)
def test_reduction_of_vectors_does_not_spill(
    row: Reduction, dim: int, dtype: str, target: str
) -> None:
    check(vectors_of(row, dim).reduction, dtype, target)


# -- gradients -------------------------------------------------------------------------------------


class Formula(NamedTuple):
    """A formula of x and y, its other variables, and how it is reduced."""

    text: str
    others: tuple[str, ...] = ()
    reduction_op: str = "Sum"
    formula2: str | None = None

    def reduction(self, dim: int) -> PairReduction:
        """The reduction for points of a dimension, which is D in the other variables."""
        others = [other.replace("D", str(dim)) for other in self.others]
        aliases = [f"x = Vi({dim})", f"y = Vj({dim})", *others]
        options = {"reduction_op": self.reduction_op, "formula2": self.formula2}
        return Genred(self.text, aliases, axis=1, **options).reduction


FORMULAS = {
    "gaussian": Formula("Exp(-g * SqDist(x, y)) * b", ("b = Vj(1)", "g = Pm(1)")),
    "vector gaussian": Formula("Exp(-SqDist(x, y)) * b", ("b = Vj(D)",)),
    "laplacian": Formula("Exp(-g * Norm2(x - y)) * b", ("b = Vj(1)", "g = Pm(1)")),
    "cauchy": Formula("Inv(1 + g * SqDist(x, y)) * b", ("b = Vj(1)", "g = Pm(1)")),
    "inverse multiquadric": Formula("Rsqrt(1 + g * SqDist(x, y)) * b", ("b = Vj(1)", "g = Pm(1)")),
    "energy": Formula("Norm2(x - y) * b", ("b = Vj(1)",)),
    "polynomial": Formula("Pow(1 + (x | y), 3) * b", ("b = Vj(1)",)),
    "gaussian matrix": Formula("Exp(-SqDist(x, y)) * (x - y) * ((x - y) | b)", ("b = Vj(D)",)),
    "weighted norm": Formula("Exp(-WeightedSqDist(s, x, y)) * b", ("b = Vj(1)", "s = Pm(D)")),
    "attention": Formula("x | y", ("v = Vj(D)",), "SumSoftMaxWeight", "v"),
    "log of exponentials": Formula("-g * SqDist(x, y)", ("g = Pm(1)",), "LogSumExp"),
    "weighted exponentials": Formula("x | y", ("v = Vj(1)",), "LogSumExp", "v"),
}
DIMENSIONS = (1, 3, 8, 16, 32, 64)


def gradients(reduction: PairReduction) -> Iterator[PairReduction]:
    """What a backward pass runs: the gradients of the i-variables, and those of all others."""
    asked = derivatives.positions_in_kept(reduction)
    reduction = derivatives.for_derivatives(reduction)
    values = (n for n, result in enumerate(reduction.results) if result.kind == "value")
    given = tuple(n in asked for n in values)
    kinds = [parameter.kind for parameter in reduction.parameters]
    for is_rows in (True, False):
        group = tuple(n for n, kind in enumerate(kinds) if (kind == "i") == is_rows)
        yield derivatives.gradient(reduction, group, given)


# Bytes of stack that a formula or one of its gradients takes with ptxas 13, on the target where it
# takes most.  They need several vectors of a row, whose words (two a component in float64) and
# results are more than the registers: with fewer results a kernel there would be no stack, but more
# instructions.
STACKS = {
    ("attention", 16, "f32"): 24,
    ("attention", 64, "f32"): 248,
    ("gaussian matrix", 64, "f32"): 656,
    ("vector gaussian", 64, "f32"): 312,
    ("weighted exponentials", 64, "f32"): 16,
    ("weighted norm", 64, "f32"): 168,
    ("attention", 32, "f64"): 152,
    ("cauchy", 32, "f64"): 8,
    ("energy", 32, "f64"): 32,
    ("gaussian", 32, "f64"): 24,
    ("gaussian matrix", 32, "f64"): 600,
    ("inverse multiquadric", 32, "f64"): 32,
    ("laplacian", 32, "f64"): 48,
    ("log of exponentials", 32, "f64"): 16,
    ("vector gaussian", 32, "f64"): 112,
    ("weighted exponentials", 32, "f64"): 8,
    ("weighted norm", 32, "f64"): 200,
    ("cauchy", 64, "f64"): 48,
    ("energy", 64, "f64"): 56,
    ("gaussian", 64, "f64"): 48,
    ("gaussian matrix", 64, "f64"): 696,
    ("inverse multiquadric", 64, "f64"): 64,
    ("laplacian", 64, "f64"): 64,
    ("log of exponentials", 64, "f64"): 32,
    ("weighted norm", 64, "f64"): 48,
}


@pytest.mark.sampled(800)
@on_targets
@of_dtypes
@pytest.mark.parametrize("dim", DIMENSIONS)
@pytest.mark.parametrize("name", FORMULAS)
def test_formula_and_gradients_spill_no_more_than_is_known(
    name: str, dim: int, dtype: str, target: str
) -> None:
    reduction, stack = FORMULAS[name].reduction(dim), STACKS.get((name, dim, dtype), 0)
    for made in (reduction, *gradients(reduction)):
        check(made, dtype, target, stack)


# -- short tasks -----------------------------------------------------------------------------------

GAUSSIAN = "Exp(-SqDist(x, y)) * b"
SHORT: dict[str, tuple[str, int, int, str]] = {
    "gaussian": (GAUSSIAN, 3, 1, "Sum"),
    "D16": (GAUSSIAN, 16, 1, "Sum"),
    "12 columns": (GAUSSIAN, 3, 12, "Sum"),
    "argmin": ("SqDist(x, y) + 0 * b", 3, 1, "ArgMin"),
    "logsumexp": ("-SqDist(x, y) * b", 3, 1, "LogSumExp"),
}


@pytest.mark.sampled(216)
@on_targets
@of_dtypes
@pytest.mark.parametrize("name", SHORT)
def test_threads_of_short_tasks_form_teams(name: str, dtype: str, target: str) -> None:
    formula, dim, width, reduction = SHORT[name]
    aliases = [f"x = Vi({dim})", f"y = Vj({dim})", f"b = Vj({width})"]
    operation = Genred(formula, aliases, reduction, axis=1).reduction
    assert operation.lower(dtype, target, 10).schedule.teams
    check(operation, dtype, target, rows=10)
