"""Long lists, wide results and long formulas: needs the CPU.

`tests/random_structures.py` draws many more of them.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from redcomp.errors import SizeError
from redcomp.ir import Type, convert, variable
from redcomp.limits import MAX_LINES, check_lines
from redcomp.numpy import Genred
from redcomp.passes.grad import gradient

INF, NAN = math.inf, math.nan
DTYPES = ("float32", "float64")

# -- lists -----------------------------------------------------------------------------------------


def expected_list(terms: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The smallest terms of each row and their places, ties by number, NaN passed over."""
    values, places = np.full((len(terms), count), INF), np.zeros((len(terms), count), np.int64)
    for row, own in enumerate(terms):
        order = [n for n in np.argsort(own, kind="stable") if not np.isnan(own[n])][:count]
        values[row, : len(order)], places[row, : len(order)] = own[order], order
    return values, places


COLUMNS = {
    "only infinity": [INF, INF],
    "some infinities": [INF, 1, INF, 0],
    "NaN and both infinities": [NAN, INF, NAN, 2, -INF, -INF],
    "more infinities than places": [INF] * 40,
    "only NaN": [NAN] * 3,
    "masked but for three": [INF] * 300 + [3.0, 3.0, INF, 2.0],
}


@pytest.mark.sampled(60)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [1, 2, 16, 17, 20])
@pytest.mark.parametrize("name", COLUMNS)
def test_infinity_is_a_value_of_a_list(name: str, count: int, dtype: str) -> None:
    y = np.array(COLUMNS[name], dtype)[:, None]
    x = np.zeros((3, 1), dtype)
    values, places = expected_list(np.repeat(y.T, 3, axis=0), count)
    for word, sign in (("Min", 1), ("Max", -1)):
        operation = f"K{word}_ArgK{word}"
        found = Genred("x+y", ["x=Vi(1)", "y=Vj(1)"], operation, axis=1, opt_arg=count)
        got_values, got_places = found(x, sign * y)
        np.testing.assert_array_equal(got_values.reshape(3, count), sign * values)
        np.testing.assert_array_equal(got_places.reshape(3, count), places)


VALUES = {
    "SqDist(u,v)": lambda x, y, p, u, v: ((u[:, None] - v) ** 2).sum(-1),
    "u|v": lambda x, y, p, u, v: u @ v.T,
    "Max(u-v)": lambda x, y, p, u, v: (u[:, None] - v).max(-1),
    "x-y": lambda x, y, p, u, v: x - y.T,
    "p": lambda x, y, p, u, v: np.broadcast_to(p, (len(x), len(y))),
    "Exp(p)*Sign(p)": lambda x, y, p, u, v: np.broadcast_to(np.exp(p), (len(x), len(y))),
    "x": lambda x, y, p, u, v: np.broadcast_to(x, (len(x), len(y))),
    "y": lambda x, y, p, u, v: np.broadcast_to(y.T, (len(x), len(y))),
    "IntCst(3)": lambda x, y, p, u, v: np.full((len(x), len(y)), 3.0),
    "Step(x-y)": lambda x, y, p, u, v: np.where(x - y.T < 0, 0.0, 1.0),
}


@pytest.mark.sampled(96)
@pytest.mark.parametrize("dim", [16, 17, 40])
@pytest.mark.parametrize("count", [16, 17, 100])
@pytest.mark.parametrize("formula", VALUES)
def test_lists_of_what_depends_on_anything(formula: str, count: int, dim: int) -> None:
    """Multiples of 1/8, so that terms are exact and often equal."""
    rng = np.random.default_rng(count)
    shapes = ((21, 1), (90, 1), (1,), (21, dim), (90, dim))
    x, y, p, u, v = (rng.integers(-8, 9, shape) / 8 for shape in shapes)
    p = np.abs(p) + 1
    aliases = ["x=Vi(1)", "y=Vj(1)", "p=Pm(1)", f"u=Vi({dim})", f"v=Vj({dim})"]
    values, places = expected_list(VALUES[formula](x, y, p, u, v), count)
    operation = Genred(formula, aliases, "KMin_ArgKMin", axis=1, opt_arg=count)
    for dtype in DTYPES:
        got_values, got_places = operation(*(a.astype(dtype) for a in (x, y, p, u, v)))
        np.testing.assert_array_equal(got_places, places)
        np.testing.assert_allclose(got_values, values, rtol=1e-6)


# -- long formulas ---------------------------------------------------------------------------------

CHAINS = {
    "product of one": ("*".join(["y"] * 2500), lambda x, y: y**2500),
    "product of two": ("*".join(["y", "x"] * 1250), lambda x, y: (x * y.T) ** 1250),
    "quotient": ("x/" + "/".join(["y"] * 1500), lambda x, y: x * y.T**-1500.0),
    "negations of products": ("*".join(["(-y)"] * 1501), lambda x, y: -(y**1501)),
    "difference": ("x" + "-y" * 1500, lambda x, y: x - 1500 * y.T),
    "gradient through maxima": (
        "Grad(" + "Max(Concat(" * 95 + "y" + ",x))" * 95 + ",y,IntCst(1))",
        lambda x, y: (x <= y.T) * 1.0,
    ),
}


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", CHAINS)
def test_formulas_may_be_long(name: str) -> None:
    formula, meaning = CHAINS[name]
    x, y = np.linspace(0.999, 1.001, 5)[:, None], np.linspace(1.0007, 0.9991, 4)[:, None]
    values = np.broadcast_to(meaning(x, y), (5, 4) if "x" in formula else (4, 1))
    total = values.sum(axis=1 if "x" in formula else 0, keepdims=True)
    result = Genred(formula, ["x=Vi(1)", "y=Vj(1)"], axis=1)(x, y)
    np.testing.assert_allclose(result, np.broadcast_to(total, result.shape), rtol=1e-9)


# -- wide results ----------------------------------------------------------------------------------
# LLVM used to end the process over some of them.


def smallest_places(terms: np.ndarray, count: int) -> np.ndarray:
    """(rows, count, components), ties by number."""
    return np.argsort(terms, axis=1, kind="stable")[:, :count]


@pytest.mark.sampled(6)
@pytest.mark.parametrize(("dim", "count"), [(98, 17), (100, 10), (100, 2), (30, 16), (12, 40)])
def test_lists_of_many_components(dim: int, count: int) -> None:
    rng = np.random.default_rng(0)
    x, y = (rng.integers(-9, 9, (n, dim)).astype("float32") for n in (19, 60))
    aliases = [f"x=Vi({dim})", f"y=Vj({dim})"]
    result = Genred("x-y", aliases, "ArgKMin", axis=1, opt_arg=count)(x, y)
    np.testing.assert_array_equal(result, smallest_places(x[:, None] - y, count))


@pytest.mark.thorough
@pytest.mark.parametrize("reduction", ["Sum", "Max_ArgMax", "LogSumExp"])
@pytest.mark.parametrize("dim", [1, 20])
def test_lists_of_many_formulas(dim: int, reduction: str) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(19, dim)), rng.normal(size=(30, dim))
    is_scalar = reduction == "LogSumExp"
    formulas = [f"Sum(x-y)*{k}" if is_scalar else f"x*{k}-y" for k in range(98)]
    results = Genred(formulas, [f"x=Vi({dim})", f"y=Vj({dim})"], reduction, axis=1)(x, y)
    for k in (0, 1, 50, 97):
        terms = x[:, None] * k - y
        if reduction == "Sum":
            np.testing.assert_allclose(results[k], terms.sum(1), rtol=1e-9, atol=1e-9)
        elif is_scalar:
            sums = k * (x[:, None] - y).sum(-1)
            np.testing.assert_allclose(results[k][:, 0], np.logaddexp.reduce(sums, axis=1))
        else:
            np.testing.assert_allclose(results[k][0], terms.max(1))
            np.testing.assert_array_equal(results[k][1], terms.argmax(1))


SINES = "*".join(f"Sin(x*{k}-y)" for k in range(900))
ALIGNMENTS = "+".join(f"SoftDTW_SqDist({k}*x,y,IntCst(1))" for k in range(1, 12))


@pytest.mark.sampled(6)
@pytest.mark.parametrize(
    ("target", "formula", "dim", "options", "message"),
    [
        ("host", "x-y", 1000, {"reduction_op": "ArgKMin", "opt_arg": 10}, "sums and lists"),
        ("sm_90", "x-y", 1000, {"reduction_op": "KMax", "opt_arg": 100}, "sums and lists"),
        ("host", SINES, 2, {}, "more than 30,000 operations"),
        ("host", ALIGNMENTS, 100, {}, "cells of tables"),
        ("sm_90", ALIGNMENTS, 100, {}, "cells of tables"),
    ],
)
def test_what_takes_too_long_is_refused(
    target: str, formula: str, dim: int, options: dict[str, object], message: str
) -> None:
    operation = Genred(formula, [f"x=Vi({dim})", f"y=Vj({dim})"], axis=1, **options)
    with pytest.raises(SizeError, match=message):
        operation.lower("f32", target=target).module_text  # noqa: B018


def test_modules_of_too_many_lines_are_refused() -> None:
    check_lines("\n" * MAX_LINES)
    with pytest.raises(SizeError, match="150,001 lines of LLVM"):
        check_lines("\n" * (MAX_LINES + 1))


# -- single rows -----------------------------------------------------------------------------------


@pytest.mark.parametrize("digits", [39, 309, 400, 5000])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rounding_to_more_digits_than_there_are(dtype: str, digits: int) -> None:
    x = np.array([0.0, 1.5, -2e30, INF, -INF, NAN], dtype)[:, None]
    result = Genred(f"Round(x,{digits})", ["x=Vi(1)"], axis=1)(x)
    if digits > np.finfo(dtype).maxexp * math.log10(2):
        np.testing.assert_array_equal(result, x)
    result = Genred(f"Round(x,-{digits})", ["x=Vi(1)"], axis=1)(x)
    np.testing.assert_array_equal(result, np.where(np.isfinite(x), 0, x))


def test_conversion_has_a_derivative() -> None:
    """Of a float, the cotangent in the other dtype; of an integer, none."""
    x = variable("x", "i", 0, Type("f64"))
    e = variable("e", "i", 1, Type("f32"))
    back = gradient(convert(x, "f32"), x, e)
    assert (back.op, back.dtype, back.args) == ("convert", "f64", (e,))
    zero = gradient(convert(convert(x, "i32"), "f32"), x, e)
    assert zero.is_constant
    assert zero["value"] == 0


# Values that no pair changes, so that the steps of a truth value or an extremum are constant.
UNCHANGING: dict[str, tuple[float, float]] = {
    "All": (0.0, 1.0), "Any": (0.0, 1.0), "Sum": (0.0, 7.0), "Max": (0.0, 1.0), "Min": (0.0, 1.0),
    "Prod": (0.0, 1.0), "Mean": (0.0, 1.0),
}  # fmt: skip


@pytest.mark.sampled(21)
@pytest.mark.parametrize("dim", [1, 8, 40])
@pytest.mark.parametrize("reduction", UNCHANGING)
def test_constants_are_reduced(reduction: str, dim: int) -> None:
    for number, expected in enumerate(UNCHANGING[reduction]):
        formula = f"Zero({dim})+{number}" if number else f"Zero({dim})"
        found = Genred(formula, ["x=Vj(1)"], reduction, axis=1)(np.ones((7, 1), "f4"))
        np.testing.assert_allclose(found, np.full((1, dim), expected, "f4"), rtol=1e-6)
        kernel = Genred(formula, ["x=Vj(1)"], reduction, axis=1).lower(target="sm_90")
        assert kernel.module_text
