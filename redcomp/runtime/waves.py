"""How a call is cut for a GPU: into how many parts of the rows and of the columns, and how many
threads join these.

The device holds some blocks at a time, a wave.  A call takes as long as its fullest multiprocessor,
so tasks should fill whole waves.  What cuts cost is estimated in clocks of a multiprocessor, from
a schedule's estimate of a column (`Launch.clocks`) and the figures here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from redcomp.abi import JOIN_THREADS, Launch
from redcomp.records import record
from redcomp.runtime.tasks import Blocks, Cuts, Integers

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

# Warps of a multiprocessor that hide most latencies; with half of them it is a quarter slower, as
# in `ptx/schedule.py`.
_ENOUGH_WARPS, _SLOWER = 16, 0.5
# Clocks until a block has its rows and its first columns, and until its results are stored.
_START = 2500.0
# Clocks that the instructions of a tile beside its pairs take, for each warp.
_TILE = 20.0
# Clocks from the end of the last task until totals are joined; of each part that a lane joins; and
# of each exchange between lanes.
_JOIN, _PART, _EXCHANGE = 4000.0, 700.0, 150.0
# Bytes that a multiprocessor writes, or reads from where others have written them, per clock.
_BYTES = 16.0
# Columns of a part are a multiple of this: whole steps of all schedules.
_UNIT = 16
# Waves among which the cheapest number is looked for.
_MOST_WAVES = 8
# So many numbers of tasks from the least one on are tried for rows that teams have.
_MORE_TASKS = 8
# Of these, how many are tried with parts of the columns.
_TRIED = 3
# Threads of a multiprocessor that join at a time: half of what the largest can hold.
_JOINING_THREADS = 1024
_MOST_BITS = JOIN_THREADS.bit_length() - 1


@record
class Waves:
    """A kernel on a device: its launch, multiprocessors, and blocks that each holds at a time.

    rows   of a task at most; 0 where it has as many as a block has
    """

    launch: Launch
    processors: int
    resident: int
    rows: int = 0

    @property
    def height(self) -> int:
        """Rows of a task at most."""
        return self.rows or self.launch.rows

    def heights(self, rows: int) -> Iterator[Waves]:
        """The same for tasks of each height that so many rows may be cut into.

        Where threads form teams, their number decides how many threads have none; and more tasks
        are done at a time.
        """
        unit = self.launch.team_rows
        if not unit:
            yield self
            return
        least = _ceiling(rows, self.launch.rows)
        counts = [least + n for n in range(_MORE_TASKS)]
        while counts[-1] * unit < rows:
            counts.append(2 * counts[-1])
        found = (_ceiling(_ceiling(rows, count), unit) * unit for count in counts)
        for height in dict.fromkeys(found):
            yield replace(self, rows=height)

    def for_rows(self, rows: int) -> Waves:
        """The same for tasks of so many rows that lie together, if there are many."""
        return min(self.heights(rows), key=lambda w: _ceiling(rows, w.height) * w.column)

    def dense(self, rows: int, columns: int, entries: int) -> tuple[Waves, int]:
        """The same for all pairs of so many rows and columns, and the columns of a part."""

        def blocks(waves: Waves) -> int:
            return _ceiling(rows, waves.height) * entries

        def about(waves: Waves) -> float:
            balanced = blocks(waves) * columns * waves.column / self.processors
            whole = waves.clocks(blocks(waves), columns, columns)
            return min(_START + _JOIN + balanced, whole)

        def taken(option: tuple[Waves, int]) -> float:
            waves, width = option
            return waves.clocks(blocks(waves), columns, width)

        likely = sorted(self.heights(rows), key=about)[:_TRIED]
        found = [(waves, waves.split_columns(blocks(waves), columns)) for waves in likely]
        return min(found, key=taken)

    @property
    def column(self) -> float:
        """Clocks of a full multiprocessor for a column of a task."""
        launch = self.launch
        members = 1
        if launch.team_rows:
            members = launch.threads // _ceiling(self.height, launch.team_rows)
        return launch.clocks / members + launch.filling

    @property
    def partial_bytes(self) -> int:
        """Of the totals that a task leaves to be joined."""
        return self.launch.partial_bytes * self.height // self.launch.rows

    @property
    def _warps(self) -> float:
        return self.launch.threads / 32

    @property
    def blocks(self) -> int:
        """Blocks of a wave."""
        return self.processors * self.resident

    def split_columns(self, blocks: int, columns: int) -> int:
        """Columns of a part, for so many blocks of rows of all entries; all where that is best."""
        if not self.launch.can_split:
            return max(1, columns)
        widths = {max(1, columns)} | {
            self._width(columns, count * self.processors // blocks)
            for count in self.counts()
            if count * self.processors > blocks
        }
        return min(sorted(widths, reverse=True), key=lambda w: self.clocks(blocks, columns, w))

    def clocks(self, blocks: int, columns: int, width: int) -> float:
        """What a call takes by these figures, in parts of so many columns."""
        parts = _ceiling(columns, width)
        waves = (blocks * parts - 1) // self.blocks  # in which other blocks compute meanwhile
        starts = (1 + waves / self.resident) * _START
        return starts + self.busy(blocks, columns, width) + self.join_clocks(blocks, parts)

    def busy(self, blocks: int, columns: int, width: int) -> float:
        """How long the fullest multiprocessor computes pairs."""
        tiles = _ceiling(width, self.launch.tile)
        task = min(width, columns) * self.column + tiles * self.tile
        waves, left = divmod(blocks * _ceiling(columns, width), self.blocks)
        last = _ceiling(left, self.processors)
        return (waves * self.resident + last * self._slower(last)) * task

    @property
    def tile(self) -> float:
        """Clocks that a tile takes beside its pairs."""
        return self._warps * _TILE

    def _slower(self, blocks: int) -> float:
        """How much slower a block's pairs are where a multiprocessor has only so many blocks."""

        def idle(count: int) -> float:
            return _SLOWER * max(0.0, 1 - count * self._warps / _ENOUGH_WARPS)

        return (1 + idle(blocks)) / (1 + idle(self.resident))

    def join_clocks(self, blocks: int, parts: int) -> float:
        """What joining so many parts of the columns takes."""
        if parts == 1:
            return 0.0
        _, bits = self.groups(blocks, self.height, parts)
        size = blocks * parts * self.partial_bytes
        return _JOIN + _lane_clocks(parts, bits) + 2 * size / (self.processors * _BYTES)

    def counts(self) -> Iterator[int]:
        """Tasks of a multiprocessor, if all are filled alike."""
        yield from range(1, 2 * self.resident)
        for waves in range(2, _MOST_WAVES + 1):
            yield waves * self.resident

    def _width(self, columns: int, parts: int) -> int:
        least = max(self.launch.least_columns, _ceiling(columns, parts))
        return min(columns, _ceiling(least, _UNIT) * _UNIT)

    # -- tables of tasks ---------------------------------------------------------------------------

    def cuts(self, blocks: Blocks, entries: int) -> Cuts:
        """How blocks of rows that every entry of a batch has are cut, see `Cutter`.

        Their tasks have different lengths, and blocks of threads begin the longest ones first.
        """
        heights, places = np.unique(blocks.heights, return_inverse=True)
        kinds = [self.for_rows(int(height)) for height in heights]
        rows = np.array([kind.height for kind in kinds], np.int64)[places]
        column = np.array([kind.column for kind in kinds])[places]
        chunks, widths = -(-blocks.heights // rows) * entries, blocks.widths
        table = _Table(self, chunks, widths, column)
        if not self.launch.can_split:
            return Cuts(rows, np.ones_like(widths))
        found = {splits.tobytes(): splits for splits in table.splits()}
        return Cuts(rows, min(found.values(), key=table.clocks))

    def table_clocks(self, tasks: Floats) -> float:
        """How long tasks take of so many clocks of a full multiprocessor each."""
        loads, count = np.zeros(self.processors), self.processors
        tasks = np.sort(tasks)[::-1]
        waves = max(0, len(tasks) - 1) // self.blocks
        starts = (1 + waves / self.resident) * _START
        if len(tasks) > _MOST_WAVES * self.blocks:  # what is left at the end is short
            return starts + float(tasks.sum() / count + tasks[-1])
        for first in range(0, len(tasks), count):
            given = tasks[first : first + count]
            loads[np.argsort(loads, kind="stable")[: len(given)]] += given
        held = min(self.resident, _ceiling(len(tasks), count))
        return starts + float(loads.max()) * self._slower(held)

    def groups(self, blocks: int, rows: int, parts: int) -> tuple[int, int]:
        """Groups that each of the blocks is joined in, and the binary logarithm of a row's lanes.

        As many lanes as it takes least time with, while the device can hold all threads.
        """
        threads = self.processors * _JOINING_THREADS
        fitting = (bits for bits in range(1, _MOST_BITS + 1) if blocks * rows << bits <= threads)
        bits = min((0, *fitting), key=lambda n: _lane_clocks(parts, n))
        return _ceiling(rows, JOIN_THREADS >> bits), bits


@record
class _Table:
    """Blocks of rows of a call, by block: their tasks if the columns are whole, and what they cost.

    chunks   tasks of all entries
    widths   columns
    column   clocks of a full multiprocessor for a column of a task
    """

    waves: Waves
    chunks: Integers
    widths: Integers
    column: Floats

    def splits(self) -> Iterator[Integers]:
        """Parts of the columns of each block, so that no task takes longer than some time."""
        work = self.widths * self.column
        total = float(self.chunks @ work) / self.waves.processors
        yield np.ones_like(self.widths)
        for count in self.waves.counts():
            parts = np.ceil(work * count / total - 1e-9).astype(np.int64)
            least = max(_UNIT, self.waves.launch.least_columns)
            yield np.clip(parts, 1, -(-self.widths // least))

    def clocks(self, splits: Integers) -> float:
        """What all tasks take in such parts, and the joins of these."""
        waves, parts = self.waves, -(-self.widths // -(-self.widths // splits))
        width = -(-self.widths // parts)
        each = width * self.column + -(-width // waves.launch.tile) * waves.tile
        taken = waves.table_clocks(each.repeat(parts * self.chunks))
        joined = parts > 1
        if not joined.any():
            return taken
        return taken + waves.join_clocks(int(self.chunks[joined].sum()), int(parts.max()))


def _lane_clocks(parts: int, bits: int) -> float:
    """How long the lanes of a row join."""
    return _ceiling(parts, 1 << bits) * _PART + bits * _EXCHANGE


def _ceiling(a: int, b: int) -> int:
    return -(-a // b)
