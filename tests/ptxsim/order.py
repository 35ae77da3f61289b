"""Which accesses come before which: clocks of threads, advanced by barriers.

Barriers and bar.warp.sync order accesses; shuffles, atomic operations and fences do not, and the
threads of a warp are concurrent.
"""

from __future__ import annotations

import numpy as np

from ptxsim.scalars import Array
from ptxsim.threads import Threads

# A shadow entry says who accessed a place, and when: clock << CLOCK_SHIFT | number of the thread.
CLOCK_SHIFT = 38
THREAD_MASK = (1 << CLOCK_SHIFT) - 1


class Order:
    """Clocks, and, once warps or named barriers have synchronised, what each thread knows."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._clock = np.ones(threads.count, np.int64)
        self._floor = np.zeros(threads.blocks, np.int64)  # clock of a block's last full barrier
        # known[b, t, u]: what thread u of a block did up to this clock comes before what t does
        self.known: Array | None = None
        self._stamp()

    def _stamp(self) -> None:
        """The entry of each thread's accesses, and the newest that comes before all of them."""
        self.entry = self._clock << CLOCK_SHIFT | self._threads.number
        self.ordered = ((self._floor + 1) << CLOCK_SHIFT)[self._threads.block] - 1

    def join_blocks(self, blocks: Array) -> None:
        """A full barrier in some blocks (a mask): all so far comes before all that follows."""
        newest = self._clock.reshape(self._threads.blocks, -1).max(axis=1)
        self._floor = np.where(blocks, newest, self._floor)
        here = self._threads.block
        self._clock = np.where(blocks[here], (newest + 1)[here], self._clock)
        self._stamp()

    def join(self, threads: Array) -> None:
        """A barrier of some threads of one block."""
        size = self._threads.block_size
        if self.known is None:
            self.known = np.zeros((self._threads.blocks, size, size), np.int32)
        block, within = self._threads.block[threads[0]], self._threads.within[threads]
        row = self.known[block, within].max(axis=0)
        row[within] = np.maximum(row[within], self._clock[threads])
        self.known[block, within] = np.maximum(self.known[block, within], row)
        self._clock[threads] += 1
        self._stamp()

    def knows(self, threads: Array, entries: Array) -> Array:
        """Whether accesses (a row a thread) of the thread's own block come before what it does."""
        other = (entries & THREAD_MASK) - self._threads.block_start[threads][:, None]
        is_own = (other >= 0) & (other < self._threads.block_size)
        if self.known is None:
            return np.zeros(is_own.shape, bool)
        block, within = self._threads.block[threads], self._threads.within[threads]
        clipped = np.clip(other, 0, self._threads.block_size - 1)
        until = self.known[block[:, None], within[:, None], clipped]
        return np.asarray(is_own & ((entries >> CLOCK_SHIFT) <= until))

    def is_far(self, threads: Array, entries: Array) -> Array:
        """Whether accesses (a row a thread) are of another block's threads."""
        start, number = self._threads.block_start[threads][:, None], entries & THREAD_MASK
        outside = (number < start) | (number >= start + self._threads.block_size)
        return np.asarray((entries != 0) & outside)
