"""Distances between two clouds of samples: `MMD` and `EnergyDistance`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from redcomp import arguments
from redcomp.torch.genred import Genred
from redcomp.torch.nn.kernels import KERNELS, kernel_numbers
from redcomp.torch.nn.shared import (
    REDUCTIONS,
    Numbers,
    Positive,
    add_positive,
    check_clouds,
    check_dtype,
    check_each,
    features,
    over_columns,
    positive_numbers,
    reduced,
    shared,
    shown_values,
)
from redcomp.typing import KernelNameOfMMD, LossReduction

_NUMBERS = ("lengthscale", "alpha")
FOR_SEVERAL = tuple(name for name in KERNELS if name != "periodic")


@shared
def _kernel_rows(name: str, columns: int, sizes: tuple[tuple[str, int], ...]) -> Genred:
    """sum_j b_j k(x_i, y_j), k being the sum of a kernel with several lengthscales."""
    aliases = [f"x = Vi({columns})", f"y = Vj({columns})", "b = Vj(1)"]
    parameters = [f"{parameter} = Pm({length})" for parameter, length in sizes]
    return over_columns(f"Sum({KERNELS[name].isotropic()}) * b", [*aliases, *parameters])


@shared
def _distance_rows(columns: int) -> Genred:
    """sum_j b_j |x_i - y_j|."""
    aliases = [f"x = Vi({columns})", f"y = Vj({columns})", "b = Vj(1)"]
    return over_columns("Sqrt(SqDist(x, y)) * b", aliases)


class _Discrepancy(nn.Module):
    """E k(x, x') + E k(y, y') - 2 E k(x, y) for samples x and y, with weights."""

    def __init__(self, unbiased: bool, reduction: LossReduction) -> None:
        super().__init__()
        self.unbiased = arguments.switch("unbiased", unbiased)
        self.reduction = arguments.one_of("reduction", reduction, REDUCTIONS)

    def rows(self, x: Tensor, y: Tensor, b: Tensor) -> Tensor:
        """(..., M, 1): sum_j b_j k(x_i, y_j)."""
        raise NotImplementedError

    def diagonal(self) -> int:
        """k(x, x), which is the same for all x."""
        raise NotImplementedError

    def forward(
        self,
        x: Tensor,
        y: Tensor,
        x_weights: Tensor | None = None,
        y_weights: Tensor | None = None,
    ) -> Tensor:
        """The discrepancy, reduced over the batch."""
        check_clouds(x, y)
        check_dtype(self, x)
        a = _shares("x_weights", x_weights, x)
        b = _shares("y_weights", y_weights, y)
        across = (a * self.rows(x, y, b)).sum((-2, -1))
        return reduced(self._within(x, a) + self._within(y, b) - 2 * across, self.reduction)

    def _within(self, x: Tensor, a: Tensor) -> Tensor:
        """The mean of k(x, x'): over all pairs, or without those of a point with itself."""
        total = (a * self.rows(x, x, a)).sum((-2, -1))
        if not self.unbiased:
            return total
        itself = (a * a).sum((-2, -1))
        return (total - self.diagonal() * itself) / (1 - itself)

    def extra_repr(self) -> str:
        return f"unbiased={self.unbiased}, reduction={self.reduction!r}"


def _shares(name: str, weights: Tensor | None, points: Tensor) -> Tensor:
    """(..., M, 1): the weights over their sum; as much for each point if there are none."""
    count = points.shape[-2]
    if weights is None:
        return points.new_full((count, 1), 1 / count)
    check_each(name, weights, points)
    return (weights / weights.sum(-1, keepdim=True))[..., None]


class MMD(_Discrepancy):
    """The squared maximum mean discrepancy of two samples.

    E k(x, x') + E k(y, y') - 2 E k(x, y), where k is a kernel, or the sum of one with several
    lengthscales, which is computed in the same sweep over the pairs.

    kernel       as that of `KernelSum`, but for "periodic"
    lengthscale  a positive number or several
    unbiased     leave out the pairs of a point with itself, so that the expectation is that of the
                 distributions; the value may be below 0, and is NaN for a single point.  Else, 0
                 where the samples are the same
    alpha        of the kernel rational_quadratic; 1 by default
    learnable    whether `log_lengthscale` and `log_alpha`, the parameters, require a gradient
    reduction    over the batch: "mean", "sum" or "none"

    Shapes: x (..., M, D), y (..., N, D), their weights (..., M) and (..., N), which are divided by
    their sums; without weights all points count the same.  The result has no axes, or those of the
    batch.

    This is the square: the root has no finite gradient where it is 0.

    Raises ArgumentError (a ValueError) that names the argument, here and in calls, also for a cloud
    without points.
    """

    log_lengthscale: nn.Parameter
    lengthscale = Positive()
    alpha = Positive()

    def __init__(
        self,
        kernel: KernelNameOfMMD = "gaussian",
        lengthscale: Numbers = 1.0,
        *,
        unbiased: bool = False,
        alpha: float | None = None,
        learnable: bool = False,
        reduction: LossReduction = "mean",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(unbiased, reduction)
        self.kernel = arguments.one_of("kernel", kernel, FOR_SEVERAL)
        learnable = arguments.switch("learnable", learnable)
        further = kernel_numbers(self.kernel, alpha=alpha)["alpha"]
        add_positive(self, "lengthscale", lengthscale, device, dtype, learnable=learnable)
        add_positive(self, "alpha", further, device, dtype, is_single=True, learnable=learnable)

    def rows(self, x: Tensor, y: Tensor, b: Tensor) -> Tensor:
        sizes, logs = positive_numbers(self, _NUMBERS)
        result: Tensor = _kernel_rows(self.kernel, features(x), sizes)(x, y, b, *logs)
        return result

    def diagonal(self) -> int:
        return self.log_lengthscale.numel()

    def extra_repr(self) -> str:
        return f"{self.kernel!r}, {shown_values(self, _NUMBERS)}, {super().extra_repr()}"


class EnergyDistance(_Discrepancy):
    """The energy distance of two samples: 2 E|x - y| - E|x - x'| - E|y - y'|.

    |x - y| is the Euclidean distance, in any dimension.  This is the D^2 of Szekely and Rizzo:
    twice geomloss' energy distance; in one dimension SciPy's `energy_distance` is its root.

    unbiased   leave out the pairs of a point with itself, so that the expectation is that of the
               distributions; the value may be below 0, and is NaN for a single point.  Else, 0
               where the samples are the same
    reduction  over the batch: "mean", "sum" or "none"

    Shapes and weights are as for `MMD`.  Gradients are finite where points coincide: such a pair
    contributes 0, the middle of the subgradients.

    Raises ArgumentError (a ValueError) that names the argument, here and in calls, also for a cloud
    without points.
    """

    def __init__(self, *, unbiased: bool = False, reduction: LossReduction = "mean") -> None:
        super().__init__(unbiased, reduction)

    def rows(self, x: Tensor, y: Tensor, b: Tensor) -> Tensor:
        result: Tensor = _distance_rows(features(x))(x, y, -b)
        return result

    def diagonal(self) -> int:
        return 0
