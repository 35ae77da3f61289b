"""Sums, means and norms."""

from __future__ import annotations

from dataclasses import replace

from redcomp.ir import Value, compare, constant, select
from redcomp.ops.reductions.row import (
    CONSTANT,
    INF,
    VALUE,
    Arrived,
    Columns,
    Reduction,
    Sloped,
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
    accumulates=True,
    linear_from=0,
    # More would be loops of their own.
    sloped=Sloped("sum", lambda value: constant(1.0, value.dtype), most=16),
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


# Squares overflow and underflow where the norm does not.  So there are sums of squares of the
# values, of the values divided by a scale, and of those multiplied by it; each of them is right in
# a third of the range.


def _scale(dtype: str) -> float:
    """A power of two: over 256 columns, the squares of the largest numbers divided by it add up to
    a finite number."""
    return float(2.0**70) if dtype == "f32" else float(2.0**560)


def _norm_states(dim: int, count: int) -> tuple[State, ...]:
    """The scale, and the sums for large, usual and small values."""
    return State(1, _scale), State(dim, 0.0), State(dim, 0.0), State(dim, 0.0)


def _norm_step(states: States, value: Value, columns: Columns) -> States:
    scale = _scale(value.dtype)
    scaled = (value * (1.0 / scale), value, value * scale)
    sums = (total + x * x for total, x in zip(states[1:], scaled, strict=True))
    return states[0], *sums


def _norm_finish(states: States) -> tuple[Value, ...]:
    scale, of_large, plain, of_small = states
    roots = [apply("sqrt", total) for total in (of_large, plain, of_small)]
    is_large = compare("oge", plain, INF)
    is_small = compare("olt", plain, 1.0 / scale)
    usual = select(is_large, roots[0] * scale, roots[1])
    return (select(is_small, roots[2] / scale, usual),)


def _norm_cotangent(value: Value, arrived: Arrived) -> Value:
    (norm,) = arrived.results
    is_zero = compare("oeq", norm, 0.0)
    slope = value / select(is_zero, 1.0, norm)
    return select(is_zero, 0.0, slope) * arrived.cotangent


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
            accumulates=True,
            differs="new",
        )
    ),
    Reduction(
        "norm",
        ("Norm",),
        "square root of the sum of squares, of each component; 0 for no columns",
        (VALUE,),
        _norm_states,
        step=_norm_step,
        finish=_norm_finish,
        merge=lambda a, b: (a[0], *add_states(a[1:], b[1:])),
        cotangent=_norm_cotangent,
        saves=True,
        accumulates=True,
        gradient="0 where the norm is 0",
        differs="new",
    ),
)
