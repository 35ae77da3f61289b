"""What the modules of redcomp.torch.nn compute, densely, in PyTorch: needs PyTorch.

Options are those of the modules; parameters come as the logarithms that the modules have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

Tensor = torch.Tensor


def differences(x: Tensor, y: Tensor) -> Tensor:
    """(..., M, N, D)."""
    return x[..., :, None, :] - y[..., None, :, :]


def root(square: Tensor) -> Tensor:
    """The square root, with the derivative 0 at 0."""
    is_zero = square == 0
    return torch.where(is_zero, 0.0, torch.where(is_zero, 1.0, square).sqrt())


def kernel(name: str, x: Tensor, y: Tensor, log: Mapping[str, Tensor]) -> Tensor:
    """(..., M, N)."""
    difference = differences(x, y)
    scaled = difference / log["lengthscale"].exp()
    square = (scaled**2).sum(-1)
    if name == "gaussian":
        return torch.exp(-square / 2)
    if name == "laplacian":
        return torch.exp(-scaled.abs().sum(-1))
    if name == "matern12":
        return torch.exp(-root(square))
    if name == "matern32":
        r = root(3 * square)
        return (1 + r) * torch.exp(-r)
    if name == "matern52":
        r = root(5 * square)
        return (1 + r + r**2 / 3) * torch.exp(-r)
    if name == "rational_quadratic":
        alpha = log["alpha"].exp()
        return (1 + square / (2 * alpha)) ** -alpha
    assert name == "periodic"
    sine = torch.sin(math.pi * difference / log["period"].exp())
    return torch.exp(-2 * (sine / log["lengthscale"].exp()).square().sum(-1))


def kernel_sum(
    x: Tensor, y: Tensor, b: Tensor, kernel_name: str, log: Mapping[str, Tensor]
) -> Tensor:
    scale = log["outputscale"].exp() if "outputscale" in log else 1.0
    return scale * (kernel(kernel_name, x, y, log) @ b)


def reduced(values: Tensor, reduction: str) -> Tensor:
    return {"mean": values.mean, "sum": values.sum, "none": values.clone}[reduction]()


def discrepancy(
    within_x: Tensor,
    within_y: Tensor,
    across: Tensor,
    a: Tensor | None,
    b: Tensor | None,
    unbiased: bool,
) -> Tensor:
    """E k(x, x') + E k(y, y') - 2 E k(x, y), from the arrays of k, with weights of points."""
    M, N = across.shape[-2:]
    a = torch.ones(M, dtype=across.dtype) if a is None else a
    b = torch.ones(N, dtype=across.dtype) if b is None else b

    def mean(values: Tensor, left: Tensor, right: Tensor, without_itself: bool) -> Tensor:
        weights = left[..., :, None] * right[..., None, :]
        if without_itself:
            weights = weights * (1 - torch.eye(values.shape[-1], dtype=values.dtype))
        return (weights * values).sum((-2, -1)) / weights.sum((-2, -1))

    within = mean(within_x, a, a, unbiased) + mean(within_y, b, b, unbiased)
    return within - 2 * mean(across, a, b, False)


def mmd(
    x: Tensor,
    y: Tensor,
    a: Tensor | None = None,
    b: Tensor | None = None,
    *,
    kernel_name: str,
    log: Mapping[str, Tensor],
    unbiased: bool = False,
    reduction: str = "mean",
) -> Tensor:
    def kernels(x: Tensor, y: Tensor) -> Tensor:
        scales = log["lengthscale"]
        each = [kernel(kernel_name, x, y, {**log, "lengthscale": scale}) for scale in scales]
        return torch.stack(each).sum(0)

    arrays = kernels(x, x), kernels(y, y), kernels(x, y)
    return reduced(discrepancy(*arrays, a, b, unbiased), reduction)


def energy(
    x: Tensor,
    y: Tensor,
    a: Tensor | None = None,
    b: Tensor | None = None,
    *,
    unbiased: bool = False,
    reduction: str = "mean",
) -> Tensor:
    pairs = ((x, x), (y, y), (x, y))
    arrays = [-root((differences(*pair) ** 2).sum(-1)) for pair in pairs]
    return reduced(discrepancy(arrays[0], arrays[1], arrays[2], a, b, unbiased), reduction)


def chamfer(
    x: Tensor,
    y: Tensor,
    *,
    squared: bool = True,
    directions: str = "sum",
    reduction: str = "mean",
) -> Any:
    squares = (differences(x, y) ** 2).sum(-1)
    array = squares if squared else root(squares)
    there = reduced(array.min(-1).values, reduction)
    if directions == "x_to_y":
        return there
    back = reduced(array.min(-2).values, reduction)
    is_pair = directions == "both" or reduction == "none"
    return (there, back) if is_pair else there + back


def soft_nearest(x: Tensor, y: Tensor, values: Tensor, log: Mapping[str, Tensor]) -> Tensor:
    scores = -(differences(x, y) ** 2).sum(-1) / log["temperature"].exp()
    return torch.softmax(scores, -1) @ values


def soft_nearest_loss(
    x: Tensor, labels: Tensor, log: Mapping[str, Tensor], reduction: str = "mean"
) -> Tensor:
    """The loss of each point, by loops."""
    M = x.shape[-2]
    temperature = log["temperature"].exp()
    losses, count = [], 0
    batch = x.shape[:-2]
    for points, classes in zip(
        x.reshape(-1, *x.shape[-2:]), labels.expand(*batch, M).reshape(-1, M), strict=True
    ):
        for i in range(M):
            terms = torch.exp(-((points[i] - points) ** 2).sum(-1) / temperature)
            others = torch.arange(M) != i
            same = others & (classes == classes[i])
            count += int(same.any())
            ratio = terms[same].sum() / terms[others].sum()
            losses.append(-ratio.log() if same.any() else terms.sum() * 0)
    stacked = torch.stack(losses).reshape(*batch, M)
    return stacked.sum() / count if reduction == "mean" else reduced(stacked, reduction)
