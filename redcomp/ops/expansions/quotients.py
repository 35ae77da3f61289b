"""Quotients by what many numbers are divided by, in multiply-adds.

The inverse of the divisor is computed once, as a sum of two floats.  Both are of its sign, so that
of a dividend that is infinite or zero both products are what the quotient is.
"""

from __future__ import annotations

from typing import NamedTuple

from redcomp.ir import Value, bitcast, compare, constant, fma, select
from redcomp.ops.expansions.shared import bits, format_of

# The inverses of numbers that are no larger and no smaller have two normal parts.
_MODERATE = {"f32": 2.0**64, "f64": 2.0**900}


class Inverse(NamedTuple):
    """(high + low) * scale, which is 1 over a number but for a relative error of 2^-46 (2^-104).

    `high` is below it, by up to a unit in its last place; the scale is a power of two.
    """

    high: Value
    low: Value
    scale: Value


def inverse(c: Value) -> Inverse:
    """That of a number of any size; of 0, infinities and NaN it is what 1 / c is."""
    scale = _scale(c)
    m = c * scale
    nearest = 1.0 / m
    is_above = compare("ole", fma(-m, nearest, 1.0), 0.0)
    high = select(is_above, bitcast(bits(nearest) - 1, c.dtype), nearest)
    low = fma(-m, high, 1.0) * nearest
    return Inverse(high, select(compare("oeq", low, low), low, high), scale)


def _scale(c: Value) -> Value:
    """What brings a number to [1/2, 1), or to where it and its inverse are normal.

    So it takes no dividend out of range whose quotient is within.  A constant that is moderate is
    left alone, which saves the dividend's product.
    """
    most = _MODERATE[c.dtype]
    if c.is_constant and 1 / most <= abs(c["value"]) <= most:
        return constant(1.0, c.dtype)
    form = format_of(c)
    one = 1 << form.mantissa
    exponent = bits(c) & (2 * form.bias + 1) * one
    opposite = (2 * form.bias - 1) * one - exponent
    return bitcast(select(compare("slt", opposite, one), one, opposite), c.dtype)


def quotient(x: Value, by: Inverse) -> Value:
    """x / c: further from it than the nearest float by at most 2^-21 (2^-50) of its last place.

    So it is the nearest, unless x / c is as close as that to the middle of two floats.  Where the
    last product is subnormal, in quotients below 2^-102 (2^-969), it errs by up to 2.5 units.
    Below 2^-125 (2^-1021) it is 0 where such numbers are flushed.
    """
    scaled = x * by.scale
    return fma(scaled, by.high, scaled * by.low)
