"""`LazyTensor` beside dense float64 NumPy: what each form and each method is."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import redcomp.numpy
import redcomp.torch
from redcomp.errors import ArgumentError

M, N, D = 7, 5, 3


def points(seed: int = 0) -> tuple[Any, Any, Any]:
    random = np.random.default_rng(seed)
    return random.normal(size=(M, D)), random.normal(size=(N, D)), random.normal(size=(N, 2))


def pair(library: Any, x: Any, y: Any) -> tuple[Any, Any]:
    return library.LazyTensor(x[:, None, :]), library.LazyTensor(y[None, :, :])


@pytest.mark.sampled(8)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_gaussian_products(library: str, dtype: str) -> None:
    x, y, b = points()
    dense = np.exp(-((x[:, None] - y[None]) ** 2).sum(-1))
    given = [a.astype(dtype) for a in (x, y, b)]
    if library == "torch":
        given = list(map(torch.tensor, given))
    module = getattr(redcomp, library)
    x_i, y_j = pair(module, *given[:2])
    kernel = (-((x_i - y_j) ** 2).sum(-1)).exp()
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    assert kernel.shape == (M, N)
    assert kernel._shape == (M, N, 1)
    assert kernel.dtype == dtype
    np.testing.assert_allclose(kernel @ given[2], dense @ b, tolerance)
    np.testing.assert_allclose(kernel.t() @ given[0], dense.T @ x, tolerance, tolerance)
    np.testing.assert_allclose(kernel.T @ given[0][:, 0], dense.T @ x[:, 0], tolerance, tolerance)
    np.testing.assert_allclose(kernel.sum(axis=1)[:, 0], dense.sum(1), tolerance)
    np.testing.assert_allclose(kernel.sum(dim=0)[:, 0], dense.sum(0), tolerance)
    np.testing.assert_allclose(kernel.sum(-2)[:, 0], dense.sum(1), tolerance)
    assert (np.asarray(kernel.argmax(axis=1)[:, 0]) == dense.argmax(1)).all()


def test_errors_name_what_is_wrong() -> None:
    x, y, _ = points()
    x_i, y_j = pair(redcomp.numpy, x, y)
    with pytest.raises(ArgumentError, match="numbers of rows: 7 and 4"):
        x_i + redcomp.numpy.Vi(x[:4])
    with pytest.raises(ArgumentError, match="dimensions 3, 2"):
        x_i - redcomp.numpy.Vj(y[:, :2])
    with pytest.raises(ArgumentError, match="dtype: float64 and float32"):
        x_i - redcomp.numpy.Vj(y.astype(np.float32))
    with pytest.raises(ArgumentError, match="needs axis=0"):
        redcomp.numpy.LazyTensor(x)
    with pytest.raises(ArgumentError, match="unknown option"):
        (x_i | y_j).sum(axis=1, precision=3)
    with pytest.raises(ArgumentError, match="is no matrix"):
        (x_i - y_j) @ y
    with pytest.raises(ArgumentError, match="axis must be 0"):
        (x_i - y_j).sum(axis=5)
    with pytest.raises(ArgumentError, match="NumPy meets one of PyTorch"):
        x_i + redcomp.torch.Vj(torch.tensor(y))
    with pytest.raises(TypeError):
        x_i + "text"


def test_symbols_are_arguments_of_calls() -> None:
    x, y, b = points()
    Vi, Vj, LazyTensor = redcomp.numpy.Vi, redcomp.numpy.Vj, redcomp.numpy.LazyTensor
    kernel = (-Vi(0, D).sqdist(Vj(1, D)) / 2.5).exp() * LazyTensor(b[None])
    later = kernel.sum(axis=1)
    dense = np.exp(-((x[:, None] - y[None]) ** 2).sum(-1) / 2.5) @ b
    np.testing.assert_allclose(later(x, y), dense, 1e-12)
    narrow = (-Vi(0, D).sqdist(Vj(1, D)) / 2.5).exp().sum(axis=1)
    found = narrow(x.astype(np.float32), y.astype(np.float32))
    assert found.dtype == np.float32
    with pytest.raises(ArgumentError, match="expected 2 arguments"):
        later(x)
    again = (Vi(x) | Vj(y)).sum(axis=1, call=False)
    np.testing.assert_allclose(again(), (x @ y.T).sum(1)[:, None], 1e-12)


INDICES: list[tuple[Any, Any]] = [
    (0, np.s_[..., [0]]),
    (-1, np.s_[..., [2]]),
    (np.s_[1:], np.s_[..., 1:]),
    (np.s_[::2], np.s_[..., ::2]),
    (np.s_[::-1], np.s_[..., ::-1]),
    (np.s_[:, :, 1], np.s_[..., [1]]),
    (np.s_[..., 1:3], np.s_[..., 1:3]),
    (np.s_[..., -2], np.s_[..., [1]]),
    (np.s_[:, :], np.s_[...]),
    (np.s_[:, ..., 0], np.s_[..., [0]]),
    (np.s_[...], np.s_[...]),
]


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("index", "dense"), INDICES, ids=lambda i: str(i))
def test_indexing(index: Any, dense: Any) -> None:
    x, y, _ = points()
    x_i, y_j = pair(redcomp.numpy, x, y)
    expected = (x[:, None] * y[None])[dense].sum(1)
    np.testing.assert_allclose((x_i * y_j)[index].sum(axis=1), expected, 1e-12, 1e-12)


def test_new_axis_of_scalars() -> None:
    x, y, _ = points()
    x_i, y_j = pair(redcomp.numpy, x, y)
    found = (x_i | y_j)[:, :, None].sum(axis=1)
    np.testing.assert_allclose(found[:, 0], (x @ y.T).sum(1), 1e-12)
    for index in (3, -4, np.s_[3:], np.s_[0, :, :], np.s_[:, None, :]):
        with pytest.raises(ArgumentError):
            (x_i * y_j)[index]


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, copy.copy, lambda k: pickle.loads(pickle.dumps(k))]
)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_copies_and_pickles(library: str, copied: Callable[[Any], Any]) -> None:
    x, y, b = points()
    given = [x, y, b] if library == "numpy" else list(map(torch.tensor, (x, y, b)))
    x_i, y_j = pair(getattr(redcomp, library), *given[:2])
    kernel = ((x_i - y_j).norm2() / 2.5 - [1.0]).exp()[..., 0]
    again = copied(kernel)
    assert again.formula == kernel.formula
    np.testing.assert_array_equal(again @ given[2], kernel @ given[2])
    np.testing.assert_allclose((again * kernel).sum(1), (kernel**2).sum(1), 1e-12)


def test_k_may_be_any_integer() -> None:
    x, y, _ = points()
    distances = redcomp.torch.Vi(torch.tensor(x)).sqdist(redcomp.torch.Vj(torch.tensor(y)))
    expected = np.sort(((x[:, None] - y[None]) ** 2).sum(-1), 1)[:, :3]
    for count in (3, np.int32(3), torch.tensor(3)):
        np.testing.assert_allclose(distances.Kmin(count, dim=1), expected, 1e-12)
    with pytest.raises(ArgumentError, match="integer"):
        distances.Kmin(2.5, dim=1)


# -- matrices --------------------------------------------------------------------------------------


def square(library: Any = redcomp.numpy) -> tuple[Any, Any, Any]:
    """A symmetric kernel, its dense values and its points."""
    x, _, _ = points()
    dense = np.exp(-((x[:, None] - x[None]) ** 2).sum(-1) / 2)
    given = x if library is redcomp.numpy else torch.tensor(x)
    x_i, x_j = pair(library, given, given)
    return (-((x_i - x_j) ** 2).sum(-1) / 2).exp(), dense, x


@pytest.mark.sampled(2)
@pytest.mark.parametrize("batch", [(), (2,), (1, 3)])
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_dense_diagonal_trace(library: str, batch: tuple[int, ...]) -> None:
    random = np.random.default_rng(1)
    x, y = random.normal(size=(*batch, M, 1, D)), random.normal(size=(1, M, D))
    bias, scale = random.normal(size=(M, M, 1)), random.normal(size=(*batch, 1, 1, D))
    module = getattr(redcomp, library)
    given = [x, y, bias, scale]
    if library == "torch":
        given = [torch.tensor(a, requires_grad=True) for a in given]
    x_i, y_j, bias_ij, p = map(module.LazyTensor, given)
    vectors = (x_i - y_j) * p * bias_ij
    dense = (x - y) * scale * bias
    np.testing.assert_allclose(_array(vectors.dense()), dense, 1e-12, 1e-12)
    np.testing.assert_allclose(_array(vectors.sum(-1).dense()), dense.sum(-1), 1e-12, 1e-12)
    diagonal = np.diagonal(dense, axis1=-3, axis2=-2).swapaxes(-1, -2)
    np.testing.assert_allclose(_array(vectors.diagonal()), diagonal, 1e-12, 1e-12)
    np.testing.assert_allclose(_array(vectors.trace()), diagonal.sum(-2), 1e-12, 1e-12)
    np.testing.assert_allclose(
        _array(vectors.sum(-1).trace()), diagonal.sum((-2, -1)), 1e-12, 1e-12
    )
    if library == "torch":
        weights = torch.tensor(random.normal(size=dense.shape))
        found = torch.autograd.grad((vectors.dense() * weights).sum(), given)
        again = (given[0] - given[1]) * given[3] * given[2]
        for a, b in zip(found, torch.autograd.grad((again * weights).sum(), given), strict=True):
            torch.testing.assert_close(a, b)


def _array(value: Any) -> Any:
    return value.detach().numpy() if isinstance(value, torch.Tensor) else value


def test_dense_is_refused_where_it_is_large() -> None:
    kernel, _, _ = square()
    with pytest.raises(ArgumentError, match=r"would take 392 bytes"):
        kernel.dense(limit=100)
    x, y, _ = points()
    with pytest.raises(ArgumentError, match="as many rows i as columns j"):
        (redcomp.numpy.Vi(x) | redcomp.numpy.Vj(y)).diagonal()


@pytest.mark.sampled(2)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_products_and_blocks(library: str) -> None:
    module = getattr(redcomp, library)
    x, y, b = points()
    given = [x, y, b] if library == "numpy" else list(map(torch.tensor, (x, y, b)))
    x_i, y_j = pair(module, *given[:2])
    kernel, dense = (x_i | y_j) ** 2, (x @ y.T) ** 2
    right = np.ones((M, 2))
    given_right = right if library == "numpy" else torch.tensor(right)
    product = kernel @ kernel.t()
    np.testing.assert_allclose(product @ given_right, dense @ dense.T @ right, 1e-12)
    np.testing.assert_allclose((product @ kernel) @ given[2], dense @ dense.T @ dense @ b, 1e-12)
    assert (product @ kernel).shape == (M, N)
    np.testing.assert_allclose(
        (product @ kernel).T @ given_right, (dense @ dense.T @ dense).T @ right
    )
    blocks = module.LazyTensor.block([[kernel, product], [kernel, None]])
    whole = np.block([[dense, dense @ dense.T], [dense, np.zeros((M, M))]])
    vector = np.random.default_rng(2).normal(size=(N + M, 3))
    given_vector = vector if library == "numpy" else torch.tensor(vector)
    np.testing.assert_allclose(blocks @ given_vector, whole @ vector, 1e-12, 1e-12)
    assert blocks.shape == whole.shape
    other = np.random.default_rng(3).normal(size=(2 * M,))
    given_other = other if library == "numpy" else torch.tensor(other)
    np.testing.assert_allclose(blocks.rmatvec(given_other), whole.T @ other, 1e-12, 1e-12)
    with pytest.raises(ArgumentError, match="have no product"):
        kernel @ kernel
    with pytest.raises(ArgumentError, match="need one size"):
        module.LazyTensor.block([[kernel], [product]])


@pytest.mark.parametrize("batch", [(), (2, 1)])
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_masks_and_biases(library: str, batch: tuple[int, ...]) -> None:
    random = np.random.default_rng(4)
    x, y = random.normal(size=(*batch, M, D)), random.normal(size=(N, D))
    where, bias = random.normal(size=(*batch, M, N)) > 0, random.normal(size=(*batch, M, N))
    module = getattr(redcomp, library)
    given = (
        [x, y, where, bias] if library == "numpy" else list(map(torch.tensor, (x, y, where, bias)))
    )
    scores = module.Vi(given[0]) | module.Vj(given[1])
    axis = len(batch) + 1
    dense = np.where(where, x @ y.T + bias, -np.inf)
    with np.errstate(divide="ignore"):
        expected = np.log(np.exp(dense).sum(-1))
    found = scores.bias(given[3]).mask(given[2], -np.inf).logsumexp(axis=axis)
    np.testing.assert_allclose(found[..., 0], expected, 1e-12)
    np.testing.assert_allclose(
        scores.mask(given[2]).sum(axis=axis)[..., 0], np.where(where, x @ y.T, 0).sum(-1), 1e-12
    )
    with pytest.raises(ArgumentError, match="mask takes an array"):
        scores.mask(True)


# -- systems ---------------------------------------------------------------------------------------


@pytest.mark.sampled(2)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_solve(library: str) -> None:
    module = getattr(redcomp, library)
    kernel, dense, x = square(module)
    b = np.random.default_rng(5).normal(size=(M, 2))
    given = b if library == "numpy" else torch.tensor(b)
    expected = np.linalg.solve(dense + 0.1 * np.eye(M), b)
    np.testing.assert_allclose(kernel.solve(given, alpha=0.1), expected, 1e-5)
    np.testing.assert_allclose(kernel.solve(module.Vj(given), alpha=0.1), expected, 1e-5)
    np.testing.assert_allclose(kernel.solve(given, call=False, alpha=0.1)(), expected, 1e-5)
    vector = kernel.solve(given[:, 0], alpha=0.1)
    np.testing.assert_allclose(vector, expected[:, 0], 1e-5)
    vector, info = kernel.solve(given[:, 0], alpha=0.1, return_info=True)
    np.testing.assert_allclose(vector, expected[:, 0], 1e-5)
    assert info.iterations
    a = module.Vj(0, 2)
    np.testing.assert_allclose((kernel * a).solve(given, var=a, alpha=0.1), expected, 1e-5)
    x_given = x if library == "numpy" else torch.tensor(x)
    x_i, x_j = module.Vi(0, D), module.Vj(1, D)
    symbolic = (-((x_i - x_j) ** 2).sum(-1) / 2).exp()
    later = symbolic.solve(module.Vi(2, 2), alpha=0.1)
    np.testing.assert_allclose(later(x_given, x_given, given), expected, 1e-5)
    with pytest.raises(ArgumentError, match="unknown option"):
        kernel.solve(given, tolerance=1)
    with pytest.raises(ArgumentError, match="symbolic variable of"):
        kernel.solve(given, var=module.Vj(0, 2))


def test_gradients_of_a_system() -> None:
    _, _, x = square()
    x, b = torch.tensor(x, requires_grad=True), torch.ones(M, 1, dtype=torch.float64)
    x_i, x_j = pair(redcomp.torch, x, x)
    kernel = (-((x_i - x_j) ** 2).sum(-1) / 2).exp()
    found = torch.autograd.grad(kernel.solve(b, alpha=0.3, eps=1e-10).sum(), x)[0]
    dense = torch.exp(-((x[:, None] - x[None]) ** 2).sum(-1) / 2)
    solution = torch.linalg.solve(dense + 0.3 * torch.eye(M, dtype=torch.float64), b)
    expected = torch.autograd.grad(solution.sum(), x)[0]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
