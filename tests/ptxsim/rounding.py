"""Floating-point results rounded once, in any mode, from float64 and error terms.

The sums and products without error are those of Knuth and Dekker; rounding to odd, which makes a
second rounding harmless, is that of Boldo and Melquiond, "Emulation of FMA and correctly rounded
sums: proved algorithms using rounding to odd", 2008.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ptxsim.errors import ExecutionError
from ptxsim.scalars import TYPES, UNSIGNED, Array

MODES = ("rn", "rz", "rm", "rp")

# Halfway between two float32 numbers, as the low 29 bits of a float64; where products or sums of
# float32 numbers are smaller than the second number, float32 has fewer bits.
_HALFWAY, _LOW_BITS = 0x10000000, 0x1FFFFFFF
_SMALL = 1.2e-38


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """The float64 sum and its error, exactly."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """The float64 product and its error, exactly while nothing under- or overflows."""
    product = a * b
    split_a, split_b = a * 134217729.0, b * 134217729.0
    high_a, high_b = split_a - (split_a - a), split_b - (split_b - b)
    low_a, low_b = a - high_a, b - high_b
    error = ((high_a * high_b - product) + high_a * low_b + low_a * high_b) + low_a * low_b
    return product, np.where(np.isfinite(error), error, 0.0)


def to_odd(total: Array, error: Array) -> Array:
    """A float64 sum, given its rounding error, rounded to odd instead."""
    is_even = np.asarray(total).view(np.int64) & 1 == 0
    wrong = (error != 0) & np.isfinite(total) & is_even
    if not wrong.any():
        return total
    return np.where(wrong, np.nextafter(total, np.copysign(np.inf, error)), total)


def fma32(a: Array, b: Array, c: Array) -> Array:
    """Rounded once: the product is exact in float64; few sums need their error."""
    product, addend = a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64)
    total = np.asarray(product + addend)
    is_close = (total.view(np.int64) & _LOW_BITS) == _HALFWAY
    if is_close.any() or (np.abs(total) < _SMALL).any():
        total = to_odd(*two_sum(product, addend))
    return total.astype(np.float32)


def widen(x: Array, kind: str) -> Array:
    """The values of a float type in float64, exactly."""
    if kind == "bf16":
        return (x.astype(np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)
    return (x.view(np.float32) if kind == "tf32" else x).astype(np.float64)


def narrow(total: Array, error: Any, kind: str, mode: str = "rn") -> Array:
    """The exact value total + error rounded once to a float type.

    For f64, `total` has to be that sum rounded to nearest.
    """
    if kind == "f64":
        result, added = total, np.negative(error)  # what rounding to nearest added
    else:
        total = to_odd(total, error) if np.any(error) else total
        if kind in ("bf16", "tf32"):
            return _cut(total, kind, mode)
        result = total.astype(TYPES[kind])
        added = result.astype(np.float64) - total
    if mode == "rn":
        return result
    wrong = {"rz": added * np.sign(total) > 0, "rm": added > 0, "rp": added < 0}[mode]
    towards = result.dtype.type({"rz": 0, "rm": -np.inf, "rp": np.inf}[mode])
    return np.where(wrong & np.isfinite(total), np.nextafter(result, towards), result)


def _cut(value: Array, kind: str, mode: str) -> Array:
    """float64 to a shorter float32: cut off to float32 with a sticky bit, then rounded by hand."""
    if mode in ("rm", "rp"):
        raise ExecutionError("unsupported", f"{kind} rounded by .{mode}")
    drop = 16 if kind == "bf16" else 13
    single = value.astype(np.float32)
    too_large = np.isfinite(value) & (np.abs(single.astype(np.float64)) > np.abs(value))
    single = np.asarray(np.where(too_large, np.nextafter(single, np.float32(0)), single))
    bits = single.view(np.uint32) | (single.astype(np.float64) != value)
    if mode != "rz":
        to_even = mode == "rn"
        last = (bits >> np.uint32(drop)) & np.uint32(to_even)
        bits = bits + (np.uint32((1 << drop - 1) - to_even) + last)
    bits = np.where(np.isnan(value), np.uint32(0x7FFFFFFF), bits) >> np.uint32(drop)
    return bits.astype(np.uint16) if kind == "bf16" else bits << np.uint32(13)


def quotient(x: Array, y: Array) -> tuple[Array, Array]:
    """A float64 quotient, and a number with the sign of its error."""
    result = x / y
    product, error = two_product(result, y)
    return result, np.nan_to_num(((x - product) - error) * np.sign(y), posinf=0, neginf=0)


def square_root(x: Array) -> tuple[Array, Array]:
    """A float64 square root, and a number with the sign of its error."""
    result = np.sqrt(x)
    product, error = two_product(result, result)
    return result, np.nan_to_num((x - product) - error, posinf=0, neginf=0)


def flush(x: Array) -> Array:
    """Subnormal numbers become zeros of their sign."""
    small = np.abs(x) < np.finfo(x.dtype).smallest_normal
    return np.where(small, np.copysign(x.dtype.type(0), x), x) if small.any() else x


def sign_mask(size: int) -> Any:
    """The bit of the sign in a float of so many bytes."""
    return UNSIGNED[size].type(1 << 8 * size - 1)
