"""The elementary functions of the language, one row each.

Their expansions are in `exponential`, `logarithm`, `powers`, `trigonometric` and `error_function`;
their measured errors are in docs/accuracy.md, which scripts/measure_ulp.py writes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from redcomp.ir import Value, compare, constant, select
from redcomp.ops.expansions import (
    error_function,
    exponential,
    fast,
    logarithm,
    powers,
    rounding,
    trigonometric,
)
from redcomp.ops.expansions.shared import at_least
from redcomp.ops.primitives import floor_by_rounding
from redcomp.ops.table import Array, Domain, Operation, apply, register

PAIR = Domain(((-4.0, 4.0), (-4.0, 4.0)), (0.0, -1.5, 1.5))
TRIPLE = Domain(((-4.0, 4.0), (-2.0, 0.0), (0.0, 2.0)), (0.0,))
SIGNED = Domain(((-4.0, 4.0),), (0.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5))


def _function(name: str, spelling: str, doc: str, evaluate: Any, **fields: Any) -> Operation:
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
    return select(compare("oeq", g, 0.0), 0.0, g * apply("powf", f, g - 1.0))


def _powf_exponent_rule(f: Value, g: Value, out: Value) -> Value:
    slope = apply("log", f) * out
    vanishing = select(compare("oge", g, 0.0), 0.0, slope)
    return select(compare("oeq", f, 0.0), vanishing, slope)


def _expand_xlogx(f: Value) -> Value:
    return select(compare("oeq", f, 0.0), 0.0, f * apply("log", f))


# Exponentials and logarithms.
register(
    _function(
        "exp",
        "Exp",
        "e to the power f",
        np.exp,
        partials=(lambda f, out: out,),
        expand=exponential.exp,
        variants={"lookup": exponential.exp_by_table},
        fast={"exp2_approx": fast.exp},
        ulp=2.0,
    ),
    _function(
        "exp2",
        "Exp2",
        "2 to the power f",
        np.exp2,
        partials=(lambda f, out: math.log(2.0) * out,),
        expand=exponential.exp2,
        fast={"exp2_approx": fast.exp2},
        ulp=2.0,
        differs="new",
    ),
    _function(
        "expm1",
        "Expm1",
        "e to the power f, minus 1; accurate near 0",
        np.expm1,
        partials=(lambda f, out: out + 1.0,),
        expand=exponential.expm1,
        ulp=2.0,
        differs="new",
    ),
    _function(
        "log",
        "Log",
        "natural logarithm; -inf at 0, NaN below",
        np.log,
        partials=(lambda f, out: 1.0 / f,),
        expand=logarithm.log,
        fast={"log2_approx": fast.log},
        domain=Domain(((0.05, 8.0),), (1.0,)),
        ulp=2.0,
    ),
    _function(
        "log2",
        "Log2",
        "logarithm to base 2; -inf at 0, NaN below",
        np.log2,
        partials=(lambda f, out: 1.0 / math.log(2.0) / f,),
        expand=logarithm.log2,
        fast={"log2_approx": fast.log2},
        domain=Domain(((0.05, 8.0),), (1.0, 2.0)),
        ulp=2.0,
        differs="new",
    ),
    _function(
        "log1p",
        "Log1p",
        "natural logarithm of 1 + f; accurate near 0",
        np.log1p,
        partials=(lambda f, out: 1.0 / (f + 1.0),),
        expand=logarithm.log1p,
        domain=Domain(((-0.9, 4.0),), (0.0,)),
        ulp=2.0,
        differs="new",
    ),
    _function(
        "xlogx",
        "XLogX",
        "f log(f), 0 at 0",
        _in_doubles(lambda f: np.where(f == 0, 0.0, f * np.log(f))),
        partials=(lambda f, out: apply("log", f) + 1.0,),
        expand=_expand_xlogx,
        domain=Domain(((0.05, 8.0),), (1.0,)),
        ulp=2.0,
        gradient="-inf at 0",
    ),
    _function(
        "powf",
        "Powf",
        "f to the power g, with the special values of C's pow",
        np.power,
        arity=2,
        partials=(_powf_base_rule, _powf_exponent_rule),
        expand=powers.powf,
        fast={"log2_approx": powers.fast_powf},
        domain=Domain(((0.1, 4.0), (-4.0, 4.0)), (1.0, 2.0)),
        ulp=4.0,
        gradient="0 for the base where g = 0; 0 for the exponent where f = 0 and g >= 0",
        differs="in the precision of the dtype (KeOps: float32); gradients where f = 0 and of "
        "scalar operands are right",
    ),
    _function(
        "cbrt",
        "Cbrt",
        "cube root",
        np.cbrt,
        partials=(lambda f, out: 1.0 / (3.0 * (out * out)),),
        expand=powers.cbrt,
        domain=Domain(((0.1, 8.0),), (1.0, -8.0)),
        ulp=2.0,
        gradient="inf at 0",
        differs="new",
    ),
    _function(
        "sigmoid",
        "Sigmoid",
        "1 / (1 + exp(-f))",
        _in_doubles(lambda f: np.where(f < 0, np.exp(-np.abs(f)), 1.0) / (1 + np.exp(-np.abs(f)))),
        # Not out * (1 - out), which cancels for large f.
        partials=(lambda f, out: out * apply("sigmoid", -f),),
        expand=exponential.sigmoid,
        fast={"exp2_approx": fast.sigmoid},
        ulp=2.0,
        differs="new",
    ),
    _function(
        "softplus",
        "Softplus",
        "log(1 + exp(f))",
        _in_doubles(lambda f: np.logaddexp(0.0, f)),
        partials=(lambda f, out: apply("sigmoid", f),),
        expand=logarithm.softplus,
        ulp=2.0,
        differs="new",
    ),
    _function(
        "tanh",
        "Tanh",
        "hyperbolic tangent",
        np.tanh,
        partials=(lambda f, out: 1.0 - out * out,),
        expand=exponential.tanh,
        fast={"exp2_approx": fast.tanh},
        ulp=4.0,
        differs="new",
    ),
    _function(
        "sinh",
        "Sinh",
        "hyperbolic sine",
        np.sinh,
        partials=(lambda f, out: apply("cosh", f),),
        expand=exponential.sinh,
        ulp=4.0,
        differs="new",
    ),
    _function(
        "cosh",
        "Cosh",
        "hyperbolic cosine",
        np.cosh,
        partials=(lambda f, out: apply("sinh", f),),
        expand=exponential.cosh,
        ulp=4.0,
        differs="new",
    ),
    _function(
        "erf",
        "Erf",
        "error function",
        _through_doubles(math.erf),
        partials=(lambda f, out: 2.0 / math.sqrt(math.pi) * apply("exp", -(f * f)),),
        expand=error_function.erf,
        ulp=4.0,
        differs="new",
    ),
    _function(
        "erfc",
        "Erfc",
        "1 - erf(f), accurate where that cancels",
        _through_doubles(math.erfc),
        partials=(lambda f, out: -2.0 / math.sqrt(math.pi) * apply("exp", -(f * f)),),
        expand=error_function.erfc,
        ulp=4.0,
        differs="new",
    ),
)

_CIRCULAR = "accurate for |f| up to 2**20 in float32 and 2**30 in float64"

# Circular functions.
register(
    _function(
        "sin",
        "Sin",
        "sine",
        np.sin,
        partials=(lambda f, out: apply("cos", f),),
        expand=trigonometric.sin,
        fast={"sin_approx": trigonometric.fast_sin},
        ulp=2.0,
        differs=_CIRCULAR,
    ),
    _function(
        "cos",
        "Cos",
        "cosine",
        np.cos,
        partials=(lambda f, out: -apply("sin", f),),
        expand=trigonometric.cos,
        fast={"cos_approx": trigonometric.fast_cos},
        ulp=2.0,
        differs=_CIRCULAR,
    ),
    _function(
        "sinxdivx",
        "SinXDivX",
        "sin(f) / f, 1 at 0",
        _in_doubles(lambda f: np.where(f == 0, 1.0, np.sin(f) / np.where(f == 0, 1.0, f))),
        partials=(_sinxdivx_rule,),
        expand=trigonometric.sinxdivx,
        domain=Domain(((-3.0, 3.0),), (0.0,)),
        ulp=2.0,
        gradient="0 at 0",
        differs=f"gradient at 0 (KeOps: NaN); {_CIRCULAR}",
    ),
    _function(
        "asin",
        "Asin",
        "arc sine; NaN outside [-1, 1]",
        np.arcsin,
        partials=(lambda f, out: apply("rsqrt", 1.0 - f * f),),
        expand=trigonometric.asin,
        domain=Domain(((-0.95, 0.95),), (0.0, 1.0, -1.0)),
        ulp=2.0,
        gradient="0 at -1 and 1",
    ),
    _function(
        "acos",
        "Acos",
        "arc cosine; NaN outside [-1, 1]",
        np.arccos,
        partials=(lambda f, out: -apply("rsqrt", 1.0 - f * f),),
        expand=trigonometric.acos,
        domain=Domain(((-0.95, 0.95),), (0.0, 1.0, -1.0)),
        ulp=2.0,
        gradient="0 at -1 and 1",
    ),
    _function(
        "atan",
        "Atan",
        "arc tangent",
        np.arctan,
        partials=(lambda f, out: 1.0 / (f * f + 1.0),),
        expand=trigonometric.atan,
        ulp=2.0,
    ),
    _function(
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
        domain=PAIR,
        ulp=2.0,
        gradient="NaN at (0, 0)",
        differs="gradients of scalar operands are right (KeOps: an error or a wrong value)",
    ),
)

# Absolute value, rounding and limiting: exact.
register(
    _function(
        "abs",
        "Abs",
        "absolute value",
        np.abs,
        partials=(lambda f, out: apply("sign", f),),
        mlir=("math.absf", ""),
        llvm=("llvm.fabs", ""),
        gradient="0 at 0",
    ),
    _function(
        "sign",
        "Sign",
        "-1, 0 or 1; 0 where f is NaN",
        lambda f: np.where(f > 0, 1, np.where(f < 0, -1, 0)).astype(f.dtype),
        partials=(None,),
        expand=rounding.expand_sign,
        gradient="0",
    ),
    _function(
        "step",
        "Step",
        "0 where f < 0, else 1 (also where f is NaN)",
        lambda f: np.where(f < 0, 0, 1).astype(f.dtype),
        selection=rounding.expand_step,
        gradient="0",
    ),
    _function(
        "relu",
        "ReLU",
        "0 where f < 0, else f",
        lambda f: np.where(f < 0, 0, f).astype(f.dtype),
        selection=lambda f: at_least(f, 0.0),
        gradient="1 at 0",
    ),
    Operation(
        "mantissa",
        1,
        "m of f = m * 2**e, |m| in [1/2, 1); f itself where it is 0, infinite or NaN",
        lambda f: np.frexp(f)[0],
        expand=lambda f: logarithm.parts(f)[0],
        domain=SIGNED,
    ),
    Operation(
        "exponent",
        1,
        "the integer e of f = m * 2**e, |m| in [1/2, 1); 0 where f is 0, infinite or NaN",
        lambda f: np.where(np.isfinite(f), np.frexp(f)[1], 0).astype(f.dtype),
        expand=lambda f: logarithm.parts(f)[1],
        domain=SIGNED,
    ),
    _function(
        "floor",
        "Floor",
        "largest integer not above f",
        np.floor,
        partials=(None,),
        mlir=("math.floor", ""),
        llvm=("llvm.floor", ""),
        needs="rounding",
        fallback=floor_by_rounding,
        domain=SIGNED,
        gradient="0",
    ),
    _function(
        "round",
        "Round",
        "f rounded to d decimal digits (d may be negative), halves away from 0",
        rounding.round_half_away,
        parameters=("d",),
        partials=(None,),
        expand=rounding.expand_round,
        domain=SIGNED,
        gradient="0",
    ),
    _function(
        "minimum",
        "Minimum",
        "the smaller of f and g; NaN if one of them is",
        np.minimum,
        arity=2,
        selection=lambda f, g: select(compare("olt", g, f), g, f),
        expand=rounding.expand_minimum,
        domain=PAIR,
        gradient="that of f where f = g",
        differs="new",
    ),
    _function(
        "maximum",
        "Maximum",
        "the larger of f and g; NaN if one of them is",
        np.maximum,
        arity=2,
        selection=lambda f, g: select(compare("ogt", g, f), g, f),
        expand=rounding.expand_maximum,
        domain=PAIR,
        gradient="that of f where f = g",
        differs="new",
    ),
    _function(
        "clamp",
        "Clamp",
        "a where x < a, else b where x > b, else x",
        rounding.clamp,
        arity=3,
        selection=rounding.choose_limit,
        expand=rounding.expand_clamp,
        domain=TRIPLE,
        gradient="to x on the closed interval [a, b], else to the limit that is taken",
        differs="gradient where a = b (KeOps: NaN)",
        operands=("x", "a", "b"),
    ),
    _function(
        "clampint",
        "ClampInt",
        "m where x < m, else n where x > n, else x, for integers m and n",
        lambda x, *, m, n: rounding.clamp(x, m, n),
        parameters=("m", "n"),
        selection=lambda x, *, m, n: rounding.choose_limit(x, float(m), float(n)),
        expand=lambda x, *, m, n: rounding.expand_clamp(x, float(m), float(n)),
        gradient="1 on the closed interval [m, n], else 0",
        operands=("x",),
    ),
    _function(
        "diffclampint",
        "DiffClampInt",
        "1 on the closed interval [m, n], else 0, for integers m and n",
        lambda x, *, m, n: ((x >= m) & (x <= n)).astype(x.dtype),
        parameters=("m", "n"),
        selection=lambda x, *, m, n: rounding.inside(x, float(m), float(n)),
        gradient="0",
        operands=("x",),
    ),
)
