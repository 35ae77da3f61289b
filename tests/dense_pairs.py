"""Dense formulas over pairs: of arrays whose rows, columns and components have an axis each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def distance(arrays: Mapping[str, Any], weights: Any = 1.0) -> Any:
    """The squared distances of x and y."""
    return ((arrays["x"] - arrays["y"]) ** 2 * weights).sum(-1, keepdims=True)


def product(arrays: Mapping[str, Any]) -> Any:
    """The scalar products of x and y."""
    return (arrays["x"] * arrays["y"]).sum(-1, keepdims=True)


def softmax(scores: Any, values: Any) -> Any:
    """The averages of values over columns."""
    weights = np.exp(scores - scores.max(1, keepdims=True))
    return (weights * values).sum(1) / weights.sum(1)
