"""Prove that square roots made of estimates are the nearest floats; see `ops/expansions/roots.py`.

    python scripts/prove_roots.py

An estimate may be any float within 2^-14 of 1 / sqrt(x), relatively, whatever the processor.  Of x
in [1, 4), which stands for all numbers of its significand:

1. Bounds on the errors of the root and of half its inverse are followed through the steps, each
   rounding taken to be as bad as it can be.
2. The last step adds to a root g the remainder d = x - g**2 times half an inverse root h.  Any g
   and h within the bounds must give the float nearest to the root.  The last step errs by less than
   some units of 2^(-2 p), p being the bits of a significand.  So x matters only if its root is as
   close as that to the middle m of two floats: x - m**2 is then a few units of m**2, and such m are
   the square roots modulo a power of two of small odd numbers.  In float32 all x are tried anyway.
3. What is left are a few x, for which bounds do not tell: they are computed from estimates, in
   float32 from all of them.  In float64 that is no proof: 10 significands are left.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

ESTIMATE = Fraction(1, 2**14)
SAMPLES = 20_000


@dataclass(frozen=True, slots=True)
class Format:
    """Bits of a significand, and how many steps are taken."""

    name: str
    bits: int
    steps: int

    @property
    def unit(self) -> Fraction:
        """The largest relative error of rounding."""
        return Fraction(1, 2**self.bits)


FORMATS = (Format("float32", 24, 1), Format("float64", 53, 2))


@dataclass(frozen=True, slots=True)
class Bounds:
    """Relative errors before the last step: of the root before it is rounded, and of half of its
    inverse."""

    root: Fraction
    half: Fraction


def bounds(form: Format) -> Bounds:
    """Of the root sqrt(x) (1 + a) and the half (1 + b) / (2 sqrt(x)), as |a|, |b| <= most.

    A step multiplies both by 1 + r, r = -(a + b + a b) / 2; so a becomes, but for roundings,
    (a - b) / 2 - a b / 2 - a (a + b + a b) / 2, and a - b is multiplied by 1 + r.
    """
    u = form.unit
    apart = u * (1 + ESTIMATE)
    most = ESTIMATE + apart
    for _ in range(form.steps):
        exact = apart / 2 + 3 * most**2 / 2 + most**3 / 2 + 2 * u * most
        apart = apart * (1 + 2 * most) + 2 * u * (1 + exact)
        most = exact + u * (1 + exact)
    return Bounds(exact, most)


def rounded(x: Fraction, bits: int) -> Fraction:
    """The nearest number of so many bits, ties to even."""
    exponent = abs(x.numerator).bit_length() - x.denominator.bit_length()
    if abs(x) < Fraction(2) ** exponent:
        exponent -= 1
    ulp = Fraction(2) ** (exponent - bits + 1)
    return round(x / ulp) * ulp


def root(x: Fraction, bits: int) -> Fraction:
    """sqrt(x) of x in [1, 4), rounded to the nearest."""
    scaled = math.isqrt(int(x * 4 ** (bits + 3)))
    return rounded(Fraction(2 * scaled + 1, 2 ** (bits + 4)), bits)  # it is not in the middle


def by_estimate(x: Fraction, estimate: Fraction, form: Format) -> Fraction:
    """What the expansion computes."""
    p = form.bits
    g, h = rounded(x * estimate, p), estimate / 2
    for _ in range(form.steps):
        r = rounded(Fraction(1, 2) - g * h, p)
        g, h = rounded(g + g * r, p), rounded(h + h * r, p)
    return rounded(g + rounded(x - g * g, p) * h, p)


def near_middles(form: Format, most: int) -> Iterator[Fraction]:
    """All x in [1, 4) with x - m**2 of at most so many units of m**2, for a middle m."""
    p = form.bits
    for even in (0, 1):  # x in [1, 2), x in [2, 4)
        modulus = p + 1 + even
        low, high = 2 ** (2 * p + even), 2 ** (2 * p + 1 + even)
        for rest in range(-most, most + 1):
            for m in roots_modulo(-rest, modulus):
                if low < m * m < high:
                    yield Fraction(m * m + rest, 4**p)


def roots_modulo(square: int, power: int) -> list[int]:
    """The odd numbers below 2**power of this square modulo 2**power, which is odd."""
    if square % 8 != 1:
        return []
    found = 1
    for bit in range(3, power):
        if (found * found - square) >> bit & 1:
            found += 1 << (bit - 1)
    modulus = 1 << power
    half = modulus >> 1
    return sorted({r % modulus for r in (found, -found, found + half, half - found)})


def is_proved(x: Fraction, form: Format, within: Bounds) -> bool:
    """Whether the last step is right for all roots and halves within the bounds."""
    p, right = form.bits, root(x, form.bits)
    precise = Fraction(math.isqrt(int(x * 4 ** (2 * p))), 4**p)  # to 2**(-2 p)
    error = within.root + form.unit**2 * 8
    least, most = (rounded(precise * (1 + s * error), p) for s in (-1, 1))
    ulp, g = 2 * form.unit, least
    while g <= most:
        remainder = rounded(x - g * g, p)
        for sign in (-1, 1):
            half = (1 + sign * (within.half + form.unit**2 * 8)) / (2 * precise)
            if rounded(g + remainder * half, p) != right:
                return False
        g += ulp
    return True


def unproved_float32(form: Format, within: Bounds) -> list[Fraction]:
    """All x in [1, 4) are tried, in float64."""
    found: list[Fraction] = []
    for low, high in ((1.0, 2.0), (2.0, 4.0)):
        x = np.arange(2**23) * (2.0**-23 * low) + low
        assert x[-1] < high
        exact = np.sqrt(x)
        right = exact.astype(np.float32).astype(np.float64)
        least, most = (
            (exact * (1 + s * float(within.root) * (1 + 1e-9))).astype(np.float32) for s in (-1, 1)
        )
        is_right = np.ones(len(x), bool)
        g = least.astype(np.float64)
        while np.any(g <= most):
            remainder = (x - g * g).astype(np.float32).astype(np.float64)
            for s in (-1, 1):
                half = (1 + s * float(within.half) * (1 + 1e-6)) / (2 * exact)
                near = np.abs((g - right) + remainder * half) < 2.0**-24 - 2.0**-52
                is_right &= near | (g > most)
            g = g + 2.0**-23
        found += map(Fraction, x[~is_right].tolist())
    return found


def unproved_float64(form: Format, within: Bounds) -> list[Fraction]:
    """Only x with roots near the middle of two floats are to be tried."""
    error = within.root + 2 * form.unit  # of a root that is rounded
    last = error**2 / 2 + error * (within.half + 2 * form.unit) * 2
    most = math.ceil(2 * 4 * last * 4**form.bits)
    tried = list(near_middles(form, most))
    print(f"  {len(tried)} x whose root is near the middle of two floats")
    return [x for x in tried if not is_proved(x, form, within)]


def estimates(x: Fraction, form: Format) -> Iterator[Fraction]:
    """Floats within the bound: all of float32, some of float64, the outermost among them."""
    precise = Fraction(2 ** (4 * form.bits), math.isqrt(int(x * 4 ** (4 * form.bits))))
    low, high = (precise * (1 + sign * ESTIMATE) for sign in (-1, 1))
    ulp = Fraction(1, 2**form.bits)  # in [1/2, 1)
    first, last = math.ceil(low / ulp), math.floor(high / ulp)
    count = last - first + 1
    draw = random.Random(0)
    some = (draw.randrange(count) for _ in range(SAMPLES))
    for n in range(count) if form.bits == 24 else (0, count - 1, *some):
        yield rounded((first + n) * ulp, form.bits)


def main() -> int:
    """Print what is proved; the exit status says whether something is wrong."""
    status = 0
    for form in FORMATS:
        within = bounds(form)
        print(f"{form.name}: before the last step, in units of 2^-{form.bits}")
        errors = (float(error / form.unit) for error in (within.root, within.half))
        print("  root {:.3f}, half of its inverse {:.3f}".format(*errors))
        left = (unproved_float32 if form.bits == 24 else unproved_float64)(form, within)
        print(f"  {len(left)} x for which bounds do not tell")
        for x in left:
            wrong, count = 0, 0
            for estimate in estimates(x, form):
                count += 1
                wrong += by_estimate(x, estimate, form) != root(x, form.bits)
            print(f"  {float(x).hex()}: {wrong} of {count} estimates give another float")
            status |= wrong > 0
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
