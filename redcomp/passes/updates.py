"""Updates: what the pairs add to wide states, as products of matrices; a part of `products`.

    state + f(i, j) * g(j)      g of many components

All pairs of a step together multiply the matrix of the numbers f with that of the vectors g, so f
is computed once for all components.  The vectors become definitions of the nest (`Nest.updates`).

    sum_j f(i, j) * (x_i - y_j) = (x_i - o) * sum_j f(i, j) - sum_j f(i, j) * (y_j - o)

So are differences of rows and columns, of which gradients of distances are multiples, from a common
origin o (`origin`): the sum of the numbers f becomes one more state.  Where the sum cancels, its
error is that of f (x_i - o), not that of f (x_i - y_j); see docs/fast-math.md.

Several threads share such a state, so what happens to it besides must be the same for all of them.
A nest may have one guard, which asks for a larger shift; then states are multiplied by what follows
from the old shift and the new one, as sums of exponentials are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import TypeGuard

from redcomp.ir import (
    I_BIT,
    J_BIT,
    Carried,
    Hoisted,
    Nest,
    Type,
    Value,
    constant,
    convert,
    factors_of,
    stored_of,
    topological,
    update,
    variable,
)
from redcomp.passes.divide import is_divisible, most_updated
from redcomp.passes.origin import moved
from redcomp.passes.tf32 import rounded
from redcomp.records import record
from redcomp.target import Context, UpdateLimits

_PAIR = I_BIT | J_BIT


def with_updates(nest: Nest, context: Context, short: int) -> Nest:
    """The nest with its wide states updated by products of matrices; itself if some cannot be.

    States of at most `short` components are not wide.
    """
    limits = context.target.update_limits
    wide = [state for state in nest.states if state.variable.dim > short]
    found = {state.variable: _term_of(state, context) for state in wide}
    shift = _shift(nest)
    if not _are_possible(found, limits) or not all(_is_shared(s, shift) for s in (*shift, *wide)):
        return nest
    if nest.guards and not all(_is_scaled(nest, state) for state in nest.states):
        return nest
    made = _Updated(nest)
    for state in nest.states:
        made.add(state, found.get(state.variable))
    return made.nest


class _Updated:
    """The states of a nest with their updates, and what results are made of then."""

    def __init__(self, nest: Nest) -> None:
        self._whole = nest
        self._states: list[Carried] = []
        self._vectors: list[Hoisted] = []
        self._sums: dict[Value, Carried] = {}  # of the numbers by which differences are multiplied
        self._totals: dict[Value, Value] = {}

    def add(self, state: Carried, term: _Term | None) -> None:
        """The next state, and what each pair adds to it if that is a product."""
        if term is None:
            self._states.append(state)
            return
        number = len(self._vectors)
        vector = variable(f"update{number}", "update", number, state.variable.type)
        self._vectors.append(Hoisted(vector, term.vector))
        factors = term.format if term.format != vector.dtype else ""
        step = update(state.variable, term.factor, vector, factors)
        self._states.append(replace(state, step=step))
        if term.of_row is not None:
            total = self._sum(term.factor).total
            self._totals[state.total] = convert(term.of_row, total.dtype) * total + state.total

    def _sum(self, number: Value) -> Carried:
        """The state that is the sum of a number of the pairs."""
        if number not in self._sums:
            position = len(self._whole.states) + len(self._sums)
            own, total = Type(number.dtype), Type(self._whole.accumulator)
            self._sums[number] = _sum_of(number, position, own, total)
        return self._sums[number]

    @property
    def nest(self) -> Nest:
        """The nest, whose results are made of its own totals."""
        done: dict[Value, Value] = dict(self._totals)
        for value in topological(self._whole.results, known=self._totals):
            done[value] = value.with_args(tuple([done[arg] for arg in value.args]))
        return replace(
            self._whole,
            states=(*self._states, *self._sums.values()),
            results=tuple([done[result] for result in self._whole.results]),
            updates=tuple(self._vectors),
        )


def _sum_of(number: Value, position: int, own: Type, wide: Type) -> Carried:
    """The sum of a number of the pairs."""
    state = variable(f"state{position}", "state", position, own)
    total, other = (
        variable(f"{name}{position}", "total", position, wide) for name in ("total", "other")
    )
    return Carried(
        variable=state,
        initial=0.0,
        total=total,
        other=other,
        start=constant(0.0, own.dtype),
        adjust=state,
        step=state + number,
        merge=total + convert(state, wide.dtype),
        join=total + other,
    )


def _are_possible(
    terms: Mapping[Value, _Term | None], limits: Mapping[str, UpdateLimits]
) -> TypeGuard[Mapping[Value, _Term]]:
    """Whether there are wide states, and all of them have terms of enough components."""
    own = [None if term is None else limits.get(term.format) for term in terms.values()]
    dims = [variable.dim for variable in terms]
    return bool(terms) and all(
        limit is not None and limit.least <= dim for limit, dim in zip(own, dims, strict=True)
    )


def fits(nest: Nest, limits: Mapping[str, UpdateLimits]) -> bool:
    """Whether registers and memory have room for the states, or for groups of their components."""
    most = most_updated(nest, limits)
    least = max(limits[factors_of(s.step)].least for s in nest.states if s.step.op == "update")
    wide = sum(h.variable.dim for h in nest.updates)
    return wide <= most or (most >= least and is_divisible(nest))


# -- what is added ---------------------------------------------------------------------------------


@record
class _Term:
    """The product of a number of the pair and the sum of a vector of the column and one of the row.

    Without the latter there is none.  The vectors' numbers have a format: that in which they are
    stored, TF32 if they are rounded, or the dtype.
    """

    factor: Value
    vector: Value
    format: str
    of_row: Value | None = None


def _term_of(state: Carried, context: Context) -> _Term | None:
    """What each pair adds to a state, if that is such a product."""
    own, step = state.variable, state.step
    if step.op == "add" and own in step.args:
        (added,) = [arg for arg in step.args if arg is not own] or [own]
        factors = list(_factors(added))
    elif step.op == "fma" and step.args[2] is own:
        factors = [factor for arg in step.args[:2] for factor in _factors(arg)]
    else:
        return None
    sums = [f for f in factors if f.dim > 1 and f.dependence == _PAIR]
    if len(sums) == 1:
        factors.remove(sums[0])
        return _term_of_sum(state, sums[0], factors, context)
    vectors = [f for f in factors if f.dim > 1 or f.dependence == J_BIT]
    numbers = [f for f in factors if f not in vectors]
    if any(v.dependence & ~J_BIT for v in vectors) or not any(v.dim > 1 for v in vectors):
        return None
    if not any(n.dependence == _PAIR for n in numbers):
        return None
    factor, vector = _product(numbers), _product(vectors)
    if vector.type != own.type:
        return None
    if context.allow_tf32 and vector.dtype == "f32" and not stored_of(vector):
        return _Term(rounded(factor), rounded(vector), "tf32")
    return _Term(factor, vector, stored_of(vector) or vector.dtype)


def _term_of_sum(
    state: Carried, vector: Value, numbers: list[Value], context: Context
) -> _Term | None:
    """The product of numbers with a sum or difference of a row and a column, from their origin.

    Where columns are rounded to TF32 rows are, too, so that near ones stay near.
    """
    is_number = all(n.dim == 1 for n in numbers) and any(n.dependence == _PAIR for n in numbers)
    if not is_number or vector.op not in ("add", "subtract") or not _is_sum(state):
        return None
    if [arg.dim for arg in vector.args] != [state.variable.dim] * 2:
        return None
    if {arg.dependence for arg in vector.args} != {I_BIT, J_BIT}:
        return None
    sides = moved(vector)
    if sides is None:
        return None
    a, b = sides
    b = -b if vector.op == "subtract" else b
    of_row, of_column = (a, b) if a.dependence == I_BIT else (b, a)
    factor = _product(numbers)
    if context.allow_tf32 and vector.dtype == "f32":
        return _Term(rounded(factor), rounded(of_column), "tf32", rounded(of_row))
    return _Term(factor, of_column, vector.dtype, of_row)


def _is_sum(state: Carried) -> bool:
    """Whether a state is the sum of what pairs add, and nothing else changes it."""
    own, total = state.variable, state.total
    is_zero = state.start.op == "broadcast" and state.start.args[0].is_constant
    return (
        state.initial == 0.0
        and state.adjust is own
        and is_zero
        and state.start.args[0]["value"] == 0.0
        and _adds(state.merge, total, own)
        and state.join is not None
        and _adds(state.join, total, state.other)
    )


def _adds(value: Value, a: Value, b: Value) -> bool:
    """Whether a value is the sum of two variables, of which one may be converted."""
    if value.op != "add":
        return False
    args = [arg.args[0] if arg.op == "convert" else arg for arg in value.args]
    return {*args} == {a, b}


def _factors(value: Value) -> Iterable[Value]:
    """The factors of a product, or the value."""
    if value.op == "negate":
        yield constant(-1.0, value.dtype)
        yield from _factors(value.args[0])
    elif value.op == "multiply":
        for arg in value.args:
            yield from _factors(arg)
    elif value.op == "broadcast":
        yield from _factors(value.args[0])
    else:
        yield value


def _product(factors: list[Value]) -> Value:
    made, *others = factors
    for factor in others:
        made = made * factor
    return made


# -- what happens to shared states -----------------------------------------------------------------


def _shift(nest: Nest) -> list[Carried]:
    """The state that the nest's only guard compares an exponent with, which no step changes."""
    if len(nest.guards) != 1:
        return []
    (guard,) = nest.guards
    if guard.op != "compare" or guard["predicate"] != "ogt":
        return []
    return [state for state in nest.states if guard.args[1] is state.variable is state.step]


def _is_shared(state: Carried, shift: Iterable[Carried]) -> bool:
    """Whether it starts, is merged and is joined in the same way by all who share it."""
    own = {v for s in (*shift, state) for v in (s.variable, s.total, s.other)}
    return all(
        value is not None and _reads(value) <= own
        for value in (state.start, state.merge, state.join)
    )


def _reads(value: Value) -> set[Value]:
    """The variables that a value reads."""
    return {v for v in topological([value]) if v.op == "variable"}


def _is_scaled(nest: Nest, state: Carried) -> bool:
    """Whether adjusting it for the largest of several exponents adjusts it for all of them.

    So it is with the larger one of the shift and the exponent, and with a multiple of a state by
    what depends on these only.
    """
    if not _shift(nest):
        return False
    exponent, shift = nest.guards[0].args
    adjust = state.adjust
    if state.variable is shift:
        others = [arg for arg in adjust.args if arg is not shift]
        return adjust.op == "greater_of" and len(others) == 1 and _is_made_of(others, {exponent})
    others = [arg for arg in adjust.args if arg is not state.variable]
    is_multiple = adjust.op == "multiply" and len(others) == 1
    return is_multiple and _is_made_of(others, {exponent, shift})


def _is_made_of(values: Iterable[Value], leaves: Collection[Value]) -> bool:
    """Whether values depend on these and on constants only."""
    return not any(v.op == "variable" for v in topological(values, known=leaves))
