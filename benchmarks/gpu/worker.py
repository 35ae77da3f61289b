"""The first call of a new process on a GPU; prints one line of JSON."""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Callable
from typing import Any

from benchmarks.cases import inputs
from benchmarks.competitors import Competitor, UnsupportedError
from benchmarks.gpu.cases import GPU_CASES, STARTUP_CASE, GpuCase
from benchmarks.gpu.competitors import gpu_competitor, tensors


def first_call(
    competitor: Competitor, row: GpuCase, device: str, wait: Callable[[], object]
) -> dict[str, Any]:
    """Seconds of the import, the first call with its preparation, and the second call.

    PyTorch's import and the device's start come before, with the arguments' way to the device.
    """
    case = row.case
    given = tensors(inputs(case), device)
    wait()
    start = time.perf_counter()
    importlib.import_module(competitor.module)
    imported = time.perf_counter()
    computation = competitor.prepare(case, given)
    computation()
    wait()
    first = time.perf_counter()
    computation()
    wait()
    later = time.perf_counter()
    return {
        "case": case.name,
        "title": case.title,
        "competitor": competitor.name,
        "import_s": imported - start,
        "first_s": first - imported,
        "later_s": later - first,
    }


def first_possible_call(
    competitor: Competitor, device: str, wait: Callable[[], object]
) -> dict[str, Any]:
    """The first call of the start's case, or else of the first one that the competitor computes."""
    small = (row.at(STARTUP_CASE.case.rows, STARTUP_CASE.case.columns) for row in GPU_CASES)
    for row in (STARTUP_CASE, *small):
        try:
            return first_call(competitor, row, device, wait)
        except UnsupportedError:
            continue
    raise UnsupportedError(f"{competitor.name} computes none of the cases")


def main() -> None:
    """Measure the competitor that the command line names."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("competitor", type=gpu_competitor)
    options = parser.parse_args()
    measured = first_possible_call(options.competitor, "cuda", torch.cuda.synchronize)
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
