"""Kernels, neighbours, densities and transport as in KeOps' gallery: needs the CPU, PyTorch.

Each is small, in our own words, and compared with the same computation on dense float64 arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from gallery import (
    B,
    Tensor,
    X,
    Y,
    close,
    lazy_squares,
    leaves,
    numbers,
    same_gradients,
    squared_distances,
)

from redcomp.torch import LazyTensor, Pm, Vi, Vj

SCALAR_KERNELS: dict[str, tuple[Callable[[Any], Any], Callable[[Tensor], Tensor]]] = {
    "gaussian": (lambda d: (-d / 2).exp(), lambda d: (-d / 2).exp()),
    "laplacian": (lambda d: (-d.sqrt()).exp(), lambda d: (-d.sqrt()).exp()),
    "cauchy": (lambda d: 1 / (1 + d), lambda d: 1 / (1 + d)),
    "energy": (lambda d: -d.sqrt(), lambda d: -d.sqrt()),
    "inverse multiquadric": (lambda d: (1 + d).rsqrt(), lambda d: (1 + d).rsqrt()),
    "matern": (
        lambda d: (1 + (3 * d).sqrt()) * (-((3 * d).sqrt())).exp(),
        lambda d: (1 + (3 * d).sqrt()) * (-((3 * d).sqrt())).exp(),
    ),
}


# -- products with kernels -------------------------------------------------------------------------


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", SCALAR_KERNELS)
def test_kernel_products_and_all_their_gradients(name: str) -> None:
    lazy, dense = SCALAR_KERNELS[name]
    given = leaves(X, Y, B)
    expected = dense(squared_distances(*given[:2])) @ given[2]
    result = lazy(lazy_squares(*given[:2])) @ given[2]
    close(result, expected)
    weights = numbers(11, 2, seed=3)
    same_gradients((result * weights).sum(), (expected * weights).sum(), given)


def test_anisotropic_kernels_have_a_scale_for_each_coordinate_or_a_matrix() -> None:
    x, y = Vi(X), Vj(Y)
    scales, root = numbers(3, seed=4).abs() + 0.5, numbers(3, 3, seed=5)
    matrix = root @ root.T
    difference = X[:, None] - Y
    dense = (-(difference**2 * scales).sum(-1)).exp() @ B
    close((-(x - y).weightedsqnorm(Pm(scales))).exp() @ B, dense)
    close((-x.weightedsqdist(y, Pm(scales))).exp() @ B, dense)
    full = torch.einsum("ijk,kl,ijl->ij", difference, matrix, difference)
    close((-(x - y).weightedsqnorm(Pm(matrix.flatten()))).exp() @ B, (-full).exp() @ B)
    # A matrix for each point.
    matrices = torch.stack([matrix * (1 + n / 10) for n in range(11)])
    each = torch.einsum("ijk,ikl,ijl->ij", difference, matrices, difference)
    close((-(x - y).weightedsqnorm(Vi(matrices.flatten(1)))).exp() @ B, (-each).exp() @ B)


def test_matrix_valued_kernels_multiply_vectors() -> None:
    """The kernel of curl-free fields: the Hessian of a Gaussian."""
    vectors = numbers(9, 3, seed=6)
    x, y, b = Vi(X), Vj(Y), Vj(vectors)
    difference = X[:, None] - Y
    gaussian = (-squared_distances(X, Y) / 2).exp()
    dense = torch.einsum("ij,ijk->ik", gaussian, vectors[None].expand(11, 9, 3)) - torch.einsum(
        "ij,ijk,ijl,jl->ik", gaussian, difference, difference, vectors
    )
    lazy = (-((x - y) ** 2).sum(-1) / 2).exp()
    close((lazy * (b - (x - y) * ((x - y) | b))).sum(axis=1), dense)
    outer = (x - y).tensorprod(x - y).matvecmult(b)
    close((lazy * (b - outer)).sum(axis=1), dense)


def test_kernels_of_directions_on_the_sphere() -> None:
    x, y = Vi(X).normalize(), Vj(Y).normalize()
    cosine = torch.nn.functional.normalize(X) @ torch.nn.functional.normalize(Y).T
    close(((x | y) * 2).exp() @ B, (2 * cosine).exp() @ B)
    close((x | y).clamp(-0.9, 0.9).acos() @ B, cosine.clamp(-0.9, 0.9).acos() @ B)


def test_batches_of_point_clouds() -> None:
    x, y, b = numbers(2, 3, 6, 3), numbers(2, 1, 5, 3, seed=1), numbers(2, 3, 5, 2, seed=2)
    close((-lazy_squares(x, y)).exp() @ b, (-squared_distances(x, y)).exp() @ b)
    close((-lazy_squares(x, y)).logsumexp(dim=3)[..., 0], (-squared_distances(x, y)).logsumexp(3))
    shapes = lazy_squares(x, y)
    assert shapes.shape == (2, 3, 6, 5)


def test_convolutions_on_a_grid_with_a_filter_of_parameters() -> None:
    """Each pixel has the sum of others, weighted by the distance; the width is a parameter."""
    axis = torch.linspace(0, 1, 5, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    image, width = numbers(25, 1, seed=7), torch.tensor([0.3], dtype=torch.float64)
    given = leaves(image, width)
    lazy = (-(Vi(grid).sqdist(Vj(grid))) / (2 * Pm(given[1]) ** 2)).exp() @ given[0]
    dense = (-squared_distances(grid, grid) / (2 * given[1] ** 2)).exp() @ given[0]
    close(lazy, dense)
    same_gradients((lazy**2).sum(), (dense**2).sum(), given)


# -- nearest neighbours, classification, clusters --------------------------------------------------


@pytest.mark.sampled(4)
@pytest.mark.parametrize("metric", ["euclidean", "manhattan", "angular", "hyperbolic"])
def test_nearest_neighbours_for_several_metrics(metric: str) -> None:
    x, y = X.abs() + 0.1, Y.abs() + 0.1
    x_i, y_j = LazyTensor(x[:, None]), LazyTensor(y[None])
    squares = squared_distances(x, y)
    lazy, dense = {
        "euclidean": (((x_i - y_j) ** 2).sum(-1), squares),
        "manhattan": ((x_i - y_j).abs().sum(-1), (x[:, None] - y).abs().sum(-1)),
        "angular": (-(x_i | y_j), -(x @ y.T)),
        "hyperbolic": (
            ((x_i - y_j) ** 2).sum(-1) / (x_i[0] * y_j[0]),
            squares / (x[:, None, 0] * y[:, 0]),
        ),
    }[metric]
    values, places = dense.topk(4, dim=1, largest=False)
    close(lazy.argKmin(4, dim=1), places)
    close(lazy.Kmin(4, dim=1), values)
    close(lazy.argmin(dim=1)[:, 0], places[:, 0])
    close(lazy.min(dim=1)[:, 0], values[:, 0])


def test_classification_by_the_labels_of_neighbours() -> None:
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2])
    votes = labels[lazy_squares(X, Y).argKmin(3, dim=1)]
    expected = labels[squared_distances(X, Y).topk(3, largest=False).indices]
    assert torch.equal(votes.mode(1).values, expected.mode(1).values)


def test_k_means_by_alternation() -> None:
    points = numbers(60, 2, seed=8)
    lazy, dense = points[:4].clone(), points[:4].clone()
    for _ in range(6):
        labels = lazy_squares(points, lazy).argmin(dim=1).view(-1)
        expected = squared_distances(points, dense).argmin(1)
        assert torch.equal(labels, expected)
        sums = torch.zeros(4, 2, dtype=torch.float64).scatter_add_(
            0, labels[:, None].repeat(1, 2), points
        )
        lazy = sums / torch.bincount(labels, minlength=4)[:, None]
        dense = torch.stack([points[expected == n].mean(0) for n in range(4)])
    close(lazy, dense)


def test_k_means_with_angles() -> None:
    points = torch.nn.functional.normalize(numbers(40, 4, seed=9))
    centres = points[:3]
    lazy = (LazyTensor(points[:, None]) | LazyTensor(centres[None])).argmax(dim=1)
    assert torch.equal(lazy.view(-1), (points @ centres.T).argmax(1))


# -- densities -------------------------------------------------------------------------------------


def test_gaussian_mixtures_and_their_gradients() -> None:
    """The logarithm of the likelihood, with weights and a matrix of precision for each centre."""
    given = leaves(Y[:4, :2], numbers(4, 2, 2, seed=10), numbers(4, seed=11))
    points = X[:, :2]

    def precisions(roots: Tensor) -> Tensor:
        return roots @ roots.transpose(1, 2) + torch.eye(2, dtype=roots.dtype)

    def constants(roots: Tensor, logits: Tensor) -> Tensor:
        return logits.log_softmax(0) + precisions(roots).logdet() / 2 - math.log(2 * math.pi)

    def lazy(centres: Tensor, roots: Tensor, logits: Tensor) -> Tensor:
        matrices = Vj(precisions(roots).flatten(1))
        exponents = -(Vi(points) - Vj(centres)).weightedsqnorm(matrices) / 2
        terms = exponents + Vj(constants(roots, logits)[:, None])
        result: Tensor = terms.logsumexp(axis=1).sum()
        return result

    def dense(centres: Tensor, roots: Tensor, logits: Tensor) -> Tensor:
        difference = points[:, None] - centres
        forms = torch.einsum("ijk,jkl,ijl->ij", difference, precisions(roots), difference)
        return (constants(roots, logits) - forms / 2).logsumexp(1).sum()

    result, expected = lazy(*given), dense(*given)
    close(result, expected)
    same_gradients(result, expected, given)


def test_logsumexp_with_weights_is_that_of_a_weighted_mixture() -> None:
    weights = B.abs() + 0.1
    given = leaves(X, Y, weights)
    result = (-lazy_squares(*given[:2])).logsumexp(dim=1, weight=Vj(given[2]))
    expected = ((-squared_distances(*given[:2])).exp() @ given[2]).log()
    close(result, expected)
    same_gradients(result.sum(), expected.sum(), given)


def test_kernel_density_of_far_points_does_not_underflow() -> None:
    far = X + 100.0
    lazy = (-lazy_squares(far, Y) / (2 * 0.1**2)).logsumexp(dim=1)[:, 0]
    close(lazy, (-squared_distances(far, Y) / (2 * 0.1**2)).logsumexp(1))


def test_regression_by_weighted_means() -> None:
    """Nadaraya and Watson: by two sums, and by one reduction."""
    kernel = (-lazy_squares(X, Y)).exp()
    dense = (-squared_distances(X, Y)).exp()
    expected = dense @ B / dense.sum(1, keepdim=True)
    close(kernel @ B / kernel.sum(dim=1), expected)
    close((-lazy_squares(X, Y)).sumsoftmaxweight(LazyTensor(B[None]), dim=1), expected)


# -- attention -------------------------------------------------------------------------------------


def test_attention_of_several_heads_and_its_gradients() -> None:
    given = leaves(numbers(2, 6, 4), numbers(2, 5, 4, seed=1), numbers(2, 5, 3, seed=2))
    queries, keys, values = given
    scores = (LazyTensor(queries[:, :, None]) | LazyTensor(keys[:, None])) / math.sqrt(4)
    result = scores.sumsoftmaxweight(LazyTensor(values[:, None]), dim=2)
    expected = (queries @ keys.transpose(1, 2) / math.sqrt(4)).softmax(-1) @ values
    close(result, expected)
    same_gradients((result**2).sum(), (expected**2).sum(), given)


def test_attention_to_the_past_by_a_condition_on_positions() -> None:
    queries, keys, values = numbers(6, 4), numbers(6, 4, seed=1), numbers(6, 3, seed=2)
    time = torch.arange(6, dtype=torch.float64)[:, None]
    is_past = Vi(time) - Vj(time)
    scores = is_past.ifelse((Vi(queries) | Vj(keys)), LazyTensor(-1e30))
    mask = torch.ones(6, 6).triu(1).bool()
    expected = (queries @ keys.T).masked_fill(mask, -math.inf).softmax(1) @ values
    close(scores.sumsoftmaxweight(Vj(values), axis=1), expected)


# -- optimal transport -----------------------------------------------------------------------------


def test_sinkhorn_in_the_logarithmic_domain() -> None:
    """Potentials, transported points, cost and its gradient."""
    epsilon, steps = 0.5, 8
    log_a = torch.full((11,), -math.log(11), dtype=torch.float64)
    log_b = torch.full((9,), -math.log(9), dtype=torch.float64)
    given = leaves(X)

    def lazy(x: Tensor) -> tuple[Tensor, Tensor]:
        cost, g = lazy_squares(x, Y) / 2, torch.zeros_like(log_b)
        for _ in range(steps):
            f = -epsilon * ((Vj((g / epsilon + log_b)[:, None]) - cost / epsilon).logsumexp(1))
            g = -epsilon * (Vi((f[:, 0] / epsilon + log_a)[:, None]) - cost / epsilon).logsumexp(0)
            g = g[:, 0]
        plan = (Vi(f) + Vj(g[:, None]) - cost) / epsilon
        moved = plan.sumsoftmaxweight(Vj(Y), axis=1)
        return (f[:, 0] * log_a.exp()).sum() + (g * log_b.exp()).sum(), moved

    def dense(x: Tensor) -> tuple[Tensor, Tensor]:
        cost, g = squared_distances(x, Y) / 2, torch.zeros_like(log_b)
        for _ in range(steps):
            f = -epsilon * (g / epsilon + log_b - cost / epsilon).logsumexp(1)
            g = -epsilon * ((f / epsilon + log_a)[:, None] - cost / epsilon).logsumexp(0)
        moved = ((f[:, None] + g - cost) / epsilon).softmax(1) @ Y
        return (f * log_a.exp()).sum() + (g * log_b.exp()).sum(), moved

    result, expected = lazy(given[0]), dense(given[0])
    close(result[0], expected[0])
    close(result[1], expected[1])
    same_gradients(result[0], expected[0], given)


def test_sinkhorn_by_scaling() -> None:
    kernel, dense = (-lazy_squares(X, Y)).exp(), (-squared_distances(X, Y)).exp()
    u, v = torch.ones(11, dtype=torch.float64), torch.ones(9, dtype=torch.float64)
    right_u, right_v = u, v
    for _ in range(5):
        u, v = 1 / (kernel @ v), v
        v = 1 / (kernel.T @ u)
        right_u = 1 / (dense @ right_v)
        right_v = 1 / (dense.T @ right_u)
    close(u, right_u)
    close(v, right_v)


def test_maximum_mean_discrepancies_are_differences_of_products() -> None:
    """With the kernel of the energy distance, whose derivative at equal points is 0."""
    given = leaves(X)
    a, b = torch.ones(11).double() / 11, torch.ones(9).double() / 9

    def norm(weights: Tensor, x: Tensor, y: Tensor, others: Tensor) -> Tensor:
        result: Tensor = weights @ (-(Vi(x) - Vj(y)).norm2() @ others)
        return result

    x = given[0]
    result = norm(a, x, x, a) / 2 - norm(a, x, Y, b) + norm(b, Y, Y, b) / 2
    safe = torch.where(torch.eye(11).bool(), torch.ones(()).double(), squared_distances(x, x))
    within = torch.where(torch.eye(11).bool(), torch.zeros(()).double(), safe.sqrt())
    dense = -within.sum() / 242 + squared_distances(x, Y).sqrt().mean()
    dense = dense - squared_distances(Y, Y).sqrt().sum() / 162
    close(result, dense)
    same_gradients(result, dense, given)
