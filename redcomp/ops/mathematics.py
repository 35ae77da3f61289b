"""The elementary functions of the language, one row each.

Their expansions are in `exponential`, `logarithm`, `powers`, `trigonometric` and `error_function`;
their measured errors are in docs/accuracy.md, which scripts/measure_ulp.py writes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from redcomp.ir import Value, compare, constant, fma, select
from redcomp.ops import signs
from redcomp.ops.expansions import (
    error_function,
    exponential,
    fast,
    logarithm,
    powers,
    trigonometric,
)
from redcomp.ops.expansions.shared import LN2, at_most, magnitude, polynomial
from redcomp.ops.table import NORMAL, SIMD, Array, Domain, Operation, Range, apply, register

PAIR = Domain(((-4.0, 4.0), (-4.0, 4.0)), (0.0, -1.5, 1.5))


def function_row(name: str, spelling: str, doc: str, evaluate: Any, **fields: Any) -> Operation:
    """A row of one operand in the section Mathematics."""
    arity = fields.pop("arity", 1)
    return Operation(name, arity, doc, evaluate, spelling=spelling, section="Mathematics", **fields)


def _through_doubles(function: Callable[[float], float]) -> Callable[[Array], Array]:
    """A function of Python floats on arrays, rounded to the array's dtype."""

    def evaluate(f: Array) -> Array:
        flat = [function(x) for x in f.astype(np.float64).ravel().tolist()]
        return np.array(flat).reshape(f.shape).astype(f.dtype)

    return evaluate


def _in_doubles(function: Callable[..., Array]) -> Callable[..., Array]:
    """A NumPy function evaluated in float64 and rounded to the operands' dtype."""

    def evaluate(*operands: Array, **attrs: int) -> Array:
        wide = (operand.astype(np.float64) for operand in operands)
        with np.errstate(all="ignore"):
            return np.asarray(function(*wide, **attrs).astype(operands[0].dtype))

    return evaluate


def _powers(random: np.random.Generator, dtype: str, count: int) -> tuple[Array, Array]:
    """Bases of all magnitudes, and as many near 1, with exponents up to where powers overflow."""
    largest = {"f32": 126.0, "f64": 1020.0}[dtype]
    wide = np.exp2(random.uniform(-largest, largest, count // 2))
    base = np.concatenate([wide, random.uniform(0.65, 1.5, count - count // 2)])
    return base, random.uniform(-largest, largest, count) / np.log2(base)


def _angles(random: np.random.Generator, dtype: str, count: int) -> tuple[Array, Array]:
    """Points in all directions, and near the axes."""
    x = random.standard_normal(count)
    return x, x * np.exp(random.uniform(-5.0, 5.0, count)) * random.choice([-1.0, 1.0], count)


def _sinxdivx_rule(f: Value, out: Value) -> Value:
    # (cos(f) - out) / f cancels near 0; there, the derivative of the series of sin(f) / f.
    z = f * f
    series = constant(0.0, f.dtype)
    for k in range(8, 0, -1):
        series = series * z + (-1.0) ** k * 2.0 * k / math.factorial(2 * k + 1)
    small = compare("olt", z, 0.25)
    away_from_0 = select(small, 1.0, f)
    return select(small, series * f, (apply("cos", f) - out) / away_from_0)


def _powf_base_rule(f: Value, g: Value, out: Value) -> Value:
    # At 0 the slope of a power between 0 and 1 is infinite; the convention is that of roots.
    slope = g * apply("powf", f, g - 1.0)
    is_steep = compare("olt", g, 1.0)
    of_steep = select(compare("oge", g, 0.0), select(compare("oeq", f, 0.0), 0.0, slope), slope)
    return select(compare("oeq", g, 0.0), 0.0, select(is_steep, of_steep, slope))


def _cbrt_rule(f: Value, out: Value) -> Value:
    is_zero = compare("oeq", f, 0.0)
    return select(is_zero, 0.0, 1.0 / (3.0 * (out * out)))


def _powf_exponent_rule(f: Value, g: Value, out: Value) -> Value:
    slope = apply("log", f) * out
    vanishing = select(compare("oge", g, 0.0), 0.0, slope)
    return select(compare("oeq", f, 0.0), vanishing, slope)


def _expand_xlogx(f: Value) -> Value:
    return select(compare("oeq", f, 0.0), 0.0, f * apply("log", f))


def _log_cosh(f: Array) -> Array:
    near_0 = np.log1p(np.square(np.sinh(f))) / 2
    return np.where(np.abs(f) < 1, near_0, np.logaddexp(f, -f) - math.log(2.0))


def _expand_log_cosh(f: Value) -> Value:
    a, z = magnitude(f), f * f
    # Near 0, from cosh(f)**2 = 1 + sinh(f)**2; elsewhere cosh(f) = exp(a) (1 + exp(-2 a)) / 2.
    rest = (a * z) * polynomial(z, exponential.SINH[f.dtype])  # sinh(a) - a
    near_0 = 0.5 * apply("log1p", fma(a, a, rest * (a + a + rest)))
    high, low = LN2[f.dtype]
    large = (a - high) + (apply("softplus", -2.0 * a) - low)
    return select(compare("olt", a, 0.8), near_0, large)


def _radius(f: Value) -> Value:
    """The square root, at most where both kernels are 0: infinity times 0 is NaN."""
    return apply("sqrt", at_most(f, 1e7))


def _expand_matern32(f: Value) -> Value:
    r = _radius(f)
    return (r + 1.0) * apply("exp", -r)


def _expand_matern52(f: Value) -> Value:
    r = _radius(f)
    return fma(fma(r, constant(1 / 3, f.dtype), 1.0), r, 1.0) * apply("exp", -r)


def _of_radius(function: Callable[[Array], Array]) -> Callable[..., Array]:
    """A function of the square root, whose limit is 0, evaluated in float64."""
    return _in_doubles(lambda f: function(np.sqrt(np.minimum(f, 1e7))))


# The rounding of r = sqrt(f) moves exp(-r) by r / 2 units of the last place.
MATERN = Domain(((0.05, 8.0),), (0.0,), largest={"f32": 64.0, "f64": 64.0})

# Exponentials and logarithms.
register(
    function_row(
        "exp",
        "Exp",
        "e to the power f",
        np.exp,
        partials=(lambda f, out: out,),
        expand=exponential.exp,
        variants={"lookup": exponential.exp_by_table, SIMD: exponential.exp_by_halves},
        fast={"exp2_approx": fast.exp},
        fast_range=Range(((-87.0, 88.0),)),
        exact=lambda m, f: m.exp(f),
        ulp=2.0,
        sign=signs.nonnegative,
    ),
    function_row(
        "exp2",
        "Exp2",
        "2 to the power f",
        np.exp2,
        partials=(lambda f, out: math.log(2.0) * out,),
        expand=exponential.exp2,
        variants={"scale": exponential.exp2, SIMD: exponential.exp2_by_halves},
        fast={"exp2_approx": fast.exp2},
        fast_range=Range(((-126.0, 127.9),)),
        exact=lambda m, f: m.power(2, f),
        ulp=2.0,
        differs="new",
        sign=signs.nonnegative,
    ),
    function_row(
        "expm1",
        "Expm1",
        "e to the power f, minus 1; accurate near 0",
        np.expm1,
        partials=(lambda f, out: out + 1.0,),
        expand=exponential.expm1,
        exact=lambda m, f: m.expm1(f),
        ulp=2.0,
        differs="new",
    ),
    function_row(
        "log",
        "Log",
        "natural logarithm; -inf at 0, NaN below",
        np.log,
        partials=(lambda f, out: 1.0 / f,),
        expand=logarithm.log,
        fast={"log2_approx": fast.log},
        fast_range=Range((NORMAL,), floor=1.0),
        domain=Domain(((0.05, 8.0),), (1.0,)),
        exact=lambda m, f: m.log(f),
        ulp=2.0,
    ),
    function_row(
        "log2",
        "Log2",
        "logarithm to base 2; -inf at 0, NaN below",
        np.log2,
        partials=(lambda f, out: 1.0 / math.log(2.0) / f,),
        expand=logarithm.log2,
        fast={"log2_approx": fast.log2},
        fast_range=Range((NORMAL,), floor=1.0),
        domain=Domain(((0.05, 8.0),), (1.0, 2.0)),
        exact=lambda m, f: m.log(f) / m.log(2),
        ulp=2.0,
        differs="new",
    ),
    function_row(
        "log1p",
        "Log1p",
        "natural logarithm of 1 + f; accurate near 0",
        np.log1p,
        partials=(lambda f, out: 1.0 / (f + 1.0),),
        expand=logarithm.log1p,
        domain=Domain(((-0.9, 4.0),), (0.0,)),
        exact=lambda m, f: m.log1p(f),
        ulp=2.0,
        differs="new",
    ),
    function_row(
        "xlogx",
        "XLogX",
        "f log(f), 0 at 0",
        _in_doubles(lambda f: np.where(f == 0, 0.0, f * np.log(f))),
        partials=(lambda f, out: apply("log", f) + 1.0,),
        expand=_expand_xlogx,
        fast_range=Range(((NORMAL[0], 100.0),), floor=1.0),
        domain=Domain(((0.05, 8.0),), (1.0,)),
        exact=lambda m, f: f * m.log(f),
        ulp=2.0,
        gradient="-inf at 0",
    ),
    function_row(
        "powf",
        "Powf",
        "f to the power g, with the special values of C's pow",
        np.power,
        arity=2,
        partials=(_powf_base_rule, _powf_exponent_rule),
        expand=powers.powf,
        fast={"log2_approx": powers.fast_powf},
        fast_range=Range(((0.1, 4.0), (-4.0, 4.0))),
        domain=Domain(((0.1, 4.0), (-4.0, 4.0)), (1.0, 2.0), drawn=_powers),
        exact=lambda m, f, g: m.power(f, g),
        ulp=4.0,
        gradient="0 for the base where g = 0, and at 0 where g < 1; 0 for the exponent where f = 0 "
        "and g >= 0",
        differs="in the precision of the dtype (KeOps: float32); gradients where f = 0 and of "
        "scalar operands are right",
    ),
    function_row(
        "cbrt",
        "Cbrt",
        "cube root",
        np.cbrt,
        partials=(_cbrt_rule,),
        expand=powers.cbrt,
        domain=Domain(((0.1, 8.0),), (1.0, -8.0)),
        exact=lambda m, f: m.sign(f) * m.cbrt(abs(f)),
        ulp=2.0,
        gradient="0 at 0",
        differs="new",
    ),
    function_row(
        "sigmoid",
        "Sigmoid",
        "1 / (1 + exp(-f))",
        _in_doubles(lambda f: np.where(f < 0, np.exp(-np.abs(f)), 1.0) / (1 + np.exp(-np.abs(f)))),
        # Not out * (1 - out), which cancels for large f.
        partials=(lambda f, out: out * apply("sigmoid", -f),),
        expand=exponential.sigmoid,
        fast={"exp2_approx": fast.sigmoid},
        fast_range=Range(((-80.0, 80.0),)),
        exact=lambda m, f: 1 / (1 + m.exp(-f)),
        ulp=2.0,
        differs="new",
        sign=signs.nonnegative,
    ),
    function_row(
        "softplus",
        "Softplus",
        "log(1 + exp(f))",
        _in_doubles(lambda f: np.logaddexp(0.0, f)),
        partials=(lambda f, out: apply("sigmoid", f),),
        expand=logarithm.softplus,
        exact=lambda m, f: m.log1p(m.exp(f)),
        ulp=2.0,
        differs="new",
        sign=signs.nonnegative,
    ),
    function_row(
        "tanh",
        "Tanh",
        "hyperbolic tangent",
        np.tanh,
        partials=(lambda f, out: 1.0 - out * out,),
        expand=exponential.tanh,
        fast={"exp2_approx": fast.tanh},
        fast_range=Range(((-20.0, 20.0),)),
        exact=lambda m, f: m.tanh(f),
        ulp=4.0,
        differs="new",
    ),
    function_row(
        "sinh",
        "Sinh",
        "hyperbolic sine",
        np.sinh,
        partials=(lambda f, out: apply("cosh", f),),
        expand=exponential.sinh,
        fast_range=Range(((-88.0, 88.0),)),
        exact=lambda m, f: m.sinh(f),
        ulp=4.0,
        differs="new",
    ),
    function_row(
        "cosh",
        "Cosh",
        "hyperbolic cosine",
        np.cosh,
        partials=(lambda f, out: apply("sinh", f),),
        expand=exponential.cosh,
        fast_range=Range(((-88.0, 88.0),)),
        exact=lambda m, f: m.cosh(f),
        ulp=4.0,
        differs="new",
    ),
    function_row(
        "log_cosh",
        "LogCosh",
        "logarithm of Cosh(f); accurate near 0, without overflow",
        _in_doubles(_log_cosh),
        partials=(lambda f, out: apply("tanh", f),),
        expand=_expand_log_cosh,
        exact=lambda m, f: m.log1p(m.sinh(f) ** 2) / 2,
        ulp=3.0,
        differs="new",
        sign=signs.nonnegative,
    ),
    # Of the squared distance, in which they can be differentiated at 0 as their distance cannot.
    function_row(
        "matern32",
        "Matern32",
        "(1 + r) exp(-r), with r = sqrt(f); accurate for f up to 64, NaN below 0",
        _of_radius(lambda r: (1 + r) * np.exp(-r)),
        partials=(lambda f, out: -0.5 * apply("exp", -apply("sqrt", f)),),
        expand=_expand_matern32,
        fast_range=Range(((0.05, 8.0),)),
        domain=MATERN,
        exact=lambda m, f: (1 + m.sqrt(f)) * m.exp(-m.sqrt(f)),
        ulp=8.0,
        differs="new",
        sign=signs.nonnegative,
    ),
    function_row(
        "matern52",
        "Matern52",
        "(1 + r + r**2 / 3) exp(-r), with r = sqrt(f); accurate for f up to 64, NaN below 0",
        _of_radius(lambda r: (1 + r + r * r / 3) * np.exp(-r)),
        partials=(lambda f, out: (-1 / 6) * apply("matern32", f),),
        expand=_expand_matern52,
        fast_range=Range(((0.05, 8.0),)),
        domain=MATERN,
        exact=lambda m, f: (1 + m.sqrt(f) + f / 3) * m.exp(-m.sqrt(f)),
        ulp=8.0,
        differs="new",
        sign=signs.nonnegative,
    ),
    function_row(
        "erf",
        "Erf",
        "error function",
        _through_doubles(math.erf),
        partials=(lambda f, out: 2.0 / math.sqrt(math.pi) * apply("exp", -(f * f)),),
        expand=error_function.erf,
        fast_range=Range(((-5.0, 5.0),)),
        exact=lambda m, f: m.erf(f),
        ulp=4.0,
        differs="new",
    ),
    function_row(
        "erfc",
        "Erfc",
        "1 - erf(f), accurate where that cancels",
        _through_doubles(math.erfc),
        partials=(lambda f, out: -2.0 / math.sqrt(math.pi) * apply("exp", -(f * f)),),
        expand=error_function.erfc,
        fast_range=Range(((-5.0, 9.0),)),
        exact=lambda m, f: m.erfc(f),
        ulp=4.0,
        differs="new",
    ),
)

ANGLES = Range(((-1000.0, 1000.0),), floor=1.0)
CIRCLE = Domain(((-4.0, 4.0),), largest={"f32": 2.0**20, "f64": 2.0**30})
_CIRCULAR = "accurate for |f| up to 2**20 in float32 and 2**30 in float64"

# Circular functions.
register(
    function_row(
        "sin",
        "Sin",
        "sine",
        np.sin,
        partials=(lambda f, out: apply("cos", f),),
        expand=trigonometric.sin,
        fast={"sin_approx": trigonometric.fast_sin},
        fast_range=ANGLES,
        domain=CIRCLE,
        exact=lambda m, f: m.sin(f),
        ulp=2.0,
        differs=_CIRCULAR,
    ),
    function_row(
        "cos",
        "Cos",
        "cosine",
        np.cos,
        partials=(lambda f, out: -apply("sin", f),),
        expand=trigonometric.cos,
        fast={"cos_approx": trigonometric.fast_cos},
        fast_range=ANGLES,
        domain=CIRCLE,
        exact=lambda m, f: m.cos(f),
        ulp=2.0,
        differs=_CIRCULAR,
    ),
    function_row(
        "sinxdivx",
        "SinXDivX",
        "sin(f) / f, 1 at 0",
        _in_doubles(lambda f: np.where(f == 0, 1.0, np.sin(f) / np.where(f == 0, 1.0, f))),
        partials=(_sinxdivx_rule,),
        expand=trigonometric.sinxdivx,
        fast_range=ANGLES,
        domain=Domain(((-3.0, 3.0),), (0.0,), largest=CIRCLE.largest),
        exact=lambda m, f: m.sin(f) / f,
        ulp=2.0,
        gradient="0 at 0",
        differs=f"gradient at 0 (KeOps: NaN); {_CIRCULAR}",
    ),
    function_row(
        "asin",
        "Asin",
        "arc sine; NaN outside [-1, 1]",
        np.arcsin,
        partials=(lambda f, out: apply("rsqrt", 1.0 - f * f),),
        expand=trigonometric.asin,
        fast_range=Range(((-1.0, 1.0),)),
        domain=Domain(((-0.95, 0.95),), (0.0, 1.0, -1.0)),
        exact=lambda m, f: m.asin(f),
        ulp=2.0,
        gradient="0 at -1 and 1",
    ),
    function_row(
        "acos",
        "Acos",
        "arc cosine; NaN outside [-1, 1]",
        np.arccos,
        partials=(lambda f, out: -apply("rsqrt", 1.0 - f * f),),
        expand=trigonometric.acos,
        fast_range=Range(((-1.0, 0.999),)),
        domain=Domain(((-0.95, 0.95),), (0.0, 1.0, -1.0)),
        exact=lambda m, f: m.acos(f),
        ulp=2.0,
        gradient="0 at -1 and 1",
    ),
    function_row(
        "atan",
        "Atan",
        "arc tangent",
        np.arctan,
        partials=(lambda f, out: 1.0 / (f * f + 1.0),),
        expand=trigonometric.atan,
        fast_range=Range(((-1000.0, 1000.0),)),
        exact=lambda m, f: m.atan(f),
        ulp=2.0,
    ),
    function_row(
        "atan2",
        "Atan2",
        "angle of the point (g, f), in [-pi, pi]",
        np.arctan2,
        arity=2,
        partials=(
            lambda f, g, out: g / (f * f + g * g),
            lambda f, g, out: -(f / (f * f + g * g)),
        ),
        expand=trigonometric.atan2,
        fast_range=Range(PAIR.intervals),
        domain=replace(PAIR, drawn=_angles),
        exact=lambda m, f, g: m.atan2(f, g),
        ulp=2.0,
        gradient="NaN at (0, 0)",
        differs="gradients of scalar operands are right (KeOps: an error or a wrong value)",
    ),
)
