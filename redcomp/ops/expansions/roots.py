"""Roots from estimates of 1 / sqrt(x), which are refined in fused multiply-adds.

A step multiplies what estimates by 1 + (1 - x r**2) / 2, and doubles the digits that are right.  It
gives NaN where x is 0 or infinite.
"""

from __future__ import annotations

from redcomp.ir import Value, elementwise, fma

# An estimate has 14 bits.
_STEPS = {"f32": 1, "f64": 2}


def rsqrt_by_estimate(x: Value) -> Value:
    """1 / sqrt(x), and 0 where x is 0; the last step is rounded as 1 / sqrt(x) is."""
    r = elementwise("rsqrt_estimate", x)
    for _ in range(_STEPS[x.dtype]):
        r = fma(r, _excess(x * r, 0.5 * r), r)
    return elementwise("inverse_root_or_limit", r, x)


def sqrt_by_estimate(x: Value) -> Value:
    """sqrt(x), the nearest float to it, as scripts/prove_roots.py shows.

    Below 2^-102 (2^-969) the last remainder is not normal: there it errs by up to 1.1 (2.5) units.
    """
    estimate = elementwise("rsqrt_estimate", x)
    root, half = x * estimate, 0.5 * estimate
    for _ in range(_STEPS[x.dtype]):
        excess = _excess(root, half)
        root, half = fma(root, excess, root), fma(half, excess, half)
    root = fma(fma(-root, root, x), half, root)
    return elementwise("root_or_limit", root, x)


def _excess(root: Value, half: Value) -> Value:
    """(1 - x r**2) / 2, of x r and r / 2."""
    return fma(-root, half, 0.5)
