"""Reductions as differentiable functions of tensors; their derivatives are reductions again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.autograd.forward_ad import unpack_dual

from redcomp.frontend.genred import launch, sizes
from redcomp.frontend.pair_reduction import PairReduction
from redcomp.frontend.ranges import Ranges

KERNEL_DTYPES = {torch.float32: "f32", torch.float64: "f64"}
_INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}

Tensors = tuple[torch.Tensor, ...]


def apply(
    reduction: PairReduction, tensors: Sequence[torch.Tensor], ranges: Ranges | None
) -> Tensors:
    """All results of a reduction of tensors that have been checked.

    Through autograd only where somebody could ask for a gradient: it costs several calls.
    """
    has_values = any(result.kind == "value" for result in reduction.results)
    if not (has_values and _is_differentiated(tensors)):
        return _compute(reduction, tensors, ranges)
    placed = reduction.with_places()
    reduce: Callable[..., Tensors] = _Reduce.apply
    results = list(reduce(placed, ranges, *tensors))
    for output, row in enumerate(placed.rows_of_outputs):
        if row.places:
            value, place = (n for n, r in enumerate(placed.results) if r.output == output)
            # Where there was no column there is a neutral value, which depends on nothing.
            is_there = results[value] != placed.results[value].empty[0]
            there = is_there.nonzero(as_tuple=True)
            at_pairs = _values_at(placed, output, tensors, results[place], there)
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


def _compute(
    reduction: PairReduction, tensors: Sequence[torch.Tensor], ranges: Ranges | None
) -> Tensors:
    """Run the kernel."""
    shapes = [t.shape for t in tensors]
    size = sizes(reduction, shapes)
    blocks = size.blocks(reduction, ranges)
    dtype = next(t.dtype for t in tensors if t.is_floating_point())
    results = tuple(
        torch.empty(
            (*size.batch, size.rows, r.dim), dtype=torch.int64 if r.kind == "index" else dtype
        )
        for r in reduction.results
    )
    if blocks.covered < size.rows:
        for result, description in zip(results, reduction.results, strict=True):
            result[:] = torch.tensor(description.empty, dtype=result.dtype)
    packed = [
        (t.to(_INTEGERS[dtype]) if p.is_integer else t.detach()).contiguous()
        for t, p in zip(tensors, reduction.parameters, strict=True)
    ]
    targets, addresses = [r.data_ptr() for r in results], [t.data_ptr() for t in packed]
    launch(reduction, KERNEL_DTYPES[dtype], size, blocks, targets, addresses, shapes)
    return results


class _Reduce(torch.autograd.Function):
    """All results of a reduction; those of extrema are constants here (see `_values_at`)."""

    @staticmethod
    def forward(reduction: PairReduction, ranges: Ranges | None, *tensors: torch.Tensor) -> Tensors:
        return _compute(reduction, tensors, ranges)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
        reduction: PairReduction
        reduction, ranges, *tensors = inputs
        ctx.reduction, ctx.ranges = reduction, ranges
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
        ctx: Any, _: None, __: None, *tangents: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, ...]:
        reduction: PairReduction = ctx.reduction
        saved, count = ctx.saved_tensors, len(reduction.parameters)
        moving = tuple(n for n, t in enumerate(tangents) if t is not None)
        present = [t for t in tangents if t is not None]
        if not moving or not any(_differentiable(reduction)):
            return (None,) * len(reduction.results)
        derived = reduction.differential(moving)
        parts = iter(apply(derived, (*saved[:count], *present, *saved[count:]), ctx.ranges))
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
        wanted = [n for n, needed in enumerate(ctx.needs_input_grad[2:]) if needed]
        for group in _groups(reduction, wanted) if present else ():
            derived = reduction.gradient(group, given)
            parts = apply(derived, (*tensors, *present, *results), ctx.ranges)
            for position, part in zip(group, parts, strict=True):
                is_parameter = reduction.parameters[position].kind == "parameter"
                of_entries = part.sum(-2) if is_parameter else part
                result[position] = of_entries.sum_to_size(tensors[position].shape)
        return None, None, *result


def _differentiable(reduction: PairReduction) -> list[bool]:
    """Which results this function differentiates."""
    rows = reduction.rows_of_outputs
    return [r.kind == "value" and not rows[r.output].places for r in reduction.results]


def _groups(reduction: PairReduction, wanted: Sequence[int]) -> list[tuple[int, ...]]:
    """Arguments whose gradients share a sweep: i-variables, and j-variables with parameters."""
    kinds = {n: reduction.parameters[n].kind for n in wanted}
    first = tuple(n for n in wanted if kinds[n] == "i")
    second = tuple(n for n in wanted if kinds[n] != "i")
    return [group for group in (first, second) if group]


def _values_at(
    reduction: PairReduction,
    output: int,
    tensors: Sequence[torch.Tensor],
    places: torch.Tensor,
    known: Tensors,
) -> torch.Tensor:
    """What an output reduces, at the columns that entries of `places` name; `known` says which.

    An extremum depends on these pairs alone, so they are all that its gradient has to look at.
    """
    *entry, spread, which = known
    chosen, batch = places[known], places.shape[:-2]
    numbers: dict[str, torch.Tensor] = {reduction.rows: spread}
    pairs = []
    for tensor, parameter in zip(tensors, reduction.parameters, strict=True):
        if parameter.kind == "parameter":
            there = tensor.expand(*batch, -1)
            pairs.append(there[tuple(entry)] if entry else there.expand(len(chosen), -1))
        else:
            there = tensor.expand(*batch, -1, -1)
            pairs.append(there[(*entry, numbers.get(parameter.kind, chosen))])
    pairs += [numbers.get(kind[0], chosen)[:, None] for kind in reduction.numbers]
    (values,) = apply(reduction.pointwise(output), pairs, None)
    # Each component of a vector has a place of its own.
    component = which[:, None] if values.shape[1] > 1 else torch.zeros_like(which)[:, None]
    return values.gather(1, component)[:, 0]


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
