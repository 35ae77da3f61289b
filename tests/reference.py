"""A dense float64 reference for the formula language: needs PyTorch, no backend.

It shares no code with redcomp.  A formula is parsed by Python's own `ast` and evaluated over
PyTorch tensors of shape (B..., M, N, D), one entry a pair, so that autograd gives all derivatives.
Where the language fixes a derivative that autograd does not give (Sqrt at 0, ReLU at 0, ties), the
operation is written here so that it does.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import reference_complex
import reference_tensors
import torch

Tensor = torch.Tensor
Item = Tensor | float | int | list[int]
_T = Callable[..., Tensor]
KINDS = {"Vi": "i", "Vj": "j", "Pm": "parameter"}


class Variable(NamedTuple):
    """A declared argument."""

    name: str
    kind: str
    dim: int


def declared(aliases: Sequence[str]) -> list[Variable]:
    """The variables of alias strings such as "x = Vi(3)"."""
    found = []
    for alias in aliases:
        match = re.fullmatch(r"(\w+)=(Vi|Vj|Pm)\((\d+)\)", alias.replace(" ", ""))
        assert match is not None, alias
        found.append(Variable(match[1], KINDS[match[2]], int(match[3])))
    return found


def spread(variables: Sequence[Variable], tensors: Sequence[Tensor]) -> list[Tensor]:
    """The arguments repeated over all pairs and batches: shape (B..., M, N, D) each."""
    unsqueezed = {"i": (-2,), "j": (-3,), "parameter": (-2, -2)}
    placed = []
    for v, t in zip(variables, tensors, strict=True):
        for axis in unsqueezed[v.kind]:
            t = t.unsqueeze(axis)
        placed.append(t)
    pairs = torch.broadcast_shapes(*(t.shape[:-1] for t in placed))
    return [t.expand(*pairs, v.dim) for v, t in zip(variables, placed, strict=True)]


def terms(formula: str, variables: Sequence[Variable], spreads: Sequence[Tensor]) -> Tensor:
    """The formula's value at every pair: shape (B..., M, N, E)."""
    # A derivative inside the formula needs a graph, even if nobody else does.
    if any(f"{name}(" in formula for name in DERIVATIVES):
        spreads = [t if t.requires_grad else t.detach().requires_grad_() for t in spreads]
    scope = {v.name: t for v, t in zip(variables, spreads, strict=True)}
    evaluator = _Evaluator(scope, spreads[0])
    value = evaluator.tensor(evaluator.visit(ast.parse(formula.strip(), mode="eval").body))
    return value.expand(*spreads[0].shape[:-1], value.shape[-1])


def dense(formula: str, aliases: Sequence[str], tensors: Sequence[Tensor], axis: int) -> Tensor:
    """The reduction, differentiable: a sum over j for axis 1, over i for axis 0."""
    variables = declared(aliases)
    return terms(formula, variables, spread(variables, tensors)).sum(dim=axis - 3)


# -- operations whose derivatives follow the language ----------------------------------------------


class _WithDerivatives(torch.autograd.Function):
    """A function whose partial derivatives are given as other, differentiable functions."""

    @staticmethod
    def forward(ctx: Any, value: _T, slopes: Sequence[_T], *args: Tensor) -> Tensor:
        ctx.save_for_backward(*args)
        ctx.slopes = slopes
        return value(*args)

    @staticmethod
    def backward(ctx: Any, e: Tensor) -> tuple[Tensor | None, ...]:
        args = ctx.saved_tensors
        parts = [
            (e * slope(*args)).sum_to_size(a.shape)
            for slope, a in zip(ctx.slopes, args, strict=True)
        ]
        return None, None, *parts


def _with_derivatives(value: _T, *slopes: _T) -> _T:
    return lambda *args: _WithDerivatives.apply(value, slopes, *args)


def _sqrt(f: Tensor) -> Tensor:
    """Its derivative is 0 at 0, to any order."""
    is_zero = f == 0
    return torch.where(is_zero, 0.0, torch.where(is_zero, 1.0, f).sqrt())


def _rsqrt(f: Tensor) -> Tensor:
    is_zero = f == 0
    return torch.where(is_zero, 0.0, torch.where(is_zero, 1.0, f).rsqrt())


_asin = _with_derivatives(torch.asin, lambda f: _rsqrt(1 - f * f))
_acos = _with_derivatives(torch.acos, lambda f: -_rsqrt(1 - f * f))
_xlogx = _with_derivatives(lambda f: torch.special.xlogy(f, f), lambda f: f.log() + 1)
_cbrt = _with_derivatives(
    lambda f: torch.from_numpy(np.cbrt(f.numpy(force=True))), lambda f: 1 / (3 * _cbrt(f) ** 2)
)
_softplus = _with_derivatives(lambda f: torch.logaddexp(f, torch.zeros_like(f)), torch.sigmoid)
_log_cosh = _with_derivatives(
    lambda f: torch.where(
        f.abs() < 1,
        torch.log1p(f.sinh() ** 2) / 2,
        f.abs() + torch.log1p(torch.exp(-2 * f.abs())) - math.log(2),
    ),
    torch.tanh,
)
_atan2 = _with_derivatives(
    torch.atan2, lambda f, g: g / (f * f + g * g), lambda f, g: -f / (f * f + g * g)
)


def _radius(f: Tensor) -> Tensor:
    return _sqrt(f.clamp(max=1e7))  # where the kernels are 0


_matern32 = _with_derivatives(
    lambda f: (1 + _radius(f)) * torch.exp(-_radius(f)), lambda f: -torch.exp(-_sqrt(f)) / 2
)
_matern52 = _with_derivatives(
    lambda f: (1 + _radius(f) + _radius(f) ** 2 / 3) * torch.exp(-_radius(f)),
    lambda f: -_matern32(f) / 6,
)


def _sinxdivx(f: Tensor) -> Tensor:
    """The series near 0, where sin(f) / f and its derivatives cancel."""
    is_small = f.abs() < 1
    z = torch.where(is_small, f, 0.0) ** 2
    series = torch.zeros_like(f)
    for k in range(11, -1, -1):
        series = series * z + (-1) ** k / math.factorial(2 * k + 1)
    away = torch.where(is_small, 1.0, f)
    return torch.where(is_small, series, away.sin() / away)


def _sign(f: Tensor) -> Tensor:
    return (f > 0).to(f) - (f < 0).to(f)


def _round(f: Tensor, d: int) -> Tensor:
    f = f.detach()
    power = 10.0**d
    size = (f * power).abs()
    up = (size - size.floor() >= 0.5).to(f)  # inf - inf is NaN, which rounds nothing up
    return torch.copysign(size.floor() + up, f) / power


def _clamp(x: Tensor, a: Item, b: Item) -> Tensor:
    return torch.where(x < a, a, torch.where(x > b, b, x))


def _minimum(f: Tensor, g: Tensor) -> Tensor:
    return torch.where(g.isnan() | (g < f), g, f)


def _maximum(f: Tensor, g: Tensor) -> Tensor:
    return torch.where(g.isnan() | (g > f), g, f)


def _place(f: Tensor, better: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Position of the first extremum; NaN wins only as the first component."""
    best, place = f[..., :1], torch.zeros_like(f[..., :1], dtype=torch.int64)
    for k in range(1, f.shape[-1]):
        wins = better(f[..., k : k + 1], best)
        best, place = torch.where(wins, f[..., k : k + 1], best), torch.where(wins, k, place)
    return place


def _total(f: Tensor) -> Tensor:
    return f.sum(dim=-1, keepdim=True)


def _placed(f: Tensor, start: int, n: int) -> Tensor:
    return torch.nn.functional.pad(f, (start, n - start - f.shape[-1]))


def _concat(f: Tensor, g: Tensor) -> Tensor:
    leading = torch.broadcast_shapes(f.shape[:-1], g.shape[:-1])
    return torch.cat([t.expand(*leading, t.shape[-1]) for t in (f, g)], dim=-1)


def _one_hot(f: Tensor, n: int) -> Tensor:
    return ((f + 0.5).floor() == torch.arange(n)).to(f)


def _weighted_sqnorm(s: Tensor, f: Tensor) -> Tensor:
    d = f.shape[-1]
    if s.shape[-1] in (1, d):
        return _total(s * f * f)
    return _total((s.unflatten(-1, (d, d)) * f.unsqueeze(-2)).sum(-1) * f)


_TRUTH: Mapping[str, _T] = {
    "Equal": torch.eq,
    "NotEqual": torch.ne,
    "LessThan": torch.lt,
    "LessOrEqual": torch.le,
}
OPERATIONS: Mapping[str, _T] = {
    "Add": torch.add,
    "Subtract": torch.sub,
    "Mult": torch.mul,
    "Divide": torch.div,
    "Minus": torch.neg,
    "Inv": torch.reciprocal,
    "Square": torch.square,
    "Pow": lambda f, m: f**m,
    "Powf": torch.pow,
    "Sqrt": _sqrt,
    "Rsqrt": _rsqrt,
    "Mod": lambda x, n, d: x - n * ((x - d) / n).floor(),
    **{name: (lambda f, g, test=test: test(f, g).to(f)) for name, test in _TRUTH.items()},
    "IfElse": lambda f, a, b: torch.where(f >= 0, a, b),
    "Exp": torch.exp,
    "Exp2": torch.exp2,
    "Expm1": torch.expm1,
    "Log": torch.log,
    "Log2": torch.log2,
    "Log1p": torch.log1p,
    "XLogX": _xlogx,
    "Cbrt": _cbrt,
    "Sigmoid": torch.sigmoid,
    "Softplus": _softplus,
    "Tanh": torch.tanh,
    "Sinh": torch.sinh,
    "Cosh": torch.cosh,
    "LogCosh": _log_cosh,
    "Matern32": _matern32,
    "Matern52": _matern52,
    "Erf": torch.erf,
    "Erfc": torch.erfc,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "SinXDivX": _sinxdivx,
    "Asin": _asin,
    "Acos": _acos,
    "Atan": torch.atan,
    "Atan2": _atan2,
    "Abs": torch.abs,
    "Sign": lambda f: _sign(f.detach()),
    "Step": lambda f: 1 - (f < 0).to(f),
    "ReLU": lambda f: torch.where(f < 0, 0.0, f),
    "Floor": lambda f: f.detach().floor(),
    "Trunc": lambda f: f.detach().trunc(),
    "Round": _round,
    "Minimum": _minimum,
    "Maximum": _maximum,
    "Clamp": _clamp,
    "ClampInt": _clamp,
    "DiffClampInt": lambda x, m, n: ((x >= m) & (x <= n)).to(x),
    "Sum": _total,
    "SumT": lambda f, n: f.expand(*f.shape[:-1], n),
    "Scalprod": lambda f, g: _total(f * g),
    "SqNorm2": lambda f: _total(f * f),
    "SqDist": lambda f, g: _total((f - g) ** 2),
    "Norm2": lambda f: _sqrt(_total(f * f)),
    "Normalize": lambda f: _rsqrt(_total(f * f)) * f,
    "SqNormIso": _weighted_sqnorm,
    "SqNormDiag": lambda s, f: _total(s * f * f),
    "SymSqNorm": _weighted_sqnorm,
    "WeightedSqNorm": _weighted_sqnorm,
    "WeightedSqDist": lambda s, f, g: _weighted_sqnorm(s, f - g),
    "Elem": lambda f, m: f[..., m : m + 1],
    "ElemT": lambda f, n, m: _placed(f, m, n),
    "Extract": lambda f, start, length: f[..., start : start + length],
    "ExtractT": lambda f, start, n: _placed(f, start, n),
    "Concat": _concat,
    "OneHot": _one_hot,
    "Max": lambda f: f.gather(-1, _place(f, torch.gt)),
    "Min": lambda f: f.gather(-1, _place(f, torch.lt)),
    "ArgMax": lambda f: _place(f, torch.gt).to(f),
    "ArgMin": lambda f: _place(f, torch.lt).to(f),
    **reference_tensors.OPERATIONS,
    **reference_complex.OPERATIONS,
}
_UNARY = {ast.USub: lambda f: -f, ast.UAdd: lambda f: f}
_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: lambda f, g: f + g,
    ast.Sub: lambda f, g: f - g,
    ast.Mult: lambda f, g: f * g,
    ast.Div: lambda f, g: f / g,
    ast.BitOr: OPERATIONS["Scalprod"],
}
_COMPARISONS: Mapping[type[ast.cmpop], _T] = {
    ast.Lt: torch.lt,
    ast.LtE: torch.le,
    ast.Gt: torch.gt,
    ast.GtE: torch.ge,
    ast.Eq: torch.eq,
    ast.NotEq: torch.ne,
}


class _Evaluator:
    """Evaluates a syntax tree; numbers stay Python's until they meet a tensor."""

    def __init__(self, scope: Mapping[str, Tensor], like: Tensor) -> None:
        self.scope, self.like = scope, like

    def visit(self, node: ast.expr) -> Item:
        match node:
            case ast.Constant():
                assert isinstance(node.value, (int, float))
                return node.value
            case ast.Name():
                return self.scope[node.id]
            case ast.List():
                return [ast.literal_eval(element) for element in node.elts]
            case ast.UnaryOp():
                return _UNARY[type(node.op)](self.visit(node.operand))
            case ast.BinOp(op=ast.Pow()):
                return self.power(self.visit(node.left), self.visit(node.right))
            case ast.BinOp():
                return _BINARY[type(node.op)](self.visit(node.left), self.visit(node.right))
            case ast.Compare(ops=[op], comparators=[right]):
                f, g = self.tensor(self.visit(node.left)), self.tensor(self.visit(right))
                return _COMPARISONS[type(op)](f, g).to(self.like)
            case ast.Call(func=ast.Name(id=name)):
                return self.call(name, [self.visit(arg) for arg in node.args])
        raise AssertionError(ast.dump(node))

    def tensor(self, item: Item) -> Tensor:
        return item if isinstance(item, Tensor) else self.like.new_full((1,), item)

    def power(self, f: Item, exponent: Item) -> Item:
        if isinstance(exponent, Tensor) or not isinstance(f, Tensor):
            return f**exponent
        special = {0.5: _sqrt, -0.5: _rsqrt}
        return special[exponent](f) if exponent in special else f**exponent

    def call(self, name: str, args: list[Item]) -> Item:
        match name, args:
            case "IntCst", [n]:
                return n
            case "IntInv", [n]:
                return 1 / n
            case "RatCst", [p, q]:
                return p / q
            case "Zero", [d]:
                return self.like.new_zeros((d,))
            case "Grad", [f, v, e]:
                return self.gradient(self.tensor(f), v, self.tensor(e))
            case "Diff", [f, v, u]:
                return (self.jacobian(self.tensor(f), v) * self.tensor(u).unsqueeze(-2)).sum(-1)
            case "GradMatrix", [f, v]:
                return self.jacobian(self.tensor(f), v).flatten(-2)
            case "Divergence", [f, v]:
                return _total(self.jacobian(self.tensor(f), v).diagonal(dim1=-2, dim2=-1))
            case "Laplacian", [f, v]:
                slope = self.gradient(self.tensor(f), v, self.tensor(1))
                return self.call("Divergence", [slope, v])
        # Integer literals after the vectors stay numbers; as a vector, a number has dimension 1.
        vectors = sum(isinstance(arg, Tensor) for arg in args) or 1
        lists = [k for k, arg in enumerate(args) if isinstance(arg, list)]
        if lists:  # whatever comes before a list is a vector, even a number
            vectors = lists[0]
        integers = args[vectors:] if name in INTEGER_PARAMETERS else []
        count = len(args) - len(integers)
        assert name in OPERATIONS, f"say in OPERATIONS of tests/reference.py what {name} is"
        return OPERATIONS[name](*(self.tensor(arg) for arg in args[:count]), *integers)

    def jacobian(self, f: Tensor, v: Tensor) -> Tensor:
        """Shape (B..., M, N, components of f, components of v)."""
        rows = [self.gradient(part, v, self.tensor(1)) for part in f.split(1, dim=-1)]
        return torch.stack(rows, dim=-2)

    def gradient(self, f: Tensor, v: Tensor, e: Tensor) -> Tensor:
        leading = self.like.shape[:-1]
        f = f.expand(*leading, f.shape[-1])
        if not f.requires_grad:
            return torch.zeros_like(v)
        (result,) = torch.autograd.grad(
            f, [v], e.expand(f.shape), create_graph=True, allow_unused=True, materialize_grads=True
        )
        return result


DERIVATIVES = ("Grad", "Diff", "GradMatrix", "Divergence", "Laplacian")
# Operations whose last arguments are integer literals.
INTEGER_PARAMETERS = frozenset(
    [
        "Pow",
        "Round",
        "ClampInt",
        "DiffClampInt",
        "SumT",
        "Elem",
        "ElemT",
        "Extract",
        "ExtractT",
        "OneHot",
        *reference_tensors.INTEGER_PARAMETERS,
        *reference_complex.INTEGER_PARAMETERS,
    ]
)
