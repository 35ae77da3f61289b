"""Random cases on GPUs against the float64 reference: needs PyTorch, no GPU.

`scripts/fuzz.py --backend GPU` goes through many more of them.
"""

from __future__ import annotations

import pytest
from differential import check_case
from on_gpu import GPUS, STAND_INS, on_gpu
from random_cases import CASES_A_PROGRAM, ENTRIES, FEW_ENTRIES, program_text, random_case

pytestmark = pytest.mark.slow

PROGRAMS = 4
SETUPS = [
    *(pytest.param(*pair) for pair in zip(range(PROGRAMS), PROGRAMS * [*STAND_INS], strict=False)),
    *(pytest.param(n, *gpu.values, marks=gpu.marks) for gpu in GPUS for n in range(10 * PROGRAMS)),
]


@pytest.mark.sampled(12)
@pytest.mark.parametrize(("program", "machine"), SETUPS)
def test_cases(program: int, machine: str) -> None:
    """On stand-ins the first cases of a program, smaller ones; on GPUs all."""
    is_interpreted = machine in STAND_INS
    first = program * CASES_A_PROGRAM
    for seed in range(first, first + (2 if is_interpreted else CASES_A_PROGRAM)):
        case = random_case(seed, FEW_ENTRIES if is_interpreted else ENTRIES)
        try:
            with on_gpu(machine):
                check_case(case)
        except Exception as error:
            raise AssertionError(f"case {seed}: {error}\n{program_text(case)}") from error
