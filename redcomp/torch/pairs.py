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


def where_there(
    reduction: PairReduction, given: Sequence[torch.Tensor], is_there: torch.Tensor
) -> list[torch.Tensor]:
    """The arguments at pairs, a row of parameters for each too, and 0 where nothing is there.

    No derivative of what is computed from them reaches the tensors there, be it infinite.
    """
    rows = [
        tensor if AXES[parameter.kind] else tensor[..., None, :].expand(*_rows(tensor, is_there))
        for tensor, parameter in zip(given, reduction.parameters, strict=False)
    ]
    of_pairs = [
        tensor if parameter.is_integer else torch.where(is_there[:, None], tensor, 0.0)
        for tensor, parameter in zip(rows, reduction.parameters, strict=True)
    ]
    return of_pairs + list(given[len(rows) :])


def _rows(parameter: torch.Tensor, is_there: torch.Tensor) -> tuple[int, ...]:
    """The shape of a parameter with a row for each pair."""
    return (*parameter.shape[:-1], is_there.shape[0], parameter.shape[-1])


def are_visited(
    ranges: Sequence[torch.Tensor], rows: int, columns: int, device: torch.device
) -> torch.Tensor:
    """Whether ranges visit each pair (rows * columns,), in operators that need no values.

    Blocks and intervals are numbered from 1 on; 0 is for what is in none.
    """
    blocks, ends, intervals = [array.to(device, torch.int64) for array in ranges[:3]]
    count = blocks.shape[0]
    block = torch.arange(1, count + 1, device=device)
    of_rows = blocks.new_zeros(rows + 1).index_add(0, blocks[:, 0], block)
    of_rows = of_rows.index_add(0, blocks[:, 1], -block).cumsum(0)[:rows]
    # Intervals after the last end are of no block, and get a line that no row has.
    position = torch.arange(intervals.shape[0], device=device)
    of_intervals = 1 + torch.searchsorted(ends, position, right=True)
    one = torch.ones_like(position)
    steps = blocks.new_zeros(count + 2, columns + 1)
    steps = steps.index_put((of_intervals, intervals[:, 0]), one, accumulate=True)
    steps = steps.index_put((of_intervals, intervals[:, 1]), -one, accumulate=True)
    return (steps.cumsum(1)[of_rows, :columns] > 0).flatten()


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
