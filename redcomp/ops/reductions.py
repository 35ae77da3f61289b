"""The table of reductions: how the values of one row are combined over all columns.

A row is written once, in the IR, on vectors, and serves pairs, lanes, tiles, threads and splits of
the columns.  A reduction with weights takes the formula and its weights as one vector: the
formula's only component first.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from redcomp.ir import (
    INTEGER_OF_WIDTH,
    Value,
    broadcast,
    compare,
    constant,
    elementwise,
    indicator,
    select,
    zero,
)
from redcomp.ops.table import ShapeError, apply

INF = float("inf")

States = tuple[Value, ...]
Cotangents = tuple[Value | None, ...]


class Columns(NamedTuple):
    """The number of a column: within its tile, a float; in the call, an integer."""

    in_tile: Value
    in_call: Value


def _highest(dtype: str) -> float:
    """The highest finite number."""
    return float(np.finfo(dtype.replace("f", "float")).max)


@dataclass(frozen=True, slots=True)
class State:
    """What a reduction carries from column to column.

    dim      its number of components
    initial  its value before the first column: the neutral element, or "lowest", the dtype's lowest
             finite number
    kind     "value", "column" (the number of a column within its tile) or "index" (in the call)
    resumes  whether a tile of columns starts from the total of those before it
    """

    dim: int
    initial: float | Literal["lowest"]
    kind: Literal["value", "column", "index"] = "value"
    resumes: bool = False

    def first(self, dtype: str) -> float:
        """Its initial value in a dtype."""
        return -_highest(dtype) if self.initial == "lowest" else self.initial

    def dtype(self, of_values: str) -> str:
        """Its dtype, given that of the reduced values."""
        return INTEGER_OF_WIDTH[of_values] if self.kind == "index" else of_values


@dataclass(frozen=True, slots=True)
class Result:
    """One result of a reduction.

    kind       "value", the only one that can be differentiated; "index" (of a column, int64);
               "count" (a number of columns, as a float); or "truth"
    is_hidden  computed for the gradient's sake only
    """

    kind: Literal["value", "index", "count", "truth"] = "value"
    is_hidden: bool = False


VALUE, INDEX = Result(), Result("index")


class Arrived(NamedTuple):
    """What a gradient knows of a row: results, their cotangents, and the number of the column.

    A result on which nothing depends has no cotangent; at least one has.
    """

    results: tuple[Value, ...]
    cotangents: Cotangents
    column: Value

    @property
    def cotangent(self) -> Value:
        """The cotangent of the only result that can have one."""
        return next(e for e in self.cotangents if e is not None)


@dataclass(frozen=True, slots=True)
class Reduction:
    """One row of the table; `count` is how many columns it keeps where it keeps several.

    name        the reduction's name in the IR
    spellings   its names in `reduction_op`, the usual one first
    doc         one line of documentation
    results     what it gives
    states      (dimension of the values, count) to the states
    step        (states, values, number of the column) to the next states
    finish      states to the results
    merge       (states, states) to the states of both sets of columns, the first ones coming first;
                None where all states resume, and columns are not split
    guard       (states, values) to a truth value: whether to adjust the states before the step
    adjust      as `step`, but rarely needed; it changes nothing where the guard is false
    cotangent   (values, what arrived) to the values' cotangent for each pair
    saves       whether `cotangent` reads the results
    places      the name of the row that also says where the values are, from which gradients follow
    weighted    the name of the row that takes weights too
    takes       "vector": each component is reduced; "scalar": only dimension 1; "weights": a scalar
                and its weights; "components": one reduction for each component
    keeps       whether it keeps `count` columns
    accumulates whether it adds terms up, so that the accumulation's options mean something
    is_linear   whether a factor that depends on the row only can be taken out
    gradient    the gradient at special points, for the documentation
    differs     where and why it differs from KeOps, for the documentation
    """

    name: str
    spellings: tuple[str, ...]
    doc: str
    results: tuple[Result, ...]
    states: Callable[[int, int], tuple[State, ...]]
    step: Callable[[States, Value, Columns], States]
    finish: Callable[[States], tuple[Value, ...]]
    merge: Callable[[States, States], States] | None = None
    guard: Callable[[States, Value], Value] | None = None
    adjust: Callable[[States, Value, Columns], States] | None = None
    cotangent: Callable[[Value, Arrived], Value] | None = None
    saves: bool = False
    places: str = ""
    weighted: str = ""
    takes: Literal["vector", "scalar", "weights", "components"] = "vector"
    keeps: bool = False
    accumulates: bool = False
    is_linear: bool = False
    gradient: str = ""
    differs: str = ""

    @property
    def spelling(self) -> str:
        """The usual name in `reduction_op`."""
        return self.spellings[0]

    @property
    def has_gradient(self) -> bool:
        """Whether its results can be differentiated."""
        return self.cotangent is not None or bool(self.places)

    def check(self, dim: int) -> None:
        """Raise ShapeError if a formula of this dimension cannot be reduced."""
        if self.takes in ("scalar", "weights") and dim != 1:
            raise ShapeError(f"{self.spelling} takes a formula of dimension 1, not {dim}")

    def problem(self, dim: int, count: int) -> str:
        """Why an output cannot have a value of this dimension and this count; "" if it can.

        `dim` is that of what the row gets: with the weights, or of one component.
        """
        smallest, largest = {
            "vector": (1, dim),
            "scalar": (1, 1),
            "weights": (2, dim),
            "components": (1, 1),
        }[self.takes]
        if not smallest <= dim <= largest:
            return f"is a value of dimension {dim} for {self.name!r}"
        if (count > 0) != self.keeps or count < 0:
            return f"keeps {count} columns by {self.name!r}"
        return ""


def _values(initial: float) -> Callable[[int, int], tuple[State, ...]]:
    """One state of the values' dimension."""
    return lambda dim, count: (State(dim, initial),)


def _same(states: States) -> States:
    return states


def _add(a: States, b: States) -> States:
    return tuple(left + right for left, right in zip(a, b, strict=True))


# -- sums ------------------------------------------------------------------------------------------

_SUM = Reduction(
    "sum",
    ("Sum",),
    "sum over the columns; 0 for none",
    (VALUE,),
    _values(0.0),
    step=lambda states, value, columns: (states[0] + value,),
    finish=_same,
    merge=_add,
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


def _norm_cotangent(value: Value, arrived: Arrived) -> Value:
    (norm,) = arrived.results
    slope = select(compare("oeq", norm, 0.0), 0.0, value / norm)
    return slope * arrived.cotangent


_SUMS = (
    _SUM,
    replace(
        _SUM,
        name="compensated_sum",
        spellings=(),
        states=lambda dim, count: (State(dim, 0.0), State(dim, 0.0)),
        step=_compensated_step,
        finish=lambda states: (states[0] - states[1],),
    ),
    Reduction(
        "mean",
        ("Mean",),
        "mean over the columns; NaN for none",
        (VALUE, Result("count", is_hidden=True)),
        lambda dim, count: (State(dim, 0.0), State(1, 0.0)),
        step=_mean_step,
        finish=lambda states: (states[0] / states[1], states[1]),
        merge=_add,
        cotangent=lambda value, arrived: arrived.cotangent / arrived.results[1],
        saves=True,
        differs="new",
    ),
    Reduction(
        "norm",
        ("Norm",),
        "square root of the sum of squares, of each component; 0 for no columns",
        (VALUE,),
        _values(0.0),
        step=lambda states, value, columns: (states[0] + value * value,),
        finish=lambda states: (apply("sqrt", states[0]),),
        merge=_add,
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
        _values(neutral),
        step=step,
        finish=_same,
        merge=lambda a, b: (elementwise("less_of" if is_all else "greater_of", b[0], a[0]),),
        differs="new",
    )


_PRODUCTS = (
    Reduction(
        "prod",
        ("Prod",),
        "product over the columns; 1 for none",
        (VALUE, Result(is_hidden=True), Result(is_hidden=True), Result("count", is_hidden=True)),
        lambda dim, count: (State(dim, 1.0), State(dim, 0.0)),
        step=_prod_step,
        finish=_prod_finish,
        merge=lambda a, b: (a[0] * b[0], a[1] + b[1]),
        cotangent=_prod_cotangent,
        saves=True,
        gradient="exact also where values are 0, to second order",
        differs="new",
    ),
    _truth("any", "whether any value is not 0, as NaN is not; false for no columns", is_all=False),
    _truth("all", "whether no value is 0; true for no columns", is_all=True),
)

# -- extrema ---------------------------------------------------------------------------------------

_HAS_GRADIENTS = "with gradients (KeOps: none)"
_EXACT_PLACES = "any number of columns (KeOps: up to 1.6e7 in float32)"


def _extremum(name: str, winner: str, neutral: float) -> Reduction:
    """The scan keeps the first extremum; comparisons with NaN fail, so NaN is passed over."""
    word = "smallest" if neutral > 0 else "largest"
    return Reduction(
        name,
        (name.capitalize(),),
        f"{word} value of each component, NaN passed over; {neutral} for no columns",
        (VALUE,),
        _values(neutral),
        step=lambda states, value, columns: (elementwise(winner, value, states[0]),),
        finish=_same,
        merge=lambda a, b: (elementwise(winner, b[0], a[0]),),
        places=f"{name}_arg{name}",
        gradient="to the first column that has it",
        differs=_HAS_GRADIENTS,
    )


def _placed_extrema(name: str, predicate: str, neutral: float) -> tuple[Reduction, ...]:
    """An extremum and where it is; comparisons are strict, so the first one wins."""
    word = "smallest" if neutral > 0 else "largest"
    title = name.capitalize()

    def better(old: States, new: States) -> States:
        wins = compare(predicate, new[0], old[0])
        return select(wins, new[0], old[0]), select(wins, new[1], old[1])

    both = Reduction(
        f"{name}_arg{name}",
        (f"{title}_Arg{title}", f"{title}Arg{title}"),
        f"{word} value of each component and the number of the first column that has it; "
        f"{neutral} and 0 for no columns",
        (VALUE, INDEX),
        lambda dim, count: (State(dim, neutral), State(dim, 0.0, "column")),
        step=lambda states, value, columns: better(
            states, (value, broadcast(columns.in_tile, value.dim))
        ),
        finish=_same,
        merge=better,
        places=f"{name}_arg{name}",
        gradient="to the first column that has it",
        differs=f"{_HAS_GRADIENTS}; {_EXACT_PLACES}",
    )
    place = replace(
        both,
        name=f"arg{name}",
        spellings=(f"Arg{title}",),
        doc=f"number of the first column with the {word} value of each component; 0 for no columns",
        results=(INDEX,),
        finish=lambda states: states[1:],
        places="",
        gradient="",
        differs=_EXACT_PLACES,
    )
    return both, place


# The K smallest values so far are kept in descending order, so that component 0 is the one that a
# new value has to beat.


def _insert(states: States, value: Value, index: Value) -> States:
    """The lists with the value in its place, after equal ones, and the largest one dropped."""
    values, indices = states
    below = _shifted(values, float("-inf"))
    moves = compare("olt", value, below)
    enters = compare("olt", value, values)
    return (
        select(moves, below, select(enters, value, values)),
        select(moves, _shifted(indices, 0), select(enters, index, indices)),
    )


def _shifted(vector: Value, last: float) -> Value:
    """Each component's successor; `last` after the last one."""
    end = constant(last, vector.dtype)
    if vector.dim == 1:
        return end
    return apply("concat", apply("extract", vector, start=1, length=vector.dim - 1), end)


def _nearest(name: str, word: str, sign: float) -> tuple[Reduction, ...]:
    """The `count` smallest values, or largest ones, in order, and where they are."""
    title = f"K{name.capitalize()}"
    order = "ascending" if sign > 0 else "descending"

    def signed(value: Value) -> Value:
        return value if sign > 0 else -value

    def finish(states: States) -> tuple[Value, ...]:
        values, indices = (apply("reverse", state) for state in states)
        return signed(values), indices

    both = Reduction(
        f"k{name}_argk{name}",
        (f"{title}_Arg{title}", f"{title}Arg{title}"),
        f"the K {word} values, {order}, and the numbers of their columns; ties by number; "
        f"{sign * INF} and 0 where there are fewer columns",
        (VALUE, INDEX),
        lambda dim, count: (
            State(count, INF, resumes=True),
            State(count, 0.0, "index", resumes=True),
        ),
        step=lambda states, value, columns: states,
        finish=finish,
        guard=lambda states, value: compare("olt", signed(value), apply("elem", states[0], m=0)),
        adjust=lambda states, value, columns: _insert(states, signed(value), columns.in_call),
        places=f"k{name}_argk{name}",
        takes="components",
        keeps=True,
        gradient="to the columns that have them",
        differs=f"{_HAS_GRADIENTS}; {_EXACT_PLACES}" if sign > 0 else "new",
    )
    values = replace(
        both,
        name=f"k{name}",
        spellings=(title,),
        doc=f"the K {word} values, {order}, NaN passed over; "
        f"{sign * INF} where there are fewer columns",
        results=both.results[:1],
        finish=lambda states: finish(states)[:1],
        differs=_HAS_GRADIENTS if sign > 0 else "new",
    )
    places = replace(
        both,
        name=f"argk{name}",
        spellings=(f"Arg{title}",),
        doc=f"numbers of the columns with the K {word} values, {order}; "
        "0 where there are fewer columns",
        results=both.results[1:],
        finish=lambda states: finish(states)[1:],
        places="",
        gradient="",
        differs=_EXACT_PLACES if sign > 0 else "new",
    )
    return both, values, places


_EXTREMA = (
    _extremum("min", "less_of", INF),
    _extremum("max", "greater_of", -INF),
    *_placed_extrema("min", "olt", INF),
    *_placed_extrema("max", "ogt", -INF),
    *_nearest("min", "smallest", 1.0),
    *_nearest("max", "largest", -1.0),
)

# -- sums of exponentials --------------------------------------------------------------------------
# They carry a shift, the largest value so far, and sums of exp(value - shift) * weight.  A larger
# value is rare: then the sums are adjusted to it.  The shift stays finite, so that there is no
# difference of infinities: nothing but -inf sums to 0, and a +inf makes the sums infinite.


def _scalar_and_weights(value: Value) -> tuple[Value, Value]:
    weights = apply("extract", value, start=1, length=value.dim - 1)
    return apply("elem", value, m=0), weights


def _exponentials_adjust(states: States, value: Value, columns: Columns) -> States:
    shift, *sums = states
    f = apply("elem", value, m=0)
    finite = elementwise("less_of", _highest(f.dtype), f)
    larger = elementwise("greater_of", finite, shift)
    decay = apply("exp", shift - larger)
    return larger, *(total * decay for total in sums)


def _exceeds_shift(states: States, value: Value) -> Value:
    return compare("ogt", apply("elem", value, m=0), states[0])


def _exponentials_step(states: States, value: Value, columns: Columns) -> States:
    """States: the shift, the sum of exponentials, and (if there are weights) weighted sums."""
    shift, total, *sums = states
    term = apply("exp", apply("elem", value, m=0) - shift)
    if not sums:
        return shift, total + term
    _, weights = _scalar_and_weights(value)
    return shift, total + term, elementwise("fma", term, weights, sums[0])


def _exponentials_merge(a: States, b: States) -> States:
    larger = elementwise("greater_of", b[0], a[0])
    left, right = apply("exp", a[0] - larger), apply("exp", b[0] - larger)
    return larger, *(old * left + new * right for old, new in zip(a[1:], b[1:], strict=True))


def _log_finish(states: States) -> tuple[Value, ...]:
    return (states[0] + apply("log", states[-1]),)


def _softmax_finish(states: States) -> tuple[Value, ...]:
    shift, total, sums = states
    return sums / total, shift + apply("log", total)


def _share(f: Value, logarithm: Value) -> Value:
    """exp(f - logarithm); 0 where all values are -inf, so that there is no share anywhere."""
    is_nothing = compare("oeq", logarithm, -INF)
    return select(is_nothing, 0.0, apply("exp", f - logarithm))


def _logsumexp_cotangent(value: Value, arrived: Arrived) -> Value:
    return _share(value, arrived.results[0]) * arrived.cotangent


def _weighted_logsumexp_cotangent(value: Value, arrived: Arrived) -> Value:
    f, weights = _scalar_and_weights(value)
    share = _share(f, arrived.results[0]) * arrived.cotangent
    return apply("concat", apply("scalprod", share, weights), share)


def _softmax_cotangent(value: Value, arrived: Arrived) -> Value:
    f, weights = _scalar_and_weights(value)
    mean, logarithm = arrived.results
    share = _share(f, logarithm)
    e, e_logarithm = arrived.cotangents
    if e is None:
        return apply("concat", share * arrived.cotangent, zero(weights.type))
    slope = apply("scalprod", e, weights - mean)
    if e_logarithm is not None:
        slope = slope + e_logarithm
    return apply("concat", share * slope, share * e)


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


def _shifted_cotangent(value: Value, arrived: Arrived) -> Value:
    """The largest value is that of its column; the sums change with it, and with each value."""
    result, place = arrived.results
    f, weights = _scalar_and_weights(value) if value.dim > 1 else (value, None)
    largest, sums = _scalar_and_weights(result)
    e_largest, e_sums = _scalar_and_weights(arrived.cotangent)
    is_largest = indicator(compare("eq", place, arrived.column), value.dtype)
    # A value that equals the largest one changes its term too, unless both are infinite.
    is_infinite = compare("oeq", elementwise("abs", largest), INF)
    no_gap = compare("oeq", f, largest) & is_infinite
    term = apply("exp", select(no_gap, 0.0, f - largest))
    through_largest = is_largest * (e_largest - apply("scalprod", e_sums, sums))
    if weights is None:
        return e_sums * term + through_largest
    slope = apply("scalprod", e_sums, weights) * term + through_largest
    return apply("concat", slope, e_sums * term)


_SHIFTED = Reduction(
    "max_sumshiftexp",
    ("Max_SumShiftExp", "MaxSumShiftExp"),
    "the largest value m, and the sum of exp(value - m); -inf and 0 for no columns",
    (VALUE, Result("index", is_hidden=True)),
    _shifted_states,
    step=_shifted_step,
    finish=lambda states: (apply("concat", states[0], states[2]), states[1]),
    merge=_shifted_merge,
    cotangent=_shifted_cotangent,
    saves=True,
    weighted="max_sumshiftexpweight",
    takes="scalar",
    differs="the gradient is that of both results (KeOps takes m for a constant)",
)

_EXPONENTIALS = (
    Reduction(
        "logsumexp",
        ("LogSumExp",),
        "log of the sum of exponentials, without overflow; -inf for no columns",
        (VALUE,),
        lambda dim, count: (State(1, "lowest", resumes=True), State(1, 0.0)),
        step=_exponentials_step,
        finish=_log_finish,
        merge=_exponentials_merge,
        guard=_exceeds_shift,
        adjust=_exponentials_adjust,
        cotangent=_logsumexp_cotangent,
        saves=True,
        weighted="weighted_logsumexp",
        takes="scalar",
        differs="-inf for no columns and for nothing but -inf (KeOps: NaN)",
    ),
    Reduction(
        "weighted_logsumexp",
        ("LogSumExpWeight",),
        "log of the sum of exp(formula) * formula2, without overflow; -inf for no columns",
        (VALUE,),
        lambda dim, count: (State(1, "lowest", resumes=True), State(1, 0.0), State(dim - 1, 0.0)),
        step=_exponentials_step,
        finish=_log_finish,
        merge=_exponentials_merge,
        guard=_exceeds_shift,
        adjust=_exponentials_adjust,
        cotangent=_weighted_logsumexp_cotangent,
        saves=True,
        takes="weights",
        differs="the logarithm itself (KeOps returns the pair of Max_SumShiftExpWeight)",
    ),
    Reduction(
        "softmax",
        ("SumSoftMaxWeight", "SoftMax"),
        "sum of exp(formula) * formula2, over the sum of exp(formula); NaN for no columns",
        (VALUE, Result(is_hidden=True)),
        lambda dim, count: (State(1, "lowest", resumes=True), State(1, 0.0), State(dim - 1, 0.0)),
        step=_exponentials_step,
        finish=_softmax_finish,
        merge=_exponentials_merge,
        guard=_exceeds_shift,
        adjust=_exponentials_adjust,
        cotangent=_softmax_cotangent,
        saves=True,
        takes="weights",
    ),
    _SHIFTED,
    replace(
        _SHIFTED,
        name="max_sumshiftexpweight",
        spellings=("Max_SumShiftExpWeight", "MaxSumShiftExpWeight"),
        doc="the largest value m, and the sum of exp(value - m) * formula2; "
        "-inf and 0 for no columns",
        weighted="",
        takes="weights",
    ),
)

REDUCTIONS: dict[str, Reduction] = {
    row.name: row
    for row in (
        *(replace(row, accumulates=True) for row in (*_SUMS, *_EXPONENTIALS)),
        *_PRODUCTS,
        *_EXTREMA,
    )
}

# The usual names in `reduction_op`, for messages that list them.
USUAL_SPELLINGS = tuple(row.spelling for row in REDUCTIONS.values() if row.spellings)

# The row of each name that `reduction_op` may have.
REDUCTIONS_BY_SPELLING: dict[str, Reduction] = {
    spelling: row for row in REDUCTIONS.values() for spelling in row.spellings
}
