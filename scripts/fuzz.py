"""Compare random cases with the dense float64 reference, for as long as one likes.

    python scripts/fuzz.py --cases 20000 --seed 0     from case 0 on, on all processors
    python scripts/fuzz.py --cases 1 --seed 4711      one case again
    python scripts/fuzz.py --backend GPU              smaller ones on a GPU; without one its code is
                                                      interpreted, and what it does is checked

A case that fails is made smaller and printed as a program.  A process that dies or hangs is a
failure of its case too, and another one goes on.  The exit code is 1 if anything failed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import torch
from differential import check_case
from on_gpu import REAL, STAND_INS, on_gpu
from random_cases import CASES_A_PROGRAM, ENTRIES, FEW_ENTRIES, Case, program_text, random_case
from smaller_cases import shrink
from worker_pool import FAILED, Pool

HOST = "the host"


def failure(case: Case, machine: str) -> str | None:
    """What is wrong, in a line; None if nothing is."""
    try:
        check_on(case, machine)
    except Exception as error:  # noqa: BLE001  any exception at all is a failure of the case
        return f"{type(error).__name__}: {error}"
    return None


def report(case: Case, machine: str, message: str) -> str:
    """A failure as text: the case's number, and a smaller one that fails alike as a program."""
    kind = message.split(":", 1)[0]
    small = shrink(case, lambda other: (failure(other, machine) or "").startswith(kind))
    lines = (
        f"{FAILED} case {case.seed} on {machine}: {message}",
        f"# smaller: {failure(small, machine)}",
        f"# {small!r}",
    )
    return "\n".join((*lines, program_text(small)))


def case_on(seed: int, machine: str) -> Case:
    """The case of a number, small where it is interpreted."""
    return random_case(seed, FEW_ENTRIES if machine in STAND_INS else ENTRIES)


def check_on(case: Case, machine: str) -> bool:
    """Whether a case says anything that a machine computes; raises where it is wrong."""
    if machine == HOST:
        return check_case(case)
    with on_gpu(machine):
        return check_case(case)


@dataclass(frozen=True)
class Comparison:
    """Cases that are compared with the reference.

    Programs take turns on the machines: the host, or those that `on_gpu` knows.
    """

    machines: tuple[str, ...]
    share: int = 20 * CASES_A_PROGRAM
    hangs_after: float = 300.0

    def begin(self) -> None:
        torch.set_num_threads(1)

    def __call__(self, seed: int) -> str:
        machine = self.machine(seed)
        case = case_on(seed, machine)
        try:
            return "" if check_on(case, machine) else "noisy"
        except Exception as error:  # noqa: BLE001  any exception at all is a failure of the case
            return report(case, machine, f"{type(error).__name__}: {error}")

    def died(self, seed: int, why: str) -> str:
        machine = self.machine(seed)
        text = program_text(case_on(seed, machine))
        return f"{FAILED} case {seed} on {machine}: {why}\n{text}"

    def machine(self, seed: int) -> str:
        """The machine of a case."""
        return self.machines[seed // CASES_A_PROGRAM % len(self.machines)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cases that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0, help="number of the first case")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--backend", choices=("CPU", "GPU"), default="CPU")
    options = parser.parse_args(argv)
    began = time.monotonic()
    machines = (HOST,) if options.backend == "CPU" else REAL or tuple(STAND_INS)
    pool = Pool(Comparison(machines), range(options.seed, options.seed + options.cases))
    counts = pool.run(options.processes)
    print(f"{dict(counts)} in {time.monotonic() - began:.0f} s")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
