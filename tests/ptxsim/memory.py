"""Memory: regions of bytes, the addresses they have, and reads and writes that are checked."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ptxsim.errors import ExecutionError
from ptxsim.findings import Findings
from ptxsim.scalars import UNSIGNED, WINDOW, Array
from ptxsim.syntax import Instruction
from ptxsim.threads import ALL, Group, Threads

_FRESH = 0xFF  # what bytes hold that nothing has written: NaN


@dataclass(frozen=True, slots=True)
class Access:
    """A way to access memory.

    `is_strong`: volatile, relaxed, acquire, release or atomic; such accesses do not race with each
    other.  `is_constant`: a read that takes memory for constant during the launch (.nc).
    """

    verb: str
    reads: bool = False
    writes: bool = False
    is_strong: bool = False
    is_constant: bool = False


READ = Access("reads", reads=True)
READ_CONSTANT = Access("reads", reads=True, is_constant=True)
READ_STRONG = Access("reads", reads=True, is_strong=True)
WRITE = Access("writes", writes=True)
WRITE_STRONG = Access("writes", writes=True, is_strong=True)
CHANGE = Access("changes", reads=True, writes=True, is_strong=True)
COPY = Access("copies to", writes=True)


class Region:
    """Bytes at a generic address.

    Shared and local memory are at the same address in each block and thread: `owner` has for each
    thread which of `owners` copies is its own.  Four arrays remember who accessed each granule of
    bytes (see `ptxsim.races`); 0 is nobody.
    """

    def __init__(
        self,
        space: str,
        name: str,
        base: int,
        size: int,
        *,
        owners: int = 1,
        owner: Array | None = None,
        is_readonly: bool = False,
        tracks_writes: bool = False,
        parts: Sequence[tuple[int, str]] = (),
    ) -> None:
        self.space, self.name, self.base, self.size = space, name, base, size
        self.owner, self.is_readonly = owner, is_readonly
        self.parts = tuple(parts) or ((0, name),)  # where variables begin, in order
        self.stride = -(-max(size, 1) // 32) * 32
        self.data = np.full(self.stride * owners, _FRESH, np.uint8)
        self.written = np.zeros(len(self.data), bool) if tracks_writes else None
        self._rows: dict[tuple[int, int], Array] = {}
        self._shadows: dict[str, Array] = {}

    @property
    def end(self) -> int:
        """The address after the last byte."""
        return self.base + self.size

    def forget(self) -> None:
        """Begin a launch: nobody has accessed anything."""
        self._shadows.clear()

    def shadow(self, name: str, granule: int) -> Array:
        """An array of entries, one a granule."""
        if name not in self._shadows:
            self._shadows[name] = np.zeros(len(self.data) // granule, np.int64)
        return self._shadows[name]

    def shadow_if_any(self, name: str) -> Array | None:
        """The same, if it has been needed so far."""
        return self._shadows.get(name)

    def rows(self, size: int, count: int) -> Array:
        """The bytes as unsigned integers, or as rows of `count` of them."""
        if (size, count) not in self._rows:
            integers = self.data.view(UNSIGNED[size])
            self._rows[size, count] = integers if count == 1 else integers.reshape(-1, count)
        return self._rows[size, count]

    def place(self, offset: int) -> str:
        """A byte, given its index in `data`, in words."""
        offset = int(offset) % self.stride
        start, name = max(part for part in self.parts if part[0] <= offset)
        return f"{name}+{offset - start}"


@dataclass(frozen=True, slots=True)
class Hit:
    """The part of an access that lies in one region: where each thread's first byte is in `data`.

    `selected` are the threads of the access, `is_same` whether all go to one address.
    """

    region: Region
    offsets: Array
    selected: Group
    is_same: bool = False


class Site:
    """An instruction that accesses memory, and the region that it hit last time."""

    def __init__(self, instruction: Instruction, space: str, size: int) -> None:
        self.instruction, self.space, self.size = instruction, space, size
        self.region: Region | None = None


class AddressSpace:
    """The regions that a batch can reach."""

    def __init__(
        self, regions: Iterable[Region], freed: Iterable[Region], threads: Threads
    ) -> None:
        self._regions = sorted(regions, key=lambda region: region.base)
        self._freed = list(freed)
        self._threads = threads
        self._bases = np.array([region.base for region in self._regions], np.uint64)
        self._ends = np.array([region.end for region in self._regions], np.uint64)
        self._spaces = np.array([region.space for region in self._regions])

    def find(self, site: Site, addresses: Array, threads: Array) -> list[Hit]:
        """Where addresses of some threads are; bounds and alignment are checked."""
        low, high, region = int(addresses.min()), int(addresses.max()), site.region
        which: Array | None = None
        if region is None or low < region.base or high + site.size > region.end:
            which = self._look_up(site, addresses, threads)
            region = self._regions[which[0]] if which.min() == which.max() else None
            site.region = region
        wrong = addresses & np.uint64(site.size - 1) != 0
        if wrong.any():
            first = int(np.argmax(wrong))
            raise ExecutionError(
                "misaligned",
                f"{self._threads.who(threads[first])}: address {int(addresses[first]):#x} is not "
                f"a multiple of {site.size}",
                site.instruction,
            )
        if region is not None:
            return [Hit(region, _offsets(region, addresses, threads), ALL, low == high)]
        assert which is not None
        return [
            Hit(
                self._regions[number],
                _offsets(
                    self._regions[number], addresses[which == number], threads[which == number]
                ),
                which == number,
            )
            for number in np.unique(which)
        ]

    def _look_up(self, site: Site, addresses: Array, threads: Array) -> Array:
        """The number of each address' region."""
        which = np.searchsorted(self._bases, addresses, "right") - 1
        ends = addresses + np.uint64(site.size)
        outside = (which < 0) | (ends > self._ends[which]) | (ends < addresses)
        if site.space:
            outside |= self._spaces[which] != site.space
        if outside.any():
            self._refuse(site, addresses, threads, outside)
        return which

    def _refuse(self, site: Site, addresses: Array, threads: Array, outside: Array) -> None:
        first = int(np.argmax(outside))
        address = int(addresses[first])
        window = WINDOW.get(site.space, 0)
        freed = next((r for r in self._freed if r.base <= address < r.end), None)
        if freed is not None:
            near = f"'{freed.name}' has been released"
        else:
            region = min(self._regions, key=lambda r: _distance(r, address, site.size))
            near = f"offset {address - region.base} of '{region.name}' ({region.size} bytes)"
        raise ExecutionError(
            "out-of-bounds",
            f"{self._threads.who(threads[first])}: {site.size} bytes at {site.space or 'generic'} "
            f"address {address - window:#x}: {near}; {int(outside.sum())} of {len(threads)} "
            "threads are out of bounds",
            site.instruction,
        )


def _distance(region: Region, address: int, size: int) -> int:
    """How far bytes are from a region; regions of other kinds than global are far away."""
    is_window = region.space in WINDOW and abs(address - region.base) > 1 << 30
    return max(region.base - address, address + size - region.end, 0) + (is_window << 50)


def _offsets(region: Region, addresses: Array, threads: Array) -> Array:
    offsets = (addresses - np.uint64(region.base)).astype(np.int64)
    if region.owner is None:
        return offsets
    return np.asarray(offsets + region.owner[threads] * region.stride)


def check_written(hit: Hit, access: Access, site: Site, threads: Array, found: Findings) -> None:
    """Reads of bytes that nothing has written are findings; writes are noted."""
    region, written = hit.region, hit.region.written
    if written is None:
        return
    cells = hit.offsets[:, None] + np.arange(site.size)
    if access.reads:
        found.add(
            f"uninit-{region.space}",
            site.instruction,
            ~written[cells],
            threads,
            lambda n: f"reads {region.place(hit.offsets[n])}, which nothing has written",
        )
    if access.writes:
        written[cells] = True


class DeviceMemory:
    """The memory of one device: allocations far apart, whose addresses are never used again."""

    def __init__(self, start: int, spacing: int = 1 << 20, alignment: int = 256) -> None:
        self._next, self._spacing, self._alignment = start, spacing, alignment
        self.regions: dict[int, Region] = {}
        self.freed: dict[int, Region] = {}

    def allocate(self, size: int, name: str = "", *, space: str = "global") -> Region:
        """Bytes that count as never written."""
        base = self._next
        step = size + self._spacing + self._alignment
        self._next += step // self._alignment * self._alignment
        name = name or f"allocation {len(self.regions) + len(self.freed)}"
        region = Region(
            space, name, base, size, is_readonly=space == "const", tracks_writes=space != "const"
        )
        self.regions[base] = region
        return region

    def release(self, address: int) -> bool:
        """Whether there was an allocation to give back."""
        region = self.regions.pop(address, None)
        if region is not None:
            self.freed[address] = region
        return region is not None

    def find(self, address: int, size: int) -> Region | None:
        """The allocation that has all of these bytes."""
        inside = (r for r in self.regions.values() if r.base <= address and address + size <= r.end)
        return next(inside, None)

    def was_released(self, address: int) -> bool:
        """Whether an address is in an allocation that has been given back."""
        return any(r.base <= address < r.end for r in self.freed.values())


def write_bytes(region: Region, offset: int, source: int, size: int) -> None:
    """Copy from an address of the host."""
    ctypes.memmove(region.data.ctypes.data + offset, source, size)
    if region.written is not None:
        region.written[offset : offset + size] = True
