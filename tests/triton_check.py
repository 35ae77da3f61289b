"""Run by a test in a process of its own: Triton's kernels by its interpreter, beside float64.

Needs Triton, but no GPU; TRITON_INTERPRET=1 must be set.  Prints a line for each case.
"""

from __future__ import annotations

from triton.runtime.autotuner import Autotuner

from benchmarks.cases import inputs, reference
from benchmarks.competitors import UnsupportedError
from benchmarks.gpu import triton_kernels
from benchmarks.gpu.cases import GPU_CASES
from benchmarks.gpu.competitors import gpu_competitor, tensors
from benchmarks.measure import prepare

ROWS, COLUMNS = 37, 300  # several tiles, and for few rows several parts


def main() -> None:
    """Compare every case that is written in Triton; a wrong result raises WrongResultError."""
    for kernel in vars(triton_kernels).values():
        if isinstance(kernel, Autotuner):
            del kernel.configs[1:]  # nothing can be timed without a GPU
    for row in GPU_CASES:
        case = row.at(ROWS, COLUMNS).case
        arrays = inputs(case)
        try:
            prepare(
                gpu_competitor("Triton"),
                case,
                arrays,
                reference(case, arrays),
                tensors(arrays, "cpu"),
            )
            print("right", row.name)
        except UnsupportedError:
            print("absent", row.name)


if __name__ == "__main__":
    main()
