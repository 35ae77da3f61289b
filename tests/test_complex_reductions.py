"""Variances and weighted sums of complex LazyTensors over i and j: needs the CPU, PyTorch."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from lazy_complex import FACES, D, M, N, check, of, random

Tensor = torch.Tensor
# By name: of a lazy z and real scores s, of the tensors, over an axis.
REDUCTIONS: dict[str, tuple[Callable[..., Any], Callable[..., Tensor]]] = {
    "variance": (
        lambda z, s, axis: z.var(axis, ddof=0),
        lambda z, s, axis: z.var(axis, correction=0),
    ),
    "unbiased variance": (
        lambda z, s, axis: z.var(axis=axis, unbiased=True),
        lambda z, s, axis: z.var(axis),
    ),
    "standard deviation": (
        lambda z, s, axis: z.std(dim=axis, correction=1),
        lambda z, s, axis: z.std(axis),
    ),
    "kept axis": (
        lambda z, s, axis: z.std(axis, ddof=2, keepdim=True),
        lambda z, s, axis: z.var(axis, correction=2, keepdim=True).sqrt(),
    ),
    "softmax weights": (
        lambda z, s, axis: s.sumsoftmaxweight(z, axis=axis),
        lambda z, s, axis: (s.softmax(axis) * z).sum(axis),
    ),
    "kept axis of softmax weights": (
        lambda z, s, axis: s.sumsoftmaxweight(z, axis=axis, keepdims=True),
        lambda z, s, axis: (s.softmax(axis) * z).sum(axis, keepdim=True),
    ),
    "later": (
        lambda z, s, axis: s.sumsoftmaxweight(z, axis, call=False)(),
        lambda z, s, axis: (s.softmax(axis) * z).sum(axis),
    ),
    "logarithm of a weighted sum": (
        lambda z, s, axis: (
            of_torch(s.logsumexp(axis)) + of_torch(s.sumsoftmaxweight(z, axis)).log()
        ),
        lambda z, s, axis: (s.exp() * z).sum(axis).log(),
    ),
}


def of_torch(values: Any) -> Tensor:
    return torch.as_tensor(values)


def given(batch: tuple[int, ...]) -> list[Tensor]:
    arrays = [random(*batch, M, 1, D), random(1, N, D), random(*batch, M, 1, 1).real]
    return [torch.tensor(array) for array in (*arrays, random(1, N, 1).imag)]


def dense(x: Any, y: Any, u: Any, v: Any) -> tuple[Any, Any]:
    return x * y + 3 + y, u * v


@pytest.mark.sampled(36)
@pytest.mark.parametrize("batch", [(), (2,)], ids=["one", "batch"])
@pytest.mark.parametrize(("face", "axis"), [*itertools.product(FACES, (-3, -2))])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_values(name: str, face: str, axis: int, batch: tuple[int, ...]) -> None:
    lazily, densely = REDUCTIONS[name]
    tensors = given(batch)
    lazies = [FACES[face].LazyTensor(of(face, t.numpy())) for t in tensors]
    expected = densely(*dense(*tensors), axis)
    check(lazily(*dense(*lazies), axis), expected)


@pytest.mark.sampled(32)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_gradients(name: str, axis: int) -> None:
    lazily, densely = REDUCTIONS[name]
    tensors = [t.requires_grad_() for t in given(())]
    found = lazily(*dense(*map(FACES["torch"].LazyTensor, tensors)), axis)
    expected = densely(*dense(*tensors), axis)
    cotangent = torch.tensor(random(*expected.shape))
    if not expected.is_complex():
        cotangent = cotangent.real
    used = tensors if "weight" in name or name == "later" else tensors[:2]
    for mine, right in zip(
        torch.autograd.grad(found, used, cotangent),
        torch.autograd.grad(expected, used, cotangent),
        strict=True,
    ):
        check(mine, right)


def test_single_precision_far_from_the_origin() -> None:
    """The mean is subtracted first, from both parts."""
    x = (random(1000, 1) + 3e4 - 2e4j).astype(np.complex64)
    found = (FACES["numpy"].Vj(x) * 1).var(axis=1)
    np.testing.assert_allclose(found, np.var(x.astype(np.complex128), 0)[None], rtol=1e-5)
    assert found.dtype == np.float32
