"""Integers in the interpreter of PTX, against those of Python: needs no backend."""

from __future__ import annotations

import math

import numpy as np
import pytest
from ptxsim.snippets import apply

RNG = np.random.default_rng(7)
N = 200
M32, M64 = (1 << 32) - 1, (1 << 64) - 1
A32, B32, C32 = RNG.integers(0, 1 << 32, (3, N), dtype=np.uint32)
A64, B64, C64 = RNG.integers(0, 1 << 64, (3, N), dtype=np.uint64)
SMALL = RNG.integers(0, 70, N, dtype=np.uint32)


def signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> bits - 1 else value


def field(value: int, position: int, length: int, bits: int, is_signed: bool) -> int:
    """bfe, bit by bit."""
    value = signed(value, bits) if is_signed else value
    taken = value >> min(position, bits) & ((1 << min(length, bits)) - 1)
    if is_signed and 0 < length < bits:
        taken = signed(taken, length)
    return taken & ((1 << bits) - 1) if length else 0


def permuted(a: int, b: int, selector: int) -> int:
    """prmt, byte by byte."""
    source, result = (b << 32 | a).to_bytes(8, "little"), 0
    for place in range(4):
        choice = selector >> 4 * place & 15
        byte = source[choice & 7]
        if choice & 8:
            byte = 255 if byte & 128 else 0
        result |= byte << 8 * place
    return result


INTEGERS = [
    ("lop3.b32 {0}, {1}, {2}, {3}, 0x96;", "u32", (A32, B32, C32), lambda a, b, c: a ^ b ^ c),
    (
        "lop3.b32 {0}, {1}, {2}, {3}, 0xE8;",
        "u32",
        (A32, B32, C32),
        lambda a, b, c: a & b | a & c | b & c,
    ),
    ("prmt.b32 {0}, {1}, {2}, {3};", "u32", (A32, B32, C32), permuted),
    (
        "bfe.u32 {0}, {1}, {2}, {3};",
        "u32",
        (A32, SMALL, SMALL[::-1]),
        lambda v, p, n: field(v, p, n, 32, False),
    ),
    (
        "bfe.s64 {0}, {1}, {2}, {3};",
        "u64",
        (A64, SMALL % 20, SMALL[::-1] % 40),
        lambda v, p, n: field(v, p, n, 64, True),
    ),
    (
        "bfi.b32 {0}, {1}, {2}, {3}, {4};",
        "u32",
        (A32, B32, SMALL % 32, SMALL[::-1] % 33),
        lambda a, b, p, n: (
            b & ~(((1 << n) - 1) << p) & M32 | (a << p) & (((1 << n) - 1) << p) & M32
        ),
    ),
    (
        "shf.l.clamp.b32 {0}, {1}, {2}, {3};",
        "u32",
        (A32, B32, SMALL),
        lambda a, b, n: ((b << 32 | a) << min(n, 32)) >> 32 & M32,
    ),
    (
        "shf.r.wrap.b32 {0}, {1}, {2}, {3};",
        "u32",
        (A32, B32, SMALL),
        lambda a, b, n: (b << 32 | a) >> (n & 31) & M32,
    ),
    ("shl.b32 {0}, {1}, {2};", "u32", (A32, SMALL), lambda a, n: a << n & M32 if n < 32 else 0),
    (
        "shr.s32 {0}, {1}, {2};",
        "u32",
        (A32, SMALL),
        lambda a, n: signed(a, 32) >> min(n, 31) & M32,
    ),
    ("shr.u64 {0}, {1}, {2};", "u64", (A64, SMALL), lambda a, n: a >> n if n < 64 else 0),
    (
        "mul.hi.s64 {0}, {1}, {2};",
        "u64",
        (A64, B64),
        lambda a, b: signed(a, 64) * signed(b, 64) >> 64 & M64,
    ),
    (
        "mad.hi.u32 {0}, {1}, {2}, {3};",
        "u32",
        (A32, B32, C32),
        lambda a, b, c: (a * b >> 32) + c & M32,
    ),
    (
        "mul.wide.s32 {0}, {1}, {2};",
        "u64",
        (A32, B32),
        lambda a, b: signed(a, 32) * signed(b, 32) & M64,
    ),
    (
        "mad.wide.u32 {0}, {1}, {2}, {3};",
        "u64",
        (A32, B32, C64),
        lambda a, b, c: a * b + c & M64,
    ),
    ("mad.lo.s64 {0}, {1}, {2}, {3};", "u64", (A64, B64, C64), lambda a, b, c: a * b + c & M64),
    ("bfind.u32 {0}, {1};", "u32", (A32 >> SMALL % 32,), lambda a: a.bit_length() - 1 & M32),
    ("brev.b32 {0}, {1};", "u32", (A32,), lambda a: int(f"{a:032b}"[::-1], 2)),
    ("clz.b32 {0}, {1};", "u32", (A32 >> SMALL % 32,), lambda a: 32 - a.bit_length()),
    ("clz.b64 {0}, {1};", "u32", (A64 >> A64 % 64,), lambda a: 64 - a.bit_length()),
    ("popc.b64 {0}, {1};", "u32", (A64,), lambda a: bin(a).count("1")),
    (
        "div.s32 {0}, {1}, {2};",
        "u32",
        (A32, B32 >> 7 | 1),
        lambda a, b: int(math.copysign(abs(signed(a, 32)) // b, signed(a, 32))) & M32,
    ),
    (
        "rem.s32 {0}, {1}, {2};",
        "u32",
        (A32, B32 >> 7 | 1),
        lambda a, b: int(math.fmod(signed(a, 32), b)) & M32,
    ),
    (
        "slct.b32.s32 {0}, {1}, {2}, {3};",
        "u32",
        (A32, B32, C32),
        lambda a, b, c: a if c < 2**31 else b,
    ),
    (
        "setp.lo.u32 %p1, {1}, {2}; setp.gt.and.s32 %p2|%p3, {1}, {2}, %p1; "
        "selp.b32 {0}, 1, 0, %p2; @%p3 or.b32 {0}, {0}, 2;",
        "u32",
        (A32, B32),
        lambda a, b: (a < b) * (1 if signed(a, 32) > signed(b, 32) else 2),
    ),
    (
        "mov.b64 %rd1, {{{1}, {2}}}; mov.b64 {{%r20, {0}}}, %rd1; mov.b32 {{%h1, %h2}}, {0}; "
        "mov.b32 {0}, {{%h2, %h1}};",
        "u32",
        (A32, B32),
        lambda a, b: (b >> 16 | b << 16) & M32,
    ),
    ("cvt.s32.s8 {0}, {1};", "u32", (A32,), lambda a: signed(a & 255, 8) & M32),
    (
        "mov.b32 %r20, 5; {{ .reg .b32 %r20; mov.b32 %r20, {1}; }} add.s32 {0}, {1}, %r20;",
        "u32",
        (A32,),
        lambda a: a + 5 & M32,
    ),
]


@pytest.mark.parametrize("case", INTEGERS, ids=lambda case: case[0].split()[0])
def test_integer_instruction(case):
    text, kind, inputs, expected = case
    got = apply(text, kind, *inputs)
    assert got.tolist() == [expected(*map(int, row)) for row in zip(*inputs, strict=True)]
