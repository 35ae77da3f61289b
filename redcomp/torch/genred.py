"""`Genred` on PyTorch tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import torch
from torch.compiler import is_dynamo_compiling

from redcomp.errors import ArgumentError
from redcomp.frontend.reductions.backends import ANY_DEVICE, device_number, falls_back, wants_gpu
from redcomp.frontend.reductions.calls import check_count, check_integers, mixed_dtypes, sizes
from redcomp.frontend.reductions.genred import GenredBase, Reducer, check_declared, in_order
from redcomp.frontend.reductions.pair_reduction import PairReduction, Parameter, remembered
from redcomp.frontend.reductions.shapes import NUMBERS, Shape, full_shapes, is_numbers, number
from redcomp.runtime.device import Driver
from redcomp.runtime.driver import given_driver
from redcomp.torch import autocast
from redcomp.torch.alike import Decisions, Located
from redcomp.torch.autograd import apply, differentiable, is_differentiated
from redcomp.torch.computation import (
    INTEGERS,
    KERNEL_DTYPES,
    Computation,
    Tensors,
    of_integers,
    prepare_computation,
)
from redcomp.torch.dynamo import in_graph
from redcomp.torch.executors import (
    Asked,
    Executor,
    Visited,
    check_one_device,
    executor_of,
    on_host,
)
from redcomp.torch.foreign import tensor_of
from redcomp.torch.mapped import unwrapped
from redcomp.torch.memory import (
    Description,
    check_arguments,
    check_dense,
    check_described,
    check_plain,
    decides_itself,
    describe,
    is_traced,
)

if TYPE_CHECKING:
    from redcomp.typing import Backend

__all__ = ["Genred"]

_FLOATS = {
    torch.float32: "f32",
    torch.float64: "f64",
    torch.float16: "f16",
    torch.bfloat16: "bf16",
}
_LARGEST = {dtype: torch.finfo(dtype).max for dtype in _FLOATS}
_INTEGER_DTYPES = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_KNOWN = (torch.Tensor, *NUMBERS)
_STORED = {name: dtype for dtype, name in _FLOATS.items()}


class Genred(GenredBase):
    __doc__ = GenredBase.__doc__

    @overload
    def __call__(
        self,
        /,
        *args: torch.Tensor | float | Sequence[float],
        backend: Backend = "auto",
        device_id: int = -1,
        ranges: Sequence[Any] | None = None,
        out: torch.Tensor | None = None,
        **named: torch.Tensor | float | Sequence[float],
    ) -> torch.Tensor: ...

    @overload
    def __call__(
        self,
        /,
        *args: Any,
        backend: Backend = "auto",
        device_id: int = -1,
        ranges: Sequence[Any] | None = None,
        out: torch.Tensor | None = None,
        **named: Any,
    ) -> Any: ...

    def __call__(
        self,
        /,
        *args: Any,
        backend: Backend = "auto",
        device_id: int = -1,
        ranges: Sequence[Any] | None = None,
        out: torch.Tensor | None = None,
        **named: Any,
    ) -> Any:
        """Compute the reduction; differentiable in every argument, to any order.

        Arguments come in the order of the aliases, or by their names in these.

        i-variables have shape (M, D), j-variables (N, D), arrays of pairs (M, N, D), parameters
        (D,), with D as declared; all of one dtype: float32, float64, or float16 or bfloat16
        (computed in float32).  The last axis of variables of dimension 1 may be missing, parameters
        may have shape (1, D) or (D, 1), and a Pm may be a number or a list of numbers, which take
        the dtype of the other arguments.  Integers may have any integer dtype or be booleans; if
        all arguments are integers, the computation is in PyTorch's default dtype.  Any strides are
        accepted.  Gradients have the shapes and the dtypes of the arguments.

        The result has shape (M, E) for axis=1 or (N, E) for axis=0, where E is the dimension of the
        formula.  `redcomp.reductions()` says what other reductions than sums return; several
        results are a tuple.  Results are plain tensors, for subclasses too, which must have their
        values in memory.

        A batch: any argument may have further axes in front, which broadcast as in PyTorch; the
        result has all of them, and indices count within an entry of the batch.

        backend    "auto" computes on the device of the tensors, the CPU or an NVIDIA GPU, there on
                   PyTorch's current stream; "GPU" (or KeOps' names "GPU_1D", "GPU_2D" and so on)
                   copies CPU tensors to a GPU and the result back.  Gradients are computed where
                   the result was computed.  A call does not wait for the GPU, except to check that
                   int64 values fit into int32 if the other arguments are float32
        device_id  the number of the GPU; the first one by default
        ranges     six integer arrays that name the blocks of pairs to visit, the same for each
                   entry of a batch; `redcomp.torch.cluster.from_matrix` makes them.  Rows
                   without pairs get the neutral element of the reduction
        out        a tensor of the result's shape and dtype, which is filled and returned, with the
                   gradient of the result

        Under torch.autocast, float32, float16 and bfloat16 arguments may be combined: they are cast
        to the dtype of autocast and computed in float32, and the result has the dtype of autocast,
        as that of torch.mm.  float64 and calls with `out` are not cast.

        torch.vmap, jacrev, jacfwd and hessian of torch.func work, but not over `ranges`.  In
        torch.compile, torch.export and make_fx it is the operator `redcomp::reduce`, in full
        graphs, with sizes that may change.

        Raises ArgumentError (a ValueError) that names the argument, such as a tensor that is sparse
        or has no values in memory, and DeviceError (a RuntimeError) if there is no GPU, or if it
        fails.
        """
        if named:
            args = in_order(self, self.positions, args, named)
        return call(
            self.reducer, *args, backend=backend, device_id=device_id, ranges=ranges, out=out
        )


def call(
    genred: Reducer,
    *args: torch.Tensor | float | Sequence[float],
    backend: str = "auto",
    device_id: int = -1,
    ranges: Sequence[Any] | None = None,
    out: torch.Tensor | None = None,
    is_cast: bool = True,
) -> Any:
    """What `Genred` does when it is called with tensors.

    is_cast  whether `torch.autocast` counts
    """
    if is_dynamo_compiling():
        return in_graph(genred, args, backend, device_id, ranges, out, is_cast)
    if ranges is None and out is None:
        decisions: Decisions[_Known] | None = genred.reduction.decided.get(genred)
        if decisions is not None and _is_as_usual(backend, device_id):
            found = decisions.find(args)
            if found is not None:
                known, located = found
                return known.run(args, located)
    # All that the call depends on, but for the tensors' values, their layout, and autograd.
    tensors: Any = args
    for arg in args:
        if not isinstance(arg, torch.Tensor):
            tensors = as_tensors(genred.reduction, args)
            break
    if autocast.is_on() and is_cast and out is None:
        tensors = _cast(genred.reduction, tensors)
    described = describe(genred.reduction, tensors)
    if wants_gpu(backend) and falls_back():
        backend = "auto"
    number, default = device_number(device_id), torch.get_default_dtype()
    reduction = genred.reduction
    prepared = _prepare(reduction, genred, described, backend, number, given_driver(), default)
    result = prepared.run(tensors, ranges, out)
    if tensors is args and ranges is None and out is None and _is_as_usual(backend, number):
        prepared.keep(args)
    return result


def _is_as_usual(backend: object, device_id: object) -> bool:
    """Whether a call is computed where its arguments are."""
    return device_number(device_id) == ANY_DEVICE and not wants_gpu(backend)


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """What is known of a call before its tensors are.

    shapes       of the arguments, in full
    is_given     whether the kernel reads the arguments as they are
    stored       the dtype of results that are values
    is_returned  whether the kernel's only result is returned as it is
    """

    genred: Reducer
    computation: Computation
    executor: Executor | Asked
    shapes: tuple[Shape, ...]
    is_given: bool
    stored: torch.dtype
    is_returned: bool

    def run(self, args: Tensors, ranges: Sequence[Any] | None, out: object) -> Any:
        """The result for tensors such as the call has been prepared for."""
        computation = self.computation
        visited = None if ranges is None else self._visited(args, ranges)
        tensors = args if self.is_given else self._converted(args)
        results = apply(computation, tensors, visited, self.executor)
        arranged = results[0] if self.is_returned else self._arranged(results)
        return arranged if out is None else filled(out, arranged)

    def keep(self, args: Tensors) -> None:
        """Have the next calls on such tensors find this, if it is one of many."""
        reduction = self.genred.reduction
        decisions = reduction.decided.get(self.genred)
        if decisions is None:
            decisions = reduction.decided.setdefault(self.genred, Decisions[_Known]())
        if not (self.executor is None and self.is_given and decisions.is_due(self)):
            return
        if not any(parameter.is_integer for parameter in reduction.parameters):
            decisions.keep(args, _Known(self, is_differentiated(self.computation, args)))

    def _visited(self, args: Tensors, ranges: Sequence[Any]) -> Visited:
        """The ranges, read if their values are there."""
        if is_traced(args) and isinstance(ranges, (list, tuple)):
            return tuple(map(torch.as_tensor, ranges))
        return self.computation.call.ranges(on_host(ranges))

    def _converted(self, args: Tensors) -> Tensors:
        check_arguments(self.genred.reduction, args)
        dtype, parameters = self.computation.dtype, self.genred.reduction.parameters
        converted = (
            _integers(tensor, parameter, dtype) if parameter.is_integer else tensor.to(dtype)
            for tensor, parameter in zip(args, parameters, strict=True)
        )
        # Autograd gives gradients back in the shapes that the arguments came in.
        return tuple(
            t if t.shape == s else t.reshape(s) for t, s in zip(converted, self.shapes, strict=True)
        )

    def _arranged(self, results: Tensors) -> Any:
        genred = self.genred
        stored = [
            _as_stored(tensor, result.kind, self.stored)
            for tensor, result in zip(results, genred.reduction.results, strict=True)
        ]
        return genred.nested(genred.joined(stored, lambda parts: torch.stack(parts, -1)))


class _Known(NamedTuple):
    """A call that has been made before on such tensors, and whether autograd recorded it."""

    prepared: _Prepared
    is_recorded: bool

    def run(self, args: Sequence[Any], located: Located) -> Any:
        """The result."""
        prepared = self.prepared
        computation = prepared.computation
        if self.is_recorded:
            results = differentiable(computation, args, None, None, located)
        else:
            shared = computation.shared
            results = shared.run(located[1], None, None)
            if shared is not computation:
                results = computation.own(shared, results)
        return results[0] if prepared.is_returned else prepared._arranged(results)


@remembered
def _prepare(
    reduction: PairReduction,
    genred: Reducer,
    described: tuple[Description, ...],
    backend: str,
    device_id: int,
    _: Driver | None,
    default: torch.dtype,
) -> _Prepared:
    """The call with arguments of these classes, shapes, dtypes and devices; checks all of them.

    Which driver was given and PyTorch's default dtype are asked for again here, and are arguments
    because they count.
    """
    check_described(reduction, described)
    if not described:
        raise ArgumentError(
            "the formula has no variables: a call needs an argument, which says its dtype"
        )
    classes, given_shapes, dtypes, devices = zip(*described, strict=True)
    shapes = full_shapes(reduction, given_shapes)
    sizes(reduction, shapes)
    dtype = _checked_dtype(reduction, described) or of_integers(default)
    check_declared(genred.declared, str(dtype)[6:], reduction, ".to(torch.{})")
    check_one_device(reduction, devices)
    has_values = devices[0].type != "meta" and not any(map(decides_itself, classes))
    executor = (
        executor_of(reduction, devices, backend, device_id)
        if has_values
        else Asked(backend, device_id)
    )
    computed = dtype if dtype in KERNEL_DTYPES else torch.float32  # half precision is for storage
    stored = _STORED[genred.stored_dtype(_FLOATS[dtype])]
    # Only GPUs have products that know how arrays are stored.
    is_on_gpu = devices[0].type == "cuda" or wants_gpu(backend)
    kept = reduction.stored_as(_FLOATS[dtype]) if is_on_gpu else reduction
    return _Prepared(
        genred,
        prepare_computation(kept, shapes, computed, devices[0]),
        executor,
        shapes,
        is_given=shapes == given_shapes
        and all(
            given == (INTEGERS[computed] if parameter.is_integer else computed)
            for given, parameter in zip(dtypes, reduction.parameters, strict=True)
        ),
        stored=stored,
        is_returned=genred.is_plain and stored == computed,
    )


def _cast(reduction: PairReduction, tensors: Tensors) -> Tensors:
    """The arguments as autocast wants them; they are checked before PyTorch reads them."""
    check_described(reduction, describe(reduction, tensors))
    check_arguments(reduction, tensors)
    return autocast.cast(tensors)


def as_tensors(reduction: PairReduction, args: Sequence[object]) -> Tensors:
    """The arguments as tensors; numbers, and lists, get the dtype and the device of the others."""
    check_count(reduction, args)
    given = [
        value
        if isinstance(value, _KNOWN) or is_numbers(parameter, value)
        else tensor_of(f"argument {parameter.name!r}", value)
        for value, parameter in zip(args, reduction.parameters, strict=True)
    ]
    tensors = [a for a in given if isinstance(a, torch.Tensor)]
    if len(tensors) == len(given):
        return tuple(tensors)
    device = tensors[0].device if tensors else None
    dtype = _dtype_of_numbers(reduction, given)
    return tuple(
        value if isinstance(value, torch.Tensor) else _number(value, parameter, dtype, device)
        for value, parameter in zip(given, reduction.parameters, strict=True)
    )


def _dtype_of_numbers(reduction: PairReduction, given: Sequence[Any]) -> torch.dtype:
    """The dtype that numbers get: that of the first float tensor that has axes."""
    for parameter, value in zip(reduction.parameters, given, strict=True):
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            check_dense(f"argument {parameter.name!r}", value)  # some have no axes to be counted
            if value.dim():
                return value.dtype
    return of_integers(torch.get_default_dtype())


def _number(
    value: Any, parameter: Parameter, dtype: torch.dtype, device: torch.device | None
) -> torch.Tensor:
    """An argument that is a number."""
    made = number(parameter, value, _LARGEST.get(dtype, math.inf))
    return torch.tensor(made, dtype=torch.int64 if parameter.is_integer else dtype, device=device)


def _integers(tensor: torch.Tensor, parameter: Parameter, dtype: torch.dtype) -> torch.Tensor:
    """An argument as the integers of a computation in the dtype."""
    if tensor.dtype == torch.int64 != INTEGERS[dtype] and tensor.numel():
        low, high = unwrapped(tensor).aminmax()
        check_integers(parameter, int(low), int(high), KERNEL_DTYPES[dtype])
    return tensor.to(INTEGERS[dtype])


def _as_stored(tensor: torch.Tensor, kind: str, dtype: torch.dtype) -> torch.Tensor:
    """A kernel's result in the dtype that the caller gets."""
    if kind == "truth":
        return tensor != 0
    return tensor if kind == "index" else tensor.to(dtype)


def filled(out: object, result: Any) -> torch.Tensor:
    """`out` with the result in it."""
    if isinstance(result, tuple):
        raise ArgumentError("out is for one result, and this reduction has several: leave it out")
    if not isinstance(out, torch.Tensor):
        raise ArgumentError(f"out must be a tensor; it is of type {type(out).__name__}")
    check_plain("out", out)
    if out.shape != result.shape or out.dtype != result.dtype or out.device != result.device:
        raise ArgumentError(
            f"out must have shape {tuple(result.shape)} and dtype {result.dtype} on "
            f"{result.device}; it has shape {tuple(out.shape)} and dtype {out.dtype} on "
            f"{out.device}"
        )
    try:
        return out.copy_(result)
    except RuntimeError as error:
        raise ArgumentError(f"out cannot hold the result: {error}") from None


def _checked_dtype(
    reduction: PairReduction, described: Sequence[Description]
) -> torch.dtype | None:
    """The dtype of the arguments that are no integers, if there are any; checks them all.

    A parameter without axes is a number, which has whatever dtype the others have.
    """
    first: tuple[str, torch.dtype] | None = None
    of_number = None
    for parameter, (_, shape, dtype, _) in zip(reduction.parameters, described, strict=True):
        name = parameter.name
        if parameter.is_integer:
            _check_integer(name, dtype)
            continue
        if takes_others(parameter, shape, dtype):
            of_number = of_number or (dtype if dtype in _FLOATS else None)
            continue
        if dtype not in _FLOATS:
            raise _wrong_dtype(name, dtype)
        first = first or (name, dtype)
        if dtype != first[1]:
            raise mixed_dtypes((name, dtype), first, lambda dtype: f".to({dtype})")
    return first[1] if first is not None else of_number


def takes_others(parameter: Parameter, shape: torch.Size, dtype: torch.dtype) -> bool:
    """Whether an argument is a number, which is converted to the dtype of the others."""
    is_real = dtype in _FLOATS or dtype in _INTEGER_DTYPES[1:]
    return parameter.kind == "parameter" and not (shape or parameter.is_integer) and is_real


def _check_integer(name: str, dtype: torch.dtype) -> None:
    if dtype not in _INTEGER_DTYPES:
        raise ArgumentError(
            f"argument {name!r} has dtype {dtype}; its alias says integers: convert it with "
            ".to(torch.int64)"
        )


def _wrong_dtype(name: str, dtype: torch.dtype) -> ArgumentError:
    hint = "convert it with .to(torch.float32)"
    if dtype in _INTEGER_DTYPES:
        hint += ", or say that it is of integers: its alias takes a last argument, as in Vi(1, int)"
    if dtype.is_complex:
        hint = "redcomp.torch.LazyTensor takes complex numbers"
    if str(dtype).startswith("torch.q"):
        hint = "convert it with .dequantize()"
    return ArgumentError(
        f"argument {name!r} has dtype {dtype}; expected torch.float32, float64, float16 or "
        f"bfloat16: {hint}"
    )
