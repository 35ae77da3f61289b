"""What a multiprocessor of each generation of GPUs can do: the one model of a GPU's speed.

Schedules are chosen by these figures, and the ceilings of what kernels can reach come from them.

Results a clock: "CUDA C++ Best Practices Guide", table "Throughput of Native Arithmetic
Instructions" (before CUDA 13 in the "CUDA C++ Programming Guide"): rows of 32-bit floating-point
multiply-add; comparison and logic (the guide gives a few instructions of the newest targets more:
the lower figure holds for selections); 64-bit multiply-add; exponential.  Limits: "CUDA Programming
Guide", table "Technical Specifications per Compute Capability"; blocks and units also in the
toolkit's cuda_occupancy.h.  Products of matrices: NVIDIA's white papers of the architectures
(GA100, GA102, Ada, GH100: dense TF32 and FP64 per clock and multiprocessor; Blackwell's FP64 is
taken to be what its other units do).  Those of 16 bits with sums of float32 take as long as those
of TF32, for twice the depth.  Hopper's and Blackwell's 1,024 is what their asynchronous
instructions reach; mma.sync is taken to be as fast there as on GA100, and on relatives of RTX GPUs
as on these.  Without a source that we could check are the float64 rates of sm_72, 87, 101 and 103,
which have no columns in the first table: they are taken from their relatives, or from what is told
of products with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from redcomp.errors import CompilerError
from redcomp.records import record

WARP = 32
REGISTERS = 65536  # 32-bit registers of a multiprocessor, for every target
REGISTER_UNIT = 256  # registers are given to a warp in this unit
PARTITIONS = 4  # parts of a multiprocessor, each with its scheduler and its registers

# The pipes, as `redcomp.ptx.sass` sorts instructions, and the schedulers, which all of them take.
FMA, ALU, FP64, XU, LSU, ISSUE = "fma", "alu", "fp64", "xu", "lsu", "issue"
# Products of matrices of TF32 and of float64, and the multiply-adds of one: m16n8k8, m8n8k4.
TENSOR, TENSOR64 = "tensor", "tensor64"
OF_PRODUCT: Mapping[str, int] = {TENSOR: 16 * 8 * 8, TENSOR64: 8 * 8 * 4}


@record
class Multiprocessor:
    """The pipes and the limits of a multiprocessor.

    fma, alu, fp64, xu   results a clock: multiply-adds of float32; comparisons, selections and
                         logic; float64; approximate functions and conversions
    warps, blocks        that it holds at most
    shared               bytes of shared memory
    shared_unit          unit in which a block gets shared memory
    shared_reserved      bytes of it that the system takes of each block
    tf32, f64            multiply-adds a clock in products of matrices, by dtype; 0 if it has none
    joins_extremes       whether one instruction gives the least of three numbers
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
    tf32: int = 0
    f64: int = 0
    joins_extremes: bool = False

    @property
    def results(self) -> Mapping[str, float]:
        """Results a clock of each pipe, and of all instructions: one a scheduler.

        Shared memory has 32 banks of 4 bytes.
        """
        pipes: dict[str, float] = {FMA: self.fma, ALU: self.alu, FP64: self.fp64, XU: self.xu}
        for pipe, rate in ((TENSOR, self.tf32), (TENSOR64, self.f64)):
            if rate:
                pipes[pipe] = WARP * rate / OF_PRODUCT[pipe]
        return {**pipes, LSU: WARP, ISSUE: PARTITIONS * WARP}

    def clocks(self, pipe: str) -> float:
        """How long a warp's instruction takes a pipe."""
        return WARP / self.results[pipe]


def _row(
    results: tuple[int, int, int, int],
    limits: tuple[int, int, int],
    unit: int,
    reserved: int,
    tf32: int = 0,
    f64: int = 0,
) -> Multiprocessor:
    warps, blocks, shared = limits
    return Multiprocessor(*results, warps, blocks, shared * 1024, unit, reserved, tf32, f64)


#             fma  alu fp64 xu   warps blocks KiB  unit reserved tf32 f64
_VOLTA = _row((64, 64, 32, 16), (64, 32, 96), 256, 0)
_TURING = _row((64, 64, 2, 16), (32, 16, 64), 256, 0)
_AMPERE = _row((64, 64, 32, 16), (64, 32, 164), 128, 1024, 512, 64)
_AMPERE_RTX = _row((128, 64, 2, 16), (48, 16, 100), 128, 1024, 128)
_ORIN = _row((128, 64, 2, 16), (48, 16, 164), 128, 1024, 128)
_ADA = _row((128, 64, 2, 16), (48, 24, 100), 128, 1024, 128)
_HOPPER = _row((128, 64, 64, 16), (64, 32, 228), 128, 1024, 512, 128)
_BLACKWELL = replace(_HOPPER, f64=64, joins_extremes=True)
_BLACKWELL_ULTRA = replace(_BLACKWELL, fp64=2, f64=0)
_THOR = replace(_BLACKWELL, fp64=2, f64=0, warps=48, blocks=24)
_BLACKWELL_RTX = replace(_ADA, joins_extremes=True)

MULTIPROCESSORS: Mapping[int, Multiprocessor] = {
    70: _VOLTA,
    72: _VOLTA,
    75: _TURING,
    80: _AMPERE,
    86: _AMPERE_RTX,
    87: _ORIN,
    89: _ADA,
    90: _HOPPER,
    100: _BLACKWELL,
    101: _THOR,
    103: _BLACKWELL_ULTRA,
    120: _BLACKWELL_RTX,
    121: _BLACKWELL_RTX,
}


def multiprocessor(target: str) -> Multiprocessor:
    """The figures of a target such as "sm_90", or of the last one before it that has some."""
    number = int(target.removeprefix("sm_"))
    known = [n for n in MULTIPROCESSORS if n <= number]
    if not known:
        first = min(MULTIPROCESSORS)
        raise CompilerError(
            f"no figures for the multiprocessors of {target!r}, only from sm_{first}"
        )
    return MULTIPROCESSORS[known[-1]]


@record
class Gpu:
    """A GPU whose speed is quoted: its target, multiprocessors, and clock in Hz."""

    target: str
    processors: int
    clock: float

    def pairs_per_second(self, pairs: float) -> float:
        """From pairs a clock and multiprocessor."""
        return pairs * self.processors * self.clock


H200 = Gpu("sm_90", 132, 1.98e9)
