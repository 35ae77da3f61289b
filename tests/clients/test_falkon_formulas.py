"""The formulas that falkon reduces, called as it calls them, against dense NumPy: needs PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pykeops.torch import Genred

pytestmark = pytest.mark.usefixtures("reductions")

Array = NDArray[np.float64]
M, N, D, T = 70, 90, 5, 3


def distances(x: Array, y: Array) -> Array:
    return np.sqrt(((x[:, None] - y[None]) ** 2).sum(-1))


def matern52(r: Array) -> Array:
    return (1 + np.sqrt(5) * r + 5 / 3 * r**2) * np.exp(-np.sqrt(5) * r)


# The formula, its parameters in order, and the kernel as a function of points and parameters.
Kernel = Callable[..., Array]
CASES: dict[str, tuple[str, tuple[str, ...], Kernel]] = {
    "gaussian": (
        "Exp(SqDist(x1 / g, x2 / g) * IntInv(-2)) * v",
        ("g",),
        lambda x, y, g: np.exp(-(distances(x / g, y / g) ** 2) / 2),
    ),
    "laplacian": (
        "Exp(-Sqrt(SqDist(x1 / g, x2 / g))) * v",
        ("g",),
        lambda x, y, g: np.exp(-distances(x / g, y / g)),
    ),
    "matern32": (
        "((IntCst(1) + Sqrt(IntCst(3)) * Norm2(x1 / s - x2 / s)) * "
        "Exp(-Sqrt(IntCst(3)) * Norm2(x1 / s - x2 / s))) * v",
        ("s",),
        lambda x, y, s: (
            (1 + np.sqrt(3) * distances(x / s, y / s))
            * np.exp(-np.sqrt(3) * distances(x / s, y / s))
        ),
    ),
    "matern52": (
        "((IntCst(1) + Sqrt(IntCst(5)) * Norm2(x1 / s - x2 / s) + "
        "(IntInv(3) * IntCst(5)) * SqNorm2(x1 / s - x2 / s)) * "
        "Exp(-Sqrt(IntCst(5)) * Norm2(x1 / s - x2 / s))) * v",
        ("s",),
        lambda x, y, s: matern52(distances(x / s, y / s)),
    ),
    "polynomial": (
        "Powf((gamma * (X | Y) + beta), degree) * v",
        ("gamma", "beta", "degree"),
        lambda x, y, gamma, beta, degree: (gamma * x @ y.T + beta) ** degree,
    ),
}
PARAMETERS = {"gamma": [0.7], "beta": [1.5], "degree": [2.5]}


def problem(name: str, scales: int) -> tuple[str, list[str], list[Array], Array]:
    """The formula, its aliases and arguments, and the dense result."""
    formula, parameters, kernel = CASES[name]
    random = np.random.default_rng(0)
    x, y, v = random.random((M, D)), random.random((N, D)), random.standard_normal((N, T))
    first, second = ("X", "Y") if "X" in formula else ("x1", "x2")
    aliases = [f"{first} = Vi({D})", f"{second} = Vj({D})", f"v = Vj({T})"]
    values = [np.array(PARAMETERS.get(p, 0.5 + random.random(scales))) for p in parameters]
    aliases += [f"{p} = Pm({len(value)})" for p, value in zip(parameters, values, strict=True)]
    return formula, aliases, [x, y, v, *values], kernel(x, y, *values) @ v


def call(formula: str, aliases: list[str], arguments: list[Any], **options: Any) -> Any:
    reduce = Genred(
        formula,
        aliases,
        reduction_op="Sum",
        axis=1,
        dtype_acc="float64",
        sum_scheme="auto",
        rec_multVar_highdim=True,
    )
    return reduce(*arguments, backend="CPU", device_id=-1, **options)


NAMES = list(CASES)


@pytest.mark.parametrize("scales", [1, D])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_values(name, dtype, scales):
    formula, aliases, arrays, expected = problem(name, scales)
    out = torch.empty(M, T, dtype=dtype)
    given = [torch.from_numpy(a).to(dtype) for a in arrays]
    assert call(formula, aliases, given, out=out) is out
    rtol = 1e-4 if dtype is torch.float32 else 1e-11
    np.testing.assert_allclose(out.numpy(), expected, rtol=rtol, atol=rtol * np.abs(expected).max())


@pytest.mark.parametrize("scales", [1, D])
@pytest.mark.parametrize("name", NAMES)
def test_gradients(name, scales):
    formula, aliases, arrays, _ = problem(name, scales)
    given = [torch.from_numpy(a).requires_grad_() for a in arrays]
    weights = np.random.default_rng(1).standard_normal((M, T))
    out = call(formula, aliases, given)
    found = torch.autograd.grad(out, given, torch.from_numpy(weights))
    kernel = CASES[name][2]
    h = 1e-6
    for place, (array, gradient) in enumerate(zip(arrays, found, strict=True)):
        direction = np.random.default_rng(place).standard_normal(array.shape)
        moved = []
        for sign in (h, -h):
            x, y, v, *parameters = [
                a + sign * direction if n == place else a for n, a in enumerate(arrays)
            ]
            moved.append(float((weights * (kernel(x, y, *parameters) @ v)).sum()))
        slope = (moved[0] - moved[1]) / (2 * h)
        along = float((gradient.numpy() * direction).sum())
        np.testing.assert_allclose(along, slope, rtol=1e-5, atol=1e-6)


def test_several_threads_at_once():
    problems = [problem(name, scales) for name in NAMES for scales in (1, D)] * 3

    def run(case: tuple[str, list[str], list[Array], Array]) -> float:
        formula, aliases, arrays, expected = case
        found = call(formula, aliases, [torch.from_numpy(a) for a in arrays])
        return float(np.abs(found.numpy() - expected).max())

    with ThreadPoolExecutor(6) as pool:
        assert max(pool.map(run, problems)) < 1e-9
