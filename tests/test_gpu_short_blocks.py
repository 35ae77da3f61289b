"""Blocks of a warp where few rows lie together: needs no GPU."""

from __future__ import annotations

import numpy as np
import pytest
from on_gpu import STAND_INS, on_gpu
from ptxsim.driver import StandIn

from redcomp.backends.gpu import GpuLowering
from redcomp.numpy import Genred
from redcomp.runtime import driver as drivers

GAUSSIAN = ("Exp(-SqDist(x, y)) * b", ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)"])
WARP = 32


def lowering(rows: int | None, formula: str = GAUSSIAN[0], dim: int = 3) -> GpuLowering:
    aliases = [f"x = Vi({dim})", f"y = Vj({dim})", "b = Vj(1)"]
    made = Genred(formula, aliases, axis=1).reduction.lower("f32", "sm_90", rows)
    assert isinstance(made, GpuLowering)
    return made


@pytest.mark.parametrize(
    ("rows", "block"), [(1, 32), (48, 32), (49, 128), (100, 128), (1024, 128), (1025, 512)]
)
def test_blocks_fit_the_rows(rows: int, block: int) -> None:
    """10 rows left 118 of 128 threads without any, and 100 rows 412 of 512 places."""
    schedule = lowering(rows).schedule
    assert schedule.block_rows == block
    assert (schedule.threads == WARP) == (rows <= 1024)


@pytest.mark.parametrize("dim", [3, 16, 64])
def test_as_many_warps_fit_beside_each_other(dim: int) -> None:
    """By registers as many, and by shared memory half as many at least."""
    short, many = lowering(100, dim=dim), lowering(None, dim=dim)
    warps = [low.schedule.threads // WARP * low.schedule.resident for low in (short, many)]
    assert warps[0] == warps[1]
    assert (short.schedule.rows, short.schedule.cols) == (many.schedule.rows, many.schedule.cols)


@pytest.mark.parametrize("name", STAND_INS)
def test_batches_and_blocks_of_100_rows(name: str) -> None:
    """Results of a batch, and of ranges whose blocks have 100 rows, against float64."""
    random = np.random.default_rng(0)
    x, y = random.standard_normal((2, 2, 300, 3)).astype(np.float32)
    b = random.standard_normal((2, 300, 1)).astype(np.float32)
    starts = np.arange(0, 300, 100)
    blocks = np.stack([starts, starts + 100], 1)
    ranges = (blocks, np.arange(1, 4), blocks[::-1].copy()) * 2
    far = ((x[:, :, None].astype(float) - y[:, None]) ** 2).sum(-1)
    kernel = np.exp(-far)
    kept = np.kron(np.eye(3)[::-1], np.ones((100, 100)))
    with on_gpu(name):
        operation = Genred(*GAUSSIAN, axis=1)
        assert np.allclose(operation(x, y, b), kernel @ b, atol=1e-4)
        assert np.allclose(operation(x, y, b, ranges=ranges), (kernel * kept) @ b, atol=1e-4)
        stand_in = drivers.driver()
        assert isinstance(stand_in, StandIn)
        runs = [launch for launch in stand_in.launches if launch.kernel == "redcomp_run"]
    assert runs[-1].threads == WARP
