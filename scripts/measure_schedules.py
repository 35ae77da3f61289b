"""Measure what docs/decisions/0062 quotes, on a machine with AVX2 (or with REDCOMP_TARGET=avx2).

Variants of a kernel take turns in one process, in one thread; each line has their least processor
times, in ns per pair (of wide sums: per pair and column), and vector instructions per vector.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from redcomp.backends.host import HostLowering
from redcomp.compile import PIPELINE
from redcomp.numpy import Genred
from redcomp.passes.pipeline import parse_pipeline
from redcomp.runtime.tasks import whole
from redcomp.target import Native

ROUNDS = 15
GAUSSIAN = "Exp(-SqDist(x,y))*b"
SUMS = (GAUSSIAN, "Exp(-Norm2(x-y))*b", "SqDist(x,y)*b", "Sin(x|y)*b", "b/(1+SqDist(x,y))")


def lowered(formula: str, dim: int, columns: int, dtype: str) -> HostLowering:
    """The compilation of a sum over points and a vector of the column."""
    aliases = [f"x = Vi({dim})", f"y = Vj({dim})", f"b = Vj({columns})", "s = Pm(1)"]
    used = [alias for alias in aliases if alias[0] in formula.replace("Exp", "").replace("Sin", "")]
    made = Genred(formula, used, axis=1).reduction.lower(dtype)
    assert isinstance(made, HostLowering)
    return made


def compare(label: str, variants: Sequence[HostLowering], size: int, columns: int = 1) -> None:
    """A line with the least time of each variant, which are called in turn."""
    dtype = {"f32": np.float32, "f64": np.float64}[variants[0].nest.dtype]
    rng = np.random.default_rng(0)
    shapes = [
        (v.dim,) if v["kind"] == "parameter" else (size, v.dim) for v in variants[0].kernel.params
    ]
    given = [rng.random(shape).astype(dtype) + dtype(0.5) for shape in shapes]
    result = np.empty((size, columns), dtype)
    kernels = [variant.load() for variant in variants]
    least = [float("inf")] * len(kernels)
    for _ in range(ROUNDS):
        for n, kernel in enumerate(kernels):
            start = time.process_time()
            kernel(whole(size, size), [result.ctypes.data], [a.ctypes.data for a in given])
            least[n] = min(least[n], time.process_time() - start)
    found = (1e9 * seconds / (size * size * columns) for seconds in least)
    pairs = zip(found, variants, strict=True)
    print(label, *(f"{ns:.3f} ({v.stats.instructions:.1f})" for ns, v in pairs), flush=True)


def in_block(chosen: HostLowering, rows: int, cols: int, **other: int) -> HostLowering:
    """The compilation with another block of rows x columns."""
    chunk = chosen.schedule.chunk
    made = replace(chosen.schedule, rows=rows, cols=cols, chunk=max(rows, chunk - chunk % rows))
    return chosen.with_schedule(replace(made, **other))


def wide() -> None:
    """Sums of many columns: as they were, in the block that is chosen alone, and as chosen."""
    for dtype, size in (("f32", 4), ("f64", 8)):
        for columns in (128, 512, 2048):
            chosen = lowered(GAUSSIAN, 3, columns, dtype)
            width = chosen.schedule.lanes * 8 * columns
            before = {
                "tile": max(32, min(256, 65536 // (size * (columns + 3)) // 32 * 32)),
                "chunk": max(1, 262144 // width),
            }
            rows = chosen.schedule.rows
            own = before | {"chunk": max(rows, before["chunk"] // rows * rows)}
            variants = in_block(chosen, 1, 8, **before), in_block(chosen, rows, 4, **own), chosen
            compare(f"{columns} columns, {dtype}:", variants, 1000, columns)


def narrow() -> None:
    """Sums of one column, in steps of 4 x 2 and as chosen."""
    for formula in SUMS:
        for dtype in ("f32", "f64"):
            chosen = lowered(formula, 3, 1, dtype)
            compare(f"{formula}, {dtype}:", (in_block(chosen, 4, 2), chosen), 2000)


def divider() -> None:
    """Roots by the divider and by AVX2's estimate in one step, which is not yet exact; quotients.

    Of quotients, by inverses that rows share, and by the divider.
    """
    names = [step.name for step in PIPELINE]
    later = names.index("estimate_roots") + 1
    estimating = parse_pipeline(",".join([*names[:later], "expand", *names[later:]]))
    dividing = parse_pipeline(",".join(name for name in names if name != "share_inverses"))
    estimate = Native("llvm.x86.avx.rsqrt.ps.256", (0,))
    for formula in ("Norm2(x-y)*b", "Exp(-Norm2(x-y))*b", "Matern52(SqDist(x,y))*b"):
        exact = lowered(formula, 3, 1, "f32")
        target = replace(
            exact.target,
            primitives=exact.target.primitives | {"rsqrt_estimate"},
            native={("rsqrt_estimate", "f32"): estimate},
            hidden_by={"f32": 1000},
        )
        context = replace(exact.context, target=target)
        other = HostLowering(exact.kernel, context, estimating)
        compare(f"{formula}, f32:", (exact, other), 2000)
    for formula in (f"{GAUSSIAN[:-3]}/0.98)*b", f"{GAUSSIAN[:-3]}/s)*b", "Sum((x-y)/s)*b"):
        for dtype in ("f32", "f64"):
            shared = lowered(formula, 3, 1, dtype)
            other = HostLowering(shared.kernel, shared.context, dividing)
            compare(f"{formula}, {dtype}:", (shared, other), 2000)


if __name__ == "__main__":
    os.environ["REDCOMP_NUM_THREADS"] = "1"
    wide()
    narrow()
    divider()
