"""Approximate instructions: of GPUs, on which `expansions.fast` rests, and an estimate of hosts.

Those of GPUs exist for float32 only.  They take subnormal numbers for zeros, and give zeros instead
of subnormal numbers.  For NumPy all are exact but for that; their `error` is what NVIDIA documents
(PTX ISA, section "Floating Point Instructions"; CUDA Programming Guide, "Intrinsic Functions"), and
Intel (Software Developer's Manual, VRSQRT14PS).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from redcomp.ops.table import Array, Error, Operation, register


def _flushed(x: Array) -> Array:
    """Subnormal numbers as zeros of the same sign."""
    return np.where(np.abs(x) < np.finfo(np.float32).tiny, np.copysign(np.float32(0), x), x)


def _instruction(
    name: str, function: Callable[[Array], Array], doc: str, error: Error
) -> Operation:
    def evaluate(x: Array) -> Array:
        with np.errstate(all="ignore"):
            exact = function(_flushed(x).astype(np.float64))
            return _flushed(np.asarray(exact.astype(np.float32)))

    return Operation(
        name, 1, doc, evaluate, dtypes=("f32",), error=error, needs="native", unit="special"
    )


register(
    _instruction("exp2_approx", np.exp2, "about 2**a", Error(relative=2.0**-22)),
    _instruction(
        "log2_approx",
        np.log2,
        "about the logarithm of a to base 2",
        # Absolute where the operand is in [1/2, 2], and so the result in [-1, 1]; relative
        # elsewhere.
        Error(relative=2.0**-22, absolute=2.0**-22),
    ),
    _instruction("reciprocal_approx", np.reciprocal, "about 1 / a", Error(relative=2.0**-23)),
    _instruction("sqrt_approx", np.sqrt, "about the square root of a", Error(relative=2.0**-23)),
    _instruction(
        "rsqrt_approx", lambda x: 1 / np.sqrt(x), "about 1 / sqrt(a)", Error(relative=2.0**-22.9)
    ),
    _instruction(
        "sin_approx", np.sin, "about the sine of a in [-pi, pi]", Error(absolute=2.0**-21.41)
    ),
    _instruction(
        "cos_approx", np.cos, "about the cosine of a in [-pi, pi]", Error(absolute=2.0**-21.19)
    ),
    Operation(
        "rsqrt_estimate",
        1,
        "1 / sqrt(a) to 14 bits, of which accurate forms are made",
        lambda x: 1 / np.sqrt(x),
        error=Error(relative=2.0**-14),
        needs="native",
        unit="special",
    ),
)
