"""Reductions as differentiable functions of tensors; their derivatives are reductions again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch.autograd.forward_ad import unpack_dual

from redcomp.frontend.calls import AXES, launch, sizes
from redcomp.frontend.pair_reduction import PairReduction
from redcomp.frontend.ranges import Ranges
from redcomp.frontend.tables import Read, without_reads
from redcomp.torch.places import CudaTensors, Place

KERNEL_DTYPES = {torch.float32: "f32", torch.float64: "f64"}
INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}

# So many pairs are computed at a time where each has a result of its own.
_PAIRS = 2**18

Tensors = tuple[torch.Tensor, ...]


def float_dtype(tensors: Sequence[torch.Tensor]) -> torch.dtype:
    """The dtype of the arguments that are no integers; without any, PyTorch's for integers."""
    of_integers = torch.get_default_dtype()
    if of_integers not in KERNEL_DTYPES:
        of_integers = torch.float32
    return next((t.dtype for t in tensors if t.is_floating_point()), of_integers)


def apply(
    reduction: PairReduction,
    tensors: Sequence[torch.Tensor],
    ranges: Ranges | None,
    place: Place,
) -> Tensors:
    """All results of a reduction of tensors that have been checked.

    Through autograd only where somebody could ask for a gradient: it costs several calls.
    """
    has_values = any(result.kind == "value" for result in reduction.results)
    if not (has_values and _is_differentiated(tensors)):
        return _compute(reduction, tensors, ranges, place)
    reduction, tensors = _with_reads_given(reduction, tensors, place)
    placed = reduction.with_places()
    reduce: Callable[..., Tensors] = _Reduce.apply
    results = list(reduce(placed, place, ranges, *tensors))
    for output, row in enumerate(placed.rows_of_outputs):
        if row.places:
            value, at = (n for n, r in enumerate(placed.results) if r.output == output)
            # Where there was no column there is a neutral value, which depends on nothing.
            is_there = results[value] != placed.results[value].empty[0]
            there = is_there.nonzero(as_tuple=True)
            at_pairs = _values_at(placed, output, tensors, results[at], there, place)
            known = results[value].index_put(there, at_pairs)
            results[value] = _same_value(results[value], known)
    # A row with places has all the results of the row without them, and then the places.
    counts = [len(row.results) for row in reduction.rows_of_outputs]
    own = [[t for t, r in zip(results, placed.results, strict=True) if r.output == n]
           for n in range(len(counts))]  # fmt: skip
    return tuple(t for tensors, count in zip(own, counts, strict=True) for t in tensors[:count])


def _is_differentiated(tensors: Sequence[torch.Tensor]) -> bool:
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        return True
    # Inside of torch.func, tensors may be wrappers without data, which only autograd takes off.
    if torch._C._are_functorch_transforms_active():
        return True
    return any(_tangent(t) is not None for t in tensors)


def _tangent(tensor: torch.Tensor) -> torch.Tensor | None:
    tangent: torch.Tensor | None
    _, tangent = unpack_dual(tensor)  # type: ignore[no-untyped-call]  # PyTorch has no types for it
    return tangent


def _with_reads_given(
    reduction: PairReduction, tensors: Sequence[torch.Tensor], place: Place
) -> tuple[PairReduction, Sequence[torch.Tensor]]:
    """The reduction with PyTorch's own reads of the tables whose gradient is wanted."""
    if torch._C._are_functorch_transforms_active():
        return reduction, tensors  # there are no indices to be had; the kernel's own reads will do
    tables = frozenset(
        n
        for n, (tensor, parameter) in enumerate(zip(tensors, reduction.parameters, strict=True))
        if parameter.kind == "parameter" and tensor.requires_grad
    )
    without = without_reads(reduction, tables)
    if without is None:
        return reduction, tensors
    counts = sizes(reduction, tuple(t.shape for t in tensors)).by_kind(reduction)
    given = [t.detach() if n in without.unread else t for n, t in enumerate(tensors)]
    given += [_read(read, tensors, counts, place) for read in without.reads]
    return without.reduction, given


def _read(
    read: Read, tensors: Sequence[torch.Tensor], counts: Mapping[str, int], place: Place
) -> torch.Tensor:
    """The components of a table at the indices, 0 where there is none."""
    table = tensors[read.table]
    device = table.device
    arguments = [tensors[n].detach() for n in read.arguments]
    numbers = [torch.arange(counts[kind[0]], device=device)[:, None] for kind in read.numbers]
    (places,) = _compute(read.index, [*arguments, *numbers], None, place, table.dtype)
    index, length = places.long(), table.shape[-1]
    batch = np.broadcast_shapes(table.shape[:-1], index.shape[:-2])
    entries = length * torch.arange(prod(batch), device=device).reshape(*batch, 1, 1)
    components = table.expand(*batch, length).reshape(-1)
    found = torch.where(index >= 0, components[index.clamp(min=0) + entries], 0.0)
    return found[..., 0] if read.kind == "parameter" else found


def _compute(
    reduction: PairReduction,
    tensors: Sequence[torch.Tensor],
    ranges: Ranges | None,
    place: Place,
    dtype: torch.dtype | None = None,
) -> Tensors:
    """Run the kernel, in the tensors' dtype unless another is given."""
    shapes = tuple(t.shape for t in tensors)
    size = sizes(reduction, shapes)
    blocks = size.blocks(reduction, ranges)
    dtype = dtype or float_dtype(tensors)
    device = tensors[0].device
    results = tuple(
        torch.empty(
            (*size.batch, size.rows, r.dim),
            dtype=torch.int64 if r.kind == "index" else dtype,
            device=device,
        )
        for r in reduction.results
    )
    if blocks.covered < size.rows:
        for result, description in zip(results, reduction.results, strict=True):
            _fill(result, description.empty)
    packed = [
        (t.to(INTEGERS[dtype]) if p.is_integer else t.detach()).contiguous()
        for t, p in zip(tensors, reduction.parameters, strict=True)
    ]
    targets, addresses = [r.data_ptr() for r in results], [t.data_ptr() for t in packed]
    queue = place.queue() if isinstance(place, CudaTensors) else place
    launch(reduction, KERNEL_DTYPES[dtype], size, blocks, targets, addresses, shapes, queue)
    return results


def _fill(result: torch.Tensor, components: Sequence[float]) -> None:
    """Fill an array of vectors with a vector, without copying anything to a GPU."""
    if len(set(components)) == 1:
        result.fill_(components[0])
    else:
        for n, component in enumerate(components):
            result[..., n] = component


class _Reduce(torch.autograd.Function):
    """All results of a reduction; those of extrema are constants here (see `_values_at`)."""

    @staticmethod
    def forward(
        reduction: PairReduction, place: Place, ranges: Ranges | None, *tensors: torch.Tensor
    ) -> Tensors:
        return _compute(reduction, tensors, ranges, place)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
        reduction: PairReduction
        reduction, place, ranges, *tensors = inputs
        ctx.reduction, ctx.place, ctx.ranges = reduction, place, ranges
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(
            *(t for t, is_one in zip(output, _differentiable(reduction), strict=True) if not is_one)
        )
        rows = reduction.rows_of_outputs
        saved = (t for t, r in zip(output, reduction.results, strict=True) if rows[r.output].saves)
        kept = (*tensors, *saved)
        ctx.save_for_backward(*kept)
        ctx.save_for_forward(*kept)

    @staticmethod
    def jvp(
        ctx: Any, _: None, __: None, ___: None, *tangents: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, ...]:
        reduction: PairReduction = ctx.reduction
        saved, count = ctx.saved_tensors, len(reduction.parameters)
        moving = tuple(n for n, t in enumerate(tangents) if t is not None)
        present = [t for t in tangents if t is not None]
        if not moving or not any(_differentiable(reduction)):
            return (None,) * len(reduction.results)
        derived = reduction.differential(moving)
        arguments = (*saved[:count], *present, *saved[count:])
        parts = iter(apply(derived, arguments, ctx.ranges, ctx.place))
        return tuple(next(parts) if is_one else None for is_one in _differentiable(reduction))

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        reduction: PairReduction = ctx.reduction
        saved, count = ctx.saved_tensors, len(reduction.parameters)
        tensors, results = saved[:count], saved[count:]
        result: list[torch.Tensor | None] = [None] * len(tensors)
        of_values = [
            e for e, r in zip(cotangents, reduction.results, strict=True) if r.kind == "value"
        ]
        given = tuple(e is not None for e in of_values)
        present = [e for e in of_values if e is not None]
        wanted = [n for n, needed in enumerate(ctx.needs_input_grad[3:]) if needed]
        arguments = (*tensors, *present, *results)
        for group in _groups(reduction, wanted) if present else ():
            derived = reduction.gradient(group, given)
            if reduction.parameters[group[0]].kind == "ij":
                each = range(len(group))
                parts = tuple(
                    _at_all_pairs(derived, n, arguments, ctx.ranges, ctx.place) for n in each
                )
            else:
                parts = apply(derived, arguments, ctx.ranges, ctx.place)
            for position, part in zip(group, parts, strict=True):
                is_parameter = reduction.parameters[position].kind == "parameter"
                of_entries = part.sum(-2) if is_parameter else part
                result[position] = of_entries.sum_to_size(tensors[position].shape)
        return None, None, None, *result


def _differentiable(reduction: PairReduction) -> list[bool]:
    """Which results this function differentiates."""
    rows = reduction.rows_of_outputs
    return [r.kind == "value" and not rows[r.output].places for r in reduction.results]


def _groups(reduction: PairReduction, wanted: Sequence[int]) -> list[tuple[int, ...]]:
    """Arguments whose gradients share a sweep: i-variables, j-variables with parameters, pairs'."""
    sweeps = {"i": 0, "j": 1, "parameter": 1, "ij": 2}
    of = {n: sweeps[reduction.parameters[n].kind] for n in wanted}
    groups = (tuple(n for n in wanted if of[n] == sweep) for sweep in range(3))
    return [group for group in groups if group]


def _values_at(
    reduction: PairReduction,
    output: int,
    tensors: Sequence[torch.Tensor],
    places: torch.Tensor,
    known: Tensors,
    place: Place,
) -> torch.Tensor:
    """What an output reduces, at the columns that entries of `places` name; `known` says which.

    An extremum depends on these pairs alone, so they are all that its gradient has to look at.
    """
    *entry, spread, which = known
    chosen, batch = places[known], places.shape[:-2]
    i, j = (spread, chosen) if reduction.rows == "i" else (chosen, spread)
    values = _at_pairs(reduction, output, tensors, i, j, place, entry, batch)
    # Each component of a vector has a place of its own.
    component = which[:, None] if values.shape[1] > 1 else torch.zeros_like(which)[:, None]
    return values.gather(1, component)[:, 0]


def _at_all_pairs(
    reduction: PairReduction,
    output: int,
    tensors: Sequence[torch.Tensor],
    ranges: Ranges | None,
    place: Place,
) -> torch.Tensor:
    """What an output reduces, at every pair: (M, N, E), computed some pairs at a time.

    It is 0 at the pairs that `ranges` leave out.
    """
    counts = sizes(reduction, tuple(t.shape for t in tensors)).by_kind(reduction)
    rows, columns = counts["i"], counts["j"]
    device = tensors[0].device
    if ranges is None:
        visited = torch.arange(rows * columns, device=device)
    else:
        mask = torch.from_numpy(ranges.i.mask(rows, columns))
        visited = mask.flatten().nonzero()[:, 0].to(device)
    parts = []
    for first in range(0, max(1, len(visited)), _PAIRS):
        some = visited[first : first + _PAIRS]
        i, j = some // max(1, columns), some % max(1, columns)
        parts.append(_at_pairs(reduction, output, tensors, i, j, place))
    values = torch.cat(parts, -2)
    if ranges is not None:
        shape = (*values.shape[:-2], rows * columns, values.shape[-1])
        values = values.new_zeros(shape).index_copy(-2, visited, values)
    return values.reshape(*values.shape[:-2], rows, columns, values.shape[-1])


def _at_pairs(
    reduction: PairReduction,
    output: int,
    tensors: Sequence[torch.Tensor],
    i: torch.Tensor,
    j: torch.Tensor,
    place: Place,
    entry: Sequence[torch.Tensor] = (),
    batch: Sequence[int] = (),
) -> torch.Tensor:
    """What an output reduces, at pairs given by their numbers: (..., pairs, E).

    The pairs are those of each entry of a batch, unless `entry` names the entry of each pair.
    """
    numbers = {"i": i, "j": j}
    given = []
    for tensor, parameter in zip(tensors, reduction.parameters, strict=True):
        axes = AXES[parameter.kind]
        at = tuple(numbers[axis] for axis in axes)
        if entry:
            given.append(tensor.expand(*batch, *tensor.shape[-1 - len(axes) :])[(*entry, *at)])
        else:
            index: tuple[Any, ...] = (..., *at, slice(None))
            given.append(tensor[index])
    given += [numbers[kind[0]][:, None] for kind in reduction.numbers]
    (values,) = apply(reduction.pointwise(output, bool(entry)), given, None, place)
    return values


class _SameValue(torch.autograd.Function):
    """The first tensor, with the derivatives of the second, which equals it but for rounding."""

    @staticmethod
    def forward(value: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Tensors, output: torch.Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, e: torch.Tensor) -> tuple[None, torch.Tensor]:
        return None, e

    @staticmethod
    def jvp(ctx: Any, _: None, tangent: torch.Tensor) -> torch.Tensor:
        # Itself: what PyTorch computes here is not differentiated forward once more.
        return tangent


_same_value: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = _SameValue.apply
