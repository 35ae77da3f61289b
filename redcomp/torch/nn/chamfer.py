"""`ChamferDistance`: distances to nearest points."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from redcomp import arguments
from redcomp.torch.genred import Genred
from redcomp.torch.nn.shared import (
    REDUCTIONS,
    check_clouds,
    features,
    over_columns,
    reduced,
    shared,
)
from redcomp.typing import Directions, LossReduction

DIRECTIONS = ("sum", "both", "x_to_y")


@shared
def _nearest(columns: int) -> Genred:
    """min_j |x_i - y_j|^2, and where."""
    aliases = [f"x = Vi({columns})", f"y = Vj({columns})"]
    return over_columns("SqDist(x, y)", aliases, "Min_ArgMin")


class ChamferDistance(nn.Module):
    """The mean distance of the points of each of two clouds to the nearest one of the other.

    squared         squared distances, the default, or distances
    directions      "sum" of both, "both" as a pair, or "x_to_y" alone, which takes half the time
    return_indices  also return the number of each point's nearest neighbour, int64
    reduction       over points and batch: "mean", for each direction over its points, "sum", or
                    "none", which gives the distances of all points: a pair, but for "x_to_y"

    Shapes: x (..., M, D), y (..., N, D); distances and indices of all points are (..., M) and
    (..., N).  With return_indices the result is (distances, indices); indices are a pair, but for
    "x_to_y".  Among equally near points the first one counts.

    The gradient is that of the distances between nearest neighbours; that of an unsquared distance
    is 0 where the points coincide.

    Raises ArgumentError (a ValueError) that names the argument, also for a cloud without points.
    """

    def __init__(
        self,
        *,
        squared: bool = True,
        directions: Directions = "sum",
        return_indices: bool = False,
        reduction: LossReduction = "mean",
    ) -> None:
        super().__init__()
        self.squared = arguments.switch("squared", squared)
        self.directions = arguments.one_of("directions", directions, DIRECTIONS)
        self.return_indices = arguments.switch("return_indices", return_indices)
        self.reduction = arguments.one_of("reduction", reduction, REDUCTIONS)

    def forward(self, x: Tensor, y: Tensor) -> Any:
        """The distance, or what the options ask for."""
        check_clouds(x, y)
        distances, indices = self._to_nearest(x, y)
        if self.directions != "x_to_y":
            back, places = self._to_nearest(y, x)
            indices = (indices, places)
            if self.directions == "both" or self.reduction == "none":
                distances = (distances, back)
            else:
                distances = distances + back
        return (distances, indices) if self.return_indices else distances

    def _to_nearest(self, x: Tensor, y: Tensor) -> tuple[Any, Any]:
        """The reduced distances of x to their nearest y, and which these are."""
        least, indices = _nearest(features(x))(x, y)
        if not self.squared:
            apart = least > 0
            least = torch.where(apart, torch.where(apart, least, 1.0).sqrt(), 0.0)
        return reduced(least[..., 0], self.reduction), indices[..., 0]

    def extra_repr(self) -> str:
        return (
            f"squared={self.squared}, directions={self.directions!r}, "
            f"return_indices={self.return_indices}, reduction={self.reduction!r}"
        )
