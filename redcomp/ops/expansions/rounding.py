"""Rounding, limiting and selecting: exact functions, their expansions and derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np

from redcomp.ir import NUMPY_DTYPES, Value, compare, constant, indicator, select
from redcomp.ops.expansions.shared import copy_sign, magnitude
from redcomp.ops.table import Array, apply


def _power(d: int, info: Any) -> Any:
    """10**|d| as a number of a dtype, or infinity."""
    return info.dtype.type(10.0 ** abs(d)) if abs(d) <= np.log10(info.max) else np.inf


def round_half_away(f: Array, *, d: int) -> Array:
    """f rounded to d decimal digits, halves away from 0.

    Where 10**|d| is beyond the dtype's numbers, f has no further digits, or is nearest to 0.
    """
    power = _power(d, np.finfo(f.dtype))
    if np.isinf(power):
        return f if d > 0 else np.where(np.isfinite(f), np.copysign(f.dtype.type(0), f), f)
    scaled = f * power if d > 0 else f / power
    whole = np.floor(np.abs(scaled))
    away = np.copysign(whole + (np.abs(scaled) - whole >= 0.5), scaled)
    return np.asarray(away / power if d > 0 else away * power)


def expand_round(f: Value, *, d: int) -> Value:
    """As `round_half_away`, operation by operation."""
    # 10**-d is not a float, so a negative d divides by 10**|d|.
    power = _power(d, np.finfo(NUMPY_DTYPES[f.dtype]))
    if np.isinf(power):
        is_finite = compare("olt", magnitude(f), np.inf)
        return f if d > 0 else select(is_finite, copy_sign(f * 0.0, f), f)
    scaled = f * power if d > 0 else f / power if d < 0 else f
    a = magnitude(scaled)
    whole = apply("floor", a)
    up = indicator(compare("oge", a - whole, 0.5), f.dtype)
    away = copy_sign(whole + up, scaled)
    return away / power if d > 0 else away * power if d < 0 else away


def clamp(x: Array, a: Any, b: Any) -> Array:
    """a where x < a, else b where x > b, else x."""
    return np.where(x < a, a, np.where(x > b, b, x)).astype(x.dtype)


def expand_clamp(x: Value, a: Value | float, b: Value | float) -> Value:
    """As `clamp`; NaN is kept."""
    return select(compare("olt", x, a), a, select(compare("ogt", x, b), b, x))


def choose_limit(x: Value, a: Value | float, b: Value | float) -> Value:
    """As `clamp` where x is a number."""
    return select(compare("oge", x, a), select(compare("ole", x, b), x, b), a)


def inside(x: Value, a: Value | float, b: Value | float) -> Value:
    """1 on the closed interval [a, b], else 0."""
    zero = constant(0.0, x.dtype)
    return select(compare("oge", x, a), indicator(compare("ole", x, b), x.dtype), zero)


def expand_sign(f: Value) -> Value:
    """-1, 0 or 1; 0 for NaN."""
    one, zero = constant(1.0, f.dtype), constant(0.0, f.dtype)
    negative = select(compare("olt", f, 0.0), constant(-1.0, f.dtype), zero)
    return select(compare("ogt", f, 0.0), one, negative)


def expand_step(f: Value) -> Value:
    """0 below 0, else 1."""
    one, zero = constant(1.0, f.dtype), constant(0.0, f.dtype)
    return select(compare("olt", f, 0.0), zero, one)


def expand_minimum(f: Value, g: Value) -> Value:
    """The smaller operand; NaN if one is."""
    return select(compare("uno", g, g), g, select(compare("olt", g, f), g, f))


def expand_maximum(f: Value, g: Value) -> Value:
    """The larger operand; NaN if one is."""
    return select(compare("uno", g, g), g, select(compare("ogt", g, f), g, f))
