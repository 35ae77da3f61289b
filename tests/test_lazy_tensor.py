"""`LazyTensor` beside dense float64 NumPy: what each form and each method is."""

from __future__ import annotations

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
    Vi, Vj, LazyTensor = redcomp.numpy.Vi, redcomp.numpy.Vj, redcomp.numpy.LazyTensor  # noqa: N806
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
