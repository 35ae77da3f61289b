"""The errors of kernels of distances by products of matrices; part of `measure_fast_math.py`."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import offset_errors

from redcomp.numpy import Genred

Array = np.ndarray[Any, Any]

DIMS = (16, 64)
OFFSETS = (0.0, 1.0, 1e3, 1e4)
WIDTHS = (0.1, 1.0, 10.0, 30.0, 100.0, 1e3)
# More rows than calls for few rows have, which have other kernels.
ROWS, COLUMNS = 64, 64


def clouds(dim: int, width: float, offset: float) -> tuple[Array, Array]:
    """Points of rows and of columns: each row's is at a distance of about 1 from some column's."""
    random = np.random.default_rng(0)
    columns = random.uniform(-width / 2, width / 2, (COLUMNS, dim))
    near = random.uniform(-1.0, 1.0, (ROWS, dim)) * math.sqrt(3 / dim)
    rows = columns[random.integers(0, COLUMNS, ROWS)] + near
    return (rows + offset).astype(np.float32), (columns + offset).astype(np.float32)


def _sum(a: Array, c: Array, b: Array) -> tuple[Array, Array]:
    """Of each row, and what errors are relative to."""
    kernel = np.exp(-((a[:, None] - c) ** 2).sum(-1)) @ b
    return kernel, np.abs(kernel)


def _gradient(a: Array, c: Array, b: Array) -> tuple[Array, Array]:
    """Of each row, and the sum of the sizes of the vectors that it is the sum of."""
    differences = a[:, None] - c
    squares = (differences**2).sum(-1, keepdims=True)
    terms = -2.0 * np.exp(-squares) * b[None] * differences
    return terms.sum(1), np.sqrt((terms**2).sum(-1)).sum(1)[:, None]


# Formulas, and their dense results.
FORMULAS = {
    "sum": ("Exp(-SqDist(x, y)) * b", _sum),
    "gradient": ("Grad(Exp(-SqDist(x, y)) * b, x, 1)", _gradient),
}


def errors(
    name: str, dim: int, width: float, offset: float, *, use_fast_math: bool, **options: Any
) -> tuple[float, float]:
    """The largest error of a row, and the square of the largest distance from the origin.

    The origin is the first column or the last, whichever is nearer to 0.
    """
    x, y = clouds(dim, width, offset)
    b = np.random.default_rng(1).uniform(0.5, 1.0, (COLUMNS, 1)).astype(np.float32)
    formula, dense = FORMULAS[name]
    aliases = [f"x = Vi({dim})", f"y = Vj({dim})", "b = Vj(1)"]
    found = Genred(formula, aliases, axis=1, use_fast_math=use_fast_math)(x, y, b, **options)
    a, c = x.astype(np.float64), y.astype(np.float64)
    expected, scale = dense(a, c, b.astype(np.float64))
    origin = min(c[0], c[-1], key=lambda point: float(point @ point))
    radius = max(float(((points - origin) ** 2).sum(-1).max()) for points in (a, c))
    sizes = np.sqrt(((found - expected) ** 2).sum(-1, keepdims=True)) / scale
    return float(sizes.max()), radius


def table(machine: str) -> tuple[str, list[str]]:
    """What the machine is called, and the lines of its table."""
    heads = [
        *("", "D", "width", "R^2", "2^-20 R^2", "exact"),
        *(f"at {x:,.0f}" for x in OFFSETS),
    ]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    with offset_errors.calls_on(machine) as (label, options):
        for case in itertools.product(FORMULAS, DIMS, WIDTHS):
            exact, radius = errors(*case, 0.0, use_fast_math=False, **options)
            fast = [errors(*case, x, use_fast_math=True, **options)[0] for x in OFFSETS]
            found = [f"{error:.1e}" for error in (radius, radius * 2.0**-20, exact, *fast)]
            name, dim, width = case
            lines.append(f"| {name} | {dim} | {width:g} | {' | '.join(found)} |")
    return label, lines
