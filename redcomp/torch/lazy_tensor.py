"""`LazyTensor` on PyTorch tensors, differentiable in all of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch._guards import TracingContext
from torch.compiler import is_dynamo_compiling

from redcomp.errors import ArgumentError
from redcomp.frontend.lazy.bindings import agreed
from redcomp.frontend.lazy.complex import ComplexLazyTensorBase
from redcomp.frontend.lazy.given import shaped
from redcomp.frontend.lazy.lazy_tensor import LazyTensorBase, variable_maker
from redcomp.frontend.lazy.library import Agreed, ArrayType, Shaped
from redcomp.frontend.lazy.linear import LazyOperator
from redcomp.frontend.lazy.reduction import KEPT
from redcomp.frontend.reductions.genred import Reducer
from redcomp.torch import autocast, expressions
from redcomp.torch.dynamo import with_products
from redcomp.torch.foreign import tensor_of
from redcomp.torch.genred import call, filled
from redcomp.torch.memory import check_dense, check_plain
from redcomp.torch.solve import KernelSolve

__all__ = ["ComplexLazyTensor", "LazyTensor", "Pm", "Vi", "Vj"]

_TYPES = {
    **{
        d: ArrayType(str(d).partition(".")[2])
        for d in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    },
    **{
        d: ArrayType(str(d).partition(".")[2], is_integer=True)
        for d in (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
    },
    **{
        d: ArrayType(str(d).partition(".")[2], is_complex=True)
        for d in (torch.complex64, torch.complex128)
    },
}
_DTYPES = {type_.dtype: dtype for dtype, type_ in _TYPES.items()}

R = TypeVar("R")


def _kept(function: Callable[..., R]) -> Callable[..., R]:
    """The function, its latest results kept, unless sizes are symbols or a tracer follows."""
    known = functools.lru_cache(KEPT)(function)

    def look_up(*args: Any) -> R:
        if is_dynamo_compiling():
            return function(*args)
        try:
            return known(*args)
        except TypeError:  # sizes that are symbols have no hash
            return function(*args)

    return look_up


@_kept
def _shaped(dtype: torch.dtype, shape: tuple[int, ...], axis: int | None) -> Shaped:
    return shaped(_type_of(dtype), tuple(shape), axis)


def _type_of(dtype: torch.dtype) -> ArrayType:
    found = _TYPES.get(dtype)
    if found is None:
        raise ArgumentError(f"a LazyTensor cannot be made of a tensor of dtype {dtype}")
    return found


class _PyTorch:
    name = "PyTorch"
    array_class = torch.Tensor
    build = expressions
    reducer = staticmethod(expressions.reducer)
    solver = staticmethod(expressions.solver)
    conversion = ".to(torch.{})"
    correction = 1
    kernel_solve = KernelSolve
    agreed = staticmethod(_kept(agreed))

    def identity(self, value: object) -> Hashable:
        # A graph guards what `id` said, which is another number for each tensor of a later call.
        is_stable = not (is_dynamo_compiling() and isinstance(value, torch.Tensor))
        return id(value) if is_stable else value

    def taken(self, name: str, value: object) -> Any:
        return tensor_of(name, value)

    def result_library(self, named: Iterable[tuple[str, object]]) -> None:
        """None: results are tensors, which may have gradients."""

    def shaped(self, array: Any, axis: int | None) -> Shaped:
        if array.layout != torch.strided or array.is_nested:
            check_dense("the tensor of a LazyTensor", array)
        return _shaped(array.dtype, array.shape, axis)

    def type_of(self, array: Any) -> ArrayType:
        return _type_of(array.dtype)

    def real(self, array: Any) -> Any:
        if not is_dynamo_compiling():
            check_plain("a complex tensor", array)
        return torch.view_as_real(array.resolve_conj()).flatten(-2)

    def complex(self, array: Any) -> Any:
        parts = array.float() if array.dtype in (torch.float16, torch.bfloat16) else array
        numbers = parts.unflatten(-1, (parts.shape[-1] // 2, 2))
        return torch.view_as_complex(numbers.contiguous())

    def filled(self, out: Any, result: Any) -> Any:
        return filled(out, result)

    def constant(self, array: Any) -> Any:
        return array.detach()

    def root(self, array: Any) -> Any:
        is_zero = array == 0
        return array.masked_fill(is_zero, 1).sqrt().masked_fill(is_zero, 0)

    def transposed(self, array: Any) -> Any:
        return array.transpose(-3, -2)

    def diagonal(self, array: Any) -> Any:
        return torch.diagonal(array, dim1=-3, dim2=-2).transpose(-2, -1)

    def unit_matrix(self, size: int, dtype: str | None, beside: Sequence[Any]) -> Any:
        device = next((a.device for a in beside if isinstance(a, torch.Tensor)), None)
        return torch.eye(size, dtype=getattr(torch, dtype) if dtype else None, device=device)

    def joined(self, parts: Sequence[Any]) -> Any:
        return torch.cat(list(parts))

    def common_dtype(self, arrays: Sequence[Any]) -> str | None:
        found = autocast.common_dtype(arrays)
        return None if found is None else _TYPES[found].dtype

    def call(
        self, reducer: Reducer, values: Sequence[Any], agreed: Agreed, options: Mapping[str, Any]
    ) -> Any:
        if agreed.is_loose:
            values = self.arrays(values, agreed.dtype)
        # Autocast leaves complex numbers alone.
        return call(reducer, *values, is_cast=not agreed.is_complex, **options)

    def arrays(self, values: Sequence[Any], dtype: str | None) -> Sequence[Any]:
        return _tensors(values, dtype)

    def right_hand_side(
        self, v: Any, dtype: str | None, like: Any
    ) -> tuple[Any, Callable[[Any], Any]]:
        if isinstance(v, torch.Tensor):
            return v, lambda product: product
        if not isinstance(v, np.ndarray):
            given = tensor_of("the right-hand side", v)
            has_dtype = given.is_complex() or given.is_floating_point()
            wanted = given.dtype if has_dtype else _DTYPES.get(dtype or "", given.dtype)
            return given.to(wanted), lambda product: product
        has_dtype = v.dtype.kind not in "biu"
        tensor = torch.as_tensor(
            v,
            dtype=None if has_dtype else _DTYPES.get(dtype or ""),
            device=_device([a.value for a in like._bindings.arguments]),
        )
        return tensor, lambda product: product.detach().cpu().numpy()


def _device(values: Sequence[Any]) -> torch.device | None:
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    on_axes = [tensor for tensor in tensors if tensor.dim()]
    return next((tensor.device for tensor in (*on_axes, *tensors)), None)


def _tensors(values: Sequence[Any], dtype: str | None) -> list[Any]:
    """The values, numbers and lists being tensors of the dtype, where the others are."""
    wanted = _DTYPES[dtype] if dtype else torch.get_default_dtype()
    device = _device(values)
    return [_tensor(value, wanted, device) for value in values]


def _tensor(value: Any, dtype: torch.dtype, device: torch.device | None) -> Any:
    if not isinstance(value, torch.Tensor):
        given = value if isinstance(value, list) else [value]
        return torch.tensor(given, dtype=dtype, device=device)
    if value.dim():
        return value
    parts = torch.view_as_real(value.resolve_conj()) if value.is_complex() else value.reshape(1)
    return parts.to(dtype=dtype, device=device)


def _is_asked_by_tracer() -> bool:
    """Whether the tracer of `torch.compile` looks at an object now."""
    return not is_dynamo_compiling() and TracingContext.try_get() is not None


class _TorchFunction:
    """`__torch_function__`, which the tracer asks for before it uses an object with a tensor."""

    def __get__(self, instance: object, owner: type[Any]) -> Any:
        if _is_asked_by_tracer() and not with_products():
            return torch._C._disabled_torch_function_impl
        return owner._called_by_torch


class _Members:
    """`__members__`, which there are none of.

    The tracer asks the class of each object for those of an enumeration before it uses the object,
    and for nothing else before `K @ L` (PyTorch 2.13).
    """

    def __get__(self, instance: object, owner: type[Any]) -> Any:
        if _is_asked_by_tracer():
            with_products()
        raise AttributeError("__members__")


class LazyTensor(LazyTensorBase):
    __doc__ = LazyTensorBase.__doc__
    __slots__ = ()
    library = _PyTorch()
    __torch_function__ = _TorchFunction()
    __members__ = _Members()

    def __new__(
        cls, x: Any = None, axis: object = None, is_complex: object = False, *_: Any, **__: Any
    ) -> LazyTensor:
        """An object of its class from the start: the tracer lets no object change it (2.13)."""
        if cls is not LazyTensor:
            return object.__new__(cls)
        is_tensor = isinstance(x, torch.Tensor)
        is_one = x.is_complex() if is_tensor else isinstance(x, (complex, ComplexLazyTensor))
        return object.__new__(ComplexLazyTensor if is_one or is_complex is True else LazyTensor)


class ComplexLazyTensor(ComplexLazyTensorBase, LazyTensor):
    __doc__ = ComplexLazyTensorBase.__doc__
    __slots__ = ()


LazyOperator.__torch_function__, LazyOperator.__members__ = _TorchFunction(), _Members()
LazyTensor.real_class, LazyTensor.complex_class = LazyTensor, ComplexLazyTensor
Vi, Vj, Pm = (variable_maker(LazyTensor, axis) for axis in range(3))
