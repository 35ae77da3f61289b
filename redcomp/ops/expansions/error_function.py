"""Expansions of the error function and its complement.

erf(x) is x times a polynomial for |x| < 3/4.  Beyond, erfc(a) = exp(-a**2) g(a) / (1 + 2 a), where
the smooth g, between 1.1 and 1.3, is a polynomial in (a - K) / (a + K); so erfc keeps its relative
accuracy down to the smallest numbers.
"""

from __future__ import annotations

from collections.abc import Mapping

from redcomp.ir import Value, compare, elementwise, fma, select
from redcomp.ops.expansions.exponential import exp_of_negative
from redcomp.ops.expansions.shared import at_most, copy_sign, magnitude, polynomial, two_product
from redcomp.records import record

JOINT = 0.75


@record
class ErrorFunction:
    """erf(x) / x in x**2 for |x| <= 3/4; K and g for larger |x|; where erfc is 0."""

    erf: tuple[float, ...]
    center: float
    erfc: tuple[float, ...]
    vanished: float


# float32: errors 2^-24.1 in erf, 2^-27.1 in g; float64: 2^-56.0 and 2^-54.2.
TABLE: Mapping[str, ErrorFunction] = {
    "f32": ErrorFunction(
        (
            1.1283791065216064,
            -0.37612107396125793,
            0.11276226490736008,
            -0.026482846587896347,
            0.0044058202765882015,
            -0.00017455308989156038,
        ),
        2.0,
        (
            1.2769783735275269,
            -0.09276379644870758,
            -0.16602928936481476,
            0.1640494018793106,
            -0.05424357205629349,
            -0.00799649953842163,
            0.00888048019260168,
            0.0009853783994913101,
            -0.0017493774648755789,
            0.000282376044197008,
        ),
        10.1,
    ),
    "f64": ErrorFunction(
        (
            1.1283791670955126,
            -0.37612638903183204,
            0.11283791670922694,
            -0.026866170637670578,
            0.005223977537884375,
            -0.0008548321079211966,
            0.00012055084566877828,
            -1.491910528050191e-05,
            1.6354272106688577e-06,
            -1.530503775584381e-07,
            9.22933080229528e-09,
        ),
        4.0,
        (
            1.2329951186255526,
            -0.13962111684056325,
            0.01537965210260033,
            0.0680970542547997,
            -0.10103906603494284,
            0.09373283499368829,
            -0.06633036584916083,
            0.03716751563171543,
            -0.016197733549633418,
            0.005031968919615727,
            -0.0007577772997439464,
            -0.00019924948408574843,
            0.00015064095149820613,
            -2.443022973846574e-05,
            -1.127943514051397e-05,
            5.794420669826948e-06,
            3.9749148036807866e-07,
            -9.676168313353488e-07,
            -3.0023338902913695e-08,
            2.434763175910913e-07,
            2.864768466509305e-08,
            -6.67343942909083e-08,
        ),
        27.3,
    ),
}


def _small_erf(x: Value) -> Value:
    return x * polynomial(x * x, TABLE[x.dtype].erf)


def _large_erfc(a: Value) -> Value:
    """erfc(a) for a >= 3/4."""
    table = TABLE[a.dtype]
    a = at_most(a, table.vanished)
    t = (a - table.center) / (a + table.center)
    factor = polynomial(t, table.erfc) / fma(a, 2.0, 1.0)
    square, low = two_product(a, a)
    p, error, n = exp_of_negative(-square)
    # exp(-low) to first order: |low| is at most half a unit of the square.
    correction = fma(p, -low, error)
    return elementwise("scale", fma(factor, correction, factor * p), n)


def erf(x: Value) -> Value:
    """The error function."""
    a = magnitude(x)
    large = copy_sign(1.0 - _large_erfc(a), x)
    return select(compare("olt", a, JOINT), _small_erf(x), large)


def erfc(x: Value) -> Value:
    """1 - erf(x), accurate where that cancels."""
    a = magnitude(x)
    tail = _large_erfc(a)
    large = select(compare("olt", x, 0.0), 2.0 - tail, tail)
    return select(compare("olt", a, JOINT), 1.0 - _small_erf(x), large)
