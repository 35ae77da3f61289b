"""Clusters of NumPy points, and the ranges of block-sparse reductions."""

from __future__ import annotations

from typing import Any

import numpy as np

from redcomp.frontend.solvers import cluster as shared

__all__ = [
    "cluster_centroids",
    "cluster_ranges",
    "cluster_ranges_centroids",
    "from_matrix",
    "grid_cluster",
    "sort_clusters",
    "swap_axes",
]

_Array = np.ndarray[Any, np.dtype[Any]]


def _float_dtype(x: _Array) -> np.dtype[Any]:
    return x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)


def _segment_sums(values: _Array, labels: _Array, count: int) -> _Array:
    columns = [np.bincount(labels, weights=column, minlength=count) for column in values.T]
    return np.stack(columns, axis=1) if columns else np.zeros((count, 0))


def _is_real(a: _Array) -> bool:
    return a.dtype.kind in "biuf"


def _like(value: object, x: _Array) -> _Array:
    array = np.asarray(value)
    if not _is_real(array):
        raise TypeError(f"no real numbers: {array.dtype}")
    return np.asarray(array, _float_dtype(x))


_LIBRARY = shared.Library(
    xp=np,
    array_type=np.ndarray,
    truth=np.dtype(np.bool_),
    is_real=_is_real,
    is_integer=lambda a: np.issubdtype(a.dtype, np.integer),
    to_int64=lambda a: np.asarray(a, np.int64),
    to_float64=lambda a: np.asarray(a, np.float64),
    as_type_of=lambda a, x: np.asarray(a, _float_dtype(x)),
    like=_like,
    first_corner=lambda _: 0.0,
    to_labels=lambda a: a,
    order=lambda a: np.argsort(a, kind="stable"),
    segment_sums=_segment_sums,
)


def grid_cluster(x: _Array, size: float | _Array) -> _Array:
    """Labels of the points (M, D) by the cubic cell of side `size` (a number, or D numbers).

    Cells start at 0 on each axis, as those of `pykeops.numpy` do.  Returns (M,) int64, from 0 to
    C - 1, in the lexicographic order of the C cells that have points.
    """
    with np.errstate(over="ignore"):  # cells that cannot be numbered become an error
        labels: _Array = shared.grid_cluster(_LIBRARY, x, size)
    return labels


def sort_clusters(x: Any, lab: _Array) -> tuple[Any, _Array]:
    """Points and labels sorted by label; points of one label keep their order.

    x is an array of M rows, or a list or tuple of them; the first result is of the same kind.
    """
    return shared.sort_clusters(_LIBRARY, x, lab)


def cluster_ranges(lab: _Array, Nlab: _Array | None = None) -> _Array:
    """(C, 2) int64: the half-open interval of each cluster among the sorted points.

    Nlab: the number of points of each cluster, if it is known already.  Labels are below 2^24, or
    below the number of points if that is larger; a label without points has an empty interval.
    """
    result: _Array = shared.cluster_ranges(_LIBRARY, lab, Nlab)
    return result


def cluster_centroids(
    x: _Array,
    lab: _Array,
    Nlab: _Array | None = None,
    weights: _Array | None = None,
    weights_c: _Array | None = None,
) -> _Array:
    """(C, D): the mean of each cluster, weighted if there are weights (M,).

    A cluster of weight 0 has its plain mean.  weights_c: the weight of each cluster, if known.
    """
    result: _Array = shared.cluster_centroids(_LIBRARY, x, lab, Nlab, weights, weights_c)
    return result


def cluster_ranges_centroids(
    x: _Array, lab: _Array, weights: _Array | None = None, min_weight: float = 0.0
) -> tuple[_Array, _Array, _Array]:
    """The ranges and centroids of the clusters, and their weights (or counts) in x's dtype.

    Weights below `min_weight` are raised to it.
    """
    return shared.cluster_ranges_centroids(_LIBRARY, x, lab, weights, min_weight)


def from_matrix(
    ranges_i: _Array, ranges_j: _Array, keep: _Array
) -> tuple[_Array, _Array, _Array, _Array, _Array, _Array]:
    """`ranges` for Genred: of the blocks (ranges_i[k], ranges_j[l]), those with keep[k, l].

    ranges_i (Mc, 2) and ranges_j (Nc, 2) are half-open intervals; keep (Mc, Nc) is boolean.
    Returns ranges_i, slices_i, redranges_j, ranges_j, slices_j, redranges_i, in int64.
    """
    return shared.from_matrix(_LIBRARY, ranges_i, ranges_j, keep)


swap_axes = shared.swap_axes
