"""`SoftNearestNeighbour` and `SoftNearestNeighbourLoss`: softmaxes of distances."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from redcomp import arguments
from redcomp.errors import ArgumentError
from redcomp.torch.genred import Genred
from redcomp.torch.nn.shared import (
    NEVER,
    REDUCTIONS,
    Positive,
    add_positive,
    check_clouds,
    check_dtype,
    check_each,
    check_points,
    features,
    over_columns,
    shared,
    shown_values,
)
from redcomp.typing import LossReduction


def _clouds(columns: int, *further: str) -> list[str]:
    return [f"x = Vi({columns})", f"y = Vj({columns})", *further]


@shared
def _soft_nearest(columns: int, outputs: int) -> Genred:
    """sum_j softmax_j(-|x_i - y_j|^2 / temperature) v_j."""
    aliases = _clouds(columns, "log_temperature = Pm(1)", f"values = Vj({outputs})")
    score = "-(Exp(-log_temperature) * SqDist(x, y))"
    return over_columns(score, aliases, "SumSoftMaxWeight", "values")


@shared
def _same_and_other(columns: int) -> Genred:
    """log sum_j exp(-|x_i - x_j|^2 / temperature), over others of the same class, and over all."""
    aliases = _clouds(
        columns, "log_temperature = Pm(1)", "labels = Vi(1, int)", "others = Vj(1, int)"
    )
    score = "-(Exp(-log_temperature) * SqDist(x, y))"
    of_others = f"IfElse((Ind_i() != Ind_j()) - 1, {score}, {NEVER})"
    of_same = f"IfElse((labels == others) - 1, {of_others}, {NEVER})"
    return over_columns([of_same, of_others], aliases, "LogSumExp")


class SoftNearestNeighbour(nn.Module):
    """Values of the nearest points, softly: sum_j softmax_j(-|x_i - y_j|^2 / temperature) v_j.

    temperature  a positive number; the smaller, the closer to the nearest point's value.  The
                 parameter is its logarithm, `log_temperature`, so it stays positive
    learnable    whether the parameter requires a gradient

    Shapes: x (..., M, D), y (..., N, D), values (..., N, E), by default y itself, so that x is
    projected onto the cloud; one-hot values give the probabilities of classes.  The result is
    (..., M, E).  Large distances do not underflow.

    Raises ArgumentError (a ValueError) that names the argument, also for a cloud without points.
    """

    log_temperature: nn.Parameter
    temperature = Positive()

    def __init__(
        self,
        temperature: float = 1.0,
        *,
        learnable: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        learnable = arguments.switch("learnable", learnable)
        add_positive(
            *(self, "temperature", temperature, device, dtype), is_single=True, learnable=learnable
        )

    def forward(self, x: Tensor, y: Tensor, values: Tensor | None = None) -> Tensor:
        """The weighted values."""
        check_clouds(x, y)
        check_dtype(self, x)
        values = y if values is None else values
        check_points("values", values)
        reduction = _soft_nearest(features(x), features(values))
        result: Tensor = reduction(x, y, self.log_temperature, values)
        return result

    def extra_repr(self) -> str:
        return shown_values(self, ("temperature",))


class SoftNearestNeighbourLoss(nn.Module):
    """The soft nearest neighbour loss of Frosst, Papernot and Hinton (2019).

    The mean over points i of -log(A_i / B_i), where A_i is the sum of exp(-|x_i - x_j|^2 /
    temperature) over all other points j with the label of i, and B_i over all other points.  It is
    small where classes lie apart.  Points whose label no other point has are left out.

    temperature  a positive number, whose logarithm is the parameter `log_temperature`
    learnable    whether the parameter requires a gradient
    reduction    over points and batch: "mean", "sum", or "none", which gives 0 for points that are
                 left out

    Shapes: x (..., M, D), labels (..., M), of integers that int32 holds.  If all points are left
    out, the mean is NaN.

    Raises ArgumentError (a ValueError) that names the argument, also for a cloud without points.
    """

    log_temperature: nn.Parameter
    temperature = Positive()

    def __init__(
        self,
        temperature: float = 1.0,
        *,
        learnable: bool = False,
        reduction: LossReduction = "mean",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.reduction = arguments.one_of("reduction", reduction, REDUCTIONS)
        learnable = arguments.switch("learnable", learnable)
        add_positive(
            *(self, "temperature", temperature, device, dtype), is_single=True, learnable=learnable
        )

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """The loss."""
        check_clouds(x, x)
        check_dtype(self, x)
        check_each("labels", labels, x)
        if labels.is_floating_point() or labels.is_complex():
            raise ArgumentError(f"argument 'labels' has dtype {labels.dtype}; expected integers")
        classes = labels[..., None].to(torch.int32)
        same, others = _same_and_other(features(x))(x, x, self.log_temperature, classes, classes)
        counts = same > NEVER / 2
        losses = torch.where(counts, others - same, 0.0)[..., 0]
        if self.reduction == "mean":
            losses = losses / counts.sum()
        return losses if self.reduction == "none" else losses.sum()

    def extra_repr(self) -> str:
        return f"{shown_values(self, ('temperature',))}, reduction={self.reduction!r}"
