"""TF32: numbers of float32 of which only the first 11 bits are not zero; a part of `products`."""

from __future__ import annotations

from redcomp.ir import Value, bitcast, compare, select

# Of the low 13 bits of float32, which TF32 has not: half of the last bit that it has, and the rest.
_HALF, _KEPT = 0x1000, -0x2000


def rounded(value: Value) -> Value:
    """The nearest numbers of TF32, halves away from zero; infinities and NaN stay."""
    bits = bitcast(value, "i32") + _HALF & _KEPT
    # Of some NaN the sum would be a number.
    return select(compare("uno", value, value), value, bitcast(bits, "f32"))
