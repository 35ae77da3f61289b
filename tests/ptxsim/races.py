"""Races: accesses of two threads to one place, of which one writes, with nothing that orders them.

For each granule of bytes four shadow entries (see `ptxsim.order`) are kept: its last writer, its
last atomic or strong writer, and its last two readers.  With only two readers a write that races
with others can escape where warps or named barriers have ordered some of several readers.

Conflicts of reads and writes between blocks are judged only in kernels without fences, acquire and
release.
"""

from __future__ import annotations

import numpy as np

from ptxsim.errors import ExecutionError
from ptxsim.findings import Findings
from ptxsim.memory import READ, Access, Hit, Region, Site
from ptxsim.order import THREAD_MASK, Order
from ptxsim.scalars import Array
from ptxsim.threads import Threads

WRITER, STRONG_WRITER, PENDING = "writer", "strong writer", "pending copy"
READER, READER_BEFORE = "reader", "reader before"
RED_ZONE = -1  # the writer of bytes between shared variables

_BEFORE = {
    WRITER: "a write",
    STRONG_WRITER: "an atomic access",
    READER: "a read",
    READER_BEFORE: "a read",
}


class Races:
    """Tracks the accesses of a batch."""

    def __init__(
        self,
        threads: Threads,
        order: Order,
        found: Findings,
        *,
        granule: int,
        has_fences: bool,
    ) -> None:
        self._threads, self._order, self._found = threads, order, found
        self._has_fences = has_fences
        self.granule = granule
        self._shift = granule.bit_length() - 1

    def granules(self, offsets: Array, size: int) -> Array:
        """The granules of accesses of `size` bytes: a row a thread."""
        count = max(size >> self._shift, 1)
        return np.asarray((offsets >> self._shift)[:, None] + np.arange(count))

    def track(self, hit: Hit, access: Access, site: Site, threads: Array) -> None:
        """Check an access against those before it, and remember it."""
        region, offsets = hit.region, hit.offsets
        if region.space not in ("shared", "global") or region.is_readonly:
            return
        if hit.is_same and not access.writes and self._order.known is None:
            offsets, threads = self._ends_of_blocks(offsets, threads)
        granules = self.granules(offsets, site.size)
        last = region.shadow(WRITER, self.granule)[granules]
        case = _Case(region, offsets, granules, last, access, site, threads)
        if region.space == "shared":
            self._check_shared(case)
        elif access.is_constant:
            self._found.add(
                "global-race",
                site.instruction,
                last != 0,
                threads,
                lambda n: f"reads {region.place(offsets[n])} by ld.global.nc, but it is written",
            )
        self._check_order(case)
        self._remember(case)

    def _ends_of_blocks(self, offsets: Array, threads: Array) -> tuple[Array, Array]:
        """Where all read one address: the first and last thread of each block stand for all."""
        block = self._threads.block[threads]
        cut = np.flatnonzero(block[1:] != block[:-1])
        pick = np.sort(np.concatenate([[0], cut, cut + 1, [len(threads) - 1]]))
        return offsets[pick], threads[pick]

    def _check_shared(self, case: _Case) -> None:
        """Red zones, bytes that nothing has written, copies under way."""
        region, last = case.region, case.last_writer
        lowest = int(last.min())
        if lowest < 0:
            first = int(np.argmax((last < 0).any(axis=1)))
            raise ExecutionError(
                "out-of-bounds",
                f"{self._threads.who(case.threads[first])}: {case.place(first)} lies between "
                "shared variables",
                case.site.instruction,
            )
        if lowest == 0 and case.access.reads:
            strong = region.shadow_if_any(STRONG_WRITER)
            never = last == 0 if strong is None else (last == 0) & (strong[case.granules] == 0)
            case.report(self._found, "uninit-shared", never, "reads {}, which nothing has written")
        pending = region.shadow_if_any(PENDING)
        if pending is not None:
            under_way = pending[case.granules] != 0
            words = "touches {}, to which a cp.async copy is still under way"
            case.report(self._found, "cp.async", under_way, words)

    def _check_order(self, case: _Case) -> None:
        names = [WRITER]
        if not case.access.is_strong:
            names.append(STRONG_WRITER)
        if case.access.writes:
            names += [READER, READER_BEFORE]
        for name in names:
            shadow = case.region.shadow_if_any(name)
            if shadow is not None:
                entries = case.last_writer if name == WRITER else shadow[case.granules]
                self._clash(entries, name, case)

    def _clash(self, entries: Array, name: str, case: _Case) -> None:
        """Report entries of other threads that do not come before this access."""
        threads = case.threads
        bad = entries > self._order.ordered[threads][:, None]
        if case.region.space == "global" and entries.any():
            far = self._order.is_far(threads, entries)
            both_write = name == WRITER and case.access.writes and not case.access.is_strong
            bad = bad & ~far | far & (not self._has_fences or both_write)
        if not bad.any():
            return
        bad &= (entries ^ self._order.entry[threads][:, None]) & THREAD_MASK != 0
        if self._order.known is not None and bad.any():
            bad &= ~self._order.knows(threads, entries)

        def describe(n: int) -> str:
            at = int(bad[n].argmax())
            other = self._threads.name(int(entries[n, at]) & THREAD_MASK)
            place = case.region.place(case.offsets[n] + at * self.granule)
            verb = case.access.verb
            return (
                f"{verb} {place} after {_BEFORE[name]} by {other} with nothing that orders the two"
            )

        kind = f"{case.region.space}-race"
        self._found.add(kind, case.site.instruction, bad, threads, describe)

    def _remember(self, case: _Case) -> None:
        region, granules = case.region, case.granules
        entry = self._order.entry[case.threads][:, None]
        if case.access.writes and case.access.is_strong:
            region.shadow(STRONG_WRITER, self.granule)[granules] = entry
        elif case.access.writes:
            self._remember_writers(case, entry)
        elif case.access is READ or case.access.is_constant:
            reader = region.shadow(READER, self.granule)
            before = region.shadow(READER_BEFORE, self.granule)
            old = reader[granules]
            reader[granules] = entry  # of threads that read one granule together the last stays,
            now = reader[granules]
            is_other = (old ^ entry) & THREAD_MASK != 0
            second = np.where(now != entry, entry, np.where(is_other, old, before[granules]))
            # and the first, or one before (copies: NumPy would turn the views round)
            before[granules[::-1].copy()] = second[::-1].copy()

    def _remember_writers(self, case: _Case, entry: Array) -> None:
        writer = case.region.shadow(WRITER, self.granule)
        writer[case.granules] = entry
        if len(case.threads) == 1:
            return
        now = writer[case.granules]
        is_other = now != entry

        def describe(n: int) -> str:
            other = self._threads.name(int(now[n][is_other[n].argmax()]) & THREAD_MASK)
            return f"and {other} write {case.place(n)} at the same time"

        kind = f"{case.region.space}-race"
        self._found.add(kind, case.site.instruction, is_other, case.threads, describe)


class _Case:
    """An access to one region, and who wrote there last."""

    def __init__(
        self,
        region: Region,
        offsets: Array,
        granules: Array,
        last_writer: Array,
        access: Access,
        site: Site,
        threads: Array,
    ) -> None:
        self.region, self.offsets, self.granules = region, offsets, granules
        self.last_writer, self.access, self.site, self.threads = last_writer, access, site, threads

    def place(self, n: int) -> str:
        return self.region.place(self.offsets[n])

    def report(self, found: Findings, kind: str, bad: Array, words: str) -> None:
        """A finding in words that have {} for the place."""
        instruction = self.site.instruction
        found.add(kind, instruction, bad, self.threads, lambda n: words.format(self.place(n)))
