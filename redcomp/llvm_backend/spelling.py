"""How LLVM's text spells types and constants; the rows of operations say how it spells these."""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping

import numpy as np

from redcomp.ir import FLOATS, INTEGER_OF_WIDTH, NUMPY_DTYPES, Value, entries_of

LLVM_TYPES: Mapping[str, str] = {
    "f32": "float",
    "f64": "double",
    "i1": "i1",
    "i32": "i32",
    "i64": "i64",
    "index": "i64",
}


@functools.cache
def table_text(bits: tuple[int, ...], integer: str, dtype: str, lanes: int) -> str:
    """Numbers, given by their bits, as a vector of so many lanes."""
    scalar = LLVM_TYPES[dtype]
    entries = np.array(bits, NUMPY_DTYPES[integer]).view(NUMPY_DTYPES[dtype])
    texts = [f"{scalar} {float_literal(float(entry))}" for entry in entries]
    return f"<{', '.join(texts * (lanes // len(texts)))}>"


def array_text(value: Value) -> str:
    """The numbers of `constants`, as an array with its type."""
    scalar = LLVM_TYPES[value.dtype]
    texts = [f"{scalar} {float_literal(entry)}" for entry in entries_of(value).tolist()]
    return f"[{value.dim} x {scalar}] [{', '.join(texts)}]"


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
