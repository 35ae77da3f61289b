"""Sums of exponentials, without overflow."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from dataclasses import replace
from typing import NamedTuple

from redcomp.ir import Value, compare, constant, elementwise, indicator, select, zero
from redcomp.ops.reductions.row import (
    CONSTANT,
    INDEX,
    INF,
    VALUE,
    Arrived,
    Columns,
    Reduction,
    Sloped,
    State,
    States,
    highest,
    lowest,
    with_kept,
)
from redcomp.ops.table import apply
from redcomp.records import record


def _scalar_and_weights(value: Value) -> tuple[Value, Value]:
    """The first component, and the others: the parts of `concat`s, without a selection of each."""
    if value.op == "concat":
        first, last = value.args
        if first.dim == 1:
            return first, last
        scalar, weights = _scalar_and_weights(first)
        return scalar, apply("concat", weights, last)
    weights = apply("extract", value, start=1, length=value.dim - 1)
    return apply("elem", value, m=0), weights


@record
class _Base:
    """Sums of exponentials to a base, without overflow.

    They carry a shift, the largest exponent so far, and sums of base**(exponent - shift) * weight.
    A larger exponent is rare: then the sums are adjusted to it.  The shift stays finite, so that
    there is no difference of infinities: nothing but -inf sums to 0, and a +inf makes the sums
    infinite.

    exp, log   the functions of this base
    logarithm  of the base
    """

    exp: str
    log: str
    logarithm: float

    def _exponent(self, value: Value) -> Value:
        """Of the base; equal values have equal ones, so that their difference is 0."""
        f = value if value.dim == 1 else _scalar_and_weights(value)[0]
        return f if self.logarithm == 1.0 else f * (1.0 / self.logarithm)

    def exceeds_shift(self, states: States, value: Value) -> Value:
        return compare("ogt", self._exponent(value), states[0])

    def adjust(self, states: States, value: Value, columns: Columns) -> States:
        shift, *sums = states
        exponent = self._exponent(value)
        finite = elementwise("less_of", highest(exponent.dtype), exponent)
        larger = elementwise("greater_of", finite, shift)
        decay = apply(self.exp, shift - larger)
        return larger, *(total * decay for total in sums)

    def step(self, states: States, value: Value, columns: Columns) -> States:
        """States: the shift, the sum, and (if there are weights) the weighted sums."""
        shift, total, *sums = states
        term = apply(self.exp, self._exponent(value) - shift)
        if not sums:
            return shift, total + term
        _, weights = _scalar_and_weights(value)
        return shift, total + term, elementwise("fma", term, weights, sums[0])

    def merge(self, a: States, b: States) -> States:
        # Relative to the larger shift one factor is 1, so that there is one exponential.
        larger = elementwise("greater_of", b[0], a[0])
        decay = apply(self.exp, -elementwise("abs", b[0] - a[0]))
        is_new = compare("ogt", b[0], a[0])
        left, right = select(is_new, decay, 1.0), select(is_new, 1.0, decay)
        return larger, *(old * left + new * right for old, new in zip(a[1:], b[1:], strict=True))

    def _natural(self, states: States, total: Value) -> Value:
        """The natural logarithm of what a sum stands for."""
        return (states[0] + apply(self.log, total)) * self.logarithm

    def finish_logarithm(self, states: States) -> tuple[Value, ...]:
        """The logarithm, and the shift and the total that it is made of."""
        shift, *_, total = states
        return self._natural(states, total), shift, total

    def finish_mean(self, states: States) -> tuple[Value, ...]:
        shift, total, sums = states
        return sums / total, shift, total

    def finish_slopes(self, states: States) -> tuple[Value, ...]:
        """What sums are per total; 0 where that is 0, as nothing depends on anything there."""
        *_, total, sums = states
        is_nothing = compare("oeq", total, 0.0)
        return (select(is_nothing, 0.0, sums / select(is_nothing, 1.0, total)),)

    def step_of_weighted_slopes(self, states: States, value: Value, columns: Columns) -> States:
        """States: the shift, the sum of the weights, and those of the derivatives."""
        shift, total, sums = states
        scalar, rest = _scalar_and_weights(value)
        weight, derivatives = _scalar_and_weights(rest)
        term = apply(self.exp, self._exponent(scalar) - shift)
        return (
            shift,
            elementwise("fma", term, weight, total),
            elementwise("fma", term, derivatives, sums),
        )


# What derivatives keep of the forward pass is the shift and the total, not the logarithm, whose
# rounding would be a relative error of all weights, as large as the logarithm.  The shift counts as
# a constant: with another one the total would be another, but the weights would not.


class _Weight(NamedTuple):
    """exp(f - shift) of a pair, and 1 / total of its row: the factors of its weight.

    There is no weight anywhere where the total is 0, as when all values are -inf.
    """

    term: Value
    inverse: Value


def _weight(f: Value, shift: Value, total: Value) -> _Weight:
    is_nothing = compare("oeq", total, 0.0)
    inverse = select(is_nothing, 0.0, 1.0 / select(is_nothing, 1.0, total))
    return _Weight(apply("exp", elementwise("excess", f, shift)), inverse)


def _plus(a: Value | None, b: Value | None) -> Value:
    """The sum of what there is."""
    return functools.reduce(operator.add, (part for part in (a, b) if part is not None))


def _logarithm_slope(f: Value, arrived: Arrived) -> Value:
    """The cotangent of what exp(f) is multiplied by, for the logarithm of a sum and its total."""
    e, _, e_total = arrived.cotangents
    term, inverse = _weight(f, *arrived.results[1:])
    return term * _plus(None if e is None else e * inverse, e_total)


def _logsumexp_cotangent(value: Value, arrived: Arrived) -> Value:
    return _logarithm_slope(value, arrived)


def _weighted_logsumexp_cotangent(value: Value, arrived: Arrived) -> Value:
    f, weights = _scalar_and_weights(value)
    slope = _logarithm_slope(f, arrived)
    return apply("concat", apply("scalprod", slope, weights), slope)


# Gradients of longer vectors are products of matrices on GPUs, which slopes are not (yet).
_MOST_SLOPES = 15


def _one(value: Value) -> Value:
    """The cotangent of a formula where that of its term is 1."""
    return constant(1.0, value.dtype)


def _with_weight(value: Value) -> Value:
    """The cotangent of a formula and its weight, where that of their term is 1."""
    _, weight = _scalar_and_weights(value)
    return apply("concat", weight, constant(1.0, value.dtype))


def _softmax_cotangent(value: Value, arrived: Arrived) -> Value:
    f, weights = _scalar_and_weights(value)
    mean, shift, total = arrived.results
    term, inverse = _weight(f, shift, total)
    e, _, e_total = arrived.cotangents
    if e is None:
        return apply("concat", term * _plus(None, e_total), zero(weights.type))
    scaled = e * inverse
    # Apart, since the mean's product depends on i only.
    slope = apply("scalprod", scaled, weights) - apply("scalprod", scaled, mean)
    return apply("concat", term * _plus(slope, e_total), term * scaled)


# The largest value itself, which may be infinite, and the sum relative to it: where two values are
# equal the factor is 1 without a subtraction.


class _Factors(NamedTuple):
    """The larger of two values, and what sums relative to each have to be multiplied by."""

    largest: Value
    old: Value
    new: Value
    is_new: Value


def _factors(old: Value, new: Value) -> _Factors:
    decay = apply("exp", -elementwise("abs", new - old))
    decay = select(compare("oeq", new, old), 1.0, decay)
    is_new = compare("ogt", new, old)
    return _Factors(
        select(is_new, new, old),
        select(is_new, decay, 1.0),
        select(is_new, 1.0, decay),
        is_new,
    )


def _shifted_states(dim: int, count: int) -> tuple[State, ...]:
    """Largest value, its place, and sums of exponentials relative to it."""
    return State(1, -INF), State(1, 0.0, "column"), State(max(1, dim - 1), 0.0)


def _shifted_step(states: States, value: Value, columns: Columns) -> States:
    f, weights = _scalar_and_weights(value) if value.dim > 1 else (value, None)
    factors = _factors(states[0], f)
    new = factors.new if weights is None else factors.new * weights
    place = select(factors.is_new, columns.in_tile, states[1])
    return factors.largest, place, elementwise("fma", states[2], factors.old, new)


def _shifted_merge(a: States, b: States) -> States:
    factors = _factors(a[0], b[0])
    place = select(factors.is_new, b[1], a[1])
    return factors.largest, place, a[2] * factors.old + b[2] * factors.new


def _shifted_join(a: States, b: States) -> States:
    largest, place, total = _shifted_merge(a, b)
    first = select(compare("olt", b[1], a[1]), b[1], a[1])
    return largest, select(compare("oeq", a[0], b[0]), first, place), total


def _shifted_cotangent(value: Value, arrived: Arrived) -> Value:
    """The largest value is that of its column; the sums change with it, and with each value."""
    result, place = arrived.results
    f, weights = _scalar_and_weights(value) if value.dim > 1 else (value, None)
    largest, sums = _scalar_and_weights(result)
    e_largest, e_sums = _scalar_and_weights(arrived.cotangent)
    is_largest = indicator(compare("eq", place, arrived.column), value.dtype)
    # A value that equals the largest one changes its term too, also where both are infinite.
    term = apply("exp", elementwise("gap", f, largest))
    through_largest = is_largest * (e_largest - apply("scalprod", e_sums, sums))
    if weights is None:
        return e_sums * term + through_largest
    slope = apply("scalprod", e_sums, weights) * term + through_largest
    return apply("concat", slope, e_sums * term)


_SHIFTED = Reduction(
    "max_sumshiftexp",
    ("Max_SumShiftExp", "MaxSumShiftExp"),
    "the largest value m, and the sum of exp(value - m); -inf and 0 for no columns",
    (VALUE, INDEX),
    _shifted_states,
    step=_shifted_step,
    finish=lambda states: (apply("concat", states[0], states[2]), states[1]),
    merge=_shifted_merge,
    join=_shifted_join,
    cotangent=_shifted_cotangent,
    saves=True,
    weighted="max_sumshiftexpweight",
    takes="scalar",
    accumulates=True,
    gradient="of equal infinities that of equal numbers",
    differs="the gradient is that of both results (KeOps takes m for a constant)",
)


def _shifted_rows(base: _Base) -> Reduction:
    """What all rows that carry a shift have in common."""
    return Reduction(
        "",
        (),
        "",
        (VALUE, CONSTANT, VALUE),
        lambda dim, count: (State(1, lowest, resumes=True), State(1, 0.0), State(dim - 1, 0.0)),
        step=base.step,
        finish=base.finish_logarithm,
        merge=base.merge,
        guard=base.exceeds_shift,
        adjust=base.adjust,
        saves=True,
        accumulates=True,
    )


def _sums_of_exponentials(base: _Base) -> tuple[Reduction, ...]:
    """The rows that carry a shift, for users."""
    common = _shifted_rows(base)
    return (
        replace(
            common,
            name="logsumexp",
            spellings=("LogSumExp",),
            doc="log of the sum of exponentials, without overflow; -inf for no columns",
            states=lambda dim, count: (State(1, lowest, resumes=True), State(1, 0.0)),
            cotangent=_logsumexp_cotangent,
            sloped=Sloped("slopes_of_logsumexp", _one, _MOST_SLOPES),
            weighted="weighted_logsumexp",
            takes="scalar",
            gradient="0 for nothing but -inf",
            differs="-inf for no columns and for nothing but -inf (KeOps: NaN)",
        ),
        replace(
            common,
            name="weighted_logsumexp",
            spellings=("LogSumExpWeight",),
            doc="log of the sum of exp(formula) * formula2, without overflow; -inf for no columns",
            cotangent=_weighted_logsumexp_cotangent,
            sloped=Sloped("slopes_of_weighted_logsumexp", _with_weight, _MOST_SLOPES),
            takes="weights",
            gradient="0 for nothing but -inf",
            differs="the logarithm itself (KeOps returns the pair of Max_SumShiftExpWeight)",
        ),
        replace(
            common,
            name="softmax",
            spellings=("SumSoftMaxWeight", "SoftMax"),
            doc="sum of exp(formula) * formula2, over the sum of exp(formula); NaN for no columns "
            "and for nothing but -inf, as torch.softmax",
            finish=base.finish_mean,
            cotangent=_softmax_cotangent,
            takes="weights",
            gradient="NaN in the formula where the value is",
        ),
    )


def _slopes_of_logarithms(base: _Base) -> tuple[Reduction, ...]:
    """The rows of the derivatives of logarithms of sums of exponentials, which carry what these do.

    The derivatives of a pair follow its value.
    """
    common = replace(
        _shifted_rows(base),
        results=(VALUE,),
        finish=base.finish_slopes,
        saves=False,
        takes="weights",
    )
    return (
        replace(
            common,
            name="slopes_of_logsumexp",
            doc="derivatives of LogSumExp from those of the formula; 0 for nothing but -inf",
            linear_from=1,
        ),
        replace(
            common,
            name="slopes_of_weighted_logsumexp",
            doc="derivatives of LogSumExpWeight from those of its terms; 0 for nothing but -inf",
            states=lambda dim, count: (
                State(1, lowest, resumes=True),
                State(1, 0.0),
                State(dim - 2, 0.0),
            ),
            step=base.step_of_weighted_slopes,
            linear_from=2,
        ),
    )


_SHIFTED_WEIGHTS = replace(
    _SHIFTED,
    name="max_sumshiftexpweight",
    spellings=("Max_SumShiftExpWeight", "MaxSumShiftExpWeight"),
    doc="the largest value m, and the sum of exp(value - m) * formula2; -inf and 0 for no columns",
    weighted="",
    takes="weights",
)

_NATURAL = _Base("exp", "log", 1.0)
_WITH_SHIFT = (
    replace(row, fast=fast)
    for row, fast in zip(
        _sums_of_exponentials(_NATURAL),
        # Saves a multiplication a pair wherever the formula can take the scale in.
        _sums_of_exponentials(_Base("exp2", "log2", math.log(2.0))),
        strict=True,
    )
)

EXPONENTIALS = (
    *itertools.chain.from_iterable(map(with_kept, (*_WITH_SHIFT, _SHIFTED, _SHIFTED_WEIGHTS))),
    # As those that derivatives keep, of which they repeat each bit, they have no fast form.
    *_slopes_of_logarithms(_NATURAL),
)
