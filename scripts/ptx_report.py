"""Count the instructions of the kernels for GPUs, and say how close to the ceiling they can come.

    python scripts/ptx_report.py                             print the tables
    python scripts/ptx_report.py --output docs/benchmarks/ptx.md
    python scripts/ptx_report.py --only Gaussian --targets sm_90

No GPU is needed, but NVIDIA's `ptxas` and `nvdisasm`: from PATH, or from the packages of the "test"
extra.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redcomp.backends.gpu import GpuLowering
from redcomp.errors import RedcompError
from redcomp.numpy import Genred
from redcomp.ptx.assemble import version
from redcomp.ptx.costs import PIPES, Cost, clocks
from redcomp.ptx.multiprocessor import H200

TARGETS = ("sm_75", "sm_80", "sm_90", "sm_100", "sm_120")


@dataclass(frozen=True, slots=True)
class Case:
    """A formula, or several in one sweep, and their reduction."""

    name: str
    formula: str | tuple[str, ...]
    aliases: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    axis: int = 1


def _points(dim: int, *more: str) -> tuple[str, ...]:
    return (f"x = Vi({dim})", f"y = Vj({dim})", *more)


GAUSSIAN = "Exp(-SqDist(x, y)) * b"
CASES = (
    *(
        Case(f"Gaussian, D = {dim}", GAUSSIAN, _points(dim, "b = Vj(1)"))
        for dim in (1, 3, 8, 16, 64, 300)
    ),
    Case(
        "Gaussian of a width, D = 3",
        "Exp(-g * SqDist(x, y)) * b",
        _points(3, "b = Vj(1)", "g = Pm(1)"),
    ),
    Case("Laplacian, D = 3", "Exp(-Sqrt(SqDist(x, y))) * b", _points(3, "b = Vj(1)")),
    Case("LogSumExp, D = 3", "-SqDist(x, y)", _points(3), {"reduction_op": "LogSumExp"}),
    Case("Mean, D = 3", "SqDist(x, y)", _points(3), {"reduction_op": "Mean"}),
    Case("ArgMin, D = 3", "SqDist(x, y)", _points(3), {"reduction_op": "ArgMin"}),
    Case(
        "KMin, K = 10, D = 3", "SqDist(x, y)", _points(3), {"reduction_op": "KMin", "opt_arg": 10}
    ),
    Case(
        "Gradient of the Gaussian, D = 3",
        f"Grad({GAUSSIAN}, x, e)",
        _points(3, "b = Vj(1)", "e = Vi(1)"),
    ),
    *(
        Case(
            f"Gradient of the Gaussian, D = {dim}",
            f"Grad({GAUSSIAN}, x, e)",
            _points(dim, "b = Vj(1)", "e = Vi(1)"),
        )
        for dim in (64, 300)
    ),
    Case(
        "Gradients of the Gaussian in y and b, D = 64",
        (f"Grad({GAUSSIAN}, y, e)", f"Grad({GAUSSIAN}, b, e)"),
        _points(64, "b = Vj(1)", "e = Vi(1)"),
        axis=0,
    ),
    *(
        Case(f"Gaussian of {wide} columns, D = {dim}", GAUSSIAN, _points(dim, f"b = Vj({wide})"))
        for dim, wide in ((3, 16), (3, 100), (3, 300), (64, 64), (300, 32))
    ),
    *(
        Case(
            f"Softmax weights, D = {dim}",
            "x | y",
            _points(dim, f"b = Vj({dim})"),
            {"reduction_op": "SumSoftMaxWeight", "formula2": "b"},
        )
        for dim in (16, 64)
    ),
    *(
        Case(
            f"Softmax weights, D = 64, {name}",
            "x | y",
            _points(64, "b = Vj(64)"),
            {"reduction_op": "SumSoftMaxWeight", "formula2": "b", **options},
            dtype,
        )
        for name, dtype, options in (
            ("bfloat16", "bfloat16", {}),
            ("float16", "float16", {}),
            ("TF32", "float32", {"allow_tf32": True}),
        )
    ),
    Case("Gaussian, D = 64, TF32", GAUSSIAN, _points(64, "b = Vj(1)"), {"allow_tf32": True}),
    Case(
        "Exponential kernel, D = 256, bfloat16",
        "Exp(x | y) * b",
        _points(256, "b = Vj(1)"),
        {},
        "bfloat16",
    ),
    Case("Gaussian, D = 3, float64", GAUSSIAN, _points(3, "b = Vj(1)"), dtype="float64"),
    Case(
        "Gaussian of 60 columns, D = 3, float64",
        GAUSSIAN,
        _points(3, "b = Vj(60)"),
        dtype="float64",
    ),
)


HEADER = (
    "target", "block", "registers", "spills", "stack", "shared", "blocks", "warps",
    "instructions", *PIPES, "rest", "limit", "pairs", "share",
)  # fmt: skip


def compiled(case: Case, target: str) -> GpuLowering:
    """A case's compilation for a target."""
    formula = case.formula if isinstance(case.formula, str) else list(case.formula)
    operation = Genred(formula, list(case.aliases), axis=case.axis, **case.options)
    lowering = operation.lower(case.dtype, target=target)
    if not isinstance(lowering, GpuLowering):
        raise TypeError(f"{target} is no GPU")
    return lowering


def rows(lowering: GpuLowering) -> Iterator[list[str]]:
    """A row of the table for each kernel."""
    best, costs = lowering.ideal, lowering.costs
    share = f"{1 / clocks(costs) / best.pairs:.0%}" if best else ""
    for planned, cost in zip(lowering.planned, costs, strict=True):
        block = f"{planned.schedule.rows} x {planned.schedule.cols}"
        yield [lowering.target.name, block, *cells(cost), share]


def cells(cost: Cost) -> Iterator[str]:
    """What one kernel takes, and does for a pair."""
    taken, held = cost.resources, cost.occupancy
    yield from map(str, (taken.registers, cost.loop.spills, taken.stack_frame, taken.shared))
    yield from (str(held.blocks), f"{held.warps} ({held.share:.0%})")
    yield from (f"{count:.2f}" for count in (cost.instructions, *cost.pipes.values()))
    yield from (cost.reached.limit, f"{cost.reached.pairs:.2f}")


def table(lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [HEADER, ["---"] * len(HEADER), *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


INTRODUCTION = f"""# Instructions of the kernels for GPUs

Made by `make ptx-report`, without a GPU: PTX is assembled by `ptxas` {{version}}, and the loop over
pairs is found in what `nvdisasm` makes of it. Nothing here was measured. Other versions of `ptxas`
give other registers, and now and then an instruction more or less; so does the one in a driver.

- block: rows of a thread x columns of a step of the loop, a line for each kernel; spills: loads and
  stores of the stack in the loop; stack: bytes a thread, of what is saved around the loop; shared:
  bytes a block; blocks, warps: that a multiprocessor holds at a time.
- instructions: of the loop a pair, on the way on which nothing is adjusted, then by pipe: fma
  (multiply-adds), alu (comparisons, selections, integers, logic), xu (exponentials and other
  approximations, conversions), fp64, tensor and tensor64 (products of matrices of TF32 and of
  float64), lsu (loads and stores); the rest are branches and what is
  computed once a warp. Where the loop is one over components of long vectors, all figures are for
  one component. Where vectors are too long for a tile (D = 300), they are of the loop over tiles:
  what prepares columns is among them, and the share is that of the multiplications without zeros.
- limit: the pipe that is busy all the time, or issue: four instructions a clock; pairs: that a
  multiprocessor reaches with it a clock, if nothing waits (an H200 computes
  {H200.pairs_per_second(1) / 1e12:.3f}e12 pairs a second for each).
- share: of a bound, what the arithmetic of the formula and of its reduction would allow alone. Of
  that only what differs from pair to pair counts, and what the assembler can merge counts as one
  instruction: a comparison and a selection are a minimum, rows share the number of columns that a
  mean divides by. Products of matrices count where a kernel computes by them, with as many
  instructions as a product of float32 takes there. Where the loop is one over components, there is
  none.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, or write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="the file to write")
    parser.add_argument("--only", default="", help="cases with this in their name")
    parser.add_argument("--targets", default=",".join(TARGETS), help="targets, with commas")
    options = parser.parse_args(arguments)
    parts = []
    try:
        parts.append(INTRODUCTION.format(version=version()))
        for case in CASES:
            if options.only in case.name:
                made = [compiled(case, target) for target in options.targets.split(",")]
                lines = [line for lowering in made for line in rows(lowering)]
                formulas = [case.formula] if isinstance(case.formula, str) else case.formula
                listed = ", ".join(f"`{formula}`" for formula in formulas)
                parts.append(f"## {case.name}\n\n{listed}\n\n{table(lines)}\n")
    except RedcompError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    text = "\n".join(parts)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text, encoding="utf-8")
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
