"""What tests of `ComplexLazyTensor` share: needs PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import redcomp.numpy
import redcomp.torch

M, N, D = 6, 5, 3
Expression = Callable[..., Any]
FACES = {"numpy": redcomp.numpy, "torch": redcomp.torch}


def of(face: str, array: Any) -> Any:
    """An array of NumPy's as the library's."""
    return torch.tensor(array) if face == "torch" else array


def random(*shape: int) -> Any:
    """Complex numbers."""
    source = np.random.default_rng(len(shape))
    return source.normal(size=shape) + 1j * source.normal(size=shape)


def check(found: Any, expected: torch.Tensor) -> None:
    """Equal up to rounding, in the dtype of the result."""
    found = torch.as_tensor(found)
    assert found.is_complex() == expected.is_complex()
    tolerance = 1e-4 if found.dtype in (torch.complex64, torch.float32) else 1e-11
    size = max([1.0, *expected.detach().abs().flatten().tolist()])
    torch.testing.assert_close(
        found.to(expected.dtype), expected, rtol=tolerance, atol=tolerance * size
    )


def arrays(seed: int = 0) -> dict[str, torch.Tensor]:
    """z and w complex vectors of i and j, u and v complex scalars, r and s real ones, q and t."""
    source = np.random.default_rng(seed)

    def real(*shape: int) -> Any:
        # Away from zero: quotients and logarithms are of these.
        return source.uniform(0.4, 1.3, shape) * source.choice([-1, 1], shape)

    def both(*shape: int) -> Any:
        return real(*shape) + 1j * real(*shape)

    made = {
        "z": both(M, 1, D),
        "w": both(1, N, D),
        "u": both(M, 1, 1),
        "v": both(1, N, 1),
        "r": real(M, 1, D),
        "s": real(1, N, D),
        "q": real(M, 1, 1),
        "t": real(1, N, 1),
    }
    return {name: torch.tensor(value) for name, value in made.items()}
