"""How it is measured on a GPU: correctness first, then the device's clock, turn by turn."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.cases import inputs, reference
from benchmarks.competitors import Competitor, Computation, UnsupportedError
from benchmarks.gpu import device, shares
from benchmarks.gpu.cases import LAUNCH_CASE, STARTUP_CASE, GpuCase
from benchmarks.gpu.competitors import REDCOMP, gpu_competitor, tensors
from benchmarks.gpu.timing import Timer, interleaved
from benchmarks.measure import (
    Record,
    Results,
    WorkerError,
    WrongResultError,
    fresh_process,
    prepare,
    quartiles,
)
from redcomp.errors import CompilerError
from redcomp.ptx.assemble import ToolError
from redcomp.ptx.ceiling import Ceiling
from redcomp.ptx.multiprocessor import Gpu

WORKER = "benchmarks.gpu.worker"
OWN_MODULE = gpu_competitor(REDCOMP).module
LAUNCH_CALLS = 300  # in a row without waiting
LAUNCH_ROUNDS = 15


@dataclass(frozen=True, slots=True)
class Site:
    """Where and how is measured.

    device  of the tensors, as PyTorch calls it
    timer   its clock
    gpu     its multiprocessors and its clock, if they are known
    """

    device: str
    timer: Timer
    gpu: Gpu | None = None


def prepared(
    row: GpuCase, competitors: Sequence[Competitor], site: Site, results: Results
) -> tuple[Mapping[str, Computation], Mapping[str, float]]:
    """The computations of those that gave right results, and their errors."""
    case = row.case
    arrays = inputs(case)
    expected = reference(case, arrays)
    given = tensors(arrays, site.device)
    computations: dict[str, Computation] = {}
    errors: dict[str, float] = {}
    # What was measured before may have left a large part of the GPU's memory in PyTorch's pool.
    device.give_back()
    for competitor in competitors:
        name = competitor.name
        try:
            computations[name], errors[name] = prepare(competitor, case, arrays, expected, given)
        except UnsupportedError as reason:
            results.skip(row.name, name, str(reason))
        except WrongResultError as reason:
            results.fail(row.name, name, str(reason))
        # Compilers and drivers raise what they like, and what one raises is a result of its own
        # that must not cost those of the others.
        except Exception as failure:  # noqa: BLE001
            results.fail(row.name, name, _first_line(failure))
        device.give_back()
    return computations, errors


def _first_line(failure: Exception) -> str:
    lines = str(failure).strip().splitlines()
    return f"{type(failure).__name__}: {lines[0] if lines else 'no message'}"


def measure_speed(
    row: GpuCase, competitors: Sequence[Competitor], rounds: int, site: Site, results: Results
) -> None:
    """The medians of one case."""
    computations, errors = prepared(row, competitors, site, results)
    own = _own_ceiling(row, site, results) if REDCOMP in computations else None
    for name, times in interleaved(computations, rounds, site.timer).items():
        low, median, high = quartiles(times)
        record = {
            "case": row.name,
            "title": row.case.title,
            "competitor": name,
            "median_s": median,
            "quartiles_s": [low, high],
            "samples": len(times),
            "pairs_per_s": row.case.pairs / median,
            "error": errors[name],
            "limit": None,
            "share": None,
            "busy": None,
        }
        results.speed.append(record | _shares(row, name, record["pairs_per_s"], own, site.gpu))


def _shares(
    row: GpuCase, name: str, pairs_per_second: float, own: Ceiling | None, gpu: Gpu | None
) -> Record:
    if gpu is None:
        return {}
    found: Record = {}
    best = shares.of_formula(row, pairs_per_second, gpu)
    if best is not None:
        found |= {"limit": best.limit, "share": best.share}
    if own is not None and name == REDCOMP:
        found["busy"] = dict(shares.busy(own, pairs_per_second, gpu))
    return found


def _own_ceiling(row: GpuCase, site: Site, results: Results) -> Ceiling | None:
    """What redcomp's instructions allow on the GPU; None, and a note, if it cannot be said."""
    if site.gpu is None:
        results.skip("shares", REDCOMP, "the GPU's largest clock is not known")
        return None
    try:
        own = shares.of_code(row.case, site.gpu.target)
    except (ToolError, CompilerError) as reason:
        results.skip("shares", REDCOMP, str(reason))
        return None
    if isinstance(own, str):
        results.skip(f"busy pipes of {row.name}", REDCOMP, own)
        return None
    return own


def measure_launches(competitors: Sequence[Competitor], site: Site, results: Results) -> None:
    """What a warm call costs the host, which does not wait for the device."""
    computations, _ = prepared(LAUNCH_CASE, competitors, site, results)
    times: dict[str, list[float]] = {name: [] for name in computations}
    for _ in range(LAUNCH_ROUNDS):
        for name, function in computations.items():
            times[name].append(site.timer.host(function, LAUNCH_CALLS))
    for name, seconds in times.items():
        results.launches.append(
            {
                "title": LAUNCH_CASE.case.title,
                "competitor": name,
                "median_s": statistics.median(seconds),
                "smallest_s": min(seconds),
            }
        )


def surviving(
    competitors: Sequence[Competitor],
    results: Results,
    process: Callable[[str, Sequence[str], str], Any] = fresh_process,
) -> list[Competitor]:
    """The competitors whose first call, in a process of its own, does not end it.

    One that would end the run's process would take the results of all others with it.  redcomp is
    not tried: what it does wrong is to be seen.
    """
    found = []
    for competitor in competitors:
        if competitor.module != OWN_MODULE and competitor.missing() is None:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as caches:
                try:
                    process(WORKER, [competitor.name], caches)
                except WorkerError as failure:
                    results.fail("trial", competitor.name, str(failure))
                    continue
        found.append(competitor)
    return found


def measure_startup(
    competitors: Sequence[Competitor],
    results: Results,
    process: Callable[[str, Sequence[str], str], Any] = fresh_process,
) -> None:
    """First calls in a process that finds no compiled code, and in one that finds it."""
    for competitor in (row for row in competitors if row.compiles):
        reason = competitor.missing()
        if reason is not None:
            results.skip(STARTUP_CASE.name, competitor.name, reason)
            continue
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as caches:
            for state in ("empty", "warm"):
                try:
                    measured = process(WORKER, [competitor.name], caches)
                except WorkerError as failure:
                    results.fail(f"{STARTUP_CASE.name} ({state})", competitor.name, str(failure))
                    break
                results.compile.append(measured | {"caches": state})
