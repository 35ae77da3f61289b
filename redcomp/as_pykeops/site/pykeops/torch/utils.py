"""Helpers on PyTorch tensors: what KeOps calls tensors with, and dense kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from redcomp.torch import Genred, KernelSolve
from redcomp.torch.cluster import swap_axes as torch_swap_axes

from ..common.kernels import kernel as kernel_of
from ..common.kernels import squared_distances

__all__ = [
    "is_on_device",
    "squared_distances",
    "torch_kernel",
    "torch_swap_axes",
    "torchsolve",
    "torchtools",
]

Array = Any

torchsolve = torch.linalg.solve


class torchtools:  # noqa: N801 (KeOps' name)
    """What KeOps' helpers call tensors with, here PyTorch's; see `numpytools` for NumPy's."""

    library = torch
    copy = staticmethod(torch.clone)
    exp = staticmethod(torch.exp)
    log = staticmethod(torch.log)
    norm = staticmethod(torch.norm)
    eq = staticmethod(torch.eq)
    transpose = staticmethod(torch.t)
    tile = staticmethod(torch.Tensor.repeat)
    Genred = Genred
    KernelSolve = KernelSolve
    swap_axes = staticmethod(torch_swap_axes)
    arraytype = torch.Tensor
    float_types = (float,)

    @staticmethod
    def is_tensor(x: object) -> bool:
        return isinstance(x, torch.Tensor)

    @staticmethod
    def permute(x: Array, *axes: int) -> Array:
        return x.permute(*axes)

    @staticmethod
    def contiguous(x: Array) -> Array:
        return x.contiguous()

    @staticmethod
    def solve(A: Array, b: Array) -> Array:
        return torchsolve(A, b).contiguous()

    @staticmethod
    def arraysum(x: Array, axis: int | None = None) -> Array:
        return x.sum() if axis is None else x.sum(dim=axis)

    @staticmethod
    def long(x: Array) -> Array:
        return x.long()

    @staticmethod
    def size(x: Array) -> int:
        return int(x.numel())

    @staticmethod
    def numpy(x: Array) -> Any:
        return x.detach().cpu().numpy()

    @staticmethod
    def view(x: Array, s: Any) -> Array:
        return x.reshape(s)

    @staticmethod
    def dtype(x: object) -> Any:
        return getattr(x, "dtype", type(x))

    @staticmethod
    def detect_complex(x: Any) -> bool:
        return x.is_complex() if isinstance(x, torch.Tensor) else bool(np.iscomplexobj(x))

    @staticmethod
    def view_as_complex(x: Array) -> Array:
        return torch.view_as_complex(x.unflatten(-1, (-1, 2)))

    @staticmethod
    def view_as_real(x: Array) -> Array:
        return torch.view_as_real(x).flatten(-2)

    @staticmethod
    def dtypename(dtype: Any) -> str:
        return str(dtype).removeprefix("torch.")

    @staticmethod
    def rand(m: int, n: int, dtype: Any = None, device: Any = None) -> Array:
        return torch.rand(m, n, dtype=dtype, device=device)

    @staticmethod
    def randn(m: int, n: int, dtype: Any = None, device: Any = None) -> Array:
        return torch.randn(m, n, dtype=dtype, device=device)

    @staticmethod
    def zeros(shape: Any, dtype: Any, device: Any, requires_grad: bool = False) -> Array:
        return torch.zeros(*shape, dtype=dtype, device=device, requires_grad=requires_grad)

    @staticmethod
    def empty(shape: Any, dtype: Any, device: Any, requires_grad: bool = False) -> Array:
        return torch.empty(*shape, dtype=dtype, device=device, requires_grad=requires_grad)

    @staticmethod
    def eye(n: int, dtype: Any, device: Any) -> Array:
        return torch.eye(n, dtype=dtype, device=device)

    @staticmethod
    def array(x: Any, dtype: Any, device: Any = None) -> Array:
        """A tensor; the dtype is one of PyTorch's, or its name."""
        known = getattr(torch, dtype) if isinstance(dtype, str) else dtype
        return torch.tensor(x, dtype=known, device=device)

    @staticmethod
    def device(x: object) -> Any:
        return x.device if isinstance(x, torch.Tensor) else None

    @staticmethod
    def get_pointer(x: Array) -> int:
        return int(x.data_ptr())

    pointer = get_pointer

    @staticmethod
    def device_type_index(x: object) -> tuple[str | None, int | None]:
        return (x.device.type, x.device.index) if isinstance(x, torch.Tensor) else (None, None)


def is_on_device(x: Array) -> bool:
    """Whether a tensor is on a GPU."""
    return bool(x.is_cuda)


def torch_kernel(x: Array, y: Array, s: Any, kernel: str) -> Array:
    """A radial kernel at all pairs, in shape (M, N)."""
    return kernel_of(kernel).value(torch, squared_distances(x, y), s)
