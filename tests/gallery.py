"""Points, distances and comparisons for programs as in KeOps' gallery: needs PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from redcomp.torch import LazyTensor

Tensor = torch.Tensor
Array = Any


def numbers(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers, float64."""
    return torch.tensor(np.random.default_rng(seed).normal(size=shape))


def leaves(*tensors: Tensor) -> list[Tensor]:
    return [tensor.clone().requires_grad_() for tensor in tensors]


def close(result: Any, expected: Any, rtol: float = 1e-10) -> None:
    assert tuple(result.shape) == tuple(expected.shape)
    found, right = torch.as_tensor(result).detach(), torch.as_tensor(expected).detach()
    exact = torch.complex128 if right.is_complex() else torch.float64
    torch.testing.assert_close(found.to(exact), right.to(exact), rtol=rtol, atol=rtol)


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """(..., M, N), densely."""
    return ((x[..., :, None, :] - y[..., None, :, :]) ** 2).sum(-1)


def lazy_squares(x: Tensor, y: Tensor) -> Any:
    """The same as a LazyTensor."""
    return ((LazyTensor(x[..., :, None, :]) - LazyTensor(y[..., None, :, :])) ** 2).sum(-1)


X, Y, B = numbers(11, 3), numbers(9, 3, seed=1), numbers(9, 2, seed=2)


def same_gradients(result: Tensor, expected: Tensor, given: Sequence[Tensor]) -> None:
    """Both have the same derivatives with respect to what is given."""
    found, right = (torch.autograd.grad(value, given) for value in (result, expected))
    for one, other in zip(found, right, strict=True):
        close(one, other)
