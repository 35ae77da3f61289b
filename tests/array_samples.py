"""A Gaussian sum, its arguments and its float64 reference, for tests of arrays: needs a CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

FORMULA = "Exp(-SqDist(x,y)*g)*b"
ALIASES = ["x = Vi(3)", "y = Vj(3)", "b = Vj(2)", "g = Pm(1)"]
M, N = 70, 45
TOLERANCE = {np.float32: 2e-6, np.float64: 4e-15}
ROOT = Path(__file__).parents[1]

Arrays = list[np.ndarray[Any, Any]]


def sample(dtype: Any = np.float32, rows: int = M, columns: int = N, seed: int = 0) -> Arrays:
    """x, y, b and g."""
    random = np.random.default_rng(seed)
    shapes = [(rows, 3), (columns, 3), (columns, 2), (1,)]
    return [random.uniform(-1, 1, shape).astype(dtype) for shape in shapes]


def expected(x: Any, y: Any, b: Any, g: Any) -> np.ndarray[Any, Any]:
    """FORMULA summed over j, in float64, a few rows at a time."""
    x, y, b, g = (np.asarray(a, np.float64) for a in (x, y, b, g))
    blocks = [x[k : k + 64] for k in range(0, len(x), 64)]
    sums = [np.exp(-g * ((r[:, None] - y[None]) ** 2).sum(-1)) @ b for r in blocks]
    return np.concatenate([np.empty((0, 2)), *sums])


def assert_near(result: Any, arrays: Arrays) -> None:
    """The error relative to the sum of the absolute terms."""
    x, y, b, g = arrays
    size = expected(x, y, np.abs(b), g)
    error = np.abs(result - expected(*arrays))
    assert result.shape == size.shape
    assert (error <= TOLERANCE[x.dtype.newbyteorder("=").type] * size).all(), (error / size).max()


def run_script(script: str, *arguments: str, **environment: str) -> str:
    """The output of a fresh interpreter that runs a file."""
    result = subprocess.run(
        [sys.executable, script, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, (result.returncode, result.stdout, result.stderr)
    return result.stdout
