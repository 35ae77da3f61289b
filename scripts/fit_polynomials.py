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
It measures on a sample of arguments; whether a find is better, `measure_ulp.py --full` tells.
"""

from __future__ import annotations

import argparse
import functools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
from mpmath import mpf

from redcomp.ops.expansions.error_function import JOINT
from redcomp.ops.expansions.error_function import TABLE as ERROR_FUNCTION
from redcomp.ops.expansions.exponential import EXP, EXP2, EXP_BY_TABLE, EXPM1, SINH
from redcomp.ops.expansions.fast import TANH
from redcomp.ops.expansions.logarithm import LOG_F32, LOG_F64
from redcomp.ops.expansions.powers import LOG2
from redcomp.ops.expansions.shared import LN2, LOG2_E
from redcomp.ops.expansions.trigonometric import ASIN, ATAN, CIRCULAR, REDUCED
from redcomp.ops.table import Array

DIGITS = 50
GRID = 400
NUMPY = {"f32": np.float32, "f64": np.float64}

SEARCHED = (("exp", "f32"), ("exp2", "f32"))

Real = Any  # mpmath is not typed
Function = Callable[[Real], Real]


@dataclass(frozen=True, slots=True)
class Problem:
    """What a polynomial p approximates.

    form      how the function is made of p
    function  p's ideal, on [low, high]
    weight    the error of p, multiplied by it, is the error of the function
    """

    form: str
    function: Function
    weight: Function
    low: Real
    high: Real


@dataclass(frozen=True, slots=True)
class Fit:
    """One polynomial as it is stored: its coefficients, lowest first, and the error stated there.

    The error is relative ("2^-27.3") or in units in the last place of the function ("1.1 units").
    """

    name: str
    dtype: str
    problem: Problem
    stored: tuple[float, ...]
    stated: str

    @property
    def stated_error(self) -> float:
        """`stated` as a number."""
        if self.stated.endswith(" units"):
            return float(self.stated.removesuffix(" units"))
        return math.pow(2.0, float(self.stated.removeprefix("2^")))


def _by_series(quotient: Function, first: Real, second: Real) -> Function:
    """A quotient that is 0 / 0 at x = 0, replaced near there by the start of its series."""
    return lambda x: quotient(x) if abs(x) > mpf("1e-12") else first + second * x


def _of_square(function: Function) -> Function:
    """A function of x as one of z = x**2."""
    return lambda z: function(mpmath.sqrt(z))


def _cubic(numerator: Function, first: Real, second: Real) -> Function:
    """numerator(x) / x**3 as a function of z = x**2."""
    return _by_series(_of_square(lambda x: numerator(x) / x**3), first, second)


def _float32_unit(r: Real) -> Real:
    """A float32 unit in the last place of a number slightly above or below 1, as e**r and 2**r."""
    return mpf(2) ** (-23 if r >= 0 else -24)


def _or_zero(quotient: Function) -> Function:
    """A weight that is 0 / 0, and tends to 0, at 0."""
    return lambda x: abs(quotient(x)) if x else mpf(0)


def _exp_problems() -> dict[str, Problem]:
    ln2 = mpmath.log(2)
    half = ln2 / 2
    exp_slope = _by_series(lambda r: mpmath.expm1(r) / r, mpf(1), mpf(1) / 2)
    exp_tail = _by_series(lambda r: (mpmath.expm1(r) - r) / r**2, mpf(1) / 2, mpf(1) / 6)
    exp2_slope = _by_series(lambda r: (mpf(2) ** r - 1) / r, ln2, ln2**2 / 2)
    tanh_tail = _cubic(lambda a: mpmath.tanh(a) - a, mpf(-1) / 3, mpf(2) / 15)
    sinh_tail = _cubic(lambda a: mpmath.sinh(a) - a, mpf(1) / 6, mpf(1) / 120)

    def exp(wider: str, steps: int = 1) -> Problem:
        end = half / steps * mpf(wider)
        form = "exp(r) = 1 + r + r**2 p(r)"
        return Problem(form, exp_tail, lambda r: r**2 / mpmath.exp(r), -end, end)

    def in_units(form: str, slope: Function, end: Real) -> Problem:
        return Problem(form, slope, lambda r: abs(r) / _float32_unit(r), -end, end)

    def of_expm1(r: Real) -> Real:
        return r**2 / mpmath.expm1(r)

    wider = half * mpf("1.001")
    return {
        "exp f32": in_units("exp(r) = 1 + r p(r)", exp_slope, half * mpf("1.0005")),
        "exp f64": exp("1.0001"),
        "table f32": exp("1.0001", EXP_BY_TABLE["f32"].steps),
        "table f64": exp("1.0001", EXP_BY_TABLE["f64"].steps),
        "exp2 f32": in_units("2**r = 1 + r p(r)", exp2_slope, mpf(1) / 2),
        "exp2 f64": Problem(
            "2**r = 1 + r p(r)",
            exp2_slope,
            lambda r: abs(r) / mpf(2) ** r,
            mpf(-1) / 2,
            mpf(1) / 2,
        ),
        "expm1": Problem("exp(r) - 1 = r + r**2 p(r)", exp_tail, _or_zero(of_expm1), -wider, wider),
        "tanh": Problem("tanh(a) = a + a**3 p(a**2)", tanh_tail, lambda z: z, 0, mpf("0.3026")),
        "sinh": Problem("sinh(a) = a + a**3 p(a**2)", sinh_tail, lambda z: z, 0, mpf("1.001")),
    }


def _log_problems() -> dict[str, Problem]:
    root = mpmath.sqrt(2)
    wider = mpf("1.0001")
    # s = f / (2 + f) is largest for f = sqrt(2) - 1.
    largest = ((root - 1) / (root + 1)) ** 2 * mpf("1.001")
    fifth = 2 / mpmath.log(2) / 5

    def log_tail(f: Real) -> Real:
        return (mpmath.log1p(f) - f + f * f / 2) / f**3

    def log2_tail(s: Real) -> Real:
        return 2 / mpmath.log(2) * (mpmath.atanh(s) - s - s**3 / 3) / s**5

    return {
        "log f32": Problem(
            "log(1 + f) = f - f**2 / 2 + f**3 p(f)",
            _by_series(log_tail, mpf(1) / 3, mpf(-1) / 4),
            _or_zero(lambda f: f**3 / mpmath.log1p(f)),
            (1 / root - 1) * wider,
            (root - 1) * wider,
        ),
        "log f64": Problem(
            "2 atanh(s) = 2 s + s**3 p(s**2)",
            _cubic(lambda s: 2 * (mpmath.atanh(s) - s), mpf(2) / 3, mpf(2) / 5),
            lambda z: z / 2,
            mpf(0),
            largest,
        ),
        "log2": Problem(
            "log2(m) = 2 / ln 2 (s + s**3 / 3) + s**5 p(s**2)",
            _by_series(_of_square(log2_tail), fifth, fifth * 5 / 7),
            lambda z: z * z / 3,
            mpf(0),
            largest,
        ),
    }


def _circular_problems() -> dict[str, Problem]:
    end = mpf(str(REDUCED)) ** 2

    def cos_tail(x: Real) -> Real:
        return (mpmath.cos(x) - 1 + x * x / 2) / x**4

    return {
        "sin": Problem(
            "sin(r) = r + r**3 p(r**2)",
            _cubic(lambda r: mpmath.sin(r) - r, mpf(-1) / 6, mpf(1) / 120),
            lambda z: z,
            mpf(0),
            end,
        ),
        "cos": Problem(
            "cos(r) = 1 - r**2 / 2 + r**4 p(r**2)",
            _by_series(_of_square(cos_tail), mpf(1) / 24, mpf(-1) / 720),
            lambda z: z * z / mpmath.cos(mpmath.sqrt(z)),
            mpf(0),
            end,
        ),
        "asin": Problem(
            "asin(s) = s + s**3 p(s**2)",
            _cubic(lambda s: mpmath.asin(s) - s, mpf(1) / 6, mpf(3) / 40),
            lambda z: z,
            mpf(0),
            mpf("0.2501"),
        ),
        "atan": Problem(
            "atan(t) = t + t**3 p(t**2)",
            _cubic(lambda t: mpmath.atan(t) - t, mpf(-1) / 3, mpf(1) / 5),
            _or_zero(_of_square(lambda t: t**3 / mpmath.atan(t))),
            mpf(0),
            mpf("1.0001"),
        ),
    }


@functools.cache
def _scaled_erfc(a: Real) -> Real:
    return (1 + 2 * a) * mpmath.exp(a * a) * mpmath.erfc(a)


def _error_function_problems() -> dict[str, Problem]:
    first = 2 / mpmath.sqrt(mpmath.pi)
    slope = _by_series(_of_square(lambda x: mpmath.erf(x) / x), first, -first / 3)
    joint = mpf(JOINT)

    def erfc(center: float, end: str) -> Problem:
        def g(t: Real) -> Real:
            return _scaled_erfc(center * (1 + t) / (1 - t))

        low, high = ((a - center) / (a + center) for a in (joint, mpf(end)))
        form = f"erfc(a) = exp(-a**2) / (1 + 2 a) p((a - {center:g}) / (a + {center:g}))"
        return Problem(form, g, lambda t: 1 / g(t), low, high)

    return {
        "erf": Problem(
            "erf(x) = x p(x**2)", slope, lambda z: 1 / slope(z), mpf(0), joint**2 * mpf("1.001")
        ),
        "erfc f32": erfc(ERROR_FUNCTION["f32"].center, "10.2"),
        "erfc f64": erfc(ERROR_FUNCTION["f64"].center, "28"),
    }


# Ranges are a little wider than the reduced argument's, for the rounding of the reduction.
with mpmath.workdps(DIGITS):
    PROBLEMS: Mapping[str, Problem] = {
        **_exp_problems(),
        **_log_problems(),
        **_circular_problems(),
        **_error_function_problems(),
    }


def _fit(name: str, dtype: str, problem: str, stored: Sequence[float], stated: str) -> Fit:
    return Fit(name, dtype, PROBLEMS[problem], tuple(stored), stated)


# exp and exp2 in float32 were improved by `search` after the fit.
FITS: tuple[Fit, ...] = (
    _fit("exp", "f32", "exp f32", EXP["f32"].coefficients[1:], "1.2 units"),
    _fit("exp", "f64", "exp f64", EXP["f64"].coefficients[2:], "2^-57.7"),
    _fit("exp_by_table", "f32", "table f32", EXP_BY_TABLE["f32"].coefficients, "2^-29.2"),
    _fit("exp_by_table", "f64", "table f64", EXP_BY_TABLE["f64"].coefficients, "2^-58.2"),
    _fit("exp2", "f32", "exp2 f32", EXP2["f32"].coefficients[1:], "1.1 units"),
    _fit("exp2", "f64", "exp2 f64", EXP2["f64"].coefficients[1:], "2^-56.5"),
    _fit("expm1", "f32", "expm1", EXPM1["f32"].coefficients, "2^-26.0"),
    _fit("expm1", "f64", "expm1", EXPM1["f64"].coefficients, "2^-61.6"),
    _fit("tanh", "f32", "tanh", TANH, "2^-24.7"),
    _fit("sinh", "f32", "sinh", SINH["f32"], "2^-25.1"),
    _fit("sinh", "f64", "sinh", SINH["f64"], "2^-61.7"),
    _fit("log", "f32", "log f32", LOG_F32, "2^-27.3"),
    _fit("log", "f64", "log f64", LOG_F64, "2^-59.4"),
    _fit("log2", "f32", "log2", LOG2["f32"].coefficients, "2^-36.8"),
    _fit("log2", "f64", "log2", LOG2["f64"].coefficients, "2^-66.3"),
    _fit("sin", "f32", "sin", CIRCULAR["f32"].sin, "2^-27.2"),
    _fit("sin", "f64", "sin", CIRCULAR["f64"].sin, "2^-56.6"),
    _fit("cos", "f32", "cos", CIRCULAR["f32"].cos, "2^-31.1"),
    _fit("cos", "f64", "cos", CIRCULAR["f64"].cos, "2^-59.8"),
    _fit("asin", "f32", "asin", ASIN["f32"], "2^-27.5"),
    _fit("asin", "f64", "asin", ASIN["f64"], "2^-59.8"),
    _fit("atan", "f32", "atan", ATAN["f32"], "2^-28.5"),
    _fit("atan", "f64", "atan", ATAN["f64"], "2^-57.4"),
    _fit("erf", "f32", "erf", ERROR_FUNCTION["f32"].erf, "2^-24.1"),
    _fit("erf", "f64", "erf", ERROR_FUNCTION["f64"].erf, "2^-56.0"),
    _fit("erfc", "f32", "erfc f32", ERROR_FUNCTION["f32"].erfc, "2^-27.1"),
    _fit("erfc", "f64", "erfc f64", ERROR_FUNCTION["f64"].erfc, "2^-54.2"),
)


def chebyshev_points(low: Real, high: Real, count: int) -> list[Real]:
    """Points of an interval that are dense at its ends, as the errors of minimax fits need."""
    middle, half = (low + high) / 2, (high - low) / 2
    return [middle - half * mpmath.cos(mpmath.pi * k / count) for k in range(count + 1)]


def error(problem: Problem, coefficients: Sequence[Real], count: int = 2 * GRID) -> Real:
    """The largest weighted error of a polynomial, at `count` points."""
    with mpmath.workdps(DIGITS):
        descending = [mpf(c) for c in reversed(coefficients)]
        return max(
            abs(problem.weight(x) * (mpmath.polyval(descending, x) - problem.function(x)))
            for x in chebyshev_points(mpf(problem.low), mpf(problem.high), count)
        )


def _rounded(coefficient: Real, dtype: str) -> float:
    return float(np.array(float(coefficient), NUMPY[dtype]))


def fit(problem: Problem, degree: int, dtype: str) -> list[float]:
    """The coefficients of a minimax polynomial, rounded to the dtype."""
    with mpmath.workdps(DIGITS):
        points = chebyshev_points(mpf(problem.low), mpf(problem.high), GRID)
        weights = [problem.weight(x) for x in points]
        rest = [problem.function(x) for x in points]
        rounded: list[float] = []
        for power in range(degree + 1):
            # Of the higher coefficients, those that are best with the lower ones rounded.  An odd
            # power is a factor of them all; its sign goes into the weight, for errors to alternate.
            signed = [
                w if power % 2 == 0 or x > 0 else -w for x, w in zip(points, weights, strict=True)
            ]
            basis = [
                [w * x**k for k in range(power, degree + 1)]
                for x, w in zip(points, signed, strict=True)
            ]
            target = [w * y for y, w in zip(rest, signed, strict=True)]
            rounded.append(_rounded(remez(basis, target)[0], dtype))
            rest = [y - rounded[-1] * x**power for x, y in zip(points, rest, strict=True)]
        return rounded


def remez(basis: Sequence[Sequence[Real]], target: Sequence[Real], rounds: int = 40) -> list[Real]:
    """The combination of basis functions nearest to a target, in the largest error on a grid.

    Rows are the points of the grid; the best combination has errors of one size and alternating
    signs at one point more than there are functions.
    """
    unknowns = len(basis[0])
    chosen = [round((len(basis) - 1) * k / unknowns) for k in range(unknowns + 1)]
    best: list[Real] = []
    least = mpf("inf")
    for _ in range(rounds):
        rows = [[*basis[i], (-1) ** k] for k, i in enumerate(chosen)]
        solution = mpmath.lu_solve(mpmath.matrix(rows), mpmath.matrix([target[i] for i in chosen]))
        *combination, level = solution
        errors = [mpmath.fdot(combination, row) - y for row, y in zip(basis, target, strict=True)]
        largest = max(map(abs, errors))
        if largest < least:
            best, least = combination, largest
        chosen = _alternating(errors, unknowns + 1)
        if largest < abs(level) * mpf("1.002") or len(chosen) < unknowns + 1:
            break
    return best


def _alternating(errors: Sequence[Real], count: int) -> list[int]:
    """The places of `count` extrema (or fewer) whose signs alternate, the smallest left out."""
    places: list[int] = []
    for i, value in enumerate(errors):
        if not places or (value > 0) != (errors[places[-1]] > 0):
            places.append(i)
        elif abs(value) > abs(errors[places[-1]]):
            places[-1] = i
    while len(places) > count:
        sizes = [abs(errors[i]) for i in places]
        k = sizes.index(min(sizes))
        if k in (0, len(places) - 1):
            del places[k]
        elif len(places) >= count + 2:
            # An inner one goes with its smaller neighbour, or the signs would not alternate.
            start = k if sizes[k + 1] < sizes[k - 1] else k - 1
            del places[start : start + 2]
        else:
            del places[0 if sizes[0] < sizes[-1] else -1]
    return places


@dataclass(frozen=True, slots=True)
class Sample:
    """Reduced arguments in float32, and the exact e**r or 2**r of the unrounded ones."""

    r: Array
    exact: Array

    def error(self, coefficients: Array) -> float:
        """The largest error of 1 + r p(r), in units in the last place, as evaluated by fma."""
        value = np.full(len(self.r), coefficients[-1])
        for coefficient in (*coefficients[-2::-1], 1.0):
            # A product of two float32 is exact in float64; so all but a few sums round as by fma.
            value = (value * self.r + coefficient).astype(np.float32).astype(np.float64)
        unit = np.exp2(np.floor(np.log2(self.exact)) - 23)
        return float((np.abs(value - self.exact) / unit).max())


def sample(name: str, count: int = 200_000) -> Sample:
    """Arguments of exp or exp2 over their range, reduced as their expansions do."""
    random = np.random.default_rng(0)
    wide = 87.0 if name == "exp" else 125.0
    x = np.append(random.uniform(-wide, wide, count // 2), random.uniform(-0.7, 0.7, count // 2))
    x = x.astype(np.float32).astype(np.float64)
    if name == "exp2":
        r = x - np.rint(x)
        return Sample(r, np.exp2(r))
    high, low = LN2["f32"]
    n = np.rint(x * LOG2_E["f32"][0])
    r = (x - n * high).astype(np.float32) - n * low
    return Sample(r.astype(np.float32).astype(np.float64), np.exp(x - n * math.log(2.0)))


def search(start: Sequence[float], points: Sample, tries: int) -> tuple[Array, float]:
    """Coefficients with a smaller error of the whole evaluation, by random changes of some units.

    The lowest coefficients change least, since their changes count most.
    """
    random = np.random.default_rng(1)
    best = np.array(start, np.float32)
    least = points.error(best.astype(np.float64))
    largest = 4 ** np.arange(1, len(best) + 1)
    for _ in range(tries):
        chosen = random.random(len(best)) < 0.4
        scale = np.exp2(-random.uniform(0.0, np.log2(largest)))
        steps = np.rint(random.uniform(-1.0, 1.0, len(best)) * largest * scale) * chosen
        changed = (best.view(np.int32) + steps.astype(np.int32)).view(np.float32)
        found = points.error(changed.astype(np.float64))
        if found < least:
            best, least = changed, found
    return best, least


def describe(size: Real, stated: str) -> str:
    """An error in the way in which the row states it."""
    if stated.endswith("units"):
        return f"{float(size):.2f} units"
    return f"2^{float(mpmath.log(size, 2)):.2f}"


def listing(fits: Sequence[Fit]) -> str:
    """The table of the fits."""
    lines = []
    for row in fits:
        low, high = float(row.problem.low), float(row.problem.high)
        lines.append(
            f"{row.name:13} {row.dtype}  degree {len(row.stored) - 1:2}  {row.stated:9}  "
            f"[{low:.4f}, {high:.4f}]  {row.problem.form}"
        )
    return "\n".join(lines)


def report(row: Fit, degree: int | None, tries: int) -> None:
    """Fit a row again and print the coefficients, their error and that of the stored ones."""
    print(listing([row]))
    print(f"  stored: {describe(error(row.problem, row.stored), row.stated)}")
    coefficients = fit(row.problem, len(row.stored) - 1 if degree is None else degree, row.dtype)
    print(f"  fitted: {describe(error(row.problem, coefficients), row.stated)}")
    print("  the same" if tuple(coefficients) == row.stored else f"  {coefficients}")
    if not tries:
        return
    points = sample(row.name)
    print(f"  whole evaluation, stored: {points.error(np.array(row.stored)):.3f} units")
    found, size = search(coefficients, points, tries)
    print(f"  whole evaluation, found:  {size:.3f} units\n  {[float(c) for c in found]}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="fits to do again (default: list all)")
    parser.add_argument("--dtype", choices=list(NUMPY), help="only this dtype")
    parser.add_argument("--degree", type=int, help="another degree than the stored one")
    parser.add_argument(
        "--search", type=int, default=0, metavar="N", help="try N changes (exp and exp2, f32)"
    )
    options = parser.parse_args(arguments)
    unknown = set(options.names) - {row.name for row in FITS}
    if unknown:
        parser.error(f"no fit is called {', '.join(sorted(unknown))}")
    rows = [row for row in FITS if options.dtype in (None, row.dtype)]
    if not options.names:
        print(listing(rows))
        return 0
    rows = [row for row in rows if row.name in options.names]
    if options.search and any((r.name, r.dtype) not in SEARCHED for r in rows):
        parser.error("--search is for exp and exp2 with --dtype f32")
    for row in rows:
        report(row, options.degree, options.search)
    return 0


if __name__ == "__main__":
    sys.exit(main())
