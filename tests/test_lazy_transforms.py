"""Transforms of torch.func over LazyTensors, beside dense PyTorch: needs the CPU and PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vmap

from redcomp.torch import ComplexLazyTensor, LazyTensor

# PyTorch's forward mode, about itself.
pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")

Tensor = torch.Tensor
Function = Callable[..., Any]
M, N = 4, 5


def squares(x: Tensor, y: Tensor) -> Tensor:
    return ((x[:, None] - y[None]) ** 2).sum(-1)


def lazy(x: Tensor, y: Tensor) -> LazyTensor:
    return LazyTensor(x[:, None, :]).sqdist(LazyTensor(y[None]))


def weighted(x: Tensor, y: Tensor, b: Tensor) -> LazyTensor:
    return lazy(x, y) * LazyTensor(b, 1)


def gaussian(x: Tensor, y: Tensor) -> Any:
    return (-lazy(x, y)).exp()


def dense_gaussian(x: Tensor, y: Tensor) -> Tensor:
    return torch.exp(-squares(x, y))


def waves(x: Tensor, y: Tensor, b: Tensor) -> Tensor:
    z = ComplexLazyTensor(torch.complex(y, y.cos()), 1)
    return torch.view_as_real((LazyTensor(x, 0) * z).exp().sum(1))


def dense_waves(x: Tensor, y: Tensor, b: Tensor) -> Tensor:
    return torch.view_as_real((x[:, None] * torch.complex(y, y.cos())).exp().sum(1))


def dense_solution(x: Tensor, y: Tensor, b: Tensor) -> Tensor:
    return x.sum() * (torch.linalg.inv(dense_gaussian(y, y) + 0.5 * torch.eye(N).double()) @ b)


# x, y, b: (M, 2), (N, 2), (N, 1).
PROGRAMS: dict[str, tuple[Function, Function]] = {
    "matrix": (
        lambda x, y, b: gaussian(x, y) @ b,
        lambda x, y, b: dense_gaussian(x, y) @ b,
    ),
    "matrices": (
        lambda x, y, b: gaussian(x, y) @ gaussian(y, x) @ x,
        lambda x, y, b: dense_gaussian(x, y) @ (dense_gaussian(y, x) @ x),
    ),
    "over i": (
        lambda x, y, b: weighted(x, y, b).sum(0),
        lambda x, y, b: (squares(x, y) * b.mT).sum(0)[:, None],
    ),
    "logsumexp": (
        lambda x, y, b: weighted(x, y, b).logsumexp(1),
        lambda x, y, b: (squares(x, y) * b.mT).logsumexp(1, keepdim=True),
    ),
    "softmax": (
        lambda x, y, b: (-lazy(x, y)).sumsoftmaxweight(LazyTensor(b, 1), axis=1),
        lambda x, y, b: torch.softmax(-squares(x, y), 1) @ b,
    ),
    "nearest": (
        lambda x, y, b: weighted(x, y, b).Kmin(2, 1),
        lambda x, y, b: (squares(x, y) * b.mT).topk(2, largest=False).values,
    ),
    "variance": (
        lambda x, y, b: weighted(x, y, b).var(1),
        lambda x, y, b: (squares(x, y) * b.mT).var(1, keepdim=True),
    ),
    "complex": (waves, dense_waves),
    "solution": (
        lambda x, y, b: x.sum() * gaussian(y, y).solve(b, alpha=0.5, eps=1e-14),
        dense_solution,
    ),
    "array": (
        lambda x, y, b: weighted(x, y, b).dense(),
        lambda x, y, b: squares(x, y) * b.mT,
    ),
    "mask": (
        lambda x, y, b: weighted(x, y, b).mask(x @ y.mT > 0.5).sum(1),
        lambda x, y, b: (squares(x, y) * b.mT * (x @ y.mT > 0.5)).sum(1, keepdim=True),
    ),
    "bias": (
        lambda x, y, b: weighted(x, y, b).bias(x @ y.mT).logsumexp(1),
        lambda x, y, b: (squares(x, y) * b.mT + x @ y.mT).logsumexp(1, keepdim=True),
    ),
}


def total(function: Function) -> Function:
    return lambda *args: (function(*args) ** 2).sum()


random = torch.Generator().manual_seed(0)
X, Y, B = (
    torch.rand(3, *shape, generator=random, dtype=torch.float64)
    for shape in ((M, 2), (N, 2), (N, 1))
)
FIRST, SECOND = (X[0], Y[0], B[0]), (X[1], Y[1], B[1])
ALL = (0, 1, 2)
TRANSFORMS: dict[str, Callable[[Function], Any]] = {
    "vmap": lambda f: vmap(f)(X, Y, B),
    "vmap of one": lambda f: vmap(f, (0, None, None), 1)(X, *FIRST[1:]),
    "other axes": lambda f: vmap(f, (2, -1, 0), -1)(X.movedim(0, 2), Y.movedim(0, -1), B),
    "nested": lambda f: vmap(vmap(f, (None, 0, 0)), (0, None, None))(X, Y, B),
    "gradients of samples": lambda f: vmap(grad(total(f), ALL))(X, Y, B),
    "gradient of a vmap": lambda f: grad(total(vmap(f)), ALL)(X, Y, B),
    "jacrev": lambda f: jacrev(f, ALL)(*FIRST),
    "jacfwd": lambda f: jacfwd(f, ALL)(*FIRST),
    "hessian": lambda f: hessian(total(f), ALL)(*FIRST),
    "jvp over jvp": lambda f: jvp(lambda *a: jvp(f, a, SECOND)[1], FIRST, SECOND),
}


@pytest.mark.sampled(144)
@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transforms(name: str, transform: str) -> None:
    ours, dense = (TRANSFORMS[transform](function) for function in PROGRAMS[name])
    torch.testing.assert_close(ours, dense, rtol=1e-7, atol=1e-8)
