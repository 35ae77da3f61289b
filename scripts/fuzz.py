"""Compare random cases with the dense float64 reference, for as long as one likes.

    python scripts/fuzz.py --cases 20000 --seed 0     from case 0 on, on all processors
    python scripts/fuzz.py --cases 1 --seed 4711      one case again
    python scripts/fuzz.py --backend GPU              smaller ones on a GPU; without one its code is
                                                      interpreted, and what it does is checked
    python scripts/fuzz.py --structures               dimensions, lists, sizes, not operations
    python scripts/fuzz.py --branches                 which branches of the schedules and skeletons
                                                      cases of structure do not take

A case that fails is made smaller and printed as a program.  A process that dies or hangs is a
failure of its case too, and another one goes on.  The exit code is 1 if anything failed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import random_structures
import torch
from branches import Branches
from differential import check_case
from limit_examples import EXAMPLES
from on_gpu import REAL, STAND_INS, on_gpu
from random_cases import CASES_A_PROGRAM, ENTRIES, FEW_ENTRIES, Case, program_text, random_case
from random_structures import (
    CASES_A_STRUCTURE,
    StructureCase,
    check_structure,
    compiled,
    random_structure,
)
from smaller_cases import shrink
from worker_pool import FAILED, Pool

import redcomp
from redcomp.errors import SizeError

HOST = "the host"
SCHEDULES_AND_SKELETONS = (
    *(f"llvm_backend/host/{name}.py" for name in ("schedule", "skeleton", "pair_loop", "pending")),
    "llvm_backend/pair_step.py",
    *("ptx/schedule.py", "ptx/skeleton.py"),
)


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
    """The case of a number, small where it is interpreted; those of structure are negative."""
    if seed < 0:
        sizes = (random_structures.FEW_ENTRIES,) if machine in STAND_INS else ()
        return random_structure(-1 - seed, *sizes)
    return random_case(seed, FEW_ENTRIES if machine in STAND_INS else ENTRIES)


def check_on(case: Case, machine: str) -> bool:
    """Whether a case says anything that a machine computes; raises where it is wrong."""
    check = check_structure if isinstance(case, StructureCase) else check_case
    if machine == HOST:
        return check(case)
    with on_gpu(machine):
        return check(case)


@dataclass(frozen=True)
class Comparison:
    """Cases that are compared with the reference.

    Programs take turns on the machines: the host, or those that `on_gpu` knows.
    """

    machines: tuple[str, ...]
    share: int = 5 * CASES_A_STRUCTURE
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
        case = case_on(seed, machine)
        return f"{FAILED} case {case.seed} on {machine}: {why}\n{program_text(case)}"

    def machine(self, seed: int) -> str:
        """The machine of a case."""
        return self.machines[seed // CASES_A_PROGRAM % len(self.machines)]


def report_branches(seeds: range) -> int:
    """Check two cases of each program here, and print the branches that none has taken.

    On GPUs nothing is run: their code is written.  What GPUs refuse is too large for a case, so it
    comes from the examples of limits.
    """
    folder = Path(redcomp.__file__).parent
    branches = Branches(folder / name for name in SCHEDULES_AND_SKELETONS)
    with branches.traced():
        for seed in seeds[:: CASES_A_STRUCTURE // 2]:
            case = random_structure(seed)
            check_structure(case)
            for target in ("sm_75", "sm_90"):
                with contextlib.suppress(SizeError):
                    _ = compiled(case.program).lower(target=target).module_text
        for example in EXAMPLES:
            if "a GPU" in example.what:
                example.error()
    found = branches.found()
    missed = [str(branch) for branch, is_taken in found.items() if not is_taken]
    print("\n".join(missed))
    print(f"{len(found) - len(missed)} of {len(found)} branches are taken in {len(seeds)} cases")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cases that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0, help="number of the first case")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--backend", choices=("CPU", "GPU"), default="CPU")
    parser.add_argument("--structures", action="store_true", help="draw dimensions and sizes")
    parser.add_argument("--branches", action="store_true", help="which branches are taken")
    options = parser.parse_args(argv)
    began = time.monotonic()
    machines = (HOST,) if options.backend == "CPU" else REAL or tuple(STAND_INS)
    seeds = range(options.seed, options.seed + options.cases)
    if options.branches:
        return report_branches(seeds)
    if options.structures:
        seeds = range(-1 - seeds.start, -1 - seeds.stop, -1)
    counts = Pool(Comparison(machines), seeds).run(options.processes)
    print(f"{dict(counts)} in {time.monotonic() - began:.0f} s")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
