"""Arrays of other libraries than PyTorch and NumPy as tensors, on the device that they are on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.dlpack import from_dlpack

from redcomp import foreign
from redcomp.errors import ArgumentError

_Array = np.ndarray[Any, np.dtype[Any]]


def tensor_of(name: str, value: object) -> torch.Tensor:
    """A tensor, or an array of another library as one, which shares its memory where it can.

    NumPy's arrays are none of these: which library a call is in is to be clear, since only tensors
    have gradients.  Raises ArgumentError, which says `name`.
    """
    if isinstance(value, torch.Tensor):
        return value
    if not foreign.speaks(value):
        hint = ""
        if isinstance(value, np.ndarray):
            hint = ": torch.from_numpy makes one of it, or use redcomp.numpy for arrays"
        elif isinstance(value, (list, tuple)):
            hint = ": torch.tensor makes one of it"
        raise ArgumentError(f"{name} must be a tensor, not a {type(value).__name__}{hint}")
    device = foreign.device_of(name, value)
    if device is None:
        return _of_host(name, foreign.view(name, value))
    try:
        if hasattr(value, "__dlpack__"):
            return from_dlpack(value)
        return torch.as_tensor(value, device="cuda")
    except Exception as error:  # noqa: BLE001 (whatever PyTorch and the library raise)
        raise ArgumentError(
            f"{name} is of type {foreign.kind_of(value)}, on {device}, and PyTorch cannot take it "
            f"there: {foreign.in_short(error)}"
        ) from None


def _of_host(name: str, array: _Array) -> torch.Tensor:
    is_bfloat16 = array.dtype.name == foreign.BFLOAT16
    bits = array.view(np.int16) if is_bfloat16 else array
    try:
        tensor = _sharing(bits)
    except ValueError:  # strides below 0, or bytes in the other order
        tensor = torch.from_numpy(np.array(bits, bits.dtype.newbyteorder("="), order="C"))
    except TypeError:
        raise ArgumentError(
            f"{name} has dtype {array.dtype}, which PyTorch does not have"
        ) from None
    return tensor.view(torch.bfloat16) if is_bfloat16 else tensor


def _sharing(array: _Array) -> torch.Tensor:
    """A tensor of the array's memory, even if that is read-only: nothing here writes to it."""
    return torch.from_numpy(np.asarray(_Memory(array)))


class _Memory:
    """An array's memory, as one that may be written to: PyTorch has no other tensors."""

    def __init__(self, array: _Array) -> None:
        self._array = array  # whose memory it is
        (address, _), shown = array.__array_interface__["data"], array.__array_interface__
        self.__array_interface__ = {**shown, "data": (address, False)}
