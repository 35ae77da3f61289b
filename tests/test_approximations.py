"""Coefficients, constants and limits of elementary functions: no backend needed, mpmath, NumPy."""

from __future__ import annotations

import importlib
import inspect
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import mpmath
import numpy as np
import pytest
from mpmath import mpf

from redcomp.interpret import interpret
from redcomp.ir import Type, variable
from redcomp.ops.expansions import (
    error_function,
    exponential,
    fast,
    logarithm,
    powers,
    trigonometric,
)
from redcomp.ops.expansions import (
    shared as expansions,
)
from redcomp.ops.table import Array

pytestmark = pytest.mark.slow

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
fit_polynomials: Any = importlib.import_module("fit_polynomials")

DTYPES = {"f32": np.float32, "f64": np.float64}
every_dtype = pytest.mark.parametrize("dtype", list(DTYPES))

MODULES: dict[str, ModuleType] = {
    **dict.fromkeys(("exp", "exp_by_table", "exp2", "expm1", "sinh"), exponential),
    "tanh": fast,
    "log": logarithm,
    "log2": powers,
    **dict.fromkeys(("sin", "cos", "asin", "atan"), trigonometric),
    **dict.fromkeys(("erf", "erfc"), error_function),
}
FITS = fit_polynomials.FITS
every_fit = pytest.mark.parametrize("fit", FITS, ids=[f"{row.name}-{row.dtype}" for row in FITS])
QUICK = [row for row in FITS if len(row.stored) <= 6]


@pytest.mark.sampled(24)
@every_fit
def test_stated_error_holds_and_is_tight(fit: Any) -> None:
    error = fit_polynomials.error(fit.problem, fit.stored)
    assert fit.stated_error / 2 < error <= fit.stated_error


@every_fit
def test_error_is_stated_beside_the_coefficients(fit: Any) -> None:
    assert fit.stated in inspect.getsource(MODULES[fit.name])


@every_fit
def test_coefficients_are_numbers_of_their_dtype(fit: Any) -> None:
    rounded = np.array(fit.stored, DTYPES[fit.dtype])
    np.testing.assert_array_equal(rounded.astype(np.float64), fit.stored)


@pytest.mark.sampled(36)
@pytest.mark.parametrize("fit", QUICK, ids=[f"{row.name}-{row.dtype}" for row in QUICK])
def test_fitting_again_finds_coefficients_as_good(fit: Any) -> None:
    again = fit_polynomials.fit(fit.problem, len(fit.stored) - 1, fit.dtype)
    stored = fit_polynomials.error(fit.problem, fit.stored)
    assert fit_polynomials.error(fit.problem, again) <= 1.01 * stored


@pytest.mark.parametrize("degree", [2, 3, 5])
def test_fit_of_a_power_is_chebyshevs(degree: int) -> None:
    # Of all polynomials with the highest term x**n, that of least size is T_n(x) / 2**(n - 1).
    problem = fit_polynomials.Problem("", lambda x: x**degree, lambda x: mpf(1), mpf(-1), mpf(1))
    coefficients = fit_polynomials.fit(problem, degree - 1, "f64")
    error = fit_polynomials.error(problem, coefficients)
    assert float(error) == pytest.approx(2.0 ** (1 - degree), rel=2e-3)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", ["exp", "exp2"])
def test_search_finds_a_smaller_error_of_the_evaluation(name: str) -> None:
    (row,) = (row for row in FITS if (row.name, row.dtype) == (name, "f32"))
    sample = fit_polynomials.sample(name, count=20_000)
    start = fit_polynomials.fit(row.problem, len(row.stored) - 1, "f32")
    found, error = fit_polynomials.search(start, sample, tries=300)
    assert error == sample.error(found.astype(np.float64)) < sample.error(np.array(start))


def two_parts(exact: Any, dtype: str) -> tuple[float, float]:
    """A number as the nearest float and the nearest float to the rest."""
    high = float(DTYPES[dtype](float(exact)))
    return high, float(DTYPES[dtype](float(exact - mpf(high))))


@every_dtype
def test_constants_are_the_nearest_sums_of_floats(dtype: str) -> None:
    with mpmath.workdps(60):
        ln2 = mpmath.log(2)
        assert expansions.LN2[dtype] == two_parts(ln2, dtype)
        assert expansions.LOG2_E[dtype] == two_parts(1 / ln2, dtype)
        assert expansions.HALF_PI[dtype] == two_parts(mpmath.pi / 2, dtype)
        first, second, third = trigonometric.HALF_PI_PARTS[dtype]
        assert (first, second) == expansions.HALF_PI[dtype]
        assert third == two_parts(mpmath.pi / 2 - mpf(first) - mpf(second), dtype)[0]
        assert powers.LOG2[dtype].first == two_parts(2 / ln2, dtype)
        assert powers.LOG2[dtype].third == two_parts(2 / (3 * ln2), dtype)


@every_dtype
def test_root_of_one_half_in_bits(dtype: str) -> None:
    form = expansions.FORMATS[dtype]
    bits = np.array(math.sqrt(0.5), DTYPES[dtype]).view(f"i{DTYPES[dtype]().itemsize}")
    assert logarithm.SQRT_HALF_BITS[dtype] == int(bits)
    assert 2.0 ** logarithm.NORMALISING[dtype] * 2.0 ** (1 - form.bias - form.mantissa) >= (
        form.smallest_normal
    )


@every_dtype
def test_limits_are_where_results_round_to_constants(dtype: str) -> None:
    info = np.finfo(DTYPES[dtype])
    vanishing, overflow = mpf(float(info.smallest_subnormal)) / 2, mpf(2) ** info.maxexp
    half_unit = mpf(float(info.eps)) / 4
    exp, exp2 = exponential.EXP[dtype], exponential.EXP2[dtype]
    assert mpmath.exp(exp.lowest) < vanishing
    assert mpmath.exp(exp.highest) > overflow
    assert mpmath.power(2, exp2.lowest) < vanishing
    assert mpmath.power(2, exp2.highest) >= overflow
    assert mpmath.exp(exponential.EXPM1[dtype].lowest) < half_unit
    assert mpmath.exp(exponential.EXPM1[dtype].highest) > overflow
    assert 1 - mpmath.tanh(exponential.TANH_SATURATED[dtype]) < half_unit
    assert mpmath.erfc(error_function.TABLE[dtype].vanished) < vanishing


@every_dtype
def test_reduced_angles_are_within_the_range_of_the_fit(dtype: str) -> None:
    # The shift by `magic` rounds n, and x * 2 / pi is rounded before it: both count for large x.
    limit = 2.0 ** (20 if dtype == "f32" else 30)
    x = np.random.default_rng(0).uniform(-limit, limit, 100_000).astype(DTYPES[dtype])
    n = interpret_one(lambda v: expansions.nearest(v, trigonometric.TWO_OVER_PI)[0], x)
    # |n| pi / 2 is up to 1e9, where float64 numbers are 1e-7 apart.
    assert np.abs(x.astype(np.float64) - n * (math.pi / 2)).max() < trigonometric.REDUCED


def interpret_one(expand: Any, x: Array) -> Array:
    """A function of one value, on an array."""
    dtype = "f32" if x.dtype == np.float32 else "f64"
    value = expand(variable("x", "i", 0, Type(dtype)))
    return interpret([value], {"x": x[:, None]})[0][:, 0].astype(np.float64)


def positive_floats(dtype: str, count: int) -> Array:
    """Normal numbers of all magnitudes."""
    info = np.finfo(DTYPES[dtype])
    exponents = np.random.default_rng(0).uniform(info.minexp, info.maxexp - 1, count)
    return np.exp2(exponents).astype(DTYPES[dtype])


@every_dtype
def test_bits_give_a_guess_of_the_inverse_cube_root(dtype: str) -> None:
    a = positive_floats(dtype, 20_000)
    integer = np.dtype(f"i{a.itemsize}")
    bits = powers.INVERSE_CBRT_BITS[dtype] - a.view(integer) / 3.0
    guess = bits.astype(integer).view(a.dtype)
    error = np.abs(guess * np.cbrt(a.astype(np.float64)) - 1).max()
    assert 0.03 < error < 0.035


@pytest.mark.parametrize(("dtype", "limit"), [("f32", 2e-5), ("f64", 2e-16)])
def test_inverse_cube_root(dtype: str, limit: float) -> None:
    a = positive_floats(dtype, 1000)
    found = interpret_one(powers._inverse_cbrt, a)
    with mpmath.workdps(40):
        pairs = zip(found.tolist(), a.tolist(), strict=True)
        error = max(abs(y * mpmath.cbrt(mpf(x)) - 1) for y, x in pairs)
    assert limit / 2 < error < limit
