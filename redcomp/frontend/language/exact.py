"""Exact arithmetic on the numbers of a formula, and their one rounding to the kernel's dtype.

Numbers are integers or fractions.  What cannot be computed raises Python's own ZeroDivisionError,
OverflowError or ValueError.
"""

from __future__ import annotations

import math
from fractions import Fraction

from redcomp.limits import MAX_BITS

Exact = int | Fraction


def fold(op: str, a: Exact, b: Exact) -> Exact:
    """`a op b` for + - * / and **; 1/2 is a half, and an integer stays one under + - * only."""
    match op:
        case "+":
            return _bounded(a + b)
        case "-":
            return _bounded(a - b)
        case "*":
            return _bounded(a * b)
        case "/":
            return _bounded(Fraction(a) / b)
        case "**":
            return _power(a, b)
    raise ValueError(f"unknown operator {op!r}")


def _power(a: Exact, b: Exact) -> Exact:
    if a == 0 and b < 0:
        raise ZeroDivisionError
    if b.denominator == 1 and abs(b.numerator) * _bits(a) <= MAX_BITS:
        exponent = b.numerator
        return a**exponent if exponent >= 0 else Fraction(a) ** exponent
    return Fraction(math.pow(a, b))


def _bits(a: Exact) -> int:
    return max(a.numerator.bit_length(), a.denominator.bit_length())


def _bounded(a: Exact) -> Exact:
    return a if _bits(a) <= MAX_BITS else Fraction(float(a))


def rounded(number: Exact, dtype: str) -> float:
    """A float64 that, rounded to `dtype`, gives what rounding the exact number once gives."""
    nearest = float(number)
    if dtype == "f64" or nearest == number:
        return nearest
    # Rounding to odd (Boldo and Melquiond, 2008): the neighbour with an odd last bit is never
    # halfway between two float32, so the second rounding goes where the exact number is.
    if int(nearest / math.ulp(nearest)) % 2 == 0:
        return math.nextafter(nearest, math.inf if number > nearest else -math.inf)
    return nearest
