"""One package in a process of its own: a line of JSON for the first call, and one a line of input.

    python -m benchmarks.clients.worker {redcomp | pykeops} PROGRAM POINTS

The folder with compiled code is empty at first.  What is imported before is not timed.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from benchmarks.clients.programs import PROGRAMS


def timed(call: Callable[[], Any]) -> tuple[float, float, Any]:
    """The seconds that a call takes, those of all cores together, and what it returns."""
    start, used = time.perf_counter(), time.process_time()
    result = call()
    return time.perf_counter() - start, time.process_time() - used, result


def main(library: str, program: str, points: int) -> None:
    """Run the first call, and another one for each line of input."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["REDCOMP_CACHE_DIR"] = os.environ["KEOPS_CACHE_FOLDER"] = cache
        os.environ["PYKEOPS_VERBOSE"] = "0"
        if library == "redcomp":
            importlib.import_module("redcomp.as_pykeops")
        pykeops = importlib.import_module("pykeops.torch")
        if ("redcomp" in str(pykeops.__file__)) != (library == "redcomp"):
            raise SystemExit(f"{library} was asked for, and {pykeops.__file__} imported")
        call = PROGRAMS[program](points)
        seconds, _, result = timed(call)
        some = result[:: max(1, len(result) // 1000)].tolist()
        print(json.dumps({"first": seconds, "values": some}), flush=True)
        for _ in sys.stdin:
            wall, cpu, _ = timed(call)
            print(json.dumps({"warm": wall, "cpu": cpu}), flush=True)
    os._exit(0)  # KeOps would write to its cache, which is gone


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
