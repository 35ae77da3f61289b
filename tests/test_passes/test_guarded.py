"""Selections select derivatives: every operation behind every kind of guard; needs PyTorch only.

A formula that drops some pairs has the derivatives of the others, whatever an operation and its
derivatives are at the pairs that it drops: infinite, NaN, or out of range.  The reference evaluates
the operation alone, by PyTorch in float64, at the pairs that are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pytest
import torch
from operation_cases import Case, call, cases
from pass_tools import EXACT
from reference import Variable, terms

from redcomp.frontend.language.aliases import parse_aliases
from redcomp.frontend.language.lower import lower_formula
from redcomp.interpret import interpret
from redcomp.ir import Kernel, Output, Value, constant, variable
from redcomp.ops import SPELLINGS
from redcomp.ops.table import Array
from redcomp.passes.grad import gradients
from redcomp.passes.jvp import jvp
from redcomp.passes.simplify import simplify

pytestmark = pytest.mark.slow

GOOD = 4
SPECIAL = (0.0, -0.0, 1.0, -1.0, 1e200, -1e200, np.inf, -np.inf, np.nan)
CASES = cases(3, 2)
# Kept where g = 1 (and h = 1, everywhere); dropped where g = -1.  `f` stands for the operation.
GUARDS: Mapping[str, str] = {
    "first branch": "IfElse(g,{f},0)",
    "second branch": "IfElse(-g,0,{f})",
    "beside another": "IfElse(g,{f},h)",
    "nested": "IfElse(h,IfElse(g,{f},0),0)",
    "nested the other way": "IfElse(-g,0,IfElse(h,{f},0))",
    "behind other operations": "Sin(IfElse(g,{f},0))*h",
    "of vectors": "IfElse(SumT(g,{d}),{f},0)",
    "of scalars in a vector": "Sum(IfElse(SumT(g,4),Elem({f},0),0))",
    "step": "Step(g)*{f}",
    "step behind": "{f}*Step(g)",
    "step of several factors": "h*Step(g)*h*{f}",
    "quotient": "Step(g)/(9+{f}*{f})",
    "less than": "(0<g)*{f}",
    "less or equal": "(h<=g)*{f}",
    "equal": "Equal(g,h)*{f}",
    "not equal": "NotEqual(g,-h)*{f}",
    "both conditions": "(0<g)*(0<h)*{f}",
    "rectified": "ReLU(g)*{f}",
    "clamped": "Clamp(g,0,1)*{f}",
    "one hot": "OneHot((1-g)/2,1)*{f}",
    "scalar product": "(Step(SumT(g,{d}))|{f})",
    "two terms of one": "IfElse(g,{f},0)+IfElse(2*g,2*{f},0)",
    "taken apart": "Elem(Concat(IfElse(g,Elem({f},0),0),h),0)",
}


class Points(NamedTuple):
    """Values of the variables at pairs, and which pairs are kept."""

    arrays: dict[str, Array]
    is_kept: Array

    def kept(self, name: str) -> torch.Tensor:
        return torch.tensor(self.arrays[name][self.is_kept])


def points_of(case: Case, seed: int = 0) -> Points:
    """Pairs inside of the operation's domain, which are kept, and others with special values."""
    rng = np.random.default_rng(seed)
    row = SPELLINGS[case.spelling]
    arrays = {}
    for n, (dim, interval) in enumerate(
        zip(case.dims, row.domain.intervals * row.arity, strict=False)
    ):
        good = rng.uniform(*interval, (GOOD, dim))
        same = np.roll(SPECIAL, n)[:, None] * np.ones(dim)
        some = rng.uniform(*interval, (6, dim))
        mixed = np.where(rng.random((6, dim)) < 0.5, rng.choice(SPECIAL, (6, dim)), some)
        arrays[f"u{n}"] = np.concatenate([good, same, mixed])
    count = len(arrays["u0"])
    is_kept = np.arange(count) < GOOD
    arrays["g"] = np.where(is_kept, 1.0, -1.0)[:, None]
    arrays["h"] = np.ones((count, 1))
    return Points(arrays, is_kept)


def lowered(formula: str, case: Case) -> tuple[Value, tuple[Value, ...]]:
    """A formula over the operands, g and h; and the operands' variables."""
    declared = [f"u{n}=Vi({dim})" for n, dim in enumerate(case.dims)] + ["g=Vi(1)", "h=Vi(1)"]
    made = lower_formula(formula, parse_aliases(declared), "f64")
    return made.value, tuple(v for v in made.variables if v["name"].startswith("u"))


class Derivatives(NamedTuple):
    """The first ones by the operands, along given directions, and the second ones."""

    first: list[Array]
    forward: Array
    second: list[Array]
    mixed: list[Array]


def found(value: Value, operands: Sequence[Value], arrays: dict[str, Array]) -> Derivatives:
    """By the passes, in both modes; rewritten as far as kernels are before they are compiled."""
    e = variable("e", "i", 90, value.type)
    directions = [variable(f"t{n}", "i", 91 + n, v.type) for n, v in enumerate(operands)]
    first = gradients(value, tuple(operands), e)
    forward = jvp(value, operands, directions)
    second: list[Value] = []
    for slope, direction in zip(first, directions, strict=True):
        parts = gradients(slope, tuple(operands), direction)
        second = parts if not second else [a + b for a, b in zip(second, parts, strict=True)]
    mixed = [jvp(slope, operands, directions) for slope in first]
    roots = [*first, forward, *second, *mixed]
    kernel = simplify(Kernel((), tuple(map(Output, roots))), EXACT)
    count = len(arrays["g"])
    values = [
        np.broadcast_to(array, (count, root.dim))
        for root, array in zip(roots, interpret(kernel.roots, arrays), strict=True)
    ]
    n = len(operands)
    return Derivatives(values[:n], values[n], values[n + 1 : 2 * n + 1], values[2 * n + 1 :])


def expected(formula: str, case: Case, points: Points) -> Derivatives:
    """By PyTorch at the pairs that are kept, and zero at the others."""
    names = [f"u{n}" for n in range(len(case.dims))]
    operands = [points.kept(name).requires_grad_() for name in names]
    others = [points.kept(name) for name in ("g", "h")]
    declared = [Variable(name, "i", t.shape[-1]) for name, t in zip(names, operands, strict=True)]
    declared += [Variable("g", "i", 1), Variable("h", "i", 1)]
    value = terms(formula, declared, [*operands, *others])
    e = points.kept("e").expand(value.shape).clone().requires_grad_()
    directions = [points.kept(f"t{n}") for n in range(len(operands))]
    first = pulled(value, operands, e)
    # The derivative by e of what is linear in e is the derivative along the directions.
    along = sum(((a * t).sum() for a, t in zip(first, directions, strict=True)), torch.zeros(()))
    second = pulled(along, operands)
    (forward,) = pulled(along, [e])
    return Derivatives(
        [spread(t, points) for t in first],
        spread(forward, points),
        [spread(t, points) for t in second],
        [spread(t, points) for t in second],
    )


def pulled(
    value: torch.Tensor, operands: Sequence[torch.Tensor], e: torch.Tensor | None = None
) -> list[torch.Tensor]:
    if not value.requires_grad:
        return [torch.zeros_like(t) for t in operands]
    parts = torch.autograd.grad(value, operands, e, create_graph=True, allow_unused=True)
    return [torch.zeros_like(t) if p is None else p for t, p in zip(operands, parts, strict=True)]


def spread(kept: torch.Tensor, points: Points) -> Array:
    array = np.zeros((len(points.is_kept), kept.shape[-1]))
    array[points.is_kept] = (kept.detach() + 0.0).numpy()  # zeros of abs are without data
    return array


def assert_same(one: Derivatives, other: Derivatives, label: str) -> None:
    for name, a, b in zip(Derivatives._fields, one, other, strict=True):
        pairs = [(a, b)] if name == "forward" else zip(a, b, strict=True)
        for actual, wanted in pairs:
            np.testing.assert_allclose(
                actual, wanted, rtol=1e-7, atol=1e-8, err_msg=f"{label}: {name}"
            )


def guarded_formulas(case: Case, dim: int) -> Iterator[tuple[str, str]]:
    operation = call(case, [f"u{n}" for n in range(len(case.dims))])
    for name, guard in GUARDS.items():
        yield name, guard.format(f=operation, d=dim)


def with_directions(points: Points, case: Case, dim: int) -> Points:
    rng = np.random.default_rng(1)
    count = len(points.is_kept)
    points.arrays["e"] = rng.uniform(0.5, 2.0, (count, dim))
    for n, d in enumerate(case.dims):
        points.arrays[f"t{n}"] = rng.uniform(0.5, 2.0, (count, d))
    return points


@pytest.mark.sampled(736)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_derivatives_are_those_of_the_kept_pairs(case: Case) -> None:
    bare, _ = lowered(call(case, [f"u{n}" for n in range(len(case.dims))]), case)
    for name, formula in guarded_formulas(case, bare.dim):
        value, operands = lowered(formula, case)
        points = with_directions(points_of(case), case, value.dim)
        wanted = expected(formula, case, points)
        assert_same(found(value, operands, points.arrays), wanted, f"{name}: {formula}")


# -- selection by values, and of components --


def first_largest(values: Array) -> Array:
    return np.arange(values.shape[-1]) == np.argmax(values, axis=-1)[:, None]


# What an operation's components decide, and which of them are kept.
CHOICES: Mapping[str, Callable[[Array], Array]] = {
    "Minimum({f},1)": lambda v: v <= 1,
    "Minimum(1,{f})": lambda v: v < 1,
    "Maximum({f},-1)": lambda v: v >= -1,
    "Clamp({f},-1,1)": lambda v: (v >= -1) & (v <= 1),
    "ClampInt({f},-1,1)": lambda v: (v >= -1) & (v <= 1),
    "ReLU({f})": lambda v: v >= 0,
    "Square(ReLU(-{f}))": lambda v: v <= 0,
    "Max({f})": first_largest,
    "Min({f})": lambda v: first_largest(-v),
    "Elem({f},1)": lambda v: np.arange(v.shape[-1]) == 1 + np.zeros_like(v),
    "Sum(Extract({f},1,2))": lambda v: np.arange(v.shape[-1]) >= 1 + np.zeros_like(v),
    "OneHot(1,3)*{f}": lambda v: np.arange(v.shape[-1]) == 1 + np.zeros_like(v),
    "IfElse({f}-1,1,{f})": lambda v: v - 1 < 0,
}


# Places are no selections: what arguments have elsewhere still has to be a number.
PLACES = ("Elem", "Sum(Extract")


@pytest.mark.sampled(36)
@pytest.mark.parametrize(
    "case",
    [c for c in CASES if SPELLINGS[c.spelling].elementwise and set(c.dims) == {3}],
    ids=str,
)
def test_components_that_are_dropped_have_no_derivative(case: Case) -> None:
    names = [f"u{n}" for n in range(len(case.dims))]
    operation = call(case, names)
    bare, own = lowered(operation, case)
    everywhere = points_of(case).arrays
    (values,) = interpret([bare], everywhere)
    is_number = ~np.isnan(values).any(-1)
    is_finite = is_number & np.all([np.isfinite(everywhere[name]).all(-1) for name in names], 0)
    one = constant(1.0, "f64")
    for formula, keeps in CHOICES.items():
        at = is_finite if formula.startswith(PLACES) else is_number
        value, operands = lowered(formula.format(f=operation), case)
        tangents = [variable(f"t{n}", "i", 91 + n, v.type) for n, v in enumerate(operands)]
        arrays = {name: array[at] for name, array in everywhere.items()}
        arrays |= {t["name"]: np.ones((at.sum(), t.dim)) for t in tangents}
        is_kept = keeps(values[at])
        slopes = gradients(value, operands, one)
        *found, along = interpret([*slopes, jvp(value, operands, tangents)], arrays)
        for slope in found:
            assert (np.broadcast_to(slope, is_kept.shape)[~is_kept] == 0).all(), formula
        is_dropped = ~is_kept if along.shape[-1] == 3 else ~is_kept.any(-1, keepdims=True)
        assert (np.broadcast_to(along, is_dropped.shape)[is_dropped] == 0).all(), formula
        if not formula.startswith("Square"):
            for slope, wanted in zip(
                found, interpret(gradients(bare, own, one), arrays), strict=True
            ):
                pair = (np.broadcast_to(a, is_kept.shape)[:GOOD] for a in (slope, wanted))
                actual, expect = (a[is_kept[:GOOD]] for a in pair)
                np.testing.assert_allclose(actual, expect, rtol=1e-12, err_msg=formula)
