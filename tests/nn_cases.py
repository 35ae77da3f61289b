"""The modules of redcomp.torch.nn, what each computes densely, and arguments: needs PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import dense_nn
import torch
from torch.nn.functional import scaled_dot_product_attention

from redcomp.torch import nn
from redcomp.torch.nn.kernels import KERNELS

Tensor = torch.Tensor
Log = Mapping[str, Tensor]

F64 = torch.float64
M, N, D, E, B = 4, 5, 2, 3, 2


def points(count: int, *batch: int, columns: int = D, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(*batch, count, columns, generator=random, dtype=F64)


def clouds(*batch: int) -> tuple[Tensor, Tensor]:
    """x in a batch, and y; a point of each is the same, and two of y are."""
    x, y = points(M, *batch), points(N, seed=1)
    y[0] = x.reshape(-1, D)[0]
    y[2] = y[1]
    return x, y


def weights(count: int, *batch: int) -> Tensor:
    return points(1, *batch, columns=count, seed=2).abs()[..., 0, :]


@dataclass(frozen=True)
class Case:
    """A module, what it computes densely, and arguments in a batch."""

    module: Callable[[], torch.nn.Module]
    dense: Callable[..., Any]
    arguments: Callable[..., tuple[Tensor, ...]]


def log_of(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name.removeprefix("log_"): log for name, log in module.named_parameters()}


def kernel_case(name: str, **options: Any) -> Case:
    return Case(
        lambda: nn.KernelSum(name, **{"lengthscale": 0.8, **options}, dtype=F64),
        lambda log, *args: dense_nn.kernel_sum(*args, name, log),
        lambda *batch: (*clouds(*batch), points(N, columns=E, seed=3)),
    )


def mmd_case(name: str, weighted: bool = False, lengthscale: Any = 0.7, **options: Any) -> Case:
    dense_options = {k: v for k, v in options.items() if k in ("unbiased", "reduction")}
    return Case(
        lambda: nn.MMD(name, lengthscale, learnable=True, dtype=F64, **options),
        lambda log, *args: dense_nn.mmd(*args, kernel_name=name, log=log, **dense_options),
        lambda *batch: (*clouds(*batch), *((weights(M, *batch), weights(N)) if weighted else ())),
    )


def energy_case(weighted: bool = False, **options: Any) -> Case:
    return Case(
        lambda: nn.EnergyDistance(**options),
        lambda log, *args: dense_nn.energy(*args, **options),
        lambda *batch: (*clouds(*batch), *((weights(M), weights(N)) if weighted else ())),
    )


def chamfer_case(**options: Any) -> Case:
    return Case(
        lambda: nn.ChamferDistance(**options),
        lambda log, *args: dense_nn.chamfer(*args, **options),
        lambda *batch: clouds(*batch),
    )


LABELS = torch.tensor([3, 0, 3, 7])  # 0 and 7 are those of single points
CASES = {
    **{name: kernel_case(name) for name in KERNELS if name != "rational_quadratic"},
    "rational_quadratic": kernel_case("rational_quadratic", alpha=0.6),
    "gaussian, per feature": kernel_case("gaussian", lengthscale=[0.8, 1.3], outputscale=2.5),
    "laplacian, per feature": kernel_case("laplacian", lengthscale=[0.8, 1.3]),
    "periodic, per feature": kernel_case("periodic", lengthscale=[0.8, 1.3], period=[1.5, 0.9]),
    "MMD laplacian": mmd_case("laplacian"),
    "MMD of several": mmd_case("gaussian", lengthscale=[0.5, 1.0, 2.0], unbiased=True),
    "MMD with weights": mmd_case("gaussian", True, [0.5, 1.0, 2.0], reduction="none"),
    "MMD unbiased with weights": mmd_case("gaussian", True, unbiased=True, reduction="sum"),
    "MMD alpha": mmd_case("rational_quadratic", lengthscale=[0.5, 1.0], alpha=0.4),
    "energy": energy_case(),
    "energy, unbiased": energy_case(unbiased=True, reduction="none"),
    "energy with weights": energy_case(True, unbiased=True, reduction="sum"),
    "Chamfer": chamfer_case(),
    "Chamfer, unsquared": chamfer_case(squared=False, directions="both", reduction="sum"),
    "Chamfer, one way": chamfer_case(directions="x_to_y"),
    "Chamfer of points": chamfer_case(squared=False, reduction="none"),
    "soft nearest": Case(
        lambda: nn.SoftNearestNeighbour(0.7, dtype=F64),
        lambda log, *args: dense_nn.soft_nearest(*args, log),
        lambda *batch: (*clouds(*batch), points(N, columns=E, seed=3)),
    ),
    "soft nearest, onto y": Case(
        lambda: nn.SoftNearestNeighbour(0.7, dtype=F64),
        lambda log, x, y: dense_nn.soft_nearest(x, y, y, log),
        lambda *batch: clouds(*batch),
    ),
    **{
        f"soft nearest loss, {reduction}": Case(
            lambda r=reduction: nn.SoftNearestNeighbourLoss(  # type: ignore[misc]
                0.7, learnable=True, reduction=r, dtype=F64
            ),
            lambda log, x, r=reduction: dense_nn.soft_nearest_loss(x, LABELS, log, r),
            lambda *batch: (points(M, *batch),),
        )
        for reduction in ("mean", "sum", "none")
    },
    "attention": Case(
        lambda: nn.Attention(),
        lambda log, *args: scaled_dot_product_attention(*args),
        lambda *batch: (points(M, *batch), points(N, seed=1), points(N, columns=E, seed=3)),
    ),
}


def called(module: torch.nn.Module, args: tuple[Tensor, ...]) -> Any:
    """The module's result; the loss takes its labels here, which have no gradient."""
    further = (
        (LABELS.to(args[0].device),) if isinstance(module, nn.SoftNearestNeighbourLoss) else ()
    )
    return module(*args, *further)


def total(result: Any) -> Tensor:
    """A number that all of the result influences."""
    parts = result if isinstance(result, tuple) else (result,)
    return sum(((p * p.detach().cos()).sum() for p in parts), torch.zeros((), dtype=F64))


def check(ours: Any, dense: Any) -> None:
    torch.testing.assert_close(ours, dense, rtol=1e-9, atol=1e-11)
