"""Executes a kernel for a batch of blocks.

A register is an array over the threads of the batch; an instruction is executed once for a group of
threads that are at the same place.  The group that is deepest in calls, then at the smallest place,
goes first, and groups that meet merge, so divergent branches and loops reconverge.  A group that
keeps others waiting for long steps back, so loops that wait for other threads make progress.
Barriers and .sync instructions of warps hold threads until all that must come have come; if nobody
can go on, that is a deadlock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from ptxsim import memory
from ptxsim.async_copies import AsyncCopies
from ptxsim.banks import Banks
from ptxsim.barriers import Barriers
from ptxsim.errors import ExecutionError, Report
from ptxsim.findings import Findings
from ptxsim.layout import Layout
from ptxsim.memory import Access, AddressSpace, Region, Site
from ptxsim.order import Order
from ptxsim.races import Races
from ptxsim.scalars import Array
from ptxsim.syntax import Function, Instruction
from ptxsim.threads import ALL, Group, Threads

Run: TypeAlias = Callable[[Group], None]
# What control instructions do: given a group and the depth of its calls, the place and the group to
# go on with, or None.
Control: TypeAlias = "Callable[[Group, int], tuple[int, Group] | None]"

_PATIENCE = 2000  # jumps of a group while others wait, before these are let go first
_FAR = 1 << 60


class Step(NamedTuple):
    """An instruction that can be executed: either `run` or `control`."""

    run: Run | None
    control: Control | None
    instruction: Instruction


@dataclass
class Counters:
    """What a launch has done so far."""

    limit: int  # of steps
    steps: int = 0


class Machine:
    """The state of a batch of blocks, and the scheduler."""

    def __init__(
        self,
        functions: Sequence[Function],
        layout: Layout,
        threads: Threads,
        regions: Sequence[Region],
        freed: Sequence[Region],
        reports: dict[tuple[str, int], Report],
        counters: Counters,
        banks: Banks | None = None,
    ) -> None:
        self.functions, self.layout, self.threads = functions, layout, threads
        self.counters, self.banks = counters, banks
        self.found = Findings(threads, reports)
        self.order = Order(threads)
        self.races = Races(
            threads, self.order, self.found, granule=layout.granule, has_fences=layout.has_fences
        )
        self.shared = layout.shared_region(threads)
        own = [self.shared, layout.local_region(threads), layout.parameter_region()]
        self.memory = AddressSpace([*regions, *own], freed, threads)
        self.copies = AsyncCopies(threads, self.order, self.races, self.shared)
        self.code: list[Step] = []
        self.barriers = Barriers(
            threads, self.order, self.found, lambda place: self.code[place].instruction, self.push
        )
        self.return_places: dict[int, Array] = {}  # by depth
        self._ready: dict[tuple[int, int], Group] = {}  # (-depth, place) -> threads
        self._parked: dict[tuple[int, int], Array] = {}  # (depth, place), at warp instructions
        self._held: set[tuple[int, int]] = set()

    def size_of(self, group: Group) -> int:
        """How many threads a group has."""
        return self.threads.count if isinstance(group, slice) else len(group)

    def indices(self, group: Group) -> Array:
        """The threads of a group as an array."""
        return self.threads.index if isinstance(group, slice) else group

    def push(self, depth: int, place: int, group: Group) -> None:
        """Threads are ready to execute what is at a place."""
        old = self._ready.get((-depth, place))
        if old is not None:
            group = np.sort(np.concatenate([self.indices(old), self.indices(group)]))
        is_all = self.size_of(group) == self.threads.count
        self._ready[-depth, place] = ALL if is_all else group

    def run(self) -> None:
        """Execute until all threads have exited."""
        self.push(0, 0, ALL)
        while self._ready:
            if not self._ready.keys() - self._held:
                self._held.clear()
            key = min(self._ready.keys() - self._held)
            self._advance(-key[0], key[1], self._ready.pop(key))
        if self.threads.alive.any():
            self._refuse_deadlock()

    def _advance(self, depth: int, place: int, group: Group) -> None:
        """Execute for one group until it waits, exits, splits, or reaches a place of others."""
        code, counters = self.code, self.counters
        places = (p for d, p in self._ready if d == -depth and p > place)
        limit, patience = min(places, default=_FAR), _PATIENCE
        while True:
            run, control, instruction = code[place]
            counters.steps += 1
            if run is not None:
                run(group)
                place += 1
            else:
                assert control is not None
                following = control(group, depth)
                if following is None:
                    return
                place, group = following
                patience -= 1
                if patience < 0 and self._ready:
                    self._held.add((-depth, place))
                    limit = place
                if counters.steps > counters.limit:
                    raise ExecutionError(
                        "livelock", f"still running after {counters.steps} steps", instruction
                    )
            if place >= limit:
                self.push(depth, place, group)
                return

    def _refuse_deadlock(self) -> None:
        waiting = {
            ("a warp's instruction", place): group for (_, place), group in self._parked.items()
        }
        at_barriers = self.barriers.waiting
        for place in np.unique(self.barriers.place[at_barriers]).tolist():
            here = at_barriers[self.barriers.place[at_barriers] == place]
            waiting["a barrier", place] = here
        cases = []
        for (what, place), group in waiting.items():
            instruction = self.code[place].instruction
            cases.append(
                f"{len(group)} threads, first {self.threads.who(group[0])}, wait at {what}, line "
                f"{instruction.line} ({instruction.text})"
            )
        ended = int((~self.threads.alive).sum())
        raise ExecutionError("deadlock", f"{'; '.join(cases)}; {ended} threads have exited")

    def exit(self, group: Group) -> None:
        """Threads end; somebody may have waited for these threads only."""
        threads = self.indices(group)
        self.threads.end(threads)
        if self.threads.alive.any():
            self.barriers.release(np.unique(self.threads.block[threads]).tolist())
            parked, self._parked = self._parked, {}
            for (depth, place), others in parked.items():
                self.push(depth, place, others)

    def collective(self, run: Run, mask: Callable[[Group], Array], place: int) -> Control:
        """A .sync instruction of warps: executed where the named lanes that still run are here."""

        def control(group: Group, depth: int) -> tuple[int, Group] | None:
            parked = self._parked.pop((depth, place), None)
            if parked is not None:
                group = np.sort(np.concatenate([parked, self.indices(group)]))
            if not isinstance(group, slice) or not self.threads.alive.all():
                complete = self._hold_incomplete(group, mask, (depth, place))
                if complete is None:
                    return None
                group = complete
            run(group)
            return place + 1, group

        return control

    def _hold_incomplete(
        self, group: Group, mask: Callable[[Group], Array], key: tuple[int, int]
    ) -> Group | None:
        """Park the threads of warps that are not complete, and return the others."""
        threads = self.indices(group)
        warps = self.threads.warp[threads]
        named = np.broadcast_to(mask(group), len(threads)).astype(np.int64)
        absent = self.threads.alive_lanes[warps] & ~self.threads.lane_bits(threads)[warps]
        waits = named & absent != 0
        if not waits.any():
            return group
        self._parked[key] = threads[waits]
        return None if waits.all() else threads[~waits]

    def read(
        self, site: Site, access: Access, addresses: Array, threads: Array, size: int
    ) -> Array:
        """Unsigned integers of `size` bytes, or a row of them for each thread."""
        count, values = site.size // size, None
        for hit in self.memory.find(site, addresses, threads):
            self.note(site, access, hit, threads[hit.selected])
            found: Array = hit.region.rows(size, count)[hit.offsets // site.size]
            if isinstance(hit.selected, slice):
                return found
            if values is None:
                values = np.zeros((len(threads), *found.shape[1:]), found.dtype)
            values[hit.selected] = found
        assert values is not None
        return values

    def write(
        self,
        site: Site,
        access: Access,
        addresses: Array,
        threads: Array,
        values: Array,
        size: int,
    ) -> None:
        """Write unsigned integers of `size` bytes, or rows of them."""
        for hit in self.memory.find(site, addresses, threads):
            self.note(site, access, hit, threads[hit.selected])
            hit.region.rows(size, site.size // size)[hit.offsets // site.size] = values[
                hit.selected
            ]

    def note(self, site: Site, access: Access, hit: memory.Hit, threads: Array) -> None:
        """Check an access and remember it."""
        if access.writes and hit.region.is_readonly:
            place = hit.region.place(hit.offsets[0])
            who = self.threads.who(threads[0])
            raise ExecutionError("read-only", f"{who} writes {place}", site.instruction)
        if self.banks is not None and hit.region is self.shared:
            self.banks.note(site, hit, self.threads, threads)
        memory.check_written(hit, access, site, threads, self.found)
        self.races.track(hit, access, site, threads)
