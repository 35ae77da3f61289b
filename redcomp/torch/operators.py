"""The operators of PyTorch that redcomp's calls are where PyTorch looks at operators.

    redcomp::call(Tensor[] tensors, Scalar[] numbers, int[] places, Tensor[] ranges, str reducer,
                  str backend, int device_id) -> Tensor[]
    redcomp::reduce(Tensor[] arguments, Tensor[] ranges, str reduction, str dtype, str backend,
                    int device_id) -> Tensor[]

`call` is what a `Genred` does with what it is given; it is made of PyTorch's operators and of
`reduce`, a kernel on arguments that have been checked and converted.  The derivatives of `reduce`
are made of `reduce` again, to any order.  Eager calls do the same without the dispatcher, which
takes longer than a small kernel.

Both know what they compute by a text (see `redcomp.frontend.reductions.texts`), so a graph of them
is found right in another process, if that imports `redcomp.torch`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from redcomp.frontend.reductions.genred import reducer_of
from redcomp.frontend.reductions.texts import reduction_of
from redcomp.torch.autograd import (
    TORCH_DTYPES,
    Computation,
    differentiable,
    is_differentiated,
    prepare_computation,
)
from redcomp.torch.executors import Asked
from redcomp.torch.genred import call
from redcomp.torch.mapped import with_mapped_first

Tensors = Sequence[torch.Tensor]

_library = torch.library.Library("redcomp", "DEF")
_library.define(
    "call(Tensor[] tensors, Scalar[] numbers, int[] places, Tensor[] ranges, str reducer, "
    "str backend, int device_id) -> Tensor[]"
)
_library.define(
    "reduce(Tensor[] arguments, Tensor[] ranges, str reduction, str dtype, str backend, "
    "int device_id) -> Tensor[]"
)


def _call(
    tensors: Tensors,
    numbers: Sequence[float],
    places: Sequence[int],
    ranges: Tensors,
    reducer: str,
    backend: str,
    device_id: int,
) -> list[torch.Tensor]:
    """All results of a call, one after the other."""
    args: list[Any] = list(tensors)
    for place, number in zip(places, numbers, strict=True):
        args.insert(place, number)
    genred = reducer_of(reducer)
    made = call(genred, *args, backend=backend, device_id=device_id, ranges=ranges or None)
    entries = (made,) if genred.is_single else made
    return [t for entry in entries for t in (entry if isinstance(entry, tuple) else (entry,))]


def _computation(arguments: Tensors, reduction: str, dtype: str) -> Computation:
    shapes = tuple([t.shape for t in arguments])
    found, device = reduction_of(reduction), arguments[0].device
    return prepare_computation(found, shapes, TORCH_DTYPES[dtype], device)


def _reduce(
    arguments: Tensors, ranges: Tensors, reduction: str, dtype: str, backend: str, device_id: int
) -> list[torch.Tensor]:
    """The kernel on values in memory."""
    computation = _computation(arguments, reduction, dtype)
    return list(computation.run(arguments, tuple(ranges) or None, Asked(backend, device_id)))


def _reduce_meta(
    arguments: Tensors, ranges: Tensors, reduction: str, dtype: str, backend: str, device_id: int
) -> list[torch.Tensor]:
    """Results without values."""
    return list(_computation(arguments, reduction, dtype).empty())


def _reduce_autograd(
    arguments: Tensors, ranges: Tensors, reduction: str, dtype: str, backend: str, device_id: int
) -> list[torch.Tensor]:
    """What autograd may differentiate."""
    computation = _computation(arguments, reduction, dtype)
    compute = differentiable if is_differentiated(computation, arguments) else Computation.__call__
    return list(compute(computation, arguments, tuple(ranges) or None, Asked(backend, device_id)))


def _reduce_mapped(
    info: Any,
    in_dims: Sequence[Any],
    arguments: Tensors,
    ranges: Tensors,
    reduction: str,
    dtype: str,
    backend: str,
    device_id: int,
) -> tuple[list[torch.Tensor], list[int]]:
    """One more axis of the batch."""
    given = with_mapped_first(reduction_of(reduction).parameters, arguments, in_dims[0])
    reduce: Any = torch.ops.redcomp.reduce.default
    results = reduce(list(given), ranges, reduction, dtype, backend, device_id)
    return results, [0] * len(results)


_library.impl("call", _call, "CompositeImplicitAutograd")
_library.impl("reduce", _reduce, "CPU")
_library.impl("reduce", _reduce, "CUDA")
_library.impl("reduce", _reduce_meta, "Meta")
_library.impl("reduce", _reduce_autograd, "Autograd")
torch.library.register_vmap("redcomp::reduce", _reduce_mapped, lib=_library)
