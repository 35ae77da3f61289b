"""Integer instructions as functions of arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ptxsim.scalars import UNSIGNED, Array, DType

_BYTE = np.uint32(255)


def high_product(a: Array, b: Array) -> Array:
    """The upper half of a product."""
    dtype = a.dtype
    if dtype.itemsize < 8:
        wide: DType = np.dtype(f"{dtype.kind}{2 * dtype.itemsize}")
        product = a.astype(wide) * b.astype(wide)
        return np.asarray(product >> wide.type(8 * dtype.itemsize)).astype(dtype)
    x, y, mask, half = a.view(np.uint64), b.view(np.uint64), np.uint64(0xFFFFFFFF), np.uint64(32)
    middle = (x >> half) * (y & mask) + ((x & mask) * (y & mask) >> half)
    other = (x & mask) * (y >> half) + (middle & mask)
    high = (x >> half) * (y >> half) + (middle >> half) + (other >> half)
    if dtype.kind == "i":
        high = high - np.where(a < 0, y, np.uint64(0)) - np.where(b < 0, x, np.uint64(0))
    return np.asarray(high).view(dtype)


def quotient(a: Array, b: Array) -> Array:
    """Division towards zero; by zero, all ones."""
    divisor = np.where(b == 0, b.dtype.type(1), b)
    return np.where(b == 0, ~a.dtype.type(0), (a - np.fmod(a, divisor)) // divisor)


def remainder(a: Array, b: Array) -> Array:
    """Of the division towards zero."""
    return np.where(b == 0, a, np.fmod(a, np.where(b == 0, b.dtype.type(1), b)))


def shift_left(a: Array, amount: Array) -> Array:
    """By more than the width: zero."""
    bits = 8 * a.dtype.itemsize
    shifted: Array = a << np.minimum(amount, np.uint32(bits - 1)).astype(a.dtype)
    return np.asarray(np.where(amount < bits, shifted, a.dtype.type(0)))


def shift_right(a: Array, amount: Array) -> Array:
    """By more than the width: copies of the sign, or zero."""
    bits = 8 * a.dtype.itemsize
    shifted = a >> np.minimum(amount, np.uint32(bits - 1)).astype(a.dtype)
    if a.dtype.kind == "i":
        return np.asarray(shifted)
    return np.asarray(np.where(amount < bits, shifted, a.dtype.type(0)))


def funnel(to_left: bool, wraps: bool) -> Callable[[Array, Array, Array], Array]:
    """shf: a shift of two registers, of which one is kept."""

    def run(low: Array, high: Array, amount: Array) -> Array:
        amount = amount & np.uint32(31) if wraps else np.minimum(amount, np.uint32(32))
        amount = amount.astype(np.uint64)
        both = high.astype(np.uint64) << np.uint64(32) | low.astype(np.uint64)
        shifted = (both << amount) >> np.uint64(32) if to_left else both >> amount
        return np.asarray(shifted).astype(np.uint32)

    return run


def reverse_bits(x: Array) -> Array:
    """brev."""
    size = x.dtype.itemsize
    data = np.ascontiguousarray(np.atleast_1d(x)).view(np.uint8).reshape(-1, size)[:, ::-1]
    bits = np.unpackbits(data, axis=1, bitorder="little")
    mirrored: Array = np.packbits(bits, axis=1, bitorder="big").view(UNSIGNED[size]).reshape(-1)
    return mirrored


def count_ones(x: Array) -> Array:
    """popc."""
    data = np.ascontiguousarray(np.atleast_1d(x)).view(np.uint8).reshape(np.size(x), -1)
    counts: Array = np.unpackbits(data, axis=1).sum(axis=1, dtype=np.uint32)
    return counts


def leading_zeros(x: Array) -> Array:
    """clz."""
    dtype, bits = x.dtype, 8 * x.dtype.itemsize
    count, rest = np.zeros(np.shape(x), np.uint32), x
    for step in (32, 16, 8, 4, 2, 1):
        if step < bits:
            is_zero = rest >> dtype.type(bits - step) == 0
            count = count + np.where(is_zero, np.uint32(step), np.uint32(0))
            rest = np.where(is_zero, rest << dtype.type(step), rest)
    return np.where(x == 0, np.uint32(bits), count)


def find_bit(as_shift: bool) -> Callable[[Array], Array]:
    """bfind: the position of the highest bit that is not the sign's, or how far to shift it up."""

    def run(x: Array) -> Array:
        unsigned = UNSIGNED[x.dtype.itemsize]
        value = np.asarray(np.where(x < 0, ~x, x) if x.dtype.kind == "i" else x).view(unsigned)
        zeros = leading_zeros(value)
        place = zeros if as_shift else np.uint32(8 * x.dtype.itemsize - 1) - zeros
        return np.where(value == 0, np.uint32(0xFFFFFFFF), place)

    return run


def extract_bits(a: Array, position: Array, length: Array) -> Array:
    """bfe; bits beyond the top are copies of the sign, or zero."""
    position, length, bits = position & _BYTE, length & _BYTE, np.uint32(8 * a.dtype.itemsize)
    unused = bits - np.minimum(length, bits)
    value = shift_right(shift_left(shift_right(a, position), unused), unused)
    return np.where(length == 0, a.dtype.type(0), value)


def insert_bits(a: Array, b: Array, position: Array, length: Array) -> Array:
    """bfi."""
    one, position = b.dtype.type(1), position & _BYTE
    ones = shift_left(np.broadcast_to(one, np.shape(length)), length & _BYTE) - one
    mask = shift_left(ones, position)
    return b & ~mask | shift_left(a, position) & mask


def permute_bytes(a: Array, b: Array, selector: Array) -> Array:
    """prmt without a mode."""
    both = b.astype(np.uint64) << np.uint64(32) | a.astype(np.uint64)
    result: Any = np.uint32(0)
    for place in range(4):
        choice = selector >> np.uint32(4 * place) & np.uint32(15)
        shift = (choice & np.uint32(7)).astype(np.uint64) * np.uint64(8)
        byte = (both >> shift).astype(np.uint32) & _BYTE
        sign = np.where(byte & np.uint32(128), _BYTE, np.uint32(0))
        chosen = np.where(choice & np.uint32(8), sign, byte)
        result = result | chosen << np.uint32(8 * place)
    return np.asarray(result)


def lookup(table: int) -> Callable[[Array, Array, Array], Array]:
    """lop3: any function of three bits, given by its table."""

    def run(a: Array, b: Array, c: Array) -> Array:
        terms = [
            (a if row & 4 else ~a) & (b if row & 2 else ~b) & (c if row & 1 else ~c)
            for row in range(8)
            if table >> row & 1
        ]
        result = a & np.uint32(0)
        for term in terms:
            result = result | term
        return result

    return run
