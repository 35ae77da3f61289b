"""How calls are cut for a GPU: tables of sizes, by counts; needs no backend and no GPU."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from redcomp.abi import JOIN_THREADS, TASK, Launch
from redcomp.runtime.tasks import Blocks, Plan
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


# -- short tasks, whose threads form teams ---------------------------------------------------------

TEAMS = Launch(128, 512, 512, 4096, clocks=54.0, filling=0.36, team_rows=4)


def active(launch: Launch, rows: np.ndarray) -> np.ndarray:
    """The share of a block's threads, times rows of each, that is rows of tasks of so many."""
    groups = -(-rows // launch.team_rows)
    return (launch.threads // groups) * rows / (launch.threads * launch.team_rows)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("entries", [1, 1000])
def test_threads_of_short_tasks_have_rows(entries: int) -> None:
    """10 rows of a warp left 22 threads without any, and 100 rows 7 of 32."""
    waves = Waves(TEAMS, 132, 5)
    for rows in range(1, 1025):
        of_rows, _ = waves.dense(rows, 100_000, entries)
        blocks = math.ceil(rows / of_rows.height)
        slots = TEAMS.threads // math.ceil(of_rows.height / TEAMS.team_rows)
        taken = blocks * TEAMS.threads * TEAMS.team_rows / slots
        assert rows / taken >= (0.84 if rows > 28 else 0.25 if rows < 3 else 0.6), rows


def test_more_rows_are_cut_where_multiprocessors_have_none() -> None:
    """300 x 300 takes as long as it takes a task to begin."""
    waves, width = Waves(TEAMS, 132, 5).dense(300, 300, 1)
    assert width == 300
    assert math.ceil(300 / waves.height) >= 66


def clusters(count: int, kept: int) -> Blocks:
    """Blocks of 100 rows, each with some blocks of 100 columns."""
    random = np.random.default_rng(0)
    chosen = [np.sort(random.choice(count, kept, replace=False)) for _ in range(count)]
    starts = 100 * np.concatenate(chosen)
    rows = 100 * np.arange(count)
    ends = kept * np.arange(1, count + 1)
    return Blocks(np.stack([rows, rows + 100], 1), ends, np.stack([starts, starts + 100], 1))


def lengths(plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of each task."""
    ends = np.append(0, np.cumsum(plan.intervals[:, 1] - plan.intervals[:, 0]))
    first, last, start, stop = (
        plan.tasks[:, TASK[name]] for name in ("first", "last", "start", "stop")
    )
    return last - first, ends[stop] - ends[start]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("count", [100, 300, 1000, 3000])
@pytest.mark.parametrize("processors", PROCESSORS)
def test_tables_of_tasks_fill_waves(count: int, processors: int) -> None:
    """A tenth of all pairs, in blocks of 100 x 100: 97 % of threads have rows, multiprocessors
    have pairs for 90 % of the time, from 1 ms on; and tasks are the same when they are asked for
    again.
    """
    waves, blocks = Waves(TEAMS, processors, 5), clusters(count, count // 10)
    plan = blocks.plan(1, waves)
    rows, columns = lengths(plan)
    assert (active(TEAMS, rows) > 0.97).all()
    assert int(rows @ columns) == 100 * count * 10 * count
    column = waves.for_rows(100).column
    best = float(columns.sum()) * column / processors
    taken = waves.table_clocks(columns * column)
    assert best >= (0.9 if best > 100_000 else 0.45) * taken, (best, taken)
    assert blocks.plan(1, Waves(TEAMS, processors, 5)) is plan


def test_long_tasks_of_a_table_are_split() -> None:
    """One block of rows has most of the pairs."""
    ends = np.arange(1, 101)
    columns = np.full(100, 100)
    columns[7] = 200_000
    rows = np.stack([100 * (ends - 1), 100 * ends], 1)
    blocks = Blocks(rows, ends, np.stack([np.zeros(100, int), columns], 1))
    _, widths = lengths(blocks.plan(1, Waves(TEAMS, 132, 5)))
    assert len(widths) > 220
    assert widths.max() < 2000
    whole = replace(TEAMS, can_split=False)
    _, widths = lengths(blocks.plan(1, Waves(whole, 132, 5)))
    assert len(widths) == 100
