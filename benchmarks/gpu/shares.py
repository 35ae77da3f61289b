"""How much of what the hardware can do at best a measured time is.

Two measures, each a share of the pairs a second that the pipes of all multiprocessors allow at the
largest clock: of the formula's own arithmetic, see `GpuCase.work`, for any competitor; and, for
redcomp, how busy each pipe was by the instructions in the disassembly of its loop over pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.cases import Case
from benchmarks.competitors import formula_of
from benchmarks.gpu.cases import GpuCase
from redcomp.backends.gpu import GpuLowering
from redcomp.frontend.reductions.genred import DTYPES
from redcomp.ir import topological
from redcomp.ptx.assemble import assemble, disassemble
from redcomp.ptx.ceiling import Ceiling, ceiling
from redcomp.ptx.multiprocessor import Gpu
from redcomp.ptx.sass import pair_loop

KERNEL = "redcomp_run"


@dataclass(frozen=True, slots=True)
class Share:
    """The pipe that limits, and the share of its ceiling."""

    limit: str
    share: float


def of_formula(row: GpuCase, pairs_per_second: float, gpu: Gpu) -> Share | None:
    """The share of what the formula's arithmetic allows; None where it is not counted."""
    if not row.work:
        return None
    best = ceiling(row.work, sum(row.work.values()), 1, gpu.target)
    return Share(best.limit, pairs_per_second / gpu.pairs_per_second(best.pairs))


def busy(own: Ceiling, pairs_per_second: float, gpu: Gpu) -> Mapping[str, float]:
    """The part of the time that each pipe is busy, and that instructions are issued."""
    a_pair = pairs_per_second / gpu.pairs_per_second(1.0)
    return {name: clocks * a_pair for name, clocks in own.clocks.items()}


def of_code(case: Case, target: str) -> Ceiling | str:
    """What the instructions of redcomp's loop allow; or why they do not say it.

    Raises ToolError where there is no assembler or no disassembler.
    """
    if case.gradient:
        return "several kernels"
    from redcomp.numpy import Genred

    text, aliases, options = formula_of(case)
    reduction = Genred(text, aliases, axis=1, **options).reduction
    lowering = reduction.lower(DTYPES[case.dtype], target, case.rows)
    assert isinstance(lowering, GpuLowering)
    if len(lowering.planned) > 1:
        return "several kernels"
    if any(value.op == "fold" for value in topological(lowering.nest.pairs)):
        return "a loop over components in the loop over pairs"
    loop = pair_loop(disassemble(assemble(lowering.asm, target).code), KERNEL)
    pairs = lowering.schedule.rows * lowering.schedule.cols
    return ceiling(loop.work, len(loop.lines), pairs, target)
