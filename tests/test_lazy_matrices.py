"""Lazy matrices times lazy matrices, of one row or column too: needs the CPU backend, PyTorch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

import redcomp.numpy
import redcomp.torch
from redcomp.errors import ArgumentError
from redcomp.torch import LazyTensor, Pm, Vi, Vj

Tensor = torch.Tensor
D = 2


def points(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random(shape))


SIZES_OF_PRODUCTS = list(itertools.product((1, 3), (1, 4), (1, 2)))


@pytest.mark.sampled(6)
@pytest.mark.parametrize("sizes", SIZES_OF_PRODUCTS, ids=str)
@pytest.mark.parametrize("maker", ["arrays", "indices"])
def test_products_of_lazy_matrices_with_one_row_or_column(
    maker: str, sizes: tuple[int, int, int]
) -> None:
    """A matrix with one row is a matrix, even if nothing is left that depends on its index."""
    _, N, _ = sizes
    x, y, z = (points(n, size, D) for n, size in enumerate(sizes))
    if maker == "indices":
        x_i, y_i, y_j, z_j = Vi(x), Vi(y), Vj(y), Vj(z)
    else:
        x_i, y_i = LazyTensor(x[:, None]), LazyTensor(y[:, None])
        y_j, z_j = LazyTensor(y[None]), LazyTensor(z[None])
    K, L = (x_i - y_j).sqnorm2(), (y_i - z_j).sqnorm2()
    dense_K, dense_L = ((x[:, None] - y) ** 2).sum(-1), ((y[:, None] - z) ** 2).sum(-1)
    for product, dense in (
        (K @ L, dense_K @ dense_L),
        ((K @ L) @ L.t(), dense_K @ dense_L @ dense_L.T),
        (L.t() @ K.t(), (dense_K @ dense_L).T),
        (LazyTensor.block([[K, K @ L], [None, L]]), None),
    ):
        if dense is None:
            zeros = torch.zeros(N, N, dtype=x.dtype)
            dense = torch.cat(
                [torch.cat([dense_K, dense_K @ dense_L], 1), torch.cat([zeros, dense_L], 1)]
            )
        assert product.shape == tuple(dense.shape)
        for right in (points(4, dense.shape[1]), points(5, dense.shape[1], 2)):
            np.testing.assert_allclose((product @ right), (dense @ right), rtol=1e-12, atol=1e-14)


def test_products_from_the_left_and_by_functions() -> None:
    x, y, v = points(1, 3, D), points(2, 4, D), points(3, 2, 3)
    K, dense = (Vi(x) - Vj(y)).sqnorm2(), ((x[:, None] - y) ** 2).sum(-1)
    square, dense_square = K @ K.t(), dense @ dense.T
    blocks = LazyTensor.block([[square]])
    for matrix in (square, blocks):
        for product, expected in (
            (v @ matrix, v @ dense_square),
            (v[0] @ matrix, v[0] @ dense_square),
            (torch.matmul(v, matrix), v @ dense_square),  # type: ignore[call-overload]
            (torch.mv(matrix, v[0]), dense_square @ v[0]),  # type: ignore[call-overload]
            (torch.mm(matrix, v.T), dense_square @ v.T),  # type: ignore[call-overload]
            (v.numpy() @ matrix, v @ dense_square),
            (matrix @ v[0].numpy(), dense_square @ v[0]),
        ):
            np.testing.assert_allclose(product, expected, rtol=1e-12)


def test_functions_that_are_no_products_are_refused() -> None:
    K = (Vi(points(1, 3, D)) | Vj(points(1, 3, D))).exp()
    with pytest.raises(TypeError, match=r"torch\.exp is not supported for a LazyProduct"):
        torch.exp(K @ K)  # type: ignore[call-overload]


def test_a_lazy_tensor_of_j_alone_is_an_array() -> None:
    x, y, v = points(1, 3, D), points(2, 4, D), points(3, 4, 1)
    K, dense = (Vi(x) - Vj(y)).sqnorm2(), ((x[:, None] - y) ** 2).sum(-1)
    expected = dense @ v
    np.testing.assert_allclose((K @ Vj(v)), expected, rtol=1e-12)
    np.testing.assert_allclose((K @ Vj(0, 1))(v), expected, rtol=1e-12)
    symbolic = (Vi(0, D) - Vj(1, D)).sqnorm2()
    np.testing.assert_allclose((symbolic @ Vj(v))(x, y), expected, rtol=1e-12)


@pytest.mark.parametrize(
    "other", [Vi(points(1, 4, 1)), Vj(points(1, 5, 1)), Pm(points(1, 1)), LazyTensor(2), Pm(0, 1)]
)
def test_sizes_of_lazy_matrices_must_fit(other: LazyTensor) -> None:
    square = (Vi(points(1, 4, D)) - Vj(points(2, 4, D))).sqnorm2()
    tall = (Vi(points(1, 3, D)) - Vj(points(2, 4, D))).sqnorm2()
    with pytest.raises(ArgumentError, match="have no product"):
        (tall if other.ni is None else square.t() @ tall.t()) @ other


@pytest.mark.parametrize("number", [2, 0.5, np.float64(2), np.array(2.0)])
def test_numbers_are_no_right_hand_sides(number: object) -> None:
    """As for `@` of NumPy and PyTorch."""
    x = points(1, 3, D)
    with pytest.raises(ArgumentError, match=r"K \* v is the multiple"):
        (redcomp.numpy.Vi(x.numpy()) | redcomp.numpy.Vj(x.numpy())) @ number
    with pytest.raises(ArgumentError, match=r"K \* v is the multiple"):
        (Vi(x) | Vj(x)) @ torch.tensor(float(number))  # type: ignore[arg-type]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_products_have_one_dtype_as_all_operations(library: str) -> None:
    """SciPy's solvers, which make their own vectors, call `matvec`."""
    x = np.random.default_rng(0).random((5, 3))
    given = x.astype(np.float32)
    module = getattr(redcomp, library)
    x_i = module.Vi(given if library == "numpy" else torch.tensor(given))
    K = x_i.sqdist(x_i.t())
    dense = ((x[:, None] - x) ** 2).sum(-1)
    for matrix, array in ((K, dense), (K @ K, dense @ dense)):
        for v in (np.ones(5), np.ones(5) + 1j):
            for product in (lambda m, v: m @ v, lambda m, v: v @ m.t()):
                with pytest.raises(ArgumentError, match="different dtype"):
                    product(matrix, v)
            for multiply in (matrix.matvec, matrix.rmatvec):
                found = multiply(v)
                assert found.dtype == (np.complex64 if np.iscomplexobj(v) else np.float32)
                np.testing.assert_allclose(found, array @ v, 1e-5)
        for v in (np.ones(5, np.float32), np.ones(5, int), np.ones(5, bool)):
            np.testing.assert_allclose(np.asarray(matrix @ v), array.sum(1), 1e-5)
