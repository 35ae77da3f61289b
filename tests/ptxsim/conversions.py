"""cvt: between types."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ptxsim.floats import clamp
from ptxsim.rounding import MODES, flush, narrow, two_sum, widen
from ptxsim.scalars import FLOATS, TYPES, Array, integer

_TO_INTEGRAL = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}
_LARGEST = {"f16": 65504.0, "bf16": 3.3895313892515355e38}


def convert(x: Array, source: str, target: str, modifiers: Sequence[str] = ()) -> Array:
    """An array of one type as another."""
    if source in FLOATS:
        return _from_float(x, source, target, modifiers)
    if target in FLOATS:
        return _integer_to_float(x, target, modifiers)
    if "sat" in modifiers:
        own, wanted = np.iinfo(TYPES[source]), np.iinfo(TYPES[target])
        low, high = max(own.min, wanted.min), min(own.max, wanted.max)
        x = np.clip(x, TYPES[source].type(low), TYPES[source].type(high))
    return x.astype(TYPES[target])


def _integer_to_float(x: Array, target: str, modifiers: Sequence[str]) -> Array:
    dtype = x.dtype
    mode = next((m for m in modifiers if m in MODES), "rn")
    if dtype.itemsize < 8:
        return narrow(x.astype(np.float64), 0.0, target, mode)
    if mode == "rn" and target in ("f32", "f64"):
        return x.astype(TYPES[target])
    high = (x >> dtype.type(32)).astype(np.float64) * 2.0**32
    low = (x & dtype.type(0xFFFFFFFF)).astype(np.float64)
    total, error = two_sum(high, low)
    return narrow(total, error, target, mode)


def _from_float(x: Array, source: str, target: str, modifiers: Sequence[str]) -> Array:
    value = widen(flush(x) if "ftz" in modifiers and source == "f32" else x, source)
    mode = next((m for m in modifiers if m in (*MODES, *_TO_INTEGRAL, "rna")), "rn")
    if mode in _TO_INTEGRAL:
        value, mode = _TO_INTEGRAL[mode](value), "rn"
    if target not in FLOATS and target != "tf32":
        return _float_to_integer(value, source, target)
    if "sat" in modifiers or "relu" in modifiers:
        value = clamp(value, modifiers)
    if "satfinite" in modifiers and target in _LARGEST:
        top = _LARGEST[target]
        value = np.where(np.isnan(value), value, np.clip(value, -top, top))
    result = narrow(value, 0.0, target, mode)
    return flush(result) if "ftz" in modifiers and target == "f32" else result


def _float_to_integer(value: Array, source: str, target: str) -> Array:
    """Beyond the type's range: its ends.  NaN: 0, or, where 64 bits are involved, the top bit."""
    dtype = TYPES[target]
    info = np.iinfo(dtype)
    end = 2.0 ** (8 * dtype.itemsize - (dtype.kind == "i"))
    fits = (value >= info.min) & (value < end)
    result = np.where(fits, value, 0.0).astype(dtype)
    result = np.where(value < info.min, dtype.type(info.min), result)
    result = np.where(value >= end, dtype.type(info.max), result)
    has_top_bit = source == "f64" or dtype.itemsize == 8
    not_a_number = integer(1 << (8 * dtype.itemsize - 1) if has_top_bit else 0, target)
    return np.where(np.isnan(value), not_a_number, result)
