"""Reductions as differentiable functions of tensors; their derivatives are reductions again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch._functorch.utils import unwrap_dead_wrappers
from torch.autograd import forward_ad

from redcomp.concurrency import cached_property
from redcomp.frontend.calls import AXES, Call, prepare, sizes
from redcomp.frontend.pair_reduction import PairReduction, remembered
from redcomp.frontend.ranges import Ranges
from redcomp.frontend.tables import Read, without_reads
from redcomp.torch.places import CudaTensors, Place

KERNEL_DTYPES = {torch.float32: "f32", torch.float64: "f64"}
INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}

# So many pairs are computed at a time where each has a result of its own.
_PAIRS = 2**18

Tensors = tuple[torch.Tensor, ...]


def of_integers(default: torch.dtype) -> torch.dtype:
    """What is computed in where all arguments are integers, for PyTorch's default dtype."""
    return default if default in KERNEL_DTYPES else torch.float32


def _float_dtype(tensors: Sequence[torch.Tensor]) -> torch.dtype:
    """The dtype of the arguments that are no integers; without any, PyTorch's for integers."""
    default = of_integers(torch.get_default_dtype())
    return next((t.dtype for t in tensors if t.is_floating_point()), default)


@dataclass(frozen=True, eq=False)
class Computation:
    """A reduction of tensors of known shapes on a device of PyTorch's, computed in a dtype."""

    call: Call
    dtype: torch.dtype
    device: torch.device

    @property
    def reduction(self) -> PairReduction:
        """What is computed."""
        return self.call.reduction

    def like(self, reduction: PairReduction, tensors: Sequence[torch.Tensor]) -> Computation:
        """Another reduction, of other tensors on the same device, in the same dtype."""
        shapes = tuple([t.shape for t in tensors])
        return prepare_computation(reduction, shapes, self.dtype, self.device)

    def __call__(
        self, tensors: Sequence[torch.Tensor], ranges: Ranges | None, place: Place
    ) -> Tensors:
        """Run the kernel; autograd does not notice."""
        call, device = self.call, self.device
        blocks = call.blocks(ranges)
        results = tuple([torch.empty(s, dtype=d, device=device) for s, d in self._empty])
        if blocks.covered < call.size.rows:
            for result, description in zip(results, self.reduction.results, strict=True):
                _fill(result, description.empty)
        packed = [t if t.is_contiguous() and not t.is_neg() else _packed(t) for t in tensors]
        for n in self._integers:
            packed[n] = packed[n].to(INTEGERS[self.dtype])
        addresses = [t.data_ptr() for t in packed]
        if 0 in addresses:
            packed = [_with_memory(t) for t in packed]
            addresses = [t.data_ptr() for t in packed]
        on = place.queue() if isinstance(place, CudaTensors) else place
        call.launch(blocks, [r.data_ptr() for r in results], addresses, on)
        return results

    @cached_property
    def _empty(self) -> list[tuple[tuple[int, ...], torch.dtype]]:
        """Shape and dtype of each result."""
        return [
            (shape, torch.int64 if result.kind == "index" else self.dtype)
            for shape, result in zip(self.call.results, self.reduction.results, strict=True)
        ]

    @cached_property
    def _integers(self) -> list[int]:
        """The positions of arguments that are integers."""
        return [n for n, p in enumerate(self.reduction.parameters) if p.is_integer]

    @cached_property
    def tables(self) -> list[int]:
        """The positions of arguments that are parameters."""
        return [n for n, p in enumerate(self.reduction.parameters) if p.kind == "parameter"]

    @cached_property
    def values(self) -> list[int]:
        """The results that are values."""
        return [n for n, r in enumerate(self.reduction.results) if r.kind == "value"]

    @cached_property
    def differentiable(self) -> list[bool]:
        """Which results `_Reduce` differentiates: its extrema are constants."""
        rows = self.reduction.rows_of_outputs
        return [r.kind == "value" and not rows[r.output].places for r in self.reduction.results]

    @cached_property
    def saved(self) -> list[int]:
        """The results that derivatives are computed from."""
        rows = self.reduction.rows_of_outputs
        return [n for n, r in enumerate(self.reduction.results) if rows[r.output].saves]

    @cached_property
    def has_extrema(self) -> bool:
        """Whether there are values that depend on the pairs at some places only."""
        return any(row.places for row in self.reduction.rows_of_outputs)


@remembered
def prepare_computation(
    reduction: PairReduction,
    shapes: tuple[torch.Size, ...],
    dtype: torch.dtype,
    device: torch.device,
) -> Computation:
    """The reduction of tensors of these shapes; raises ArgumentError if they do not fit."""
    return Computation(prepare(reduction, KERNEL_DTYPES[dtype], shapes), dtype, device)


def _packed(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor as machine code reads it."""
    return tensor.resolve_neg().contiguous()


def _with_memory(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor that has memory, as PyTorch's zeros among derivatives have not, if it needs any."""
    return tensor if tensor.data_ptr() or not tensor.numel() else tensor.clone()


def apply(
    computation: Computation,
    tensors: Sequence[torch.Tensor],
    ranges: Ranges | None,
    place: Place,
) -> Tensors:
    """All results of a reduction of tensors that have been checked.

    Through autograd only where somebody could ask for a gradient: it costs several calls.
    """
    if not (computation.values and _is_differentiated(tensors)):
        return computation(tensors, ranges, place)
    if computation.tables:
        computation, tensors = _with_reads_given(computation, tensors, place)
    if computation.has_extrema:
        return _with_values_at_places(computation, tensors, ranges, place)
    return _Reduce.apply(computation, place, ranges, *tensors)


def _with_values_at_places(
    computation: Computation,
    tensors: Sequence[torch.Tensor],
    ranges: Ranges | None,
    place: Place,
) -> Tensors:
    """All results of a reduction with extrema, whose gradients come from the pairs they are at."""
    reduction = computation.reduction
    placed = reduction.with_places()
    results = list(_Reduce.apply(computation.like(placed, tensors), place, ranges, *tensors))
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
    if torch.is_grad_enabled():
        for tensor in tensors:
            if tensor.requires_grad:
                return True
    # Inside of torch.func, tensors may be wrappers without data, which only autograd takes off.
    if torch._C._are_functorch_transforms_active():
        return True
    # Tangents are of a level of forward mode.
    if forward_ad._current_level < 0:
        return False
    return any(_tangent(t) is not None for t in tensors)


def _tangent(tensor: torch.Tensor) -> torch.Tensor | None:
    tangent: torch.Tensor | None
    _, tangent = forward_ad.unpack_dual(tensor)  # type: ignore[no-untyped-call]  # PyTorch has no types for it
    return tangent


def _with_reads_given(
    computation: Computation, tensors: Sequence[torch.Tensor], place: Place
) -> tuple[Computation, Sequence[torch.Tensor]]:
    """The computation with PyTorch's own reads of the tables whose gradient is wanted."""
    if torch._C._are_functorch_transforms_active():
        return computation, tensors  # there are no indices to be had; the kernel reads itself
    tables = frozenset(n for n in computation.tables if tensors[n].requires_grad)
    without = without_reads(computation.reduction, tables)
    if without is None:
        return computation, tensors
    counts = computation.call.size.by_kind(computation.reduction)
    given = [t.detach() if n in without.unread else t for n, t in enumerate(tensors)]
    given += [_read(read, tensors, counts, place) for read in without.reads]
    return computation.like(without.reduction, given), given


def _read(
    read: Read, tensors: Sequence[torch.Tensor], counts: Mapping[str, int], place: Place
) -> torch.Tensor:
    """The components of a table at the indices, 0 where there is none."""
    table = tensors[read.table]
    device = table.device
    arguments = [tensors[n].detach() for n in read.arguments]
    numbers = [torch.arange(counts[kind[0]], device=device)[:, None] for kind in read.numbers]
    given = [*arguments, *numbers]
    shapes = tuple([t.shape for t in given])
    compute = prepare_computation(read.index, shapes, table.dtype, device)
    (places,) = compute(given, None, place)
    index, length = places.long(), table.shape[-1]
    batch = np.broadcast_shapes(table.shape[:-1], index.shape[:-2])
    entries = length * torch.arange(prod(batch), device=device).reshape(*batch, 1, 1)
    components = table.expand(*batch, length).reshape(-1)
    found = torch.where(index >= 0, components[index.clamp(min=0) + entries], 0.0)
    return found[..., 0] if read.kind == "parameter" else found


def _fill(result: torch.Tensor, components: Sequence[float]) -> None:
    """Fill an array of vectors with a vector, without copying anything to a GPU."""
    if len(set(components)) == 1:
        result.fill_(components[0])
    else:
        for n, component in enumerate(components):
            result[..., n] = component


class _Reduce(torch.autograd.Function):
    """All results of a reduction; those of extrema are constants here (see `_values_at`)."""

    @classmethod
    def apply(cls, *args: Any) -> Tensors:
        """The results, as `torch.autograd.Function.apply` gives them.

        That binds arguments by their signature, which takes longer than all the rest of a call.
        """
        base: Any = super()
        if not torch._C._are_functorch_transforms_active():
            base, args = super(torch.autograd.Function, cls), unwrap_dead_wrappers(args)
        results: Tensors = base.apply(*args)
        return results

    @staticmethod
    def forward(
        computation: Computation, place: Place, ranges: Ranges | None, *tensors: torch.Tensor
    ) -> Tensors:
        return computation(tensors, ranges, place)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
        computation: Computation
        computation, ctx.place, ctx.ranges, *tensors = inputs
        ctx.computation = computation
        ctx.set_materialize_grads(False)
        is_one = computation.differentiable
        if not all(is_one):
            ctx.mark_non_differentiable(
                *[t for t, is_ in zip(output, is_one, strict=True) if not is_]
            )
        kept = (*tensors, *[output[n] for n in computation.saved])
        ctx.save_for_backward(*kept)
        ctx.save_for_forward(*kept)

    @staticmethod
    def jvp(
        ctx: Any, _: None, __: None, ___: None, *tangents: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, ...]:
        computation: Computation = ctx.computation
        reduction, is_one = computation.reduction, computation.differentiable
        saved, count = ctx.saved_tensors, len(reduction.parameters)
        moving = tuple(n for n, t in enumerate(tangents) if t is not None)
        present = [t for t in tangents if t is not None]
        if not moving or not any(is_one):
            return (None,) * len(reduction.results)
        arguments = (*saved[:count], *present, *saved[count:])
        derived = computation.like(reduction.differential(moving), arguments)
        parts = iter(apply(derived, arguments, ctx.ranges, ctx.place))
        return tuple(next(parts) if is_ else None for is_ in is_one)

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        computation: Computation = ctx.computation
        parameters = computation.reduction.parameters
        saved, count = ctx.saved_tensors, len(parameters)
        result: list[torch.Tensor | None] = [None] * count
        of_values = [cotangents[n] for n in computation.values]
        given = tuple([e is not None for e in of_values])
        present = [e for e in of_values if e is not None]
        if not present:
            return (None, None, None, *result)
        arguments = (*saved[:count], *present, *saved[count:])
        for group, reduction in _sweeps(computation.reduction, ctx.needs_input_grad[3:], given):
            parts: Sequence[torch.Tensor]
            if parameters[group[0]].kind == "ij":
                parts = [
                    _at_all_pairs(reduction, n, arguments, ctx.ranges, ctx.place)
                    for n in range(len(group))
                ]
            else:
                derived = computation.like(reduction, arguments)
                parts = apply(derived, arguments, ctx.ranges, ctx.place)
            for position, part in zip(group, parts, strict=True):
                of_entries = part.sum(-2) if parameters[position].kind == "parameter" else part
                shape = saved[position].shape
                is_whole = of_entries.shape == shape
                result[position] = of_entries if is_whole else of_entries.sum_to_size(shape)
        return None, None, None, *result


@remembered
def _sweeps(
    reduction: PairReduction, wanted: tuple[bool, ...], given: tuple[bool, ...]
) -> list[tuple[tuple[int, ...], PairReduction]]:
    """What gives the cotangents of the wanted arguments from those of the given results.

    Each sweep with the positions of its arguments: i-variables share one, j-variables with
    parameters, and arrays of pairs.
    """
    number = {"i": 0, "j": 1, "parameter": 1, "ij": 2}
    of = {n: number[p.kind] for n, p in enumerate(reduction.parameters) if wanted[n]}
    groups = (tuple(n for n in of if of[n] == sweep) for sweep in range(3))
    return [(group, reduction.gradient(group, given)) for group in groups if group]


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
    pointwise = reduction.pointwise(output, bool(entry))
    shapes = tuple([t.shape for t in given])
    compute = prepare_computation(pointwise, shapes, _float_dtype(given), i.device)
    (values,) = apply(compute, given, None, place)
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
