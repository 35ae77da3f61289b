"""Solvers of SciPy take LazyTensors of arrays and of tensors, with right-hand sides of NumPy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import linalg

import redcomp.numpy
import redcomp.torch

M, N = 40, 25


def kernel(library: str, count: int) -> tuple[Any, Any]:
    """A Gaussian kernel of points on a line, plus a half where they are equal; its values."""
    x, y = np.linspace(0, 36, M)[:, None], np.linspace(0, 36, count)[:, None]
    given = [x, y] if library == "numpy" else [torch.tensor(x), torch.tensor(y)]
    module = getattr(redcomp, library)
    distances = (module.Vi(given[0]) - module.Vj(given[1])).abs()[0]
    lazy = (-(distances**2)).exp() + (distances < 1e-9) * 0.5
    dense = np.exp(-((x - y.T) ** 2)) + 0.5 * (np.abs(x - y.T) < 1e-9)
    return linalg.aslinearoperator(lazy), dense


SOLVERS: dict[str, Callable[..., Any]] = {
    "bicg": linalg.bicg,
    "bicgstab": linalg.bicgstab,
    "cg": linalg.cg,
    "cgs": linalg.cgs,
    "gmres": linalg.gmres,
    "lgmres": linalg.lgmres,
    "minres": linalg.minres,
    "qmr": linalg.qmr,
    "gcrotmk": linalg.gcrotmk,
    "tfqmr": linalg.tfqmr,
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("name", SOLVERS)
def test_systems(name: str, library: str) -> None:
    operator, dense = kernel(library, M)
    b = np.sin(np.arange(M))
    found, status = SOLVERS[name](operator, b, rtol=1e-10)
    assert status == 0
    np.testing.assert_allclose(found, np.linalg.solve(dense, b), 1e-5, 1e-6)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("solve", [linalg.lsqr, linalg.lsmr], ids=["lsqr", "lsmr"])
def test_least_squares(solve: Callable[..., Any], library: str) -> None:
    operator, dense = kernel(library, N)
    b = np.sin(np.arange(M))
    found = solve(operator, b, atol=1e-12, btol=1e-12)[0]
    np.testing.assert_allclose(found, np.linalg.lstsq(dense, b)[0], 1e-5, 1e-6)


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_spectra(library: str) -> None:
    operator, dense = kernel(library, M)
    start = np.ones(M)
    largest = np.sort(np.linalg.eigvalsh(dense))[-3:]
    np.testing.assert_allclose(
        np.sort(linalg.eigsh(operator, 3, v0=start, return_eigenvectors=False)), largest, 1e-9
    )
    found = linalg.eigs(operator, 3, v0=start, return_eigenvectors=False)
    np.testing.assert_allclose(np.sort(found.real), largest, 1e-8)
    blocks = np.random.default_rng(0).normal(size=(M, 3))
    found, _ = linalg.lobpcg(operator, blocks, tol=1e-9, maxiter=200)
    np.testing.assert_allclose(np.sort(found), largest, 1e-7)
    operator, dense = kernel(library, N)
    values = linalg.svds(operator, 3, v0=np.ones(N), return_singular_vectors=False)
    singular = np.linalg.svd(dense, compute_uv=False)
    np.testing.assert_allclose(np.sort(values), np.sort(singular)[-3:], 1e-8)


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_exponentials_and_norms(library: str) -> None:
    operator, dense = kernel(library, M)
    b = np.cos(np.arange(M))
    values, vectors = np.linalg.eigh(dense)
    expected = vectors @ (np.exp(values) * (vectors.T @ b))
    found = linalg.expm_multiply(operator, b, traceA=float(np.trace(dense)))
    np.testing.assert_allclose(found, expected, 1e-9)
    norm = np.abs(dense).sum(0).max()
    np.testing.assert_allclose(linalg.onenormest(operator), norm, 1e-9)
