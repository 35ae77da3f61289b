"""Expansions of the trigonometric functions and their inverses.

sin and cos reduce x by the nearest multiple of pi / 2, which is subtracted in three parts by fused
multiply-adds.  They are accurate for |x| up to 2**20 in float32 and 2**30 in float64.  Beyond,
accuracy is lost; the reduced argument is clamped, so that results stay in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Mapping

from redcomp.ir import Value, compare, constant, elementwise, fma, select
from redcomp.ops.expansions.shared import (
    HALF_PI,
    at_least,
    at_most,
    bits,
    copy_sign,
    fast_two_sum,
    flip_sign,
    format_of,
    magnitude,
    nearest,
    polynomial,
    two_product,
)
from redcomp.records import record

TWO_OVER_PI = 0.6366197723675814
# pi / 4, and what rounding x * 2 / pi adds for large x.
REDUCED = 0.84

# pi / 2 as a sum of three floats.
HALF_PI_PARTS: Mapping[str, tuple[float, float, float]] = {
    "f32": (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15),
    "f64": (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33),
}


@record
class Circular:
    """The coefficients of s and c, polynomials in z = r**2 for |r| <= REDUCED.

    sin(r) = r + r**3 * s(z) and cos(r) = 1 - z / 2 + z**2 * c(z).
    """

    sin: tuple[float, ...]
    cos: tuple[float, ...]


# Errors 2^-27.2 and 2^-31.1 in float32, 2^-56.6 and 2^-59.8 in float64.
CIRCULAR: Mapping[str, Circular] = {
    "f32": Circular(
        (-0.16666649281978607, 0.00833182968199253, -0.0001947164419107139),
        (0.04166664928197861, -0.0013887326931580901, 2.4422837668680586e-05),
    ),
    "f64": Circular(
        (
            -0.16666666666666588,
            0.008333333333311713,
            -0.00019841269821477798,
            2.7557310892687696e-06,
            -2.5050334743566327e-08,
            1.5873135242091658e-10,
        ),
        (
            0.0416666666666665,
            -0.0013888888888846588,
            2.4801587270023022e-05,
            -2.755730862471351e-07,
            2.0874966916556124e-09,
            -1.1322538327219765e-11,
        ),
    ),
}

# (asin(s) - s) / s**3 in s**2 on [0, 1/4]: errors 2^-27.5 and 2^-59.8.
ASIN: Mapping[str, tuple[float, ...]] = {
    "f32": (
        0.16666753590106964,
        0.07495249062776566,
        0.04547666013240814,
        0.024148130789399147,
        0.04221978783607483,
    ),
    "f64": (
        0.16666666666666763,
        0.0749999999997012,
        0.04464285717527397,
        0.030381942675432486,
        0.02237221591547765,
        0.01735159505823474,
        0.013981027160882436,
        0.011397195334816744,
        0.010790017663651213,
        0.0036690098918067036,
        0.021799647724115433,
        -0.021131189198128,
        0.03271225073000652,
    ),
}

# (atan(t) - t) / t**3 in t**2 on [0, 1]: errors 2^-28.5 and 2^-57.4.
ATAN: Mapping[str, tuple[float, ...]] = {
    "f32": (
        -0.33333298563957214,
        0.1999852955341339,
        -0.14264015853405,
        0.10950881242752075,
        -0.08399311453104019,
        0.05788151174783707,
        -0.031097108498215675,
        0.010868734680116177,
        -0.0017828255658969283,
    ),
    "f64": (
        -0.33333333333333065,
        0.19999999999950938,
        -0.14285714282544001,
        0.1111111100608732,
        -0.09090906985997042,
        0.07692279636606876,
        -0.06666402370242167,
        0.05880517629620263,
        -0.05253472790735577,
        0.047221663445584906,
        -0.04218771562346604,
        0.03663368443617097,
        -0.029891001575888258,
        0.02196935875077442,
        -0.013886307846544054,
        0.0071866880159694715,
        -0.0028800220130067752,
        0.000829651645122626,
        -0.00015181250896655852,
        1.319157756217196e-05,
    ),
}


def _reduce(x: Value) -> tuple[Value, Value]:
    """r and the quadrant: x = r + quadrant * pi / 2, |r| at most about pi / 4."""
    n, quadrant = nearest(x, TWO_OVER_PI)
    r = x
    for part in HALF_PI_PARTS[x.dtype]:
        r = fma(n, -part, r)
    return at_most(at_least(r, -REDUCED), REDUCED), quadrant


def _circular(r: Value, swap: Value) -> Value:
    """sin(r), or cos(r) where the lowest bit of the integer `swap` is set."""
    table = CIRCULAR[r.dtype]
    z = r * r
    sin = fma(r * z, polynomial(z, table.sin), r)
    cos = fma(z * z, polynomial(z, table.cos), fma(z, -0.5, 1.0))
    return select(compare("ne", swap & 1, 0), cos, sin)


def sin(x: Value) -> Value:
    """The sine."""
    r, quadrant = _reduce(x)
    result = flip_sign(_circular(r, quadrant), quadrant, bit=1)
    return select(compare("oeq", x, 0.0), x, result)


def cos(x: Value) -> Value:
    """The cosine, which is the sine a quadrant on."""
    r, quadrant = _reduce(x)
    quadrant = quadrant + 1
    return flip_sign(_circular(r, quadrant), quadrant, bit=1)


def _reduce_double(x: Value) -> tuple[Value, Value, Value]:
    """As `_reduce`, r being an unevaluated sum of two floats."""
    n, quadrant = nearest(x, TWO_OVER_PI)
    first, second, third = HALF_PI_PARTS[x.dtype]
    exact = fma(n, -first, x)
    product, product_low = two_product(n, constant(second, x.dtype))
    r, low = fast_two_sum(exact, -product)
    low = fma(n, -third, low - product_low)
    # Only where sin is inaccurate anyway can `low` be more than a unit of 1; it is garbage there.
    unit = 2.0 ** -format_of(x).mantissa
    return at_most(at_least(r, -REDUCED), REDUCED), at_most(at_least(low, -unit), unit), quadrant


def _sin_double(x: Value) -> tuple[Value, Value]:
    """sin(x) as a sum of two floats, the second only roughly: a tenth of a unit is left."""
    r, r_low, quadrant = _reduce_double(x)
    table = CIRCULAR[x.dtype]
    z = r * r
    cube, square = r * z * polynomial(z, table.sin), z * z
    base, quartic = fma(z, -0.5, 1.0), square * polynomial(z, table.cos)
    sin, cos = r + cube, base + quartic
    sin_low = fma(r_low, cos, (r - sin) + cube)
    cos_low = fma(r_low, -sin, (base - cos) + quartic) + fma(z, -0.5, 1.0 - base)
    swap = compare("ne", quadrant & 1, 0)
    parts = select(swap, cos, sin), select(swap, cos_low, sin_low)
    high, low = (flip_sign(part, quadrant, bit=1) for part in parts)
    return high, low


def sinxdivx(x: Value) -> Value:
    """sin(x) / x, and 1 at 0.

    The quotient of the rounded sine would be 2.5 units off.  So what rounding took from the sine is
    divided too, with what the division left.
    """
    high, low = _sin_double(x)
    inverse = 1.0 / x
    quotient = high * inverse
    result = fma(fma(-quotient, x, high) + low, inverse, quotient)
    # sin(x) / x = 1 - x**2 / 6 rounds to 1 here, and 1 / x may overflow.
    small = compare("olt", magnitude(x), 2.0 ** -(format_of(x).mantissa // 2 + 1))
    return select(small, 1.0, result)


def _arcsine_parts(x: Value) -> tuple[Value, Value, Value]:
    """s, asin(s) - s, and whether |x| > 1/2, where s = sqrt((1 - |x|) / 2); s is |x| elsewhere."""
    a = magnitude(x)
    large = compare("ogt", a, 0.5)
    z = select(large, fma(a, -0.5, 0.5), a * a)
    s = select(large, elementwise("sqrt", z), a)
    return s, s * z * polynomial(z, ASIN[x.dtype]), large


def asin(x: Value) -> Value:
    """asin(|x|) = pi / 2 - 2 asin(sqrt((1 - |x|) / 2)), used above 1/2."""
    s, tail, large = _arcsine_parts(x)
    high, low = (constant(value, x.dtype) for value in HALF_PI[x.dtype])
    complement = fma(s, -2.0, high)
    rest = fma(tail, -2.0, low) + fma(s, -2.0, high - complement)
    return copy_sign(select(large, complement + rest, s + tail), x)


def acos(x: Value) -> Value:
    """pi / 2 - asin(x) for small |x|, else 2 asin(sqrt((1 - |x|) / 2)) or pi less it."""
    s, tail, large = _arcsine_parts(x)
    part = s + tail
    high, low = HALF_PI[x.dtype]
    signed = select(large, part, copy_sign(part, x))
    complement = high - (signed - low)
    negative = compare("olt", x, 0.0)
    return select(large, 2.0 * select(negative, complement, part), complement)


def _arctangent(t: Value) -> Value:
    """atan(t) for t in [0, 1]."""
    z = t * t
    return fma(t * z, polynomial(z, ATAN[t.dtype]), t)


def atan(x: Value) -> Value:
    """atan(|x|) = pi / 2 - atan(1 / |x|), used above 1."""
    a = magnitude(x)
    large = compare("ogt", a, 1.0)
    part = _arctangent(select(large, 1.0 / a, a))
    high, low = HALF_PI[x.dtype]
    return copy_sign(select(large, high - (part - low), part), x)


def atan2(y: Value, x: Value) -> Value:
    """The angle of the point (x, y), with C's rules for zeros and infinities and their signs."""
    a, b = magnitude(x), magnitude(y)
    steep = compare("ogt", b, a)
    larger, smaller = select(steep, b, a), select(steep, a, b)
    # 0 / 0 is to be 0 and infinity / infinity is to be 1.
    equal = select(compare("oeq", larger, 0.0), constant(0.0, x.dtype), 1.0)
    quotient = select(compare("oeq", smaller, larger), equal, smaller / larger)
    part = _arctangent(quotient)
    # The angle from the nearest half axis, itself at 0, pi / 2 or pi: base + part or base - part.
    left = compare("slt", bits(x), 0)
    high, low = (constant(value, x.dtype) for value in HALF_PI[x.dtype])
    zero = constant(0.0, x.dtype)
    base = select(steep, high, select(left, 2.0 * high, zero))
    base_low = select(steep, low, select(left, 2.0 * low, zero))
    away = select(left, -part, part)
    signed = select(steep, -away, away)
    return copy_sign(base + (signed + base_low), y)


_TURNS = 0.15915494309189535  # 1 / (2 pi)


def _fast_reduced(x: Value) -> Value:
    """x less the nearest multiple of 2 pi, which is subtracted in two parts."""
    n, _ = nearest(x, _TURNS)
    first, second, _ = HALF_PI_PARTS[x.dtype]
    return fma(n, -4.0 * second, fma(n, -4.0 * first, x))


def fast_sin(x: Value) -> Value:
    """The sine."""
    return elementwise("sin_approx", _fast_reduced(x))


def fast_cos(x: Value) -> Value:
    """The cosine."""
    return elementwise("cos_approx", _fast_reduced(x))
