"""Floats in the interpreter of PTX, against exact fractions: needs no backend."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from ptxsim.floats import float_function
from ptxsim.fused import multiply_add
from ptxsim.rounding import fma32, narrow, widen
from ptxsim.snippets import apply

RNG = np.random.default_rng(7)
N = 200
A32 = RNG.integers(0, 1 << 32, N, dtype=np.uint32)
A64 = RNG.integers(0, 1 << 64, N, dtype=np.uint64)

# Digits, the exponent of the smallest number, and the largest number.
FORMATS = {
    "f16": (11, -24, 65504.0),
    "bf16": (8, -133, float.fromhex("0x1.fep127")),
    "f32": (24, -149, float.fromhex("0x1.fffffep127")),
    "f64": (53, -1074, float.fromhex("0x1.fffffffffffffp1023")),
}


def exponent(value: Fraction, digits: int, low: int) -> int:
    """That of the last digit of a number."""
    guess = abs(value.numerator).bit_length() - value.denominator.bit_length() - digits
    while abs(value) >= Fraction(2) ** (guess + digits):
        guess += 1
    return max(guess, low)


def rounded(value: Fraction, kind: str, mode: str) -> float:
    """A fraction rounded to a format, by its definition."""
    digits, low, top = FORMATS[kind]
    if value == 0:
        return 0.0
    last = exponent(value, digits, low)
    scaled = value / Fraction(2) ** last
    below = math.floor(scaled)
    part = scaled - below
    up = {
        "rm": False,
        "rp": part > 0,
        "rz": value < 0 and part > 0,
        "rn": part > Fraction(1, 2) or (part == Fraction(1, 2) and below % 2 == 1),
    }[mode]
    result = (below + up) * Fraction(2) ** last
    if abs(result) > Fraction(top):
        is_infinite = {"rn": True, "rz": False, "rm": value < 0, "rp": value > 0}[mode]
        return math.copysign(math.inf if is_infinite else top, value)
    return float(result)


def same(a, b):
    """Whether floats have the same bits, or are NaN both."""
    bits = f"u{a.dtype.itemsize}"
    return (a.view(bits) == b.astype(a.dtype).view(bits)) | (np.isnan(a) & np.isnan(b))


@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_fma_is_rounded_once(kind):
    dtype = np.dtype(f"f{int(kind[1:]) // 8}")
    eps, tiny = np.finfo(dtype).eps, np.finfo(dtype).smallest_normal
    near = 1 + RNG.integers(0, 64, (3, N)) * eps  # cancellation, and sums halfway between numbers
    near[2] *= RNG.choice([-1, 1], N) * 2.0 ** RNG.integers(-60, 30, N)
    wide = RNG.standard_normal((3, N)) * 2.0 ** RNG.integers(-20, 20, (3, N))
    small = RNG.standard_normal((3, N)) * [
        [float(tiny) ** 0.5],
        [float(tiny) ** 0.5],
        [float(tiny)],
    ]
    a, b, c = np.concatenate([near, wide, small], axis=1).astype(dtype)
    got = (fma32 if kind == "f32" else multiply_add)(a, b, c)
    exact = [
        Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        for x, y, z in zip(a, b, c, strict=True)
    ]
    want = np.array([rounded(value, kind, "rn") for value in exact])
    assert (got == want).all()


def test_fma_of_special_numbers():
    inf, nan = np.inf, np.nan
    a, b, c, want = np.array(
        [
            [inf, 0, 1, nan],
            [inf, 1, -inf, nan],
            [2, 3, -inf, -inf],
            [-0.0, 1, -0.0, -0.0],
            [1e308, 10, -inf, -inf],
            [1e308, 10, 1, inf],
            [nan, 1, 1, nan],
        ]
    ).T
    with np.errstate(all="ignore"):
        assert same(multiply_add(a, b, c), want).all()
        single = [x.astype(np.float32) for x in (a, b, c)]
        assert same(fma32(*single)[:4], want[:4]).all()


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *((kind, mode) for kind in ("f16", "f32") for mode in ("rn", "rz", "rm", "rp")),
        ("bf16", "rn"),
        ("bf16", "rz"),
    ],
)
def test_numbers_are_rounded_as_asked(kind, mode):
    digits, low, top = FORMATS[kind]
    ties = np.ldexp(RNG.integers(0, 2**digits, N) * 2.0 + 1, RNG.integers(-30, -10, N))
    spread = RNG.standard_normal(N) * 2.0 ** RNG.integers(low - 3, 17, N)
    edges = [0.0, top, top * (1 + 2.0**-digits), -top * 1.5, 2.0**low, 2.0 ** (low - 1)]
    x = np.concatenate([spread, ties, -ties, np.nextafter(ties, np.inf), edges])
    with np.errstate(all="ignore"):
        got = widen(narrow(x, 0.0, kind, mode), kind)
    assert got.tolist() == [rounded(Fraction(value), kind, mode) for value in x]


EXACT = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "fma": lambda a, b, c: a * b + c,
    "rcp": lambda a: 1 / a,
}


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize(
    ("kind", "mode"), [("f32", "rz"), ("f32", "rm"), ("f32", "rp"), ("f16", "rn"), ("bf16", "rn")]
)
def test_arithmetic_is_rounded_once(name, kind, mode):
    span = 7 if kind == "f16" else 20
    spread = RNG.standard_normal((3, N)) * 2.0 ** RNG.integers(-span, span, (3, N))
    operands = [narrow(x, 0.0, kind) for x in spread][: EXACT[name].__code__.co_argcount]
    with np.errstate(all="ignore"):
        got = widen(float_function(name, kind, [mode])(*operands), kind)
    for n in range(N):
        values = [Fraction(float(widen(x, kind)[n])) for x in operands]
        if name in ("div", "rcp") and values[-1] == 0:
            continue
        assert got[n] == rounded(EXACT[name](*values), kind, mode)


SPECIAL = np.array(
    [0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 3e38, 0.3, -2.5, 2.5, 1e10], np.float32
)
X, Y = (grid.ravel() for grid in np.meshgrid(SPECIAL, SPECIAL))


@pytest.mark.parametrize("pick", [min, max])
def test_minimum_and_maximum(pick):
    def number(a: float, b: float) -> float:
        if math.isnan(a) or math.isnan(b):
            return b if math.isnan(a) else a
        return pick(a, b, key=lambda v: (v, math.copysign(1, v)))

    name = pick.__name__
    want = np.array([number(a, b) for a, b in zip(X.tolist(), Y.tolist(), strict=True)], np.float32)
    assert same(apply(name + ".f32 {0}, {1}, {2};", "f32", X, Y), want).all()
    want[np.isnan(X) | np.isnan(Y)] = np.nan
    assert same(apply(name + ".NaN.f32 {0}, {1}, {2};", "f32", X, Y), want).all()


@pytest.mark.parametrize(
    ("name", "relation"),
    [
        ("lt", lambda a, b: a < b),
        ("ge", lambda a, b: a >= b),
        ("neu", lambda a, b: a != b),
        ("ltu", lambda a, b: not a >= b),
        ("num", lambda a, b: a == a and b == b),
    ],
)
def test_comparison(name, relation):
    text = f"setp.{name}.f32 %p1, {{1}}, {{2}}; selp.b32 {{0}}, 1, 0, %p1;"
    want = [int(relation(a, b)) for a, b in zip(X.tolist(), Y.tolist(), strict=True)]
    assert apply(text, "u32", X, Y).tolist() == want


def test_signs_are_copied():
    got = apply("copysign.f32 {0}, {1}, {2};", "f32", X, Y)
    finite = ~np.isnan(X) & ~np.isnan(Y)
    want = [math.copysign(b, a) for a, b in zip(X.tolist(), Y.tolist(), strict=True)]
    assert same(got[finite], np.array(want)[finite]).all()


FLOATS = [
    ("add.ftz.f32 {0}, {1}, {2};", ([1e-40, 1.2e-38], [1e-40, -1.18e-38]), [0, 0]),
    ("mul.ftz.f32 {0}, {1}, {2};", ([1e-20], [1e-20]), [0]),
    ("add.sat.f32 {0}, {1}, {2};", ([2, -2, 0.5, np.nan], [0, 0, 0, 1]), [1, 0, 0.5, 0]),
    ("ex2.approx.ftz.f32 {0}, {1};", ([-140, 200, -np.inf, 3],), [0, np.inf, 0, 8]),
    ("ex2.approx.f32 {0}, {1};", ([-140],), [2.0**-140]),
    ("lg2.approx.f32 {0}, {1};", ([8, 0, -1],), [3, -np.inf, np.nan]),
    ("rsqrt.approx.f32 {0}, {1};", ([4, 0, np.inf],), [0.5, np.inf, 0]),
    ("rcp.rn.f32 {0}, {1};", ([4, 0, -np.inf],), [0.25, np.inf, -0.0]),
    ("sqrt.approx.f32 {0}, {1};", ([4, -1],), [2, np.nan]),
    ("sin.approx.f32 {0}, {1};", ([0, 1],), [0, 0.8414709848078965]),
    ("cos.approx.f32 {0}, {1};", ([0, 1],), [1, 0.5403023058681398]),
    ("tanh.approx.f32 {0}, {1};", ([0, 1, 50],), [0, 0.7615941559557649, 1]),
    ("div.full.f32 {0}, {1}, {2};", ([1, 1], [3, 0]), [1 / 3, np.inf]),
    ("div.approx.f32 {0}, {1}, {2};", ([2], [3]), [2 / 3]),
    ("neg.f32 {0}, {1};", ([0, 1],), [-0.0, -1]),
    ("abs.f32 {0}, {1};", ([-0.0, -1],), [0, 1]),
    ("cvt.rpi.f32.f32 {0}, {1};", ([0.1, -0.1, -1.5],), [1, -0.0, -1]),
    ("cvt.rni.f32.f32 {0}, {1};", ([0.5, 1.5, -2.5],), [0, 2, -2]),
]


@pytest.mark.parametrize("case", FLOATS, ids=lambda case: case[0].split()[0])
def test_float_instruction(case):
    text, inputs, want = case
    got = apply(text, "f32", *(np.array(x, np.float32) for x in inputs))
    assert same(got, np.array(want, np.float32)).all()


def test_floats_become_integers():
    x = np.array([0.5, 1.5, -1.5, 2.7, 3e9, -3e9, np.inf, np.nan], np.float32)
    top, low = 2**31 - 1, -(2**31)
    assert apply("cvt.rni.s32.f32 {0}, {1};", "s32", x).tolist() == [0, 2, -2, 3, top, low, top, 0]
    assert apply("cvt.rzi.u64.f32 {0}, {1};", "u64", x[2:6]).tolist() == [0, 2, 3 * 10**9, 0]
    nan = np.array([np.nan])
    assert apply("cvt.rzi.s64.f64 {0}, {1};", "s64", nan).tolist() == [-(2**63)]


def test_integers_become_floats():
    got = apply("cvt.rz.f32.u64 {0}, {1};", "f32", A64)
    assert got.tolist() == [rounded(Fraction(int(value)), "f32", "rz") for value in A64]
    got = apply("cvt.rn.f64.s32 {0}, {1};", "f64", A32)
    assert got.tolist() == [float(value) for value in A32.view(np.int32)]


def test_short_floats():
    x, y = RNG.standard_normal((2, N)).astype(np.float16)
    got = apply("add.rn.f16 {0}, {1}, {2};", "f16", x, y)
    want = [
        rounded(Fraction(float(a)) + Fraction(float(b)), "f16", "rn")
        for a, b in zip(x, y, strict=True)
    ]
    assert got.tolist() == want
    single = RNG.standard_normal(N).astype(np.float32)
    bits = apply("cvt.rn.bf16.f32 {0}, {1};", "b16", single)
    want = [rounded(Fraction(float(value)), "bf16", "rn") for value in single]
    assert widen(bits, "bf16").tolist() == want


def test_packed_floats():
    x, y = RNG.standard_normal((2, N, 2)).astype(np.float16)
    packed = [np.ascontiguousarray(v).view(np.uint32)[:, 0] for v in (x, y)]
    got = apply("mul.rn.f16x2 {0}, {1}, {2};", "b32", *packed).view(np.float16).reshape(-1, 2)
    want = [
        rounded(Fraction(float(a)) * Fraction(float(b)), "f16", "rn")
        for a, b in zip(x.ravel(), y.ravel(), strict=True)
    ]
    assert got.ravel().tolist() == want
