"""Tours of what LazyTensors can say, as in KeOps' gallery: needs the CPU, PyTorch.

Each is small, in our own words, and compared with the same computation on dense float64 arrays.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
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

import redcomp.numpy
from redcomp.torch import Genred, LazyTensor, Pm, Vi, Vj

# -- reductions of scalars and of vectors ----------------------------------------------------------

SQUARES, DIFFERENCES = squared_distances(X, Y), X[:, None] - Y


@pytest.mark.thorough
def test_every_reduction_of_scalars_and_of_vectors() -> None:
    vectors = LazyTensor(X[:, None]) - LazyTensor(Y[None])
    scalars = (vectors**2).sum(-1)
    close(scalars.sum(dim=1)[:, 0], SQUARES.sum(1))
    close(vectors.sum(axis=0), DIFFERENCES.sum(0))
    close(scalars.logsumexp(dim=0)[:, 0], SQUARES.logsumexp(0))
    close(scalars.min(dim=0)[:, 0], SQUARES.amin(0))
    close(vectors.argmax(dim=1), DIFFERENCES.argmax(1))
    for (values, places), dense, dim in (
        (scalars.min_argmin(dim=0), SQUARES[..., None].min(0), 0),
        (vectors.max_argmax(dim=1), DIFFERENCES.max(1), 1),
    ):
        close(values, dense.values)
        close(places, dense.indices)
        assert len(values) == (9, 11)[dim]
    close(scalars.Kmin(K=5, dim=0), SQUARES.T.sort(dim=1).values[:, :5])
    close(vectors.argKmin(K=7, dim=1), DIFFERENCES.argsort(dim=1, stable=True)[:, :7])
    values, places = vectors.Kmin_argKmin(K=2, dim=0)
    ordered = DIFFERENCES.transpose(0, 1).sort(dim=1, stable=True)
    close(values, ordered.values[:, :2])
    close(places, ordered.indices[:, :2])
    close(scalars.sumsoftmaxweight(vectors, dim=1), torch.einsum(
        "ij,ijk->ik", SQUARES.softmax(1), DIFFERENCES))  # fmt: skip


def test_weights_of_logsumexp_may_be_vectors_of_pairs() -> None:
    vectors = LazyTensor(X[:, None]) - LazyTensor(Y[None])
    result = (vectors**2).sum(-1).logsumexp(dim=1, weight=vectors**2)
    close(result, torch.einsum("ij,ijk->ik", SQUARES.exp(), DIFFERENCES**2).log())


# -- other ways to write ---------------------------------------------------------------------------


def test_reductions_have_names_of_their_own() -> None:
    distances = ((Vi(X) - Vj(Y)) ** 2).sum()
    close(distances.sum_reduction(dim=1)[:, 0], SQUARES.sum(1))
    close(distances.argmin_reduction(axis=0)[:, 0], SQUARES.argmin(0))
    close(
        (abs(Vi(X) | Vj(Y)) ** 1.5).sumsoftmaxweight(Vj(Y), axis=1),
        ((X @ Y.T).abs() ** 1.5).softmax(1) @ Y,
    )


def test_slices_are_vectors() -> None:
    x, y = Vi(X), Vj(Y)
    lazy = (x[:2] * y[1:] - x[1:] * y[:2]).sqnorm2().sum(axis=1)
    dense = X[:, None, :2] * Y[:, 1:] - X[:, None, 1:] * Y[:, :2]
    close(lazy[:, 0], (dense**2).sum((1, 2)))


def test_methods_are_functions_of_the_class() -> None:
    distances = LazyTensor.sum((Vi(X) - Vj(X)) ** 2)
    kernel = LazyTensor.exp(-distances / 0.25**2)
    matrix = (-squared_distances(X, X) / 0.25**2).exp() + 0.1 * torch.eye(11).double()
    values = numbers(11, 2, seed=3)
    solved = LazyTensor.solve(kernel, Vi(values), alpha=0.1, eps=1e-12)
    close(solved, torch.linalg.solve(matrix, values), 1e-8)


def test_sums_of_kernels_by_a_loop_or_by_a_vector_of_widths() -> None:
    given = leaves(torch.tensor([0.5, 1.0, 2.0, 4.0]).double(), B)
    widths, vectors = given
    distances = ((Vi(X) - Vj(Y)) ** 2).sum()
    dense = (-SQUARES[..., None] / widths**2).exp().sum(-1) @ vectors
    looped: Any = 0
    for width in widths:
        looped += LazyTensor.exp(-distances / width**2)
    together = LazyTensor.exp(-distances / widths**2).sum()
    for kernel in (looped, together):
        result = (kernel * Vj(vectors)).sum_reduction(axis=1)
        close(result, dense)
        found = torch.autograd.grad((result**2).sum(), given)
        right = torch.autograd.grad((dense**2).sum(), given, retain_graph=True)
        for one, other in zip(found, right, strict=True):
            close(one, other)


def test_reductions_are_functions_where_they_are_not_called() -> None:
    widths = torch.tensor([0.5, 2.0]).double()
    dense = (-SQUARES[..., None] / widths**2).exp().sum(-1) @ B

    def of(x: Any, y: Any, b: Any, widths: Any) -> Any:
        kernel = LazyTensor.exp(-LazyTensor.sum((x - y) ** 2) / widths**2).sum()
        return kernel * b

    later = of(Vi(X), Vj(Y), Vj(B), widths).sum_reduction(axis=1, call=False)
    close(later(), dense)
    symbols = of(Vi(0, 3), Vj(1, 3), Vj(2, 2), Pm(3, 2)).sum_reduction(axis=1)
    close(symbols(X, Y, B, widths), dense)
    mixed = of(Vi(X), Vj(0, 3), Vj(B), widths).sum_reduction(axis=1)
    close(mixed(Y), dense)
    assert "Sum" in repr(mixed)


def test_results_of_calls_follow_arrays_that_change() -> None:
    points = X.clone()
    later = ((Vi(points) - Vj(Y)) ** 2).sum().sum(axis=1, call=False)
    close(later()[:, 0], SQUARES.sum(1))
    points += 1.0
    close(later()[:, 0], squared_distances(X + 1, Y).sum(1))


# -- tensors in vectors ----------------------------------------------------------------------------


@pytest.mark.sampled(6)
@pytest.mark.parametrize(
    ("shape", "other", "summed", "other_summed"),
    [
        ((4, 7), (7,), (1,), (0,)),
        ((4, 7), (7, 2), (1,), (0,)),
        ((4, 7, 3), (7, 2), (1,), (0,)),
        ((4, 3, 2), (4, 2), (0, 2), (0, 1)),
        ((2, 3, 4), (2, 4, 5), (2, 0), (1, 0)),
        ((2, 3, 4, 2), (2, 4, 3, 2), (0, 1, 3), (0, 2, 3)),
    ],
)
def test_contractions_and_their_gradients(
    shape: tuple[int, ...],
    other: tuple[int, ...],
    summed: tuple[int, ...],
    other_summed: tuple[int, ...],
) -> None:
    given = leaves(numbers(2, *shape), numbers(5, *other, seed=1))
    x, y = given
    axes = ([n + 1 for n in summed], [n + 1 for n in other_summed])
    kept = len(shape) - len(summed)
    dense = torch.tensordot(x, y, dims=axes).sum(1 + kept).flatten(1)
    x_i = LazyTensor(x.reshape(2, 1, math.prod(shape)))
    y_j = LazyTensor(y.reshape(1, 5, math.prod(other)))
    lazy = x_i.keops_tensordot(y_j, shape, other, summed, other_summed).sum_reduction(dim=1)
    close(lazy, dense)
    weights = numbers(*dense.shape, seed=2)
    same_gradients((lazy * weights).sum(), (dense * weights).sum(), given)


def test_one_matrix_and_one_vector_are_parameters() -> None:
    matrix, vector = numbers(28), numbers(7, seed=1)
    lazy = LazyTensor(matrix[None, None]).keops_tensordot(
        LazyTensor(vector[None, None]), (4, 7), (7,), (1,), (0,)
    )
    close(lazy.sum_reduction(dim=1), (matrix.reshape(4, 7) @ vector)[None])


def test_components_of_parameters_weigh_vectors() -> None:
    given = leaves(numbers(2, seed=3), X, Y)
    p, x, y = given
    formula = "Square((X|Y)) * ((Elem(P, 0) * X) + (Elem(P, 1) * Y))"
    by_formula = Genred(formula, ["P = Pm(2)", "X = Vi(3)", "Y = Vj(3)"], axis=1)(p, x, y)
    scalars = (x @ y.T) ** 2
    dense = p[0] * scalars.sum(1, keepdim=True) * x + p[1] * (scalars @ y)
    close(by_formula, dense)
    weights = Pm(p)
    products = (Vi(x) | Vj(y)) ** 2
    lazy = (products * (weights[0] * Vi(x) + weights[1] * Vj(y))).sum(axis=1)
    close(lazy, dense)
    same_gradients((lazy**2).sum(), (dense**2).sum(), given)


# -- smoothing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["gaussian", "quadratic"])
def test_smoothing_on_a_grid_and_its_variance(kernel: str) -> None:
    random, width = np.random.default_rng(5), 0.8
    x = np.sort(random.uniform(-2, 2, 30))
    y = np.sin(x) + 0.1 * random.normal(size=30)
    grid = np.linspace(-2, 2, 9)

    def lazy(places: Any) -> Any:
        x_j = redcomp.numpy.LazyTensor(x[None, :, None])
        i = redcomp.numpy.LazyTensor(places[:, None, None])
        squares = ((i - x_j) ** 2).sum(dim=2)
        weights = (-squares / (2 * width**2)).exp()
        if kernel == "quadratic":
            weights = (squares < width**2) * (1 - squares.sqrt() / width) ** 2
        return weights / weights.sum(dim=1)[:, None]

    def dense(places: Any) -> Any:
        squares = (places[:, None] - x) ** 2
        weights = np.exp(-squares / (2 * width**2))
        if kernel == "quadratic":
            weights = (squares < width**2) * (1 - np.sqrt(squares) / width) ** 2
        return weights / weights.sum(1, keepdims=True)

    np.testing.assert_allclose(lazy(grid) @ y, dense(grid) @ y, rtol=1e-12)
    residuals = (y - lazy(x) @ y) ** 2
    np.testing.assert_allclose(
        lazy(grid) @ residuals, dense(grid) @ (y - dense(x) @ y) ** 2, rtol=1e-10
    )


# -- surfaces --------------------------------------------------------------------------------------

FACES = torch.tensor([[0, 1, 2], [1, 2, 3], [2, 3, 4], [4, 5, 6], [5, 6, 7], [7, 8, 0]])


def surface(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each face the centre, the area and the direction."""
    corners = [points[FACES[:, n]] for n in range(3)]
    normals = torch.linalg.cross(corners[1] - corners[0], corners[2] - corners[0]) / 2
    areas = (normals**2).sum(1, keepdim=True).sqrt()
    return (corners[0] + corners[1] + corners[2]) / 3, areas, normals / areas


def test_distances_of_surfaces_to_which_a_flow_leads() -> None:
    """A kernel of centres and directions, weighted by areas; its gradient moves the points."""
    target = surface(numbers(9, 3, seed=6))

    def dense_product(a: Any, b: Any) -> Tensor:
        kernel = (-squared_distances(a[0], b[0])).exp() * (a[2] @ b[2].T) ** 2
        return (a[1].T @ kernel @ b[1]).sum()

    def lazy_product(a: Any, b: Any) -> Tensor:
        kernel = (-lazy_squares(a[0], b[0])).exp() * (Vi(a[2]) | Vj(b[2])) ** 2
        result: Tensor = (a[1] * (kernel @ b[1])).sum()
        return result

    def distance(product: Any, points: Tensor) -> Tensor:
        moving = surface(points)
        result: Tensor = product(moving, moving) - 2 * product(moving, target)
        return result + product(target, target)

    outcomes = []
    for product in (lazy_product, dense_product):
        points = numbers(9, 3, seed=7)
        for _ in range(3):
            points.requires_grad_()
            value = distance(product, points)
            (slope,) = torch.autograd.grad(value, points)
            points = (points - 0.05 * slope).detach()
        outcomes.append((value, points))
    for one, other in zip(*outcomes, strict=True):
        close(one, other)


# -- complex numbers -------------------------------------------------------------------------------


def test_fourier_sums_at_any_frequencies_and_their_gradients() -> None:
    """Waves of given amplitudes, and the densities that are seen of them."""
    given = leaves(X, Y, torch.complex(B, B.flip(0)))
    x, frequencies, amplitudes = given
    lazy = ((Vi(x) | Vj(frequencies)).exp1j() * Vj(amplitudes)).sum(axis=1)
    dense = torch.exp(1j * (x @ frequencies.T)) @ amplitudes
    close(lazy, dense)
    same_gradients((lazy.abs() ** 2).sum(), (dense.abs() ** 2).sum(), given)


def test_parts_of_complex_products() -> None:
    a, b = torch.complex(X, X.flip(0)), torch.complex(Y, Y.flip(0))
    lazy, dense = Vi(a) * Vj(b).conj(), a[:, None] * b.conj()
    for one, right in (
        (lazy.real, dense.real),
        (lazy.imag, dense.imag),
        (lazy.abs(), dense.abs()),
        (lazy.angle(), dense.angle()),
    ):
        close(one.max(axis=1), right.amax(1))
        close(one.sum(axis=0), right.sum(0))
