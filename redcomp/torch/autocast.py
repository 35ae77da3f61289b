"""What `torch.autocast` does to the arguments of a call: the same as to those of `torch.mm`.

A kernel is none of PyTorch's operators, so PyTorch casts nothing for it.  The casts here are
PyTorch's own: autograd gives gradients back in the dtypes that the arguments came in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

Tensors = tuple[torch.Tensor, ...]

# Whether autocast is on for any device: all that a call asks where it is off.
is_on: Callable[[], bool] = torch._C._is_any_autocast_enabled

_CAST = (torch.float32, torch.float16, torch.bfloat16)
_DEVICES = ("cpu", "cuda")


def cast(tensors: Sequence[torch.Tensor], dtype: torch.dtype | None = None) -> Tensors:
    """Tensors of real numbers, but for float64, in a dtype where autocast is on for their device.

    dtype  by default the one that autocast computes in
    """
    return tuple([t if (d := _dtype(t, dtype)) is None else t.to(d) for t in tensors])


def common_dtype(tensors: Sequence[torch.Tensor]) -> torch.dtype | None:
    """The one dtype in which autocast computes with tensors of several; None if it does not."""
    found = {_dtype(tensor, None) for tensor in tensors if tensor.is_floating_point()}
    return found.pop() if len(found) == 1 else None


def is_on_for(device: torch.device) -> bool:
    """Whether autocast is on for a device; PyTorch refuses to answer for that of no values."""
    return device.type in _DEVICES and torch.is_autocast_enabled(device.type)


def _dtype(tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.dtype | None:
    """What a tensor is cast to, or None."""
    if tensor.dtype not in _CAST or not is_on_for(tensor.device):
        return None
    return dtype or torch.get_autocast_dtype(tensor.device.type)
