"""Reductions as differentiable functions of tensors; their derivatives are reductions again."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch.autograd import forward_ad

from redcomp.frontend.reductions import derivatives
from redcomp.frontend.reductions.calls import sizes
from redcomp.frontend.reductions.differentiation import Extremum, Slopes, Sweep
from redcomp.frontend.reductions.pair_reduction import PairReduction
from redcomp.frontend.reductions.ranges import Ranges, read_ranges
from redcomp.frontend.reductions.tables import Read, without_reads
from redcomp.torch.alike import Decisions, Located
from redcomp.torch.computation import (
    Computation,
    KnownPullback,
    Pullbacks,
    Tensors,
    WithSlopes,
    float_dtype,
    prepare_computation,
    run,
)
from redcomp.torch.dynamo import untraced
from redcomp.torch.executors import (
    Asked,
    Executor,
    Visited,
    on_host,
)
from redcomp.torch.mapped import (
    by_vmap,
    check_transforms,
    is_active,
    is_functionalized,
    is_innermost,
    is_transformed,
    is_within_transform,
    with_mapped_first,
)
from redcomp.torch.memory import (
    check_dense,
    check_readable,
    is_traced,
)
from redcomp.torch.orders import with_limits
from redcomp.torch.pairs import are_visited, at_pairs, at_places, where_there
from redcomp.torch.rules import applied_within, unpacked
from redcomp.torch.same_value import same_value

# Transforms of torch.func leave wrappers around tensors when they are over.
_unwrap_if_dead: Callable[[torch.Tensor], torch.Tensor] = torch._C._functorch.unwrap_if_dead
# So many pairs are computed at a time where each has a result of its own.
_PAIRS = 2**18

_broadcast: Callable[..., torch.Size] = torch.broadcast_shapes


def apply(
    computation: Computation,
    tensors: Sequence[torch.Tensor],
    ranges: Visited,
    executor: Executor | Asked,
) -> Tensors:
    """All results of a reduction of tensors that have been checked.

    Through autograd only where somebody could ask for a gradient: it costs several calls.
    """
    if not is_differentiated(computation, tensors):
        chosen = computation.shared if executor is None else computation
        return computation.own(chosen, run(chosen, tensors, ranges, executor))
    if is_traced(tensors) and not is_transformed():
        return computation.as_operator(tensors, ranges, executor)
    return differentiable(computation, tensors, ranges, executor)


def differentiable(
    computation: Computation,
    tensors: Sequence[torch.Tensor],
    ranges: Visited,
    executor: Executor | Asked,
    located: Located | None = None,
) -> Tensors:
    """All results, through autograd.

    located  where the tensors are, if they are in memory and no one looks at operators
    """
    if computation.differentiation.tables:
        before = tensors
        computation, tensors = _with_reads_given(computation, before, executor)
        located = located if tensors is before else None
    kept = computation.for_derivatives
    with_slopes = None
    if kept.is_long and not is_active() and forward_ad._current_level < 0:
        # Only gradients are asked for, and once.
        with_slopes = kept.with_slopes(tuple([t.requires_grad for t in tensors]))
    call = _Recorded(kept, executor, with_slopes, located)
    results: Tensors
    if located is None:
        results = _Reduce.apply(call, ranges, *tensors)
    else:
        results = _record(call, ranges, *tensors)
    if kept.differentiation.extrema:
        results = _with_values_at_places(kept, results, tensors, executor)
    if kept.differentiation.limits:
        results = with_limits(kept.differentiation.limits, results, tensors)
    return results if kept is computation else computation.own(kept, results)


def _with_values_at_places(
    computation: Computation,
    known: Tensors,
    tensors: Sequence[torch.Tensor],
    executor: Executor | Asked,
) -> Tensors:
    """The known results, the gradients of extrema coming from the pairs they are at."""
    results = list(known)
    for extremum in computation.differentiation.extrema:
        value, at = results[extremum.value], results[extremum.place]
        at_pairs = _known(computation, extremum, tensors, value, at, executor)
        results[extremum.value] = same_value(value, at_pairs)
    return tuple(results)


def is_differentiated(computation: Computation, tensors: Sequence[torch.Tensor]) -> bool:
    """Whether somebody could ask for a derivative of the reduction."""
    return _is_watched(tensors) and (bool(computation.differentiation.values) or is_transformed())


def _is_watched(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether somebody could ask for a derivative of what is computed from these tensors."""
    # Inside of torch.func, tensors may be wrappers without data, which only autograd takes off.
    if is_active() and is_transformed():
        return True
    if torch.is_grad_enabled():
        for tensor in tensors:
            if tensor.requires_grad:
                return True
    # Tangents are of a level of forward mode, which a graph enters without saying so here.
    if forward_ad._current_level < 0 and not (is_within_transform() and is_innermost("Jvp")):
        return False
    return torch._C._is_fwd_grad_enabled() and any(unpacked(t)[1] is not None for t in tensors)


def _with_reads_given(
    computation: Computation, tensors: Sequence[torch.Tensor], executor: Executor | Asked
) -> tuple[Computation, Sequence[torch.Tensor]]:
    """The computation with PyTorch's own reads of the tables whose gradient is wanted."""
    tables = frozenset(n for n in computation.differentiation.tables if tensors[n].requires_grad)
    without = without_reads(computation.reduction, tables)
    if without is None:
        return computation, tensors
    counts = computation.call.size.by_kind(computation.reduction)
    given = [t.detach() if n in without.unread else t for n, t in enumerate(tensors)]
    given += [_read(read, tensors, counts, executor) for read in without.reads]
    return computation.like(without.reduction, given), given


def _read(
    read: Read,
    tensors: Sequence[torch.Tensor],
    counts: Mapping[str, int],
    executor: Executor | Asked,
) -> torch.Tensor:
    """The components of a table at the indices, 0 where there is none."""
    table = tensors[read.table]
    check_dense("the table of a lookup", table)
    device = table.device
    arguments = [tensors[n].detach() for n in read.arguments]
    numbers = [torch.arange(counts[kind[0]], device=device)[:, None] for kind in read.numbers]
    given = [*arguments, *numbers]
    shapes = tuple([t.shape for t in given])
    compute = prepare_computation(read.index, shapes, table.dtype, device)
    (places,) = apply(compute, given, None, executor)
    index, length = places.long(), table.shape[-1]
    batch = _broadcast(table.shape[:-1], index.shape[:-2])
    entries = length * torch.arange(prod(batch), device=device).reshape(*batch, 1, 1)
    components = table.expand(*batch, length).reshape(-1)
    found = torch.where(index >= 0, components[index.clamp(min=0) + entries], 0.0)
    return found[..., 0] if read.kind == "parameter" else found


@dataclass(slots=True, eq=False)
class _Recorded:
    """A call that autograd records.

    with_slopes  what gives slopes beside the value, if that pays; these are for the backward pass
    located      where the tensors are, if that is known
    slopes       what the forward pass leaves, to be saved
    """

    computation: Computation
    executor: Executor | Asked
    with_slopes: WithSlopes | None = None
    located: Located | None = None
    slopes: Sequence[torch.Tensor] = ()

    def run(self, tensors: Sequence[torch.Tensor], ranges: Visited) -> Tensors:
        """All results, and the slopes after them."""
        computation = self.computation if self.with_slopes is None else self.with_slopes[1]
        if self.located is None:
            return run(computation, tensors, ranges, self.executor)
        return computation.run(self.located[1], None, None)


@untraced
class _Reduce(torch.autograd.Function):
    """All results of a reduction; those of extrema are constants here (see `_known`)."""

    @classmethod
    def apply(cls, *args: Any) -> Tensors:
        """The results, as `torch.autograd.Function.apply` gives them.

        That binds arguments by their signature, which takes longer than all the rest of a call.
        """
        if not is_active():
            return _record(*args[:2], *map(_unwrap_if_dead, args[2:]))
        if is_within_transform():
            return tuple(applied_within(_Reduce, *args))
        if is_functionalized():  # which knows operators only
            call: _Recorded
            call, ranges, *tensors = args
            return call.computation.as_operator(tensors, ranges, call.executor)
        check_transforms()
        bind: Callable[..., Tensors] = super().apply
        return bind(*args)

    @staticmethod
    def forward(call: _Recorded, ranges: Visited, *tensors: torch.Tensor) -> Tensors:
        results = call.run(tensors, ranges)
        count = len(call.computation.reduction.results)
        call.slopes = results[count:]
        return results[:count]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
        call: _Recorded
        call, ctx.ranges, *tensors = inputs
        ctx.call = call
        ctx.set_materialize_grads(False)
        known = call.computation.differentiation
        if False in known.differentiable:
            ctx.mark_non_differentiable(
                *[t for t, is_one in zip(output, known.differentiable, strict=True) if not is_one]
            )
        kept = (*tensors, *[output[n] for n in known.saved]) if known.saved else tensors
        ctx.save_for_backward(*kept, *call.slopes)
        # What is saved is held by autograd alone, which may hand it over to hooks.
        call.located, call.slopes = None, ()
        if forward_ad._current_level >= 0 or is_active():
            ctx.save_for_forward(*kept)

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        call: _Recorded,
        ranges: Visited,
        *tensors: torch.Tensor,
    ) -> tuple[Tensors, int]:
        # A batch has any number of axes, so the mapped one is one more.
        given: Sequence[torch.Tensor]
        computation = call.computation
        given = with_mapped_first(computation.reduction.parameters, tensors, in_dims[2:])
        computation = computation.like(computation.reduction, given)
        if computation.differentiation.tables:
            computation, given = _with_reads_given(computation, given, call.executor)
        return _Reduce.apply(_Recorded(computation, call.executor), ranges, *given), 0

    @staticmethod
    def jvp(ctx: Any, *tangents: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        return by_vmap(functools.partial(_Reduce._pushed_forward, ctx), tangents[2:])

    @staticmethod
    def _pushed_forward(
        ctx: Any, *tangents: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, ...]:
        call: _Recorded = ctx.call
        computation, known = call.computation, call.computation.differentiation
        reduction = known.differential(tuple(n for n, t in enumerate(tangents) if t is not None))
        if reduction is None:
            return (None,) * len(known.differentiable)
        arguments = known.arguments(
            _unwrapped(ctx.saved_tensors), [t for t in tangents if t is not None]
        )
        derived = computation.like(reduction, arguments)
        return known.of_results(apply(derived, arguments, ctx.ranges, call.executor))

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        call: _Recorded = ctx.call
        saved = ctx.saved_tensors  # once: there may be hooks that have them somewhere else
        decisions = call.computation.known_pullbacks.get(ctx.needs_input_grad)
        if decisions is not None and _is_usual(call, ctx.ranges):
            known = call.computation.differentiation
            found = decisions.find(known.arguments(saved, [cotangents[n] for n in known.values]))
            if found is not None:
                pullback, located = found
                return (None, None, *pullback.cotangents(located[1]))
        pulled_back = functools.partial(_Reduce._pulled_back, ctx, saved)
        return (None, None, *by_vmap(pulled_back, cotangents))

    @staticmethod
    def _pulled_back(
        ctx: Any, saved: Tensors, *cotangents: torch.Tensor | None
    ) -> list[torch.Tensor | None]:
        call: _Recorded = ctx.call
        computation, known = call.computation, call.computation.differentiation
        saved = _unwrapped(saved)
        result: list[torch.Tensor | None] = [None] * len(computation.reduction.parameters)
        of_values = [cotangents[n] for n in known.values]
        given = tuple([e is not None for e in of_values])
        if True not in given:
            return result
        wanted: tuple[bool, ...] = ctx.needs_input_grad[2:]
        if call.with_slopes is not None:
            slopes = call.with_slopes[0]
            count = len(saved) - len(slopes.positions)
            saved, of_slopes = saved[:count], saved[count:]
            # What is differentiated again has to be computed from arguments, not from slopes.
            # These are of the value; what else is known of it has cotangents in such derivatives.
            if not torch.is_grad_enabled() and given[0] and True not in given[1:]:
                cotangent = of_values[0]
                assert cotangent is not None
                check_readable("argument 'cotangent0'", cotangent)
                through = [_pulled_through(slope, cotangent) for slope in of_slopes]
                _give(result, slopes, through, saved)
                wanted = slopes.others(wanted)
        arguments = known.arguments(saved, [e for e in of_values if e is not None])
        pullbacks = computation.pullback(wanted, given, arguments)
        if _is_usual(call, ctx.ranges) and False not in given:
            _keep(computation, ctx.needs_input_grad, pullbacks, arguments)
        for sweep, summed in pullbacks:
            if summed is None:
                parts = _at_all_pairs(sweep, arguments, ctx.ranges, call.executor)
            else:
                parts = apply(summed, arguments, ctx.ranges, call.executor)
            _give(result, sweep, parts, saved)
        return result


def _is_usual(call: _Recorded, ranges: Visited) -> bool:
    """Whether backward passes of the call are sweeps over all pairs on the host."""
    return call.executor is None and call.with_slopes is None and ranges is None


def _keep(
    computation: Computation,
    wanted: tuple[bool, ...],
    pullbacks: Pullbacks,
    arguments: Sequence[torch.Tensor],
) -> None:
    """Have the next backward passes on such arguments find the pullbacks."""
    decisions = computation.known_pullbacks.get(wanted)
    if decisions is None:
        made = Decisions[KnownPullback]()
        decisions = computation.known_pullbacks.setdefault(wanted, made)
    if not torch.is_grad_enabled() and decisions.is_due(None):
        known = KnownPullback.of(pullbacks, computation)
        if known is not None:
            decisions.keep(arguments, known)


# What `torch.autograd.Function.apply` does in the end where no transform is active.
_record: Callable[..., Tensors] = super(torch.autograd.Function, _Reduce).apply


def _pulled_through(slope: torch.Tensor, cotangent: torch.Tensor) -> torch.Tensor:
    """Their product; 0 where the slope is, also for infinite cotangents: nothing depends there."""
    return (slope * cotangent).masked_fill_(slope.logical_not(), 0.0)


def _give(
    result: list[torch.Tensor | None],
    of: Sweep | Slopes,
    parts: Sequence[torch.Tensor],
    arguments: Sequence[torch.Tensor],
) -> None:
    """Store the cotangents of some arguments, in these arguments' shapes."""
    for position, is_summed, part in zip(of.positions, of.sums, parts, strict=True):
        of_entries = part.sum(-2) if is_summed else part
        shape = arguments[position].shape
        is_whole = of_entries.shape == shape
        result[position] = of_entries if is_whole else of_entries.sum_to_size(shape)


def _unwrapped(saved: Tensors) -> Tensors:
    """What has been saved, around which transforms of torch.func that are over left wrappers."""
    return tuple([_unwrap_if_dead(tensor) for tensor in saved])


def _known(
    computation: Computation,
    extremum: Extremum,
    tensors: Sequence[torch.Tensor],
    values: torch.Tensor,
    places: torch.Tensor,
    executor: Executor | Asked,
) -> torch.Tensor:
    """The values of an extremum, (..., rows, E), from what is reduced at the columns `places`.

    It depends on these pairs alone, so they are all that its gradient has to look at.
    """
    reduction = computation.reduction
    # Where there was no column there is a neutral value, which depends on nothing.
    is_there = values != extremum.neutral
    if not computation.call.size.columns:
        places, is_there = places[..., :0, :], is_there[..., :0, :]
    given = at_places(reduction, tensors, places, is_there)
    at = _pointwise(reduction, extremum.output, given, executor, spreads_parameters=True)
    at = at.reshape(*places.shape, at.shape[-1])
    # Each component of a vector has a place of its own.
    at = at.diagonal(dim1=-2, dim2=-1) if at.shape[-1] > 1 else at[..., 0]
    if not computation.call.size.columns:
        return torch.cat([at, values], -2)
    return torch.where(is_there, at, values)


def _at_all_pairs(
    sweep: Sweep, tensors: Sequence[torch.Tensor], ranges: Visited, executor: Executor | Asked
) -> Tensors:
    """What each output of a sweep reduces, at every pair."""
    at_all_pairs = functools.partial(_at_every_pair, sweep.reduction)
    outputs = range(len(sweep.positions))
    return tuple([at_all_pairs(n, tensors, ranges, executor) for n in outputs])


def _at_every_pair(
    reduction: PairReduction,
    output: int,
    tensors: Sequence[torch.Tensor],
    ranges: Visited,
    executor: Executor | Asked,
) -> torch.Tensor:
    """What an output reduces, at every pair: (M, N, E), computed some pairs at a time.

    It is 0 at the pairs that `ranges` leave out.
    """
    counts = sizes(reduction, tuple(t.shape for t in tensors)).by_kind(reduction)
    rows, columns, device = counts["i"], counts["j"], tensors[0].device
    visited, is_there = torch.arange(rows * columns, device=device), None
    if isinstance(ranges, tuple) and is_traced(ranges):
        is_there = are_visited(ranges, rows, columns, device)  # when the graph runs
    elif ranges is not None:
        visited = _numbers_of_visited(ranges, rows, columns).to(device)
    parts = []
    # A size that is a symbol of a graph stays one.
    for some in (
        [visited] if isinstance(visited.shape[0], torch.SymInt) else torch.split(visited, _PAIRS)
    ):
        given = at_pairs(reduction, tensors, some // max(1, columns), some % max(1, columns))
        if is_there is not None:
            given = where_there(reduction, given, is_there[some])
        parts.append(_pointwise(reduction, output, given, executor, is_there is not None))
    values = torch.cat(parts, -2)
    if is_there is not None:
        values = torch.where(is_there[:, None], values, 0.0)
    elif ranges is not None:
        shape = (*values.shape[:-2], rows * columns, values.shape[-1])
        values = values.new_zeros(shape).index_copy(-2, visited, values)
    return values.reshape(*values.shape[:-2], rows, columns, values.shape[-1])


def _numbers_of_visited(ranges: Ranges | Tensors, rows: int, columns: int) -> torch.Tensor:
    """The numbers i * columns + j of the pairs of ranges with values."""
    if isinstance(ranges, tuple):
        ranges = read_ranges(on_host(ranges), rows, columns)
    return torch.from_numpy(ranges.i.mask(rows, columns)).flatten().nonzero()[:, 0]


def _pointwise(
    reduction: PairReduction,
    output: int,
    given: Sequence[torch.Tensor],
    executor: Executor | Asked,
    spreads_parameters: bool = False,
) -> torch.Tensor:
    """What an output reduces, at pairs whose arguments are rows: (..., pairs, E)."""
    pointwise = derivatives.pointwise(reduction, output, spreads_parameters)
    shapes = tuple([t.shape for t in given])
    compute = prepare_computation(pointwise, shapes, float_dtype(given), given[0].device)
    (values,) = apply(compute, given, None, executor)
    return values
