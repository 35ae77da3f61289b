"""Floating-point instructions as functions of arrays.

add, sub, mul, div, fma, sqrt and rcp are rounded once, in the mode asked for.  What is .approx or
.full is computed in float64 and rounded once: more accurate than hardware.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from ptxsim import rounding
from ptxsim.errors import ExecutionError
from ptxsim.fused import multiply_add
from ptxsim.rounding import MODES, flush, narrow, two_product, two_sum, widen
from ptxsim.scalars import PACKED, TYPES, UNSIGNED, Array

Elementwise: TypeAlias = Callable[..., Any]

_NEAREST: dict[str, Elementwise] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "sqrt": np.sqrt,
    "rcp": lambda x: x.dtype.type(1) / x,
}
# float64 result and error; fma is for shorter types, whose products are exact.
_EXACT: dict[str, Callable[..., tuple[Array, Array]]] = {
    "add": two_sum,
    "sub": lambda x, y: two_sum(x, -y),
    "mul": two_product,
    "fma": lambda x, y, z: two_sum(x * y, z),
    "div": rounding.quotient,
    "sqrt": rounding.square_root,
    "rcp": lambda x: rounding.quotient(np.ones_like(x), x),
}
APPROXIMATE: dict[str, Elementwise] = {
    "ex2": np.exp2,
    "lg2": np.log2,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "rcp": lambda x: 1 / x,
}


def float_function(name: str, kind: str, modifiers: Sequence[str]) -> Elementwise:
    """What an instruction does to arrays of a type, its modifiers included."""
    base = PACKED.get(kind, kind)
    function = _rounded(name, base, modifiers)
    if ("sat" in modifiers or "relu" in modifiers) and name not in ("min", "max"):
        function = _clamped(function, base, modifiers)
    if "ftz" in modifiers and base in ("f32", "f16"):
        function = _flushed(function)
    return per_element(function, base, kind) if kind in PACKED else function


def _rounded(name: str, kind: str, modifiers: Sequence[str]) -> Elementwise:
    if name in ("min", "max"):
        return min_max(name, kind, "NaN" in modifiers, "xorsign" in modifiers)
    if name in ("neg", "abs"):
        return _of_sign(name, kind)
    if name in APPROXIMATE and (name not in _NEAREST or "approx" in modifiers):
        return _approximate(name, kind, modifiers)
    mode = next((m for m in modifiers if m in MODES), "rn")
    if kind in ("f32", "f64") and mode == "rn":
        return _NEAREST.get(name) or (rounding.fma32 if kind == "f32" else multiply_add)
    if name == "fma" and kind == "f64":
        raise ExecutionError("unsupported", f"fma.{mode}.f64")
    exact = _EXACT[name]

    def run(*operands: Array) -> Array:
        total, error = exact(*(widen(operand, kind) for operand in operands))
        return narrow(total, error, kind, mode)

    return run


def _approximate(name: str, kind: str, modifiers: Sequence[str]) -> Elementwise:
    function = APPROXIMATE[name]
    if kind == "f64" and "ftz" in modifiers:  # only the upper half of the result is computed
        upper = np.uint64(0xFFFFFFFF00000000)
        return lambda x: (function(x).view(np.uint64) & upper).view(np.float64)
    return lambda x: narrow(function(widen(x, kind)), 0.0, kind)


def _of_sign(name: str, kind: str) -> Elementwise:
    dtype = TYPES[kind]
    bits, sign = UNSIGNED[dtype.itemsize], rounding.sign_mask(dtype.itemsize)
    if name == "neg":
        return lambda x: (x.view(bits) ^ sign).view(dtype)
    return lambda x: (x.view(bits) & ~sign).view(dtype)


def _clamped(function: Elementwise, kind: str, modifiers: Sequence[str]) -> Elementwise:
    return lambda *x: narrow(clamp(widen(function(*x), kind), modifiers), 0.0, kind)


def _flushed(function: Elementwise) -> Elementwise:
    return lambda *x: flush(function(*map(flush, x)))


def clamp(value: Array, modifiers: Sequence[str]) -> Array:
    """.sat: to [0, 1], NaN to 0.  .relu: to 0 at least."""
    if "sat" in modifiers:
        return np.asarray(np.fmin(np.fmax(value, 0.0), 1.0) + 0.0)
    return np.where(value <= 0, 0.0, value)


def per_element(function: Elementwise, part: str, whole: str) -> Elementwise:
    """A function applied to each element of packed registers."""

    def run(*operands: Array) -> Array:
        parts = [
            np.ascontiguousarray(np.atleast_1d(x)).view(TYPES[part]).reshape(np.size(x), -1)
            for x in operands
        ]
        return np.ascontiguousarray(function(*parts)).view(TYPES[whole]).reshape(-1)

    return run


def min_max(name: str, kind: str, propagates_nan: bool, xors_signs: bool) -> Elementwise:
    """minimumNumber and maximumNumber of IEEE 754-2019, or, with .NaN, minimum and maximum.

    The function takes two arrays or three.  -0 is below +0.
    """
    pick = np.fmin if name == "min" else np.fmax

    def of_two(x: Array, y: Array) -> Array:
        bits, sign = UNSIGNED[x.dtype.itemsize], rounding.sign_mask(x.dtype.itemsize)
        signs = (x.view(bits) ^ y.view(bits)) & sign
        if xors_signs:
            x, y = np.abs(x), np.abs(y)
        joined = x.view(bits) | y.view(bits) if name == "min" else x.view(bits) & y.view(bits)
        result = np.where(x == y, joined.view(x.dtype), pick(x, y))
        if propagates_nan:
            result = np.where(np.isnan(x) | np.isnan(y), x.dtype.type(np.nan), result)
        return (result.view(bits) | signs).view(x.dtype) if xors_signs else result

    def run(first: Array, *others: Array) -> Array:
        for other in others:
            if kind == "bf16":
                x, y = (widen(v, kind).astype(np.float32) for v in (first, other))
                first = (of_two(x, y).view(np.uint32) >> np.uint32(16)).astype(np.uint16)
            else:
                first = of_two(np.asarray(first), np.asarray(other))
        return first

    return run
