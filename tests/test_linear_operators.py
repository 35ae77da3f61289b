"""Differential and linear operators in formulas, against dense autograd: needs the CPU and PyTorch.

The reference differentiates each pair's formula with autograd in float64, one component at a time,
and puts the Jacobian together; some formulas are written again for torch.func.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from agreement import assert_close
from reference import Tensor, declared, spread, terms

from redcomp.errors import FormulaError
from redcomp.frontend.language.aliases import parse_aliases
from redcomp.frontend.language.lower import lower_formula
from redcomp.interpret import interpret
from redcomp.ir import Value, topological
from redcomp.passes import linear
from redcomp.torch import Genred

DIMS = (1, 3, 40)
M, N = 3, 4

# Vector-valued formulas of dimension D, nearly every sort of operation in one of them.
VECTORS = (
    "Exp(-SqDist(x,y)/D)*y*s",
    "Exp(-SqDist(x,y)/D)*(x-y)",
    "Extract(Concat(Sin(x), y*Norm2(x)), 1, D)",
    "Extract(Concat(x*y, Cos(x)), D-1, D)",
    "IfElse(x-y, x*x, Exp(y*x))",
    "Elem(x,0)*Normalize(x+y)",
    "Max(x*y)*x - Min(x)*y",
    "Extract(OneHot(Elem(y*y,0), D+3)*Elem(x,0), 0, D) + x**3",
    "(x**2+1)**y",
    "(x**2+1)**(x/3)",
    "Atan2(x, 2+Square(y))/(1+SqNorm2(x))",
    "Clamp(x,-1,s)*Tanh(y*x)",
    "SumT((x|y),D)+Abs(x)*ReLU(y)",
    "Extract(ElemT(Elem(x,0)*s, D+1, 0), 0, D)",
    "ExtractT(Extract(Erf(x),0,1), D-1, D) + Mod(x,2,0)",
    "Log(1+Exp(x))*Step(y) + Sigmoid(x)/(x+5)",
    "y*s",
    "Floor(x) + Round(y,1)",
)
SCALARS = (
    "Exp(-SqDist(x,y)/D)*s",
    "Sqrt(1+SqDist(x,y))",
    "Norm2(x-y)",
    "WeightedSqDist(y*y,x,y)*Sin(s*Elem(x,0))",
    "Sum(Powf(1+x*x, y)) + Max(x)*Min(x)",
    "Log(1+SqNorm2(Concat(x,y)))",
    "s",
)
# Linear in x.
LINEAR = (
    "x",
    "(x|y)*y - 2*x/s",
    "Extract(Concat(x*y, x), D-1, D)",
    "IfElse(y, x, Zero(D))",
    "Sum(x)*y + s*ExtractT(Extract(x,0,1), D-1, D)",
    "Grad((x|y)*Exp(-SqNorm2(y)), y, s) + SumT((x|y), D)",
    "Zero(D)",
)
LINEAR_SCALARS = ("(x|y*s)", "Sum(x)/s - Elem(x,D-1)")


def place(formula: str, dim: int) -> str:
    """The formula for a dimension D; D+1 and D-1 become numbers."""

    def number(match: re.Match[str]) -> str:
        return str(dim + int(match[1] or 0))

    return re.sub(r"\bD([+-]\d)?", number, formula)


def aliases(dim: int) -> list[str]:
    return [
        f"x = Vi({dim})",
        f"y = Vj({dim})",
        "s = Vj(1)",
        f"u = Vi({dim})",
        f"w = Vj({dim})",
        "e = Pm(1)",
    ]


def data(dim: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(dim)
    shapes = ((M, dim), (N, dim), (N, 1), (M, dim), (N, dim), (1,))
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    tensors[2] = tensors[2].abs() + 0.5
    return tensors


class Dense:
    """A formula at every pair, with its derivatives by autograd."""

    def __init__(self, formula: str, dim: int) -> None:
        variables = declared(aliases(dim))
        self.spreads = [t.clone().requires_grad_() for t in spread(variables, data(dim))]
        self.value = terms(formula, variables, self.spreads)
        named = {v.name: t for v, t in zip(variables, self.spreads, strict=True)}
        self.x, self.y, self.s, self.u, self.w, self.e = (named[name] for name in "xysuwe")

    def gradient(self, component: Tensor, wrt: Tensor) -> Tensor:
        if not component.requires_grad:
            return torch.zeros_like(wrt)
        (found,) = torch.autograd.grad(
            component.sum(), [wrt], create_graph=True, allow_unused=True, materialize_grads=True
        )
        return found

    def jacobian(self, wrt: Tensor, value: Tensor | None = None) -> Tensor:
        """Shape (M, N, components of the value, components of wrt)."""
        value = self.value if value is None else value
        rows = [self.gradient(value[..., k], wrt) for k in range(value.shape[-1])]
        return torch.stack(rows, dim=-2)


def applied(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)


def diagonal(matrix: Tensor) -> Tensor:
    return matrix.diagonal(dim1=-2, dim2=-1)


def total(f: Tensor) -> Tensor:
    return f.sum(-1, keepdim=True)


OPERATORS: Mapping[str, Callable[[Dense], Tensor]] = {
    "Diff({}, x, u)": lambda f: applied(f.jacobian(f.x), f.u),
    "Diff({}, [y], [w])": lambda f: applied(f.jacobian(f.y), f.w),
    "Diff({}, (x, y, s), (u, w*e, e))": lambda f: (
        applied(f.jacobian(f.x), f.u)
        + applied(f.jacobian(f.y), f.w * f.e)
        + applied(f.jacobian(f.s), f.e)
    ),
    "GradMatrix({}, x)": lambda f: f.jacobian(f.x).flatten(-2),
}
OF_VECTORS: Mapping[str, Callable[[Dense], Tensor]] = {
    "Divergence({}, x)": lambda f: total(diagonal(f.jacobian(f.x))),
    "Divergence(e*{}, y)": lambda f: total(f.e * diagonal(f.jacobian(f.y))),
}
OF_SCALARS: Mapping[str, Callable[[Dense], Tensor]] = {
    "Laplacian({}, x)": lambda f: total(
        diagonal(f.jacobian(f.x, f.gradient(f.value[..., 0], f.x)))
    ),
    "Diff(Diff({}, x, u), y, w)": lambda f: applied(
        f.jacobian(f.y, applied(f.jacobian(f.x), f.u)), f.w
    ),
}
OF_LINEAR: Mapping[str, Callable[[Dense], Tensor]] = {
    "SumLinOperator({}, x)": lambda f: f.jacobian(f.x).sum((-2, -1))[..., None],
    "SumLinOperator({}, x, e)": lambda f: f.e * f.jacobian(f.x).sum((-2, -1))[..., None],
    "SumLinOperator({}, x, 2, w)": lambda f: total(2 * applied(f.jacobian(f.x), f.w)),
    "TraceOperator({}, x)": lambda f: total(traced(f)),
    "TraceOperator({}, x, w)": lambda f: total(f.w * traced(f)),
    "TraceOperator({}, x, e)": lambda f: f.e * total(traced(f)),
}
OF_LINEAR_VECTORS: Mapping[str, Callable[[Dense], Tensor]] = {
    "SumLinOperator({}, x, u, w)": lambda f: total(f.u * applied(f.jacobian(f.x), f.w)),
    "AdjointOperator({}, x, u)": lambda f: applied(f.jacobian(f.x).mT, f.u),
}


def traced(f: Dense) -> Tensor:
    """The terms of the trace; the matrix of a scalar function is repeated in every row."""
    matrix = f.jacobian(f.x)
    return diagonal(matrix) if matrix.shape[-2] > 1 else matrix.squeeze(-2)


def cases() -> list[tuple[str, str, int]]:
    groups = (
        (VECTORS, OPERATORS),
        (VECTORS, OF_VECTORS),
        (SCALARS, OPERATORS),
        (SCALARS, OF_SCALARS),
        (LINEAR, OF_LINEAR),
        (LINEAR, OF_LINEAR_VECTORS),
        (LINEAR_SCALARS, OF_LINEAR),
    )
    # A Jacobian of 40 x 40 for each formula would take long.
    return [
        (operator, formula, dim)
        for formulas, operators in groups
        for operator in operators
        for formula in formulas
        for dim in DIMS
        if not (operator.startswith("GradMatrix") and dim == 40 and formula is not formulas[0])
    ]


ALL = {**OPERATORS, **OF_VECTORS, **OF_SCALARS, **OF_LINEAR, **OF_LINEAR_VECTORS}


@pytest.mark.sampled(5)
@pytest.mark.parametrize(("operator", "formula", "dim"), cases())
def test_operator(operator: str, formula: str, dim: int) -> None:
    inner = place(formula, dim)
    value = lower_formula(operator.format(f"({inner})"), parse_aliases(aliases(dim)), "f64").value
    variables = declared(aliases(dim))
    arrays = {
        v.name: np.asarray(t) for v, t in zip(variables, spread(variables, data(dim)), strict=True)
    }
    (found,) = interpret([value], arrays)
    expected = ALL[operator](Dense(inner, dim)).detach().numpy()
    assert value.dim == expected.shape[-1]
    found = np.broadcast_to(found, expected.shape)
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11 * scale)


# -- through machine code, against torch.func

COMPILED: Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "Diff(Exp(-SqDist(x,y)), x, u)": lambda x, y, u: torch.func.jvp(
        lambda v: gaussian(v, y), (x,), (u,)
    )[1],
    "Diff(Exp(-SqDist(x,y))*y, (x,y), (u,2*u))": lambda x, y, u: torch.func.jvp(
        lambda v, w: gaussian(v, w) * w, (x, y), (u, 2 * u)
    )[1],
    "GradMatrix(Exp(-SqDist(x,y))*(x-y), x)": lambda x, y, u: torch.func.jacrev(
        lambda v: gaussian(v, y) * (v - y)
    )(x).flatten(),
    "Divergence(Exp(-SqDist(x,y))*(x-y), x)": lambda x, y, u: (
        torch.func.jacrev(lambda v: gaussian(v, y) * (v - y))(x).trace()[None]
    ),
    "Laplacian(Exp(-SqDist(x,y)), x)": lambda x, y, u: (
        torch.func.hessian(lambda v: gaussian(v, y)[0])(x).trace()[None]
    ),
    "Laplacian(Log(1+SqDist(x,y)), y)": lambda x, y, u: (
        torch.func.hessian(lambda v: ((x - v) ** 2).sum().log1p())(y).trace()[None]
    ),
    "AdjointOperator((x|y)*y, x, u)": lambda x, y, u: torch.func.vjp(
        lambda v: (v @ y) * y, x
    )[1](u)[0],
    "TraceOperator((x|y)*u + x, x, y)": lambda x, y, u: (
        torch.func.jacrev(lambda v: (v @ y) * u + v)(x).diagonal() @ y
    )[None],
    "SumLinOperator((x|y)*u + x, x, y)": lambda x, y, u: (
        y @ torch.func.jacrev(lambda v: (v @ y) * u + v)(x)
    ).sum()[None],
}  # fmt: skip


def gaussian(x: Tensor, y: Tensor) -> Tensor:
    return (-((x - y) ** 2).sum()).exp()[None]


@pytest.mark.sampled(24)
# PyTorch's forward mode warns about PyTorch's own scripts.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("formula", COMPILED)
def test_compiled_operator(formula: str, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y, u = (torch.rand(n, 3, generator=generator) for n in (M, N, M))
    pairs = [
        torch.stack([COMPILED[formula](x[i].double(), y[j].double(), u[i].double())
                     for j in range(N)])
        for i in range(M)
    ]  # fmt: skip
    expected = torch.stack([row.sum(0) for row in pairs])
    size = torch.stack([row.abs().sum(0) for row in pairs])
    genred = Genred(formula, ["x = Vi(3)", "y = Vj(3)", "u = Vi(3)"], axis=1)
    found = genred(x.to(dtype), y.to(dtype), u.to(dtype))
    # The terms' own rounding: a hundred roundings of numbers of the size of 1.
    assert_close(found, expected, 0.0, dtype, size + 1.0, formula)


def test_operators_are_differentiable_again() -> None:
    """The gradient of a Laplacian, whose formula torch differentiates twice more."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(n, 3, generator=generator, dtype=torch.float64) for n in (M, N))
    x.requires_grad_()
    genred = Genred("Laplacian(Exp(-SqDist(x,y)), x)", ["x = Vi(3)", "y = Vj(3)"], axis=1)
    (found,) = torch.autograd.grad(genred(x, y).sum(), [x])
    # The Laplacian of exp(-r^2) is (4 r^2 - 2 D) exp(-r^2).
    square = ((x[:, None] - y[None]) ** 2).sum(-1)
    (expected,) = torch.autograd.grad(((4 * square - 6) * (-square).exp()).sum(), [x])
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


# -- what the operators cost


def operations(formula: str, dim: int) -> int:
    text = [f"x = Vi({dim})", f"y = Vj({dim})"]
    return len(list(topological([lower_formula(formula, parse_aliases(text), "f32").value])))


@pytest.mark.parametrize(
    "formula",
    [
        "Laplacian(Exp(-SqDist(x,y)), x)",
        "Divergence(Exp(-SqDist(x,y))*(x-y), x)",
        "TraceOperator((x|y)*y + x/Norm2(y), x)",
    ],
)
def test_no_operator_costs_one_derivative_a_component(formula: str) -> None:
    assert operations(formula, 2) == operations(formula, 1000) < 60


def test_laplacian_of_the_gaussian_is_cheap() -> None:
    gaussian, laplacian = (
        sum(Genred(f, ["x = Vi(3)", "y = Vj(3)"], axis=1).lower().stats.operations.values())
        for f in ("Exp(-SqDist(x,y))", "Laplacian(Exp(-SqDist(x,y)), x)")
    )
    assert laplacian < 2.5 * gaussian


# -- errors


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("formula", "message", "place"),
    [
        ("1 + Diff(x, y+1, x)", "Diff's argument v must be a variable", "y+1"),
        ("Diff(x, (x, 2), (x, y))", "Diff's argument v must be a variable", "2"),
        ("Diff(x, x, b)", "Diff's argument u has dimension 1, not 3", "b"),
        ("Diff(x, (x, b), (x, y))", "Diff's argument u has dimension 3, not 1", "y"),
        ("Diff(x, (x, y), x)", "Diff's argument u has 1 items, but v has 2", "x)"),
        ("Diff(x, (x, y), (x, y, b))", "Diff's argument u has 3 items, but v has 2", "(x, y, b)"),
        ("Diff((x, y), x, y)", "a list stands where a vector is expected", "(x, y)"),
        ("Diff(x, x)", "Diff(f, v, u) takes 3 arguments, got 2", "Diff(x, x)"),
        ("GradMatrix(x, 3)", "GradMatrix's argument v must be a variable", "3"),
        ("2*Divergence(b*b, x)", "Divergence's argument f has dimension 1, not 3", "b*b"),
        ("Divergence(x, x*1)", "Divergence's argument v must be a variable", "x*1"),
        ("Laplacian(x*y, x)", "Laplacian's argument f has dimension 3, not 1", "x*y"),
        ("TraceOperator(x*x, x)", "needs a linear function of x", "x*x"),
        ("1 - TraceOperator(x + 1, x)", "needs a linear function of x", "x + 1"),
        ("TraceOperator(y, x)", "needs a linear function of x", "y"),
        ("TraceOperator(Floor(x), x)", "needs a linear function of x", "Floor(x)"),
        ("TraceOperator(Concat(x,x), x)", "argument f has dimension 6, not 1 or 3", "Concat(x,x)"),
        ("TraceOperator(x, x, Concat(x,x))", "w has dimension 6, not 1 or 3", "Concat(x,x)"),
        ("AdjointOperator(Exp(x), x, x)", "needs a linear function of x", "Exp(x)"),
        ("AdjointOperator(x, x, b)", "argument u has dimension 1, not 3", "b"),
        ("AdjointOperator(x, x)", "takes 3 arguments, got 2", "AdjointOperator(x, x)"),
        ("SumLinOperator(VecMatMult(z, m), z)", "an operation of 9,000,000 numbers, of", "SumLin"),
        ("SumLinOperator((x|x), x)", "needs a linear function of x", "(x|x)"),
        ("SumLinOperator(Sum(x), x, y)", "argument wl has dimension 3, not 1", "y"),
        ("SumLinOperator(x, x, 1, b*Zero(2))", "wr has dimension 2, not 1 or 3", "b*Zero(2)"),
        ("1+GradMatrix(SumT(b,8000), z)", "more than 16,777,216 components", "GradMatrix(S"),
        pytest.param(
            "1+Divergence(Extract(Concat(z,z),1,9000), z)", "more than 30,000 oper", "Divergence(",
            marks=pytest.mark.thorough,
        ),
    ],
)  # fmt: skip
def test_error(formula: str, message: str, place: str) -> None:
    text = ("x = Vi(3)", "y = Vj(3)", "b = Vj(1)", "z = Vi(9000)", "m = Pm(9000000)")
    with pytest.raises(FormulaError) as caught:
        lower_formula(formula, parse_aliases(text), "f64")
    error = caught.value
    assert message in str(error)
    assert formula[error.start :].startswith(place)
    *_, caret = str(error).split("\n")
    assert caret.index("^") == 2 + error.start


@pytest.mark.parametrize(
    "formula",
    [
        "TraceOperator(x*y, x)",
        "TraceOperator(IfElse(y, x, 0)/y - x, x)",
        "SumLinOperator(Extract(x, 0, 500)*b, x)",
        "SumLinOperator((Extract(x, 0, 500) | Extract(y, 0, 500)), x)",
        "SumLinOperator(Concat(Extract(x, 0, 500), Extract(x, 500, 500)), x)",
        "SumLinOperator(MatVecMult(A, Extract(x, 0, 500)), x)",
        "SumLinOperator(TensorProd(Extract(x, 0, 500), Extract(y, 0, 500)), x)",
        "SumLinOperator(TensorDot(A, Concat(x, x), [500,500], [500,4], [1], [0]), x)",
    ],
)
def test_few_numbers_are_evaluated(formula: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A formula of 100 characters could ask for gigabytes, and for minutes."""
    counts: list[int] = []

    def counted(roots: list[Value], arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        results = interpret(roots, arrays)
        counts.append(sum(a.size for a in (*results, *arrays.values())))
        return results

    monkeypatch.setattr(linear, "MAX_EVALUATED", 2**20)
    monkeypatch.setattr(linear, "interpret", counted)
    linear._is_linear_operation.cache_clear()
    text = ("x = Vi(1000)", "y = Vj(1000)", "b = Vj(1)", "A = Pm(250000)")
    lower_formula(formula, parse_aliases(text), "f64")
    assert counts
    assert max(counts) < 4 * 2**20


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "nest",
    [
        lambda inner: f"Laplacian(Exp({inner})*Elem(x,0), x)",
        lambda inner: f"Diff(Sin({inner}*(x|x)), x, x)",
        lambda inner: f"Sum(GradMatrix({inner}*x, x))",
    ],
    ids=["laplacian", "diff", "matrix"],
)
def test_nested_derivatives_stop(nest: Callable[[str], str]) -> None:
    formula = "Sum(x)"
    for _ in range(60):
        formula = nest(formula)
    with pytest.raises(FormulaError, match=r"more than 30,000 operations"):
        lower_formula(formula, parse_aliases(["x = Vi(3)"]), "f64")


def test_a_number_is_a_weight() -> None:
    value = lower_formula("TraceOperator(x, x, 1/3)", parse_aliases(["x = Vi(3)"]), "f64").value
    assert math.isclose(float(interpret([value], {"x": np.ones(3)})[0][0]), 1.0)
