"""The table of reductions: how the values of one row are combined over all columns.

A row is written once, in the IR, and serves pairs, lanes, tiles, threads and splits of the columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from redcomp.ir import Value, compare, constant, elementwise, select
from redcomp.ops.table import ShapeError, apply

States = tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Reduction:
    """One row of the table; `states` are the scalars that a reduction carries for each component.

    name        the reduction's name in the IR
    spelling    its name in `reduction_op`
    doc         one line of documentation
    initial     the states' value before the first column: the neutral element
    empty       the results of no columns at all
    step        (states, value, number of the column) to the next states
    merge       (states, states) to the states of both sets of columns, the first ones coming first
    finish      states to the results
    is_index    which of the states are numbers of columns
    gives_index which of the results are: these are int64
    cotangent   (value, result, result's cotangent) to the value's cotangent, for each pair; None if
                the reduction has no gradient
    uses_result whether `cotangent` reads the result
    is_scalar   whether it takes formulas of dimension 1 only
    """

    name: str
    spelling: str
    doc: str
    initial: tuple[float, ...]
    empty: tuple[float, ...]
    step: Callable[[States, Value, Value], States]
    merge: Callable[[States, States], States]
    finish: Callable[[States], tuple[Value, ...]]
    is_index: tuple[bool, ...] = (False,)
    gives_index: tuple[bool, ...] = (False,)
    cotangent: Callable[[Value, Value, Value], Value] | None = None
    uses_result: bool = False
    is_scalar: bool = False

    def check(self, dim: int) -> None:
        """Raise ShapeError if a formula of this dimension cannot be reduced."""
        if self.is_scalar and dim != 1:
            raise ShapeError(f"{self.spelling} takes a formula of dimension 1, not {dim}")


def _extremum(name: str, spelling: str, winner: str, neutral: float) -> Reduction:
    """The scan keeps the first extremum; comparisons with NaN fail, so NaN is passed over."""
    word = "smallest" if neutral > 0 else "largest"
    return Reduction(
        name,
        spelling,
        f"{word} value of each component, NaN passed over; {neutral} for no columns",
        initial=(neutral,),
        empty=(neutral,),
        step=lambda states, value, column: (elementwise(winner, value, states[0]),),
        merge=lambda a, b: (elementwise(winner, b[0], a[0]),),
        finish=lambda states: states,
    )


def _placed_extremum(
    name: str, spelling: str, predicate: str, neutral: float, with_value: bool
) -> Reduction:
    """An extremum and where it is; comparisons are strict, so the first one wins."""
    word = "smallest" if neutral > 0 else "largest"

    def better(old: States, new: States) -> States:
        wins = compare(predicate, new[0], old[0])
        return select(wins, new[0], old[0]), select(wins, new[1], old[1])

    both = f"{word} value of each component and the number of the first column that has it"
    place = f"number of the first column with the {word} value of each component"
    return Reduction(
        name,
        spelling,
        f"{both if with_value else place}; 0 where there is none",
        initial=(neutral, 0.0),
        empty=(neutral, 0.0) if with_value else (0.0,),
        step=lambda states, value, column: better(states, (value, column)),
        merge=better,
        finish=lambda states: states if with_value else states[1:],
        is_index=(False, True),
        gives_index=(False, True) if with_value else (True,),
    )


# log(sum exp) carries the largest value m so far and s = sum exp(value - m).  Where two sides are
# equal their factors are 1 without a subtraction, which would be NaN for infinities; so all -inf
# gives -inf and a +inf gives +inf.


def _lse_step(states: States, value: Value, column: Value) -> States:
    largest, total = states
    decay = apply("exp", -elementwise("abs", value - largest))
    decay = select(compare("oeq", value, largest), 1.0, decay)
    is_new = compare("ogt", value, largest)
    return (
        select(is_new, value, largest),
        select(is_new, total * decay + 1.0, total + decay),
    )


def _lse_merge(a: States, b: States) -> States:
    (left, left_total), (right, right_total) = a, b
    decay = apply("exp", -elementwise("abs", left - right))
    decay = select(compare("oeq", left, right), 1.0, decay)
    is_new = compare("ogt", right, left)
    return (
        select(is_new, right, left),
        select(is_new, left_total * decay + right_total, left_total + right_total * decay),
    )


def _lse_cotangent(value: Value, result: Value, e: Value) -> Value:
    """e * softmax; where all values are -inf there is no weight anywhere."""
    weight = apply("exp", value - result)
    nothing = compare("oeq", result, constant(float("-inf"), result.dtype))
    return e * select(nothing, 0.0, weight)


REDUCTIONS: dict[str, Reduction] = {
    row.name: row
    for row in (
        Reduction(
            "sum",
            "Sum",
            "sum over the columns; 0 for none",
            initial=(0.0,),
            empty=(0.0,),
            step=lambda states, value, column: (states[0] + value,),
            merge=lambda a, b: (a[0] + b[0],),
            finish=lambda states: states,
            cotangent=lambda value, result, e: e,
        ),
        _extremum("min", "Min", "less_of", float("inf")),
        _extremum("max", "Max", "greater_of", float("-inf")),
        _placed_extremum("argmin", "ArgMin", "olt", float("inf"), with_value=False),
        _placed_extremum("argmax", "ArgMax", "ogt", float("-inf"), with_value=False),
        _placed_extremum("min_argmin", "Min_ArgMin", "olt", float("inf"), with_value=True),
        _placed_extremum("max_argmax", "Max_ArgMax", "ogt", float("-inf"), with_value=True),
        Reduction(
            "logsumexp",
            "LogSumExp",
            "log of the sum of exponentials, without overflow; -inf for no columns",
            initial=(float("-inf"), 0.0),
            empty=(float("-inf"),),
            step=_lse_step,
            merge=_lse_merge,
            finish=lambda states: (states[0] + apply("log", states[1]),),
            is_index=(False, False),
            cotangent=_lse_cotangent,
            uses_result=True,
            is_scalar=True,
        ),
    )
}
