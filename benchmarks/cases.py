"""What is computed: one row a case, its inputs, and its float64 value on a sample of the outputs.

The targets are ratios: KeOps' time over redcomp's on the same machine, in the same run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
SAMPLE = 32  # outputs that are checked


@dataclass(frozen=True, slots=True)
class Argument:
    """A variable of a formula; `dim` None stands for the case's dimension."""

    name: str
    kind: str
    dim: int | None = None


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula, its variables, and its summands in NumPy from arrays that broadcast."""

    name: str
    text: str
    arguments: tuple[Argument, ...]
    terms: Callable[..., Array]


def _square_distance(x: Array, y: Array) -> Array:
    squares: Array = np.square(x - y).sum(axis=-1, keepdims=True)
    return squares


GAUSSIAN = Formula(
    "gaussian",
    "Exp(-SqDist(x,y))*b",
    (Argument("x", "Vi"), Argument("y", "Vj"), Argument("b", "Vj", 1)),
    lambda x, y, b: np.exp(-_square_distance(x, y)) * b,
)
LAPLACIAN = Formula(
    "laplacian",
    "Exp(-Sqrt(SqDist(x,y)))*b",
    GAUSSIAN.arguments,
    lambda x, y, b: np.exp(-np.sqrt(_square_distance(x, y))) * b,
)
SEED = Formula(
    "seed",
    "Square(p-a)*Exp(x+y)",
    (Argument("x", "Vi"), Argument("y", "Vj"), Argument("a", "Vj", 1), Argument("p", "Pm", 1)),
    lambda x, y, a, p: np.square(p - a) * np.exp(x + y),
)


@dataclass(frozen=True, slots=True)
class Case:
    """One formula at one size; with `gradient`, forward and backward for all variables."""

    name: str
    formula: Formula
    dim: int
    dtype: str
    rows: int
    columns: int
    target: float | None = None
    gradient: bool = False

    @property
    def title(self) -> str:
        what = "forward and all gradients of " if self.gradient else ""
        sizes = f"{self.rows:,} x {self.columns:,}"
        return f"{what}`{self.formula.text}`, D = {self.dim}, {self.dtype}, {sizes}"

    @property
    def pairs(self) -> int:
        return self.rows * self.columns

    @property
    def aliases(self) -> list[str]:
        """The variables as KeOps declares them."""
        return [f"{a.name} = {a.kind}({a.dim or self.dim})" for a in self.formula.arguments]

    @property
    def tolerance(self) -> float:
        """The error, relative to the largest value, from which on a result counts as wrong."""
        return 1e-3 if self.dtype == "float32" else 1e-9


CASES: tuple[Case, ...] = (
    Case("gaussian-3-f32", GAUSSIAN, 3, "float32", 10_000, 10_000, target=25),
    Case("gaussian-3-f64", GAUSSIAN, 3, "float64", 10_000, 10_000, target=8),
    Case("gaussian-64-f32", GAUSSIAN, 64, "float32", 10_000, 10_000, target=30),
    Case("laplacian-3-f32", LAPLACIAN, 3, "float32", 10_000, 10_000, target=20),
    Case("seed", SEED, 3, "float32", 5_000, 5_000, target=20),
    Case("gaussian-gradients", GAUSSIAN, 3, "float32", 10_000, 10_000, gradient=True),
    Case("small", GAUSSIAN, 3, "float32", 100, 100),
    Case("small-gradients", GAUSSIAN, 3, "float32", 100, 100, gradient=True),
)
COMPILE_CASES: tuple[Case, ...] = (
    Case("compile", GAUSSIAN, 3, "float32", 1_000, 1_000),
    Case("compile-gradients", GAUSSIAN, 3, "float32", 1_000, 1_000, gradient=True),
)
MEMORY_CASE = Case("memory", GAUSSIAN, 3, "float32", 100_000, 100_000)


def inputs(case: Case) -> list[Array]:
    """The arguments, uniform in [0, 1), always the same; with `gradient`, a cotangent last."""
    rng = np.random.default_rng(0)
    leading = {"Vi": (case.rows,), "Vj": (case.columns,), "Pm": ()}
    shapes = [(*leading[a.kind], a.dim or case.dim) for a in case.formula.arguments]
    if case.gradient:
        shapes.append((case.rows, 1))
    return [rng.random(shape).astype(case.dtype) for shape in shapes]


def sample(case: Case) -> Array:
    """The positions at which every output is compared with `reference`."""
    smallest = min(case.rows, case.columns)
    return np.random.default_rng(1).choice(smallest, min(SAMPLE, smallest), replace=False)


def reference(case: Case, arrays: Sequence[Array]) -> list[Array]:
    """The outputs at the sample's positions, densely and in float64."""
    chosen = sample(case)
    arrays = [array.astype("float64") for array in arrays]
    if case.gradient:
        return _gaussian_gradients(chosen, *arrays)
    broadcast = {
        "Vi": lambda v: v[chosen, None, :],
        "Vj": lambda v: v[None, :, :],
        "Pm": lambda v: v[None, None, :],
    }
    operands = [broadcast[a.kind](v) for a, v in zip(case.formula.arguments, arrays, strict=True)]
    return [case.formula.terms(*operands).sum(axis=1)]


def _gaussian_gradients(chosen: Array, x: Array, y: Array, b: Array, e: Array) -> list[Array]:
    """The gradients of sum_ij e_i exp(-|x_i - y_j|^2) b_j, derived by hand."""
    towards_y = x[chosen, None, :] - y[None, :, :]
    weights = np.exp(-np.square(towards_y).sum(-1)) * e[chosen] * b[:, 0]
    gradient_x = -2 * np.einsum("ij,ijk->ik", weights, towards_y)

    from_x = x[:, None, :] - y[None, chosen, :]
    weights = np.exp(-np.square(from_x).sum(-1)) * e
    gradient_b = weights.sum(axis=0)[:, None]
    gradient_y = 2 * np.einsum("ij,ijk->jk", weights, from_x) * b[chosen]
    return [gradient_x, gradient_y, gradient_b]
