"""What the expansions of elementary functions share: polynomials, bits of floats, exact sums.

An expansion is written once for float32 and float64 and runs on SIMD lanes: it has no branches, no
tables and no calls; both sides of a decision are computed and one is selected.  `fma` is taken to
round once; a good part of the accuracy rests on it.

Polynomials are weighted minimax fits, by `scripts/fit_polynomials.py`; their coefficients are
rounded one by one from the lowest, the others being fitted again each time.  "Error 2^-k" beside a
table is the relative error that this leaves in the function, and tests/test_approximations.py
checks it; the rounding errors of the evaluation come on top of it, and `scripts/measure_ulp.py`
measures the total.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from redcomp.ir import Value, bitcast, compare, constant, elementwise, fma, select
from redcomp.records import record

# The high and low parts of constants: their sum is correct to about twice the precision.
Pair = tuple[float, float]
LN2: Mapping[str, Pair] = {
    "f32": (0.6931471824645996, -1.9046542121259336e-09),
    "f64": (0.6931471805599453, 2.3190468138462996e-17),
}
LOG2_E: Mapping[str, Pair] = {
    "f32": (1.4426950216293335, 1.925963033500011e-08),
    "f64": (1.4426950408889634, 2.0355273740931033e-17),
}
HALF_PI: Mapping[str, Pair] = {
    "f32": (1.5707963705062866, -4.371138828673793e-08),
    "f64": (1.5707963267948966, 6.123233995736766e-17),
}


@record
class Format:
    """An IEEE binary format: its integer of equal width, bits of mantissa and exponent bias."""

    integer: str
    mantissa: int
    bias: int

    @property
    def magic(self) -> float:
        """Adding it rounds a number to an integer, which then stands in the low bits of the sum."""
        return 1.5 * 2.0**self.mantissa

    @property
    def magic_bits(self) -> int:
        return ((self.bias + self.mantissa) << self.mantissa) | (1 << (self.mantissa - 1))

    @property
    def magnitude_mask(self) -> int:
        """All bits but the sign's."""
        return (1 << (31 if self.integer == "i32" else 63)) - 1

    @property
    def sign_mask(self) -> int:
        return -self.magnitude_mask - 1

    @property
    def smallest_normal(self) -> float:
        return 2.0 ** (1 - self.bias)


FORMATS: Mapping[str, Format] = {"f32": Format("i32", 23, 127), "f64": Format("i64", 52, 1023)}


def format_of(x: Value) -> Format:
    """The format of a float value."""
    return FORMATS[x.dtype]


def polynomial(x: Value, coefficients: Sequence[float]) -> Value:
    """The polynomial with these coefficients, lowest first, by Horner's rule: one fma a degree."""
    *lower, highest = coefficients
    result = constant(highest, x.dtype)
    for coefficient in reversed(lower):
        result = fma(result, x, coefficient)
    return result


def magnitude(x: Value) -> Value:
    """|x|."""
    return elementwise("abs", x)


def at_least(x: Value, limit: float) -> Value:
    """max(x, limit), in the form that is one instruction on x86 and keeps a NaN in x."""
    return select(compare("olt", x, limit), limit, x)


def at_most(x: Value, limit: float) -> Value:
    """min(x, limit), in the form that is one instruction on x86 and keeps a NaN in x."""
    return select(compare("ogt", x, limit), limit, x)


def bits(x: Value) -> Value:
    """The bits of a float as an integer."""
    return bitcast(x, format_of(x).integer)


def copy_sign(x: Value, sign: Value) -> Value:
    """x, which must not be negative, with the sign bit of `sign`."""
    return bitcast(bits(x) | (bits(sign) & format_of(x).sign_mask), x.dtype)


def flip_sign(x: Value, odd: Value, bit: int = 0) -> Value:
    """-x where the given bit of the integer `odd` is set, else x."""
    width = 32 if odd.dtype == "i32" else 64
    return bitcast(bits(x) ^ ((odd << (width - 1 - bit)) & format_of(x).sign_mask), x.dtype)


def nearest(x: Value, factor: float) -> tuple[Value, Value]:
    """x * factor rounded to an integer: as a float, and in the low bits of an integer value."""
    magic = format_of(x).magic
    shifted = fma(x, factor, magic)
    return shifted - magic, bits(shifted)


def integer_to_float(k: Value, dtype: str) -> Value:
    """A small integer as a float; unlike a conversion, fast for 64 bits on every SIMD target."""
    form = FORMATS[dtype]
    return bitcast(k + form.magic_bits, dtype) - form.magic


def power_of_two(k: Value, dtype: str) -> Value:
    """2**k for an integer k in the range of normal numbers, or one below it (giving 0)."""
    form = FORMATS[dtype]
    return bitcast((k + form.bias) << form.mantissa, dtype)


def expand_scale(a: Value, n: Value) -> Value:
    """`scale` (a * 2**floor(n)) for targets that lack the instruction.

    Multiplies by two halves of the power, each of which is a normal number.  Rounds once, and so is
    the same as the primitive, where a * 2**(floor(n) / 2) is normal: for any n when a is near 1.
    """
    form = format_of(a)
    limit = 2.0 * form.bias
    whole = at_most(at_least(elementwise("floor", n), 2.0 - limit), limit)
    k = bits(whole + form.magic) - form.magic_bits
    half = k >> 1
    return a * power_of_two(half, a.dtype) * power_of_two(k - half, a.dtype)


def scale_by_halves(a: Value, shifted: Value) -> Value:
    """`expand_scale` for a whole n in its range, given as the bits of n plus the magic number.

    Both biases are added before the shifts, for targets that shift and add in two instructions.
    """
    form = format_of(a)
    # The exponents of both factors, with their biases.
    both = shifted + (2 * form.bias - form.magic_bits)
    first = both >> 1
    one, other = (bitcast(k << form.mantissa, a.dtype) for k in (first, both - first))
    return a * one * other


def fast_two_sum(a: Value, b: Value) -> tuple[Value, Value]:
    """a + b and its rounding error, exactly, where |a| >= |b| or a is 0 (Dekker)."""
    total = a + b
    return total, b - (total - a)


def two_product(a: Value, b: Value) -> tuple[Value, Value]:
    """a * b and its rounding error, exactly unless it underflows."""
    product = a * b
    return product, fma(a, b, -product)
