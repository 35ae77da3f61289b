"""Helpers on NumPy arrays: what KeOps calls arrays with, and dense kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from redcomp.numpy import Genred, KernelSolve
from redcomp.numpy.cluster import swap_axes as np_swap_axes

from ..common.kernels import kernel as kernel_of
from ..common.kernels import squared_distances

__all__ = [
    "WarmUpGpu",
    "chain_rules",
    "differences",
    "grad_np_kernel",
    "log_np_kernel",
    "log_sum_exp",
    "np_kernel",
    "np_kernel_sphere",
    "np_swap_axes",
    "numpytools",
    "squared_distances",
]

Array = Any

_COMPLEX = {"float32": "complex64", "float64": "complex128"}
_REAL = {made: of for of, made in _COMPLEX.items()}


class numpytools:  # noqa: N801 (KeOps' name)
    """What KeOps' helpers call arrays with, here NumPy's; see `torchtools` for PyTorch's."""

    library = np
    norm = staticmethod(np.linalg.norm)
    arraysum = staticmethod(np.sum)
    exp = staticmethod(np.exp)
    log = staticmethod(np.log)
    copy = staticmethod(np.copy)
    eq = staticmethod(np.equal)
    transpose = staticmethod(np.transpose)
    contiguous = staticmethod(np.ascontiguousarray)
    tile = staticmethod(np.tile)
    solve = staticmethod(np.linalg.solve)
    size = staticmethod(np.size)
    view = staticmethod(np.reshape)
    Genred = Genred
    KernelSolve = KernelSolve
    swap_axes = staticmethod(np_swap_axes)
    arraytype = np.ndarray
    float_types = (float, np.float16, np.float32, np.float64)

    @staticmethod
    def is_tensor(x: object) -> bool:
        return isinstance(x, np.ndarray)

    @staticmethod
    def permute(x: Array, *axes: int) -> Array:
        return x.transpose(*axes)

    @staticmethod
    def numpy(x: Array) -> Array:
        return x

    @staticmethod
    def long(x: Array) -> Array:
        return x.astype(np.int64)

    @staticmethod
    def dtype(x: Array) -> Any:
        return x.dtype

    @staticmethod
    def detect_complex(x: Any) -> bool:
        return bool(np.iscomplexobj(x))

    @staticmethod
    def view_as_complex(x: Array) -> Array:
        return x.view(_COMPLEX[x.dtype.name])

    @staticmethod
    def view_as_real(x: Array) -> Array:
        return x.view(_REAL[x.dtype.name])

    @staticmethod
    def dtypename(dtype: Any) -> str:
        return str(np.dtype(dtype).name)

    @staticmethod
    def rand(m: int, n: int, dtype: Any = np.float64) -> Array:
        return np.random.rand(m, n).astype(dtype)  # noqa: NPY002 (programs call np.random.seed)

    @staticmethod
    def randn(m: int, n: int, dtype: Any = np.float64) -> Array:
        return np.random.randn(m, n).astype(dtype)  # noqa: NPY002

    @staticmethod
    def zeros(shape: Any, dtype: Any, device: object = None, requires_grad: object = None) -> Array:
        return np.zeros(shape, dtype)

    @staticmethod
    def empty(shape: Any, dtype: Any, device: object = None, requires_grad: object = None) -> Array:
        return np.empty(shape, dtype)

    @staticmethod
    def eye(n: int, dtype: Any) -> Array:
        return np.eye(n, dtype=dtype)

    @staticmethod
    def array(x: object, dtype: Any, device: object = None) -> Array:
        return np.array(x, dtype)

    @staticmethod
    def get_pointer(x: Array) -> int:
        return int(x.__array_interface__["data"][0])

    @staticmethod
    def device(x: Array) -> str:
        return "cpu"

    @staticmethod
    def device_type_index(x: Array) -> tuple[str, None]:
        return "cpu", None

    @staticmethod
    def device_dict(x: Array) -> dict[str, str]:
        return {"cat": "cpu"}


def differences(x: Array, y: Array) -> Array:
    """x_i - y_j in shape (D, M, N)."""
    return x.T[:, :, None] - y.T[:, None, :]


def np_kernel_sphere(nalpha: Array, nbeta: Array, s: float, kernel: str) -> Array:
    """A kernel of the inner products of unit vectors, in shape (M, N)."""
    products = nalpha @ nbeta.T
    kernels = {
        "linear": lambda: products,
        "binet": lambda: products**2,
        "gaussian_oriented": lambda: np.exp((2 * products - 2) / s**2),
        "gaussian_unoriented": lambda: np.exp((2 * products**2 - 2) / s**2),
    }
    if kernel not in kernels:
        raise ValueError(f"kernel must be one of {', '.join(kernels)}, not {kernel!r}")
    return kernels[kernel]()


def np_kernel(x: Array, y: Array, s: float, kernel: str) -> Array:
    """A radial kernel at all pairs, in shape (M, N)."""
    return kernel_of(kernel).value(np, squared_distances(x, y), s)


def log_np_kernel(x: Array, y: Array, s: float, kernel: str) -> Array:
    """The logarithm of a radial kernel at all pairs, in shape (M, N)."""
    return kernel_of(kernel).log(np, squared_distances(x, y), s)


def grad_np_kernel(x: Array, y: Array, s: float, kernel: str) -> Array:
    """The derivative of a radial kernel in the squared distance, at all pairs."""
    return kernel_of(kernel).derivative(np, squared_distances(x, y), s)


def chain_rules(q: Array, ax: Array, by: Array, Aa: Array, p: Array) -> Array:
    """The gradient in x of sum_ij q_i k_ij p_j, where Aa is `grad_np_kernel` at all pairs."""
    moved = 2 * (ax[:, None, :] - by[None, :, :])
    return np.einsum("ie,ijd,ij,je->id", q, moved, Aa, p)


def log_sum_exp(mat: Array, axis: int = 0) -> Array:
    """The logarithm of a sum of exponentials, without overflow."""
    largest = mat.max(axis=axis, keepdims=True)
    return largest.squeeze(axis) + np.log(np.exp(mat - largest).sum(axis=axis))


def WarmUpGpu() -> None:  # noqa: N802 (KeOps' name)
    """Do nothing: in KeOps it lets a first call take the time that CUDA takes to start."""
