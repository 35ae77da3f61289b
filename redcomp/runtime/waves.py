"""How a call is cut for a GPU: into how many parts of the columns, joined by how many threads.

The device holds some blocks at a time, a wave.  A call takes as long as its fullest multiprocessor,
so tasks should fill whole waves.  What cuts cost is estimated in clocks of a multiprocessor, from
a schedule's estimate of a column (`Launch.clocks`) and the figures here.
"""

from __future__ import annotations

from collections.abc import Iterator

from redcomp.abi import JOIN_THREADS, Launch
from redcomp.records import record

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
# Threads of a multiprocessor that join at a time: half of what the largest can hold.
_JOINING_THREADS = 1024
_MOST_BITS = JOIN_THREADS.bit_length() - 1


@record
class Waves:
    """A kernel on a device: its launch, multiprocessors, and blocks that each holds at a time."""

    launch: Launch
    processors: int
    resident: int

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
            self._width(columns, tasks // blocks) for tasks in self._fitting() if tasks > blocks
        }
        return min(sorted(widths, reverse=True), key=lambda w: self.clocks(blocks, columns, w))

    def clocks(self, blocks: int, columns: int, width: int) -> float:
        """What a call takes by these figures, in parts of so many columns."""
        parts = _ceiling(columns, width)
        waves = (blocks * parts - 1) // self.blocks  # in which other blocks compute meanwhile
        starts = (1 + waves / self.resident) * _START
        return starts + self.busy(blocks, columns, width) + self._join_clocks(blocks, parts)

    def busy(self, blocks: int, columns: int, width: int) -> float:
        """How long the fullest multiprocessor computes pairs."""
        tiles = _ceiling(width, self.launch.tile) * self._warps * _TILE
        task = min(width, columns) * self.launch.clocks + tiles
        waves, left = divmod(blocks * _ceiling(columns, width), self.blocks)
        last = _ceiling(left, self.processors)
        return (waves * self.resident + last * self._slower(last)) * task

    def _slower(self, blocks: int) -> float:
        """How much slower a block's pairs are where a multiprocessor has only so many blocks."""

        def idle(count: int) -> float:
            return _SLOWER * max(0.0, 1 - count * self._warps / _ENOUGH_WARPS)

        return (1 + idle(blocks)) / (1 + idle(self.resident))

    def _join_clocks(self, blocks: int, parts: int) -> float:
        if parts == 1:
            return 0.0
        _, bits = self.groups(blocks, self.launch.rows, parts)
        size = blocks * parts * self.launch.partial_bytes
        return _JOIN + _lane_clocks(parts, bits) + 2 * size / (self.processors * _BYTES)

    def _fitting(self) -> Iterator[int]:
        """Numbers of tasks that fill all multiprocessors alike."""
        for count in range(1, 2 * self.resident):
            yield count * self.processors
        for waves in range(2, _MOST_WAVES + 1):
            yield waves * self.blocks

    def _width(self, columns: int, parts: int) -> int:
        return min(columns, _ceiling(_ceiling(columns, parts), _UNIT) * _UNIT)

    def groups(self, blocks: int, rows: int, parts: int) -> tuple[int, int]:
        """Groups that each of the blocks is joined in, and the binary logarithm of a row's lanes.

        As many lanes as it takes least time with, while the device can hold all threads.
        """
        threads = self.processors * _JOINING_THREADS
        fitting = (bits for bits in range(1, _MOST_BITS + 1) if blocks * rows << bits <= threads)
        bits = min((0, *fitting), key=lambda n: _lane_clocks(parts, n))
        return _ceiling(rows, JOIN_THREADS >> bits), bits


def _lane_clocks(parts: int, bits: int) -> float:
    """How long the lanes of a row join."""
    return _ceiling(parts, 1 << bits) * _PART + bits * _EXCHANGE


def _ceiling(a: int, b: int) -> int:
    return -(-a // b)
