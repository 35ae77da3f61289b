"""Fit the polynomials of the elementary functions: where the coefficients in redcomp/ops come from.

    python scripts/fit_polynomials.py                    list the fits and their stated errors
    python scripts/fit_polynomials.py asin               fit again, and compare with what is stored
    python scripts/fit_polynomials.py atan --degree 7    a variation
    python scripts/fit_polynomials.py exp2 --dtype f32 --search 2000

A fit is a row of FITS: to change an approximation, change its row, fit, and copy the coefficients.
The method is Remez's exchange with 50 digits for the largest weighted error.  Coefficients are
rounded to the dtype one by one from the lowest, the others being fitted again each time, so that
they make up for the rounding.

A stated error is the polynomial's own: relative to the function ("2^-27.3"), or in units in the
last place of the function's value ("1.1 units").  It says nothing of the rounding errors of the
evaluation; scripts/measure_ulp.py measures the total.  For exp and exp2 in float32, the two are of
one size: there `--search` looks for coefficients whose *total* error is least, by random changes.
"""

from __future__ import annotations

import argparse
import functools
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
from mpmath import mpf

from redcomp.ops.error_function import JOINT
from redcomp.ops.error_function import TABLE as ERROR_FUNCTION
from redcomp.ops.expansions import LN2, LOG2_E
from redcomp.ops.exponential import EXP, EXP2, EXP_BY_TABLE, EXPM1, SINH
from redcomp.ops.logarithm import LOG_F32, LOG_F64
from redcomp.ops.powers import LOG2
from redcomp.ops.trigonometric import ASIN, ATAN, CIRCULAR, REDUCED

DIGITS = 50
GRID = 400
NUMPY = {"f32": np.float32, "f64": np.float64}

Real = Any  # mpmath is not typed
Function = Callable[[Real], Real]


@dataclass(frozen=True, slots=True)
class Fit:
    """One polynomial p(x), as it is stored and how it is found.

    name, dtype  what is approximated, and the dtype of the coefficients
    form         how the function is made of p
    function     what p approximates, on [low, high]
    weight       the error of p times it is the stated error: relative, or in units
    stored       the coefficients, lowest first
    stated       the largest error, as in the comment beside the coefficients
    """

    name: str
    dtype: str
    form: str
    function: Function
    weight: Function
    low: Real
    high: Real
    stored: tuple[float, ...]
    stated: str

    @property
    def degree(self) -> int:
        return len(self.stored) - 1

    @property
    def stated_error(self) -> float:
        """`stated` as a number."""
        if self.stated.endswith(" units"):
            return float(self.stated.removesuffix(" units"))
        return 2.0 ** float(self.stated.removeprefix("2^"))


def _by_series(quotient: Function, first: Real, second: Real) -> Function:
    """A quotient that is 0 / 0 at x = 0, replaced there by the start of its series."""
    return lambda x: quotient(x) if abs(x) > mpf("1e-12") else first + second * x


def _of_root(function: Function) -> Function:
    """A function of z = x**2."""
    return lambda z: function(mpmath.sqrt(z))


def _unit(x: Real) -> Real:
    """A float32 unit in the last place of exp(x) or 2**x near x = 0."""
    return mpf(2) ** (-23 if x >= 0 else -24)


def _third(numerator: Function, first: Real, second: Real) -> Function:
    """numerator(x) / x**3 as a function of z = x**2."""
    return _by_series(_of_root(lambda x: numerator(x) / x**3), first, second)


@functools.cache
def _scaled_erfc(a: Real) -> Real:
    return (1 + 2 * a) * mpmath.exp(a * a) * mpmath.erfc(a)


with mpmath.workdps(DIGITS):
    HALF_LN2 = mpmath.log(2) / 2
    FIFTH_LOG2 = 2 / mpmath.log(2) / 5
    LARGEST_S2 = ((mpmath.sqrt(2) - 1) / (mpmath.sqrt(2) + 1)) ** 2
    TWO_OVER_ROOT_PI = 2 / mpmath.sqrt(mpmath.pi)
    LOG_RANGE = (mpmath.sqrt(mpf(1) / 2) - 1, mpmath.sqrt(2) - 1)
    THIRD = mpf(1) / 3

# Ranges are taken a little wider than they are, for the rounding of the argument.
WIDER = mpf("1.001")
SLIGHTLY_WIDER = mpf("1.0001")

exp_tail = _by_series(lambda r: (mpmath.expm1(r) - r) / r**2, mpf(1) / 2, mpf(1) / 6)
sin_tail = _third(lambda x: mpmath.sin(x) - x, mpf(-1) / 6, mpf(1) / 120)
cos_tail = _by_series(
    lambda z: (mpmath.cos(mpmath.sqrt(z)) - 1 + z / 2) / z**2, mpf(1) / 24, mpf(-1) / 720
)
sinh_tail = _third(lambda x: mpmath.sinh(x) - x, mpf(1) / 6, mpf(1) / 120)
asin_tail = _third(lambda x: mpmath.asin(x) - x, mpf(1) / 6, mpf(3) / 40)
atan_tail = _third(lambda x: mpmath.atan(x) - x, -THIRD, mpf(1) / 5)
atanh_tail = _third(lambda s: 2 * (mpmath.atanh(s) - s), 2 * THIRD, mpf(2) / 5)
log_tail = _by_series(
    lambda f: (mpmath.log1p(f) - f + f * f / 2) / f**3, THIRD, mpf(-1) / 4
)
log2_tail = _by_series(
    _of_root(lambda s: 5 * FIFTH_LOG2 * (mpmath.atanh(s) - s - s**3 / 3) / s**5),
    FIFTH_LOG2,
    FIFTH_LOG2 * 5 / 7,
)
erf_slope = _by_series(
    _of_root(lambda x: mpmath.erf(x) / x), TWO_OVER_ROOT_PI, -TWO_OVER_ROOT_PI / 3
)


def _exp_fits() -> list[Fit]:
    """exp, exp2, expm1 and sinh."""

    def relative(r: Real) -> Real:
        return r**2 / mpmath.exp(r)

    def of_expm1(r: Real) -> Real:
        return abs(r**2 / mpmath.expm1(r)) if r else mpf(0)

    expm1_slope = _by_series(lambda r: mpmath.expm1(r) / r, mpf(1), mpf(1) / 2)
    ln2 = 2 * HALF_LN2
    exp2_slope = _by_series(lambda r: mpmath.expm1(r * ln2) / r, ln2, ln2**2 / 2)
    fits = []

    def add(name: str, dtype: str, form: str, g: Function, w: Function, end: Real, *rest: Any) -> None:
        fits.append(Fit(name, dtype, form, g, w, -end, end, *rest))

    end = HALF_LN2 * SLIGHTLY_WIDER
    add("exp", "f32", "exp(r) = 1 + r p(r)", expm1_slope, lambda r: abs(r) / _unit(r),
        HALF_LN2 * mpf("1.0005"), EXP["f32"].coefficients[1:], "1.3 units")
    add("exp", "f64", "exp(r) = 1 + r + r**2 p(r)", exp_tail, relative,
        end, EXP["f64"].coefficients[2:], "2^-57.7")
    return fits
