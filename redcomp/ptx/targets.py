"""NVIDIA GPUs as targets: a lane is a thread, so that values are scalars.

PTX for one GPU runs on every later one, and PTX of one version with every driver that knows this
version or a later one.  So the code for a GPU is written in the oldest version that has it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

from redcomp.errors import ArgumentError
from redcomp.ops.table import primitives
from redcomp.ptx.mma import kept_dims, product_dims, update_limits
from redcomp.records import record
from redcomp.target import LLVM_OPTIONS, LLVM_PASSES, Height, Native, Target, Unrolling, height_of

TRIPLE = "nvptx64-nvidia-cuda"
# Of 32 bits, of one thread.
REGISTERS = 255
# Most states of a row in a part: with a row and its results of 64 components, with fewer results,
# and with registers left for more rows.  And the vectors that are written out: results may be wide,
# since they are divided; lists cannot be.
CARRIED: Mapping[str, tuple[int, ...]] = {
    "f32": (72, 48, 24, 16),
    "f64": (36, 24, 12, 8),
}
UNROLLING: Mapping[str, tuple[Unrolling, ...]] = {
    dtype: tuple(
        Unrolling(operands, carried, carried)
        for operands, carried in ((most, 256), (16, 256), (most, 16), (16, 16), (16, 4))
    )
    for dtype, most in (("f32", 64), ("f64", 32))
}


@record
class Capability:
    """A generation of GPUs: its number, the first PTX version that has it, and LLVM release."""

    number: int
    ptx: int
    llvm: int = 20


# PTX versions: PTX ISA, section "Release Notes".  LLVM: the release whose `llc` knows the name.
CAPABILITIES = (
    Capability(70, 60),
    Capability(72, 61),
    Capability(75, 63),
    Capability(80, 70),
    Capability(86, 71),
    Capability(87, 74),
    Capability(89, 78),
    Capability(90, 78),
    Capability(100, 86),
    Capability(101, 86),
    Capability(103, 88, llvm=22),
    Capability(120, 87),
    Capability(121, 88, llvm=22),
)

# Instructions on float32 that round less well than the exact ones; their errors are in the rows.
APPROXIMATE: Mapping[str, str] = {
    "exp2_approx": "llvm.nvvm.ex2.approx.ftz.f",
    "log2_approx": "llvm.nvvm.lg2.approx.ftz.f",
    "reciprocal_approx": "llvm.nvvm.rcp.approx.ftz.f",
    "sqrt_approx": "llvm.nvvm.sqrt.approx.ftz.f",
    "rsqrt_approx": "llvm.nvvm.rsqrt.approx.ftz.f",
    "sin_approx": "llvm.nvvm.sin.approx.ftz.f",
    "cos_approx": "llvm.nvvm.cos.approx.ftz.f",
}

# Of float64 there is no such instruction.
EXTREMES: Mapping[tuple[str, str], str] = {
    (predicate, "f32"): f"llvm.{spelling}.f32"
    for predicate, spelling in (
        ("olt", "minnum"),
        ("ult", "minnum"),
        ("ogt", "maxnum"),
        ("ugt", "maxnum"),
    )
}

_NAME = re.compile(r"sm_([1-9]\d+)")


def is_gpu(name: str) -> bool:
    """Whether a target's name is in the form of a GPU's."""
    return name.startswith("sm_")


@functools.lru_cache(maxsize=1024)  # each call asks
def height_for(target: str, rows: int | None) -> Height:
    """The code that calls with so many rows get on a target of a name."""
    return height_of(rows, has_blocks=is_gpu(target))


@functools.cache
def gpu_target(name: str, use_fast_math: bool) -> Target:
    """The target for "sm_70" and later ones; those unknown run the code of the last before them."""
    match = _NAME.fullmatch(name)
    known = [c for c in CAPABILITIES if match and c.number <= int(match[1])]
    if not known:
        listed = ", ".join(f"sm_{c.number}" for c in CAPABILITIES)
        raise ArgumentError(f"unknown GPU target {name!r}; known ones: {listed}")
    from llvmlite.binding import llvm_version_info  # only compilations need LLVM

    spelt = [c for c in known if c.llvm <= llvm_version_info[0]]
    fast = APPROXIMATE if use_fast_math else {}
    return Target(
        f"sm_{known[-1].number}",
        TRIPLE,
        f"sm_{spelt[-1].number}",
        f"+ptx{spelt[-1].ptx}",
        vector_bits=0,
        registers=REGISTERS,
        primitives=primitives("fma", "rounding") | frozenset(fast),
        negates_operands=True,
        native={(op, "f32"): Native(intrinsic, (0,)) for op, intrinsic in fast.items()},
        extremes=EXTREMES,
        unrolling=UNROLLING,
        carried=CARRIED,
        hoists_vectors=False,
        constants_space=1,  # global memory
        splits_lists=("few", "short", "many"),
        copies_asynchronously=spelt[-1].number >= 80,
        llvm_passes=("sroa", *LLVM_PASSES),
        llvm_options=("--nvptx-short-ptr", *LLVM_OPTIONS),
        product_dims=product_dims(f"sm_{known[-1].number}"),
        kept_dims=kept_dims(),
        update_limits=update_limits(f"sm_{known[-1].number}"),
    )
