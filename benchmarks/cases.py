"""What is computed: one row a case, its inputs, and its float64 value on a sample of the outputs.

A row belongs to a suite, see `benchmarks.suites`.  Its target is a ratio: KeOps' time over
redcomp's on the same machine, in the same run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Array = np.ndarray[Any, Any]
Task = Literal["value", "gradients", "backward"]

SAMPLE = 32  # outputs that are checked
PIECE_BYTES = 2**28  # of an array with a component of each pair of a few rows of the sample
BLOCK = 100  # points in a row and in a column of a block-sparse case
SOLVE_EPS = 1e-4  # root mean square of the residual at which a solver stops


@dataclass(frozen=True, slots=True)
class Argument:
    """A variable of a formula; `dim` None stands for the case's dimension."""

    name: str
    kind: str
    dim: int | None = None


@dataclass(frozen=True, slots=True)
class Reduction:
    """What becomes of the terms of a row.

    name      as KeOps spells it
    value     from terms (M, N, E) and weights (1, N, F), or None, to what is compared
    count     K, the number of columns to keep
    is_index  the result is columns.  They are compared by their terms: rounding may swap columns
              whose terms are nearly equal.
    """

    name: str
    value: Callable[[Array, Array | None], Array]
    count: int | None = None
    is_index: bool = False


def _logsumexp(terms: Array, weights: Array | None) -> Array:
    shift = terms.max(axis=1, keepdims=True)
    result: Array = shift[:, 0] + np.log(np.exp(terms - shift).sum(axis=1))
    return result


def _softmax_average(terms: Array, weights: Array | None) -> Array:
    assert weights is not None
    factors = np.exp(terms - terms.max(axis=1, keepdims=True))[..., 0]
    result: Array = factors @ weights[0] / factors.sum(axis=1, keepdims=True)
    return result


def argkmin(count: int) -> Reduction:
    value = lambda terms, weights: np.sort(terms[..., 0], axis=1)[:, :count]
    return Reduction("ArgKMin", value, count=count, is_index=True)


SUM = Reduction("Sum", lambda terms, weights: terms.sum(axis=1))
LOGSUMEXP = Reduction("LogSumExp", _logsumexp)
SOFTMAX = Reduction("SumSoftMaxWeight", _softmax_average)
ARGMIN = Reduction("ArgMin", lambda terms, weights: terms.min(axis=1), is_index=True)


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula and its reduction, its variables, and its terms in NumPy from broadcast arrays.

    `weights` is the variable that a softmax averages.
    """

    name: str
    text: str
    arguments: tuple[Argument, ...]
    terms: Callable[..., Array]
    reduction: Reduction = SUM
    weights: str | None = None


def _square_distance(x: Array, y: Array) -> Array:
    squares: Array = np.square(x - y).sum(axis=-1, keepdims=True)
    return squares


POINTS = (Argument("x", "Vi"), Argument("y", "Vj"))

GAUSSIAN = Formula(
    "gaussian",
    "Exp(-SqDist(x,y))*b",
    (*POINTS, Argument("b", "Vj", 1)),
    lambda x, y, b: np.exp(-_square_distance(x, y)) * b,
)
WIDTH = Formula(
    "width",
    "Exp(-g*SqDist(x,y))*b",
    (*GAUSSIAN.arguments, Argument("g", "Pm", 1)),
    lambda x, y, b, g: np.exp(-g * _square_distance(x, y)) * b,
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
    (*POINTS, Argument("a", "Vj", 1), Argument("p", "Pm", 1)),
    lambda x, y, a, p: np.square(p - a) * np.exp(x + y),
)
LOG_DENSITY = Formula(
    "logsumexp", "-SqDist(x,y)", POINTS, lambda x, y: -_square_distance(x, y), LOGSUMEXP
)
# Half an iteration of Sinkhorn: the potential f of the columns gives that of the rows.
SINKHORN = Formula(
    "sinkhorn",
    "f-SqDist(x,y)",
    (*POINTS, Argument("f", "Vj", 1)),
    lambda x, y, f: f - _square_distance(x, y),
    LOGSUMEXP,
)


def wide_gaussian(dim: int) -> Formula:
    """A Gaussian times vectors of a dimension."""
    arguments = (*POINTS, Argument("b", "Vj", dim))
    return Formula("wide", GAUSSIAN.text, arguments, GAUSSIAN.terms)


def nearest(name: str, reduction: Reduction) -> Formula:
    return Formula(name, "SqDist(x,y)", POINTS, _square_distance, reduction)


def attention(dim: int) -> Formula:
    """Attention with values of a dimension; the case's dimension is that of queries and keys."""
    arguments = (*POINTS, Argument("b", "Vj", dim))
    terms = lambda x, y, b: (x * y).sum(axis=-1, keepdims=True)
    return Formula("attention", "(x|y)", arguments, terms, SOFTMAX, weights="b")


@dataclass(frozen=True, slots=True)
class Case:
    """One formula at one size.

    task   "value"; "gradients" for a forward and a backward pass for all variables; "backward" for
           the latter alone
    kept   the part of the blocks of BLOCK x BLOCK pairs that are summed, at random; None for all
    alpha  with a number, the last variable b is the right-hand side of (alpha Id + K) a = b, where
           K a is the sum at y = x, and a is what is wanted
    lazy   whether libraries that have LazyTensors build the Gaussian of them anew in each call
    """

    name: str
    formula: Formula
    dim: int
    dtype: str
    rows: int
    columns: int
    target: float | None = None
    task: Task = "value"
    kept: float | None = None
    alpha: float | None = None
    lazy: bool = False

    @property
    def title(self) -> str:
        sizes = f"{self.rows:,} x {self.columns:,}"
        what = f"{self._operation}`{self.formula.text}`, D = {self.dim}, {self.dtype}, {sizes}"
        if self.kept is not None:
            what += f", {self.kept:.0%} of the blocks of {BLOCK} x {BLOCK} and the diagonal"
        return what

    @property
    def _operation(self) -> str:
        """What is done with the formula, where it is no plain sum."""
        if self.lazy:
            what = "forward and all gradients, of " if self.gradient else ""
            return f"{what}LazyTensors, built in each call, of "
        if self.alpha is not None:
            return f"KernelSolve with alpha = {self.alpha:g} of "
        if self.gradient:
            passes = {"gradients": "forward and all gradients", "backward": "backward alone"}
            return f"{passes[self.task]} of "
        reduction, weights = self.formula.reduction, self.formula.weights
        if reduction is SUM:
            return ""
        count = f", K = {reduction.count}," if reduction.count else ""
        dims = [a.dim for a in self.formula.arguments if a.name == weights]
        return f"{reduction.name}{count}{''.join(f', weights of dimension {d},' for d in dims)} of "

    @property
    def gradient(self) -> bool:
        """Whether derivatives are computed, and a cotangent is among the arrays."""
        return self.task != "value"

    @property
    def pairs(self) -> int | None:
        """The pairs of one sweep; None where the number of sweeps is part of what is compared."""
        if self.alpha is not None:
            return None
        if self.kept is not None:
            return BLOCK * BLOCK * int(kept_blocks(self).sum())
        return self.rows * self.columns

    @property
    def aliases(self) -> list[str]:
        """The variables as KeOps declares them."""
        return [f"{a.name} = {a.kind}({a.dim or self.dim})" for a in self.formula.arguments]

    @property
    def tolerance(self) -> float:
        """The error, relative to the largest value, from which on a result counts as wrong."""
        return {"float16": 5e-3, "float32": 1e-3, "float64": 1e-9}[self.dtype]


CASES: tuple[Case, ...] = (
    Case("gaussian-3-f32", GAUSSIAN, 3, "float32", 10_000, 10_000, target=25),
    Case("gaussian-3-f64", GAUSSIAN, 3, "float64", 10_000, 10_000, target=8),
    Case("gaussian-64-f32", GAUSSIAN, 64, "float32", 10_000, 10_000, target=30),
    Case("laplacian-3-f32", LAPLACIAN, 3, "float32", 10_000, 10_000, target=20),
    Case("seed", SEED, 3, "float32", 5_000, 5_000, target=20),
    Case("gaussian-gradients", GAUSSIAN, 3, "float32", 10_000, 10_000, task="gradients"),
    Case("small", GAUSSIAN, 3, "float32", 100, 100),
    Case("small-gradients", GAUSSIAN, 3, "float32", 100, 100, task="gradients"),
    Case("small-lazy", GAUSSIAN, 3, "float32", 100, 100, lazy=True),
    Case("small-lazy-gradients", GAUSSIAN, 3, "float32", 100, 100, task="gradients", lazy=True),
)
REDUCTION_CASES: tuple[Case, ...] = (
    Case("logsumexp", LOG_DENSITY, 3, "float32", 10_000, 10_000),
    Case("argmin", nearest("argmin", ARGMIN), 3, "float32", 10_000, 10_000),
    Case("argkmin-10", nearest("argkmin", argkmin(10)), 3, "float32", 10_000, 10_000),
    Case("argkmin-100", nearest("argkmin", argkmin(100)), 3, "float32", 10_000, 10_000),
    Case("softmax-1", attention(1), 3, "float32", 10_000, 10_000),
    Case("softmax-64", attention(64), 3, "float32", 10_000, 10_000),
    Case("attention-64", attention(64), 64, "float32", 10_000, 10_000),
    Case("block-sparse", GAUSSIAN, 3, "float32", 10_000, 10_000, kept=0.1),
    Case("gaussian-backward", GAUSSIAN, 3, "float32", 10_000, 10_000, task="backward"),
    Case("gaussian-gradients", GAUSSIAN, 3, "float32", 10_000, 10_000, task="gradients"),
    Case("solve", GAUSSIAN, 3, "float32", 5_000, 5_000, alpha=0.1),
)
COMPILE_CASES: tuple[Case, ...] = (
    Case("compile", GAUSSIAN, 3, "float32", 1_000, 1_000),
    Case("compile-gradients", GAUSSIAN, 3, "float32", 1_000, 1_000, task="gradients"),
)
MEMORY_CASE = Case("memory", GAUSSIAN, 3, "float32", 100_000, 100_000)


def inputs(case: Case) -> list[Array]:
    """The arguments, uniform in [0, 1), always the same; with `gradient`, a cotangent last."""
    rng = np.random.default_rng(0)
    leading = {"Vi": (case.rows,), "Vj": (case.columns,), "Pm": ()}
    shapes = [(*leading[a.kind], a.dim or case.dim) for a in case.formula.arguments]
    if case.gradient:
        shapes.append((case.rows, 1))
    arrays = [rng.random(shape).astype(case.dtype) for shape in shapes]
    if case.alpha is not None:
        arrays[1] = arrays[0]
    return arrays


def kept_blocks(case: Case) -> Array:
    """Which blocks of pairs a block-sparse case sums, always the same."""
    assert case.kept is not None
    shape = (case.rows // BLOCK, case.columns // BLOCK)
    return (np.random.default_rng(2).random(shape) < case.kept) | np.eye(*shape, dtype=bool)


def sample(case: Case) -> Array:
    """The positions at which every output is compared with `reference`."""
    smallest = min(case.rows, case.columns)
    return np.random.default_rng(1).choice(smallest, min(SAMPLE, smallest), replace=False)


def reference(case: Case, arrays: Sequence[Array]) -> list[Array]:
    """What `comparable` should give: at the sample's positions, densely and in float64."""
    chosen = sample(case)
    if case.alpha is not None:
        return [arrays[-1][chosen].astype("float64")]
    if case.gradient:
        return _gaussian_gradients(chosen, *(array.astype("float64") for array in arrays))
    value = case.formula.reduction.value
    parts = [value(*_terms(case, arrays, rows)) for rows in _pieces(case)]
    return [np.concatenate(parts)]


def comparable(case: Case, arrays: Sequence[Array], outputs: Sequence[Array]) -> list[Array]:
    """Of outputs, what is compared with `reference`.

    That is their values at the sample's positions; or the terms at the columns that were found; or,
    for a solution a, the product (alpha Id + K) a.
    """
    chosen = sample(case)
    at_sample = [output[chosen] for output in outputs]
    if case.alpha is not None:
        *points, _ = arrays
        (solution,) = outputs
        product = _terms(case, [*points, solution], chosen)[0].sum(axis=1)
        return [case.alpha * at_sample[0].astype("float64") + product]
    if case.formula.reduction.is_index:
        return [_terms_at(case, arrays, columns) for columns in at_sample]
    return at_sample


def _terms_at(case: Case, arrays: Sequence[Array], columns: Array) -> Array:
    """The terms of the sample's rows at columns of each."""
    found, start = [], 0
    for rows in _pieces(case):
        terms, _ = _terms(case, arrays, rows)
        own = columns[start : start + len(rows)]
        found.append(np.take_along_axis(terms[..., 0], own, axis=1))
        start += len(rows)
    return np.concatenate(found)


def _pieces(case: Case) -> list[Array]:
    """The sample in pieces whose terms fit into memory."""
    chosen = sample(case)
    longest = max(a.dim or case.dim for a in case.formula.arguments)
    rows = max(1, PIECE_BYTES // (8 * case.columns * longest))
    return [chosen[start : start + rows] for start in range(0, len(chosen), rows)]


def _terms(case: Case, arrays: Sequence[Array], chosen: Array) -> tuple[Array, Array | None]:
    """The terms of chosen rows, and the weights if there are any, in float64."""
    broadcast = {
        "Vi": lambda v: v[chosen, None, :],
        "Vj": lambda v: v[None, :, :],
        "Pm": lambda v: v[None, None, :],
    }
    operands = {
        a.name: broadcast[a.kind](v.astype("float64"))
        for a, v in zip(case.formula.arguments, arrays, strict=True)
    }
    terms = case.formula.terms(*operands.values())
    if case.kept is not None:
        of_columns = np.arange(case.columns) // BLOCK
        terms = terms * kept_blocks(case)[chosen // BLOCK][:, of_columns, None]
    return terms, operands.get(case.formula.weights or "")


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
