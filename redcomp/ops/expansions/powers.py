"""Expansions of powers and of the cube root.

x**y is 2**(y log2(x)).  The exponent goes up to 128 in float32 and 1024 in float64, and its
absolute error becomes the relative error of the result; so the logarithm is computed to about twice
the precision, as an unevaluated sum of two floats.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, nan

from redcomp.ir import Value, bitcast, compare, constant, convert, elementwise, fma, select
from redcomp.ops.expansions import fast
from redcomp.ops.expansions.exponential import EXP2
from redcomp.ops.expansions.logarithm import split
from redcomp.ops.expansions.roots import refined
from redcomp.ops.expansions.shared import (
    Pair,
    at_least,
    at_most,
    bits,
    copy_sign,
    fast_two_sum,
    format_of,
    magnitude,
    polynomial,
    two_product,
)
from redcomp.records import record


@record
class DoubleLog2:
    """log2(m) = first * s + third * s**3 + s**5 * polynomial(s**2), s = (m - 1) / (m + 1)."""

    first: Pair
    third: Pair
    coefficients: tuple[float, ...]


# Errors 2^-36.8 and 2^-66.3, which a power multiplies by up to 128 and 1024.
LOG2: Mapping[str, DoubleLog2] = {
    "f32": DoubleLog2(
        (2.885390043258667, 3.851926067000022e-08),
        (0.9617967009544373, -7.028461812552678e-09),
        (0.5770801901817322, 0.4118497669696808, 0.33782699704170227),
    ),
    "f64": DoubleLog2(
        (2.8853900817779268, 4.0710547481862066e-17),
        (0.9617966939259756, 5.0577616648125907e-17),
        (
            0.5770780163556182,
            0.41219858309182683,
            0.32059890229490623,
            0.2623076991644217,
            0.22198409210785755,
            0.19125287678670402,
            0.19040738414970487,
        ),
    ),
}


# The bits of a**(-1/3) are about these less a third of the bits of a: relative error 3.5 %.
INVERSE_CBRT_BITS: Mapping[str, float] = {"f32": 1419916188.0, "f64": 6.142612053677999e18}


def _log2_double(x: Value) -> tuple[Value, Value]:
    """log2 of a finite x > 0 as a sum of two floats, about twice as precise as one."""
    table = LOG2[x.dtype]
    m, e = split(x)
    f, d = m - 1.0, m + 1.0
    s = f / d
    # d = m + 1 was rounded: d_low is the rest, and s_low what is then missing from the quotient.
    d_low = m - (d - 1.0)
    s_low = fma(-s, d_low, fma(-s, d, f)) / d
    z, z_low = two_product(s, s)
    z_low = fma(2.0 * s, s_low, z_low)
    u, u_low = fast_two_sum(
        constant(table.third[0], x.dtype), z * polynomial(z, table.coefficients)
    )
    v, v_low = two_product(z, u)
    v_low = v_low + fma(z, u_low + table.third[1], z_low * u)
    t, t_low = fast_two_sum(constant(table.first[0], x.dtype), v)
    t_low = t_low + (v_low + table.first[1])
    product, product_low = two_product(s, t)
    product_low = product_low + fma(s, t_low, s_low * t)
    high, low = fast_two_sum(e, product)
    return high, low + product_low


def _exp2_double(high: Value, low: Value) -> Value:
    """2**(high + low)."""
    table = EXP2[high.dtype]
    inside = compare("olt", magnitude(high), 2.0 * table.highest)
    bounded = at_most(at_least(high, table.lowest), table.highest)
    n = elementwise("round_even", bounded)
    r = (bounded - n) + select(inside, low, 0.0)
    return elementwise("scale", polynomial(r, table.coefficients), n)


def signed_power(x: Value, y: Value, power: Value) -> Value:
    """|x|**y given its value, for x of any sign: negative for odd y, NaN for a fraction y."""
    half = 0.5 * y
    one = constant(1.0, x.dtype)
    even = compare("oeq", elementwise("floor", half), half)
    integral = compare("oeq", elementwise("floor", y), y)
    power = copy_sign(power, select(even, one, select(integral, x, one)))
    finite = select(integral, power, nan)
    of_negative = select(compare("oeq", x, -inf), power, finite)
    return select(compare("olt", x, 0.0), of_negative, power)


def powf(x: Value, y: Value) -> Value:
    """x**y with the special values of C's pow."""
    a = magnitude(x)
    log_high, log_low = _log2_double(a)
    log_high = select(compare("oeq", a, 0.0), -inf, log_high)
    log_high = select(compare("oeq", a, inf), inf, log_high)
    high, error = two_product(y, log_high)
    power = _exp2_double(high, fma(y, log_low, error))
    power = select(compare("oeq", a, 1.0), 1.0, power)
    power = signed_power(x, y, power)
    power = select(compare("uno", x, y), x + y, power)
    power = select(compare("oeq", y, 0.0), 1.0, power)
    return select(compare("oeq", x, 1.0), 1.0, power)


# Multiplied by this power of two (a multiple of three), every number is so large that what its root
# is corrected by is normal.
_ENLARGING: Mapping[str, int] = {"f32": 54, "f64": 114}


def _inverse_cbrt(a: Value) -> Value:
    """a**(-1/3) for a normal a > 0, without a division: relative error 2e-5 (float32) and 2e-16."""
    form = format_of(a)
    guess = fma(convert(bits(a), a.dtype), -1.0 / 3.0, INVERSE_CBRT_BITS[a.dtype])
    y = bitcast(convert(guess, form.integer), a.dtype)
    for _ in range(1 if a.dtype == "f32" else 2):
        # With h = 1 - a y**3, the root is y (1 - h)**(-1/3): its series up to h**3.
        h = fma(-(a * y), y * y, 1.0)
        y = fma(y, h * polynomial(h, (1.0 / 3.0, 2.0 / 9.0, 14.0 / 81.0)), y)
    return y


def cbrt(x: Value) -> Value:
    """The real cube root, of the sign of x."""
    power, form = _ENLARGING[x.dtype], format_of(x)
    a = magnitude(x)
    small = compare("olt", a, form.smallest_normal * 2.0 ** (power - form.mantissa))
    normal = select(small, a * 2.0**power, a)
    y = _inverse_cbrt(normal)
    root = normal * (y * y)
    # One step of Newton's method on root**3 = a, whose derivative's inverse is y**2 / 3.
    root = fma(fma(-(root * root), root, normal), (y * y) * (1.0 / 3.0), root)
    root = root * select(small, constant(2.0 ** -(power // 3), x.dtype), 1.0)
    regular = select(compare("oeq", a, 0.0), a, root)
    return copy_sign(select(compare("olt", a, inf), regular, a), x)


def integer_power(base: Value, exponent: int) -> Value:
    """base ** exponent by repeated squaring; a negative exponent divides once, at the end."""
    result: Value | None = None
    square, remaining = base, abs(exponent)
    while remaining:
        if remaining & 1:
            result = square if result is None else result * square
        remaining >>= 1
        if remaining:
            square = square * square
    if result is None:
        return constant(1.0, base.dtype)
    return 1.0 / result if exponent < 0 else result


# Digits after the point of estimates that are squared without rounding, and how many terms the
# series of their errors needs.
_SHORTENED: Mapping[str, int] = {"f32": 11, "f64": 25}
_TERMS: Mapping[str, int] = {"f32": 3, "f64": 2}


def half_power(x: Value, m: int) -> Value:
    """x**(m / 2) for an odd m, with the special values of C's pow, from the square root."""
    a = _without_sign_at_limits(x)
    if m == -1:
        return select(compare("oeq", a, 0.0), inf, elementwise("rsqrt", a))
    root, whole = elementwise("sqrt", a), (abs(m) - 1) // 2
    if m < 0:
        # What is divided by is out of range only if the result is.
        return 4.0 / ((4.0 * root) * integer_power(a, whole))
    return root * integer_power(a, whole) if whole else root


def half_power_by_estimate(x: Value, m: int) -> Value:
    """The same from `rsqrt_estimate`, without a quotient: a power of it, and what that lacks."""
    if m >= -1:
        return half_power(x, m)
    a = _without_sign_at_limits(x)
    estimate = elementwise("rsqrt_estimate", a)
    if x.dtype == "f64":
        better = refined(a, estimate)
        estimate = select(compare("oeq", better, better), better, estimate)
    dropped = format_of(x).mantissa - _SHORTENED[x.dtype]
    y = bitcast(bits(estimate) & -(1 << dropped), x.dtype)
    power = integer_power(y, -m)
    # With e = 1 - a y**2, the result is y**-m (1 - e)**(m / 2).
    e = fma(-a, y * y, 1.0)
    first = -m / 2
    second = first * (first + 1) / 2
    series = (first, second, second * (first + 2) / 3)[: _TERMS[x.dtype]]
    result = fma(power, e * polynomial(e, series), power)
    return select(compare("oeq", result, result), result, power)


def _without_sign_at_limits(x: Value) -> Value:
    """0 and infinity for -0 and -infinity."""
    return select(compare("oeq", x + x, x), magnitude(x), x)


def fast_powf(x: Value, y: Value) -> Value:
    """x**y, whose relative error grows with |y log2(x)|; the special values of C's pow."""
    a = magnitude(x)
    power = select(compare("oeq", a, 1.0), 1.0, fast.exp2(y * fast.log2(a)))
    return select(compare("oeq", y, 0.0), 1.0, signed_power(x, y, power))
