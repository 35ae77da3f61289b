"""Programs for the table of shapes, and what they compute densely: needs PyTorch.

`scripts/keops_shapes.py` runs them with KeOps, `test_shapes.py` with redcomp.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

Shape = tuple[int, ...]
Tensor = torch.Tensor

ALPHA = 0.5


@dataclass(frozen=True)
class Program:
    """A formula and its dense computation, from arguments in their full shapes."""

    formula: str
    variables: dict[str, str]
    dense: Callable[..., Tensor]
    reduction_op: str = "Sum"
    axis: int = 1
    unknown: str | None = None
    constructor: str = "Genred"

    @property
    def aliases(self) -> list[str]:
        return [f"{name} = {what}" for name, what in self.variables.items()]

    def made(self, library: Any) -> Callable[..., Any]:
        """The operator, from the module `pykeops.numpy`, `redcomp.torch` or one like them."""
        if self.unknown:
            solve = library.KernelSolve(self.formula, self.aliases, self.unknown, axis=self.axis)
            return lambda *args: solve(*args, alpha=ALPHA, eps=1e-12)
        if self.constructor != "Genred":
            output = "a = Vi(1)" if self.axis == 1 else "a = Vj(1)"
            made: Callable[..., Any] = getattr(library, self.constructor)(
                self.formula, output, *self.aliases
            )
            return made
        op: Callable[..., Any] = library.Genred(
            self.formula, self.aliases, reduction_op=self.reduction_op, axis=self.axis
        )
        return op


def _i(x: Tensor) -> Tensor:
    """(..., M, D) among pairs."""
    return x[..., :, None, :]


def _j(y: Tensor) -> Tensor:
    return y[..., None, :, :]


def _p(p: Tensor) -> Tensor:
    return p[..., None, None, :]


def _points(x: Tensor, y: Tensor, b: Tensor, c: Tensor, p: Tensor, q: Tensor) -> Tensor:
    return _p(p) * _j(b) * _i(c) * (_i(x) * _p(q) * _j(y)).sum(-1, keepdim=True)


def _scalars(x: Tensor, y: Tensor, b: Tensor, p: Tensor) -> Tensor:
    return torch.exp(-((_i(x) - _j(y)) ** 2) * _p(p)) * _j(b)


def _weighted(x: Tensor, y: Tensor, w: Tensor, p: Tensor) -> Tensor:
    return _p(p) * _j(w) * ((_i(x) - _j(y)) ** 2).sum(-1, keepdim=True)


def _scaled(x: Tensor, y: Tensor, s: Tensor) -> Tensor:
    return (_i(x) * _p(s) * _j(y)).sum(-1, keepdim=True)


def _solved(x: Tensor, y: Tensor, p: Tensor, a: Tensor) -> Tensor:
    K = torch.exp(-_p(p) * ((_i(x) - _j(y)) ** 2).sum(-1, keepdim=True))[..., 0]
    return torch.linalg.solve(K + ALPHA * torch.eye(K.shape[-1], dtype=K.dtype), a)


_POINTS = {"x": "Vi(2)", "y": "Vj(2)", "b": "Vj(1)", "c": "Vi(1)", "p": "Pm(1)", "q": "Pm(2)"}
_SCALARS = {"x": "Vi(1)", "y": "Vj(1)", "b": "Vj(1)", "p": "Pm(1)"}
_WEIGHTED = {"x": "Vi(2)", "y": "Vj(2)", "w": "Vj(1)", "p": "Pm(1)"}
_SCALED = {"x": "Vi(10)", "y": "Vj(10)", "s": "Pm(10)"}
_SOLVED = {"x": "Vi(2)", "y": "Vj(2)", "p": "Pm(1)", "a": "Vj(1)"}

PROGRAMS = {
    "points": Program("p*b*c*(x*q|y)", _POINTS, lambda *a: _points(*a).sum(-2)),
    "points, axis 0": Program("p*b*c*(x*q|y)", _POINTS, lambda *a: _points(*a).sum(-3), axis=0),
    "scalars": Program("Exp(-Square(x-y)*p)*b", _SCALARS, lambda *a: _scalars(*a).sum(-2)),
    "nearest": Program("p*w*SqDist(x,y)", _WEIGHTED, lambda *a: _weighted(*a).argmin(-2), "ArgMin"),
    "generic_argmin": Program(
        "p*w*SqDist(x,y)",
        _WEIGHTED,
        lambda *a: _weighted(*a).argmin(-2),
        constructor="generic_argmin",
    ),
    "generic_logsumexp": Program(
        "p*w*SqDist(x,y)",
        _WEIGHTED,
        lambda *a: _weighted(*a).logsumexp(-2),
        constructor="generic_logsumexp",
    ),
    "scaled": Program("(x*s|y)", _SCALED, lambda *a: _scaled(*a).sum(-2)),
    "rows only": Program("p*x", {"x": "Vi(2)", "p": "Pm(1)"}, lambda x, p: (_i(x) * _p(p)).sum(-2)),
    "solve": Program("Exp(-p*SqDist(x,y))*a", _SOLVED, _solved, unknown="a"),
}


def arguments(program: Program, full: Sequence[Shape]) -> list[Tensor]:
    """Positive numbers in float64, the same in each run; a system's points are one array."""
    generator = torch.Generator().manual_seed(sum(map(len, full)))
    made = [
        0.25 + torch.rand(math.prod(shape), generator=generator, dtype=torch.float64)
        for shape in full
    ]
    if program.unknown:
        made[1] = made[0]
    return [values.reshape(shape) for values, shape in zip(made, full, strict=True)]


def given_as(full: Tensor, shape: Shape | None, *, as_array: bool = False) -> Any:
    """An argument in the shape in which the call gets it; None makes it a number."""
    if shape is None:
        return full.item()
    return full.reshape(shape).numpy() if as_array else full.reshape(shape)
