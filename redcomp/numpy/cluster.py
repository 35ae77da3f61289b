"""Clusters of NumPy points, and the ranges of block-sparse reductions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import numpy as np

from redcomp.arguments import refuse_masked
from redcomp.foreign import view
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
F = TypeVar("F", bound=Callable[..., Any])


def _float_dtype(x: _Array) -> np.dtype[Any]:
    return x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)


class _Clusters(shared.Clusters[_Array]):
    xp: ClassVar[Any] = np
    array_type: ClassVar[type[Any]] = np.ndarray
    truth: ClassVar[object] = np.dtype(np.bool_)

    def check_values(self, name: str, a: _Array) -> None:
        refuse_masked(name, a)

    def is_real(self, a: _Array) -> bool:
        return a.dtype.kind in "biuf"

    def is_integer(self, a: _Array) -> bool:
        return np.issubdtype(a.dtype, np.integer)

    def to_int64(self, a: _Array) -> _Array:
        return np.asarray(a, np.int64)

    def to_float64(self, a: _Array) -> _Array:
        return np.asarray(a, np.float64)

    def as_type_of(self, a: _Array, x: _Array) -> _Array:
        return np.asarray(a, _float_dtype(x))

    def like(self, value: object, x: _Array) -> _Array:
        array = np.asarray(value)
        if not self.is_real(array):
            raise TypeError(f"no real numbers: {array.dtype}")
        return np.asarray(array, _float_dtype(x))

    def first_corner(self, x: _Array) -> float:
        return 0.0

    def to_labels(self, numbers: _Array) -> _Array:
        return numbers

    def order(self, labels: _Array) -> _Array:
        return np.argsort(labels, kind="stable")

    def segment_sums(self, values: _Array, labels: _Array, count: int) -> _Array:
        columns = [np.bincount(labels, weights=column, minlength=count) for column in values.T]
        return np.stack(columns, axis=1) if columns else np.zeros((count, 0))

    def while_numbering(self) -> np.errstate:
        return np.errstate(over="ignore")


def _taking(function: F) -> F:
    return shared.with_others(function, __name__, view, gives_back=True)


_clusters = _Clusters()
grid_cluster = _taking(_clusters.grid_cluster)
sort_clusters = _taking(_clusters.sort_clusters)
cluster_ranges = _taking(_clusters.cluster_ranges)
cluster_centroids = _taking(_clusters.cluster_centroids)
cluster_ranges_centroids = _taking(_clusters.cluster_ranges_centroids)
from_matrix = _taking(_clusters.from_matrix)
swap_axes = shared.swap_axes
