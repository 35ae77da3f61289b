"""Products and truth values."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable
from dataclasses import replace

from redcomp.ir import Value, compare, elementwise, indicator, select, zero
from redcomp.ops.reductions.row import (
    CONSTANT,
    VALUE,
    Arrived,
    Columns,
    Limited,
    Reduction,
    Result,
    State,
    States,
    same_states,
    value_states,
)
from redcomp.ops.table import apply
from redcomp.records import record

# What derivatives of a product are made of.  The product of the values that are not 0 is kept as
# part * power, each about its square root, so that neither overflows where a slope does not; the
# power of two counts as a constant.  Of the values that are 0 the elementary symmetric sums are
# kept, z_1 + z_2 + ..., z_1 z_2 + z_1 z_3 + ..., and so on, the n-th of which is the product of n
# zeros.  All of these are 0, of course; they are there for their derivatives.

# So many sums are kept: derivatives of higher orders are refused where more values are 0.
SUMS = 4
GRADIENT = "exact, also where values are 0; from order 5 on, if at most 4 of a row are 0"
RESULTS = (VALUE, VALUE, CONSTANT, CONSTANT, *[VALUE] * SUMS)
LIMITED = Limited(SUMS, 3, "the zeros among the factors of a Prod")


def _kept_step(states: States, value: Value, columns: Columns) -> States:
    """States: mantissa and exponent of the product of the others than zeros; the zeros' number.

    The mantissa is in [1/2, 1].
    """
    mantissa, exponent, zeros = states
    is_zero = compare("oeq", value, 0.0)
    other = select(is_zero, 1.0, value)
    product = mantissa * apply("mantissa", other)
    is_small = compare("olt", elementwise("abs", product), 0.5)
    return (
        select(is_small, 2.0 * product, product),
        exponent + apply("exponent", other) - indicator(is_small, value.dtype),
        zeros + indicator(is_zero, value.dtype),
    )


def _kept_merge(a: States, b: States) -> States:
    product = a[0] * b[0]
    exponent = a[1] + b[1] + apply("exponent", product)
    return apply("mantissa", product), exponent, a[2] + b[2]


def _kept_finish(states: States) -> tuple[Value, ...]:
    """The product, the part and the power, the number of zeros, and the symmetric sums."""
    mantissa, exponent, zeros = states
    others = elementwise("scale", mantissa, exponent)
    product = select(compare("ogt", zeros, 0.0), others * 0.0, others)
    half = apply("floor", 0.5 * exponent)
    part = elementwise("scale", mantissa, exponent - half)
    return product, part, elementwise("scale", 1.0, half), zeros, *[zeros * 0.0] * SUMS


def _total(terms: Iterable[Value | None]) -> Value | None:
    """The sum of those that there are."""
    present = [term for term in terms if term is not None]
    return functools.reduce(operator.add, present) if present else None


@record
class Field:
    """Numbers whose products are differentiated: real ones, or complex ones as pairs (re, im).

    A real number of a result is a pair of equal ones among complex numbers.

    one       of the numbers' type
    is_zero   a truth value for each component
    times     the product
    quotient  by a number that is not 0
    conj      the conjugate: cotangents are those of the real inner product, as PyTorch's
    """

    one: Callable[[Value], Value | float]
    is_zero: Callable[[Value], Value]
    times: Callable[[Value, Value], Value]
    quotient: Callable[[Value, Value], Value]
    conj: Callable[[Value], Value]

    def product(self, a: Value | None, b: Value | None) -> Value | None:
        """The product of a cotangent and what may be there."""
        return None if a is None or b is None else self.times(a, b)

    def cotangent(self, value: Value, arrived: Arrived) -> Value:
        """A value's slope is the product of the others; so written that its own derivatives are
        right.

        The n-th symmetric sum without z is sum_n - z sum_(n-1) + z**2 sum_(n-2) - ...
        """
        _, part, power, zeros, *sums = arrived.results
        e, e_part, _, _, *e_sums = arrived.cotangents
        scaled = None if e is None else e * power
        of_zeros = select(compare("oeq", zeros, 0.0), self.one(value), 0.0 * zeros)
        for n, symmetric in enumerate(sums, 1):
            is_count = compare("oeq", zeros, float(n))
            of_zeros = select(is_count, symmetric, of_zeros)
            if scaled is not None:
                of_all = select(is_count, self.times(scaled, self.conj(part)), 0.0)
                e_sums[n - 1] = _total((e_sums[n - 1], of_all))
        is_zero = self.is_zero(value)
        slope = self.quotient(part, select(is_zero, self.one(value), value))
        arriving = _total((self.product(scaled, self.conj(of_zeros)), e_part))
        of_other = zero(value.type) if arriving is None else self.times(self.conj(slope), arriving)
        minus_z = self.conj(-select(is_zero, value, 0.0))
        of_zero = self._polynomial(minus_z, self._coefficients(e_sums, sums))
        return select(is_zero, 0.0 if of_zero is None else of_zero, of_other)

    def _coefficients(
        self, cotangents: list[Value | None], sums: list[Value]
    ) -> list[Value | None]:
        """Of each power of -z, in what arrives at a zero z through all symmetric sums."""
        return [
            _total(
                e if n == power else self.product(e, self.conj(sums[n - power - 1]))
                for n, e in enumerate(cotangents)
                if n >= power
            )
            for power in range(len(sums))
        ]

    def _polynomial(self, x: Value, coefficients: list[Value | None]) -> Value | None:
        """By Horner's rule; the lowest coefficient comes first."""
        result: Value | None = None
        for coefficient in reversed(coefficients):
            result = _total((coefficient, self.product(x, result)))
        return result


_REAL = Field(
    one=lambda value: 1.0,
    is_zero=lambda value: compare("oeq", value, 0.0),
    times=operator.mul,
    quotient=operator.truediv,
    conj=lambda value: value,
)


_PROD = Reduction(
    "prod",
    ("Prod",),
    "product over the columns; 1 for none",
    (VALUE,),
    value_states(1.0),
    step=lambda states, value, columns: (states[0] * value,),
    finish=same_states,
    merge=lambda a, b: (a[0] * b[0],),
    kept="prod_kept",
    gradient=GRADIENT,
    differs="new",
)
_PROD_KEPT = replace(
    _PROD,
    name="prod_kept",
    spellings=(),
    results=RESULTS,
    states=lambda dim, count: (State(dim, 1.0), State(dim, 0.0), State(dim, 0.0)),
    step=_kept_step,
    finish=_kept_finish,
    merge=_kept_merge,
    cotangent=_REAL.cotangent,
    saves=True,
    limited=LIMITED,
    kept="",
)


def _truth(name: str, doc: str, is_all: bool) -> Reduction:
    neutral = 1.0 if is_all else 0.0

    def step(states: States, value: Value, columns: Columns) -> States:
        decides = compare("oeq" if is_all else "une", value, 0.0)
        return (select(decides, 1.0 - neutral, states[0]),)

    return Reduction(
        name,
        (name.capitalize(),),
        doc,
        (Result("truth"),),
        value_states(neutral),
        step=step,
        finish=same_states,
        merge=lambda a, b: (elementwise("less_of" if is_all else "greater_of", b[0], a[0]),),
        differs="new",
    )


PRODUCTS = (
    _PROD,
    _PROD_KEPT,
    _truth("any", "True if any value is not 0 (NaN is not 0); False for no columns", is_all=False),
    _truth("all", "True if no value is 0; True for no columns", is_all=True),
)
