"""The task table: which rows are reduced over which columns, cut into tasks.

What is to be done is a list of blocks of rows, each with its intervals of columns; a dense call is
one block with one interval.  A task is a chunk of a block's rows.  Where the chunks are too few to
keep threads busy, a block's columns are split too, and the totals of the splits are joined
afterwards.  Tasks depend on sizes and blocks only, never on the threads, and so do the results.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from redcomp.abi import TASK
from redcomp.records import record

Integers = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


@record
class Cuts:
    """How blocks are cut into tasks.

    rows       (blocks,): rows of a task at most
    splits     (blocks,): parts of the columns; fewer if these do not suffice
    is_shared  whether the call is divided
    is_long    whether it may take so long that somebody interrupts it
    """

    rows: Integers
    splits: Integers
    is_shared: bool = True
    is_long: bool = True


class Cutter(Hashable, Protocol):
    """Cuts blocks into tasks for a machine."""

    def cuts(self, blocks: Blocks, entries: int) -> Cuts:
        """How to cut blocks that every entry of a batch has."""


@dataclass(frozen=True, slots=True, eq=False)
class Grain:
    """What a kernel's tasks are made of where threads take them one by one.

    step           rows that are reduced together
    chunk          rows that a task holds at most, a multiple of `step`
    tasks          so many keep the machine busy
    split_columns  a split of the columns is not worth its join below so many
    pairs_alone    a call of at most so many pairs is not worth dividing
    can_split      whether totals of parts of the columns can be joined
    """

    step: int
    chunk: int
    tasks: int
    split_columns: int
    pairs_alone: int = 0
    can_split: bool = True

    def cuts(self, blocks: Blocks, entries: int) -> Cuts:
        """See `Cutter`."""
        heights, widths = blocks.heights, blocks.widths
        rows = blocks.covered * entries
        pairs = int(heights @ widths) * entries
        is_shared = pairs > self.pairs_alone
        wanted = -(-rows // self.tasks) if is_shared else rows
        chunk = min(self.chunk, max(self.step, -(-wanted // self.step) * self.step))
        most = 1
        if is_shared and self.can_split:
            most = -(-self.tasks // (int((-(-heights // chunk)).sum()) * entries))
        splits = np.clip(widths // self.split_columns, 1, most)
        return Cuts(
            np.full_like(heights, chunk), splits, is_shared, pairs > LONG * self.pairs_alone
        )


# Grains are compared by identity, which is fast; kernels that are alike share one, and so plans.
grain = functools.lru_cache(maxsize=256)(Grain)
# A call is long from so many times the pairs that are divided, about 0.1 s of one thread.  Shorter
# ones are not left to workers: systems often wake two of them on one core (decision 0020).
LONG = 250
# Plans that blocks keep: blocks may outlive many kernels.
_PLANS = 64


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A task table, which every entry of a batch shares.

    is_shared   whether the call is divided
    is_long     whether it may take so long that somebody interrupts it
    rows        that a task holds at most
    partials    the tasks of an entry that leave their totals to be joined
    tasks       (tasks, words): a record each, of `TASK`
    intervals   (intervals, 2): the columns of the tasks
    joins       (joins, words): the tasks that join what others left
    prepared    what machines have made of it, by machine, to be kept as long
    """

    is_shared: bool
    is_long: bool
    rows: int
    partials: int
    tasks: Integers
    intervals: Integers
    joins: Integers
    prepared: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def pairs_before(self) -> Integers:
        """(tasks + 1,): the pairs of an entry's tasks before each task, and those of all."""
        rows = self.tasks[:, TASK["last"]] - self.tasks[:, TASK["first"]]
        ends = np.append(0, np.cumsum(self.intervals[:, 1] - self.intervals[:, 0]))
        columns = ends[self.tasks[:, TASK["stop"]]] - ends[self.tasks[:, TASK["start"]]]
        return np.append(0, np.cumsum(rows * columns))


@dataclass(eq=False)
class Blocks:
    """Blocks of rows, and the intervals of columns that each is reduced over.

    rows       (blocks, 2): first row, and the one after the last; disjoint, none of them empty
    ends       (blocks,): the end of a block's part of `intervals`, which begins where the one
               before ends; no part is empty
    intervals  (intervals, 2): first column, and the one after the last; within a block ascending
               and disjoint, none of them empty

    Plans of the latest calls are kept as long as the blocks.
    """

    rows: Integers
    ends: Integers
    intervals: Integers
    _plans: dict[tuple[int, Cutter], Plan] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.heights: Integers = self.rows[:, 1] - self.rows[:, 0]
        self.covered = int(self.heights.sum())  # rows in all blocks
        self.tallest = int(self.heights.max(initial=0))
        # The rows and columns, if they are the first so many; None if there is more to be said.
        self.extent: tuple[int, int] | None = None
        if len(self.rows) == len(self.intervals) == 1 and not (self.rows + self.intervals)[0, 0]:
            self.extent = int(self.rows[0, 1]), int(self.intervals[0, 1])

    @property
    def widths(self) -> Integers:
        """The columns that each block is reduced over."""
        total = np.cumsum(self.intervals[:, 1] - self.intervals[:, 0])
        return np.diff(total[self.ends - 1], prepend=0)

    def mask(self, rows: int, columns: int) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
        """Which pairs there are: (rows, columns)."""
        made = np.zeros((rows, columns), np.bool_)
        begin = 0
        for (first, last), end in zip(self.rows, self.ends, strict=True):
            for start, stop in self.intervals[begin:end]:
                made[first:last, start:stop] = True
            begin = end
        return made

    def plan(self, entries: int, cutter: Cutter) -> Plan:
        """The task table for a kernel and a batch of some entries."""
        key = (entries, cutter)
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) >= _PLANS:
                self._plans.clear()
            plan = self._plans[key] = _make_plan(self, cutter.cuts(self, entries))
        return plan


@functools.lru_cache(maxsize=256)
def whole(rows: int, columns: int) -> Blocks:
    """All rows, each reduced over all columns."""
    count = 1 if rows and columns else 0
    ends = np.array([[0, rows], [0, columns]], np.int64)
    return Blocks(ends[:count], np.ones(count, np.int64), ends[1 : 1 + count])


def _make_plan(blocks: Blocks, cuts: Cuts) -> Plan:
    """Cut the blocks, which every entry of the batch has, into tasks."""
    heights, widths, chunk_rows = blocks.heights, blocks.widths, cuts.rows
    chunks = -(-heights // chunk_rows)
    # Of equal width: as many as that leaves columns for.
    splits = -(-widths // -(-widths // cuts.splits))
    intervals, ends = _split_columns(blocks, widths, splits)

    # One row a task: block after block, chunk after chunk, split after split.
    each = splits.repeat(chunks)  # chunk's number of splits
    block = np.arange(len(chunks)).repeat(chunks).repeat(each)
    split = _count_within(each)
    height = chunk_rows.repeat(chunks)
    first = blocks.rows[:, 0].repeat(chunks) + height * _count_within(chunks)
    last = np.minimum(first + height, blocks.rows[:, 1].repeat(chunks))
    number = (np.cumsum(splits) - splits)[block] + split
    is_partial = (each > 1).repeat(each)
    partial = np.where(is_partial, np.cumsum(is_partial) - 1, -1)
    start = np.concatenate(([0], ends[:-1]))
    tasks = _records(
        first=first.repeat(each),
        last=last.repeat(each),
        start=start[number],
        stop=ends[number],
        partial=partial,
    )
    joined, parts = each > 1, each[each > 1]
    stop = np.cumsum(parts)
    joins = _records(
        first=first[joined], last=last[joined], start=stop - parts, stop=stop, partial=stop * 0 - 1
    )
    # The longest first, so that no thread begins one when the others have finished.
    tasks = tasks[np.argsort(-(heights * (widths // splits))[block], kind="stable")]
    most, partials = int(chunk_rows.max(initial=0)), int(is_partial.sum())
    return Plan(cuts.is_shared, cuts.is_long, most, partials, tasks, intervals, joins)


def _split_columns(blocks: Blocks, widths: Integers, splits: Integers) -> tuple[Integers, Integers]:
    """The intervals cut where splits of the blocks begin, and the end of each split's intervals.

    All columns of all blocks are numbered through; splits and intervals begin somewhere there.
    """
    lengths = blocks.intervals[:, 1] - blocks.intervals[:, 0]
    begins = np.cumsum(lengths) - lengths
    split_widths = (-(-widths // splits)).repeat(splits)
    cuts = (np.cumsum(widths) - widths).repeat(splits) + split_widths * _count_within(splits)
    # What np.union1d gives, which would import numpy.ma in a program's first call.
    points = np.sort(np.concatenate((begins, cuts)))
    points = points[np.diff(points, prepend=-1) > 0]
    whole = np.searchsorted(begins, points, side="right") - 1
    first = blocks.intervals[whole, 0] + points - begins[whole]
    length = np.diff(points, append=lengths.sum())
    ends = np.append(np.searchsorted(points, cuts[1:]), len(points))
    return np.stack([first, first + length], axis=1), ends


def _count_within(sizes: Integers) -> Integers:
    """0, 1, ... for each of some groups, one after the other."""
    ends = np.cumsum(sizes)
    count = np.arange(sizes.sum(), dtype=np.int64)
    begins: Integers = ends - sizes
    return count - begins.repeat(sizes)


def _records(**words: Integers) -> Integers:
    """Records of the task table from their columns."""
    table = np.empty((len(words["first"]), len(TASK)), np.int64)
    for name, values in words.items():
        table[:, TASK[name]] = values
    return table
