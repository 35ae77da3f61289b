"""`Genred` on PyTorch tensors, with autograd of any order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from redcomp.errors import ArgumentError
from redcomp.frontend.genred import GenredBase, check_call, check_count, sizes
from redcomp.frontend.pair_reduction import PairReduction

__all__ = ["Genred"]

_FLOATS = {torch.float32: "f32", torch.float64: "f64"}


class Genred(GenredBase):
    __doc__ = GenredBase.__doc__

    def __call__(
        self,
        *args: torch.Tensor,
        backend: str = "auto",
        device_id: int = -1,
        ranges: None = None,
        out: None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Compute the reduction on CPU tensors; differentiable in every argument, to any order.

        i-variables have shape (M, D), j-variables (N, D), parameters (D,), with D as declared; all
        float32 or all float64.  Any strides are accepted.  The result has shape (M, E) for axis=1
        or (N, E) for axis=0, E being the formula's dimension.

        Raises ArgumentError (a ValueError) that names the argument.
        """
        return call(self, *args, backend=backend, device_id=device_id, ranges=ranges, out=out)


def call(
    genred: GenredBase,
    *args: torch.Tensor,
    backend: str = "auto",
    device_id: int = -1,
    ranges: None = None,
    out: None = None,
) -> torch.Tensor | tuple[torch.Tensor, ...]:
    """What `Genred` does when it is called with tensors."""
    if backend != "auto" or ranges is not None or out is not None:
        check_call(backend, ranges, out)
    _check(genred.reduction, args)
    results = _apply(genred.reduction, args)
    return results[0] if len(results) == 1 else results


def _check(reduction: PairReduction, tensors: Sequence[torch.Tensor]) -> None:
    """Types, dtypes, devices and shapes of the arguments."""
    check_count(reduction, len(tensors))
    for parameter, tensor in zip(reduction.parameters, tensors, strict=True):
        if not isinstance(tensor, torch.Tensor):
            kind = type(tensor).__name__
            raise ArgumentError(f"argument {parameter.name!r} must be a tensor, not a {kind}")
    sizes(reduction, [t.shape for t in tensors])
    for parameter, tensor in zip(reduction.parameters, tensors, strict=True):
        name = parameter.name
        if tensor.device.type != "cpu":
            raise ArgumentError(
                f"argument {name!r} is on {tensor.device}: "
                "this version of redcomp computes on the CPU only"
            )
        if tensor.dtype not in _FLOATS:
            raise ArgumentError(
                f"argument {name!r} has dtype {tensor.dtype}; "
                "expected torch.float32 or torch.float64"
            )
        if tensor.dtype != tensors[0].dtype:
            raise ArgumentError(
                f"argument {name!r} has dtype {tensor.dtype}, but {reduction.parameters[0].name!r} "
                f"has {tensors[0].dtype}: all arguments must have the same"
            )
    if not tensors:
        raise ArgumentError("a formula without variables has no dtype")


def _apply(reduction: PairReduction, tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Through autograd only where somebody could ask for a gradient: it costs several calls."""
    gives_floats = not all(r.is_index for r in reduction.results)
    if gives_floats and torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        apply: Callable[..., tuple[torch.Tensor, ...]] = _Reduce.apply
        return apply(reduction, *tensors)
    return _compute(reduction, tensors)


def _compute(reduction: PairReduction, tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Run the kernel on tensors that have been checked."""
    rows, columns = sizes(reduction, [t.shape for t in tensors])
    dtype = tensors[0].dtype
    results = tuple(
        torch.empty((rows, r.dim), dtype=torch.int64 if r.is_index else dtype)
        for r in reduction.results
    )
    if rows == 0 or columns == 0:
        for result, description in zip(results, reduction.results, strict=True):
            result.fill_(description.empty)
        return results
    packed = [t.detach().contiguous() for t in tensors]
    reduction.compiled(_FLOATS[dtype], rows)(
        rows, columns, [r.data_ptr() for r in results], [t.data_ptr() for t in packed]
    )
    return results


class _Reduce(torch.autograd.Function):
    """The reduction as a differentiable function; its backward is made of reductions again."""

    @staticmethod
    def forward(
        ctx: Any, reduction: PairReduction, *tensors: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        results = _compute(reduction, tensors)
        ctx.reduction = reduction
        ctx.mark_non_differentiable(*(r for r in results if not r.is_floating_point()))
        ctx.save_for_backward(*tensors, *(results if reduction.uses_result else ()))
        return results

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        reduction: PairReduction = ctx.reduction
        if not reduction.is_differentiable:
            raise ArgumentError(f"the reduction {reduction.reduction!r} has no gradient")
        saved, count = ctx.saved_tensors, len(reduction.parameters)
        tensors, results = saved[:count], saved[count:]
        wanted = [n for n, needed in enumerate(ctx.needs_input_grad[1:]) if needed]
        result: list[torch.Tensor | None] = [None] * len(tensors)
        for group in _groups(reduction, wanted):
            parts = _apply(reduction.gradient(group), (*tensors, *cotangents, *results))
            for position, part in zip(group, parts, strict=True):
                is_parameter = reduction.parameters[position].kind == "parameter"
                result[position] = part.sum(0) if is_parameter else part
        return None, *result


def _groups(reduction: PairReduction, wanted: Sequence[int]) -> list[tuple[int, ...]]:
    """Arguments whose gradients share a sweep: i-variables, and j-variables with parameters."""
    kinds = {n: reduction.parameters[n].kind for n in wanted}
    first = tuple(n for n in wanted if kinds[n] == "i")
    second = tuple(n for n in wanted if kinds[n] != "i")
    return [group for group in (first, second) if group]
