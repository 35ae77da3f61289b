"""Clusters of points and block-sparse reductions, on NumPy arrays and PyTorch tensors alike.

What the libraries spell differently stands in a `Library`; the mathematics stands here, once.
Counts and ranges are int64, and sums are float64, so nothing depends on the number of points, and
no two cells get the same label.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from redcomp import arguments
from redcomp.errors import ArgumentError

Array = Any
# Labels may be as large as this even if there are fewer points, so that clusters may be empty.
MANY_CLUSTERS = 2**24
Ranges = tuple[Array, Array, Array, Array, Array, Array]


@dataclass(frozen=True, slots=True)
class Library:
    """What an array library calls by a name of its own.

    xp            the module
    array_type    its arrays
    truth         its dtype of booleans
    is_real       whether an array holds real numbers, and has them at hand
    is_integer    whether it holds integers
    to_int64, to_float64, as_type_of   conversions
    like          (value, array) to the value as an array of the array's dtype and device; raises
                  TypeError unless it is real
    first_corner  points (M, D) to where their cells start on each axis
    to_labels     numbers of cells to the library's integers for labels
    order         the stable order of integers
    segment_sums  (values (M, D), labels (M,), count) to (count, D): sums over equal labels
    """

    xp: Any
    array_type: Any
    truth: object
    is_real: Callable[[Array], bool]
    is_integer: Callable[[Array], bool]
    to_int64: Callable[[Array], Array]
    to_float64: Callable[[Array], Array]
    as_type_of: Callable[[Array, Array], Array]
    like: Callable[[object, Array], Array]
    first_corner: Callable[[Array], Array | float]
    to_labels: Callable[[Array], Array]
    order: Callable[[Array], Array]
    segment_sums: Callable[[Array, Array, int], Array]


def grid_cluster(library: Library, x: Array, size: object) -> Array:
    """The label of each point's cubic cell; cells are numbered in lexicographic order."""
    xp = library.xp
    _require_array(library, x, "x", 2)
    if x.shape[1] == 0:
        raise ArgumentError(f"x must have coordinates; its shape is {tuple(x.shape)}")
    if isinstance(size, library.array_type):
        _require_array(library, size, "size")
    wanted = f"a number or {x.shape[1]} numbers"
    try:
        sides = library.like(arguments.array_like("size", size, wanted), x)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise ArgumentError(f"size must be {wanted}, not {arguments.shown(size)}") from None
    if tuple(sides.shape) not in ((), (1,), (x.shape[1],)):
        raise ArgumentError(f"size must be {wanted}; its shape is {tuple(sides.shape)}")
    if not bool(((sides > 0) & xp.isfinite(sides)).all()):
        raise ArgumentError("size must be positive and finite")
    if x.shape[0] == 0:
        return library.to_labels(xp.bincount(library.to_int64(x[:, :1].reshape(-1))))
    if not bool(xp.isfinite(x).all()):
        raise ArgumentError("x must be finite: it has NaN or infinity")
    x = library.as_type_of(x, x)  # differences of integers could overflow
    cells = xp.floor((x - library.first_corner(x)) / sides)
    if not bool(xp.isfinite(cells).all()):
        raise ArgumentError("size is too small for the extent of x: cells cannot be numbered")
    labels = library.to_int64(0 * cells[:, 0])
    for k in range(x.shape[1]):
        # Both numbers are below M, so the key is exact for more points than fit into memory.
        place = xp.unique(cells[:, k], return_inverse=True)[1].reshape(-1)
        key = labels * (int(place.max()) + 1) + place
        labels = xp.unique(key, return_inverse=True)[1].reshape(-1)
    return library.to_labels(labels)


def sort_clusters(library: Library, x: Any, lab: Array) -> tuple[Any, Array]:
    """Points (an array, or a list or tuple of them) and labels, by label, else in their order."""
    labels = _labels(library, lab)
    order = library.order(labels)

    def moved(array: Array) -> Array:
        _require_type(library, array, "x, or each array in it,")
        _require_rows(array, "x", labels)
        try:
            return array[order]
        except NotImplementedError as error:  # PyTorch has views that it cannot copy
            raise ArgumentError(f"x cannot be sorted: {error}") from None

    is_several = isinstance(x, (tuple, list))
    points = type(x)(moved(array) for array in x) if is_several else moved(x)
    return points, lab.reshape(-1)[order]


def cluster_ranges(library: Library, lab: Array, counts: Array | None) -> Array:
    """(C, 2): where each cluster starts and ends among the sorted points."""
    if counts is None:
        counts = _counts(library, _labels(library, lab))
    else:
        _require_array(library, counts, "Nlab", 1)
    ends = library.to_int64(counts).cumsum(axis=0)
    return library.xp.stack((ends - library.to_int64(counts), ends), axis=1)


def cluster_centroids(
    library: Library,
    x: Array,
    lab: Array,
    counts: Array | None,
    weights: Array | None,
    totals: Array | None,
) -> Array:
    """(C, D): the weighted mean of each cluster; a cluster without weight has its plain mean."""
    _require_array(library, x, "x", 2)
    labels = _labels(library, lab)
    _require_rows(x, "x", labels)
    counted = _counts(library, labels)
    number = counted.shape[0]
    for name, given in (("Nlab", counts), ("weights_c", totals)):
        if given is None:
            continue
        _require_array(library, given, name)
        if given.reshape(-1).shape[0] != number:
            raise ArgumentError(f"{name} has {given.reshape(-1).shape[0]} numbers, not {number}")
    if not bool((counted > 0).all()):
        raise ArgumentError("lab leaves a cluster without points: number clusters from 0 to C - 1")
    wide = library.to_float64(x)
    means = library.segment_sums(wide, labels, number) / counted.reshape(-1, 1)
    if weights is not None:
        weight = _weights(library, weights, labels)
        if totals is None:
            totals = library.segment_sums(weight, labels, number)
        total = library.to_float64(totals).reshape(-1, 1)
        sums = library.segment_sums(weight * wide, labels, number)
        has_weight = total > 0
        means = library.xp.where(has_weight, sums / library.xp.where(has_weight, total, 1.0), means)
    return library.as_type_of(means, x)


def cluster_ranges_centroids(
    library: Library, x: Array, lab: Array, weights: Array | None, min_weight: float
) -> tuple[Array, Array, Array]:
    """The ranges, the centroids, and each cluster's weight (or number of points) as floats."""
    labels = _labels(library, lab)
    counts = _counts(library, labels)
    ranges = cluster_ranges(library, lab, counts)
    if weights is None:
        centroids = cluster_centroids(library, x, lab, None, None, None)
        return ranges, centroids, library.as_type_of(counts, x)
    least = arguments.number("min_weight", min_weight, 0)
    heavy = _weights(library, weights, labels).clip(min=least)
    totals = library.segment_sums(heavy, labels, counts.shape[0]).reshape(-1)
    centroids = cluster_centroids(library, x, lab, None, heavy, totals)
    return ranges, centroids, library.as_type_of(totals, x)


def from_matrix(library: Library, ranges_i: Array, ranges_j: Array, keep: Array) -> Ranges:
    """`ranges` of the blocks that a matrix of truth values keeps."""
    ranges_i, ranges_j = (
        _intervals(library, ranges, name)
        for ranges, name in ((ranges_i, "ranges_i"), (ranges_j, "ranges_j"))
    )
    xp = library.xp
    expected = (ranges_i.shape[0], ranges_j.shape[0])
    _require_array(library, keep, "keep")
    if keep.dtype != library.truth:
        raise ArgumentError("keep must be an array of booleans")
    if tuple(keep.shape) != expected:
        raise ArgumentError(f"keep must have shape {expected}, as the ranges; not {keep.shape}")

    def half(rows: Array, columns: Array, kept: Array) -> tuple[Array, Array, Array]:
        return rows, library.to_int64(kept.sum(axis=1)).cumsum(axis=0), columns[xp.where(kept)[1]]

    return (*half(ranges_i, ranges_j, keep), *half(ranges_j, ranges_i, keep.T))


def swap_axes(ranges: Sequence[Array] | None) -> Ranges | None:
    """`ranges` with i and j exchanged; None stays None."""
    if ranges is None:
        return None
    if not isinstance(ranges, (tuple, list)) or len(ranges) != 6:
        raise ArgumentError(f"ranges must be a tuple of 6 arrays, not {arguments.shown(ranges)}")
    first, second, third, fourth, fifth, sixth = ranges
    return fourth, fifth, sixth, first, second, third


# -- arguments -------------------------------------------------------------------------------------


def _require_type(library: Library, array: Any, name: str) -> None:
    if not isinstance(array, library.array_type):
        expected, got = library.array_type.__name__, type(array).__name__
        raise ArgumentError(f"{name} must be of type {expected}, not {got}")
    arguments.refuse_masked(name, array)


def _require_array(library: Library, array: Any, name: str, axes: int | None = None) -> None:
    """An array of real numbers, with so many axes if that matters."""
    _require_type(library, array, name)
    if not library.is_real(array):
        raise ArgumentError(
            f"{name} must hold real numbers, densely and in memory; its dtype is {array.dtype}"
        )
    if axes not in (None, len(array.shape)):
        what = "1 axis" if axes == 1 else f"{axes} axes"
        raise ArgumentError(f"{name} must have {what}; its shape is {tuple(array.shape)}")


def _require_rows(array: Array, name: str, labels: Array) -> None:
    if len(array.shape) < 1 or array.shape[0] != labels.shape[0]:
        raise ArgumentError(
            f"{name} has shape {tuple(array.shape)}, but there are {labels.shape[0]} labels"
        )


def _labels(library: Library, lab: Any) -> Array:
    """Labels of shape (M,) or (M, 1) in int64."""
    _require_array(library, lab, "lab")
    if not library.is_integer(lab):
        raise ArgumentError(f"lab must hold integers; its dtype is {lab.dtype}")
    if len(lab.shape) != 1 and tuple(lab.shape[1:]) != (1,):
        raise ArgumentError(f"lab must have shape (M,), not {tuple(lab.shape)}")
    labels = library.to_int64(lab.reshape(-1))
    if bool((labels < 0).any()):
        raise ArgumentError("lab must not be negative")
    most = max(MANY_CLUSTERS, labels.shape[0])
    if bool((labels >= most).any()):  # each label below the largest one takes memory
        raise ArgumentError(f"lab must be below {most:,}: number clusters from 0 to C - 1")
    return labels


def _counts(library: Library, labels: Array) -> Array:
    return library.to_int64(library.xp.bincount(labels))


def _weights(library: Library, weights: Any, labels: Array) -> Array:
    """Weights of shape (M, 1) in float64."""
    _require_array(library, weights, "weights")
    column = library.to_float64(weights.reshape(-1, 1))
    _require_rows(column, "weights", labels)
    if not bool((column >= 0).all()):
        raise ArgumentError("weights must not be negative or NaN")
    return column


def _intervals(library: Library, ranges: Any, name: str) -> Array:
    """(C, 2) half-open intervals in int64."""
    _require_array(library, ranges, name, 2)
    if ranges.shape[1] != 2 or not library.is_integer(ranges):
        raise ArgumentError(f"{name} must be integers of shape (C, 2): a start and an end each")
    made = library.to_int64(ranges)
    if not bool(((made[:, 0] >= 0) & (made[:, 0] <= made[:, 1])).all()):
        raise ArgumentError(f"{name} must have 0 <= start <= end in each row")
    return made
