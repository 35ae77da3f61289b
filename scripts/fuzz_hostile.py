"""Hand redcomp hostile inputs, and look for crashes, hangs, memory and other people's exceptions.

    python scripts/fuzz_hostile.py --cases 100000       inputs 0 to 99,999, on all processors
    python scripts/fuzz_hostile.py --cases 1 --seed 42  one input again

An input is a program (see tests/hostile_inputs.py).  It has to end with a result or with an error
of redcomp's own, in 20 seconds of a processor and with less than 1 GB of memory beside what the
process had.  One that does not is printed; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import linecache
import os
import re
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import torch
from hostile_inputs import PREAMBLE, program
from worker_pool import FAILED, Pool

import redcomp
from redcomp.errors import AxisWarning, CompilerError, ConvergenceWarning, RedcompError

try:
    import resource
except ImportError:  # Windows: neither processor time nor memory are limited
    resource = None  # type: ignore[assignment]

SECONDS = 20  # of a processor
MEMORY = 2**30
_PACKAGE = str(Path(redcomp.__file__).parent) + os.sep
_INPUT = "<input>"
_NAMESPACE: dict[str, Any] = {}


@dataclass(frozen=True)
class Hostile:
    """Hostile inputs, in a process whose memory and time are watched."""

    folder: str  # where programs may write
    share: int = 200
    hangs_after: float = 600.0  # of waiting for what takes no processor's time

    def begin(self) -> None:
        os.chdir(self.folder)
        torch.set_num_threads(1)
        os.environ.update(REDCOMP_CACHE_DIR="off", REDCOMP_NUM_THREADS="1")
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", AxisWarning)
        exec(PREAMBLE, _NAMESPACE)
        _limit_memory()

    def __call__(self, seed: int) -> str:
        text = program(seed)
        _limit_time()
        before = _start_of_peak()
        outcome = _outcome(text)
        grown = _peak() - before
        if grown > MEMORY:
            outcome = f"{outcome} and {grown / 2**30:.1f} GB of memory"
        return _report(seed, text, outcome) if " " in outcome else outcome

    def died(self, seed: int, why: str) -> str:
        hint = f" (-24: more than {SECONDS} s of a processor)" if "-24" in why else ""
        return _report(seed, program(seed), why + hint)


def _report(seed: int, text: str, outcome: str) -> str:
    return f"{FAILED} input {seed}: {outcome}\n{text.removeprefix(PREAMBLE)}"


def _outcome(text: str) -> str:
    """A word for what a program has ended with; more than a word where it may not."""
    with _restored_environment(), contextlib.redirect_stdout(io.StringIO()):
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                exec(compile(text.removeprefix(PREAMBLE), _INPUT, "exec"), dict(_NAMESPACE))
        except RedcompError as error:
            return _of_others(error) if isinstance(error, CompilerError) else "refused"
        except SystemExit as end:
            return "refused" if end.code in (0, 2) else f"it exits with {end.code!r}"
        except Exception as error:  # noqa: BLE001  any other exception is a failure
            return _of_others(error)
    return ""


def _of_others(error: Exception) -> str:
    """An exception that may not be and where it is from; a word if the program has raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if frame.filename.startswith(_PACKAGE)]
    if not inside or frames[-1].filename == _INPUT:
        return "invalid"
    place = f"{Path(inside[-1].filename).name}:{inside[-1].lineno}"
    message = re.sub(r"\s+", " ", str(error))[:200]
    return f"{type(error).__name__} at {place}: {message}"


@contextlib.contextmanager
def _restored_environment() -> Iterator[None]:
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        linecache.clearcache()


# -- memory and time -------------------------------------------------------------------------------


def _limit_time() -> None:
    """The process ends after so many seconds of a processor from now on."""
    if resource is not None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        seconds = int(used.ru_utime + used.ru_stime) + 1 + SECONDS
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, hard))


def _limit_memory() -> None:
    """No more than some gigabytes of addresses, so that the machine goes on."""
    if resource is not None and (status := _status()):
        limit = status["VmSize"] + 6 * MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _start_of_peak() -> int:
    """Bytes that the process has; from here on `_peak` counts."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status().get("VmRSS", 0)


def _peak() -> int:
    """The most bytes that the process has had; 0 where it cannot be told."""
    return _status().get("VmHWM", 0)


def _status() -> dict[str, int]:
    """Linux' account of the process' memory."""
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return {}
    return {name: int(size) * 1024 for name, size in re.findall(r"(\w+):\s+(\d+) kB", text)}


def _processor_time() -> str:
    if resource is None:
        return ""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return f", {used.ru_utime + used.ru_stime:.0f} s of processors"


def main(argv: Sequence[str] | None = None) -> int:
    """Try the inputs that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0, help="number of the first input")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args(argv)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        pool = Pool(Hostile(folder), range(given.seed, given.seed + given.cases))
        counts = pool.run(given.processes)
    print(f"{dict(counts)} in {time.monotonic() - began:.0f} s{_processor_time()}")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
