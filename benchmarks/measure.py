"""How it is measured: correctness first, then interleaved rounds, or fresh processes."""

from __future__ import annotations

import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.cases import (
    COMPILE_CASES,
    MEMORY_CASE,
    Array,
    Case,
    comparable,
    inputs,
    reference,
)
from benchmarks.competitors import Competitor, Computation, Outputs, UnsupportedError

# Long enough for the threads of the competitor before to stop spinning and sleep: OpenBLAS, which
# NumPy uses, still spins after 50 ms, and then takes a fifth of the speed of whoever comes next.
PAUSE_SECONDS = 0.3
TURN_SECONDS = 0.1
MOST_CALLS_A_TURN = 200

# Every variable that says where a competitor keeps what it compiled.
CACHE_VARIABLES = (
    "REDCOMP_CACHE_DIR",
    "KEOPS_CACHE_FOLDER",
    "TORCHINDUCTOR_CACHE_DIR",
    "TRITON_CACHE_DIR",
    "NUMBA_CACHE_DIR",
    "CUDA_CACHE_PATH",
)
WORKER_TIMEOUT = 600

Record = dict[str, Any]


class WrongResultError(Exception):
    """An output that is further from the float64 reference than the case's tolerance."""


class WorkerError(Exception):
    """A process that was to measure something failed."""


@dataclass(slots=True)
class Results:
    """All that a run measured, and what it left out and why.

    launches, device and failures are of runs on GPUs: what a call costs the host, the device's
    state, and who raised an error or gave a wrong result.
    """

    title: str
    machine: Record = field(default_factory=dict)
    speed: list[Record] = field(default_factory=list)
    compile: list[Record] = field(default_factory=list)
    imports: list[Record] = field(default_factory=list)
    memory: list[Record] = field(default_factory=list)
    launches: list[Record] = field(default_factory=list)
    device: Record = field(default_factory=dict)
    skipped: list[Record] = field(default_factory=list)
    failures: list[Record] = field(default_factory=list)

    def skip(self, part: str, competitor: str, reason: str) -> None:
        """Note once why something is missing."""
        record = {"part": part, "competitor": competitor, "reason": reason}
        if record not in self.skipped:
            self.skipped.append(record)

    def fail(self, part: str, competitor: str, reason: str) -> None:
        """Note what went wrong, which is left out, too."""
        self.skip(part, competitor, reason)
        self.failures.append({"part": part, "competitor": competitor, "reason": reason})


def largest_error(
    case: Case, arrays: Sequence[Array], outputs: Outputs, expected: Sequence[Array]
) -> float:
    """The largest error on the sample, relative to each output's largest value."""
    found = [np.asarray(o.detach().cpu() if hasattr(o, "detach") else o) for o in outputs]
    errors = []
    for values, wanted in zip(comparable(case, arrays, found), expected, strict=True):
        if values.shape != wanted.shape:
            return math.inf
        errors.append(np.max(np.abs(values - wanted)) / np.max(np.abs(wanted)))
    return float(np.max(errors))  # NaN stays NaN


def prepare(
    competitor: Competitor,
    case: Case,
    arrays: Sequence[Array],
    expected: Sequence[Array],
    given: Sequence[Any] | None = None,
) -> tuple[Computation, float]:
    """A computation that gave a right result, and its error.

    `given` is what the competitor gets instead of the arrays: the same numbers on another device.
    Raises UnsupportedError or WrongResultError.
    """
    reason = competitor.missing()
    if reason is not None:
        raise UnsupportedError(reason)
    computation = competitor.prepare(case, arrays if given is None else given)
    error = largest_error(case, arrays, computation(), expected)
    if not error <= case.tolerance:
        raise WrongResultError(f"wrong result: error {error:.1e}, tolerance {case.tolerance:.0e}")
    return computation, error


def interleaved(computations: Mapping[str, Computation], rounds: int) -> dict[str, list[float]]:
    """The seconds of single calls, the competitors taking turns: A, B, C, A, B, C, ..."""
    times: dict[str, list[float]] = {name: [] for name in computations}
    calls = {name: _calls_a_turn(function) for name, function in computations.items()}
    for _ in range(rounds):
        for name, function in computations.items():
            time.sleep(PAUSE_SECONDS)
            if calls[name] > 1:
                function()  # short calls find warm caches, as in a loop of their user's
            times[name] += [_seconds(function) for _ in range(calls[name])]
    return times


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _calls_a_turn(function: Computation) -> int:
    return max(1, min(MOST_CALLS_A_TURN, int(TURN_SECONDS / _seconds(function))))


def measure_speed(
    case: Case, competitors: Sequence[Competitor], rounds: int, results: Results
) -> None:
    """The medians of one case."""
    arrays = inputs(case)
    expected = reference(case, arrays)
    computations: dict[str, Computation] = {}
    errors: dict[str, float] = {}
    for competitor in competitors:
        try:
            computations[competitor.name], errors[competitor.name] = prepare(
                competitor, case, arrays, expected
            )
        except (UnsupportedError, WrongResultError, ImportError) as reason:
            results.skip(case.name, competitor.name, str(reason))
    for name, times in interleaved(computations, rounds).items():
        low, median, high = quartiles(times)
        results.speed.append(
            {
                "case": case.name,
                "title": case.title,
                "competitor": name,
                "median_s": median,
                "quartiles_s": [low, high],
                "calls": len(times),
                "pairs_per_s": case.pairs / median if case.pairs else None,
                "error": errors[name],
                "target": case.target,
            }
        )


def quartiles(times: Sequence[float]) -> Sequence[float]:
    """The lower quartile, the median and the upper quartile."""
    return statistics.quantiles(times, n=4) if len(times) > 1 else [*times] * 3


def measure_compile(competitors: Sequence[Competitor], results: Results) -> None:
    """The first call on a new formula, in a fresh process with empty caches."""
    for case in COMPILE_CASES:
        for competitor in (c for c in competitors if c.compiles):
            measured = _worker("first-call", competitor, results, case.name)
            if measured is not None:
                results.compile.append(measured)


def measure_memory(competitors: Sequence[Competitor], results: Results) -> None:
    """The peak of one large call, above what the process held before it."""
    for competitor in competitors:
        if not competitor.streams:
            pairs = MEMORY_CASE.rows * MEMORY_CASE.columns
            dense = pairs * np.dtype(MEMORY_CASE.dtype).itemsize / 1e9
            reason = f"stores blocks of the M x N array (whole, it has {dense:.0f} GB)"
            results.skip("memory", competitor.name, reason)
            continue
        measured = _worker("memory", competitor, results)
        if measured is not None:
            results.memory.append(measured)


def measure_imports(competitors: Sequence[Competitor], rounds: int, results: Results) -> None:
    """The time of an import statement in a fresh process, the modules taking turns."""
    modules = list(dict.fromkeys(["numpy", *(c.module for c in competitors)]))
    if "redcomp.numpy" in modules:
        modules.append("redcomp")
    times: dict[str, list[float]] = {}
    for _ in range(rounds + 1):  # the first round fills the file cache
        for module in modules:
            program = (
                f"import time; start = time.perf_counter(); import {module}; "
                "print(time.perf_counter() - start)"
            )
            run = subprocess.run(
                [sys.executable, "-c", program], capture_output=True, text=True, check=False
            )
            if run.returncode:
                results.skip("import", module, f"importing {module} failed")
                continue
            times.setdefault(module, []).append(float(run.stdout.split()[-1]))
    for module, seconds in times.items():
        results.imports.append({"module": module, "median_s": statistics.median(seconds[1:])})


def _worker(what: str, competitor: Competitor, results: Results, *case: str) -> Record | None:
    """What a fresh process with empty caches measured; None (and a note) if it could not."""
    part = " ".join((what, *case))
    reason = competitor.missing()
    if reason is not None:
        results.skip(part, competitor.name, reason)
        return None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as caches:
        try:
            return fresh_process("benchmarks.worker", [what, competitor.name, *case], caches)
        except WorkerError as failure:
            results.skip(part, competitor.name, str(failure))
            return None


def _signal(status: int) -> str:
    """What has ended a process, by its negative exit status."""
    try:
        return f"ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"ended by signal {-status}"


def fresh_process(module: str, arguments: Sequence[str], caches: str) -> Record:
    """What a module measured in a process of its own, which keeps what it compiles in a folder."""
    environment = os.environ | {name: os.path.join(caches, name) for name in CACHE_VARIABLES}
    for name in CACHE_VARIABLES:
        # redcomp refuses a folder in which others may write, as some masks would let them.
        os.makedirs(environment[name], mode=0o700, exist_ok=True)
    try:
        run = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            timeout=WORKER_TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        raise WorkerError(f"not done after {WORKER_TIMEOUT} s") from None
    if run.returncode:
        last = (run.stderr.strip().splitlines() or ["no message"])[-1]
        said = last.partition(": ")[2] or last
        raise WorkerError(said if run.returncode > 0 else f"{_signal(run.returncode)}: {said}")
    record: Record = json.loads(run.stdout.splitlines()[-1])
    return record
