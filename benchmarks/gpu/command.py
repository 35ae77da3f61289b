"""python -m benchmarks gpu: measure on an NVIDIA GPU, print tables, store JSON and Markdown."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.competitors import Competitor
from benchmarks.gpu import device, report
from benchmarks.gpu.cases import GPU_CASES, LAUNCH_CASE, GpuCase
from benchmarks.gpu.competitors import GPU_COMPETITORS, REDCOMP, gpu_competitor
from benchmarks.gpu.measure import (
    Site,
    measure_launches,
    measure_speed,
    measure_startup,
    prepared,
    surviving,
)
from benchmarks.gpu.targets import verdicts
from benchmarks.gpu.timing import CudaTimer
from benchmarks.measure import Results
from benchmarks.options import subset
from benchmarks.report import show, write

NO_GPU = 2  # the exit status
PARTS = ("speed", "startup", "launches")
TITLE = "Benchmarks on a GPU"
DEVICE = "cuda"  # PyTorch's name of the GPU in use
REHEARSED = (700, 1500)  # several blocks, and tiles that are not full


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    names = [row.name for row in GPU_CASES]
    competitors = [row.name for row in GPU_COMPETITORS]
    parser.add_argument(
        "--cases", type=subset(names), default=names, help=f"some of {','.join(names)}"
    )
    parser.add_argument(
        "--only",
        type=subset(competitors),
        default=competitors,
        help=f"some of {','.join(competitors)}",
    )
    parser.add_argument(
        "--parts", type=subset(PARTS), default=list(PARTS), help=f"some of {','.join(PARTS)}"
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns of each competitor")
    parser.add_argument("--output", type=Path, help="the written files' path without suffix")
    parser.add_argument(
        "--check",
        action="store_true",
        help="end with status 1 if a target is missed or not measured; those against KeOps need "
        "not be measured where it is not installed",
    )
    parser.add_argument(
        "--rehearse",
        action="store_true",
        help="only compare redcomp's results with a reference, for the cases at a small size",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, command: str) -> int:
    """Measure what the command line selects; the exit status."""
    try:
        found = device.find()
    except device.NoGpuError as reason:
        print(reason, file=sys.stderr)
        return NO_GPU
    cases = [row for row in GPU_CASES if row.name in options.cases]
    if options.rehearse:
        return rehearse(cases, Site(DEVICE, CudaTimer()), *REHEARSED)
    results = Results(TITLE, machine.describe(), device=device.describe(found))
    print("trying each competitor in a process of its own ...", flush=True)
    chosen = surviving([gpu_competitor(name) for name in options.only], results)
    site = Site(DEVICE, CudaTimer(), device.gpu_of(results.device))

    def store() -> list[Path]:
        if options.output is None:
            return []
        return write(results, options.output, report.markdown(results, command))

    try:
        measure(options, cases, chosen, site, results, store)
    finally:
        written = store()
    show(report.tables(results))
    for path in written:
        print(f"wrote {path}")
    return status(results, options.check)


def measure(
    options: argparse.Namespace,
    cases: Sequence[GpuCase],
    chosen: Sequence[Competitor],
    site: Site,
    results: Results,
    store: Callable[[], object],
) -> None:
    """The parts that are wanted; what calls cost the host last, when nobody watches the clocks.

    Results are stored as they come: a run takes long, and may be ended from outside.
    """
    if "startup" in options.parts:
        print("measuring first calls ...", flush=True)
        for competitor in chosen:
            measure_startup([competitor], results)
            store()
    if "speed" in options.parts:
        with device.watched(results.device):
            for row in cases:
                print(f"measuring {row.name} ...", flush=True)
                measure_speed(row, chosen, options.rounds, site, results)
                store()
    if "launches" in options.parts:
        print("measuring launches ...", flush=True)
        measure_launches(chosen, site, results)


def status(results: Results, check: bool) -> int:
    """1 if redcomp failed somewhere, or if it is to be checked and fails a target; otherwise 0."""
    has_failed = any(record["competitor"] == REDCOMP for record in results.failures)
    for record in results.failures:
        print(f"{record['part']}, {record['competitor']}: {record['reason']}", file=sys.stderr)
    if not check:
        return int(has_failed)
    found = verdicts(results)
    for verdict in found:
        print(": ".join((verdict.word, ", ".join(verdict.cells[:3]))))
    return int(has_failed or any(verdict.is_failure for verdict in found))


def rehearse(cases: Sequence[GpuCase], site: Site, rows: int, columns: int) -> int:
    """Cases of redcomp, and a launch, at a small size, a line for each; 0 if none is wrong."""
    worst = 0
    for row in (*cases, LAUNCH_CASE):
        results = Results(TITLE)
        sized = row.at(rows, columns)
        _, errors = prepared(sized, [gpu_competitor(REDCOMP)], site, results)
        if errors:
            print(f"{sized.case.title}: error {errors[REDCOMP]:.0e}", flush=True)
        # At once, because after a fault of the GPU the next case cannot even begin.
        worst = max(worst, status(results, check=False))
    return worst
