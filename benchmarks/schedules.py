"""Compare schedules: `python -m benchmarks.schedules FORMULA ALIAS... [--blocks 4x2 1x1]`.

Prints pairs a second of one thread (processor time, so that a busy machine disturbs it less) for
each block of rows x columns; this is how those in `redcomp.llvm_backend.host.schedule` were chosen.
With `--unrolling 8 16`, for the chosen block of each number of components that are written out.
`--order 2` measures the second derivative with respect to the first variable.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time

import numpy as np

from redcomp.backends.host import HostLowering
from redcomp.frontend.reductions import derivatives
from redcomp.numpy import Genred
from redcomp.runtime.tasks import whole
from redcomp.target import Unrolling

BLOCKS = ("1x1", "2x1", "4x1", "1x2", "2x2", "4x2", "3x3", "4x4", "5x3", "8x1")


def main() -> None:
    """Parse the command line, measure each block and print a line for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.schedules", description=__doc__)
    parser.add_argument("formula")
    parser.add_argument("aliases", nargs="+")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--size", type=int, default=4000, help="rows and columns")
    parser.add_argument("--blocks", nargs="+", default=BLOCKS)
    parser.add_argument("--unrolling", nargs="+", type=int, default=[])
    parser.add_argument("--order", type=int, default=0)
    arguments = parser.parse_args()
    os.environ["REDCOMP_NUM_THREADS"] = "1"
    os.environ["REDCOMP_CACHE_DIR"] = "off"
    for most in arguments.unrolling:
        print(
            f"{most:5} components: {measure(arguments, written_out(arguments, most))}", flush=True
        )
    blocks = () if arguments.unrolling else arguments.blocks
    for block in blocks:
        rows, cols = map(int, block.split("x"))
        print(measure(arguments, in_block(arguments, rows, cols)), flush=True)


def lowered(arguments: argparse.Namespace) -> HostLowering:
    """The compilation of the formula or its derivative, as it is chosen."""
    reduction = Genred(arguments.formula, arguments.aliases, axis=1).reduction
    for _ in range(arguments.order):
        reduction = derivatives.gradient(reduction, (0,), (True,))
    made = reduction.lower({"float32": "f32", "float64": "f64"}[arguments.dtype])
    assert isinstance(made, HostLowering)
    return made


def in_block(arguments: argparse.Namespace, rows: int, cols: int) -> HostLowering:
    """The compilation with a block of rows x columns."""
    lowering = lowered(arguments)
    chosen = lowering.schedule
    chunk = max(rows, chosen.chunk - chosen.chunk % rows)
    return lowering.with_schedule(dataclasses.replace(chosen, rows=rows, cols=cols, chunk=chunk))


def written_out(arguments: argparse.Namespace, most: int) -> HostLowering:
    """The compilation with vectors of at most so many components written out."""
    lowering = lowered(arguments)
    unrolling = dict.fromkeys(("f32", "f64"), (Unrolling(most, most),))
    target = dataclasses.replace(lowering.target, unrolling=unrolling)
    lowering.context = dataclasses.replace(lowering.context, target=target)
    return lowering


def measure(arguments: argparse.Namespace, lowering: HostLowering) -> str:
    """One line of results."""
    size, dtype = arguments.size, np.dtype(arguments.dtype)
    start = time.thread_time()
    kernel = lowering.load()
    compiled = time.thread_time() - start
    random = np.random.default_rng(0)
    arrays = [
        random.random((size, v.dim) if v["kind"] != "parameter" else v.dim).astype(dtype)
        for v in lowering.kernel.params
    ]
    outputs = [np.empty((size, r.dim), dtype) for r in lowering.nest.results]
    pointers = [a.ctypes.data for a in arrays]
    times = []
    for _ in range(5):
        start = time.process_time()
        kernel(whole(size, size), [o.ctypes.data for o in outputs], pointers)
        times.append(time.process_time() - start)
    rate = size * size / min(times) / 1e9
    instructions = lowering.stats.instructions
    rows, cols = lowering.block
    mark = " (chosen)" if lowering.schedule == lowering.choose_schedule() else ""
    return (
        f"{rows}x{cols}: {rate:.2f}e9 pairs/s a thread, {instructions:.1f} instructions, "
        f"compiled in {compiled * 1e3:.0f} ms{mark}"
    )


if __name__ == "__main__":
    main()
