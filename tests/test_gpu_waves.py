"""How calls are cut for a GPU: tables of sizes, by counts; needs no backend and no GPU."""

from __future__ import annotations

import itertools
import math

import pytest

from redcomp.abi import JOIN_THREADS, Launch
from redcomp.runtime.waves import Waves

SIZES = tuple(round(10 ** (n / 3)) for n in range(6, 19))  # from 1e2 to 1e6
# Of kernels on an H100: a block, and how many a multiprocessor holds.
KERNELS = {
    "four warps": (Launch(128, 512, 256, 4096, clocks=38.0), 5),
    "few registers": (Launch(128, 512, 256, 4096, clocks=30.0), 9),
    "a warp": (Launch(32, 128, 120, 1024, clocks=9.5), 20),
    "wide results": (Launch(128, 256, 96, 20 * 2048, clocks=100.0), 2),
    "float64": (Launch(128, 256, 256, 2048, clocks=60.0), 3),
}
PROCESSORS = (132, 108, 20)

kernels = pytest.mark.parametrize("name", KERNELS)


@kernels
@pytest.mark.parametrize("processors", PROCESSORS)
def test_multiprocessors_are_busy_at_any_size(name: str, processors: int) -> None:
    """At least 90 % of the time; and 90 % of the whole call if it takes 0.3 ms, joins included.

    In calls below 0.15 ms another part may cost more than it gains, as it may where totals are
    wide: these need reach 80 %.  Below 0.05 ms there are not pairs enough for all.
    """
    launch, resident = KERNELS[name]
    waves = Waves(launch, processors, resident)
    for rows, columns in itertools.product(SIZES, SIZES):
        blocks = math.ceil(rows / launch.rows)
        width = waves.split_columns(blocks, columns)
        best = blocks * columns * launch.clocks / processors
        taken = waves.clocks(blocks, columns, width)
        assert taken <= waves.clocks(blocks, columns, columns)
        if best > 100_000:
            share = 0.9 if best > 300_000 and name != "wide results" else 0.8
            assert best >= share * waves.busy(blocks, columns, width), (rows, columns)
        if best > 600_000:
            assert best >= (0.8 if name == "wide results" else 0.9) * taken, (rows, columns)


@kernels
def test_parts_of_the_columns_are_whole_steps(name: str) -> None:
    launch, resident = KERNELS[name]
    waves = Waves(launch, 132, resident)
    for rows, columns in itertools.product(SIZES, SIZES):
        width = waves.split_columns(math.ceil(rows / launch.rows), columns)
        assert width == columns or width % 16 == 0
        assert 1 <= width <= columns


def test_the_case_that_left_half_a_wave() -> None:
    """1e4 x 1e4 had 280 blocks, of 660 that an H100 holds."""
    launch, resident = KERNELS["four warps"]
    width = Waves(launch, 132, resident).split_columns(20, 10_000)
    assert 0.95 * 660 <= 20 * math.ceil(10_000 / width) <= 660


def test_columns_of_kernels_without_a_join_are_whole() -> None:
    waves = Waves(Launch(128, 128, 256, 1024, can_split=False), 132, 4)
    assert waves.split_columns(1, 10**6) == 10**6


@pytest.mark.parametrize(("blocks", "rows"), [(1, 10), (20, 512), (200, 512), (2000, 512)])
@pytest.mark.parametrize("parts", [2, 3, 33, 660, 2112])
def test_lanes_share_parts_while_the_device_holds_them(blocks: int, rows: int, parts: int) -> None:
    waves = Waves(KERNELS["four warps"][0], 132, 5)
    groups, bits = waves.groups(blocks, rows, parts)
    lanes = 1 << bits
    assert lanes <= min(JOIN_THREADS, 2 * parts)
    assert (groups - 1) * (JOIN_THREADS >> bits) < rows <= groups * (JOIN_THREADS >> bits)
    assert bits == 0 or blocks * rows * lanes <= 132 * 1024
    if blocks * rows <= 512:
        assert math.ceil(parts / lanes) + bits <= 17
