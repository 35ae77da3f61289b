"""Fast math on points far from 0: needs no GPU.

The reference is dense and in float64; bounds are for any offset, and for what the exact path gives.
"""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redcomp.numpy import Genred

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
offset_errors: Any = importlib.import_module("offset_errors")

Array = np.ndarray[Any, Any]
EPS = 2.0**-24
CLOUDS = [(c, width) for c, widths in offset_errors.CLOUDS.items() for width in widths]


@pytest.mark.sampled(192)
@pytest.mark.parametrize("cloud", CLOUDS, ids=str)
@pytest.mark.parametrize("formula", offset_errors.FORMULAS, ids=lambda f: f.name)
def test_error_does_not_grow_with_the_offset(formula: Any, cloud: tuple[float, float]) -> None:
    """It is a few times the exact path's, and a few roundings of the width of the scaled cloud."""
    coefficient, width = cloud
    (found,) = offset_errors.measure(formula, coefficient, [width], offset_errors.OFFSETS)
    bound = 4 * found.exact + 3 * EPS * math.sqrt(coefficient) * width
    assert max(found.fast) <= bound, found


# -- one formula that every machine prescales --

CAUCHY = "b / (1 + 300 * SqDist(x, y))"
ALIASES = ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)"]
# Of a sum of 1 / (1 + 300 d**2) over clouds of width 1: 4 roundings of the scaled width.
TOLERANCE = 1e-5


def cauchy(x: Array, y: Array, b: Array) -> Array:
    """(..., M, 1) in float64."""
    x, y, b = (array.astype(np.float64) for array in (x, y, b))
    with np.errstate(over="ignore", invalid="ignore"):
        squares = ((x[..., :, None, :] - y[..., None, :, :]) ** 2).sum(-1)
        return np.asarray((1 / (1 + 300 * squares)) @ b)


def fast(formula: str = CAUCHY, aliases: list[str] = ALIASES, axis: int = 1, **more: Any) -> Genred:
    return Genred(formula, aliases, axis=axis, use_fast_math=True, **more)


def points(*shape: int, offset: float = 1e4, seed: int = 0) -> Array:
    random = np.random.default_rng([seed, *shape])
    return (offset + random.uniform(-0.5, 0.5, shape)).astype(np.float32)


def weights(columns: int) -> Array:
    return np.random.default_rng(columns).uniform(0.5, 1.0, (columns, 1)).astype(np.float32)


def assert_near(found: Array, expected: Array, tolerance: float = TOLERANCE) -> None:
    assert found.shape == expected.shape
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert error <= tolerance


@pytest.mark.parametrize("rows", [1, 3, 200])
@pytest.mark.parametrize("columns", [1, 2, 300])
def test_sizes(rows: int, columns: int) -> None:
    x, y, b = points(rows, 3), points(columns, 3, seed=1), weights(columns)
    assert_near(fast()(x, y, b), cauchy(x, y, b))


def test_columns_that_are_split_have_one_origin() -> None:
    """Several thousand columns are divided, where few rows keep no machine busy."""
    x, y, b = points(20, 3), points(9000, 3, seed=1), weights(9000)
    assert_near(fast()(x, y, b), cauchy(x, y, b))


@pytest.mark.parametrize("columns", [0, 5])
def test_no_columns_and_no_rows(columns: int) -> None:
    y, b = points(columns, 3), weights(columns)
    np.testing.assert_array_equal(fast()(points(0, 3), y, b), np.zeros((0, 1)))
    np.testing.assert_array_equal(fast()(points(4, 3), y[:0], b[:0]), np.zeros((4, 1)))


def test_reduction_over_rows() -> None:
    x, y, b = points(70, 3), points(90, 3, seed=1), weights(70)
    found = fast(aliases=["x = Vi(3)", "y = Vj(3)", "b = Vi(1)"], axis=0)(x, y, b)
    assert_near(found, cauchy(y, x, b))


def test_every_entry_of_a_batch_has_its_own_origin() -> None:
    offsets = np.array([0.0, -1e4, 1e6, 3e2], np.float32)[:, None, None]
    x = points(4, 40, 3, offset=0) + offsets
    y = points(4, 50, 3, offset=0, seed=1) + offsets
    b = weights(50)
    expected = cauchy(x, y, b)
    found = fast()(x, y, b)
    for entry in range(4):
        assert_near(found[entry], expected[entry])


@pytest.mark.parametrize("place", [0, -1])
@pytest.mark.parametrize("number", [math.inf, -math.inf, 3e38, -1e30, 1e18, 1e6, 0.0])
def test_a_column_that_is_no_point_of_the_cloud(number: float, place: int) -> None:
    """Of the same cloud, so that the row is none either."""
    x = points(60, 3)
    x[place] = number
    rows, b = np.delete(x, place, axis=0), weights(60)
    assert_near(fast()(rows, x, b), cauchy(rows, x, b))


@pytest.mark.parametrize("number", [math.nan, math.inf, 3e38])
def test_columns_that_are_not_visited_may_be_anything(number: float) -> None:
    x, y, b = points(40, 3), points(60, 3, seed=1), weights(60)
    y[0] = y[-1] = number
    ranges = np.array([[0, 40]]), np.array([1]), np.array([[1, 59]])
    found = fast()(x, y, b, ranges=(*ranges, *_turned(ranges)))
    # Without an origin, as before: for points that are not far away.
    near = points(40, 3, offset=1), points(60, 3, offset=1, seed=1)
    near[1][0] = near[1][-1] = number
    assert np.all(np.isfinite(found))
    found = fast()(*near, b, ranges=(*ranges, *_turned(ranges)))
    assert_near(found, cauchy(near[0], near[1][1:-1], b[1:-1]))


def _turned(ranges: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    """The ranges for the reduction over the other axis."""
    return ranges[2], ranges[1], ranges[0]


def test_padding_by_zeros_is_no_origin() -> None:
    x, y, b = points(40, 3), points(60, 3, seed=1), weights(60)
    y[45:] = 0
    assert_near(fast()(x, y, b), cauchy(x, y, b))


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        # Offset and difference on both sides, a shift that is exact, a sum of both.
        ("Square(3 * ((x + 0.5) - (y - 0.25)))", lambda x, y: (3 * (x + 0.75 - y)) ** 2),
        ("Square(3 * (p * x - y * p))", lambda x, y: (3 * (x - y)) ** 2),
        ("Square(3 * (x + (-y)))", lambda x, y: (3 * (x - y)) ** 2),
        ("Square((y - x) / p3)", lambda x, y: ((y - x) / 3) ** 2),
        ("Abs(3 * (x - Round(y, 0)))", lambda x, y: np.abs(3 * (x - np.round(y)))),
        # What is both scaled and not.
        ("Square(3 * (x - y)) + (x - y)", lambda x, y: 9 * (x - y) ** 2 + (x - y)),
        # Overlaps of intervals: differences of extrema of both sides.
        ("3 * (Max(Concat(x, y)) - Min(Concat(x, y)))", lambda x, y: 3 * np.abs(x - y)),
        ("3 * (IfElse(x - y, x, y) - y)", lambda x, y: 3 * np.maximum(x - y, 0)),
    ],
    ids=lambda case: case if isinstance(case, str) else "",
)
def test_ways_to_write_differences(formula: str, expected: Callable[[Array, Array], Array]) -> None:
    x, y = points(30, 1), points(40, 1, seed=1)
    aliases = ["x = Vi(1)", "y = Vj(1)"]
    parameters = []
    for name, number in (("p3", 3.0), ("p", 1.0)):
        if name in formula:
            aliases.append(f"{name} = Pm(1)")
            parameters.append(np.array([number], np.float32))
            break
    pairs = expected(x.astype(np.float64), y.astype(np.float64)[:, 0])
    assert_near(fast(formula, aliases)(x, y, *parameters), pairs.sum(axis=1, keepdims=True), 1e-6)


def test_sums_of_opposite_sides() -> None:
    x, y = points(30, 1), -points(40, 1, seed=1)
    found = fast("Square(3 * (x + y))", ["x = Vi(1)", "y = Vj(1)"])(x, y)
    pairs = 9 * (x.astype(np.float64) + y.astype(np.float64)[:, 0]) ** 2
    assert_near(found, pairs.sum(axis=1, keepdims=True), 1e-6)


def test_long_loops_over_components_on_both_sides() -> None:
    """Their sums are computed once a row and a column, and once for the origin."""
    x, y = points(20, 100, offset=1.0), points(30, 100, offset=1.0, seed=1)
    found = fast("Abs(3 * (SqNorm2(x) - SqNorm2(y)))", ["x = Vi(100)", "y = Vj(100)"])(x, y)
    norms = [(a.astype(np.float64) ** 2).sum(axis=1) for a in (x, y)]
    pairs = 3 * np.abs(norms[0][:, None] - norms[1])
    assert_near(found, pairs.sum(axis=1, keepdims=True), 1e-4)


def test_integers_and_numbers_of_columns() -> None:
    """Integers are exact, and so are their differences."""
    x = (2.0**23 + np.arange(30, dtype=np.float32))[:, None]
    n = 2**23 + np.arange(40)[:, None] % 7
    found = fast("Square(0.3 * (x - n))", ["x = Vi(1)", "n = Vj(1, int)"])(x, n)
    pairs = (0.3 * (x.astype(np.float64) - n[:, 0])) ** 2
    assert_near(found, pairs.sum(axis=1, keepdims=True), 1e-6)
    found = fast("Square(0.3 * (x - Ind_j()))", ["x = Vi(1)", "y = Vj(1)"])(x, points(40, 1))
    pairs = (0.3 * (x.astype(np.float64) - np.arange(40))) ** 2
    assert_near(found, pairs.sum(axis=1, keepdims=True), 1e-6)


@pytest.mark.parametrize(("dtype", "offset"), [(np.float64, 1e12), (np.float16, 1e2)])
def test_other_dtypes(dtype: Any, offset: float) -> None:
    x, y = ((offset + points(n, 3, offset=0)).astype(dtype) for n in (30, 40))
    b = weights(40).astype(dtype)
    eps = {np.float64: 1e-13, np.float16: 1e-3}[dtype]
    assert_near(fast()(x, y, b), cauchy(x, y, b), eps)
