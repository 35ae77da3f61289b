"""Flows, systems, spectra and blocks as in KeOps' gallery: needs the CPU, PyTorch.

Each is small, in our own words, and compared with the same computation on dense float64 arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from gallery import (
    Array,
    B,
    Tensor,
    X,
    Y,
    close,
    lazy_squares,
    leaves,
    numbers,
    squared_distances,
)

import redcomp.numpy
import redcomp.torch
from redcomp.numpy import cluster
from redcomp.torch import LazyTensor, Vi, Vj

# -- flows -----------------------------------------------------------------------------------------


def test_stein_variational_gradient_descent() -> None:
    """Particles that follow a density, and push each other away."""
    x = numbers(12, 2, seed=12)

    def lazy_step(x: Tensor) -> Tensor:
        kernel = (-lazy_squares(x, x) / 2).exp()
        scores = LazyTensor(-x[None])
        pushes = LazyTensor(x[:, None]) - LazyTensor(x[None])
        result: Tensor = (kernel * (scores + pushes)).sum(dim=1) / 12
        return result

    def dense_step(x: Tensor) -> Tensor:
        kernel = (-squared_distances(x, x) / 2).exp()
        return (kernel @ -x + (kernel[..., None] * (x[:, None] - x)).sum(1)) / 12

    lazy, dense = x, x
    for _ in range(5):
        lazy, dense = lazy + 0.3 * lazy_step(lazy), dense + 0.3 * dense_step(dense)
    close(lazy, dense)


def test_bodies_that_attract_each_other() -> None:
    """Forces that are softened at short distances, which are minus the energy's gradient."""
    masses = numbers(11, 1, seed=13).abs()
    (x,) = leaves(X)
    squares = lazy_squares(x, x) + 0.01
    forces = ((Vj(x) - Vi(x)) * Vj(masses) * squares.rsqrt() ** 3).sum(axis=1)
    difference = X[None] - X[:, None]
    distance = (squared_distances(X, X) + 0.01).sqrt()
    dense = (difference * (masses[:, 0] / distance**3)[..., None]).sum(1)
    close(forces, dense)
    energy = -(masses[:, 0] * (squares.rsqrt() @ masses[:, 0])).sum() / 2
    (slope,) = torch.autograd.grad(energy, x)
    close(-slope / masses, dense)


def test_geodesics_of_landmarks() -> None:
    """Hamilton's equations of points with a Gaussian kernel; a derivative of a derivative."""

    def hamiltonian(kernel: Callable[..., Any], q: Tensor, p: Tensor) -> Tensor:
        return (p * kernel(q, p)).sum() / 2

    def lazy(q: Tensor, p: Tensor) -> Any:
        return (-lazy_squares(q, q)).exp() @ p

    def dense(q: Tensor, p: Tensor) -> Tensor:
        return (-squared_distances(q, q)).exp() @ p

    outcomes = []
    for kernel in (lazy, dense):
        (start,) = leaves(numbers(11, 3, seed=14))
        q, p = X.clone().requires_grad_(), start
        for _ in range(3):
            dq, dp = torch.autograd.grad(hamiltonian(kernel, q, p), (q, p), create_graph=True)
            q, p = q + 0.1 * dp, p - 0.1 * dq
        outcomes.append((q, torch.autograd.grad(((q - 1) ** 2).sum(), start)[0]))
    for one, right in zip(*outcomes, strict=True):
        close(one, right)


# -- symbolic derivatives --------------------------------------------------------------------------


def test_symbolic_gradients_are_those_of_autograd() -> None:
    (x,) = leaves(X)
    x_i, y_j, b_j = Vi(x), Vj(Y), Vj(B[:, :1])
    kernel = (-((x_i - y_j) ** 2).sum(-1)).exp()
    symbolic = kernel.grad(x_i, b_j).sum(axis=1)
    (dense,) = torch.autograd.grad(((-squared_distances(x, Y)).exp() @ B[:, 0]).sum(), x)
    close(symbolic, dense)


def test_symbolic_divergences_and_laplacians() -> None:
    x_i, y_j = Vi(X), Vj(Y)
    squares, gaussian = squared_distances(X, Y), (-squared_distances(X, Y) / 2).exp()
    kernel = (-((x_i - y_j) ** 2).sum(-1) / 2).exp()
    close(kernel.laplacian(x_i).sum(axis=1)[:, 0], (gaussian * (squares - 3)).sum(1))
    field = kernel * (x_i - y_j)
    close(field.divergence(x_i).sum(axis=1)[:, 0], (gaussian * (3 - squares)).sum(1))
    close(kernel.diff(x_i, x_i).sum(axis=1)[:, 0], -(
        gaussian * ((X[:, None] - Y) * X[:, None]).sum(-1)).sum(1))  # fmt: skip


# -- linear systems --------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.1, 2.0])
def test_interpolation_by_radial_functions(alpha: float) -> None:
    """Coefficients by a regularised system, then values at other places."""
    values = numbers(11, 1, seed=15)
    coefficients = (-lazy_squares(X, X)).exp().solve(Vi(values), alpha=alpha, eps=1e-12)
    matrix = (-squared_distances(X, X)).exp() + alpha * torch.eye(11).double()
    expected = torch.linalg.solve(matrix, values)
    close(coefficients, expected, 1e-8)
    close(
        (-lazy_squares(Y, X)).exp() @ coefficients,
        (-squared_distances(Y, X)).exp() @ expected,
        1e-8,
    )


def test_gradients_through_linear_systems() -> None:
    given = leaves(X, numbers(11, 2, seed=15))
    matrix = (-squared_distances(given[0], given[0])).exp() + 0.5 * torch.eye(11).double()
    expected = torch.linalg.solve(matrix, given[1])
    result = (-lazy_squares(given[0], given[0])).exp().solve(given[1], alpha=0.5, eps=1e-13)
    close(result, expected, 1e-8)
    for one, right in zip(
        torch.autograd.grad((result**2).sum(), given),
        torch.autograd.grad((expected**2).sum(), given),
        strict=True,
    ):
        close(one, right, 1e-7)


def test_gaussian_processes_with_noise() -> None:
    """Mean and variance at new points, from products and systems alone."""
    values = numbers(11, 1, seed=15)
    kernel, across = (-lazy_squares(X, X) / 2).exp(), (-squared_distances(X, Y) / 2).exp()
    matrix = (-squared_distances(X, X) / 2).exp() + 0.1 * torch.eye(11).double()
    solved = kernel.solve(torch.cat((values, across), 1), alpha=0.1, eps=1e-13)
    expected = torch.linalg.solve(matrix, torch.cat((values, across), 1))
    close(across.T @ solved[:, :1], across.T @ expected[:, :1], 1e-8)
    close(1 - (across * solved[:, 1:]).sum(0), 1 - (across * expected[:, 1:]).sum(0), 1e-8)


# -- spectra, with NumPy ---------------------------------------------------------------------------


def numpy_kernel(points: Array) -> tuple[Any, Array]:
    """A lazy Gaussian matrix, and the dense one."""
    x_i = redcomp.numpy.LazyTensor(points[:, None, :])
    x_j = redcomp.numpy.LazyTensor(points[None, :, :])
    lazy = (-((x_i - x_j) ** 2).sum(-1)).exp()
    return lazy, np.exp(-((points[:, None] - points) ** 2).sum(-1))


def test_spectral_coordinates_by_iteration_of_subspaces() -> None:
    lazy, dense = numpy_kernel(X.numpy())
    vectors = np.random.default_rng(1).normal(size=(11, 3))
    for _ in range(200):
        vectors, _ = np.linalg.qr(lazy @ vectors)
    values = np.sort(np.linalg.eigvalsh(vectors.T @ (lazy @ vectors)))
    np.testing.assert_allclose(values, np.linalg.eigvalsh(dense)[-3:], rtol=1e-8)


def test_scipy_finds_spectra_of_normalised_matrices() -> None:
    linalg = pytest.importorskip("scipy.sparse.linalg", reason="SciPy is not installed")
    lazy, dense = numpy_kernel(np.random.default_rng(2).normal(size=(40, 2)))
    operator = linalg.aslinearoperator(lazy)
    np.testing.assert_allclose(
        np.sort(linalg.eigsh(operator, k=4)[0]), np.linalg.eigvalsh(dense)[-4:], rtol=1e-9
    )
    degrees = 1 / np.sqrt(lazy @ np.ones(40))
    scaling = linalg.aslinearoperator(_diagonal(degrees))
    normalised = scaling @ operator @ scaling
    expected = np.linalg.eigvalsh(degrees[:, None] * dense * degrees)[-3:]
    np.testing.assert_allclose(np.sort(linalg.eigsh(normalised, k=3)[0]), expected, rtol=1e-9)
    right = np.arange(40.0)
    shifted = operator + linalg.aslinearoperator(_diagonal(np.full(40, 0.5)))
    solution, failed = linalg.cg(shifted, right, rtol=1e-12)
    assert not failed
    np.testing.assert_allclose(solution, np.linalg.solve(dense + np.eye(40) / 2, right), rtol=1e-7)


def _diagonal(values: Array) -> Any:
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    return sparse.diags(values)


# -- blocks ----------------------------------------------------------------------------------------


def test_blocks_of_near_clusters_give_nearly_the_dense_product() -> None:
    """Far blocks are left out: all that is left out is below the tolerance."""
    points = np.random.default_rng(3).random((300, 2)) * 6
    labels = cluster.grid_cluster(points, 0.7)
    ranges, centres, _ = cluster.cluster_ranges_centroids(points, labels)
    points, labels = cluster.sort_clusters(points, labels)
    is_near = ((centres[:, None] - centres) ** 2).sum(-1) < 5.0**2
    lazy, dense = numpy_kernel(points)
    values = np.random.default_rng(4).random((300, 1))
    lazy.ranges = cluster.from_matrix(ranges, ranges, is_near)
    assert not is_near.all()
    np.testing.assert_allclose(lazy @ values, dense @ values, rtol=1e-3)
    kept = is_near[labels[:, None], labels]
    np.testing.assert_allclose(lazy @ values, (dense * kept) @ values, rtol=1e-12)
    np.testing.assert_allclose(lazy.T @ values, (dense * kept).T @ values, rtol=1e-12)


# -- vectors of results, symbols, both libraries ---------------------------------------------------


def test_reductions_of_vectors_are_by_component() -> None:
    lazy, dense = Vi(X) * Vj(Y), X[:, None] * Y
    close(lazy.sum(axis=1), dense.sum(1))
    close(lazy.max(axis=0), dense.amax(0))
    close(lazy.argmin(axis=1), dense.argmin(1))
    close(lazy.Kmin(2, dim=1), dense.sort(1).values[:, :2])


def test_one_formula_is_called_with_many_arrays() -> None:
    distances = ((Vi(0, 3) - Vj(1, 3)) ** 2).sum(-1)
    product = ((-distances).exp() * Vj(2, 2)).sum(axis=1)
    for m, n in ((11, 9), (4, 6), (1, 3)):
        x, y, b = numbers(m, 3), numbers(n, 3, seed=1), numbers(n, 2, seed=2)
        close(product(x, y, b), (-squared_distances(x, y)).exp() @ b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numpy_and_torch_give_the_same(dtype: torch.dtype) -> None:
    x, y, b = X.to(dtype), Y.to(dtype), B.to(dtype)
    tensors = (-lazy_squares(x, y)).exp() @ b
    library = redcomp.numpy
    x_i, y_j = library.LazyTensor(x.numpy()[:, None]), library.LazyTensor(y.numpy()[None])
    arrays = (-((x_i - y_j) ** 2).sum(-1)).exp() @ b.numpy()
    assert arrays.dtype == tensors.numpy().dtype
    np.testing.assert_array_equal(arrays, tensors.numpy())
