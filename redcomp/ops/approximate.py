"""Approximate instructions of GPUs, and the fast forms of elementary functions that rest on them.

The instructions exist for float32 only.  They take subnormal numbers for zeros, and give zeros
instead of subnormal numbers.  For NumPy they are exact but for that; what NVIDIA documents of their
errors (PTX ISA, section "Floating Point Instructions"; CUDA Programming Guide, "Intrinsic
Functions") is `ERRORS`.  The errors of the fast forms are in docs/fast-math.md, which
scripts/measure_fast_math.py writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from redcomp.ir import Value, compare, elementwise, fma, select
from redcomp.ops.expansions.powers import signed_power
from redcomp.ops.expansions.shared import LOG2_E, format_of, magnitude, nearest, polynomial
from redcomp.ops.expansions.trigonometric import HALF_PI_PARTS
from redcomp.ops.table import Array, Operation, register

LN2 = 0.6931471805599453
TURNS = 0.15915494309189535

# (tanh(x) - x) / x**3 in x**2 on |x| <= 0.55: error 2^-24.7.
TANH_JOINT = 0.55
TANH = (-0.33332955837249756, 0.1332090198993683, -0.05268148332834244, 0.016453512012958527)


@dataclass(frozen=True, slots=True)
class Error:
    """How far a result is from the exact one: relative * |exact|, or `absolute` if that is more."""

    relative: float = 0.0
    absolute: float = 0.0


ERRORS: Mapping[str, Error] = {
    "exp2_approx": Error(relative=2.0**-22),
    # Absolute where the operand is in [1/2, 2], and so the result in [-1, 1]; relative elsewhere.
    "log2_approx": Error(relative=2.0**-22, absolute=2.0**-22),
    "reciprocal_approx": Error(relative=2.0**-23),
    "sqrt_approx": Error(relative=2.0**-23),
    "rsqrt_approx": Error(relative=2.0**-22.9),
    # In [-pi, pi].
    "sin_approx": Error(absolute=2.0**-21.41),
    "cos_approx": Error(absolute=2.0**-21.19),
}


def _flushed(x: Array) -> Array:
    """Subnormal numbers as zeros of the same sign."""
    return np.where(np.abs(x) < np.finfo(np.float32).tiny, np.copysign(np.float32(0), x), x)


def _instruction(name: str, function: Callable[[Array], Array], doc: str) -> Operation:
    def evaluate(x: Array) -> Array:
        with np.errstate(all="ignore"):
            exact = function(_flushed(x).astype(np.float64))
            return _flushed(np.asarray(exact.astype(np.float32)))

    return Operation(name, 1, doc, evaluate, dtypes=("f32",), needs="native")


register(
    _instruction("exp2_approx", np.exp2, "about 2**a"),
    _instruction("log2_approx", np.log2, "about the logarithm of a to base 2"),
    _instruction("reciprocal_approx", np.reciprocal, "about 1 / a"),
    _instruction("sqrt_approx", np.sqrt, "about the square root of a"),
    _instruction("rsqrt_approx", lambda x: 1 / np.sqrt(x), "about 1 / sqrt(a)"),
    _instruction("sin_approx", np.sin, "about the sine of a in [-pi, pi]"),
    _instruction("cos_approx", np.cos, "about the cosine of a in [-pi, pi]"),
)


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


def powf(x: Value, y: Value) -> Value:
    """x**y, whose relative error grows with |y log2(x)|; the special values of C's pow."""
    a = magnitude(x)
    power = select(compare("oeq", a, 1.0), 1.0, exp2(y * log2(a)))
    return select(compare("oeq", y, 0.0), 1.0, signed_power(x, y, power))


def sigmoid(x: Value) -> Value:
    """1 / (1 + exp(-x))."""
    return 1.0 / (exp(-x) + 1.0)


def tanh(x: Value) -> Value:
    """1 - 2 / (exp(2 x) + 1), a polynomial near 0, where that cancels."""
    z = x * x
    small = fma(x * z, polynomial(z, TANH), x)
    large = 1.0 - 2.0 / (exp2(x * (2.0 * LOG2_E[x.dtype][0])) + 1.0)
    return select(compare("olt", magnitude(x), TANH_JOINT), small, large)


def _reduced(x: Value) -> Value:
    """x less the nearest multiple of 2 pi, which is subtracted in two parts."""
    n, _ = nearest(x, TURNS)
    first, second, _ = HALF_PI_PARTS[x.dtype]
    return fma(n, -4.0 * second, fma(n, -4.0 * first, x))


def sin(x: Value) -> Value:
    """The sine."""
    return elementwise("sin_approx", _reduced(x))


def cos(x: Value) -> Value:
    """The cosine."""
    return elementwise("cos_approx", _reduced(x))
