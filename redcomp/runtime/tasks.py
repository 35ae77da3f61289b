"""The task table: which rows are reduced over which columns, cut into tasks.

What is to be done is a list of blocks of rows, each with its intervals of columns; a dense call is
one block with one interval.  A task is a chunk of a block's rows.  Where the chunks are too few to
keep threads busy, a block's columns are split too, and the totals of the splits are joined
afterwards.  Tasks depend on sizes and blocks only, never on the threads, and so do the results.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import numpy as np

from redcomp.llvm_backend.layout import TASK_WORD, TASK_WORDS

Integers = np.ndarray[tuple[int, ...], np.dtype[np.int64]]

# Enough tasks that an uneven machine is used well.
_TASKS = 16
# A split of the columns is not worth its join below this many columns.
_SPLIT_COLUMNS = 2048
# Waking another thread takes tens of microseconds.  Below this many operations, which one thread
# does in about 0.2 ms, a call is one task or a few, and stays in its thread.
_SHARED_OPERATIONS = 20_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Grain:
    """What a kernel's tasks are made of.

    lanes       rows in a vector
    step        rows that are reduced together
    chunk       rows that a task holds at most, a multiple of `step`
    operations  what a pair costs
    can_split   whether totals of parts of the columns can be joined
    """

    lanes: int
    step: int
    chunk: int
    operations: int
    can_split: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A task table, which every entry of a batch shares.

    is_shared   whether threads share the call
    vectors     of rows that a task holds at most
    partials    the tasks of an entry that leave their totals to be joined
    words       the first words of the job, and what they are while totals are joined
    tables      the memory that the words point to: tasks, intervals, joins
    """

    is_shared: bool
    vectors: int
    partials: int
    words: tuple[int, ...]
    join_words: tuple[int, ...]
    tables: tuple[Integers, Integers, Integers]


@dataclass(eq=False)
class Blocks:
    """Blocks of rows, and the intervals of columns that each is reduced over.

    rows       (blocks, 2): first row, and the one after the last; disjoint, none of them empty
    ends       (blocks,): the end of a block's part of `intervals`, which begins where the one
               before ends; no part is empty
    intervals  (intervals, 2): first column, and the one after the last; within a block ascending
               and disjoint, none of them empty

    Plans are kept as long as the blocks.
    """

    rows: Integers
    ends: Integers
    intervals: Integers
    _plans: dict[tuple[int, Grain], Plan] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.heights: Integers = self.rows[:, 1] - self.rows[:, 0]
        self.covered = int(self.heights.sum())  # rows in all blocks
        self.tallest = int(self.heights.max(initial=0))

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

    def plan(self, entries: int, grain: Grain) -> Plan:
        """The task table for a kernel and a batch of some entries."""
        key = (entries, grain)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = _make_plan(self, entries, grain)
        return plan


@functools.lru_cache(maxsize=256)
def whole(rows: int, columns: int) -> Blocks:
    """All rows, each reduced over all columns."""
    count = 1 if rows and columns else 0
    ends = np.array([[0, rows], [0, columns]], np.int64)
    return Blocks(ends[:count], np.ones(count, np.int64), ends[1 : 1 + count])


def _make_plan(blocks: Blocks, entries: int, grain: Grain) -> Plan:
    """Cut the blocks, which every entry of the batch has, into tasks."""
    heights, widths = blocks.heights, blocks.widths
    rows = blocks.covered * entries
    is_shared = int(heights @ widths) * entries * grain.operations > _SHARED_OPERATIONS
    wanted = -(-rows // _TASKS) if is_shared else rows
    chunk_rows = min(grain.chunk, max(grain.step, -(-wanted // grain.step) * grain.step))
    chunks = -(-heights // chunk_rows)
    most = 1
    if is_shared and grain.can_split:
        most = -(-_TASKS // (int(chunks.sum()) * entries))
    splits = np.clip(widths // _SPLIT_COLUMNS, 1, most)
    intervals, ends = _split_columns(blocks, widths, splits)

    # One row a task: block after block, chunk after chunk, split after split.
    each = splits.repeat(chunks)  # chunk's number of splits
    block = np.arange(len(chunks)).repeat(chunks).repeat(each)
    split = _count_within(each)
    first = blocks.rows[:, 0].repeat(chunks) + chunk_rows * _count_within(chunks)
    last = np.minimum(first + chunk_rows, blocks.rows[:, 1].repeat(chunks))
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
    partials = int(is_partial.sum())
    return Plan(
        is_shared,
        chunk_rows // grain.lanes,
        partials,
        (*_table_words(tasks, entries), intervals.ctypes.data, partials),
        _table_words(joins, entries),
        (tasks, intervals, joins),
    )


def _table_words(table: Integers, entries: int) -> tuple[int, ...]:
    """The first words of a job that works through a table."""
    return 0, entries * len(table), len(table), table.ctypes.data


def _split_columns(blocks: Blocks, widths: Integers, splits: Integers) -> tuple[Integers, Integers]:
    """The intervals cut where splits of the blocks begin, and the end of each split's intervals.

    All columns of all blocks are numbered through; splits and intervals begin somewhere there.
    """
    lengths = blocks.intervals[:, 1] - blocks.intervals[:, 0]
    begins = np.cumsum(lengths) - lengths
    split_widths = (-(-widths // splits)).repeat(splits)
    cuts = (np.cumsum(widths) - widths).repeat(splits) + split_widths * _count_within(splits)
    points = np.union1d(begins, cuts)
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
    table = np.empty((len(words["first"]), len(TASK_WORDS)), np.int64)
    for name, values in words.items():
        table[:, TASK_WORD[name]] = values
    return table
