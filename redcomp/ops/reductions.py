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
    empty       the result of no columns at all
    step        (states, value) to the next states
    merge       (states, states) to the states of both sets of columns
    finish      states to the result
    cotangent   (value, result, result's cotangent) to the value's cotangent, for each pair; None if
                the reduction has no gradient
    uses_result whether `cotangent` reads the result
    is_scalar   whether it takes formulas of dimension 1 only
    """

    name: str
    spelling: str
    doc: str
    initial: tuple[float, ...]
    empty: float
    step: Callable[[States, Value], States]
    merge: Callable[[States, States], States]
    finish: Callable[[States], Value]
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
        empty=neutral,
        step=lambda states, value: (elementwise(winner, value, states[0]),),
        merge=lambda a, b: (elementwise(winner, b[0], a[0]),),
        finish=lambda states: states[0],
    )


# log(sum exp) carries the largest value m so far and s = sum exp(value - m).  Where two sides are
# equal their factors are 1 without a subtraction, which would be NaN for infinities; so all -inf
# gives -inf and a +inf gives +inf.


def _lse_step(states: States, value: Value) -> States:
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
            empty=0.0,
            step=lambda states, value: (states[0] + value,),
            merge=lambda a, b: (a[0] + b[0],),
            finish=lambda states: states[0],
            cotangent=lambda value, result, e: e,
        ),
        _extremum("min", "Min", "less_of", float("inf")),
        _extremum("max", "Max", "greater_of", float("-inf")),
        Reduction(
            "logsumexp",
            "LogSumExp",
            "log of the sum of exponentials, without overflow; -inf for no columns",
            initial=(float("-inf"), 0.0),
            empty=float("-inf"),
            step=_lse_step,
            merge=_lse_merge,
            finish=lambda states: states[0] + apply("log", states[1]),
            cotangent=_lse_cotangent,
            uses_result=True,
            is_scalar=True,
        ),
    )
}
