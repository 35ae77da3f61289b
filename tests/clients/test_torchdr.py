"""torchdr by KeOps against its dense path; needs torchdr (extra "clients")."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from packages import package

torchdr = package("torchdr")
distance = package("torchdr.distance")
utils = package("torchdr.utils")

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("reductions")]

AFFINITIES = [
    "DoublyStochasticQuadraticAffinity",
    "EntropicAffinity",
    "MAGICAffinity",
    "NormalizedGaussianAffinity",
    "NormalizedStudentAffinity",
    "SelfTuningAffinity",
    "SinkhornAffinity",
    "SymmetricEntropicAffinity",
    "UMAPAffinity",
]
# The result of steps that end where a gradient is small.
ITERATED = {"SymmetricEntropicAffinity": 2e-2}


def points(n: int, D: int, seed: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(n, D, generator=random, dtype=torch.float64)


def dense(matrix: Any) -> torch.Tensor:
    """A matrix, which may be a LazyTensor."""
    if utils.is_lazy_tensor(matrix):
        made: torch.Tensor = matrix @ torch.eye(matrix.shape[-1], dtype=torch.float64)
        return made
    return matrix


@pytest.mark.parametrize("metric", distance.LIST_METRICS_KEOPS)
@pytest.mark.parametrize("is_within", [False, True])
@pytest.mark.parametrize("k", [None, 5])
@pytest.mark.parametrize("exclude_diag", [False, True])
def test_distances(metric, is_within, k, exclude_diag):
    x, y = points(120, 4, 1), None if is_within else points(70, 4, 2)
    options = {"metric": metric, "k": k, "exclude_diag": exclude_diag}
    expected, found = (
        distance.pairwise_distances(x, y, backend=backend, return_indices=True, **options)
        for backend in (None, "keops")
    )
    value, wanted = dense(found[0]), expected[0]
    if exclude_diag and is_within and k is None:  # infinite in one, 1e12 in the other
        value, wanted = (t - torch.diag_embed(t.diagonal()) for t in (value, wanted.nan_to_num()))
    # The dense one has the square root of a rounding error as a point's distance to itself.
    torch.testing.assert_close(value, wanted, rtol=1e-10, atol=1e-6)
    if k is not None:
        assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize("zero_diag", [False, True])
@pytest.mark.parametrize("name", AFFINITIES)
def test_affinities(name, zero_diag):
    x = points(120, 4, 1)
    results = []
    for backend in (None, "keops"):
        torch.manual_seed(0)
        options = {"backend": backend, "device": "cpu", "zero_diag": zero_diag}
        made = getattr(torchdr, name)(**options)(x)
        results.append(dense(made[0] if isinstance(made, tuple) else made))
    expected, found = results
    bound = ITERATED.get(name, 1e-6)
    assert float((found - expected).norm()) <= bound * float(expected.norm())


@pytest.mark.parametrize("name", ["TSNE", "SNE", "TSNEkhorn"])
def test_embeddings(name):
    x = points(80, 4, 1).float()
    results = []
    for backend in (None, "keops"):
        options = {"backend": backend, "device": "cpu", "random_state": 0, "init": "pca"}
        made = getattr(torchdr, name)(n_components=2, perplexity=10, max_iter=5, **options)
        results.append(made.fit_transform(x))
    expected, found = results
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2 * float(expected.abs().max()))
