"""Count the instructions of the kernels for GPUs, and say how close to the ceiling they can come.

    python scripts/ptx_report.py                             print the tables
    python scripts/ptx_report.py --output docs/benchmarks/ptx.md
    python scripts/ptx_report.py --only Gaussian --targets sm_90

No GPU is needed, but NVIDIA's `ptxas` and `nvdisasm`: from PATH, or from the packages of the "test"
extra.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redcomp.errors import RedcompError
from redcomp.ir import topological
from redcomp.numpy import Genred
from redcomp.ptx.assemble import Resources, assemble, disassemble
from redcomp.ptx.ceiling import H200, Ceiling, Occupancy, ceiling, ideal, occupancy
from redcomp.ptx.sass import PairLoop, pair_loop

TARGETS = ("sm_75", "sm_80", "sm_90", "sm_100", "sm_120")
KERNEL = "redcomp_run"
PIPES = ("fma", "alu", "xu", "fp64", "lsu")

_THREADS = re.compile(r"^\.(?:max|req)ntid (\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Case:
    """A formula and its reduction."""

    name: str
    formula: str
    aliases: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "float32"


def _points(dim: int, *more: str) -> tuple[str, ...]:
    return (f"x = Vi({dim})", f"y = Vj({dim})", *more)


GAUSSIAN = "Exp(-SqDist(x, y)) * b"
CASES = (
    *(
        Case(f"Gaussian, D = {dim}", GAUSSIAN, _points(dim, "b = Vj(1)"))
        for dim in (1, 3, 8, 16, 64)
    ),
    Case("Gaussian of a width", "Exp(-g * SqDist(x, y)) * b", _points(3, "b = Vj(1)", "g = Pm(1)")),
    Case("Laplacian", "Exp(-Sqrt(SqDist(x, y))) * b", _points(3, "b = Vj(1)")),
    Case("LogSumExp", "-SqDist(x, y)", _points(3), {"reduction_op": "LogSumExp"}),
    Case("ArgMin", "SqDist(x, y)", _points(3), {"reduction_op": "ArgMin"}),
    Case("KMin, K = 10", "SqDist(x, y)", _points(3), {"reduction_op": "KMin", "opt_arg": 10}),
    Case(
        "Gradient of the Gaussian",
        f"Grad({GAUSSIAN}, x, e)",
        _points(3, "b = Vj(1)", "e = Vi(1)"),
    ),
    Case(
        "Softmax weights, D = 16",
        "x | y",
        _points(16, "b = Vj(16)"),
        {"reduction_op": "SumSoftMaxWeight", "formula2": "b"},
    ),
    Case("Gaussian, D = 3, float64", GAUSSIAN, _points(3, "b = Vj(1)"), dtype="float64"),
)


@dataclass(frozen=True, slots=True)
class Figures:
    """What is known of one kernel for one target.

    pairs  of an iteration of the loop
    best   the ceiling of the arithmetic alone; None where the operations are not those of an
           iteration: some are for rare adjustments, or the loop is one over components
    """

    target: str
    pairs: int
    loop: PairLoop
    resources: Resources
    occupancy: Occupancy
    reached: Ceiling
    best: Ceiling | None


def figures(ptx: str, target: str, pairs: int, best: Ceiling | None) -> Figures:
    """The figures of PTX whose loop takes so many pairs at a time."""
    assembled = assemble(ptx, target)
    loop = pair_loop(disassemble(assembled.code), KERNEL)
    threads = _THREADS.search(ptx)
    if threads is None:
        raise ValueError("the PTX does not say how many threads a block has")
    taken = assembled.kernels[KERNEL]
    return Figures(
        target,
        pairs,
        loop,
        taken,
        occupancy(target, int(threads.group(1)), taken.registers, taken.shared),
        ceiling(loop.work, len(loop.lines), pairs, target),
        best,
    )


def compiled(case: Case, target: str) -> tuple[Figures, str]:
    """A case's figures for a target, and its schedule."""
    operation = Genred(case.formula, list(case.aliases), axis=1, **case.options)
    lowering = operation.lower(case.dtype, target=target)
    schedule = lowering.schedule
    nest = lowering.nest
    is_whole = not nest.guards and all(v.op != "fold" for v in topological(nest.pairs))
    best = ideal(lowering.operations, lowering.dtype, target) if is_whole else None
    made = figures(lowering.asm, target, schedule.rows * schedule.cols, best)
    return made, f"{schedule.rows} x {schedule.cols}"


HEADER = (
    "target", "block", "registers", "spills", "stack", "shared", "warps",
    "instructions", *PIPES, "rest", "limit", "pairs", "share",
)  # fmt: skip


def cells(made: Figures, block: str) -> Iterator[str]:
    """A row of the table."""
    taken, pipes = made.resources, made.loop.pipes
    rest = len(made.loop.lines) - sum(pipes[name] for name in PIPES)
    yield from (made.target, block, str(taken.registers))
    yield from map(str, (taken.spill_stores + taken.spill_loads, taken.stack_frame, taken.shared))
    yield f"{made.occupancy.warps} ({made.occupancy.share:.0%})"
    counts = [len(made.loop.lines), *(pipes[name] for name in PIPES), rest]
    yield from (f"{count / made.pairs:.2f}" for count in counts)
    yield from (made.reached.limit, f"{made.reached.pairs:.2f}")
    yield "" if made.best is None else f"{made.reached.pairs / made.best.pairs:.0%}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [HEADER, ["---"] * len(HEADER), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


INTRODUCTION = f"""# Instructions of the kernels for GPUs

Made by `make ptx-report`, without a GPU: PTX is assembled by `ptxas`, and the loop over pairs is
found in what `nvdisasm` makes of it. Nothing here was measured.

- block: rows of a thread x columns of a step of the loop; spills and stack: bytes a thread; shared:
  bytes a block; warps: that a multiprocessor holds at a time.
- instructions: of the loop a pair, on the way on which nothing is adjusted, then by pipe: fma
  (multiply-adds), alu (comparisons, selections, integers, logic), xu (exponentials and other
  approximations, conversions), fp64, lsu (loads and stores); the rest are branches and what is
  computed once a warp. Where the loop is one over components of long vectors, all figures are for
  one component.
- limit: the pipe that is busy all the time, or issue: four instructions a clock; pairs: that a
  multiprocessor reaches with it a clock, if nothing waits (an H200 computes
  {H200.pairs_per_second(1) / 1e12:.3f}e12 pairs a second for each).
- share: of what the arithmetic operations of the formula and of its reduction would allow alone.
  It is more than 100 % where the assembler merges some: a comparison and a selection are a minimum.
  Where states are rarely adjusted, or the loop is one over components, there is none.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, or write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="the file to write")
    parser.add_argument("--only", default="", help="cases with this in their name")
    parser.add_argument("--targets", default=",".join(TARGETS), help="targets, with commas")
    options = parser.parse_args(arguments)
    parts = [INTRODUCTION]
    try:
        for case in CASES:
            if options.only in case.name:
                made = [compiled(case, target) for target in options.targets.split(",")]
                rows = [list(cells(*row)) for row in made]
                parts.append(f"## {case.name}\n\n`{case.formula}`\n\n{table(rows)}\n")
    except RedcompError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    text = "\n".join(parts)
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
