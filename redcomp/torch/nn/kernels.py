"""Kernels by name, and `KernelSum`: a kernel's matrix times a vector."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from redcomp import arguments
from redcomp.errors import ArgumentError
from redcomp.records import record
from redcomp.torch.genred import Genred
from redcomp.torch.nn.shared import (
    Numbers,
    Positive,
    add_positive,
    check_dtype,
    check_points,
    features,
    over_columns,
    positive_numbers,
    shared,
    shown_values,
)
from redcomp.typing import KernelName


@record
class Kernel:
    """A kernel k(x, y) with k(x, x) = 1, as texts of formulas; s is a distance, scaled.

    value     of the kernel, from s
    scale     what the distance is multiplied by, from log_lengthscale
    distance  between x and y, the same in all directions
    weighted  the scaled distance, where each feature has a scale
    extra     names of the kernel's further numbers
    """

    value: str
    scale: str
    distance: str
    weighted: str
    extra: tuple[str, ...] = ()

    def isotropic(self) -> str:
        """The kernel for one lengthscale; for several, a vector of kernels, one for each."""
        return self.value.format(s=f"({self.scale} * {self.distance})")

    def per_feature(self) -> str:
        """The kernel for a lengthscale of each feature."""
        return self.value.format(s=self.weighted.format(scale=self.scale))


def _euclidean(value: str, factor: str, *extra: str) -> Kernel:
    """A kernel of s = factor * |x - y|^2 / lengthscale^2."""
    scale = f"({factor} * Exp(-2 * log_lengthscale))"
    return Kernel(value, scale, "SqDist(x, y)", "WeightedSqDist({scale}, x, y)", extra)


_NUMBERS = ("lengthscale", "outputscale", "alpha", "period")
_SINE = f"Sin({math.pi} * Exp(-log_period) * (x - y))"
KERNELS = {
    "gaussian": _euclidean("Exp(-{s})", "0.5"),
    "laplacian": Kernel(
        "Exp(-{s})", "Exp(-log_lengthscale)", "Sum(Abs(x - y))", "Sum({scale} * Abs(x - y))"
    ),
    "matern12": _euclidean("Exp(-Sqrt({s}))", "1"),
    "matern32": _euclidean("Matern32({s})", "3"),
    "matern52": _euclidean("Matern52({s})", "5"),
    "rational_quadratic": _euclidean(
        "Exp(-Exp(log_alpha) * Log1p({s}))", "0.5 * Exp(-log_alpha)", "alpha"
    ),
    "periodic": Kernel(
        "Exp(-{s})",
        "(2 * Exp(-2 * log_lengthscale))",
        f"SqNorm2({_SINE})",
        f"WeightedSqNorm({{scale}}, {_SINE})",
        ("period",),
    ),
}


@shared
def _kernel_sum(name: str, dims: tuple[int, int], sizes: tuple[tuple[str, int], ...]) -> Genred:
    """sum_j k(x_i, y_j) b_j, where x has dims[0] features and b has dims[1]."""
    kernel, lengths = KERNELS[name], dict(sizes)
    is_isotropic = lengths["log_lengthscale"] == 1
    value = kernel.isotropic() if is_isotropic else kernel.per_feature()
    if "log_outputscale" in lengths:
        value = f"Exp(log_outputscale) * {value}"
    columns, outputs = dims
    aliases = [f"x = Vi({columns})", f"y = Vj({columns})", f"b = Vj({outputs})"]
    parameters = [f"{parameter} = Pm({length})" for parameter, length in sizes]
    return over_columns(f"{value} * b", [*aliases, *parameters])


class KernelSum(nn.Module):
    """K(x, y) @ b, where K is the matrix of a kernel, which is never stored.

    kernel       its name; d is the distance |x - y|, l the lengthscale, p the period:

        gaussian            exp(-d^2 / (2 l^2))
        laplacian           exp(-sum_k |x_k - y_k| / l_k), as scikit-learn's
        matern12            exp(-d / l), the Laplacian kernel of others
        matern32            (1 + r) exp(-r), r = sqrt(3) d / l
        matern52            (1 + r + r^2 / 3) exp(-r), r = sqrt(5) d / l
        rational_quadratic  (1 + d^2 / (2 alpha l^2))^-alpha
        periodic            exp(-2 sum_k sin^2(pi (x_k - y_k) / p_k) / l_k^2): the product over
                            the features of scikit-learn's ExpSineSquared, and gpytorch's
                            PeriodicKernel with a lengthscale of l^2

    lengthscale  a positive number, or one for each feature (a list, or a tensor of one axis); then
                 d^2 / l^2 stands for sum_k (x_k - y_k)^2 / l_k^2
    outputscale  what the sum is multiplied by; None, the default, has no such parameter
    alpha        of rational_quadratic; 1 by default
    period       of periodic: a number, or one for each feature; 1 by default

    The parameters are the logarithms of these: `log_lengthscale`, `log_outputscale`, `log_alpha`,
    `log_period`, each with one axis.  So they stay positive, a step of an optimizer is relative,
    whatever units x has, and no inverse of the parametrization loses digits.  The attributes
    `lengthscale`, `outputscale`, `alpha` and `period` have the numbers themselves, and can be set.

    Values and gradients are finite where points coincide.  The gradients of laplacian and matern12,
    which have a kink there, are 0; those of all others are exact, and to any order the kernel has.

    Shapes: x (..., M, D), y (..., N, D), b (..., N, E) or (N,); the result is (..., M, E) or
    (..., M), and 0 where there are no y.  Leading axes are a batch, and broadcast.

    Raises ArgumentError (a ValueError) that names the argument, here and in calls.
    """

    lengthscale = Positive()
    outputscale = Positive()
    alpha = Positive()
    period = Positive()

    def __init__(
        self,
        kernel: KernelName = "gaussian",
        lengthscale: Numbers = 1.0,
        *,
        outputscale: float | None = None,
        alpha: float | None = None,
        period: Numbers | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.kernel = arguments.one_of("kernel", kernel, KERNELS)
        further = kernel_numbers(self.kernel, alpha=alpha, period=period)
        add_positive(self, "lengthscale", lengthscale, device, dtype)
        add_positive(self, "outputscale", outputscale, device, dtype, is_single=True)
        add_positive(self, "alpha", further["alpha"], device, dtype, is_single=True)
        add_positive(self, "period", further["period"], device, dtype)

    def forward(self, x: Tensor, y: Tensor, b: Tensor) -> Tensor:
        """K(x, y) @ b."""
        check_points("x", x)
        check_points("y", y)
        check_dtype(self, x)
        if isinstance(b, Tensor) and b.dim() == 1:
            return self(x, y, b[:, None])[..., 0]  # type: ignore[no-any-return]
        check_points("b", b)
        columns = features(x)
        sizes, logs = positive_numbers(self, _NUMBERS)
        for name, length in sizes:
            if length not in (1, columns):
                raise ArgumentError(
                    f"argument 'x' has {columns} features, but {name} has {length} numbers"
                )
        reduction = _kernel_sum(self.kernel, (columns, features(b)), sizes)
        result: Tensor = reduction(x, y, b, *logs)
        return result

    def extra_repr(self) -> str:
        return f"{self.kernel!r}, {shown_values(self, _NUMBERS)}"


def kernel_numbers(kernel: str, **given: object) -> dict[str, object]:
    """The further numbers of a kernel, 1 where they are not given, and None where it has none."""
    extra = KERNELS[kernel].extra
    for name, value in given.items():
        if value is not None and name not in extra:
            raise ArgumentError(f"{name} is no number of the kernel {kernel!r}")
    return {
        name: 1.0 if value is None and name in extra else value for name, value in given.items()
    }
