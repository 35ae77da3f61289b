"""The arguments of a reduction at some pairs, as rows: what `derivatives.pointwise` takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from redcomp.frontend.reductions.calls import AXES
from redcomp.frontend.reductions.pair_reduction import PairReduction


def at_pairs(
    reduction: PairReduction, tensors: Sequence[torch.Tensor], i: torch.Tensor, j: torch.Tensor
) -> list[torch.Tensor]:
    """The arguments at pairs of every entry of the batch, given by their numbers, both (pairs,).

    Parameters stay as they are.
    """
    numbers = {"i": i, "j": j}
    given = []
    for tensor, parameter in zip(tensors, reduction.parameters, strict=True):
        index: tuple[Any, ...] = (..., *[numbers[axis] for axis in AXES[parameter.kind]])
        given.append(tensor[(*index, slice(None))])
    return given + [numbers[kind[0]][:, None] for kind in reduction.numbers]


def at_places(
    reduction: PairReduction,
    tensors: Sequence[torch.Tensor],
    places: torch.Tensor,
    is_there: torch.Tensor,
) -> list[torch.Tensor]:
    """The arguments, parameters too, at each row and the columns that `places` (..., rows, E) has.

    All entries one after the other.  They are 0 where nothing is there, and no derivative of what
    is computed from them reaches the tensors then, be it infinite.
    """
    *batch, rows, _ = shape = places.shape
    counts = [torch.arange(n, device=places.device) for n in (*batch, rows)]
    axes = [count.reshape(-1, *(1,) * (len(batch) + 1 - n)) for n, count in enumerate(counts)]
    *entry, row = axes
    numbers = {"i": row, "j": places} if reduction.rows == "i" else {"i": places, "j": row}
    given = []
    for tensor, parameter in zip(tensors, reduction.parameters, strict=True):
        own = tensor.shape[tensor.dim() - 1 - len(AXES[parameter.kind]) :]
        index = (*entry, *[numbers[axis] for axis in AXES[parameter.kind]])
        of_pairs = tensor.expand(*batch, *own)[index].expand(*shape, own[-1])
        if not parameter.is_integer:
            of_pairs = torch.where(is_there[..., None], of_pairs, 0.0)
        given.append(of_pairs.reshape(-1, own[-1]))
    return given + [numbers[kind[0]].expand(shape).reshape(-1, 1) for kind in reduction.numbers]
