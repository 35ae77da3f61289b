"""Worker processes that try numbered cases, and are replaced when they die or hang.

A `Trial` says what is tried.  Its outcomes are "" for a case that passed, one word for a kind of
case that is counted, and a text that begins with `FAILED` for one that failed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

FAILED = "---"


class Trial(Protocol):
    """What the workers do, pickled; they import the module that it is from."""

    share: int  # consecutive cases that a process takes at a time
    hangs_after: float  # seconds

    def begin(self) -> None:
        """Prepare a process."""

    def __call__(self, seed: int) -> str:
        """The outcome of a case, in a worker."""

    def died(self, seed: int, why: str) -> str:
        """The outcome of a case that ended its process or had to be ended with it."""


def work(connection: Connection, trial: Trial) -> None:
    """Try the shares of cases that come; say what became of each."""
    trial.begin()
    with contextlib.suppress(EOFError):
        while True:
            for seed in connection.recv():
                connection.send((seed, trial(seed)))
            connection.send((None, ""))


@dataclass
class Worker:
    """A process, the cases that it has still to do, and since when it has been at the first."""

    process: Any
    connection: Connection
    left: list[int] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)


class Pool:
    """Hands out shares of cases, and counts and prints what becomes of them."""

    def __init__(self, trial: Trial, seeds: Sequence[int]) -> None:
        self.trial = trial
        starts = range(0, len(seeds), trial.share)
        self.shares = [list(seeds[n : n + trial.share]) for n in starts][::-1]
        self.counts: Counter[str] = Counter()

    def run(self, processes: int) -> Counter[str]:
        """How many cases there are of each kind: "passed", "failed", and what the trial names."""
        workers = [self.start() for _ in range(min(processes, len(self.shares)))]
        for worker in workers:
            self.give(worker)
        while workers:
            wait([w.connection for w in workers], timeout=1.0)
            workers = [kept for w in workers if (kept := self.look_after(w)) is not None]
        return self.counts

    def start(self) -> Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, self.trial), daemon=True)
        process.start()
        theirs.close()
        return Worker(process, ours)

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
                seed, outcome = worker.connection.recv()
                worker.since = time.monotonic()
                if seed is not None:
                    worker.left.remove(seed)
                    self.note(outcome)
                elif not self.give(worker):
                    worker.connection.close()
                    worker.process.join()
                    return None
        except (EOFError, OSError):
            worker.process.join()
            return self.replace(worker, f"the process ended with {worker.process.exitcode}")
        if time.monotonic() - worker.since > self.trial.hangs_after:
            worker.process.kill()
            return self.replace(worker, f"no result after {self.trial.hangs_after:.0f} s")
        return worker

    def replace(self, worker: Worker, why: str) -> Worker | None:
        """Another worker for what is left after the case at which one died."""
        seed, *left = worker.left
        self.note(self.trial.died(seed, why))
        new = self.start()
        new.left = left
        if self.give(new):
            return new
        new.process.kill()
        return None

    def note(self, outcome: str) -> None:
        has_failed = outcome.startswith(FAILED)
        self.counts["failed" if has_failed else outcome or "passed"] += 1
        if has_failed:
            print(outcome, flush=True)
        done = sum(self.counts.values())
        if done % 1000 == 0:
            print(f"{done} cases, {self.counts['failed']} failed", file=sys.stderr, flush=True)
