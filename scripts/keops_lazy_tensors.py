"""The table of what KeOps makes of LazyTensors: needs pykeops 2.3, and an hour.

    python scripts/keops_lazy_tensors.py        writes tests/keops_lazy_tensors.json

For each program of tests/lazy_cases.py, with NumPy's and with PyTorch's arrays, the table has what
KeOps says of the lazy tensor, the shapes, dtypes and values (with 6 digits) of the results, and how
these compare with the dense computation: "same", or what else.
"""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import sys
import warnings
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # OpenMP's threads hang in forked processes

import numpy as np
import pykeops
import pykeops.numpy
import pykeops.torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from dense_lazy import exact  # noqa: E402
from lazy_cases import Case, cases  # noqa: E402
from lazy_programs import Library, dense_library, described, offered_by  # noqa: E402

PATIENCE = 120  # seconds: it compiles a formula in some
TABLE = ROOT / "tests" / "keops_lazy_tensors.json"
LIBRARIES = {
    "numpy": offered_by(pykeops.numpy, as_tensors=False),
    "torch": offered_by(pykeops.torch, as_tensors=True),
}


def answer(library: Library, case: Case) -> dict[str, Any]:
    """What KeOps does with a case; in a process of its own, which it may end."""
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    process = fork.Process(target=lambda: sender.send(_answer(library, case)))
    process.start()
    sender.close()
    try:
        return receiver.recv() if receiver.poll(PATIENCE) else {"verdict": "does not return"}
    except EOFError:
        return {"verdict": "ends the process"}
    finally:
        process.kill()
        process.join()


def _answer(library: Library, case: Case) -> dict[str, Any]:
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            lazy, results = library.run(case.lazy, case.reduced, case.dtype)
            told = {"lazy": described(lazy), "results": [_result(each) for each in results]}
    except Exception as error:  # noqa: BLE001  whatever KeOps raises is its answer
        return {"verdict": f"raises {type(error).__name__}"}
    return told | {"verdict": _verdict(case, results)}


def _result(values: Any) -> dict[str, Any]:
    numbers = exact(values).ravel()
    if numbers.dtype.kind == "c":
        numbers = numbers.view(np.float64)
    return {
        "shape": list(values.shape),
        "dtype": str(values.dtype).removeprefix("torch."),
        "values": [float(f"{value:.6g}") for value in numbers],
    }


def _verdict(case: Case, results: list[Any]) -> str:
    _, expected = dense_library().run(*case.densely, "float64")
    for result, dense in zip(results, expected, strict=True):
        if result.shape != dense.shape:
            return f"another shape than {list(dense.shape)}"
        if not np.allclose(exact(result), dense, rtol=1e-5, atol=1e-5):
            return "other values"
    return "same"


def main() -> None:
    pykeops.set_verbose(False)
    lines = []
    for case in cases():
        answers = {name: answer(library, case) for name, library in LIBRARIES.items()}
        if answers["numpy"] == answers["torch"]:
            answers = {"both": answers["numpy"]}
        told = {"lazy": case.lazy, "reduced": case.reduced, "dtype": case.dtype}
        lines.append(json.dumps(told | {"keops": answers}))
        verdicts = {name: each["verdict"] for name, each in answers.items()}
        print(case, "FAULT" if case.fault else "", verdicts, flush=True)
    TABLE.write_text("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
