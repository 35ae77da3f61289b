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


@pytest.mark.sampled(24)
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


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("batches", [((2,), (2,)), ((2,), ()), ((3, 1), (1, 2))], ids=str)
def test_products_in_batches(batches: tuple[tuple[int, ...], ...], library: str) -> None:
    """Vectors are those of all entries of a batch, matrices may differ: as for K @ v."""
    module = getattr(redcomp, library)
    x, y, z = points(1, *batches[0], 3, D), points(2, *batches[1], 4, D), points(3, 5, D)
    given = [a if library == "torch" else a.numpy() for a in (x, y, z)]
    K = (module.Vi(given[0]) - module.Vj(given[1])).sqnorm2()
    L = (module.Vi(given[1]) - module.Vj(given[2])).sqnorm2()
    dense = torch.cdist(x, y) ** 2 @ torch.cdist(y, z) ** 2
    product = K @ L
    assert product.shape == tuple(dense.shape)
    for right in (points(4, 5), points(5, 5, 2), points(6, *dense.shape[:-2], 5, 2)):
        v = right if library == "torch" else right.numpy()
        np.testing.assert_allclose(product @ v, dense @ right, rtol=1e-12)
    np.testing.assert_allclose(product.dense(), dense, rtol=1e-12)
    np.testing.assert_allclose(product.T.dense(), dense.transpose(-1, -2), rtol=1e-12)


def test_batches_that_have_no_product_are_errors() -> None:
    K = Vi(points(1, 2, 3, D)) | Vj(points(2, 2, 3, D))
    L = Vi(points(1, 3, 3, D)) | Vj(points(2, 3, 3, D))
    with pytest.raises(ArgumentError, match="have no product"):
        K @ L
    square = Vi(points(1, 3, D)) | Vj(points(2, 3, D))
    with pytest.raises(ArgumentError, match="is multiplied with an array of 3 rows"):
        LazyTensor.block([[square]]) @ points(3, 3, 3, 2)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("is_complex", [False, True])
def test_lazy_matrices_of_lazy_matrices_have_an_array(is_complex: bool, library: str) -> None:
    x, y = points(1, 3, D), points(2, 4, D)
    given = [a if library == "torch" else a.numpy() for a in (x, y)]
    module = getattr(redcomp, library)
    K, dense = (module.Vi(given[0]) - module.Vj(given[1])).sqnorm2(), torch.cdist(x, y) ** 2
    if is_complex:
        K, dense = K * (1 + 2j), dense * (1 + 2j)
    blocks = module.LazyTensor.block([[K @ K.T, K], [K.T, None]])
    zeros = torch.zeros(4, 4, dtype=dense.dtype)
    expected = torch.cat([torch.cat([dense @ dense.T, dense], 1), torch.cat([dense.T, zeros], 1)])
    np.testing.assert_allclose(blocks.dense(), expected, rtol=1e-12)
    np.testing.assert_allclose((blocks @ blocks).dense(), expected @ expected, rtol=1e-12)
    with pytest.raises(ArgumentError, match=r"would take \d+ bytes, more than the limit of 50"):
        blocks.dense(limit=50)


def test_gradients_of_the_array_of_a_product() -> None:
    x, y = points(1, 3, D).requires_grad_(), points(2, 4, D)
    K, dense = (Vi(x) - Vj(y)).sqnorm2(), torch.cdist(x, y) ** 2
    (found,) = torch.autograd.grad((K @ K.T).dense().square().sum(), x)
    (expected,) = torch.autograd.grad((dense @ dense.T).square().sum(), x)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_lazy_matrices_say_what_they_are() -> None:
    K = Vi(points(1, 3, D)) | Vj(points(2, 4, D))
    product, blocks = K @ K.T, LazyTensor.block([[K, None], [None, K @ K.T]])
    assert "(3, 3)" in repr(product)
    assert "LazyTensor (3, 4), LazyTensor (4, 3)" in repr(product)
    assert "LazyTensor (3, 4), LazyProduct (3, 3)" in repr(blocks)
    assert "float64" in repr(blocks)
    assert ".dense() gives the array" in repr(blocks)
    assert product._repr_html_().startswith("<table><caption>LazyProduct")


def test_only_the_first_of_a_product_may_have_symbols() -> None:
    x, y, v = points(1, 3, D), points(2, 4, D), points(3, 3)
    K, scale = Vi(x) | Vj(y), points(4, 1)
    later = ((K * Pm(0, 1)) @ K.T) @ v
    np.testing.assert_allclose(later(scale), scale * (x @ y.T @ (y @ x.T @ v)), rtol=1e-12)
    with pytest.raises(ArgumentError, match="only the first one may have symbols"):
        K @ (K.T * Pm(0, 1))


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
