"""What KeOps 2.3 gets wrong in formulas is right: needs the CPU backend, PyTorch.

Each test is named after what is right, and its docstring says what KeOps does.  Expected values are
computed in float64 without redcomp.  The faults of reductions and calls are those of
`test_keops_faults_of_calls.py`, those of LazyTensor are those of `test_lazy_faults.py`.

Not concerned, as redcomp lacks what they are about: the faults of the GPU (two-dimensional schemes,
rows outside of ranges, reads past the ranges, fast arithmetic).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from single_values import (
    INF,
    NAN,
    PAIR,
    SPREAD,
    Array,
    close,
    column,
    gradient,
    reduced,
    uniform,
    value,
)

import redcomp.torch
from redcomp.errors import FormulaError
from redcomp.numpy import Genred

# -- precision -------------------------------------------------------------------------------------


@pytest.mark.parametrize("formula", ["RatCst(1, 3) * x", "x / 3", "IntInv(3) * x", "(1/3) * x"])
def test_fractions_have_the_precision_of_the_dtype(formula: str) -> None:
    """KeOps rounds fractions to float32 (BUG-5)."""
    close(value(formula, SPREAD), SPREAD / 3, units=1)


def test_integers_have_the_precision_of_the_dtype() -> None:
    """KeOps writes integers as float32."""
    assert value("x + IntCst(16777217)", column(0.0))[0, 0] == 16777217.0


@pytest.mark.parametrize("formula", ["Powf(x, y)", "x ** y"])
def test_powers_have_the_precision_of_the_dtype(formula: str) -> None:
    """KeOps computes Powf in float32 (BUG-6)."""
    exponents = SPREAD[::-1].copy()
    close(value(formula, SPREAD, exponents), SPREAD**exponents)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", ["Exp", "Log", "Sin", "Cos", "Sqrt", "Atan"])
def test_float32_functions_are_within_two_units(name: str) -> None:
    """KeOps' host code calls functions of float64; vectors of float32 must not be much worse."""
    x = SPREAD.astype(np.float32)
    function = getattr(np, {"Atan": "arctan"}.get(name, name.lower()))
    exact = function(x.astype(np.float64))
    error = abs(value(f"{name}(x)", x) - exact) / np.spacing(exact.astype(np.float32))
    assert error.max() <= 2.01


def soft_dtw(x: Array, y: Array, gamma: float) -> float:
    """Cuturi and Blondel's recurrence in Python's floats."""
    table = np.full((len(x) + 1, len(y) + 1), INF)
    table[0, 0] = 0.0
    for i, a in enumerate(x):
        for j, b in enumerate(y):
            before = np.array([table[i, j], table[i, j + 1], table[i + 1, j]])
            least = before.min()
            total = np.exp((least - before) / gamma).sum()
            table[i + 1, j + 1] = (a - b) ** 2 + least - gamma * math.log(total)
    return float(table[-1, -1])


def test_alignments_have_the_precision_of_the_dtype() -> None:
    """KeOps takes a minimum in float32 in SoftDTW_SqDist."""
    x, y, gamma = SPREAD[:, :3], SPREAD[::-1, 1:].copy(), 0.7
    expected = [[soft_dtw(a, b, gamma)] for a, b in zip(x, y, strict=True)]
    close(value("SoftDTW_SqDist(x, y, 0.7)", x, y), expected, units=64)


def test_splines_are_computed_in_float64_with_gradients() -> None:
    """KeOps has B-splines in float32 only, without gradients."""
    knots, x = np.array([0.0, 0.5, 1.25, 2.0]), column(0.25, 0.9, 1.5)
    # The one quadratic B-spline over four knots, by Cox's and de Boor's recursion.
    t0, t1, t2, t3 = knots
    expected = []
    for u in x[:, 0]:
        if u < t1:
            expected.append((u - t0) ** 2 / ((t2 - t0) * (t1 - t0)))
        elif u < t2:
            rising = (u - t0) * (t2 - u) / ((t2 - t0) * (t2 - t1))
            expected.append(rising + (t3 - u) * (u - t1) / ((t3 - t1) * (t2 - t1)))
        else:
            expected.append((t3 - u) ** 2 / ((t3 - t1) * (t3 - t2)))
    close(value("BSpline(y, x, 2)", x, knots, kinds="ip")[:, 0], expected)
    spread = np.repeat(knots[None], 3, axis=0)
    slope = gradient("BSpline(y, x, 2)", x, spread)[0][:, 0]
    close(slope[0], 2 * (x[0, 0] - t0) / ((t2 - t0) * (t1 - t0)))


# -- special inputs --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([-INF, -INF], -INF),
        ([-INF, 1.0], 1.0),
        ([INF, INF], INF),
        ([-INF, INF, 0.0], INF),
        ([], -INF),
        ([NAN, 0.0], NAN),
        ([1000.0, 1000.0], 1000.0 + math.log(2.0)),
    ],
)
def test_logsumexp_of_infinities_is_that_of_the_mathematics(
    numbers: Sequence[float], expected: float
) -> None:
    """KeOps gives NaN where -inf comes first, where +inf comes twice, and for no columns."""
    x = np.array(numbers, np.float64)[:, None]
    result = reduced("LogSumExp", x)
    np.testing.assert_allclose(result, [expected], rtol=1e-15)
    if numbers:
        np.testing.assert_allclose(result, torch.logsumexp(torch.tensor(x), 0).numpy(), rtol=1e-15)


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("formula", "x", "expected"),
    [
        ("Rsqrt(x)", [0.0], [0.0]),
        ("Normalize(x)", [0.0, 0.0], [0.0, 0.0]),
        ("Step(x)", [0.0, -0.0, NAN, -1.0], [1.0, 1.0, 1.0, 0.0]),
        ("Sign(x)", [0.0, NAN, -INF], [0.0, 0.0, -1.0]),
        ("IfElse(x, 5, 7)", [0.0, NAN, -1.0], [5.0, 7.0, 7.0]),
        ("XLogX(x)", [0.0], [0.0]),
        ("SinXDivX(x)", [0.0], [1.0]),
        ("Max(x)", [1.0, NAN, 3.0], [3.0]),
        ("Min(x)", [1.0, NAN, 3.0], [1.0]),
        ("ArgMin(x)", [2.0, NAN, 1.0], [2.0]),
    ],
)
def test_values_at_special_points_are_those_of_the_language(
    formula: str, x: Sequence[float], expected: Sequence[float]
) -> None:
    """Programs rely on these values of KeOps, so they are the same here."""
    np.testing.assert_array_equal(value(formula, np.array([x])), [expected])


@pytest.mark.sampled(12)
@pytest.mark.parametrize(
    ("formula", "x", "expected"),
    [
        ("Sqrt(x)", [0.0], [0.0]),
        ("Norm2(x)", [0.0, 0.0], [0.0, 0.0]),
        ("Normalize(x)", [0.0, 0.0], [0.0, 0.0]),
        ("ReLU(x)", [0.0, -1.0], [1.0, 0.0]),
        ("Abs(x)", [0.0, -1.0], [0.0, -1.0]),
        ("Asin(x)", [1.0, -1.0], [0.0, 0.0]),
        ("Acos(x)", [1.0, -1.0], [0.0, 0.0]),
        ("XLogX(x)", [0.0], [-INF]),
        ("SinXDivX(x)", [0.0], [0.0]),
        ("Clamp(x, 1, 1)", [0.5, 1.0, 2.0], [0.0, 1.0, 0.0]),
        ("Max(x)", [1.0, 3.0, 3.0], [0.0, 1.0, 0.0]),
    ],
)
def test_gradients_at_special_points_are_those_of_the_language(
    formula: str, x: Sequence[float], expected: Sequence[float]
) -> None:
    """As in KeOps, but for SinXDivX at 0 and Clamp between equal limits, where it has NaN."""
    np.testing.assert_array_equal(gradient(formula, np.array([x]))[0], [expected])


def test_extrema_over_columns_pass_nan_over() -> None:
    """As in KeOps: programs rely on it."""
    x = column(2.0, NAN, 1.0, NAN, 3.0)
    assert reduced("Min", x) == 1.0
    assert reduced("ArgMin", x) == 2
    assert reduced("ArgMax", x) == 4
    np.testing.assert_array_equal(reduced("KMin", x, opt_arg=4), [1.0, 2.0, 3.0, INF])


# -- formulas --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "exponent"), [("x ** 0.5", 0.5), ("x ** (-0.5)", -0.5), ("x ** 1.7", 1.7)]
)
def test_powers_take_any_exponent(formula: str, exponent: float) -> None:
    """KeOps raises a TypeError for every exponent but integers (BUG-1)."""
    close(value(formula, SPREAD), SPREAD**exponent)


@pytest.mark.parametrize("aliases", [["x=Vx(3)", "y=Vy(3)"], ["y=Vy(3)", "x=Vx(3)"]])
def test_old_names_of_variables_are_names_of_variables(aliases: list[str]) -> None:
    """KeOps takes Vx and Vy for the kind of the alias before, or fails (BUG-2)."""
    x, y = SPREAD[:4], SPREAD[4:9]
    args = (x, y) if aliases[0].startswith("x") else (y, x)
    result = Genred("SqDist(x, y)", aliases, axis=1)(*args)
    close(result[:, 0], ((x[:, None] - y) ** 2).sum((1, 2)), units=32)


def test_gradients_follow_the_stated_positions() -> None:
    """KeOps pairs gradients with arguments by the order of the aliases (BUG-3)."""
    x, y = (torch.tensor(SPREAD[k : k + 5], requires_grad=True) for k in (0, 5))
    reduction = redcomp.torch.Genred("Sum(x * x * y)", ["y = Vi(1, 3)", "x = Vi(0, 3)"], axis=1)
    reduction(x, y).sum().backward()
    assert x.grad is not None
    assert y.grad is not None
    close(x.grad.numpy(), (2 * x * y).detach().numpy())
    close(y.grad.numpy(), (x * x).detach().numpy())


@pytest.mark.sampled(9)
@pytest.mark.parametrize(
    ("formula", "dense"),
    [
        ("Atan2(x, y)", torch.atan2),
        ("Atan2(y, x)", lambda x, y: torch.atan2(y, x)),
        ("Powf(x, y)", torch.pow),
        ("Powf(y, x)", lambda x, y: torch.pow(y, x)),
        ("IfElse(y - 1, x, y)", lambda x, y: torch.where(y >= 1, x, y)),
        ("IfElse(x - 1, y, x)", lambda x, y: torch.where(x >= 1, y, x)),
    ],
)
def test_gradients_of_scalar_operands_are_sums_over_components(formula: str, dense: Any) -> None:
    """KeOps fails, or returns a gradient that is not summed (BUG-4)."""
    x, y = SPREAD[:, :1].copy(), SPREAD[::-1].copy()
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, y)]
    expected = torch.autograd.grad(dense(*leaves).sum(), leaves)
    for result, exact in zip(gradient(formula, x, y), expected, strict=True):
        close(result, exact.numpy(), units=32)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", ["ComplexAdd", "ComplexSubtract", "ComplexMult"])
def test_complex_gradients_reach_real_variables_of_odd_dimension(name: str) -> None:
    """KeOps raises a ValueError (BUG-7)."""
    x, y = SPREAD, np.concatenate([SPREAD, SPREAD[::-1]], axis=1)
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, y)]
    function = {"Add": torch.add, "Subtract": torch.sub, "Mult": torch.mul}[name[7:]]
    pairs = torch.view_as_complex(leaves[1].unflatten(-1, (3, 2)))
    exact = torch.view_as_real(function(leaves[0].to(pairs.dtype), pairs))
    expected = torch.autograd.grad(exact.sum(), leaves)
    for result, e in zip(gradient(f"{name}(Real2Complex(x), y)", x, y), expected, strict=True):
        close(result, e.numpy(), units=32)


SHARED = "Exp(x|y)+Cos(Exp(x|y))*Exp(x|y)"


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "formula", [SHARED, f"Factorize({SHARED}, Exp(x|y))", f"AutoFactorize({SHARED})"]
)
def test_common_parts_are_computed_once(formula: str) -> None:
    """KeOps' automatic factorisation has no effect (BUG-8)."""
    made = Genred(formula, PAIR, axis=1)
    shared = made.lower().stages["cse"]
    assert shared.count('"redcomp.exp"') == 1
    x, y = SPREAD[:4], SPREAD[4:9]
    exponentials = np.exp(x @ y.T)
    exact = (exponentials * (1 + np.cos(exponentials))).sum(1)
    np.testing.assert_allclose(made(x, y, np.ones((5, 1)))[:, 0], exact, rtol=1e-11)


@pytest.mark.parametrize(
    ("formula", "factor"),
    [("RatCst(1, 3) + IntCst(2)", 7 / 3), ("RatCst(1, 3) - IntCst(2)", -5 / 3), ("1 - 2/7", 5 / 7)],
)
def test_fractions_and_integers_add_up(formula: str, factor: float) -> None:
    """KeOps raises an AttributeError (BUG-9)."""
    close(value(f"({formula}) * x", SPREAD), factor * SPREAD, units=2)


def test_comparisons_of_equality_are_elementwise() -> None:
    """KeOps compares the structure of formulas: a Python truth value."""
    x, y = np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 5.0, 3.0]])
    np.testing.assert_array_equal(value("x == y", x, y), [[1.0, 0.0, 1.0]])
    np.testing.assert_array_equal(value("x != y", x, y), [[0.0, 1.0, 0.0]])


def test_chained_comparisons_are_errors() -> None:
    """KeOps silently drops the first half."""
    with pytest.raises(FormulaError, match="chain"):
        Genred("x < y < x", ["x=Vi(1)", "y=Vj(1)"], axis=1)


@pytest.mark.parametrize("formula", ["IfElse(x, 1, 0)", "Add(x, 0.5)", "x + 0.5", "Exp(2) * x"])
def test_numbers_stand_wherever_scalars_may(formula: str) -> None:
    """KeOps has no float literals, and refuses numbers as arguments."""
    expected = {"I": 1.0, "A": SPREAD + 0.5, "x": SPREAD + 0.5, "E": math.exp(2) * SPREAD}
    close(value(formula, SPREAD) * np.ones(3), expected[formula[0]] * np.ones((50, 3)))


@pytest.mark.parametrize("formula", ["SqDist(Vi(0, 3), Vj(1, 3))", "SqDist(Vi(3), Vj(3))"])
def test_variables_may_stand_in_formulas(formula: str) -> None:
    """KeOps documents it, and raises a NameError."""
    x, y = SPREAD[:4], SPREAD[4:9]
    result = Genred(formula, [], axis=1)(x, y)
    close(result[:, 0], ((x[:, None] - y) ** 2).sum((1, 2)), units=32)


def test_unknown_names_are_errors_that_point_at_the_place() -> None:
    """KeOps documents Ind(...), prints a list of unknown names, and raises a NameError later."""
    with pytest.raises(FormulaError) as caught:
        Genred("Exp(Ind(3)) * x", ["x=Vi(3)"], axis=1)
    assert "'Ind'" in str(caught.value)
    formula, carets = str(caught.value).splitlines()[-2:]
    assert formula[carets.index("^") :].startswith("Ind")


def test_formulas_are_no_programs() -> None:
    """KeOps hands formulas to Python's eval."""
    for formula in ("__import__('os').getpid() * x", "print(x)", "x.dim * x", "[x for y in x]"):
        with pytest.raises(FormulaError):
            Genred(formula, ["x=Vi(1)"], axis=1)


def test_matrices_are_stored_row_after_row() -> None:
    """KeOps' documentation says column after column."""
    a, b = uniform(4, 6), uniform(4, 3, seed=2)
    close(value("MatVecMult(x, y)", a, b), np.einsum("nik,nk->ni", a.reshape(4, 2, 3), b), units=16)
    jacobian = value("GradMatrix(Concat(Sum(x*x), Elem(x, 1)), x)", b).reshape(4, 2, 3)
    close(jacobian[:, 0], 2 * b)
    np.testing.assert_array_equal(jacobian[:, 1], np.tile([0.0, 1.0, 0.0], (4, 1)))


def test_adjoints_take_the_function_the_variable_and_the_argument() -> None:
    """KeOps documents two arguments; it has rules for few operations."""
    a, u = uniform(4, 6), uniform(4, 2, seed=2)
    b = np.zeros((4, 3))
    adjoint = value("AdjointOperator(MatVecMult(x, y), y, z)", a, b, u)
    close(adjoint, np.einsum("nik,ni->nk", a.reshape(4, 2, 3), u), units=16)


def test_complex_scalars_scale_complex_vectors() -> None:
    """KeOps documents ComplexScal, and lacks it."""
    scalar, vector = uniform(4, 2), uniform(4, 6, seed=2)
    exact = scalar.view(np.complex128) * vector.view(np.complex128)
    close(value("ComplexScal(x, y)", scalar, vector), exact.view(np.float64), units=16)


@pytest.mark.parametrize("formula", ["Elem(x, 3)", "Elem(x, -1)", "Extract(x, 2, 2)"])
def test_components_outside_of_a_vector_are_errors(formula: str) -> None:
    """KeOps reads past the vector for a negative place."""
    with pytest.raises(FormulaError):
        Genred(formula, ["x=Vi(3)"], axis=1)


def test_one_hot_places_outside_give_zeros() -> None:
    """KeOps writes past the vector."""
    places = column(-1.0, 0.0, 2.4, 3.0, 1e9, NAN)
    expected = np.zeros((6, 3))
    expected[1, 0] = expected[2, 2] = 1.0
    np.testing.assert_array_equal(value("OneHot(x, 3)", places), expected)
