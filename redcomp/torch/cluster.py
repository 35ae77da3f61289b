"""Clusters of PyTorch points, and the ranges of block-sparse reductions."""

from __future__ import annotations

from typing import Any

import torch

from redcomp.frontend.solvers import cluster as shared
from redcomp.torch.dynamo import untraced
from redcomp.torch.memory import is_cut_off

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


def _is_real(a: _Tensor) -> bool:
    is_dense = a.layout == torch.strided and a.device.type != "meta"
    return is_dense and not (a.is_complex() or a.is_quantized or is_cut_off(a))


def _is_integer(a: _Tensor) -> bool:
    return not (a.is_floating_point() or a.is_complex() or a.dtype == torch.bool)


def _float_dtype(x: _Tensor) -> torch.dtype:
    return x.dtype if x.is_floating_point() else torch.get_default_dtype()


def _segment_sums(values: _Tensor, labels: _Tensor, count: int) -> _Tensor:
    return values.new_zeros(count, values.shape[1]).index_add(0, labels, values)


def _like(value: object, x: _Tensor) -> _Tensor:
    tensor = torch.as_tensor(value)
    if not _is_real(tensor):
        raise TypeError(f"no real numbers: {tensor.dtype}")
    # Not made of that tensor: PyTorch rounds Python's numbers to float32 unless it is told a dtype.
    return torch.as_tensor(value, dtype=_float_dtype(x), device=x.device)


def _to_labels(numbers: _Tensor) -> _Tensor:
    """int32, unless there are more points than it has numbers."""
    return numbers.to(torch.int32) if len(numbers) <= 2**31 else numbers


_LIBRARY = shared.Library(
    xp=torch,
    array_type=torch.Tensor,
    truth=torch.bool,
    is_real=_is_real,
    is_integer=_is_integer,
    to_int64=lambda a: a.to(torch.int64),
    to_float64=lambda a: a.to(torch.float64),
    as_type_of=lambda a, x: a.to(_float_dtype(x)),
    like=_like,
    first_corner=lambda x: x.amin(0),
    to_labels=_to_labels,
    order=lambda a: torch.argsort(a, stable=True),
    segment_sums=_segment_sums,
)


@untraced
@torch.no_grad()
def grid_cluster(x: _Tensor, size: float | _Tensor) -> _Tensor:
    """Labels of the points (M, D) by the cubic cell of side `size` (a number, or D numbers).

    Cells start at the smallest coordinate on each axis, as those of `pykeops.torch` do.  Returns
    (M,) int32, from 0 to C - 1, in the lexicographic order of the C cells that have points.
    """
    labels: _Tensor = shared.grid_cluster(_LIBRARY, x, size)
    return labels


@untraced
def sort_clusters(x: Any, lab: _Tensor) -> tuple[Any, _Tensor]:
    """Points and labels sorted by label; points of one label keep their order.

    x is an array of M rows, or a list or tuple of them; the first result is of the same kind.
    """
    return shared.sort_clusters(_LIBRARY, x, lab)


@untraced
def cluster_ranges(lab: _Tensor, Nlab: _Tensor | None = None) -> _Tensor:
    """(C, 2) int64: the half-open interval of each cluster among the sorted points.

    Nlab: the number of points of each cluster, if it is known already.  Labels are below 2^24, or
    below the number of points if that is larger; a label without points has an empty interval.
    """
    result: _Tensor = shared.cluster_ranges(_LIBRARY, lab, Nlab)
    return result


@untraced
def cluster_centroids(
    x: _Tensor,
    lab: _Tensor,
    Nlab: _Tensor | None = None,
    weights: _Tensor | None = None,
    weights_c: _Tensor | None = None,
) -> _Tensor:
    """(C, D): the mean of each cluster, weighted if there are weights (M,).

    A cluster of weight 0 has its plain mean.  weights_c: the weight of each cluster, if known.
    """
    result: _Tensor = shared.cluster_centroids(_LIBRARY, x, lab, Nlab, weights, weights_c)
    return result


@untraced
def cluster_ranges_centroids(
    x: _Tensor, lab: _Tensor, weights: _Tensor | None = None, min_weight: float = 1e-9
) -> tuple[_Tensor, _Tensor, _Tensor]:
    """The ranges and centroids of the clusters, and their weights (or counts) in x's dtype.

    Weights below `min_weight` are raised to it.
    """
    return shared.cluster_ranges_centroids(_LIBRARY, x, lab, weights, min_weight)


@untraced
def from_matrix(
    ranges_i: _Tensor, ranges_j: _Tensor, keep: _Tensor
) -> tuple[_Tensor, _Tensor, _Tensor, _Tensor, _Tensor, _Tensor]:
    """`ranges` for Genred: of the blocks (ranges_i[k], ranges_j[l]), those with keep[k, l].

    ranges_i (Mc, 2) and ranges_j (Nc, 2) are half-open intervals; keep (Mc, Nc) is boolean.
    Returns ranges_i, slices_i, redranges_j, ranges_j, slices_j, redranges_i, in int64.
    """
    return shared.from_matrix(_LIBRARY, ranges_i, ranges_j, keep)


swap_axes = untraced(shared.swap_axes)
