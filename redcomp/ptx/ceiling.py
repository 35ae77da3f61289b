"""What a loop over pairs can reach, and how many threads a multiprocessor holds.

From the instructions of a loop follows how many pairs a clock a multiprocessor can reach at best:
each pipe takes a warp's instruction for so many clocks, and four are issued a clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from redcomp.ir import BINDERS, Nest, topological
from redcomp.ptx.multiprocessor import (
    ISSUE,
    PARTITIONS,
    REGISTER_UNIT,
    REGISTERS,
    WARP,
    multiprocessor,
)
from redcomp.ptx.work import least_work
from redcomp.records import record


@record
class Ceiling:
    """Clocks of a multiprocessor a pair, by pipe and for issuing; the longest is the limit."""

    clocks: Mapping[str, float]

    @property
    def limit(self) -> str:
        """The pipe that is busy all the time, or "issue"."""
        return max(self.clocks, key=lambda name: self.clocks[name])

    @property
    def pairs(self) -> float:
        """Pairs a clock and multiprocessor; infinity for a pair that needs nothing."""
        clocks = self.clocks[self.limit]
        return 1.0 / clocks if clocks else math.inf


def ceiling(work: Mapping[str, float], instructions: float, pairs: float, target: str) -> Ceiling:
    """What a loop can reach, from the instructions of an iteration that has so many pairs.

    `work` is how often a pipe is taken, see `redcomp.ptx.sass.MachineLoop.work`.
    """
    taken = {**work, ISSUE: instructions}
    results = multiprocessor(target).results
    return Ceiling({name: taken.get(name, 0) / pairs / rate for name, rate in results.items()})


def ideal(nest: Nest, target: str) -> Ceiling | None:
    """A bound of what any loop for a nest's pairs can reach, see `redcomp.ptx.work.least_work`.

    None where the loops are over components of pairs: their machine code is counted for one
    component.  Adjustments, which are rare, are not counted.
    """
    steps = [state.step for state in nest.states]
    if any(value.op in BINDERS for value in topological((*nest.guards, *steps))):
        return None
    work = least_work(nest, multiprocessor(target))
    return ceiling(work, work[ISSUE], 1, target)


@record
class Occupancy:
    """Blocks and warps that a multiprocessor holds at a time, and the share of its places."""

    blocks: int
    warps: int
    share: float


def occupancy(target: str, threads: int, registers: int, shared: int) -> Occupancy:
    """How many blocks fit: of so many threads, registers a thread, bytes of shared memory."""
    limits = multiprocessor(target)
    warps = _round_up(threads, WARP) // WARP
    warp_registers = _round_up(max(registers, 1) * WARP, REGISTER_UNIT)
    register_warps = REGISTERS // PARTITIONS // warp_registers * PARTITIONS
    block_shared = _round_up(shared + limits.shared_reserved, limits.shared_unit)
    blocks = min(limits.blocks, limits.warps // warps, register_warps // warps)
    if block_shared:
        blocks = min(blocks, limits.shared // block_shared)
    return Occupancy(blocks, blocks * warps, blocks * warps / limits.warps)


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
