"""The sums as loops for numba: parallel over rows, fast math, the vectors' dimension a constant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def compile_loop(formula: str, dim: int) -> Callable[..., Any]:
    """A function of the formula's arrays; numba compiles it at its first call."""
    import numba

    return numba.njit(parallel=True, fastmath=True)(LOOPS[formula](numba.prange, dim))


def _gaussian(prange: Any, dim: int) -> Callable[..., Any]:
    def gaussian(x, y, b):  # type: ignore[no-untyped-def]  # numba infers the types
        out = np.empty((x.shape[0], 1), x.dtype)
        for i in prange(x.shape[0]):
            total = x.dtype.type(0)
            for j in range(y.shape[0]):
                square = x.dtype.type(0)
                for k in range(dim):
                    difference = x[i, k] - y[j, k]
                    square += difference * difference
                total += np.exp(-square) * b[j, 0]
            out[i, 0] = total
        return out

    return gaussian


def _laplacian(prange: Any, dim: int) -> Callable[..., Any]:
    def laplacian(x, y, b):  # type: ignore[no-untyped-def]
        out = np.empty((x.shape[0], 1), x.dtype)
        for i in prange(x.shape[0]):
            total = x.dtype.type(0)
            for j in range(y.shape[0]):
                square = x.dtype.type(0)
                for k in range(dim):
                    difference = x[i, k] - y[j, k]
                    square += difference * difference
                total += np.exp(-np.sqrt(square)) * b[j, 0]
            out[i, 0] = total
        return out

    return laplacian


def _seed(prange: Any, dim: int) -> Callable[..., Any]:
    def seed(x, y, a, p):  # type: ignore[no-untyped-def]
        out = np.empty_like(x)
        for i in prange(x.shape[0]):
            for k in range(dim):
                total = x.dtype.type(0)
                for j in range(y.shape[0]):
                    difference = p[0] - a[j, 0]
                    total += difference * difference * np.exp(x[i, k] + y[j, k])
                out[i, k] = total
        return out

    return seed


LOOPS: dict[str, Callable[[Any, int], Callable[..., Any]]] = {
    "gaussian": _gaussian,
    "laplacian": _laplacian,
    "seed": _seed,
}
