"""The errors of formulas under fast math for points far from 0; part of `measure_fast_math.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from redcomp.numpy import Genred

Array = np.ndarray[Any, Any]

OFFSETS = (0.0, 1.0, 1e2, 1e4, 1e6)
# Coefficients of the squared distance, and the widths of the cloud for each.
CLOUDS: Mapping[float, tuple[float, ...]] = {1.0: (1.0, 30.0, 1e3), 3e4: (0.01, 1.0, 1e3)}
ROWS, COLUMNS = 48, 64


@dataclass(frozen=True, slots=True)
class Formula:
    """A function of the distances, by the text of its coefficient of their squares and its root."""

    name: str
    text: str
    reduction: str = "Sum"

    def genred(self, coefficient: float, *, use_fast_math: bool) -> Genred:
        """The reduction over columns."""
        root = repr(float(np.sqrt(coefficient)))
        text = self.text.format(c=repr(coefficient), k=root)
        aliases = ["x = Vi(3)", "y = Vj(3)"]
        aliases += [a for a in ("b = Vj(1)", "e = Vi(1)", "g = Pm(1)") if self.reads(a[0])]
        return Genred(
            text, aliases, reduction_op=self.reduction, axis=1, use_fast_math=use_fast_math
        )

    def reads(self, name: str) -> bool:
        """Whether the formula has this variable."""
        return name in self.text.replace("Exp", "").replace("Grad", "").replace("SqDist", "")


GAUSSIAN = "Exp(-{c} * SqDist(x, y)) * b"
FORMULAS = (
    Formula("Gaussian", GAUSSIAN),
    Formula("its gradient", f"Grad({GAUSSIAN}, x, e)"),
    Formula("Gaussian with a parameter", "Exp(-g * SqDist(x, y)) * b"),
    Formula("LogSumExp of the exponent", "-{c} * SqDist(x, y)", "LogSumExp"),
    Formula("Laplacian", "Exp(-{k} * Sqrt(SqDist(x, y))) * b"),
    Formula("its gradient in y", "Grad(Exp(-{k} * Sqrt(SqDist(x, y))) * b, x, e)"),
    Formula("Cauchy", "b / (1 + {c} * SqDist(x, y))"),
    Formula("absolute differences", "Exp(-{k} * Sum(Abs(x - y))) * b"),
)


@dataclass(frozen=True, slots=True)
class Errors:
    """Of a formula on clouds of one width: of the exact path, and of fast math for each offset."""

    formula: str
    coefficient: float
    width: float
    exact: float
    fast: tuple[float, ...]


def clouds(coefficient: float, width: float, offsets: Sequence[float]) -> tuple[Array, Array]:
    """Points of rows and of columns, (offsets, count, 3): each row's is near some column's."""
    random = np.random.default_rng(0)
    columns = random.uniform(-width / 2, width / 2, (COLUMNS, 3))
    near = random.uniform(-1.0, 1.0, (ROWS, 3)) / np.sqrt(coefficient)
    rows = columns[random.integers(0, COLUMNS, ROWS)] + near
    moves = np.array(offsets)[:, None, None]
    return (rows + moves).astype(np.float32), (columns + moves).astype(np.float32)


def measure(
    formula: Formula,
    coefficient: float,
    widths: Sequence[float],
    offsets: Sequence[float] = OFFSETS,
    **options: Any,
) -> Iterator[Errors]:
    """The errors on clouds of some widths, all of which are one call with these options."""
    pairs = [clouds(coefficient, width, offsets) for width in widths]
    x, y = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
    random = np.random.default_rng(1)
    more = {
        "b": random.uniform(0.5, 1.0, (COLUMNS, 1)).astype(np.float32),
        "e": random.uniform(0.5, 1.0, (ROWS, 1)).astype(np.float32),
        "g": np.array([coefficient], np.float32),
    }
    args = [x, y, *(array for name, array in more.items() if formula.reads(name))]
    exact, fast = (
        formula.genred(coefficient, use_fast_math=is_fast)(*args, **options)
        for is_fast in (False, True)
    )
    wide = [array.astype(np.float64) for array in args]
    expected = formula.genred(coefficient, use_fast_math=False)(*wide, **options)
    for width, a, b, c in zip(
        widths, *(np.split(array, len(widths)) for array in (exact, fast, expected)), strict=True
    ):
        of_exact, of_fast = _relative(a, c), _relative(b, c)
        yield Errors(formula.name, coefficient, width, float(of_exact.max()), tuple(of_fast.tolist()))


def _relative(found: Array, expected: Array) -> Array:
    """The largest error of each entry, relative to its largest result."""
    largest = np.maximum(np.abs(expected).max(axis=(1, 2)), 1e-30)
    error: Array = np.abs(found - expected).max(axis=(1, 2)) / largest
    return error
