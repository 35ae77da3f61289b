"""The sign of an operation's result, from those of its operands; NaN counts as of any sign."""

from __future__ import annotations

from collections.abc import Callable

from redcomp.ir import Value

# What a number may be besides 0, -0 and NaN: bits.
Sign = int
NEGATIVE, POSITIVE = 1, 2
ANY = NEGATIVE | POSITIVE

# (value, how to know the sign of an operand) to the value's sign.
SignRule = Callable[[Value, Callable[[Value], Sign]], Sign]


def opposite(sign: Sign) -> Sign:
    """That of -x."""
    return sign >> 1 | (sign & NEGATIVE) << 1


def nonnegative(value: Value, of: Callable[[Value], Sign]) -> Sign:
    """Of an operation whose result is never below -0."""
    return POSITIVE


def of_sum(value: Value, of: Callable[[Value], Sign]) -> Sign:
    return of(value.args[0]) | of(value.args[1])


def of_product(value: Value, of: Callable[[Value], Sign]) -> Sign:
    """Of a product of the first two operands."""
    a, b = value.args[:2]
    if a is b:
        return POSITIVE
    left, right = of(a), of(b)
    is_positive = left & right
    is_negative = left & opposite(right)
    return bool(is_positive) * POSITIVE | bool(is_negative) * NEGATIVE


def of_fused(value: Value, of: Callable[[Value], Sign]) -> Sign:
    """Of a * b + c."""
    return of_product(value, of) | of(value.args[2])


def of_selection(value: Value, of: Callable[[Value], Sign]) -> Sign:
    return of(value.args[1]) | of(value.args[2])


def of_negation(value: Value, of: Callable[[Value], Sign]) -> Sign:
    return opposite(of(value.args[0]))


def of_conversion(value: Value, of: Callable[[Value], Sign]) -> Sign:
    """Of one between floats; what integers become of numbers that do not fit is not said."""
    (a,) = value.args
    return of(a) if a.type.is_float and value.type.is_float else ANY


def of_first(value: Value, of: Callable[[Value], Sign]) -> Sign:
    """Of an operation that keeps the sign of its first operand."""
    return of(value.args[0])
