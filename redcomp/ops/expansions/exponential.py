"""Expansions of the exponential and of what is made of one exponential.

exp(x) = 2**n exp(r) with n = round(x / ln 2), so that |r| <= ln(2) / 2.  The product n * ln 2 is
subtracted in two parts; with a fused multiply-add the first subtraction is exact.
"""

from __future__ import annotations

from collections.abc import Mapping

from redcomp.ir import Value, compare, constant, elementwise, fma, lookup, select
from redcomp.ops.expansions.shared import (
    LN2,
    LOG2_E,
    at_least,
    at_most,
    bits,
    copy_sign,
    format_of,
    magnitude,
    nearest,
    polynomial,
    power_of_two,
    scale_by_halves,
)
from redcomp.records import record


@record
class Exponential:
    """exp(r) on |r| <= ln(2) / 2; exp is 0 at `lowest`, infinite at `highest`, and beyond them."""

    lowest: float
    highest: float
    coefficients: tuple[float, ...]


# float32: the error is weighted in units of the last place of the result, and the second lowest
# coefficient is not 1: this saves a degree, at 1.2 units.  The coefficients were then improved by a
# random search on the largest error of the whole evaluation (`--search` of the script): 1.92 units
# over all float32 values.
# float64: error 2^-57.7.
EXP: Mapping[str, Exponential] = {
    "f32": Exponential(
        -104.0,
        89.0,
        (
            1.0,
            0.999999463558197,
            0.499991238117218,
            0.16668234765529633,
            0.041900381445884705,
            0.008256209082901478,
        ),
    ),
    "f64": Exponential(
        -746.0,
        710.0,
        (
            1.0,
            1.0,
            0.5000000000000011,
            0.16666666666666421,
            0.04166666666652555,
            0.00833333333346651,
            0.001388888894516794,
            0.0001984126960476735,
            2.4801491162840565e-05,
            2.755746993615117e-06,
            2.763105074380889e-07,
            2.5045063527869656e-08,
        ),
    ),
}


@record
class TableExponential:
    """exp(r) = 1 + r (1 + r q(r)) on |r| <= ln(2) / (2 * `steps`), q by its coefficients."""

    steps: int
    coefficients: tuple[float, ...]


# With n in steps of 1/16 or 1/8: as many entries as a 512-bit vector holds.  Errors 2^-29.2 and
# 2^-58.2.
EXP_BY_TABLE: Mapping[str, TableExponential] = {
    "f32": TableExponential(16, (0.5000162124633789, 0.1666700839996338)),
    "f64": TableExponential(
        8,
        (
            0.5000000000000301,
            0.16666666666667226,
            0.041666666569371125,
            0.008333333319090853,
            0.001388978314346278,
            0.00019842385282522047,
        ),
    ),
}

# 2**r on |r| <= 1/2, found in the same way: 1.1 units, and 1.86 of the whole evaluation, in
# float32; error 2^-56.5 in float64.
EXP2: Mapping[str, Exponential] = {
    "f32": Exponential(
        -151.0,
        129.0,
        (
            1.0,
            0.693146824836731,
            0.24022236466407776,
            0.0555090457201004,
            0.009671803563833237,
            0.0013222286943346262,
        ),
    ),
    "f64": Exponential(
        -1076.0,
        1025.0,
        (
            1.0,
            0.6931471805599453,
            0.24022650695910172,
            0.055504108664824574,
            0.009618129107577063,
            0.0013333558145567348,
            0.00015403530478875322,
            1.5252734738239502e-05,
            1.3215424314432556e-06,
            1.017765492706721e-07,
            7.075686291467292e-09,
            4.5197329596826013e-10,
        ),
    ),
}

# (exp(r) - 1 - r) / r**2 on |r| <= ln(2) / 2: errors 2^-26.0 and 2^-61.6 in exp(r) - 1.  Below
# `lowest`, exp(x) - 1 rounds to -1.
EXPM1: Mapping[str, Exponential] = {
    "f32": Exponential(
        -18.0,
        89.0,
        (
            0.4999999701976776,
            0.16666539013385773,
            0.041667744517326355,
            0.008367056958377361,
            0.0013839500024914742,
        ),
    ),
    "f64": Exponential(
        -38.0,
        710.0,
        (
            0.5,
            0.16666666666666677,
            0.041666666666666685,
            0.008333333333321789,
            0.0013888888888893684,
            0.00019841269885379463,
            2.4801587279010573e-05,
            2.75572450964721e-06,
            2.755732945768359e-07,
            2.5108712353024993e-08,
            2.089396369373572e-09,
        ),
    ),
}

# (sinh(a) - a) / a**3 in a**2 on [0, 1]: errors 2^-25.1 and 2^-61.7.
SINH: Mapping[str, tuple[float, ...]] = {
    "f32": (0.166667178273201, 0.00833022128790617, 0.00020376882457640022),
    "f64": (
        0.16666666666666669,
        0.008333333333332915,
        0.00019841269841589245,
        2.75573191084866e-06,
        2.5052130674993267e-08,
        1.6056687177610638e-10,
        7.775688237509148e-13,
    ),
}

# From here on tanh rounds to 1.
TANH_SATURATED: Mapping[str, float] = {"f32": 10.0, "f64": 20.0}


def _reduce(x: Value) -> tuple[Value, Value, Value]:
    """r and n with x = r + n ln 2, and the bits of the sum of n and the magic number."""
    high, low = LN2[x.dtype]
    n, shifted = nearest(x, LOG2_E[x.dtype][0])
    return fma(n, -low, fma(n, -high, x)), n, shifted


def exp_of_negative(x: Value) -> tuple[Value, Value, Value]:
    """p, its error, and n with exp(x) = (p + error) * 2**n for x <= 0; more accurate than `exp`."""
    r, n, _ = _reduce(at_least(x, EXP[x.dtype].lowest))
    slope = polynomial(r, (1.0, *EXPM1[x.dtype].coefficients))
    p = fma(r, slope, 1.0)
    return p, fma(r, slope, 1.0 - p), n


def exp(x: Value) -> Value:
    """e**x; 8 fma, and the scaling, in float32."""
    table = EXP[x.dtype]
    r, n, _ = _reduce(at_most(at_least(x, table.lowest), table.highest))
    return elementwise("scale", polynomial(r, table.coefficients), n)


def exp_by_halves(x: Value) -> Value:
    """`exp` with the same bits, scaled by two factors made from the rounded exponent."""
    table = EXP[x.dtype]
    r, _, shifted = _reduce(at_most(at_least(x, table.lowest), table.highest))
    return scale_by_halves(polynomial(r, table.coefficients), shifted)


def exp_by_table(x: Value) -> Value:
    """e**x with 2 to the fraction of n looked up; 6 fma, a product, and the scaling, in float32."""
    limits, table = EXP[x.dtype], EXP_BY_TABLE[x.dtype]
    x = at_most(at_least(x, limits.lowest), limits.highest)
    # The last place of the shifted number is worth 1 / steps, so it rounds to a multiple of that.
    magic = format_of(x).magic / table.steps
    shifted = fma(x, LOG2_E[x.dtype][0], magic)
    n = shifted - magic
    high, low = LN2[x.dtype]
    r = fma(n, -low, fma(n, -high, x))
    powers = tuple(2.0 ** (k / table.steps) for k in range(table.steps))
    power = lookup(powers, bits(shifted), x.dtype)
    slope = polynomial(r, (1.0, *table.coefficients))
    return elementwise("scale", fma(power * r, slope, power), n)


def _half_exp(x: Value) -> Value:
    """exp(x) / 2, which is finite where exp(x) overflows but sinh and cosh do not."""
    table = EXP[x.dtype]
    r, n, _ = _reduce(at_most(at_least(x, table.lowest), table.highest + 1.0))
    return elementwise("scale", polynomial(r, table.coefficients), n - 1.0)


def exp2(x: Value) -> Value:
    """2**x."""
    table = EXP2[x.dtype]
    x = at_most(at_least(x, table.lowest), table.highest)
    n = elementwise("round_even", x)
    return elementwise("scale", polynomial(x - n, table.coefficients), n)


def exp2_by_halves(x: Value) -> Value:
    """`exp2` with the same bits, scaled like `exp_by_halves`."""
    table = EXP2[x.dtype]
    x = at_most(at_least(x, table.lowest), table.highest)
    shifted = x + format_of(x).magic
    n = shifted - format_of(x).magic
    return scale_by_halves(polynomial(x - n, table.coefficients), bits(shifted))


def _expm1(x: Value, correct: bool) -> Value:
    """exp(x) - 1 where x / 2 does not underflow; `correct` adds the rounding error of r."""
    table = EXPM1[x.dtype]
    x = at_most(at_least(x, table.lowest), table.highest)
    high, low = LN2[x.dtype]
    n, k = nearest(x, LOG2_E[x.dtype][0])
    exact = fma(n, -high, x)
    r = fma(n, -low, exact)
    tail = (r * r) * polynomial(r, table.coefficients)
    if correct:
        tail = tail + fma(n, -low, exact - r)
    # (2**n (1 + r + tail) - 1) / 2, which does not overflow too early.
    half = power_of_two(k - (format_of(x).magic_bits + 1), x.dtype)
    return 2.0 * fma(half, tail, fma(half, r, half - 0.5))


def expm1(x: Value) -> Value:
    """exp(x) - 1, accurate near 0."""
    tiny = 2.0 ** -(format_of(x).mantissa + 3)
    return select(compare("olt", magnitude(x), tiny), x, _expm1(x, correct=True))


def tanh(x: Value) -> Value:
    """(exp(2a) - 1) / (exp(2a) + 1) with a = |x|, and the sign of x."""
    a = at_most(magnitude(x), TANH_SATURATED[x.dtype])
    e = _expm1(a + a, correct=False)
    return copy_sign(e / (e + 2.0), x)


def sinh(x: Value) -> Value:
    """(exp(a) - exp(-a)) / 2 for a = |x| > 1, a polynomial below."""
    a = magnitude(x)
    half = _half_exp(a)
    z = a * a
    small = fma(a * z, polynomial(z, SINH[x.dtype]), a)
    return copy_sign(select(compare("olt", a, 1.0), small, half - 0.25 / half), x)


def cosh(x: Value) -> Value:
    """(exp(a) + exp(-a)) / 2 with a = |x|."""
    half = _half_exp(magnitude(x))
    return half + 0.25 / half


def sigmoid(x: Value) -> Value:
    """1 / (1 + exp(-x)), from exp(-|x|) so that no intermediate result overflows."""
    p, _, n = exp_of_negative(-magnitude(x))
    e = elementwise("scale", p, n)
    denominator = e + 1.0
    # What rounding the sum lost; 1 / (1 + e) is only needed roughly to put it back.
    lost = e - (denominator - 1.0)
    roughly = fma(e, -0.457, 0.957)
    one = constant(1.0, x.dtype)
    quotient = select(compare("olt", x, 0.0), e, one) / denominator
    return fma(quotient * lost, -roughly, quotient)
