"""What the arithmetic of pairs allows is a bound: needs ptxas and nvdisasm (the "test" extra)."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import reduction_cases
from operation_cases import Case, call, cases
from random_cases import random_program
from random_formulas import Choices
from reference_reductions import ASKED
from test_ptx_resources import FORMULAS, gradients

from redcomp.backends.gpu import GpuLowering
from redcomp.compile import Options, lower
from redcomp.frontend.reductions.pair_reduction import PairReduction
from redcomp.numpy import Genred
from redcomp.ptx.costs import clocks, description

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import ptx_report

pytestmark = [pytest.mark.ptxas, pytest.mark.slow]

TARGETS = ("sm_75", "sm_80", "sm_90", "sm_100", "sm_120")

on_targets = pytest.mark.parametrize("target", TARGETS)
of_dtypes = pytest.mark.parametrize("dtype", ["f32", "f64"])
with_options = pytest.mark.parametrize("is_fast", [True, False])


def share(reduction: PairReduction, dtype: str, target: str, is_fast: bool = True) -> float:
    """Of what the arithmetic allows, what the machine code can reach; 0 where nothing is said."""
    options = Options(use_fast_math=is_fast)
    lowering = lower(reduction.kernel(dtype), target, options)
    assert isinstance(lowering, GpuLowering)
    best = lowering.ideal
    return 1 / clocks(lowering.costs) / best.pairs if best else 0.0


@pytest.mark.sampled(18)
@on_targets
def test_rows_of_a_step_share_the_count_of_a_mean(target: str) -> None:
    operation = Genred("SqDist(x, y)", ["x = Vi(3)", "y = Vj(3)"], "Mean", axis=1)
    assert 0.9 < share(operation.reduction, "f32", target) <= 1.0


@pytest.mark.sampled(360)
@on_targets
@pytest.mark.parametrize("case", ptx_report.CASES, ids=lambda case: case.name)
def test_no_case_of_the_report_exceeds_it(case: ptx_report.Case, target: str) -> None:
    lowering = ptx_report.compiled(case, target)
    best = lowering.ideal
    if best is None:  # loops over the components of long vectors, where nothing multiplies matrices
        assert "300" in case.name
        assert target in ("sm_75", "sm_120")
        return
    assert 1 / clocks(lowering.costs) <= best.pairs * (1 + 1e-9)


def formulas() -> Iterator[tuple[str, PairReduction]]:
    """Typical formulas and their gradients."""
    for name, formula in FORMULAS.items():
        for dim in (1, 3, 8):
            reduction = formula.reduction(dim)
            yield f"{name}, D = {dim}", reduction
            for number, gradient in enumerate(gradients(reduction)):
                yield f"{name}, D = {dim}, gradient {number}", gradient


@pytest.mark.sampled(4972)
@with_options
@on_targets
@of_dtypes
@pytest.mark.parametrize("name", [name for name, _ in formulas()])
def test_no_formula_exceeds_it(name: str, dtype: str, target: str, is_fast: bool) -> None:
    assert share(dict(formulas())[name], dtype, target, is_fast) <= 1 + 1e-9


REDUCTIONS = [
    reduction_cases.Case(row, is_vector, 3 * row.keeps, 2 * (row.takes == "weights"))
    for row in ASKED
    for is_vector in (False, True)
    if not is_vector or row.takes not in ("scalar", "weights")
]


@pytest.mark.sampled(15435)
@with_options
@on_targets
@of_dtypes
@pytest.mark.parametrize("formula", ["", "b", "x", "Step(x - y)"])
@pytest.mark.parametrize("case", REDUCTIONS, ids=str)
def test_no_reduction_exceeds_it(
    case: reduction_cases.Case, formula: str, dtype: str, target: str, is_fast: bool
) -> None:
    if formula and not case.is_vector:
        formula = f"Sum({formula})"
    assert share(case.genred(1, formula).reduction, dtype, target, is_fast) <= 1 + 1e-9


@pytest.mark.sampled(9052)
@with_options
@on_targets
@of_dtypes
@pytest.mark.parametrize("case", [case for case in cases(3, 2) if case.dims], ids=str)
def test_no_operation_exceeds_it(case: Case, dtype: str, target: str, is_fast: bool) -> None:
    """Of operands that differ from pair to pair."""
    formula = call(case, [f"(x{n} + y{n})" for n in range(len(case.dims))])
    aliases = [f"{v}{n} = V{v}({d})" for n, d in enumerate(case.dims) for v in "xy"]
    aliases = [alias.replace("Vx", "Vi").replace("Vy", "Vj") for alias in aliases]
    assert share(Genred(formula, aliases, axis=1).reduction, dtype, target, is_fast) <= 1 + 1e-9


@pytest.mark.sampled(3600)
@on_targets
@of_dtypes
@pytest.mark.parametrize("seed", range(100))
def test_no_random_program_exceeds_it(seed: int, dtype: str, target: str) -> None:
    options = random_program(Choices(seed)).options_of_genred()
    assert share(Genred(**options).reduction, dtype, target) <= 1 + 1e-9


def test_where_nothing_differs_no_share_is_told() -> None:
    """Sums of what belongs to a column are the same for all rows."""
    lowering = Genred("y", ["x = Vi(1)", "y = Vj(1)"], axis=1).lower("float32", target="sm_90")
    assert isinstance(lowering, GpuLowering)
    assert lowering.ideal is not None
    assert math.isinf(lowering.ideal.pairs)
    assert "what the arithmetic allows" not in description(lowering.costs, lowering.ideal)
