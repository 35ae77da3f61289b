"""KernelSolve with ranges and in batches, against dense float64 solves: needs the CPU, PyTorch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

import redcomp.numpy
import redcomp.torch
from redcomp.numpy import cluster

FORMULA = "Exp(-g * SqDist(x, y)) * b"
ALIASES = ["x = Vi(2)", "y = Vj(2)", "b = Vj(1)", "g = Pm(1)"]
ALPHA = 0.3
# Three blocks of rows; the kept pairs of blocks are symmetric, and those on the diagonal.
ENDS = (0, 7, 30, 41)
KEPT = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]], bool)


def points(*batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x, b = rng.random((*batch, ENDS[-1], 2)), rng.random((*batch, ENDS[-1], 1))
    return x, b, np.array([3.0])


def dense(x: torch.Tensor, b: torch.Tensor, g: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The solution, differentiable."""
    squares = ((x[..., :, None, :] - x[..., None, :, :]) ** 2).sum(-1)
    kernel = torch.exp(-g * squares) * mask
    return torch.linalg.solve(kernel + ALPHA * torch.eye(len(mask), dtype=x.dtype), b)


def blocks() -> tuple[tuple[np.ndarray, ...], torch.Tensor]:
    """The ranges of the kept blocks, and the same as a mask over all pairs."""
    ranges = np.array(list(itertools.pairwise(ENDS)))
    heights = np.diff(ENDS)
    mask = np.repeat(np.repeat(KEPT, heights, 0), heights, 1)
    return cluster.from_matrix(ranges, ranges, KEPT), torch.from_numpy(mask).double()


@pytest.mark.sampled(18)
@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")  # of forward mode, itself
@pytest.mark.parametrize("batch", [(), (3,), (2, 1)])
@pytest.mark.parametrize("has_ranges", [False, True])
def test_solution_and_derivatives(has_ranges: bool, batch: tuple[int, ...]) -> None:
    ranges, mask = blocks()
    leaves = [torch.from_numpy(a).requires_grad_() for a in points(*batch)]
    x, b, g = leaves
    solve = redcomp.torch.KernelSolve(FORMULA, ALIASES, "b", axis=1)
    given = ranges if has_ranges else None
    found = solve(x, x, b, g, alpha=ALPHA, eps=1e-12, ranges=given)
    expected = dense(x, b, g, mask if has_ranges else torch.ones_like(mask))
    assert (found - expected).abs().max() < 1e-9
    moves = tuple(t.detach().cos() for t in leaves)
    tangents = [
        torch.func.jvp(f, tuple(t.detach() for t in leaves), moves)[1]
        for f in (
            lambda x, b, g: solve(x, x, b, g, alpha=ALPHA, eps=1e-12, ranges=given),
            lambda x, b, g: dense(x, b, g, mask if has_ranges else torch.ones_like(mask)),
        )
    ]
    torch.testing.assert_close(*tangents, rtol=1e-7, atol=1e-8)
    e = torch.randn(found.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    computed, right = (torch.autograd.grad(a, leaves, e) for a in (found, expected))
    for part, exact in zip(computed, right, strict=True):
        assert (part - exact).abs().max() < 1e-8 * (1 + exact.abs().max())


def test_numpy_agrees() -> None:
    ranges, mask = blocks()
    x, b, g = points()
    solve = redcomp.numpy.KernelSolve(FORMULA, ALIASES, "b", axis=1)
    found = solve(x, x, b, g, alpha=ALPHA, eps=1e-12, ranges=ranges)
    expected = dense(*(torch.from_numpy(a) for a in (x, b, g)), mask)
    assert np.abs(found - expected.numpy()).max() < 1e-9
