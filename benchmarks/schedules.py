"""Compare schedules: `python -m benchmarks.schedules FORMULA ALIAS... [--blocks 4x2 1x1]`.

Prints pairs a second of one thread (its own time, so that a busy machine disturbs it less) for each
block of rows x columns; this is how the blocks in `redcomp.llvm_backend.schedule` were chosen.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time

import numpy as np

from redcomp.numpy import Genred
from redcomp.runtime.tasks import whole

BLOCKS = ("1x1", "2x1", "4x1", "1x2", "2x2", "4x2", "3x3", "4x4", "5x3", "8x1")


def main() -> None:
    """Parse the command line, measure each block and print a line for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.schedules", description=__doc__)
    parser.add_argument("formula")
    parser.add_argument("aliases", nargs="+")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--size", type=int, default=4000, help="rows and columns")
    parser.add_argument("--blocks", nargs="+", default=BLOCKS)
    arguments = parser.parse_args()
    os.environ["REDCOMP_NUM_THREADS"] = "1"
    for block in arguments.blocks:
        rows, cols = map(int, block.split("x"))
        print(measure(arguments, rows, cols), flush=True)


def measure(arguments: argparse.Namespace, rows: int, cols: int) -> str:
    """One line of results for a block."""
    size, dtype = arguments.size, np.dtype(arguments.dtype)
    lowering = Genred(arguments.formula, arguments.aliases, axis=1).lower(arguments.dtype)
    chosen = lowering.schedule
    chunk = max(rows, chosen.chunk - chosen.chunk % rows)
    schedule = dataclasses.replace(chosen, rows=rows, cols=cols, chunk=chunk)
    lowering = lowering.with_schedule(schedule)
    random = np.random.default_rng(0)
    arrays = [
        random.random((size, v.dim) if v["kind"] != "parameter" else v.dim).astype(dtype)
        for v in lowering.kernel.params
    ]
    outputs = [np.empty((size, o.value.dim), dtype) for o in lowering.kernel.outputs]
    kernel = lowering.load()
    pointers = [a.ctypes.data for a in arrays]
    times = []
    for _ in range(5):
        start = time.thread_time()
        kernel(whole(size, size), [o.ctypes.data for o in outputs], pointers)
        times.append(time.thread_time() - start)
    rate = size * size / min(times) / 1e9
    instructions = lowering.stats.instructions
    mark = " (chosen)" if schedule == chosen else ""
    return f"{rows}x{cols}: {rate:.2f}e9 pairs/s a thread, {instructions:.1f} instructions{mark}"


if __name__ == "__main__":
    main()
