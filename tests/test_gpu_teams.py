"""Teams of threads that share the rows of short tasks, by interpreted kernels: needs no GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ptxsim.driver import StandIn

import redcomp.ptx.schedule
from redcomp.backends.gpu import GpuLowering
from redcomp.numpy import Genred
from redcomp.ptx.schedule import PtxSchedule
from redcomp.runtime import driver as drivers

Array = np.ndarray[Any, np.dtype[Any]]
Meaning = Callable[[Array], Array]
GAUSSIAN = ("Exp(-SqDist(x, y)) * b", ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)"])
WARP, THREADS = 32, 128


def lowering(rows: int | None, formula: str = GAUSSIAN[0], dim: int = 3) -> GpuLowering:
    aliases = [f"x = Vi({dim})", f"y = Vj({dim})", "b = Vj(1)"]
    made = Genred(formula, aliases, axis=1).reduction.lower("f32", "sm_90", rows)
    assert isinstance(made, GpuLowering)
    return made


def points(rows: int, columns: int, seed: int = 0) -> tuple[Array, Array, Array]:
    random = np.random.default_rng(seed)
    x, y, b = (random.standard_normal(s) for s in ((rows, 3), (columns, 3), (columns, 1)))
    return x.astype(np.float32), y.astype(np.float32), b.astype(np.float32)


def kernel_matrix(x: Array, y: Array) -> Array:
    return np.exp(-((x[..., :, None, :].astype(float) - y[..., None, :, :]) ** 2).sum(-1))


@pytest.mark.parametrize("rows", [1, 48, 100, 1024])
def test_short_tasks_get_teams(rows: int) -> None:
    schedule, many = lowering(rows).schedule, lowering(None).schedule
    assert schedule.teams
    assert not many.teams
    assert (schedule.threads, schedule.rows, schedule.cols) == (THREADS, many.rows, many.cols)


def test_kernels_that_cannot_share_rows_have_small_blocks() -> None:
    """Members would fill lists of their own; vectors of 300 components are read by all at one
    column."""
    nearest = Genred("SqDist(x, y)", GAUSSIAN[1][:2], "ArgKMin", axis=1, opt_arg=3).reduction
    for made in (nearest.lower("f32", "sm_90", 10), lowering(10, dim=300)):
        assert isinstance(made.schedule, PtxSchedule)
        assert not made.schedule.teams
        assert made.schedule.threads == WARP


@pytest.mark.sampled(64)
@pytest.mark.parametrize("processors", [1, 64])
@pytest.mark.parametrize("columns", [1, 41, 700, 2100])
@pytest.mark.parametrize("rows", [1, 3, 10, 31, 100, 130, 257, 520])
def test_any_number_of_rows(rows: int, columns: int, processors: int) -> None:
    """Teams of 1 to 128 threads; tiles whose columns are no whole steps, and parts of them."""
    x, y, b = points(rows, columns, seed=rows)
    with drivers.use(StandIn(processors=processors)):
        found = Genred(*GAUSSIAN, axis=1)(x, y, b, backend="GPU")
    assert np.allclose(found, kernel_matrix(x, y) @ b, atol=2e-5)


@pytest.mark.sampled(24)
@pytest.mark.parametrize("threads", [32, 96])
@pytest.mark.parametrize("cols", [1, 2, 8])
@pytest.mark.parametrize("tile", [8, 24, 64, 256])
def test_any_schedule(threads: int, cols: int, tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles that are shorter than a step of a team, or than the team itself."""
    choose = redcomp.ptx.schedule.choose_schedule
    changes = {"threads": threads, "cols": cols, "tile": tile}
    monkeypatch.setattr(
        redcomp.ptx.schedule, "choose_schedule", lambda *args: replace(choose(*args), **changes)
    )
    x, y, b = points(9, 150)
    with drivers.use(StandIn(processors=2)):
        found = Genred(*GAUSSIAN, axis=1)(x, y, b, backend="GPU")
    assert np.allclose(found, kernel_matrix(x, y) @ b, atol=2e-5)


# -- reductions ------------------------------------------------------------------------------------


def softmax_average(values: Array) -> Array:
    weights = np.exp(values - values.max(1, keepdims=True))
    return (weights * np.arange(values.shape[1])[:, None]).sum(1) / weights.sum(1)


MEANINGS: dict[str, Meaning] = {
    "Sum": lambda v: v.sum(1),
    "Mean": lambda v: v.mean(1),
    "Norm": lambda v: np.sqrt((v**2).sum(1)),
    "LogSumExp": lambda v: np.log(np.exp(v - v.max(1, keepdims=True)).sum(1)) + v.max(1),
    "Max": lambda v: v.max(1),
    "ArgMin": lambda v: v.argmin(1),
    "ArgMax": lambda v: v.argmax(1),
    "Any": lambda v: (v > 8).any(1),
    "Prod": lambda v: (1 + v / 1000).prod(1),
}


def values_of(rows: int, columns: int, dim: int) -> tuple[Array, Array, Array]:
    """Whole numbers, of which many are equal."""
    random = np.random.default_rng(columns)
    x = random.integers(1, 3, (rows, dim)).astype(np.float32)
    y = random.integers(-4, 5, (columns, dim)).astype(np.float32)
    return x, y, (x[:, None] * y).astype(float)


@pytest.mark.sampled(96)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("rows", "columns"), [(1, 700), (10, 333), (100, 90)])
@pytest.mark.parametrize(
    ("reduction", "dim"),
    [
        *((name, 1) for name in MEANINGS),
        *((name, 7) for name in ("Sum", "ArgMin", "Norm", "Max")),
        # Totals that are in memory.
        ("Sum", 40),
        ("ArgMin", 40),
    ],
)
def test_reductions(
    reduction: str, dim: int, rows: int, columns: int, dtype: type[np.floating[Any]]
) -> None:
    """Of equal extrema the first one wins, though columns of threads lie between each other."""
    x, y, values = values_of(rows, columns, dim)
    formulas = {"Any": "Step(x * y - 8.5)", "Prod": "1 + x * y / 1000"}
    formula, aliases = formulas.get(reduction, "x * y"), [f"x = Vi({dim})", f"y = Vj({dim})"]
    with drivers.use(StandIn(processors=3)):
        operation = Genred(formula, aliases, reduction, axis=1)
        found = operation(x.astype(dtype), y.astype(dtype), backend="GPU")
    tolerance = 1e-5 if dtype is np.float32 else 1e-11
    assert np.allclose(found, MEANINGS[reduction](values), rtol=tolerance, atol=tolerance)


@pytest.mark.thorough
@pytest.mark.parametrize("width", [1, 12, 40])
@pytest.mark.parametrize("rows", [4, 100])
def test_weighted_averages(rows: int, width: int) -> None:
    """The shift of each thread is another one."""
    x, y, values = values_of(rows, 257, 1)
    b = np.random.default_rng(0).standard_normal((257, width)).astype(np.float32)
    aliases = ["x = Vi(1)", "y = Vj(1)", f"b = Vj({width})"]
    with drivers.use(StandIn(processors=1)):
        operation = Genred("x * y", aliases, "SumSoftMaxWeight", axis=1, formula2="b")
        found = operation(x, y, b, backend="GPU")
    weights = np.exp(values - values.max(1, keepdims=True))
    assert np.allclose(found, (weights * b).sum(1) / weights.sum(1), rtol=1e-5, atol=1e-5)


# -- tables of tasks, batches ----------------------------------------------------------------------


@pytest.mark.sampled(4)
@pytest.mark.parametrize("reduction", ["Sum", "ArgMin"])
@pytest.mark.parametrize("processors", [1, 64])
def test_blocks_of_many_heights(processors: int, reduction: str) -> None:
    """From one row to more than a block of threads holds; columns in several intervals."""
    ends = np.cumsum([0, 1, 30, 100, 9, 600, 47])
    blocks = np.stack([ends[:-1], ends[1:]], 1)
    columns = np.array([[0, 90], [100, 103], [150, 300], [20, 70], [71, 400], [5, 6], [7, 399]])
    stops = np.array([1, 2, 3, 5, 6, 7])
    x, y, b = points(int(ends[-1]), 400)
    kept = np.zeros((len(x), 400), bool)
    for (first, last), start, stop in zip(blocks, np.append(0, stops[:-1]), stops, strict=True):
        for begin, end in columns[start:stop]:
            kept[first:last, begin:end] = True
    stand_in = StandIn(processors=processors)
    formula = "Exp(-SqDist(x, y)) * b" if reduction == "Sum" else "SqDist(x, y)"
    aliases, given = (GAUSSIAN[1], (x, y, b)) if reduction == "Sum" else (GAUSSIAN[1][:2], (x, y))
    unused = np.array([[0, 400]]), np.array([1]), np.array([[0, len(x)]])
    ranges = (blocks, stops, columns, *unused)
    with drivers.use(stand_in):
        found = Genred(formula, aliases, reduction, axis=1)(*given, backend="GPU", ranges=ranges)
    kernel = kernel_matrix(x, y)
    expected = (kernel * kept) @ b if reduction == "Sum" else np.where(kept, kernel, -1).argmax(1)
    assert np.allclose(found.reshape(-1), expected.reshape(-1), atol=2e-5)
    assert stand_in.launches[0].threads == THREADS


@pytest.mark.sampled(2)
@pytest.mark.parametrize("processors", [1, 64])
def test_batches_and_blocks_of_100_rows(processors: int) -> None:
    """Results of a batch, and of ranges whose blocks have 100 rows, against float64."""
    random = np.random.default_rng(0)
    x, y = random.standard_normal((2, 2, 300, 3)).astype(np.float32)
    b = random.standard_normal((2, 300, 1)).astype(np.float32)
    starts = np.arange(0, 300, 100)
    blocks = np.stack([starts, starts + 100], 1)
    ranges = (blocks, np.arange(1, 4), blocks[::-1].copy()) * 2
    kernel = kernel_matrix(x, y)
    kept = np.kron(np.eye(3)[::-1], np.ones((100, 100)))
    operation = Genred(*GAUSSIAN, axis=1)
    with drivers.use(StandIn(processors=processors)):
        found = [operation(x, y, b, backend="GPU", ranges=given) for given in (None, ranges)]
    assert np.allclose(found[0], kernel @ b, atol=1e-4)
    assert np.allclose(found[1], (kernel * kept) @ b, atol=1e-4)
