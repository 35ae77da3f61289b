"""geomloss: its KeOps backends against its dense one; needs geomloss (extra "clients").

Its dense path clamps squared distances at 1e-8, so a point has the distance 1e-4 to itself: where a
distance counts (p = 1, the Laplacian, the energy distance) values differ by up to 1e-4.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from packages import package

geomloss = package("geomloss")
ot = package("geomloss.ot")
utils = package("geomloss._legacy.utils")

pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("reductions")]
CLAMPED = 1e-4


def points(n: int, D: int, seed: int, batch: tuple[int, ...] = ()) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.rand(*batch, n, D, generator=random, dtype=torch.float64)


def weights(n: int, seed: int, batch: tuple[int, ...] = ()) -> torch.Tensor:
    drawn = points(n, 1, seed, batch)[..., 0] + 0.2
    return drawn / drawn.sum(-1, keepdim=True)


def loss_and_gradients(
    loss: geomloss.SamplesLoss, x: torch.Tensor, y: torch.Tensor, *, is_weighted: bool = False
) -> list[torch.Tensor]:
    """The loss, and its gradients in both clouds and in their weights."""
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
    arguments = [x, y]
    if is_weighted:
        a = weights(x.shape[-2], 7, x.shape[:-2]).requires_grad_()
        b = weights(y.shape[-2], 8, y.shape[:-2]).requires_grad_()
        arguments = [a, x, b, y]
    value = loss(*arguments)
    return [value.detach(), *torch.autograd.grad(value.sum(), arguments)]


def check(backend: str, x: torch.Tensor, y: torch.Tensor, bound: float, **options: Any) -> None:
    """Compare a backend with the dense one, relative to the norm of what that gives."""
    is_weighted, truncate = options.pop("is_weighted", False), options.pop("truncate", 5)
    dense, lazy = (
        loss_and_gradients(geomloss.SamplesLoss(**given), x, y, is_weighted=is_weighted)
        for given in (
            {"backend": "tensorized", **options},
            {"backend": backend, "truncate": truncate, **options},
        )
    )
    for found, expected in zip(lazy, dense, strict=True):
        found = found.reshape(expected.shape)  # where there is no batch, a loss may have (1,)
        assert found.dtype == expected.dtype
        assert float((found - expected).norm()) <= bound * float(expected.norm())


@pytest.mark.parametrize("D", [1, 2, 3, 5])
@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("debias", [False, True])
def test_online_sinkhorn(D, is_weighted, debias):
    x, y = points(60, D, 1), points(45, D, 2)
    options = {"loss": "sinkhorn", "p": 2, "blur": 0.1, "debias": debias}
    check("online", x, y, 1e-6, is_weighted=is_weighted, **options)


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("reach", [None, 0.5])
def test_online_sinkhorn_in_batches(is_weighted, reach):
    x, y = points(40, 3, 1, (4,)), points(30, 3, 2, (4,))
    options = {"loss": "sinkhorn", "p": 2, "blur": 0.1, "reach": reach}
    check("online", x, y, 1e-6, is_weighted=is_weighted, **options)


def test_online_sinkhorn_of_distances():
    check("online", points(60, 3, 1), points(45, 3, 2), 1e-3, loss="sinkhorn", p=1, blur=0.1)


KERNELS = [("gaussian", 1e-12), ("laplacian", 1e-3), ("energy", 1e-3)]


@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize(("loss", "bound"), KERNELS)
def test_online_kernel_norms(loss, bound, batch):
    x, y = points(60, 3, 1, batch), points(45, 3, 2, batch)
    check("online", x, y, bound, loss=loss, blur=0.3, is_weighted=True)


@pytest.mark.parametrize(("loss", "bound"), KERNELS)
def test_multiscale_kernel_norms(loss, bound):
    """No block of pairs is so far away that it is left out."""
    x, y = points(300, 2, 1), points(250, 2, 2)
    check("multiscale", x, y, bound, loss=loss, blur=0.1, truncate=30)


def test_multiscale_kernel_norms_without_distant_blocks():
    x, y = points(300, 2, 1), points(250, 2, 2)
    check("multiscale", x, y, 1e-7, loss="gaussian", blur=0.05, truncate=6)


@pytest.mark.parametrize(("D", "bound"), [(1, 2e-5), (2, 2e-2), (3, 5e-2), (5, 2e-2)])
def test_multiscale_sinkhorn(D, bound):
    """The bounds are those of geomloss, which starts from potentials of clusters.

    KeOps raises NotImplementedError for D = 5; up to 3 its results have the same distance.
    """
    x, y = points(300, D, 1), points(250, D, 2)
    options = {"loss": "sinkhorn", "p": 2, "blur": 0.1, "scaling": 0.9, "diameter": 3.0}
    check("multiscale", x, y, bound, **options)


@pytest.mark.slow
def test_multiscale_sinkhorn_of_30000_points():
    """Against the online backend: the dense one would take 7 GB a matrix."""
    x, y = points(30_000, 3, 1).float(), points(30_000, 3, 2).float() + 0.2
    options = {"loss": "sinkhorn", "p": 2, "blur": 0.1, "diameter": 2.0}
    online, multiscale = (
        loss_and_gradients(geomloss.SamplesLoss(backend=name, **options), x, y)
        for name in ("online", "multiscale")
    )
    torch.testing.assert_close(multiscale[0], online[0], rtol=1e-2, atol=0)
    difference = (multiscale[1] - online[1]).norm() / online[1].norm()
    assert float(difference) < 2e-2


@pytest.mark.parametrize("backend", ["online", "multiscale"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_energy_distance_of_points_that_coincide(backend, dtype):
    x = points(50, 3, 1).to(dtype)
    y = torch.cat([x[:20], points(30, 3, 2).to(dtype)])
    value, *gradients = loss_and_gradients(geomloss.SamplesLoss("energy", backend=backend), x, y)
    dense, *expected = loss_and_gradients(geomloss.SamplesLoss("energy"), x, y)
    torch.testing.assert_close(value.reshape(()), dense, rtol=0, atol=CLAMPED)
    for found, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)  # none is NaN


@pytest.mark.parametrize("is_numpy", [False, True])
@pytest.mark.parametrize("options", [{}, {"debias": True}, {"reach": 0.7}])
def test_transport_of_samples(is_numpy, options):
    """The newer interface, for both libraries, against its solver for a dense cost."""
    x, y, a, b = points(80, 3, 1), points(60, 3, 2), weights(80, 7), weights(60, 8)
    cost = ((x[:, None] - y[None]) ** 2).sum(-1)
    given = [t.numpy() if is_numpy else t for t in (x, y, a, b, cost)]
    solver = {"max_iter": 200}
    lazy = ot.solve_sample(*given[:4], blur=0.3, **options, **solver)
    penalty = {"unbalanced": 2 * options["reach"] ** 2} if "reach" in options else {}
    dense = ot.solve(given[4], a=given[2], b=given[3], reg=2 * 0.3**2, **penalty, **solver)
    plan = torch.as_tensor(dense.plan)
    assert type(lazy.value) is type(dense.value)
    for axis in (0, 1):
        marginal = torch.as_tensor(lazy.lazy_plan.sum(axis)).reshape(-1)
        torch.testing.assert_close(marginal, plan.sum(axis), rtol=0, atol=1e-5)
    pulled = torch.as_tensor(lazy.plan_operator @ given[3])
    torch.testing.assert_close(pulled, plan @ b, rtol=0, atol=1e-5)
    if "debias" not in options:
        torch.testing.assert_close(float(lazy.value), float(dense.value), rtol=1e-4, atol=0)


def image(seed: int, D: int) -> torch.Tensor:
    drawn = torch.rand(2, 1, *(16,) * D, generator=torch.Generator().manual_seed(seed)) + 0.01
    return (drawn / drawn.sum(dim=tuple(range(1, D + 2)), keepdim=True)).double()


@pytest.mark.parametrize("D", [2, 3])
@pytest.mark.parametrize("p", [1, 2])
def test_images(D, p, monkeypatch):
    results = []
    for lazy_class in (utils.LazyTensor, lambda tensor: tensor):  # what it does works on tensors
        monkeypatch.setattr(utils, "LazyTensor", lazy_class)
        a, b = image(1, D).requires_grad_(), image(2, D).requires_grad_()
        value = geomloss.sinkhorn_divergence(a, b, p=p, blur=0.1)
        results.append([value.detach(), *torch.autograd.grad(value.sum(), [a, b])])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("D", [1, 2])
def test_transforms_of_images(D):
    n = 12
    g = points(3 * n**D, 1, 4).reshape(3, *(n,) * D)
    grid = torch.cartesian_prod(*[torch.arange(n, dtype=torch.float64)] * D).reshape(n**D, D)
    squared = ((grid[:, None] - grid[None]) ** 2).sum(-1)
    expected = (g.reshape(3, 1, n**D) - squared / 2).amax(-1).reshape(g.shape)
    torch.testing.assert_close(utils.C_transform(g), expected)
