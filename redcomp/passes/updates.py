"""Updates: what the pairs add to wide states, as products of matrices; a part of `products`.

    state + f(i, j) * g(j)      g of many components

All pairs of a step together multiply the matrix of the numbers f with that of the vectors g, so f
is computed once for all components.  The vectors become definitions of the nest (`Nest.updates`).

Several threads share such a state, so what happens to it besides must be the same for all of them.
A nest may have one guard, which asks for a larger shift; then states are multiplied by what follows
from the old shift and the new one, as sums of exponentials are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeGuard

from redcomp.ir import (
    I_BIT,
    J_BIT,
    Carried,
    Hoisted,
    Nest,
    Value,
    constant,
    factors_of,
    stored_of,
    topological,
    update,
    variable,
)
from redcomp.passes.tf32 import rounded
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
    states: list[Carried] = []
    moved: list[Hoisted] = []
    for state in nest.states:
        term = found.get(state.variable)
        if term is not None:
            number = len(moved)
            vector = variable(f"update{number}", "update", number, state.variable.type)
            moved.append(Hoisted(vector, term.vector))
            factors = term.format if term.format != vector.dtype else ""
            state = replace(state, step=update(state.variable, term.factor, vector, factors))
        states.append(state)
    return replace(nest, states=tuple(states), updates=tuple(moved))


def _are_possible(
    terms: Mapping[Value, _Term | None], limits: Mapping[str, UpdateLimits]
) -> TypeGuard[Mapping[Value, _Term]]:
    """Whether there are wide states, all of them have terms, and these are not too many."""
    own = [None if term is None else limits.get(term.format) for term in terms.values()]
    dims = [variable.dim for variable in terms]
    return bool(terms) and all(
        limit is not None and limit.least <= dim and sum(dims) <= limit.most
        for limit, dim in zip(own, dims, strict=True)
    )


def fits(nest: Nest, limits: Mapping[str, UpdateLimits]) -> bool:
    """Whether the vectors of the columns of a tile do."""
    steps = [state.step for state in nest.states if state.step.op == "update"]
    vectors = [h.definition.args[1] for h in nest.products]
    vectors += [h.definition for h in nest.updates]
    kept = sum(vector.dim for vector in vectors)
    computed = [vector for vector in vectors if vector.op != "variable"]
    read = sum(v.dim for v in topological(computed) if v.op == "variable" and v["kind"] == "j")
    return 2 * kept + read <= min(limits[factors_of(step)].memory for step in steps)


# -- what is added ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Term:
    """The product of a number of the pair and a vector of the column, whose numbers have a format:
    that in which they are stored, TF32 if they are rounded, or the dtype.
    """

    factor: Value
    vector: Value
    format: str


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
