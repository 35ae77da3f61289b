"""cp.async: copies to shared memory that arrive when they are waited for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ptxsim.memory import Region
from ptxsim.order import Order
from ptxsim.races import PENDING, WRITER, Races
from ptxsim.scalars import Array
from ptxsim.threads import Threads


@dataclass
class _Copy:
    """One instruction's copies that are under way: a row of bytes for each thread."""

    threads: Array
    offsets: Array
    data: Array
    groups: Array  # how many groups the thread had committed before


class AsyncCopies:
    """The copies of a batch that are under way."""

    def __init__(self, threads: Threads, order: Order, races: Races, shared: Region) -> None:
        self._threads, self._order, self._races, self._shared = threads, order, races, shared
        self._committed = np.zeros(threads.count, np.int64)
        self._copies: list[_Copy] = []

    def start(self, threads: Array, offsets: Array, data: Array) -> None:
        """Threads begin to copy bytes to shared memory."""
        pending = self._shared.shadow(PENDING, self._races.granule)
        pending[self._races.granules(offsets, data.shape[1])] = 1
        groups = self._committed[threads]
        self._copies.append(_Copy(threads, offsets, data, groups))

    def commit(self, threads: Array) -> None:
        """The copies so far are a group."""
        self._committed[threads] += 1

    def wait(self, threads: Array, newest: int | None) -> None:
        """All copies arrive but for the newest committed groups and what follows; None: all."""
        waits = np.zeros(self._threads.count, bool)
        waits[threads] = True
        for copy in self._copies:
            done = waits[copy.threads]
            if newest is not None:
                done &= copy.groups < self._committed[copy.threads] - newest
            if done.any():
                self._land(copy, done)
        self._copies = [copy for copy in self._copies if len(copy.threads)]

    def _land(self, copy: _Copy, done: Array) -> None:
        granule, size = self._races.granule, copy.data.shape[1]
        offsets = copy.offsets[done]
        granules = self._races.granules(offsets, size)
        self._shared.data[offsets[:, None] + np.arange(size)] = copy.data[done]
        entries = self._order.entry[copy.threads[done]][:, None]
        self._shared.shadow(WRITER, granule)[granules] = entries
        self._shared.shadow(PENDING, granule)[granules] = 0
        kept = ~done
        copy.threads, copy.offsets = copy.threads[kept], copy.offsets[kept]
        copy.data, copy.groups = copy.data[kept], copy.groups[kept]
