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


def uneven_blocks(rows: int, columns: int) -> tuple[list[tuple[int, int, Any]], tuple[Any, ...]]:
    """Blocks of rows with their columns, no multiples of anything; and the ranges of them."""
    starts = np.array([[0, 19], [19, 24], [24, rows]])
    kept = [[(3, 9), (20, 41)], [(0, 50)], [(49, 50), (1, 2), (10, 30)]]
    slices = np.cumsum([len(one) for one in kept])
    intervals = np.array([interval for one in kept for interval in one])
    other = (np.array([[0, columns]]), np.array([1]), np.array([[0, rows]]))
    blocks = [
        (int(start), int(stop), np.concatenate([np.arange(*interval) for interval in own]))
        for (start, stop), own in zip(starts, kept, strict=True)
    ]
    return blocks, (starts, slices, intervals, *other)
