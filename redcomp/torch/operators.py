"""The operators of PyTorch that redcomp's calls are where PyTorch looks at operators.

    redcomp::call(Tensor[] tensors, Scalar[] numbers, int[] places, Tensor[] ranges, str reducer,
                  str backend, int device_id, bool is_cast) -> Tensor[]
    redcomp::reduce(Tensor[] arguments, Tensor[] ranges, str reduction, str dtype, str backend,
                    int device_id) -> Tensor[]

`call` is what a `Genred` does with what it is given.  It is made of PyTorch's operators and of
`reduce`: a kernel, on arguments that have been checked and converted.  The derivatives of `reduce`
are made of `reduce` again, to any order.  `call_solve` and `solve` are the same for `KernelSolve`.
Eager calls do without the dispatcher, which takes longer than a small kernel.

They know what they compute by a text (see `redcomp.frontend.reductions.texts`), so a graph of them
that is loaded in another process finds it there, if that process has imported `redcomp.torch`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd import forward_ad

from redcomp.frontend.reductions.genred import reducer_of
from redcomp.frontend.reductions.texts import reduction_of
from redcomp.frontend.solvers.kernel_solve import Settings
from redcomp.torch.autograd import differentiable, is_differentiated
from redcomp.torch.computation import (
    TORCH_DTYPES,
    Computation,
    prepare_computation,
    run,
    run_in_memory,
)
from redcomp.torch.differentiable_solve import differentiable_solve, mapped_system
from redcomp.torch.executors import Asked
from redcomp.torch.genred import call
from redcomp.torch.mapped import with_mapped_first
from redcomp.torch.solve import solver_of

Tensors = Sequence[torch.Tensor]

# PyTorch has no types for its registry.
_library: Any = torch.library.Library("redcomp", "DEF")  # type: ignore[no-untyped-call]
_library.define(
    "call(Tensor[] tensors, Scalar[] numbers, int[] places, Tensor[] ranges, str reducer, "
    "str backend, int device_id, bool is_cast) -> Tensor[]"
)
_library.define(
    "reduce(Tensor[] arguments, Tensor[] ranges, str reduction, str dtype, str backend, "
    "int device_id) -> Tensor[]"
)

_OF_SOLVES = "float? eps, float rtol, int? maxiter, bool precondition, str backend, int device_id"
_library.define(
    "call_solve(Tensor[] tensors, Scalar[] numbers, int[] places, Tensor alpha, Tensor[] ranges, "
    f"str solver, {_OF_SOLVES}) -> Tensor"
)
_library.define(
    "solve(Tensor[] arguments, Tensor alpha, Tensor[] ranges, str solver, bool is_transposed, "
    f"{_OF_SOLVES}) -> Tensor"
)


def _call(
    tensors: Tensors,
    numbers: Sequence[float],
    places: Sequence[int],
    ranges: Tensors,
    reducer: str,
    backend: str,
    device_id: int,
    is_cast: bool,
) -> list[torch.Tensor]:
    """All results of a call, one after the other."""
    genred, args = reducer_of(reducer), _together(tensors, numbers, places)
    given: Any = _visited(ranges)
    made = call(genred, *args, backend=backend, device_id=device_id, ranges=given, is_cast=is_cast)
    entries = (made,) if genred.is_single else made
    return [t for entry in entries for t in (entry if isinstance(entry, tuple) else (entry,))]


def _visited(ranges: Tensors | None) -> tuple[torch.Tensor, ...] | None:
    """The ranges, if there are some; what runs in C++ (AOTInductor) gives None for no tensors."""
    return tuple(ranges) if ranges else None


def _together(tensors: Tensors, numbers: Sequence[float], places: Sequence[int]) -> list[Any]:
    """The arguments of a call, the numbers at their positions."""
    args: list[Any] = list(tensors)
    for place, number in zip(places, numbers, strict=True):
        args.insert(place, number)
    return args


def _computation(arguments: Tensors, reduction: str, dtype: str) -> Computation:
    shapes = tuple([t.shape for t in arguments])
    found, device = reduction_of(reduction), arguments[0].device
    return prepare_computation(found, shapes, TORCH_DTYPES[dtype], device)


def _reduce(
    arguments: Tensors, ranges: Tensors, reduction: str, dtype: str, backend: str, device_id: int
) -> list[torch.Tensor]:
    """The kernel on values in memory."""
    computation = _computation(arguments, reduction, dtype)
    asked = Asked(backend, device_id)
    return list(run_in_memory(computation, arguments, _visited(ranges), asked))


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
    visited, asked = _visited(ranges), Asked(backend, device_id)
    if is_differentiated(computation, arguments):
        return list(differentiable(computation, arguments, visited, asked))
    return list(run(computation, arguments, visited, asked))


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


def _call_solve(
    tensors: Tensors,
    numbers: Sequence[float],
    places: Sequence[int],
    alpha: torch.Tensor,
    ranges: Tensors,
    solver: str,
    *asked: Any,
) -> torch.Tensor:
    """The solution of a call."""
    names = ("eps", "rtol", "maxiter", "precondition", "backend", "device_id")
    options = dict(zip(names, asked, strict=True))
    args = _together(tensors, numbers, places)
    solution = solver_of(solver)(*args, alpha=alpha, ranges=_visited(ranges), **options)
    assert isinstance(solution, torch.Tensor)
    return solution


def _settings(ranges: Tensors, asked: Sequence[Any]) -> Settings:
    eps, rtol, maxiter, precondition, backend, device_id = asked
    options = {"backend": backend, "device_id": device_id, "ranges": _visited(ranges)}
    return Settings(eps, rtol, maxiter, precondition, options)


def _solve(
    arguments: Tensors,
    alpha: torch.Tensor,
    ranges: Tensors,
    solver: str,
    is_transposed: bool,
    *asked: Any,
) -> torch.Tensor:
    """The iterations, on values in memory; K and its transpose have the same."""
    settings = _settings(ranges, asked)
    solution: torch.Tensor
    plain = [argument.detach() for argument in arguments]
    with forward_ad._set_fwd_grad_enabled(False):  # whoever has entered a level of forward mode
        solution, _info = solver_of(solver)._solve(torch, plain, alpha.detach(), settings)
    return solution


def _solve_meta(
    arguments: Tensors, alpha: torch.Tensor, ranges: Tensors, solver: str, *_: Any
) -> torch.Tensor:
    """A solution without values: as b."""
    b = arguments[solver_of(solver).position]
    return torch.empty_like(b, memory_format=torch.contiguous_format)


def _solve_autograd(
    arguments: Tensors,
    alpha: torch.Tensor,
    ranges: Tensors,
    solver: str,
    is_transposed: bool,
    *asked: Any,
) -> torch.Tensor:
    """What autograd may differentiate."""
    settings = _settings(ranges, asked)
    return differentiable_solve(solver_of(solver), settings, arguments, alpha, is_transposed)[0]


def _solve_mapped(
    info: Any,
    in_dims: Sequence[Any],
    arguments: Tensors,
    alpha: torch.Tensor,
    ranges: Tensors,
    solver: str,
    is_transposed: bool,
    *asked: Any,
) -> tuple[torch.Tensor, int]:
    """A batch of systems."""
    axes, axis_of_alpha, *_ = in_dims
    found, count = solver_of(solver), info.batch_size
    given, alpha = mapped_system(found, arguments, alpha, axes, axis_of_alpha, count)
    solve: Any = torch.ops.redcomp.solve.default
    return solve(given, alpha, ranges, solver, is_transposed, *asked), 0


_library.impl("solve", _solve, "CPU")
_library.impl("solve", _solve, "CUDA")
_library.impl("solve", _solve_meta, "Meta")
_library.impl("solve", _solve_autograd, "Autograd")
for _key in ("CompositeImplicitAutograd", "FuncTorchBatchedDecomposition"):
    _library.impl("call", _call, _key)
    _library.impl("call_solve", _call_solve, _key)
_library.impl("reduce", _reduce, "CPU")
_library.impl("reduce", _reduce, "CUDA")
_library.impl("reduce", _reduce_meta, "Meta")
_library.impl("reduce", _reduce_autograd, "Autograd")
torch.library.register_vmap("redcomp::reduce", _reduce_mapped, lib=_library)
torch.library.register_vmap("redcomp::solve", _solve_mapped, lib=_library)
