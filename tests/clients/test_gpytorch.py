"""gpytorch's kernels for KeOps against its dense ones; needs gpytorch (extra "clients")."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from packages import package

gpytorch = package("gpytorch")
kernels, keops = package("gpytorch.kernels"), package("gpytorch.kernels.keops")

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("reductions")]

# The KeOps path is taken from 800 points on.
M, N = 810, 850
NAMES = ["RBF", "Matern0.5", "Matern1.5", "Matern2.5", "Periodic"]


def kernel(module: Any, name: str, **options: Any) -> Any:
    """A kernel of `gpytorch.kernels`, or of its `keops`, with hyper-parameters that are not 0."""
    if name.startswith("Matern"):
        made = module.MaternKernel(nu=float(name.removeprefix("Matern")), **options)
    else:
        made = getattr(module, f"{name}Kernel")(**options)
    random = torch.Generator().manual_seed(5)
    for parameter in made.parameters():
        parameter.data = torch.rand(parameter.shape, generator=random, dtype=torch.float64)
    return made


def points(*shape: int, seed: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=random, dtype=torch.float64)


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("ard", [None, 3])
@pytest.mark.parametrize("name", NAMES)
def test_products_and_their_gradients(name, ard, batch):
    """In the points, the right-hand sides and the hyper-parameters."""
    options: dict[str, Any] = {"batch_shape": torch.Size(batch)}
    if ard is not None or name == "Periodic":  # which gpytorch cannot make without
        options["ard_num_dims"] = ard or 3
    results = []
    for module in (kernels, keops):
        made = kernel(module, name, **options)
        x1, x2 = (points(*batch, n, 3, seed=n).requires_grad_() for n in (M, N))
        right = points(*batch, N, 12, seed=3).requires_grad_()
        out = made(x1, x2) @ right
        weights = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).reshape(out.shape)
        inputs = [x1, x2, right, *made.parameters()]
        results.append([out.detach(), *torch.autograd.grad((weights * out).sum(), inputs)])
    for dense, lazy in zip(*results, strict=True):
        assert float((lazy - dense).norm()) <= 1e-10 * float(dense.norm())


@pytest.mark.parametrize("name", NAMES)
def test_diagonals_and_small_matrices_need_no_reduction(name, reductions):
    dense, lazy = (kernel(module, name, ard_num_dims=3) for module in (kernels, keops))
    x = points(50, 3, seed=1)
    torch.testing.assert_close(lazy(x, diag=True), dense(x, diag=True))
    torch.testing.assert_close(lazy(x).to_dense(), dense(x).to_dense())
    assert reductions == []
    reductions.append("none is wanted")


class Model(gpytorch.models.ExactGP):  # type: ignore[misc]
    """A Gaussian process with a kernel of one of the two modules."""

    def __init__(self, module: Any, name: str, x: torch.Tensor, y: torch.Tensor) -> None:
        likelihood = gpytorch.likelihoods.GaussianLikelihood()
        super().__init__(x, y, likelihood)
        self.mean_module = gpytorch.means.ConstantMean()
        self.covar_module = gpytorch.kernels.ScaleKernel(kernel(module, name))
        self.double()
        likelihood.noise = 1.0  # so that conjugate gradients need few steps

    def forward(self, x: torch.Tensor) -> Any:
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


def posterior(module: Any, name: str, *, is_fast: bool) -> list[torch.Tensor]:
    """Mean, variance, standard deviation and confidence region at new points, over 800 of them."""
    x, new = points(M, 2, seed=1), points(N, 2, seed=2)
    y = torch.sin(6 * x[:, 0]) + x[:, 1] + 0.1 * points(M, seed=4)
    model = Model(module, name, x, y).eval()
    with (
        torch.no_grad(),
        gpytorch.settings.fast_pred_var(is_fast),
        gpytorch.settings.eval_cg_tolerance(1e-6),
        gpytorch.settings.max_cg_iterations(30),
        gpytorch.settings.max_root_decomposition_size(100),
    ):
        predicted = model.likelihood(model(new))
        return [
            predicted.mean,
            predicted.variance,
            predicted.stddev,
            *predicted.confidence_region(),
        ]


@pytest.mark.parametrize("name", ["RBF", "Matern1.5"])
def test_predictions_with_variances(name):
    dense, lazy = (posterior(module, name, is_fast=False) for module in (kernels, keops))
    for found, expected in zip(lazy, dense, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_fast_variances():
    dense, lazy = (posterior(module, "RBF", is_fast=True) for module in (kernels, keops))
    for found, expected in zip(lazy, dense, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["RBF", "Matern2.5"])
def test_a_training_step(name):
    """The marginal likelihood and its gradients, by the same random vectors."""
    x = points(M, 2, seed=1)
    y = torch.sin(6 * x[:, 0]) + 0.1 * points(M, seed=4)
    results = []
    for module in (kernels, keops):
        model = Model(module, name, x, y).train()
        torch.manual_seed(0)
        likelihood = gpytorch.mlls.ExactMarginalLogLikelihood(model.likelihood, model)
        with (
            gpytorch.settings.cg_tolerance(1e-6),
            gpytorch.settings.max_cg_iterations(100),
            gpytorch.settings.max_preconditioner_size(0),
        ):
            value = likelihood(model(x), y)
            gradients = torch.autograd.grad(value, list(model.parameters()))
        results.append([value.detach(), *gradients])
    for dense, lazy in zip(*results, strict=True):
        torch.testing.assert_close(lazy, dense, rtol=1e-4, atol=1e-6)
