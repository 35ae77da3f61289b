"""How LLVM's text spells types, operations and constants."""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping

import numpy as np

from redcomp.ir import FLOATS, INTEGER_OF_WIDTH, NUMPY_DTYPES, Value

LLVM_TYPES: Mapping[str, str] = {
    "f32": "float",
    "f64": "double",
    "i1": "i1",
    "i32": "i32",
    "i64": "i64",
    "index": "i64",
}

# (instruction on floats, instruction on integers)
INSTRUCTIONS: Mapping[str, tuple[str, str]] = {
    "add": ("fadd", "add"),
    "subtract": ("fsub", "sub"),
    "multiply": ("fmul", "mul"),
    "divide": ("fdiv", ""),
    "negate": ("fneg", ""),
    "and": ("", "and"),
    "or": ("", "or"),
    "xor": ("", "xor"),
    "shift_left": ("", "shl"),
    "shift_right": ("", "ashr"),
    "shift_right_logical": ("", "lshr"),
}

# Intrinsics of float operands, overloaded by the operands' type.
INTRINSICS: Mapping[str, str] = {
    "fma": "llvm.fma",
    "sqrt": "llvm.sqrt",
    "abs": "llvm.fabs",
    "floor": "llvm.floor",
    "round_even": "llvm.roundeven",
}

CONVERSIONS: Mapping[tuple[str, str], str] = {
    ("f32", "f64"): "fpext",
    ("f64", "f32"): "fptrunc",
    ("i32", "f32"): "sitofp",
    ("i32", "f64"): "sitofp",
    ("i64", "f32"): "sitofp",
    ("i64", "f64"): "sitofp",
    ("i1", "f32"): "uitofp",
    ("i1", "f64"): "uitofp",
    ("f32", "i32"): "fptosi",
    ("f64", "i32"): "fptosi",
    ("f64", "i64"): "fptosi",
    ("f32", "i64"): "fptosi",
    ("i32", "i64"): "sext",
    ("i64", "i32"): "trunc",
    ("index", "i32"): "trunc",
    ("i32", "index"): "sext",
    ("i64", "index"): "bitcast",  # of the same type, which does nothing
}

BASE_PRIMITIVES = (
    frozenset(INSTRUCTIONS)
    | {"sqrt", "abs", "compare", "select", "bitcast", "convert"}
)  # fmt: skip


@functools.cache
def table_text(bits: tuple[int, ...], integer: str, dtype: str, lanes: int) -> str:
    """Numbers, given by their bits, as a vector of so many lanes."""
    scalar = LLVM_TYPES[dtype]
    entries = np.array(bits, NUMPY_DTYPES[integer]).view(NUMPY_DTYPES[dtype])
    texts = [f"{scalar} {float_literal(float(entry))}" for entry in entries]
    return f"<{', '.join(texts * (lanes // len(texts)))}>"


@functools.cache
def vector_type(lanes: int, dtype: str) -> str:
    """LLVM's name of a vector, or of a scalar for one lane."""
    scalar = LLVM_TYPES[dtype]
    return f"<{lanes} x {scalar}>" if lanes > 1 else scalar


def float_of_width(dtype: str) -> str:
    """The float of the same width as a float or an integer."""
    return next((f for f, i in INTEGER_OF_WIDTH.items() if i == dtype), dtype)


def literal(value: Value) -> str:
    """A constant in LLVM's syntax."""
    number = value["value"]
    if value.dtype in FLOATS:
        return float_literal(number)
    if value.dtype == "i1":
        return "true" if number else "false"
    return str(number)


def float_literal(number: float) -> str:
    """The bits of a double, which is exact for both dtypes."""
    return f"0x{struct.unpack('>Q', struct.pack('>d', number))[0]:016X}"
