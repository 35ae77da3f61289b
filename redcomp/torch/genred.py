"""`Genred` on PyTorch tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from redcomp.errors import ArgumentError
from redcomp.frontend.calls import Sizes, check_count, check_integers, sizes
from redcomp.frontend.genred import GenredBase
from redcomp.frontend.pair_reduction import PairReduction, Parameter
from redcomp.torch.autograd import INTEGERS, KERNEL_DTYPES, apply, float_dtype
from redcomp.torch.places import on_host, place_of

__all__ = ["Genred"]

_FLOATS = {
    torch.float32: "f32",
    torch.float64: "f64",
    torch.float16: "f16",
    torch.bfloat16: "bf16",
}
_INTEGER_DTYPES = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_STORED = {name: dtype for dtype, name in _FLOATS.items()}


class Genred(GenredBase):
    __doc__ = GenredBase.__doc__

    def __call__(
        self,
        *args: torch.Tensor,
        backend: str = "auto",
        device_id: int = -1,
        ranges: Sequence[Any] | None = None,
        out: torch.Tensor | None = None,
    ) -> Any:
        """Compute the reduction; differentiable in every argument, to any order.

        i-variables have shape (M, D), j-variables (N, D), arrays of pairs (M, N, D), parameters
        (D,), with D as declared; all of one dtype: float32, float64, or float16 or bfloat16
        (computed in float32).  Integers may have any integer dtype or be truth values, and without
        other arguments the computation is in PyTorch's default dtype.  Any strides are accepted.
        The result has shape (M, E) for axis=1 or (N, E) for axis=0, E being the formula's dimension
        (see docs/formulas.md for other reductions than sums).  `out`, a tensor of the result's
        shape and dtype, is filled and returned.

        A batch: any argument may have further dimensions before these, which broadcast as PyTorch's
        do; the result has them all, and an index counts within its entry of the batch.

        ranges: six integer arrays that name the blocks of pairs to visit (see
        `redcomp.frontend.ranges`), the same ones for each entry of a batch.  Rows without any pair
        get the reduction's neutral element.

        backend: "auto" computes on the device that the tensors are on, the CPU or an NVIDIA GPU,
        there on PyTorch's current stream.  "GPU" (or "GPU_1D", "GPU_2D", and so on, as KeOps calls
        its own) computes CPU tensors with copies on GPU number `device_id`, or else the first one.
        Gradients are computed where the result was.  On a GPU a call waits for nothing, but for the
        check that int64 values fit into the int32 of a float32 call, and for the places of extrema
        in gradients.  Autocast changes nothing: the arguments' dtype counts, and float32 stays
        float32.

        Raises ArgumentError (a ValueError) that names the argument, and DeviceError (a
        RuntimeError) where there is no GPU, or where it fails.
        """
        return call(self, *args, backend=backend, device_id=device_id, ranges=ranges, out=out)


def call(
    genred: GenredBase,
    *args: torch.Tensor,
    backend: str = "auto",
    device_id: int = -1,
    ranges: Sequence[Any] | None = None,
    out: torch.Tensor | None = None,
) -> Any:
    """What `Genred` does when it is called with tensors."""
    reduction = genred.reduction
    size = check(reduction, args)
    place = place_of(reduction, args, backend, device_id)
    dtype = float_dtype(args)
    computed = dtype if dtype in KERNEL_DTYPES else torch.float32  # half precision is for storage
    args = tuple(
        _integers(tensor, parameter, computed) if parameter.is_integer else tensor.to(computed)
        for tensor, parameter in zip(args, reduction.parameters, strict=True)
    )
    results = apply(reduction, args, size.ranges(reduction, on_host(ranges)), place)
    stored = _STORED[genred.stored_dtype(_FLOATS[dtype])]
    if not genred.is_plain or stored != computed:
        arranged = genred.arranged(
            [
                _as_stored(tensor, result.kind, stored)
                for tensor, result in zip(results, reduction.results, strict=True)
            ],
            lambda parts: torch.stack(parts, -1),
        )
    else:
        arranged = results[0]
    return arranged if out is None else _filled(out, arranged)


def _integers(tensor: torch.Tensor, parameter: Parameter, dtype: torch.dtype) -> torch.Tensor:
    """An argument as the integers of a computation in the dtype."""
    if tensor.dtype == torch.int64 != INTEGERS[dtype] and tensor.numel():
        low, high = tensor.aminmax()
        check_integers(parameter, int(low), int(high), KERNEL_DTYPES[dtype])
    return tensor.to(INTEGERS[dtype])


def _as_stored(tensor: torch.Tensor, kind: str, dtype: torch.dtype) -> torch.Tensor:
    """A kernel's result in the dtype that the caller gets."""
    if kind == "truth":
        return tensor != 0
    return tensor if kind == "index" else tensor.to(dtype)


def _filled(out: object, result: Any) -> torch.Tensor:
    """`out` with the result in it."""
    if isinstance(result, tuple):
        raise ArgumentError("out is for one result, and this reduction has several")
    if not isinstance(out, torch.Tensor):
        raise ArgumentError(f"out must be a tensor; it is of type {type(out).__name__}")
    if out.shape != result.shape or out.dtype != result.dtype or out.device != result.device:
        raise ArgumentError(
            f"out must have shape {tuple(result.shape)} and dtype {result.dtype} on "
            f"{result.device}; it has shape {tuple(out.shape)} and dtype {out.dtype} on "
            f"{out.device}"
        )
    return out.copy_(result)


def check(reduction: PairReduction, tensors: Sequence[torch.Tensor]) -> Sizes:
    """The call's sizes; checks types, dtypes and shapes of the arguments."""
    check_count(reduction, len(tensors))
    for parameter, tensor in zip(reduction.parameters, tensors, strict=True):
        if not isinstance(tensor, torch.Tensor):
            kind = type(tensor).__name__
            raise ArgumentError(f"argument {parameter.name!r} must be a tensor, not a {kind}")
    size = sizes(reduction, tuple(t.shape for t in tensors))
    first: tuple[torch.Tensor, str] | None = None
    for parameter, tensor in zip(reduction.parameters, tensors, strict=True):
        name = parameter.name
        if parameter.is_integer:
            if tensor.dtype not in _INTEGER_DTYPES:
                raise ArgumentError(
                    f"argument {name!r} has dtype {tensor.dtype}; its alias says integers"
                )
            continue
        if tensor.dtype not in _FLOATS:
            raise ArgumentError(
                f"argument {name!r} has dtype {tensor.dtype}; "
                "expected torch.float32, float64, float16 or bfloat16"
            )
        first = first or (tensor, name)
        if tensor.dtype != first[0].dtype:
            raise ArgumentError(
                f"argument {name!r} has dtype {tensor.dtype}, but {first[1]!r} "
                f"has {first[0].dtype}: all arguments must have the same"
            )
    if not tensors:
        raise ArgumentError("a formula without variables has no dtype")
    return size
