"""Lists of the nearest columns, joined over parts of the columns: needs a host backend and PyTorch,
no GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from on_gpu import on_gpu

import redcomp.runtime.host
import redcomp.torch
from redcomp.backends.gpu import GpuLowering
from redcomp.backends.host import HostLowering
from redcomp.concurrency import Latest
from redcomp.numpy import Genred
from redcomp.runtime.tasks import whole
from redcomp.runtime.waves import Waves
from redcomp.target import Height, height_of

Array = np.ndarray[Any, np.dtype[Any]]
FORMULA, ALIASES = "Square(x - y)", ["x = Vi(1)", "y = Vj(1)"]
PROCESSORS = 132


@pytest.fixture(params=["host", "GPU"])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Cuts columns into many parts; on the host the grain of all kernels is made small."""
    monkeypatch.setattr(redcomp.runtime.host, "SHARED_OPERATIONS", 1)
    monkeypatch.setattr(redcomp.runtime.host, "SPLIT_COLUMNS", 16)
    monkeypatch.setattr(redcomp.runtime.host, "SPLIT_OF_LISTS", 0)
    monkeypatch.setattr("redcomp.ptx.skeleton.COLUMNS_OF_KEPT", 0)
    for lowering in (HostLowering, GpuLowering):  # of which loaded kernels know their grain
        monkeypatch.setattr(lowering, "LOADED", Latest(64))
    return str(request.param)


@contextmanager
def splitting(machine: str) -> Iterator[None]:
    with ExitStack() as stack:
        if machine == "GPU":
            stack.enter_context(on_gpu("splits"))
        yield


def points(rows: int, columns: int, dtype: str = "float32") -> tuple[Array, Array]:
    """Whole numbers, many of them equal, in no order; some columns are infinite and some NaN."""
    random = np.random.default_rng(columns)
    x, y = random.integers(0, 9, (rows, 1)), random.integers(-20, 20, (columns, 1)).astype(dtype)
    y[random.random(columns) < 0.3] = np.nan
    y[random.random(columns) < 0.3] = np.inf
    return x.astype(dtype), y


def nearest(values: Array, count: int) -> tuple[Array, Array]:
    """The smallest values and their places, in float64; infinity and 0 where there are no more."""
    order = np.argsort(values, axis=-1, kind="stable")[..., :count]  # NaN comes last
    kept = np.take_along_axis(values, order, -1)
    missing = [*[(0, 0)] * (kept.ndim - 1), (0, count - kept.shape[-1])]
    kept, order = np.pad(kept, missing, constant_values=np.nan), np.pad(order, missing)
    return np.where(np.isnan(kept), np.inf, kept), np.where(np.isnan(kept), 0, order)


def values_of(x: Array, y: Array) -> Array:
    return np.asarray(np.square(x.astype(float) - np.swapaxes(y, -1, -2).astype(float)))


@pytest.mark.sampled(144)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [1, 10])
@pytest.mark.parametrize("columns", [40, 140])
@pytest.mark.parametrize("count", [1, 3, 10, 30])
def test_parts_give_what_all_columns_give(
    machine: str, count: int, columns: int, rows: int, dtype: str
) -> None:
    """To the last bit and place: 30 are in memory on hosts, and in float64 on GPUs."""
    x, y = points(rows, columns, dtype)
    with splitting(machine):
        values, places = Genred(FORMULA, ALIASES, "KMin_ArgKMin", axis=1, opt_arg=count)(x, y)
    right, order = nearest(values_of(x, y), count)
    assert np.array_equal(values, right)
    assert np.array_equal(places, order)


@pytest.mark.sampled(4)
def test_largest_values_beside_a_sum(machine: str) -> None:
    """Reductions of one sweep are split together."""
    x, y = points(5, 300)
    y = np.where(np.isfinite(y), y, 3)
    with splitting(machine):
        operation = Genred([FORMULA] * 2, ALIASES, ["KMax", "Sum"], axis=1, opt_arg=[4, None])
        largest, total = operation(x, y)
    values = values_of(x, y)
    assert np.array_equal(largest, -np.sort(-values)[:, :4])
    assert np.array_equal(total[:, 0], values.sum(1))


@pytest.mark.sampled(4)
def test_ranges_and_batches(machine: str) -> None:
    x, y = points(20, 600)
    blocks, slices = np.array([[0, 10], [10, 20]]), np.array([1, 3])
    columns = np.array([[0, 300], [100, 200], [350, 600]])
    ranges = (blocks, slices, columns, np.array([[0, 600]]), np.array([2]), blocks)
    inside = np.zeros((20, 600), bool)
    inside[:10, :300] = inside[10:, 100:200] = inside[10:, 350:] = True
    operation = Genred(FORMULA, ALIASES, "KMin_ArgKMin", axis=1, opt_arg=3)
    with splitting(machine):
        values, places = operation(x, y, ranges=ranges)
        batch = operation(x.reshape(2, 10, 1), y.reshape(2, 300, 1))
    right, order = nearest(np.where(inside, values_of(x, y), np.nan), 3)
    assert np.array_equal(values, right)
    assert np.array_equal(places, order)
    expected = nearest(values_of(x.reshape(2, 10, 1), y.reshape(2, 300, 1)), 3)
    for result, known in zip(batch, expected, strict=True):
        assert np.array_equal(result, known)


@pytest.mark.sampled(4)
def test_gradients_go_to_the_columns_that_are_kept(machine: str) -> None:
    x, y = (torch.from_numpy(array).double() for array in points(4, 300))
    y = torch.where(torch.isfinite(y), y, 5.5).requires_grad_()
    x.requires_grad_()
    cotangent = torch.arange(12.0, dtype=torch.float64).reshape(4, 3)
    with splitting(machine):
        operation = redcomp.torch.Genred(FORMULA, ALIASES, "KMin", axis=1, opt_arg=3)
        found = torch.autograd.grad(operation(x, y), (x, y), cotangent)
    order = torch.from_numpy(nearest(values_of(x.detach().numpy(), y.detach().numpy()), 3)[1])
    expected = torch.autograd.grad(((x - y[order, 0]) ** 2), (x, y), cotangent)
    for gradient, known in zip(found, expected, strict=True):
        assert torch.equal(gradient, known)


# -- how many parts --------------------------------------------------------------------------------


@pytest.mark.sampled(2)
@pytest.mark.parametrize("count", [1, 3, 10, 30, 100])
def test_10_rows_of_1e6_columns_fill_a_gpu(count: int) -> None:
    """Each multiprocessor has blocks, whose columns are at least 16 times those that they keep."""
    aliases = ["x = Vi(3)", "y = Vj(3)"]
    operation = Genred("SqDist(x, y)", aliases, "ArgKMin", axis=1, opt_arg=count)
    lowering = operation.reduction.lower("f32", "sm_90", 10)
    assert isinstance(lowering, GpuLowering)
    for launch in lowering.module.launches:
        waves, width = Waves(launch, PROCESSORS, 16).dense(10, 1_000_000, 1)
        assert waves.height >= 10
        assert 1_000_000 / width > PROCESSORS * (1 if count > 10 else 2) - 1
        assert width >= 16 * count


def parts_on_a_host(count: int, columns: int, rows: int = 10) -> int:
    """Tasks that leave lists to be joined."""
    operation = Genred("SqDist(x, y)", ["x = Vi(3)", "y = Vj(3)"], "ArgKMin", 1, opt_arg=count)
    lowering = operation.reduction.lower("f32", "host", rows)
    assert isinstance(lowering, HostLowering)
    return whole(rows, columns).plan(1, lowering.load().grain).partials


def test_parts_on_a_host_are_longer_for_longer_lists() -> None:
    """Each part fills a list of its own, which takes the longer the more columns it keeps."""
    assert parts_on_a_host(10, 1_000_000) == 16
    assert parts_on_a_host(100, 1_000_000) == 0
    assert 1 < parts_on_a_host(100, 4_000_000) < 16


def test_only_calls_of_few_rows_have_the_code_of_joins_on_hosts() -> None:
    operation = Genred(FORMULA, ALIASES, "ArgKMin", axis=1, opt_arg=3).reduction
    expected: dict[Height, bool] = {"few": True, "many": False}
    for rows in (10, 10_000):
        nest = operation.lower("f32", "host", rows).nest
        assert nest.can_split == expected[height_of(rows, has_blocks=False)]
