"""Clusters of points and block-sparse reductions, on NumPy arrays and PyTorch tensors alike.

What the libraries spell differently is what they add to `Clusters`; the mathematics stands here,
once.  Counts and ranges are int64, and sums are float64, so nothing depends on the number of
points, and no two cells get the same label.
"""

from __future__ import annotations

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Generic, TypeVar

from redcomp import arguments, foreign
from redcomp.errors import ArgumentError

A = TypeVar("A", bound=Any)
F = TypeVar("F", bound=Callable[..., Any])
# Labels may be as large as this even if there are fewer points, so that clusters may be empty.
MANY_CLUSTERS = 2**24
Ranges = tuple[A, A, A, A, A, A]


class Clusters(ABC, Generic[A]):
    """The functions of an array library, which is what its arrays are called, and the methods that
    are abstract here.

    xp          the library's module
    array_type  its arrays
    truth       its dtype of booleans
    """

    xp: ClassVar[Any]
    array_type: ClassVar[type[Any]]
    truth: ClassVar[object]

    # -- what libraries spell differently ----------------------------------------------------------

    @abstractmethod
    def check_values(self, name: str, a: A) -> None:
        """Raise ArgumentError, which says `name`, unless an array's values can be read."""

    @abstractmethod
    def is_real(self, a: A) -> bool:
        """Whether an array holds real numbers."""

    @abstractmethod
    def is_integer(self, a: A) -> bool:
        """Whether an array holds integers."""

    @abstractmethod
    def to_int64(self, a: A) -> A:
        """The array in int64."""

    @abstractmethod
    def to_float64(self, a: A) -> A:
        """The array in float64."""

    @abstractmethod
    def as_type_of(self, a: A, x: A) -> A:
        """The array in the dtype of x, or in the library's default of floats."""

    @abstractmethod
    def like(self, value: object, x: A) -> A:
        """A value as an array of x's dtype and device; raises TypeError unless it is real."""

    @abstractmethod
    def first_corner(self, x: A) -> A | float:
        """Where the cells of points (M, D) start on each axis."""

    @abstractmethod
    def to_labels(self, numbers: A) -> A:
        """Numbers of cells in the library's integers for labels."""

    @abstractmethod
    def order(self, labels: A) -> A:
        """The stable order of integers."""

    @abstractmethod
    def segment_sums(self, values: A, labels: A, count: int) -> A:
        """(count, D): the sums of values (M, D) over equal labels (M,)."""

    @abstractmethod
    def while_numbering(self) -> AbstractContextManager[object]:
        """What holds while cells are numbered: no warnings, since errors follow; no gradients."""

    # -- functions ---------------------------------------------------------------------------------

    def grid_cluster(self, x: A, size: float | A) -> A:
        """Labels of the points (M, D) by the cubic cell of side `size` (a number, or D numbers).

        Cells start at 0 on each axis for arrays, as those of `pykeops.numpy` do, and at the
        smallest coordinate for tensors, as those of `pykeops.torch` do.  Returns (M,), int64 for
        arrays and int32 for tensors, from 0 to C - 1, in the lexicographic order of the C cells
        that have points.
        """
        with self.while_numbering():
            return self._cells(x, self._sides(x, size))

    def _sides(self, x: A, size: object) -> A:
        """The side of the cells of points, or their sides; checks both."""
        self._require_array(x, "x", 2)
        if x.shape[1] == 0:
            raise ArgumentError(f"x must have coordinates; its shape is {tuple(x.shape)}")
        if isinstance(size, self.array_type):
            self._require_array(size, "size")
        wanted = f"a number or {x.shape[1]} numbers"
        try:
            sides = self.like(foreign.array_like("size", size, wanted), x)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            raise ArgumentError(f"size must be {wanted}, not {arguments.shown(size)}") from None
        if tuple(sides.shape) not in ((), (1,), (x.shape[1],)):
            raise ArgumentError(f"size must be {wanted}; its shape is {tuple(sides.shape)}")
        if not bool(((sides > 0) & self.xp.isfinite(sides)).all()):
            raise ArgumentError("size must be positive and finite")
        return sides

    def _cells(self, x: A, sides: A) -> A:
        """The label of each point's cell; cells are numbered in lexicographic order."""
        xp = self.xp
        if x.shape[0] == 0:
            return self.to_labels(xp.bincount(self.to_int64(x[:, :1].reshape(-1))))
        if not bool(xp.isfinite(x).all()):
            raise ArgumentError("x must be finite: it has NaN or infinity")
        x = self.as_type_of(x, x)  # differences of integers could overflow
        cells = xp.floor((x - self.first_corner(x)) / sides)
        if not bool(xp.isfinite(cells).all()):
            raise ArgumentError("size is too small for the extent of x: cells cannot be numbered")
        labels = self.to_int64(0 * cells[:, 0])
        for k in range(x.shape[1]):
            # Both numbers are below M, so the key is exact for more points than fit into memory.
            place = xp.unique(cells[:, k], return_inverse=True)[1].reshape(-1)
            key = labels * (int(place.max()) + 1) + place
            labels = xp.unique(key, return_inverse=True)[1].reshape(-1)
        return self.to_labels(labels)

    def sort_clusters(self, x: Any, lab: A) -> tuple[Any, A]:
        """Points and labels sorted by label; points of one label keep their order.

        x is an array of M rows, or a list or tuple of them; the first result is of the same kind.
        """
        labels = self._labels(lab)
        order = self.order(labels)

        def moved(array: A) -> A:
            self._require_type(array, "x, or each array in it,")
            _require_rows(array, "x", labels)
            try:
                made: A = array[order]
                return made
            except NotImplementedError as error:  # PyTorch has views that it cannot copy
                raise ArgumentError(f"x cannot be sorted: {error}") from None

        is_several = isinstance(x, (tuple, list))
        points = type(x)(moved(array) for array in x) if is_several else moved(x)
        return points, lab.reshape(-1)[order]

    def cluster_ranges(self, lab: A, Nlab: A | None = None) -> A:
        """(C, 2) int64: the half-open interval of each cluster among the sorted points.

        Nlab: the number of points of each cluster, if it is known already.  Labels are below 2^24,
        or below the number of points if that is larger; a label without points has an empty
        interval.
        """
        if Nlab is None:
            counts = self._counts(self._labels(lab))
        else:
            self._require_array(Nlab, "Nlab", 1)
            counts = self.to_int64(Nlab)
        ends = counts.cumsum(axis=0)
        intervals: A = self.xp.stack((ends - counts, ends), axis=1)
        return intervals

    def cluster_centroids(
        self,
        x: A,
        lab: A,
        Nlab: A | None = None,
        weights: A | None = None,
        weights_c: A | None = None,
    ) -> A:
        """(C, D): the mean of each cluster, weighted if there are weights (M,).

        A cluster of weight 0 has its plain mean.  Nlab: the number of points of each cluster,
        weights_c: the weight of each, if known.
        """
        self._require_array(x, "x", 2)
        labels = self._labels(lab)
        _require_rows(x, "x", labels)
        counted = self._counts(labels)
        number = counted.shape[0]
        for name, given in (("Nlab", Nlab), ("weights_c", weights_c)):
            if given is None:
                continue
            self._require_array(given, name)
            if given.reshape(-1).shape[0] != number:
                raise ArgumentError(
                    f"{name} has {given.reshape(-1).shape[0]} numbers, not {number}"
                )
        if not bool((counted > 0).all()):
            raise ArgumentError(
                "lab leaves a cluster without points: number clusters from 0 to C - 1"
            )
        wide = self.to_float64(x)
        means = self.segment_sums(wide, labels, number) / counted.reshape(-1, 1)
        if weights is not None:
            weight = self._weights(weights, labels)
            if weights_c is None:
                weights_c = self.segment_sums(weight, labels, number)
            total = self.to_float64(weights_c).reshape(-1, 1)
            sums = self.segment_sums(weight * wide, labels, number)
            has_weight = total > 0
            means = self.xp.where(has_weight, sums / self.xp.where(has_weight, total, 1.0), means)
        return self.as_type_of(means, x)

    def cluster_ranges_centroids(
        self, x: A, lab: A, weights: A | None = None, min_weight: float = 0.0
    ) -> tuple[A, A, A]:
        """The ranges and centroids of the clusters, and their weights (or counts) in x's dtype.

        Weights below `min_weight` are raised to it.
        """
        labels = self._labels(lab)
        counts = self._counts(labels)
        ranges = self.cluster_ranges(lab, counts)
        if weights is None:
            centroids = self.cluster_centroids(x, lab)
            return ranges, centroids, self.as_type_of(counts, x)
        least = arguments.number("min_weight", min_weight, 0)
        heavy = self._weights(weights, labels).clip(min=least)
        totals = self.segment_sums(heavy, labels, counts.shape[0]).reshape(-1)
        centroids = self.cluster_centroids(x, lab, None, heavy, totals)
        return ranges, centroids, self.as_type_of(totals, x)

    def from_matrix(self, ranges_i: A, ranges_j: A, keep: A) -> Ranges[A]:
        """`ranges` for Genred: of the blocks (ranges_i[k], ranges_j[l]), those with keep[k, l].

        ranges_i (Mc, 2) and ranges_j (Nc, 2) are half-open intervals; keep (Mc, Nc) is boolean.
        Returns ranges_i, slices_i, redranges_j, ranges_j, slices_j, redranges_i, in int64.
        """
        ranges_i, ranges_j = (
            self._intervals(ranges, name)
            for ranges, name in ((ranges_i, "ranges_i"), (ranges_j, "ranges_j"))
        )
        xp = self.xp
        expected = (ranges_i.shape[0], ranges_j.shape[0])
        self._require_array(keep, "keep")
        if keep.dtype != self.truth:
            raise ArgumentError("keep must be an array of booleans")
        if tuple(keep.shape) != expected:
            raise ArgumentError(f"keep must have shape {expected}, as the ranges; not {keep.shape}")

        def half(rows: A, columns: A, kept: A) -> tuple[A, A, A]:
            return rows, self.to_int64(kept.sum(axis=1)).cumsum(axis=0), columns[xp.where(kept)[1]]

        return (*half(ranges_i, ranges_j, keep), *half(ranges_j, ranges_i, keep.T))

    # -- arguments ---------------------------------------------------------------------------------

    def _require_type(self, array: Any, name: str) -> None:
        if not isinstance(array, self.array_type):
            expected, got = self.array_type.__name__, type(array).__name__
            raise ArgumentError(f"{name} must be of type {expected}, not {got}")
        self.check_values(name, array)

    def _require_array(self, array: Any, name: str, axes: int | None = None) -> None:
        """An array of real numbers, with so many axes if that matters."""
        self._require_type(array, name)
        if not self.is_real(array):
            raise ArgumentError(f"{name} must hold real numbers; its dtype is {array.dtype}")
        if axes not in (None, len(array.shape)):
            what = "1 axis" if axes == 1 else f"{axes} axes"
            raise ArgumentError(f"{name} must have {what}; its shape is {tuple(array.shape)}")

    def _labels(self, lab: Any) -> A:
        """Labels of shape (M,) or (M, 1) in int64."""
        self._require_array(lab, "lab")
        if not self.is_integer(lab):
            raise ArgumentError(f"lab must hold integers; its dtype is {lab.dtype}")
        if len(lab.shape) != 1 and tuple(lab.shape[1:]) != (1,):
            raise ArgumentError(f"lab must have shape (M,), not {tuple(lab.shape)}")
        labels = self.to_int64(lab.reshape(-1))
        if bool((labels < 0).any()):
            raise ArgumentError("lab must not be negative")
        most = max(MANY_CLUSTERS, labels.shape[0])
        if bool((labels >= most).any()):  # each label below the largest one takes memory
            raise ArgumentError(f"lab must be below {most:,}: number clusters from 0 to C - 1")
        return labels

    def _counts(self, labels: A) -> A:
        return self.to_int64(self.xp.bincount(labels))

    def _weights(self, weights: Any, labels: A) -> A:
        """Weights of shape (M, 1) in float64."""
        self._require_array(weights, "weights")
        column = self.to_float64(weights.reshape(-1, 1))
        _require_rows(column, "weights", labels)
        if not bool((column >= 0).all()):
            raise ArgumentError("weights must not be negative or NaN")
        return column

    def _intervals(self, ranges: Any, name: str) -> A:
        """(C, 2) half-open intervals in int64."""
        self._require_array(ranges, name, 2)
        if ranges.shape[1] != 2 or not self.is_integer(ranges):
            raise ArgumentError(f"{name} must be integers of shape (C, 2): a start and an end each")
        made = self.to_int64(ranges)
        if not bool(((made[:, 0] >= 0) & (made[:, 0] <= made[:, 1])).all()):
            raise ArgumentError(f"{name} must have 0 <= start <= end in each row")
        return made


def with_others(function: F, module: str, taken: Callable[[str, Any], Any], gives_back: bool) -> F:
    """A function of arrays, on arrays of other libraries too, which `taken` makes one's own of.

    module      where it is called so
    taken       gets the argument's name and an array
    gives_back  whether results are made the caller's
    """
    parameters = tuple(inspect.signature(function).parameters)

    def own(name: str, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(own(name, item) for item in value)
        return taken(name, value) if foreign.speaks(value) else value

    @functools.wraps(function)
    def called(*args: Any, **named: Any) -> Any:
        all_named = [*zip(parameters, args, strict=False), *named.items()]
        items = [(n, v) for n, given in all_named for v in _items(given)]
        if not any(foreign.speaks(value) for _, value in items):
            return function(*args, **named)
        names = (*parameters, *["an argument"] * len(args))  # of too many it says so itself
        given = [own(name, value) for name, value in zip(names, args, strict=False)]
        found = function(*given, **{name: own(name, value) for name, value in named.items()})
        library = foreign.library_of(items) if gives_back else None
        return found if library is None else library.made(found)

    called.__module__, called.__qualname__ = module, called.__name__
    return called  # type: ignore[return-value]  # as functools.wraps has it


def _items(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else (value,)


def swap_axes(ranges: Sequence[A] | None) -> Ranges[A] | None:
    """`ranges` with i and j exchanged; None stays None."""
    if ranges is None:
        return None
    if not isinstance(ranges, (tuple, list)) or len(ranges) != 6:
        raise ArgumentError(f"ranges must be a tuple of 6 arrays, not {arguments.shown(ranges)}")
    first, second, third, fourth, fifth, sixth = ranges
    return fourth, fifth, sixth, first, second, third


def _require_rows(array: Any, name: str, labels: Any) -> None:
    if len(array.shape) < 1 or array.shape[0] != labels.shape[0]:
        raise ArgumentError(
            f"{name} has shape {tuple(array.shape)}, but there are {labels.shape[0]} labels"
        )
