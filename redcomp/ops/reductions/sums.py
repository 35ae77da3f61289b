"""Sums, means and norms; products and truth values."""

from __future__ import annotations

import functools
import operator
from dataclasses import replace

from redcomp.ir import (
    Value,
    compare,
    elementwise,
    indicator,
    select,
)
from redcomp.ops.reductions.row import (
    CONSTANT,
    VALUE,
    Arrived,
    Columns,
    Cotangents,
    Reduction,
    Result,
    State,
    States,
    add_states,
    same_states,
    value_states,
    with_kept,
)
from redcomp.ops.table import apply

_SUM = Reduction(
    "sum",
    ("Sum",),
    "sum over the columns; 0 for none",
    (VALUE,),
    value_states(0.0),
    step=lambda states, value, columns: (states[0] + value,),
    finish=same_states,
    merge=add_states,
    cotangent=lambda value, arrived: arrived.cotangent,
    is_linear=True,
)


def _compensated_step(states: States, value: Value, columns: Columns) -> States:
    """Kahan's sum: the second state is what rounding has lost (Kahan 1965).

    Infinities lose nothing: their difference is NaN, which would spoil the following sums.
    """
    total, lost = states
    term = value - lost
    following = total + term
    excess = (following - total) - term
    return following, select(compare("uno", excess, excess), 0.0, excess)


def _mean_step(states: States, value: Value, columns: Columns) -> States:
    return states[0] + value, states[1] + 1.0


def _mean_cotangent(value: Value, arrived: Arrived) -> Value:
    """A mean over no columns is NaN, but it depends on nothing."""
    count = arrived.results[1]
    return arrived.cotangent / select(compare("oeq", count, 0.0), 1.0, count)


def _norm_cotangent(value: Value, arrived: Arrived) -> Value:
    (norm,) = arrived.results
    slope = select(compare("oeq", norm, 0.0), 0.0, value / norm)
    return slope * arrived.cotangent


SUMS = (
    _SUM,
    replace(
        _SUM,
        name="compensated_sum",
        spellings=(),
        states=lambda dim, count: (State(dim, 0.0), State(dim, 0.0)),
        step=_compensated_step,
        finish=lambda states: (states[0] - states[1],),
    ),
    *with_kept(
        Reduction(
            "mean",
            ("Mean",),
            "mean over the columns; NaN for none",
            (VALUE, CONSTANT),
            lambda dim, count: (State(dim, 0.0), State(1, 0.0)),
            step=_mean_step,
            finish=lambda states: (states[0] / states[1], states[1]),
            merge=add_states,
            cotangent=_mean_cotangent,
            saves=True,
            differs="new",
        )
    ),
    Reduction(
        "norm",
        ("Norm",),
        "square root of the sum of squares, of each component; 0 for no columns",
        (VALUE,),
        value_states(0.0),
        step=lambda states, value, columns: (states[0] + value * value,),
        finish=lambda states: (apply("sqrt", states[0]),),
        merge=add_states,
        cotangent=_norm_cotangent,
        saves=True,
        gradient="0 where the norm is 0",
        differs="new",
    ),
)

# -- products and truth values ---------------------------------------------------------------------


def _prod_step(states: States, value: Value, columns: Columns) -> States:
    is_zero = compare("oeq", value, 0.0)
    return (
        states[0] * select(is_zero, 1.0, value),
        states[1] + indicator(is_zero, value.dtype),
    )


def _prod_finish(states: States) -> tuple[Value, ...]:
    """Product, product of the others than zeros, sum of the zeros, their number.

    The sum is 0, of course; it is there for its derivative.
    """
    others, zeros = states
    product = select(compare("ogt", zeros, 0.0), others * 0.0, others)
    return product, others, zeros * 0.0, zeros


def _prod_cotangent(value: Value, arrived: Arrived) -> Value:
    """A value's slope is the product of the others, whichever of them are 0.

    It is written so that its own derivative is right too: with two zeros, each one's slope is
    proportional to the other one.
    """
    product, others, sum_of_zeros, zeros = arrived.results
    is_zero = compare("oeq", value, 0.0)
    divisor = select(is_zero, 1.0, value)
    of_two = select(compare("oeq", zeros, 2.0), others * (sum_of_zeros - value), 0.0)
    of_zero = select(compare("oeq", zeros, 1.0), others, of_two)
    slopes = (
        select(is_zero, of_zero, product / divisor),
        select(is_zero, 0.0, others / divisor),
        indicator(is_zero, value.dtype),
    )
    return _total_of(slopes, arrived.cotangents)


def _total_of(slopes: States, cotangents: Cotangents) -> Value:
    """The sum of slope times cotangent, of those that there are."""
    terms = [slope * e for slope, e in zip(slopes, cotangents, strict=False) if e is not None]
    return functools.reduce(operator.add, terms)


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
    *with_kept(
        Reduction(
            "prod",
            ("Prod",),
            "product over the columns; 1 for none",
            (VALUE, VALUE, VALUE, CONSTANT),
            lambda dim, count: (State(dim, 1.0), State(dim, 0.0)),
            step=_prod_step,
            finish=_prod_finish,
            merge=lambda a, b: (a[0] * b[0], a[1] + b[1]),
            cotangent=_prod_cotangent,
            saves=True,
            gradient="exact also where values are 0, to second order",
            differs="new",
        )
    ),
    _truth("any", "whether any value is not 0, as NaN is not; false for no columns", is_all=False),
    _truth("all", "whether no value is 0; true for no columns", is_all=True),
)
