"""Sums, means and norms."""

from __future__ import annotations

from dataclasses import replace

from redcomp.ir import (
    Value,
    compare,
    select,
)
from redcomp.ops.reductions.row import (
    CONSTANT,
    VALUE,
    Arrived,
    Columns,
    Reduction,
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
