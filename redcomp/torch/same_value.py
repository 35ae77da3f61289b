"""A value that is known, with the derivatives of one that is computed from arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Tensors = tuple[torch.Tensor, ...]


class _SameValue(torch.autograd.Function):
    """The first tensor, with the derivatives of the second, which equals it but for rounding."""

    generate_vmap_rule = True

    @staticmethod
    def forward(value: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Tensors, output: torch.Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, e: torch.Tensor) -> tuple[None, torch.Tensor]:
        return None, e

    @staticmethod
    def jvp(ctx: Any, _: None, tangent: torch.Tensor) -> torch.Tensor:
        # Itself: what PyTorch computes here is not differentiated forward once more.
        return tangent


same_value: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = _SameValue.apply
