"""Radial kernels as functions of squared distances, densely computed: for KeOps' own tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

Array = Any


class Kernel(NamedTuple):
    """The kernel of scale s at squared distances, its logarithm, and its derivative in them.

    Each takes the array library, the squared distances and s.
    """

    value: Callable[[Any, Array, Any], Array]
    log: Callable[[Any, Array, Any], Array]
    derivative: Callable[[Any, Array, Any], Array]


KERNELS = {
    "gaussian": Kernel(
        lambda xp, sq, s: xp.exp(-sq / s**2),
        lambda xp, sq, s: -sq / s**2,
        lambda xp, sq, s: -xp.exp(-sq / s**2) / s**2,
    ),
    "laplacian": Kernel(
        lambda xp, sq, s: xp.exp(-xp.sqrt(sq) / s),
        lambda xp, sq, s: -xp.sqrt(sq) / s,
        lambda xp, sq, s: -xp.exp(-xp.sqrt(sq) / s) / (2 * s * xp.sqrt(sq)),
    ),
    "cauchy": Kernel(
        lambda xp, sq, s: 1 / (1 + sq / s**2),
        lambda xp, sq, s: -xp.log(1 + sq / s**2),
        lambda xp, sq, s: -1 / (s * (1 + sq / s**2)) ** 2,
    ),
    "inverse_multiquadric": Kernel(
        lambda xp, sq, s: (1 + sq / s**2) ** -0.5,
        lambda xp, sq, s: -0.5 * xp.log(1 + sq / s**2),
        lambda xp, sq, s: -0.5 * (1 + sq / s**2) ** -1.5 / s**2,
    ),
}


def kernel(name: str) -> Kernel:
    """A kernel by its name; raises ValueError for another name."""
    if name not in KERNELS:
        raise ValueError(f"kernel must be one of {', '.join(KERNELS)}, not {name!r}")
    return KERNELS[name]


def squared_distances(x: Array, y: Array) -> Array:
    """|x_i - y_j|^2 for x of shape (M, D) and y of shape (N, D)."""
    return ((x[:, None, :] - y[None, :, :]) ** 2).sum(-1)
