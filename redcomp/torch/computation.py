"""Reductions of tensors of known shapes: what is computed, where, and by whom.

Where values are in memory a kernel computes; where PyTorch looks at operators, one of its own.
Autograd notices neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

import torch

from redcomp.concurrency import cached_property
from redcomp.frontend.reductions import derivatives
from redcomp.frontend.reductions.calls import Call, prepare
from redcomp.frontend.reductions.differentiation import (
    Differentiation,
    Slopes,
    Sweep,
    differentiation,
)
from redcomp.frontend.reductions.pair_reduction import PairReduction, remembered
from redcomp.frontend.reductions.ranges import Ranges
from redcomp.frontend.reductions.texts import text_of_reduction
from redcomp.runtime.gpu import Copies, Queue
from redcomp.torch.alike import Decisions
from redcomp.torch.executors import (
    Asked,
    CudaTensors,
    Executor,
    Visited,
    asked_of,
    executor_of,
    on_host,
    tensors_of,
)
from redcomp.torch.mapped import (
    below_autograd,
)
from redcomp.torch.memory import (
    called_as_operator,
    check_arguments,
    check_results,
    in_memory,
    is_traced,
)

KERNEL_DTYPES = {torch.float32: "f32", torch.float64: "f64"}
TORCH_DTYPES = {name: dtype for dtype, name in KERNEL_DTYPES.items()}
INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}

Tensors = tuple[torch.Tensor, ...]
# A sweep over so many pairs takes as long as PyTorch's operators on slopes, some 10 us on hosts and
# 15 us on GPUs.  Both are estimates, from instructions per pair.
LEAST_PAIRS = {"cpu": 2**17, "cuda": 2**25}


def of_integers(default: torch.dtype) -> torch.dtype:
    """What is computed in where all arguments are integers, for PyTorch's default dtype."""
    return default if default in KERNEL_DTYPES else torch.float32


def float_dtype(tensors: Sequence[torch.Tensor]) -> torch.dtype:
    """The dtype of the arguments that are no integers; without any, PyTorch's for integers."""
    default = of_integers(torch.get_default_dtype())
    return next((t.dtype for t in tensors if t.is_floating_point()), default)


@dataclass(frozen=True, eq=False)
class Computation:
    """A reduction of tensors of known shapes on a device of PyTorch's, computed in a dtype."""

    call: Call
    dtype: torch.dtype
    device: torch.device
    _pullbacks: dict[Any, Pullbacks] = field(default_factory=dict, repr=False)
    known_pullbacks: dict[tuple[bool, ...], Decisions[KnownPullback]] = field(
        default_factory=dict, repr=False
    )
    _with_slopes: dict[Any, WithSlopes | None] = field(default_factory=dict, repr=False)

    @property
    def reduction(self) -> PairReduction:
        """What is computed."""
        return self.call.reduction

    def like(self, reduction: PairReduction, tensors: Sequence[torch.Tensor]) -> Computation:
        """Another reduction, of other tensors on the same device, in the same dtype."""
        shapes = tuple([t.shape for t in tensors])
        return prepare_computation(reduction, shapes, self.dtype, self.device)

    def as_operator(
        self, tensors: Sequence[torch.Tensor], ranges: Visited, executor: Executor | Asked
    ) -> Tensors:
        """All results, as PyTorch's operator that is defined in `redcomp.torch.operators`."""
        check_arguments(self.reduction, tensors)
        asked, call = asked_of(executor), self.call
        visited = tensors_of(ranges)
        text = text_of_reduction(self.reduction)
        reduce = torch.ops.redcomp.reduce.default
        results = called_as_operator(reduce, list(tensors), visited, text, call.dtype, *asked)
        return tuple(results)

    @cached_property
    def has_one_kernel(self) -> bool:
        """Whether one kernel computes all results."""
        return self.reduction.rows != "ij"

    @cached_property
    def parts(self) -> tuple[Computation, ...]:
        """The computations of one kernel each, whose results together are those of this one."""
        return tuple(
            prepare_computation(part, self.call.shapes, self.dtype, self.device)
            for part in self.reduction.parts
        )

    def run(
        self, addresses: Sequence[int], ranges: Ranges | None, executor: Queue | Copies | None
    ) -> Tensors:
        """All results, of the arguments at these addresses."""
        if self.has_one_kernel:
            return self._run(addresses, ranges, executor)
        parts = [part._run(addresses, ranges, executor) for part in self.parts]
        return tuple([result for results in parts for result in results])

    def _run(
        self, addresses: Sequence[int], ranges: Ranges | None, executor: Queue | Copies | None
    ) -> Tensors:
        """What the only kernel makes of the arguments at these addresses."""
        call = self.call
        blocks = call.dense if ranges is None else call.blocks(ranges)
        results = self.empty()
        if blocks.covered < call.size.rows:
            for result, description in zip(results, self.reduction.results, strict=True):
                _fill(result, description.empty)
        try:
            outputs = [r.data_ptr() for r in results]
        except RuntimeError:
            outputs = [0]
        if 0 in outputs:
            check_results(results)
        call.launch(blocks, outputs, addresses, executor)
        return results

    def empty(self) -> Tensors:
        """Results without values."""
        device = self.device
        # Sizes one by one: PyTorch reads a tuple of them more slowly.
        return tuple([torch.empty(*s, dtype=d, device=device) for s, d in self._empty])

    @cached_property
    def _empty(self) -> list[tuple[tuple[int, ...], torch.dtype]]:
        """Shape and dtype of each result."""
        return [
            (shape, torch.int64 if result.kind == "index" else self.dtype)
            for shape, result in zip(self.call.results, self.reduction.results, strict=True)
        ]

    @cached_property
    def integers(self) -> dict[int, torch.dtype]:
        """The dtypes of arguments that are integers, by position."""
        dtype = INTEGERS[self.dtype]
        return {n: dtype for n, p in enumerate(self.reduction.parameters) if p.is_integer}

    @cached_property
    def differentiation(self) -> Differentiation:
        """What derivatives are made of."""
        return differentiation(self.reduction)

    def pullback(
        self, wanted: tuple[bool, ...], given: tuple[bool, ...], tensors: Tensors
    ) -> Pullbacks:
        """What gives the cotangents of wanted arguments, from those of the given values.

        tensors  what it takes, whose shapes follow from those of this computation
        """
        known = self._pullbacks.get((wanted, given))
        if known is None:
            known = self._pullbacks[wanted, given] = tuple(
                (sweep, None if sweep.at_pairs else self.like(sweep.reduction, tensors))
                for sweep in self.differentiation.sweeps(wanted, given)
            )
        return known

    def with_slopes(self, wanted: tuple[bool, ...]) -> WithSlopes | None:
        """The computation that also gives slopes in some of the wanted arguments, if that pays."""
        try:
            return self._with_slopes[wanted]
        except KeyError:
            slopes = self.differentiation.slopes(wanted) if self.is_long else None
            made = None
            if slopes is not None:
                shapes, reduction = self.call.shapes, slopes.reduction
                made = slopes, prepare_computation(reduction, shapes, self.dtype, self.device)
            return self._with_slopes.setdefault(wanted, made)

    @cached_property
    def is_long(self) -> bool:
        """Whether a sweep takes longer than what PyTorch does with slopes."""
        rows, columns, batch = self.call.size
        pairs = rows * columns * prod(batch)
        # In graphs sizes may be symbols, and what PyTorch does there costs next to nothing.
        return not isinstance(pairs, int) or pairs >= LEAST_PAIRS.get(self.device.type, 0)

    @cached_property
    def for_derivatives(self) -> Computation:
        """The computation that also gives what derivatives need."""
        kept = derivatives.for_derivatives(self.reduction)
        return prepare_computation(kept, self.call.shapes, self.dtype, self.device)

    @cached_property
    def shared(self) -> Computation:
        """`for_derivatives`, where that costs a host nothing, or this one.

        One kernel then does for calls that are differentiated and for those that are not.  In short
        calls it would cost something to have memory for results that nobody asks for.
        """
        is_free = self.is_long and derivatives.is_kept_without_work(self.reduction)
        return self.for_derivatives if is_free else self

    def own(self, computation: Computation, results: Tensors) -> Tensors:
        """Its results, among those of this computation or of `for_derivatives`."""
        if computation is self:
            return results
        return tuple([results[n] for n in self.differentiation.positions_in_kept])


# Sweeps, and the computations of those that are not at all pairs.
Pullbacks = tuple[tuple[Sweep, Computation | None], ...]
WithSlopes = tuple[Slopes, Computation]


class KnownPullback(NamedTuple):
    """Sweeps whose results are the cotangents of all wanted arguments, in their shapes.

    arguments  how many there are
    """

    sweeps: tuple[tuple[tuple[int, ...], Computation], ...]
    arguments: int

    @classmethod
    def of(cls, pullbacks: Pullbacks, computation: Computation) -> KnownPullback | None:
        """What is known of the pullbacks of a computation; None if more is to be done for it."""
        shapes, sweeps = computation.call.shapes, []
        if any(parameter.is_integer for parameter in computation.reduction.parameters):
            return None
        for sweep, summed in pullbacks:
            wanted = tuple([tuple(shapes[n]) for n in sweep.positions])
            if summed is None or True in sweep.sums or summed.call.results != wanted:
                return None
            sweeps.append((sweep.positions, summed))
        return cls(tuple(sweeps), len(shapes))

    def cotangents(self, addresses: Sequence[int]) -> list[torch.Tensor | None]:
        """The cotangent of each argument, from what the sweeps take, which is at the addresses."""
        result: list[torch.Tensor | None] = [None] * self.arguments
        for positions, summed in self.sweeps:
            parts = summed.run(addresses, None, None)
            for position, part in zip(positions, parts, strict=True):
                result[position] = part
        return result


@remembered
def prepare_computation(
    reduction: PairReduction,
    shapes: tuple[Sequence[int], ...],
    dtype: torch.dtype,
    device: torch.device,
) -> Computation:
    """The reduction of tensors of these shapes; raises ArgumentError if they do not fit."""
    return Computation(prepare(reduction, KERNEL_DTYPES[dtype], shapes), dtype, device)


def run(
    computation: Computation,
    tensors: Sequence[torch.Tensor],
    ranges: Visited,
    executor: Executor | Asked,
) -> Tensors:
    """All results of a reduction of tensors; autograd does not notice."""
    if is_traced(tensors):
        with below_autograd():
            return computation.as_operator(tensors, ranges, executor)
    return run_in_memory(computation, tensors, ranges, executor)


def run_in_memory(
    computation: Computation,
    tensors: Sequence[torch.Tensor],
    ranges: Visited,
    executor: Executor | Asked,
) -> Tensors:
    """All results of a reduction of tensors with values in memory."""
    if isinstance(executor, Asked):
        executor = executor_of(computation.reduction, [t.device for t in tensors], *executor)
    if isinstance(ranges, tuple):
        ranges = computation.call.ranges(on_host(ranges))
    # The tensors have to live until the kernels have run.
    _kept, addresses = in_memory(computation.call.reduction, tensors, computation.integers)
    on = executor.queue() if isinstance(executor, CudaTensors) else executor
    return computation.run(addresses, ranges, on)


def _fill(result: torch.Tensor, components: Sequence[float]) -> None:
    """Fill an array of vectors with a vector, without copying anything to a GPU."""
    if len(set(components)) == 1:
        result.fill_(components[0])
    else:
        for n, component in enumerate(components):
            result[..., n] = component
