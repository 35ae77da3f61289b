"""What has to be measured in a process of its own; prints one line of JSON."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.cases import COMPILE_CASES, MEMORY_CASE, inputs
from benchmarks.competitors import Competitor, competitor


def first_call(row: Competitor, case_name: str) -> dict[str, Any]:
    """Import, first call (its preparation included) and later call, in seconds."""
    case = next(case for case in COMPILE_CASES if case.name == case_name)
    arrays = inputs(case)
    start = time.perf_counter()
    importlib.import_module(row.module)
    if case.gradient:
        importlib.import_module("torch")
    imported = time.perf_counter()
    computation = row.prepare(case, arrays)
    computation()
    first = time.perf_counter()
    computation()
    later = time.perf_counter()
    return {
        "case": case.name,
        "title": case.title,
        "competitor": row.name,
        "import_s": imported - start,
        "first_s": first - imported,
        "later_s": later - first,
    }


def memory(row: Competitor) -> dict[str, Any]:
    """How far the resident memory rises in a large call, and how long the call takes."""
    small = dataclasses.replace(MEMORY_CASE, rows=1_000, columns=1_000)
    row.prepare(small, inputs(small))()  # imports and compiles
    arrays = inputs(MEMORY_CASE)
    computation = row.prepare(MEMORY_CASE, arrays)
    forget_peak()
    before = psutil.Process().memory_info().rss
    start = time.perf_counter()
    (output,) = computation()
    seconds = time.perf_counter() - start
    return {
        "title": MEMORY_CASE.title,
        "competitor": row.name,
        "seconds": seconds,
        "inputs_bytes": sum(array.nbytes for array in arrays),
        "output_bytes": output.nbytes,
        "above_bytes": max(0, peak_bytes() - before - output.nbytes),
    }


def forget_peak() -> None:
    """Start the peak anew where the system can (Linux, proc(5)); elsewhere `memory` is a bound."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_bytes() -> int:
    """The largest resident memory since `forget_peak`.

    On Linux from VmHWM: ru_maxrss also counts the process that started this one, before its exec.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text(encoding="ascii").splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Measure what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["first-call", "memory"])
    parser.add_argument("competitor", type=competitor)
    parser.add_argument("case", nargs="?", default="")
    options = parser.parse_args()
    if options.what == "first-call":
        measured = first_call(options.competitor, options.case)
    else:
        measured = memory(options.competitor)
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
