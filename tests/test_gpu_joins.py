"""Joins of parts of the columns: by interpreted kernels, and by counts; needs no GPU."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from on_gpu import on_gpu
from ptxsim import DeviceMemory, execute, parse
from ptxsim.scalars import GLOBAL_START

from redcomp.abi import GPU_JOIN, JOIN_THREADS
from redcomp.backends.gpu import GpuLowering
from redcomp.numpy import Genred

Array = np.ndarray[Any, np.dtype[Any]]
Meaning = Callable[[Array], tuple[Array, ...]]

ROWS, COLUMNS = 5, 1000  # that is 32 parts on a device of 64 multiprocessors, with small tiles
FEW_COLUMNS = 40  # 2 parts


def k_smallest(values: Array) -> tuple[Array, ...]:
    places = np.argsort(values, axis=1, kind="stable")[:, :7]
    return np.take_along_axis(values, places, 1)[..., 0], places[..., 0]


def shifted(values: Array) -> Array:
    return np.asarray(np.log(np.exp(values - values.max(1, keepdims=True)).sum(1)) + values.max(1))


MEANINGS: dict[str, Meaning] = {
    "Sum": lambda v: (v.sum(1),),
    "Mean": lambda v: (v.mean(1),),
    "Norm": lambda v: (np.sqrt((v**2).sum(1)),),
    "LogSumExp": lambda v: (shifted(v),),
    "Max": lambda v: (v.max(1),),
    "Min_ArgMin": lambda v: (v.min(1), v.argmin(1)),
    "ArgMax": lambda v: (v.argmax(1),),
    "KMin_ArgKMin": k_smallest,
    "Any": lambda v: ((v != 0).any(1),),
}


def values_of(dim: int, few: int) -> tuple[Array, Array, Array]:
    """Whole numbers, of which many are equal and the extrema are far from the first column."""
    random = np.random.default_rng(dim)
    count = COLUMNS if dim < 100 else FEW_COLUMNS
    x = random.integers(1, 3, (ROWS, dim))
    y = np.abs(np.arange(count) - 0.7 * count)[:, None] // 4
    y = y + random.integers(0, few, (count, dim))
    y = (y - 100) * random.permuted(np.sign(np.arange(dim) + 0.5))
    return x.astype(np.float32), y.astype(np.float32), x[:, None] * y.astype(np.float64)


@pytest.mark.sampled(16)
@pytest.mark.parametrize(
    ("reduction", "dim"),
    [
        *((name, 1) for name in MEANINGS),
        ("Sum", 20),
        ("Min_ArgMin", 3),
        ("Min_ArgMin", 20),
        # Vectors that are in memory: the first must not change before the second one is joined.
        ("Min_ArgMin", 300),
    ],
)
def test_many_parts_are_joined_in_their_order(reduction: str, dim: int) -> None:
    options = {"opt_arg": 7} if reduction.startswith("K") else {}
    aliases = [f"x = Vi({dim})", f"y = Vj({dim})"]
    x, y, values = values_of(dim, few=3)
    with on_gpu("splits"):
        found = Genred("x * y", aliases, reduction, axis=1, **options)(x, y)
    found = found if isinstance(found, tuple) else (found,)
    for result, expected in zip(found, MEANINGS[reduction](values), strict=True):
        assert np.allclose(result, expected, rtol=1e-6, atol=0), reduction


@pytest.mark.thorough
def test_weighted_averages_of_many_parts() -> None:
    """The shift is joined first, and changes what both sums are multiplied by."""
    x, y, values = values_of(1, few=5)
    b = np.random.default_rng(0).standard_normal((COLUMNS, 3)).astype(np.float32)
    options = {"formula2": "b", "axis": 1}
    with on_gpu("splits"):
        operation = Genred("x * y", ["x = Vi(1)", "y = Vj(1)", "b = Vj(3)"], "SoftMax", **options)
        found = operation(x, y, b)
    weights = np.exp(values - values.max(1, keepdims=True))
    assert np.allclose(found, (weights * b).sum(1) / weights.sum(1), rtol=1e-6, atol=1e-6)


# -- the kernel alone ------------------------------------------------------------------------------


def joined(parts: int, bits: int, rows: int = 10) -> tuple[Array, Array, int]:
    """What the kernel makes of given partial sums; their sums; the steps of a task."""
    lowering = Genred("x * y", ["x = Vi(1)", "y = Vj(1)"], axis=1).lower("float32", target="sm_90")
    assert isinstance(lowering, GpuLowering)
    height = lowering.schedule.block_rows
    memory = DeviceMemory(GLOBAL_START)
    partials = np.random.default_rng(parts).standard_normal((parts, height))
    x, y = np.ones((rows, 1), np.float32), np.ones((1, 1), np.float32)
    out = memory.allocate(4 * rows)
    given = [memory.allocate(array.nbytes) for array in (partials, x, y)]
    for region, array in zip(given, (partials, x, y), strict=True):
        region.data[: array.nbytes] = array.reshape(-1).view(np.uint8)
        assert region.written is not None
        region.written[: array.nbytes] = True
    groups = math.ceil(rows / (JOIN_THREADS >> bits))
    words = dict.fromkeys(GPU_JOIN, 0) | {
        "tasks": groups,
        "entry_tasks": groups,
        "rows": rows,
        "groups": groups,
        "splits": parts,
        "lane_bits": bits,
        "partials": given[0].base,
        "entry_partials": parts,
    }
    arrays = [out.base, *(region.base for region in given[1:])]
    job = [*words.values(), *arrays]
    result = execute(parse(lowering.asm), "redcomp_join", groups, JOIN_THREADS, job, memory)
    assert result.reports == ()
    return out.data[: 4 * rows].view(np.float32), partials[:, :rows].sum(0), result.steps


@pytest.mark.sampled(72)
@pytest.mark.parametrize("bits", range(JOIN_THREADS.bit_length()))
@pytest.mark.parametrize("parts", [1, 2, 3, 17, 64])
def test_any_number_of_lanes_joins_any_number_of_parts(parts: int, bits: int) -> None:
    found, expected, _ = joined(parts, bits)
    assert np.allclose(found, expected, rtol=1e-6)


def test_lanes_share_a_long_join() -> None:
    """An H100 joined 1,303 parts of 10 rows one after the other in 0.5 ms."""
    found, expected, steps = joined(1303, 8)
    assert np.allclose(found, expected, rtol=1e-5)
    _, _, serial = joined(1303, 0)
    assert steps * 20 < serial
