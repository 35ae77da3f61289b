"""The types of PTX as those of NumPy, state spaces, and literals."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
DType: TypeAlias = "np.dtype[Any]"

UNSIGNED: dict[int, DType] = {
    1: np.dtype(np.uint8),
    2: np.dtype(np.uint16),
    4: np.dtype(np.uint32),
    8: np.dtype(np.uint64),
    16: np.dtype("V16"),
}
_INTEGERS = {f"{kind}{8 * size}": size for kind in "us" for size in (1, 2, 4, 8)}
_STORED_AS = {
    **{name: f"{name[0]}{size}".replace("s", "i") for name, size in _INTEGERS.items()},
    **{f"b{8 * size}": f"u{size}" for size in (1, 2, 4, 8)},
    "b128": "V16",
    "pred": "?",
    "f16": "f2",
    "bf16": "u2",
    "f32": "f4",
    "f64": "f8",
    "tf32": "u4",
    "f16x2": "u4",
    "bf16x2": "u4",
    "u16x2": "u4",
    "s16x2": "u4",
    "f32x2": "u8",
}
TYPES: dict[str, DType] = {name: np.dtype(code) for name, code in _STORED_AS.items()}

# Packed types and what they are made of.
PACKED = {"f16x2": "f16", "bf16x2": "bf16", "u16x2": "u16", "s16x2": "s16", "f32x2": "f32"}
FLOATS = frozenset({"f16", "bf16", "f32", "f64", "f16x2", "bf16x2", "f32x2"})

SPACES = ("param", "global", "shared", "local", "const")
# A generic address is the window of its state space plus the address there; global memory and
# constants have none.
WINDOW = {"shared": 1 << 44, "local": 2 << 44, "param": 3 << 44}
WINDOW_BITS = 44
GLOBAL_START = 4 << 44

# What registers hold that nothing has written: a NaN, or a wild integer.
POISON = {1: 0xCD, 2: 0xFFCD, 4: 0xFFFFCDCD, 8: 0xFFFFFFFFFFFFCDCD}


def round_up(value: int, multiple: int) -> int:
    """The next multiple of a positive number."""
    return -(-value // multiple) * multiple


def integer(value: int, kind: str) -> Any:
    """An integer as a NumPy scalar of a type, wrapped around to its width."""
    dtype = TYPES[kind]
    if dtype.kind == "b":
        return dtype.type(value)
    if dtype.kind == "f" and dtype.itemsize > 2:
        return dtype.type(value)
    if dtype.kind == "V":
        return np.frombuffer(int(value % (1 << 128)).to_bytes(16, "little"), dtype)[0]
    wrapped = value & ((1 << 8 * dtype.itemsize) - 1)
    return np.array(wrapped, UNSIGNED[dtype.itemsize]).view(dtype)[()]


def float_bits(bits: int, size: int, kind: str) -> Any:
    """A literal such as 0f3F800000, of 4 or 8 bytes, as a NumPy scalar of a type."""
    dtype = TYPES[kind]
    if dtype.kind == "f":
        source = np.float32 if size == 4 else np.float64
        return dtype.type(np.array(bits, UNSIGNED[size]).view(source))
    return integer(bits, kind)
