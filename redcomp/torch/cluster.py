"""Clusters of PyTorch points, and the ranges of block-sparse reductions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import torch

from redcomp.frontend.solvers import cluster as shared
from redcomp.torch.dynamo import untraced
from redcomp.torch.foreign import tensor_of
from redcomp.torch.memory import check_plain, check_untraced

__all__ = [
    "cluster_centroids",
    "cluster_ranges",
    "cluster_ranges_centroids",
    "from_matrix",
    "grid_cluster",
    "sort_clusters",
    "swap_axes",
]

_Tensor = torch.Tensor
F = TypeVar("F", bound=Callable[..., Any])


def _float_dtype(x: _Tensor) -> torch.dtype:
    return x.dtype if x.is_floating_point() else torch.get_default_dtype()


class _Clusters(shared.Clusters[_Tensor]):
    xp: ClassVar[Any] = torch
    array_type: ClassVar[type[Any]] = torch.Tensor
    truth: ClassVar[object] = torch.bool

    def check_values(self, name: str, a: _Tensor) -> None:
        check_untraced("a function of clusters")
        check_plain(name, a)

    def is_real(self, a: _Tensor) -> bool:
        return not (a.is_complex() or a.is_quantized)

    def is_integer(self, a: _Tensor) -> bool:
        return not (a.is_floating_point() or a.is_complex() or a.dtype == torch.bool)

    def to_int64(self, a: _Tensor) -> _Tensor:
        return a.to(torch.int64)

    def to_float64(self, a: _Tensor) -> _Tensor:
        return a.to(torch.float64)

    def as_type_of(self, a: _Tensor, x: _Tensor) -> _Tensor:
        return a.to(_float_dtype(x))

    def like(self, value: object, x: _Tensor) -> _Tensor:
        tensor = torch.as_tensor(value)
        if not self.is_real(tensor):
            raise TypeError(f"no real numbers: {tensor.dtype}")
        # Not made of that tensor: PyTorch rounds Python's numbers to float32 unless it is told a
        # dtype.
        return torch.as_tensor(value, dtype=_float_dtype(x), device=x.device)

    def first_corner(self, x: _Tensor) -> _Tensor:
        return x.amin(0)

    def to_labels(self, numbers: _Tensor) -> _Tensor:
        """int32, unless there are more points than it has numbers."""
        return numbers.to(torch.int32) if len(numbers) <= 2**31 else numbers

    def order(self, labels: _Tensor) -> _Tensor:
        return torch.argsort(labels, stable=True)

    def segment_sums(self, values: _Tensor, labels: _Tensor, count: int) -> _Tensor:
        return values.new_zeros(count, values.shape[1]).index_add(0, labels, values)

    def while_numbering(self) -> torch.no_grad:
        return torch.no_grad()

    def cluster_ranges_centroids(
        self, x: _Tensor, lab: _Tensor, weights: _Tensor | None = None, min_weight: float = 1e-9
    ) -> tuple[_Tensor, _Tensor, _Tensor]:
        return super().cluster_ranges_centroids(x, lab, weights, min_weight)

    cluster_ranges_centroids.__doc__ = shared.Clusters.cluster_ranges_centroids.__doc__


def _taking(function: F) -> F:
    return untraced(shared.with_others(function, __name__, tensor_of, gives_back=False))


_clusters = _Clusters()
grid_cluster = _taking(_clusters.grid_cluster)
sort_clusters = _taking(_clusters.sort_clusters)
cluster_ranges = _taking(_clusters.cluster_ranges)
cluster_centroids = _taking(_clusters.cluster_centroids)
cluster_ranges_centroids = _taking(_clusters.cluster_ranges_centroids)
from_matrix = _taking(_clusters.from_matrix)
swap_axes = untraced(shared.swap_axes)
