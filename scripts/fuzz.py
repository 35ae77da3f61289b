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
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import random_structures
import torch
from branches import Branches
from differential import check_case
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

import redcomp
from redcomp.errors import SizeError

HOST = "the host"
SCHEDULES_AND_SKELETONS = (
    *("llvm_backend/schedule.py", "llvm_backend/host.py", "llvm_backend/pair_loop.py"),
    *("llvm_backend/pair_step.py", "llvm_backend/pending.py"),
    *("ptx/schedule.py", "ptx/skeleton.py"),
)
HANGS_AFTER = 300.0  # seconds
SHARE = 5 * CASES_A_STRUCTURE  # consecutive cases that a process takes at a time


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
        f"--- case {case.seed} on {machine}: {message}",
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


def work(connection: Connection, machines: Sequence[str]) -> None:
    """Check the shares of cases that come; say which case is on, and what became of it."""
    torch.set_num_threads(1)
    with contextlib.suppress(EOFError):
        while True:
            for seed in connection.recv():
                connection.send(("start", seed, ""))
                machine = machines[seed // CASES_A_PROGRAM % len(machines)]
                connection.send(("end", seed, _outcome(case_on(seed, machine), machine)))
            connection.send(("idle", 0, ""))


def _outcome(case: Case, machine: str) -> str:
    try:
        return "" if check_on(case, machine) else "noisy"
    except Exception as error:  # noqa: BLE001  any exception at all is a failure of the case
        return report(case, machine, f"{type(error).__name__}: {error}")


@dataclass
class Worker:
    """A process, the cases that it has still to do, and since when it has been at the first."""

    process: Any
    connection: Any
    left: list[int] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)


def start_worker(machines: Sequence[str]) -> Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, machines), daemon=True)
    process.start()
    theirs.close()
    return Worker(process, ours)


class Fuzzer:
    """Hands out shares of cases and gathers what becomes of them.

    Programs take turns on the machines: the host, or those that `on_gpu` knows.
    """

    def __init__(self, seeds: range, machines: Sequence[str]) -> None:
        self.machines = machines
        self.shares = [list(seeds[n : n + SHARE]) for n in range(0, len(seeds), SHARE)][::-1]
        self.counts: Counter[str] = Counter()

    def run(self, processes: int) -> None:
        workers = [start_worker(self.machines) for _ in range(min(processes, len(self.shares)))]
        for worker in workers:
            self.give(worker)
        while workers:
            wait([w.connection for w in workers], timeout=1.0)
            workers = [kept for w in workers if (kept := self.look_after(w)) is not None]

    def give(self, worker: Worker) -> bool:
        """The next share; False if there is none."""
        if not worker.left and not self.shares:
            return False
        worker.left = worker.left or self.shares.pop()
        worker.since = time.monotonic()
        worker.connection.send(worker.left)
        return True

    def look_after(self, worker: Worker) -> Worker | None:
        """Read what a worker says; the worker, or the one in its place, or None if all is done."""
        try:
            while worker.connection.poll():
                event, seed, outcome = worker.connection.recv()
                worker.since = time.monotonic()
                if event == "end":
                    worker.left.remove(seed)
                    self.note(outcome)
                elif event == "idle" and not self.give(worker):
                    worker.connection.close()
                    worker.process.join()
                    return None
        except (EOFError, OSError):
            worker.process.join()
            return self.replace(worker, f"the process ended with {worker.process.exitcode}")
        if time.monotonic() - worker.since > HANGS_AFTER:
            worker.process.kill()
            return self.replace(worker, f"no result after {HANGS_AFTER:.0f} s")
        return worker

    def replace(self, worker: Worker, why: str) -> Worker | None:
        seed, *left = worker.left
        machine = self.machines[seed // CASES_A_PROGRAM % len(self.machines)]
        self.note(f"--- case {seed} on {machine}: {why}\n{program_text(case_on(seed, machine))}")
        new = start_worker(self.machines)
        new.left = left
        if self.give(new):
            return new
        new.process.kill()
        return None

    def note(self, outcome: str) -> None:
        kind = outcome if outcome in ("", "noisy") else "failed"
        self.counts[kind or "passed"] += 1
        if kind == "failed":
            print(outcome, flush=True)
        done = sum(self.counts.values())
        if done % 1000 == 0:
            print(f"{done} cases, {self.counts['failed']} failed", file=sys.stderr, flush=True)


def report_branches(seeds: range) -> int:
    """Check two cases of each program here, and print the branches that none has taken.

    On GPUs nothing is run: their code is written.
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
    fuzzer = Fuzzer(seeds, machines)
    fuzzer.run(options.processes)
    print(f"{dict(fuzzer.counts)} in {time.monotonic() - began:.0f} s")
    return 1 if fuzzer.counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
