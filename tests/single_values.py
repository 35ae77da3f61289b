"""Formulas and reductions of a few numbers, for tests that compare them with known values: CPU."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

import redcomp.torch
from redcomp.numpy import Genred

Array = Any
INF, NAN = math.inf, math.nan
SPREAD = np.random.default_rng(0).uniform(0.3, 2.0, (50, 3))
PAIR = ["x=Vi(3)", "y=Vj(3)", "b=Vj(1)"]


def uniform(*shape: int, seed: int = 1) -> Array:
    """Numbers from 0 to 1."""
    return np.random.default_rng(seed).random(shape)


def column(*numbers: float, dtype: Any = np.float64) -> Array:
    """Scalars, one a row."""
    return np.array(numbers, dtype)[:, None]


def value(formula: str, *args: Array, kinds: str = "") -> Array:
    """The formula at each row: its sum over no other index.

    Arguments are called x, y, z, all variables of i unless `kinds` has a p (a parameter).
    """
    aliases = [
        f"{name} = {'Pm' if kind == 'p' else 'Vi'}({arg.shape[-1]})"
        for name, kind, arg in zip("xyz", kinds.ljust(3, "i"), args, strict=False)
    ]
    return Genred(formula, aliases, axis=1)(*args)


def gradient(formula: str, *args: Array) -> list[Array]:
    """The gradients of the sum of all the formula's components, by redcomp's reverse mode."""
    aliases = [f"{n} = Vi({a.shape[-1]})" for n, a in zip("xyz", args, strict=False)]
    leaves = [torch.tensor(a, requires_grad=True) for a in args]
    result = redcomp.torch.Genred(formula, aliases, axis=1)(*leaves)
    return [g.numpy() for g in torch.autograd.grad(result.sum(), leaves)]


def reduced(op: str, x: Array, formula: str = "x", **options: Any) -> Array:
    """A reduction of the rows of x to one row."""
    aliases = [f"x = Vj({x.shape[-1]})"]
    result = Genred(formula, aliases, op, axis=1, **options)(x)
    return result[0] if isinstance(result, np.ndarray) else [part[0] for part in result]


def close(result: Array, expected: Array, units: float = 8.0) -> None:
    """Equal but for some units in the last place of the result's dtype."""
    bound = units * np.finfo(np.asarray(result).dtype).eps
    np.testing.assert_allclose(result, expected, rtol=bound, atol=bound)
