"""`ranges`: which blocks of pairs a call visits, checked and made into what tasks are cut from.

Six integer arrays, `(ranges_i, slices_i, redranges_j, ranges_j, slices_j, redranges_i)`.  The first
three are for results of each i, the last three for those of each j: block k is the rows
`ranges_i[k, 0]` to `ranges_i[k, 1]`, reduced over the intervals
`redranges_j[slices_i[k - 1] : slices_i[k]]`; all of them half-open.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from redcomp import foreign
from redcomp.errors import ArgumentError
from redcomp.ir import Kind
from redcomp.records import record
from redcomp.runtime.tasks import Blocks, Integers

_NAMES = ("ranges_i", "slices_i", "redranges_j", "ranges_j", "slices_j", "redranges_i")
# What is in memory for how many of the latest ranges, so that a loop checks its own once.
_KEPT = 8


@dataclass(frozen=True, slots=True, eq=False)
class Ranges:
    """The blocks of a call's rows i and, for its gradients, of the rows j; and the six arrays."""

    i: Blocks
    j: Blocks
    arrays: tuple[Integers, ...]

    def blocks(self, rows: Kind) -> Blocks:
        """The blocks of the rows "i" or "j"."""
        return self.i if rows == "i" else self.j


def read_ranges(ranges: object, count_i: int, count_j: int) -> Ranges:
    """Check a call's `ranges` for the numbers of its i and its j.

    The arrays may be of any kind that NumPy reads.  Raises ArgumentError that names the array.
    """
    if not isinstance(ranges, Sequence) or len(ranges) != len(_NAMES):
        raise ArgumentError(f"ranges must be a tuple of six arrays, ({', '.join(_NAMES)})")
    arrays = [_integers(n, array) for n, array in enumerate(ranges)]
    return _read(count_i, count_j, tuple((a.shape, a.tobytes()) for a in arrays))


def _integers(n: int, value: object) -> Integers:
    given = foreign.array_like(f"ranges[{n}] ({_NAMES[n]})", value, "an array of integers")
    try:
        array = np.asarray(given)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ArgumentError(f"ranges[{n}] cannot be read as a NumPy array: {error}") from None
    if array.dtype.kind not in "iu":
        raise ArgumentError(
            f"ranges[{n}] ({_NAMES[n]}) must be an array of integers; it has dtype {array.dtype}"
        )
    return array.astype(np.int64, copy=False)


@functools.lru_cache(maxsize=_KEPT)
def _read(
    count_i: int, count_j: int, contents: tuple[tuple[tuple[int, ...], bytes], ...]
) -> Ranges:
    arrays = [np.frombuffer(data, np.int64).reshape(shape) for shape, data in contents]
    return Ranges(
        _Half(0, "i", "j", *arrays[:3]).blocks(count_i, count_j),
        _Half(3, "j", "i", *arrays[3:]).blocks(count_j, count_i),
        tuple(arrays),
    )


@record
class _Half:
    """Three of the arrays, the first of which is `ranges[place]`."""

    place: int
    row: str
    column: str
    blocks_: Integers
    slices: Integers
    intervals: Integers

    def blocks(self, rows: int, columns: int) -> Blocks:
        self._check_shapes()
        self._check_ends(0, self.blocks_, rows, self.row)
        self._check_slices()
        self._check_ends(2, self.intervals, columns, self.column)
        self._check_rows()
        return self._merged(*self._sorted_intervals())

    def _name(self, n: int) -> str:
        return f"ranges[{self.place + n}]"

    def _check_shapes(self) -> None:
        for n, array, what in ((0, self.blocks_, "blocks"), (2, self.intervals, "intervals")):
            if array.ndim != 2 or array.shape[1] != 2:
                self._refuse(n, f"must have shape ({what}, 2); it has shape {array.shape}")
        expected = self.blocks_.shape[:1]
        if self.slices.shape != expected:
            blocks = self._name(0)
            shape = self.slices.shape
            self._refuse(
                1, f"must have shape {expected}, an end for each of {blocks}; it has {shape}"
            )

    def _check_ends(self, n: int, pairs: Integers, size: int, index: str) -> None:
        """Every pair is a half-open interval within range(size)."""
        start, stop = pairs[:, 0], pairs[:, 1]
        for wrong, what in (
            (start > stop, "stops before it starts"),
            ((start < 0) | (stop > size), f"is not within 0 and {size}, the number of {index}"),
        ):
            if wrong.any():
                at = int(wrong.argmax())
                raise ArgumentError(f"{self._interval(n, at)} {what}")

    def _check_slices(self) -> None:
        steps = np.diff(self.slices, prepend=0)
        if (steps < 0).any():
            at = int((steps < 0).argmax())
            before = self.slices[at - 1] if at else 0
            self._refuse(1, f"must ascend from 0; its entry {at} is {self.slices[at]}, < {before}")
        if self.slices.size and self.slices[-1] > len(self.intervals):
            listed = f"{self._name(2)} has {len(self.intervals)} intervals"
            self._refuse(1, f"ends at {self.slices[-1]}, but {listed}")

    def _check_rows(self) -> None:
        """Blocks of rows are disjoint, in any order."""
        numbers = np.flatnonzero(self.blocks_[:, 0] < self.blocks_[:, 1])
        numbers = numbers[np.argsort(self.blocks_[numbers, 0], kind="stable")]
        start, stop = self.blocks_[numbers].T
        self._check_disjoint(0, numbers, start[1:] < stop[:-1], "blocks of rows must be disjoint")

    def _sorted_intervals(self) -> tuple[Integers, Integers]:
        """The numbers of intervals, ascending within each block, and each one's block.

        Only those that hold a pair.
        """
        counts = np.diff(self.slices, prepend=0)
        block = np.arange(len(counts), dtype=np.int64).repeat(counts)
        used = self.intervals[: len(block)]
        has_rows = (self.blocks_[:, 0] < self.blocks_[:, 1])[block]
        numbers = np.flatnonzero(has_rows & (used[:, 0] < used[:, 1]))
        numbers = numbers[np.lexsort((used[numbers, 0], block[numbers]))]
        return numbers, block[numbers]

    def _merged(self, numbers: Integers, block: Integers) -> Blocks:
        """Adjacent intervals joined, and blocks without any dropped."""
        start, stop = self.intervals[numbers].T
        is_same = block[1:] == block[:-1]
        what = "intervals of one block must be disjoint"
        self._check_disjoint(2, numbers, is_same & (start[1:] < stop[:-1]), what)
        begins, ends = np.ones(len(start), np.bool_), np.ones(len(start), np.bool_)
        begins[1:] = ~is_same | (start[1:] != stop[:-1])
        ends[:-1] = begins[1:]
        counts = np.bincount(block[begins], minlength=len(self.blocks_))
        return Blocks(
            self.blocks_[counts > 0],
            np.cumsum(counts[counts > 0], dtype=np.int64),
            np.stack([start[begins], stop[ends]], axis=1),
        )

    def _check_disjoint(self, n: int, numbers: Integers, overlaps: Integers, what: str) -> None:
        """`overlaps` says where a number and the next one are of intervals that overlap."""
        if overlaps.any():
            at = int(overlaps.argmax())
            a, b = sorted(map(int, numbers[at : at + 2]))
            raise ArgumentError(
                f"{self._interval(n, a)} and {self._interval(n, b)} overlap: {what}"
            )

    def _interval(self, n: int, at: int) -> str:
        start, stop = (self.blocks_ if n == 0 else self.intervals)[at]
        return f"{self._name(n)}[{at}], which is [{start}, {stop}],"

    def _refuse(self, n: int, what: str) -> NoReturn:
        raise ArgumentError(f"{self._name(n)} ({_NAMES[self.place + n]}) {what}")
