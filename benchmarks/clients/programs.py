"""What is timed: one call of a package, with its gradients, on so many points in 3 dimensions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Call = Callable[[], Any]


def _points(n: int, seed: int, columns: int = 3) -> Any:
    import torch

    return torch.rand(n, columns, generator=torch.Generator().manual_seed(seed))


def _geomloss(loss: str, **options: Any) -> Callable[[int], Call]:
    def prepare(n: int) -> Call:
        import torch
        from geomloss import SamplesLoss

        x, y = _points(n, 1).requires_grad_(), _points(n, 2) + 0.1
        compute = SamplesLoss(loss, backend="online", **options)

        def call() -> Any:
            value = compute(x, y)
            (gradient,) = torch.autograd.grad(value, x)
            return torch.cat([value.detach().reshape(1), gradient.reshape(-1)])

        return call

    return prepare


def _gpytorch(name: str, **options: Any) -> Callable[[int], Call]:
    def prepare(n: int) -> Call:
        import torch
        from gpytorch.kernels import keops

        kernel = getattr(keops, name)(**options)
        x, y, right = _points(n, 1).requires_grad_(), _points(n, 2), _points(n, 3, 10)
        inputs = [x, *kernel.parameters()]

        def call() -> Any:
            product = kernel(x, y) @ right
            gradients = torch.autograd.grad(product.sum(), inputs)
            return torch.cat([t.detach().reshape(-1) for t in (product, *gradients)])

        return call

    return prepare


PROGRAMS: Mapping[str, Callable[[int], Call]] = {
    "geomloss, Sinkhorn": _geomloss("sinkhorn", p=2, blur=0.1),
    "geomloss, energy distance": _geomloss("energy"),
    "gpytorch, RBF, 10 columns": _gpytorch("RBFKernel"),
    "gpytorch, Matern 5/2, 10 columns": _gpytorch("MaternKernel", nu=2.5),
}
