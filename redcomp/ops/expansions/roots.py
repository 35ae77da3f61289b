"""Roots from estimates, which are refined in fused multiply-adds."""

from __future__ import annotations

from redcomp.ir import Value, compare, elementwise, fma, select

# Each step doubles the 14 bits that are right; the last one is rounded as 1 / sqrt(x) is.
_STEPS = {"f32": 1, "f64": 2}


def rsqrt_by_estimate(x: Value) -> Value:
    """1 / sqrt(x), and 0 where x is 0, without the processor's divider.

    A step multiplies r by 1 + (1 - x r**2) / 2; of 0 and infinity that is NaN, and the estimate
    itself is right.
    """
    estimate = r = elementwise("rsqrt_estimate", x)
    for _ in range(_STEPS[x.dtype]):
        error = fma(-(x * r), r, 1.0)
        r = fma(0.5 * r, error, r)
    return select(compare("oeq", x, 0.0), 0.0, select(compare("oeq", r, r), r, estimate))
