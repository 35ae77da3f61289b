"""python -m benchmarks.clients: geomloss and gpytorch with redcomp, and with KeOps, on the CPU.

Each has a process of its own, and calls alternate, so that what else the machine does slows both
down.  The results are compared before anything is reported.
"""

from __future__ import annotations

import argparse
import compileall
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import redcomp
from benchmarks import machine
from benchmarks.clients.programs import PROGRAMS

OUTPUT = Path("output/benchmarks/clients.md")
LIBRARIES = ("redcomp", "pykeops")
HEAD = (
    "| program, value and gradients | redcomp, first call | KeOps | ratio "
    "| redcomp, warm call | KeOps | ratio | redcomp, CPU time | KeOps | ratio |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


class Times(NamedTuple):
    """Seconds of the first call and of a warm one, and its CPU time, medians of all."""

    first: float
    warm: float
    cpu: float


class Worker:
    """A process with one library."""

    def __init__(self, library: str, program: str, points: int) -> None:
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.clients.worker"]
        self.process = subprocess.Popen(
            [*command, library, program, str(points)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def answer(self) -> dict[str, Any]:
        """The next line that it prints; KeOps prints lines of its own before the first one."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                found: dict[str, Any] = json.loads(line)
                return found
        raise RuntimeError(f"a worker ended with status {self.process.wait()}")

    def warm(self) -> tuple[float, float]:
        """The seconds of one more call, and its CPU time."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer = self.answer()
        return answer["warm"], answer["cpu"]

    def close(self) -> None:
        """Let the process end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def measure(program: str, points: int, rounds: int) -> dict[str, Times]:
    """The times of each library; raises ValueError if their results differ."""
    workers: dict[str, Worker] = {}
    first: dict[str, dict[str, Any]] = {}
    warm: dict[str, list[tuple[float, float]]] = {library: [] for library in LIBRARIES}
    for library in LIBRARIES:  # one after the other: both use all cores
        workers[library] = Worker(library, program, points)
        first[library] = workers[library].answer()
    values = [np.array(first[library]["values"]) for library in LIBRARIES]
    if not np.allclose(*values, rtol=1e-3, atol=1e-3 * np.abs(values[1]).max()):
        raise ValueError(f"{program}: the results differ by {np.abs(values[0] - values[1]).max()}")
    for _ in range(rounds):
        for library in LIBRARIES:
            warm[library].append(workers[library].warm())
    for worker in workers.values():
        worker.close()
    return {
        library: Times(
            first[library]["first"], *map(statistics.median, zip(*warm[library], strict=True))
        )
        for library in LIBRARIES
    }


def row(program: str, times: dict[str, Times]) -> str:
    """A row of the table."""
    own, other = (times[library] for library in LIBRARIES)
    cells = [program]
    for mine, theirs in zip(own, other, strict=True):
        cells += [f"{mine:.3g} s", f"{theirs:.3g} s", f"{theirs / mine:.3g}"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure what the command line names, print and store the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clients", description=__doc__)
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=PROGRAMS, action="append")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    # As pip leaves a package: else the first call waits until Python has translated the compiler.
    compileall.compile_dir(Path(redcomp.__file__).parent, quiet=1)
    lines = [HEAD]
    print(HEAD)
    for program in options.only or PROGRAMS:
        lines.append(row(program, measure(program, options.points, options.rounds)))
        print(lines[-1], flush=True)
    described = "\n".join(f"- {name}: {value}" for name, value in machine.describe().items())
    command = f"python -m benchmarks.clients --points {options.points} --rounds {options.rounds}"
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(
        "# Packages that call KeOps, with redcomp in its place\n\n"
        f"{options.points:,} x {options.points:,} points in 3 dimensions, float32, on the CPU, by "
        f"`{command}`. First calls start with an empty cache, after all imports; warm ones are "
        "medians. Calls of both alternate in one run; the CPU time of a warm call is that of all "
        "cores, on which other programs have less influence.\n\n"
        + "\n".join(lines)
        + f"\n\n{described}\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
