"""`LazyTensor` on NumPy arrays."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from redcomp import arguments, foreign
from redcomp.errors import ArgumentError
from redcomp.frontend.language import expressions
from redcomp.frontend.lazy.bindings import agreed
from redcomp.frontend.lazy.complex import ComplexLazyTensorBase
from redcomp.frontend.lazy.given import shaped
from redcomp.frontend.lazy.lazy_tensor import LazyTensorBase, variable_maker
from redcomp.frontend.lazy.library import Agreed, ArrayType, Shaped
from redcomp.frontend.lazy.reduction import KEPT, reducer
from redcomp.frontend.lazy.solve import solver
from redcomp.frontend.reductions.genred import Reducer
from redcomp.numpy.genred import call, filled
from redcomp.numpy.solve import KernelSolve

__all__ = ["ComplexLazyTensor", "LazyTensor", "Pm", "Vi", "Vj"]

_FLOATS = {np.dtype(name): name for name in ("float16", "float32", "float64")}
# By the name of the parts' dtype, what a complex number is.
_COMPLEX = {"float32": np.dtype(np.complex64), "float64": np.dtype(np.complex128)}


@functools.lru_cache
def _type_of(dtype: np.dtype[Any]) -> ArrayType:
    name = dtype.newbyteorder("=").name
    if dtype.newbyteorder("=") in _FLOATS or name == foreign.BFLOAT16:
        return ArrayType(name)
    if dtype.newbyteorder("=") in _COMPLEX.values():
        return ArrayType(name, is_complex=True)
    if dtype.kind in "biu":
        return ArrayType(name, is_integer=True)
    raise ArgumentError(f"a LazyTensor cannot be made of an array of dtype {dtype}")


@functools.lru_cache(KEPT)
def _shaped(dtype: np.dtype[Any], shape: tuple[int, ...], axis: int | None) -> Shaped:
    return shaped(_type_of(dtype), shape, axis)


class _NumPy:
    name = "NumPy"
    array_class = np.ndarray
    build = expressions
    reducer = staticmethod(reducer)
    solver = staticmethod(solver)
    conversion = ".astype(np.{})"
    correction = 0
    kernel_solve = KernelSolve
    identity = staticmethod(id)
    agreed = staticmethod(functools.lru_cache(KEPT)(agreed))

    def taken(self, name: str, value: object) -> Any:
        return foreign.view(name, value)

    def result_library(self, named: Iterable[tuple[str, object]]) -> foreign.Library | None:
        return foreign.library_of(named)

    def shaped(self, array: Any, axis: int | None) -> Shaped:
        return _shaped(array.dtype, array.shape, axis)

    def type_of(self, array: Any) -> ArrayType:
        return _type_of(array.dtype)

    def real(self, array: Any) -> Any:
        arguments.refuse_masked("a complex array", array)
        part = np.dtype(f"{array.dtype.byteorder}f{array.dtype.itemsize // 2}")
        parts = np.asarray(array)[..., None].view(part)  # with this axis any strides will do
        return parts.reshape(*array.shape[:-1], 2 * array.shape[-1])

    def complex(self, array: Any) -> Any:
        parts = array.astype(np.float32) if array.dtype.itemsize == 2 else array
        return parts.view(_COMPLEX[parts.dtype.name])

    def filled(self, out: Any, result: Any) -> Any:
        return filled(out, result)

    def constant(self, array: Any) -> Any:
        return array

    def root(self, array: Any) -> Any:
        return np.sqrt(array)

    def transposed(self, array: Any) -> Any:
        return array.swapaxes(-3, -2)

    def diagonal(self, array: Any) -> Any:
        return np.diagonal(array, axis1=-3, axis2=-2).swapaxes(-2, -1)

    def unit_matrix(self, size: int, dtype: str | None, beside: Sequence[Any]) -> Any:
        return np.eye(size, dtype=dtype)

    def joined(self, parts: Sequence[Any]) -> Any:
        return np.concatenate(parts)

    def common_dtype(self, arrays: Sequence[Any]) -> str | None:
        return None

    def call(
        self, reducer: Reducer, values: Sequence[Any], agreed: Agreed, options: Mapping[str, Any]
    ) -> Any:
        if agreed.is_loose:
            values = self.arrays(values, agreed.dtype)
        return call(reducer, *values, **options)

    def arrays(self, values: Sequence[Any], dtype: str | None) -> Sequence[Any]:
        return [_array(value, dtype) for value in values]

    def right_hand_side(
        self, v: Any, dtype: str | None, like: Any
    ) -> tuple[Any, Callable[[Any], Any]]:
        if type(v) is np.ndarray and _FLOATS.get(v.dtype) == dtype is not None:
            return v, _same
        given: Any = foreign.array_like("the right-hand side", v, "an array")
        own = np.asarray(given)
        if isinstance(given, (list, tuple)) or own.dtype.kind in "biu":  # no dtype of their own
            wanted: Any = _COMPLEX.get(dtype or "") if own.dtype.kind == "c" else dtype
            return own.astype(wanted or own.dtype), _same
        return own, _same


def _same(product: Any) -> Any:
    return product


def _array(value: Any, dtype: str | None) -> Any:
    """A value that is no array with axes, in the dtype of the others."""
    if isinstance(value, np.ndarray) and value.ndim:
        return value
    if isinstance(value, list):
        return np.array(value, dtype or np.float64)
    if isinstance(value, np.ndarray):
        number: Any = value.item()
        parts = [number.real, number.imag] if value.dtype.kind == "c" else [number]
        return np.array(parts, dtype or np.float64)
    return value


class LazyTensor(LazyTensorBase):
    __doc__ = LazyTensorBase.__doc__
    __slots__ = ()
    library = _NumPy()


class ComplexLazyTensor(ComplexLazyTensorBase, LazyTensor):
    __doc__ = ComplexLazyTensorBase.__doc__
    __slots__ = ()


LazyTensor.real_class, LazyTensor.complex_class = LazyTensor, ComplexLazyTensor
Vi, Vj, Pm = (variable_maker(LazyTensor, axis) for axis in range(3))
