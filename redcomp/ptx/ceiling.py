"""What a multiprocessor can do: how fast its pipes are, and how many threads it holds.

From the instructions of a loop over pairs follows how many pairs a clock a multiprocessor can
reach at best: each pipe takes a warp's instruction for so many clocks, and four are issued a clock.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from redcomp.errors import CompilerError
from redcomp.ptx.targets import APPROXIMATE

WARP = 32
REGISTERS = 65536  # 32-bit registers of a multiprocessor, for every target
REGISTER_UNIT = 256  # registers are given to a warp in this unit
PARTITIONS = 4  # parts of a multiprocessor, each with its scheduler and its registers

ISSUE = "issue"
ISSUED = PARTITIONS * WARP  # results of the instructions issued a clock: one a scheduler


@dataclass(frozen=True, slots=True)
class Multiprocessor:
    """The pipes and the limits of a multiprocessor.

    fma, alu, fp64, xu   results a clock: multiply-adds of float32; comparisons, selections and
                         logic; float64; approximate functions and conversions
    warps, blocks        that it holds at most
    shared               bytes of shared memory
    shared_unit          unit in which a block gets shared memory
    shared_reserved      bytes of it that the system takes of each block
    """

    fma: int
    alu: int
    fp64: int
    xu: int
    warps: int
    blocks: int
    shared: int
    shared_unit: int
    shared_reserved: int

    @property
    def results(self) -> Mapping[str, int]:
        """Results a clock of each pipe, and of all instructions; shared memory has 32 banks."""
        pipes = {"fma": self.fma, "alu": self.alu, "fp64": self.fp64, "xu": self.xu}
        return {**pipes, "lsu": WARP, ISSUE: ISSUED}


def _row(
    results: tuple[int, int, int, int], limits: tuple[int, int, int], unit: int, reserved: int
) -> Multiprocessor:
    warps, blocks, shared = limits
    return Multiprocessor(*results, warps, blocks, shared * 1024, unit, reserved)


# Results a clock: "CUDA C++ Best Practices Guide", table "Throughput of Native Arithmetic
# Instructions" (before CUDA 13 in the "CUDA C++ Programming Guide"): rows of 32-bit floating-point
# multiply-add; comparison and logic (the guide gives a few instructions of the newest targets more:
# the lower figure holds for selections); 64-bit multiply-add; exponential.  Limits: "CUDA
# Programming Guide", table "Technical Specifications per Compute Capability"; blocks and units also
# in the toolkit's cuda_occupancy.h.
#             fma  alu fp64 xu   warps blocks KiB  unit reserved
MULTIPROCESSORS: Mapping[str, Multiprocessor] = {
    "sm_70": _row((64, 64, 32, 16), (64, 32, 96), 256, 0),
    "sm_75": _row((64, 64, 2, 16), (32, 16, 64), 256, 0),
    "sm_80": _row((64, 64, 32, 16), (64, 32, 164), 128, 1024),
    "sm_86": _row((128, 64, 2, 16), (48, 16, 100), 128, 1024),
    "sm_89": _row((128, 64, 2, 16), (48, 24, 100), 128, 1024),
    "sm_90": _row((128, 64, 64, 16), (64, 32, 228), 128, 1024),
    "sm_100": _row((128, 64, 64, 16), (64, 32, 228), 128, 1024),
    "sm_120": _row((128, 64, 2, 16), (48, 24, 100), 128, 1024),
}


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU whose speed is quoted: its target, multiprocessors, and clock in Hz."""

    target: str
    processors: int
    clock: float

    def pairs_per_second(self, pairs: float) -> float:
        """From pairs a clock and multiprocessor."""
        return pairs * self.processors * self.clock


H200 = Gpu("sm_90", 132, 1.98e9)


@dataclass(frozen=True, slots=True)
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


def multiprocessor(target: str) -> Multiprocessor:
    """The figures of a target, or of the last one before it that has some."""
    number = _number(target)
    known = [name for name in MULTIPROCESSORS if _number(name) <= number]
    if not known:
        first = next(iter(MULTIPROCESSORS))
        raise CompilerError(f"no figures for the multiprocessors of {target!r}, only from {first}")
    return MULTIPROCESSORS[known[-1]]


def _number(target: str) -> int:
    return int(target.removeprefix("sm_"))


def ceiling(work: Mapping[str, float], instructions: float, pairs: float, target: str) -> Ceiling:
    """What a loop can reach, from the instructions of an iteration that has so many pairs.

    `work` is how often a pipe is taken, see `redcomp.ptx.sass.PairLoop.work`.
    """
    taken = {**work, ISSUE: instructions}
    results = multiprocessor(target).results
    return Ceiling({name: taken.get(name, 0) / pairs / rate for name, rate in results.items()})


# Operations of the IR that are no instructions of their own: they are part of an operand.
_FREE = frozenset({"negate", "abs", "bitcast"})

# Operations that are not multiply-adds or the like, by pipe.
_OTHER_PIPES: Mapping[str, str] = {
    **dict.fromkeys(("compare", "select", "and", "or", "xor"), "alu"),
    **dict.fromkeys(("shift_left", "shift_right", "shift_right_logical"), "alu"),
    **dict.fromkeys(("sqrt", "divide", "convert", "floor", "round_even", *APPROXIMATE), "xu"),
}


def ideal(operations: Mapping[str, int], dtype: str, target: str) -> Ceiling:
    """The ceiling of arithmetic operations of the IR a pair, with nothing around them.

    Each is counted as one instruction, so that it is a bound of what any loop for them can reach.
    """
    work: Counter[str] = Counter()
    for name, count in operations.items():
        if name not in _FREE:
            pipe = _OTHER_PIPES.get(name, "fma")
            work["fp64" if dtype == "f64" and pipe == "fma" else pipe] += count
    return ceiling(work, work.total(), 1, target)


@dataclass(frozen=True, slots=True)
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
