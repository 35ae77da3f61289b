"""Expansions of logarithms.

x = m * 2**e with m in [sqrt(1/2), sqrt(2)); subnormal numbers are made normal first.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, nan

from redcomp.ir import Value, bitcast, compare, constant, elementwise, fma, select
from redcomp.ops.expansions.exponential import exp_of_negative
from redcomp.ops.expansions.shared import (
    LN2,
    LOG2_E,
    at_least,
    bits,
    copy_sign,
    format_of,
    integer_to_float,
    magnitude,
    polynomial,
    power_of_two,
)

SQRT_HALF_BITS: Mapping[str, int] = {"f32": 0x3F3504F3, "f64": 0x3FE6A09E667F3BCD}

# (log(1 + f) - f + f**2 / 2) / f**3 on [sqrt(1/2) - 1, sqrt(2) - 1]: error 2^-27.3 in log(1 + f).
LOG_F32 = (
    0.3333333134651184,
    -0.2500082552433014,
    0.20001265406608582,
    -0.16623219847679138,
    0.14200717210769653,
    -0.13160495460033417,
    0.12769588828086853,
    -0.07644100487232208,
)
# (2 atanh(s) - 2 s) / s**3 in s**2 for s = f / (2 + f), f as above: error 2^-59.4.
LOG_F64 = (
    0.6666666666666735,
    0.3999999999940937,
    0.28571428743681204,
    0.2222219842962786,
    0.18183572316918928,
    0.15313833211972253,
    0.14798247893212257,
)


# Multiplied by this power of two, every subnormal number is normal.
NORMALISING: Mapping[str, int] = {"f32": 24, "f64": 54}


def _split_normal(x: Value) -> tuple[Value, Value]:
    """m in [sqrt(1/2), sqrt(2)) and the integer e with x = m * 2**e, for a normal x > 0."""
    form = format_of(x)
    shifted = bits(x) - SQRT_HALF_BITS[x.dtype]
    exponent = shifted >> form.mantissa
    return bitcast(bits(x) - (exponent << form.mantissa), x.dtype), exponent


def split(x: Value) -> tuple[Value, Value]:
    """As `_split_normal`, for a subnormal x too; e is a float."""
    power = NORMALISING[x.dtype]
    small = compare("olt", x, format_of(x).smallest_normal)
    m, exponent = _split_normal(select(small, x * 2.0**power, x))
    zero = constant(0.0, x.dtype)
    return m, integer_to_float(exponent, x.dtype) - select(small, float(power), zero)


def parts(x: Value) -> tuple[Value, Value]:
    """m in [1/2, 1) with the sign of x, and the integer e, a float, with x = m * 2**e.

    Zeros, infinities and NaN are themselves with e = 0.
    """
    a = magnitude(x)
    m, exponent = split(a)
    is_large = compare("oge", m, 1.0)
    is_number = compare("ogt", a, 0.0) & compare("olt", a, inf)
    return (
        select(is_number, copy_sign(select(is_large, 0.5 * m, m), x), x),
        select(is_number, select(is_large, exponent + 1.0, exponent), 0.0),
    )


def _log_tail(f: Value) -> Value:
    """log(1 + f) - f."""
    if f.dtype == "f32":
        z = f * f
        return fma(f * z, polynomial(f, LOG_F32), z * -0.5)
    # A polynomial in f would need 20 coefficients; a quotient is worth 13 of them.
    s = f / (f + 2.0)
    z = s * s
    half_square = 0.5 * (f * f)
    return fma(s, fma(z, polynomial(z, LOG_F64), half_square), -half_square)


def _log_of_parts(f: Value, e: Value) -> Value:
    """log((1 + f) * 2**e); e is an integer and the largest parts are added last."""
    high, low = LN2[f.dtype]
    return fma(e, high, f + fma(e, low, _log_tail(f)))


def _log_special(x: Value, regular: Value) -> Value:
    """A logarithm's values at 0, below 0, at infinity and at NaN."""
    undefined = select(compare("oeq", x, 0.0), constant(-inf, x.dtype), nan)
    result = select(compare("ogt", x, 0.0), regular, undefined)
    return select(compare("oeq", x, inf), x, result)


def log(x: Value) -> Value:
    """The natural logarithm."""
    m, e = split(x)
    return _log_special(x, _log_of_parts(m - 1.0, e))


def log2(x: Value) -> Value:
    """The logarithm to base 2, exact for powers of 2."""
    m, e = split(x)
    f = m - 1.0
    high, low = LOG2_E[x.dtype]
    return _log_special(x, e + fma(f, high, fma(f, low, _log_tail(f) * high)))


def _log1p(x: Value, low: Value | None = None) -> Value:
    """log(1 + x + low) for finite x > -1; the rounding error of 1 + x is carried on with `low`."""
    u = x + 1.0
    error = (x - (u - (u - x))) + (1.0 - (u - x))
    if low is not None:
        error = error + low
    m, exponent = _split_normal(u)
    # Above 2**126 the power of two would be subnormal, and the error is far below a unit of u.
    exponent_or_less = select(compare("slt", exponent, 126), exponent, 126)
    back = power_of_two(0 - exponent_or_less, x.dtype)
    return _log_of_parts(fma(error, back, m - 1.0), integer_to_float(exponent, x.dtype))


def _negligible(x: Value) -> float:
    """log(1 + e) rounds to e for all e below."""
    return 2.0 ** -(format_of(x).mantissa + 3)


def log1p(x: Value) -> Value:
    """log(1 + x), accurate near 0."""
    small = compare("olt", magnitude(x), _negligible(x))
    return select(small, x, _log_special(x + 1.0, _log1p(x)))


def softplus(x: Value) -> Value:
    """log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|))."""
    p, error, n = exp_of_negative(-magnitude(x))
    e, low = elementwise("scale", p, n), elementwise("scale", error, n)
    small = compare("olt", e, _negligible(x))
    return at_least(x, 0.0) + select(small, e, _log1p(e, low))
