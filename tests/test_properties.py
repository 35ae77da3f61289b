"""Random formulas, sizes and arguments against a dense reference: needs the CPU, PyTorch.

Arguments are float32 numbers in both precisions, so that the reference sees exactly the kernel's
inputs.  Functions with a kink or a jump get an argument whose sign and order are exact in float32
(a variable, or a difference of two): elsewhere a rounding error may take the other branch, which
is nobody's fault.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from agreement import assert_close, exact_and_noise
from hypothesis import assume, given, note, settings
from hypothesis import strategies as st
from reference import absolute_sums, dense

import redcomp.numpy
import redcomp.torch

pytestmark = pytest.mark.slow

# Around the numbers of lanes (8, 16), of rows in a step (64, 128), and of columns in a tile (256).
SIZES = (3, 17, 2, 1, 0, 7, 8, 9, 15, 16, 31, 33, 63, 64, 65, 127, 129, 255, 256, 257, 300, 513)
# Up to 16 components are written out; more become loops.
DIMS = (1, 2, 3, 4, 5, 8, 15, 16, 17, 18, 20, 33)
LONG_DIMS = (100, 257, 1000)
PAIRS = 400_000  # the most entries of the reference's largest tensor

# Templates of smooth functions that keep moderate arguments moderate.
SMOOTH = (
    "Sin({})",
    "Cos({})",
    "Tanh({})",
    "Sigmoid({})",
    "Softplus({})",
    "Atan({})",
    "Erf({})",
    "SinXDivX({})",
    "Exp(-Square({}))",
    "Exp(Sin({}))",
    "Inv(IntCst(1)+Square({}))",
    "Log(IntCst(2)+Cos({}))",
    "Log1p(Square({}))",
    "Sqrt(IntCst(1)+Square({}))",
    "Rsqrt(1+Square({}))",
    "Powf(1.5+Sin({}),RatCst(3,2))",
    "Pow(Tanh({}),3)",
    "Cbrt(2+Sin({}))",
    "(-({}))",
    "({})**2*IntInv(4)",
    "({})/3",
)
# Functions with kinks or jumps, of an exact argument.
SHARP = (
    "Abs({})",
    "ReLU({})",
    "Step({})",
    "Sign({})",
    "ClampInt({},0,1)",
    "Floor({})",
    "Minimum({},0)",
)
# From a vector to a number; {d} is its dimension.
TO_SCALAR = (
    "Sum({})*IntInv({d})",
    "SqNorm2({})*IntInv({d})",
    "Norm2(Concat({},IntCst(1)))*IntInv({d})",
)
PAIR_TO_SCALAR = ("Scalprod({},{})*IntInv({d})", "({}|{})*IntInv({d})", "SqDist({},{})*IntInv({d})")
BINARY = ("({}+{})*0.5", "({}-{})*0.5", "{}*{}", "{}/(IntCst(2)+Cos({}))", "Atan2({},2+Cos({}))")
EXACT_TO_SCALAR = ("Max({})", "Min({})", "ArgMax({})*IntInv({d})", "Elem({},{last})")
# What a formula of some depth may be, more than once what should come more often.
COMMON = ("smooth", "smooth", "binary", "binary", "sharp", "if")
SCALAR_ONLY = ("reduce", "reduce", "pair", "pair", "extrema")
VECTOR_ONLY = ("broadcast", "broadcast", "normalize", "assemble")


class Argument(NamedTuple):
    name: str
    kind: str  # Vi, Vj or Pm
    dim: int


class Problem(NamedTuple):
    """All that one comparison needs."""

    formula: str
    arguments: tuple[Argument, ...]
    rows: int
    columns: int
    axis: int
    is_double: bool
    use_fast_math: bool
    seed: int

    @property
    def aliases(self) -> list[str]:
        return [f"{a.name} = {a.kind}({a.dim})" for a in self.arguments]


class _Grammar:
    """Draws formulas of dimension 1 or `dim`, over variables that it declares as it goes."""

    def __init__(self, draw: Callable[[Any], Any], dim: int) -> None:
        self.draw, self.dim = draw, dim
        self.arguments = [Argument("x", "Vi", dim), Argument("y", "Vj", dim)]

    def one_of(self, options: Any) -> Any:
        return self.draw(st.sampled_from(list(options)))

    def variable(self, dim: int) -> str:
        known = [a for a in self.arguments if a.dim == dim]
        if len(self.arguments) < 5 and (not known or self.draw(st.booleans())):
            kind = self.one_of(("Vi", "Vj", "Vi", "Vj", "Pm"))
            self.arguments.append(Argument(f"v{len(self.arguments)}", kind, dim))
            return self.arguments[-1].name
        return self.one_of(known).name if known else self.constant()

    def constant(self) -> str:
        return self.one_of(("IntCst(1)", "RatCst(1,3)", "IntCst(-2)", "IntInv(-2)"))

    def exact(self, dim: int) -> str:
        """An argument without rounding errors in its sign."""
        first = self.variable(dim)
        return f"({first}-{self.variable(dim)})" if self.draw(st.booleans()) else first

    def formula(self, dim: int, depth: int) -> str:
        if depth == 0:
            return self.variable(dim)
        smaller = lambda d=dim: self.formula(d, depth - 1)
        match self.one_of(COMMON + (SCALAR_ONLY if dim == 1 else VECTOR_ONLY)):
            case "smooth":
                return self.one_of(SMOOTH).format(smaller())
            case "sharp":
                return self.one_of(SHARP).format(self.exact(dim))
            case "binary":
                return self.one_of(BINARY).format(smaller(), smaller())
            case "broadcast":
                return f"({smaller(1)})*({smaller()})"
            case "normalize":
                return f"Normalize({smaller()}+IntCst(3))"
            case "assemble":
                return f"Extract(Concat({smaller(1)},{smaller()}),{self.one_of((0, 1))},{dim})"
            case "if":
                return f"IfElse({self.exact(1)},{smaller()},{smaller()})"
            case "extrema":  # of a variable: a difference may tie after rounding
                found = self.one_of(EXACT_TO_SCALAR)
                return found.format(self.variable(self.dim), d=self.dim, last=self.dim - 1)
            case "reduce":
                found = self.one_of(TO_SCALAR)
                return found.format(smaller(self.dim), d=self.dim)
            case _:
                found = self.one_of(PAIR_TO_SCALAR)
                return found.format(smaller(self.dim), smaller(self.dim), d=self.dim)


@st.composite
def problems(draw: Callable[[Any], Any], dims: tuple[int, ...] = DIMS) -> Problem:
    dim = draw(st.sampled_from(dims))
    grammar = _Grammar(draw, dim)
    width = draw(st.sampled_from((1, dim)))
    formula = grammar.formula(width, draw(st.integers(1, 4)))
    if draw(st.booleans()):
        formula = f"({formula})*{grammar.variable(1)}"
    if width == 1 and dim <= 5 and draw(st.integers(0, 4)) == 0:
        wrt = draw(st.sampled_from(grammar.arguments))
        formula = f"Grad({formula},{wrt.name},IntCst(2)*{grammar.variable(1)})"
    limit = PAIRS // dim
    rows = draw(st.sampled_from(SIZES))
    columns = draw(st.sampled_from([n for n in SIZES if n * rows <= limit]))
    return Problem(
        formula,
        tuple(draw(st.permutations(grammar.arguments))),
        rows,
        columns,
        draw(st.sampled_from((0, 1))),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.integers(0, 2**31)),
    )


def _tensors(problem: Problem) -> list[torch.Tensor]:
    random = np.random.default_rng(problem.seed)
    leading = {"Vi": (problem.rows,), "Vj": (problem.columns,), "Pm": ()}
    shapes = [(*leading[a.kind], a.dim) for a in problem.arguments]
    return [torch.from_numpy(random.uniform(-1, 1, s).astype(np.float32)) for s in shapes]


def _check(problem: Problem) -> None:
    """Value and all gradients, in PyTorch; the value in NumPy is the same to the bit."""
    tensors = _tensors(problem)
    dtype = torch.float64 if problem.is_double else torch.float32
    size = problem.rows if problem.axis == 1 else problem.columns
    formula, aliases, axis = problem.formula, problem.aliases, problem.axis
    options = {"axis": axis, "use_fast_math": problem.use_fast_math}
    op = redcomp.torch.Genred(formula, aliases, **options)
    generator = torch.Generator().manual_seed(problem.seed)
    width = dense(formula, aliases, tensors, axis).shape[-1]
    cotangent = torch.randn(size, width, generator=generator)

    def results(run: Callable[..., torch.Tensor], leaves: Any) -> list[torch.Tensor]:
        value = run(*leaves)
        # The sum over the arguments gives a graph even to a formula without any derivative.
        value = value + 0 * sum(t.sum() for t in leaves)
        return [value, *torch.autograd.grad(value, leaves, cotangent.to(value.dtype))]

    exact, noise = exact_and_noise(
        lambda leaves: results(lambda *t: dense(formula, aliases, t, axis), leaves), tensors
    )
    value_sum, gradient_sums = absolute_sums(
        formula, aliases, [t.double() for t in tensors], axis, cotangent.double()
    )
    sums = [value_sum, *gradient_sums]
    # A formula that amplifies rounding errors a thousand times would hide mistakes.
    assume(all(n <= 1e-3 * (1 + float(s.sum())) for n, s in zip(noise, sums, strict=True)))
    leaves = [t.to(dtype).requires_grad_() for t in tensors]
    computed = results(op, leaves)
    labels = ["value", *(a.name for a in problem.arguments)]
    for label, result, right, own, total in zip(labels, computed, exact, noise, sums, strict=True):
        assert_close(result, right, own, dtype, total, f"{problem}: {label}")
    arrays = [t.detach().numpy() for t in leaves]
    from_numpy = redcomp.numpy.Genred(formula, aliases, **options)(*arrays)
    np.testing.assert_array_equal(from_numpy, op(*leaves).detach().numpy())


@given(problems())
def test_random_formulas(problem: Problem) -> None:
    note(str(problem))
    _check(problem)


@settings(max_examples=8)
@given(problems(LONG_DIMS))
def test_random_formulas_of_long_vectors(problem: Problem) -> None:
    note(str(problem))
    _check(problem)
