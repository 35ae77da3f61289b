"""What a pair costs on GPUs, held to budgets: needs ptxas and nvdisasm (the "test" extra).

`python tests/test_ptx_budgets.py` prints the table BUDGETS as the code is now.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from test_ptx_resources import FORMULAS, gradients

from redcomp.backends.gpu import GpuLowering
from redcomp.frontend.reductions import derivatives
from redcomp.numpy import Genred
from redcomp.ptx.assemble import version
from redcomp.ptx.costs import Cost

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import ptx_report

pytestmark = [pytest.mark.ptxas, pytest.mark.slow]

TARGETS = ("sm_75", "sm_80", "sm_90", "sm_100", "sm_120")
CASES = {case.name: case for case in ptx_report.CASES}


class Budget(NamedTuple):
    """Upper limits for a pair, on every target; of the loop's way on which nothing is adjusted.

    instructions  of the loop, but for those that only wait for float64 units
    fma, alu, xu, fp64  by pipe; `lsu` counts words, since a load of four takes four times as long
    """

    instructions: float
    fma: float
    alu: float
    xu: float
    fp64: float
    lsu: float


# Figures of ptxas 13; other versions may need a little more.
BUDGETS = {
    "Gaussian, D = 1": Budget(4.25, 3.00, 0.06, 1.00, 0.00, 0.50),
    "Gaussian, D = 3": Budget(8.44, 7.00, 0.03, 1.00, 0.00, 1.00),
    "Gaussian, D = 8": Budget(18.94, 17.00, 0.06, 1.00, 0.00, 2.25),
    "Gaussian, D = 16": Budget(36.25, 33.00, 0.25, 1.00, 0.00, 4.25),
    "Gaussian, D = 64": Budget(141.25, 130.00, 0.25, 1.00, 0.00, 33.00),
    "Gaussian, D = 300": Budget(2.78, 2.16, 0.22, 0.00, 0.00, 0.38),
    "Gaussian of a width, D = 3": Budget(9.44, 8.00, 0.03, 1.00, 0.00, 1.00),
    "Laplacian, D = 3": Budget(9.44, 7.00, 0.03, 2.00, 0.00, 1.00),
    "LogSumExp, D = 3": Budget(10.47, 8.00, 1.06, 1.00, 0.00, 0.75),
    "Mean, D = 3": Budget(7.56, 7.25, 0.06, 0.00, 0.00, 0.75),
    "ArgMin, D = 3": Budget(9.31, 6.03, 2.97, 0.00, 0.00, 1.00),
    "KMin, K = 10, D = 3": Budget(8.50, 6.00, 1.25, 0.00, 0.00, 2.00),
    "Gradient of the Gaussian, D = 3": Budget(12.50, 11.00, 0.12, 1.00, 0.00, 1.00),
    "Gradient of the Gaussian, D = 64": Budget(216.00, 194.00, 2.00, 1.00, 0.00, 65.00),
    "Gradient of the Gaussian, D = 300": Budget(3.88, 2.31, 0.44, 0.00, 0.00, 1.19),
    "Gradients of the Gaussian in y and b, D = 64": Budget(217.00, 195.00, 2.00, 1.00, 0.00, 65.00),
    "Gaussian of 16 columns, D = 3": Budget(25.25, 22.00, 0.50, 1.00, 0.00, 5.00),
    "Gaussian of 100 columns, D = 3": Budget(147.50, 130.00, 2.50, 5.00, 0.00, 30.00),
    "Gaussian of 300 columns, D = 3": Budget(3.62, 1.50, 0.75, 0.00, 0.00, 1.25),
    "Gaussian of 64 columns, D = 64": Budget(231.00, 193.00, 1.00, 1.00, 0.00, 128.00),
    "Gaussian of 32 columns, D = 300": Budget(4.00, 2.00, 0.38, 0.00, 0.00, 0.75),
    "Softmax weights, D = 16": Budget(41.00, 34.00, 2.00, 1.00, 0.00, 8.00),
    "Softmax weights, D = 64": Budget(172.00, 130.00, 3.00, 1.00, 0.00, 128.00),
    # Half an address per pair on the fma pipe is what tiles without bank conflicts cost (0047); the
    # float64 pipe decides.
    "Gaussian, D = 3, float64": Budget(44.75, 2.75, 13.25, 1.00, 26.00, 2.00),
    "Gaussian of 60 columns, D = 3, float64": Budget(235.50, 9.00, 42.00, 3.00, 135.00, 138.00),
    "Softmax weights, D = 64, bfloat16": Budget(172.00, 130.00, 3.00, 1.00, 0.00, 128.00),
    "Softmax weights, D = 64, float16": Budget(172.00, 130.00, 3.00, 1.00, 0.00, 128.00),
    "Softmax weights, D = 64, TF32": Budget(172.00, 130.00, 3.00, 1.00, 0.00, 128.00),
    "Gaussian, D = 64, TF32": Budget(140.50, 130.00, 0.25, 1.00, 0.00, 33.00),
    "Exponential kernel, D = 256, bfloat16": Budget(1.78, 1.16, 0.22, 0.00, 0.00, 0.38),
}
# Where kernels multiply matrices: sm_80, 90 and 100, and sm_120 where factors are short.
BUDGETS_OF_MATRICES = {
    "Gaussian, D = 16": Budget(9.06, 3.50, 2.19, 1.00, 0.00, 1.00),
    "Gaussian, D = 64": Budget(28.25, 7.00, 9.38, 1.00, 0.00, 5.00),
    "Gaussian, D = 300": Budget(166.80, 49.85, 53.85, 1.06, 0.06, 23.00),
    "Gradient of the Gaussian, D = 64": Budget(59.00, 17.00, 19.50, 1.00, 0.00, 9.00),
    "Gradients of the Gaussian in y and b, D = 64": Budget(60.75, 18.00, 19.50, 1.00, 0.00, 9.00),
    "Gradient of the Gaussian, D = 300": Budget(945.00, 273.25, 426.25, 2.00, 0.00, 132.00),
    "Gaussian of 16 columns, D = 3": Budget(15.06, 8.50, 3.19, 1.00, 0.00, 1.50),
    "Gaussian of 100 columns, D = 3": Budget(53.50, 20.00, 15.38, 1.00, 0.00, 8.50),
    "Gaussian of 300 columns, D = 3": Budget(146.25, 52.00, 42.75, 2.00, 0.00, 23.00),
    "Gaussian of 64 columns, D = 64": Budget(56.88, 15.00, 19.50, 1.00, 0.00, 8.50),
    "Gaussian of 32 columns, D = 300": Budget(182.25, 55.25, 59.95, 1.00, 0.00, 23.65),
    "Softmax weights, D = 16": Budget(16.62, 5.00, 5.69, 1.00, 0.00, 1.50),
    "Softmax weights, D = 64": Budget(58.25, 15.00, 19.88, 1.00, 0.00, 8.50),
    "Gaussian of 60 columns, D = 3, float64": Budget(59.00, 2.12, 11.50, 1.00, 29.00, 11.00),
    "Softmax weights, D = 64, bfloat16": Budget(22.62, 8.50, 5.25, 1.00, 0.00, 4.50),
    "Softmax weights, D = 64, float16": Budget(25.25, 8.00, 4.69, 1.00, 0.00, 4.50),
    "Softmax weights, D = 64, TF32": Budget(25.50, 6.00, 4.88, 1.00, 0.00, 8.50),
    "Gaussian, D = 64, TF32": Budget(11.44, 4.00, 2.19, 1.00, 0.00, 2.50),
    "Exponential kernel, D = 256, bfloat16": Budget(32.38, 2.00, 8.38, 1.00, 0.00, 16.50),
}
TOLERANCE = 0.1


def lowering(name: str, target: str) -> GpuLowering:
    return ptx_report.compiled(CASES[name], target)


def budgets(name: str, target: str) -> dict[str, Budget]:
    """Those of a case's kernels on a target, and of others alike."""
    nest = lowering(name, target).nest
    return BUDGETS_OF_MATRICES if nest.products or nest.updates else BUDGETS


def measured(name: str, target: str) -> Budget:
    """What all kernels together take."""

    def taken(cost: Cost) -> list[float]:
        loop = cost.loop
        real = len(loop.executed) - loop.counts["NOP"]
        pipes = [loop.work[pipe] for pipe in ("fma", "alu", "xu", "fp64", "lsu")]
        return [count / cost.pairs for count in (real, *pipes)]

    costs = map(taken, lowering(name, target).costs)
    return Budget(*map(sum, zip(*costs, strict=True)))


@pytest.mark.sampled(1176)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", BUDGETS)
def test_pair_costs_no_more_than_its_budget(name: str, target: str) -> None:
    found, budget = measured(name, target), budgets(name, target)[name]
    exceeded = {
        field: (value, limit)
        for field, value, limit in zip(Budget._fields, found, budget, strict=True)
        if value > limit + TOLERANCE
    }
    assert exceeded == {}, lowering(name, target).costs[0].loop


PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "ptx.md"


@pytest.mark.sampled(12)
@pytest.mark.parametrize("target", ["sm_75", "sm_90"])
@pytest.mark.parametrize("name", ["Gaussian, D = 3", "LogSumExp, D = 3", "ArgMin, D = 3"])
def test_page_says_what_is_so(name: str, target: str) -> None:
    """Its figures are those of one version of ptxas, and only with that one they are compared."""
    page = PAGE.read_text("utf-8")
    written = re.search(r"`ptxas` (\d+\.\d+)", page)
    assert written
    if written[1] != version():
        pytest.skip(f"the page is about ptxas {written[1]}, this is {version()}")
    section = page.split(f"## {name}\n")[1].split("\n## ")[0]
    lines = [f"| {' | '.join(row)} |" for row in ptx_report.rows(lowering(name, target))]
    assert lines
    assert [line for line in lines if line not in section] == [], "run make ptx-report WRITE=docs"


def test_budgets_are_for_the_cases_of_the_report() -> None:
    assert set(BUDGETS_OF_MATRICES) <= set(BUDGETS) == set(CASES)


@pytest.mark.sampled(8)
@pytest.mark.parametrize(
    ("name", "arithmetic", "most"),
    [
        ("Gaussian, D = 3", 8, 8.6),
        ("Gaussian of a width, D = 3", 9, 9.6),
        ("Gradient of the Gaussian, D = 3", 12, 14.0),
    ],
)
def test_what_was_aimed_at(name: str, arithmetic: int, most: float) -> None:
    """Operations of float32 and the exponential, counted by hand, and little around them."""
    made = lowering(name, "sm_90")
    assert arithmetic < made.stats.instructions <= most


@pytest.mark.sampled(12)
@pytest.mark.parametrize(
    ("formula", "dim", "most"),
    [
        ("IfElse(SqDist(x,y)-0.001, 1/SqDist(x,y), 0)", 3, 15.5),
        ("IfElse(SqDist(x,y)-0.001, 4*(Pow(SqDist(x,y),-6)-Pow(SqDist(x,y),-3)), 0)", 3, 30.0),
        ("IfElse(1-SqDist(x,y), Exp(-SqDist(x,y)), 0)", 64, 220.0),
        ("ReLU(x|y)", 3, 8.0),
    ],
)
def test_a_guard_is_a_predicate_of_instructions(formula: str, dim: int, most: float) -> None:
    """Gradients of what selects cost no more than those of products with zeros did."""
    operation = Genred(formula, [f"x=Vi({dim})", f"y=Vj({dim})"], axis=1)
    in_rows = derivatives.gradient(operation.reduction, (0,), (True,)).lower("f32", "sm_90")
    assert in_rows.stats.instructions <= most


@pytest.mark.thorough
def test_gradient_of_a_softmax_meets_its_mean_once_a_row() -> None:
    """Three products with vectors a pair: for the exponent, for the slope, for the gradient.

    Where these are products of matrices, few operations of each pair are left.
    """
    dim = 16
    in_rows = next(gradients(FORMULAS["attention"].reduction(dim)))
    for target, products in (("sm_120", 3 * dim), ("sm_90", 0)):
        operations = in_rows.lower("f32", target).stats.operations
        assert products <= sum(operations.values()) <= products + 6


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ["LogSumExp, D = 3", "KMin, K = 10, D = 3"])
def test_pair_that_changes_nothing_costs_one_comparison(name: str) -> None:
    """And, for sums, one exponential; what asks whether any thread has one to adjust is shared."""
    (cost,) = lowering(name, "sm_90").costs
    counts = cost.loop.counts
    comparisons = sum(n for text, n in counts.items() if text.startswith(("FSETP", "FMNMX")))
    assert cost.pairs <= comparisons <= cost.pairs + 2
    assert counts["MUFU.EX2"] == (cost.pairs if "Sum" in name else 0)
    assert cost.loop.spills == 0


@pytest.mark.thorough
def test_statistics_are_of_all_kernels() -> None:
    """60 results a row are computed by several kernels, each of which has its own exponentials."""
    aliases = ["x = Vi(3)", "y = Vj(3)", "b = Vj(60)"]
    made = Genred("Exp(-SqDist(x, y)) * b", aliases, axis=1).lower(target="sm_89")
    assert isinstance(made, GpuLowering)
    kernels = len(made.planned)
    assert kernels > 1
    assert made.stats.operations["fma"] == 60 + 2
    total = sum(cost.instructions for cost in made.costs)
    assert made.stats.instructions == pytest.approx(total)
    assert sum(cost.pipes["xu"] for cost in made.costs) == pytest.approx(kernels)
    assert total >= 60 + 7 * kernels


if __name__ == "__main__":
    for table in (BUDGETS, BUDGETS_OF_MATRICES):
        print()
        for case_name in CASES:
            chosen = [t for t in TARGETS if budgets(case_name, t) is table]
            taken = zip(*(measured(case_name, t) for t in chosen), strict=True)
            most = ", ".join(f"{max(values):.2f}" for values in taken)
            if most:
                print(f'    "{case_name}": Budget({most}),')
