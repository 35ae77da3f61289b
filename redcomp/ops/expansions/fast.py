"""Fast forms of elementary functions, which rest on approximate instructions.

Those that share more with the accurate forms stand beside these (`powers`, `trigonometric`).  Their
errors are in docs/fast-math.md, which scripts/measure_fast_math.py writes.
"""

from __future__ import annotations

from redcomp.ir import Value, compare, elementwise, fma, select
from redcomp.ops.expansions.shared import LOG2_E, format_of, magnitude, polynomial

LN2 = 0.6931471805599453

# (tanh(x) - x) / x**3 in x**2 on |x| <= 0.55: error 2^-24.7.
TANH_JOINT = 0.55
TANH = (-0.33332955837249756, 0.1332090198993683, -0.05268148332834244, 0.016453512012958527)


def divide(a: Value, b: Value) -> Value:
    """a / b where |b| is in [2**-126, 2**126]; 1 / b is taken for infinite below, for 0 above."""
    return a * elementwise("reciprocal_approx", b)


def sqrt(x: Value) -> Value:
    """The square root."""
    return elementwise("sqrt_approx", x)


def rsqrt(x: Value) -> Value:
    """1 / sqrt(x), and 0 where the instruction takes x for 0."""
    vanishes = compare("olt", magnitude(x), format_of(x).smallest_normal)
    return select(vanishes, 0.0, elementwise("rsqrt_approx", x))


def exp(x: Value) -> Value:
    """e**x."""
    return exp2(x * LOG2_E[x.dtype][0])


def exp2(x: Value) -> Value:
    """2**x."""
    return elementwise("exp2_approx", x)


def log(x: Value) -> Value:
    """The natural logarithm."""
    return log2(x) * LN2


def log2(x: Value) -> Value:
    """The logarithm to base 2."""
    return elementwise("log2_approx", x)


def sigmoid(x: Value) -> Value:
    """1 / (1 + exp(-x))."""
    return 1.0 / (exp(-x) + 1.0)


def tanh(x: Value) -> Value:
    """1 - 2 / (exp(2 x) + 1), a polynomial near 0, where that cancels."""
    z = x * x
    small = fma(x * z, polynomial(z, TANH), x)
    large = 1.0 - 2.0 / (exp2(x * (2.0 * LOG2_E[x.dtype][0])) + 1.0)
    return select(compare("olt", magnitude(x), TANH_JOINT), small, large)
