"""Calls on tensors that are like those of an earlier call: what was decided then holds for them.

PyTorch's guards, which `torch.compile` has for its graphs, look at all of a tensor but its values
and its memory at once: its class, dtype, device, sizes and strides, whether it wants a gradient,
and its dispatch keys, which tell tensors of transforms, negated ones and zeros without memory, and
whether autocast, inference mode or a tracer is on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch._C._dynamo.guards import TensorGuards
from torch.autograd import forward_ad
from torch.fx import _symbolic_trace

from redcomp.torch.mapped import is_active
from redcomp.torch.memory import bytes_of, count_modes, is_traced

T = TypeVar("T")
# PyTorch declares it otherwise than it is.
_Guards: Any = TensorGuards
# Tensors as machine code reads them, and where these are.
Located = tuple[Sequence[torch.Tensor], list[int]]
# Decisions that are kept: tensors are compared with those of each.
_MOST = 4
# Kinds of decisions that are counted at a time.
_MOST_KINDS = 128


class Decisions(Generic[T]):
    """What was decided for the latest tensors on the host, found by what those are like.

    Who decides asks each time whether that `is_due` to be kept: looking at tensors for that takes
    longer than a call, and many calls are of sizes that do not come again.
    """

    __slots__ = ("_kept", "_misses")

    def __init__(self) -> None:
        self._kept: tuple[tuple[Alike, T], ...] = ()
        self._misses: dict[object, int] = {}

    def find(self, tensors: Sequence[Any]) -> tuple[T, Located] | None:
        """What was decided for such tensors, and where these are."""
        for alike, decided in self._kept:
            located = alike.located(tensors)
            if located is not None:
                return decided, located
        return None

    def is_due(self, kind: object) -> bool:
        """Whether to keep a decision of this kind: the second one, the fourth, the eighth, ..."""
        if len(self._misses) == _MOST_KINDS:
            self._misses.clear()
        count = self._misses[kind] = self._misses.get(kind, 0) + 1
        return count > 1 and not count & (count - 1)

    def keep(self, tensors: Sequence[torch.Tensor], decided: T) -> None:
        """Keep what has been decided, if it can be found again."""
        if _can_be_found(tensors):
            self._kept = ((Alike(tensors), decided), *self._kept[: _MOST - 1])


class Alike:
    """Tensors that are like some others, for calls that record operators as those did."""

    __slots__ = ("_are_recorded", "_known", "_packed")

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        self._are_recorded = torch.is_grad_enabled()
        self._known = [(_guard(t), t.element_size(), _own_bytes(t)) for t in tensors]
        # Positions of those that machine code cannot read as they are.
        self._packed = [n for n, t in enumerate(tensors) if not t.is_contiguous() or t.is_neg()]

    def located(self, tensors: Sequence[Any]) -> Located | None:
        """The tensors in memory, and where; None unless they are as many and like those others."""
        if (
            len(tensors) != len(self._known)
            or torch.is_grad_enabled() is not self._are_recorded
            or count_modes()
            or forward_ad._current_level >= 0
            or _symbolic_trace._is_fx_tracing_flag
        ):
            return None
        addresses = []
        for tensor, (is_like, size, count) in zip(tensors, self._known, strict=False):
            if not is_like(tensor):
                return None
            # Somebody may have shortened the memory.
            if tensor.untyped_storage().nbytes() < count + size * tensor.storage_offset():
                return None
            addresses.append(tensor.data_ptr())
        if self._packed:
            tensors = list(tensors)
            for n in self._packed:
                tensors[n] = packed = tensors[n].resolve_neg().contiguous()
                addresses[n] = packed.data_ptr()
        return tensors, addresses


def _can_be_found(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether later tensors can be compared with these, which have values in memory."""
    if is_traced(tensors) or is_active() or forward_ad._current_level >= 0:
        return False
    try:
        return all(t.device.type == "cpu" and t.numel() and t.data_ptr() for t in tensors)
    except RuntimeError:  # wrappers that a transform has left have no memory
        return False


def _guard(tensor: torch.Tensor) -> Callable[[Any], bool]:
    sizes, strides = [list(tensor.shape)], [list(tensor.stride())]
    guard = _Guards(tensor, dynamic_dims_sizes=sizes, dynamic_dims_strides=strides)
    check: Callable[[Any], bool] = guard.check
    return check


def _own_bytes(tensor: torch.Tensor) -> int:
    """How long the part of a storage must be that begins where the tensor does."""
    return int(bytes_of(tensor) - tensor.storage_offset() * tensor.element_size())
