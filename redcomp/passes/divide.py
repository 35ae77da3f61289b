"""divide: wide states of more components than registers hold, as several; a part of `partition`.

Each group of components of a state that steps update (`updates`) becomes a state of its own, with
its part of the columns' vectors and of the result.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from redcomp.errors import CompilerError
from redcomp.ir import (
    Carried,
    Hoisted,
    Nest,
    Piece,
    Type,
    Value,
    component,
    factors_of,
    index,
    topological,
    variable,
    vector_map,
)
from redcomp.ops.access import shifted
from redcomp.passes.linear import acts_componentwise
from redcomp.records import record
from redcomp.target import UpdateLimits

# Groups are whole products of matrices.
_UNIT = 8


def most_updated(nest: Nest, limits: Mapping[str, UpdateLimits]) -> int:
    """The components that wide states may have together, beside the vectors of products.

    Those of the columns of a tile have to fit into memory, and what they are computed from, unless
    it comes in chunks.  There are limits for each format of the vectors.
    """
    own = [limits[factors_of(state.step)] for state in _updated(nest)]
    chunk = min(limit.chunk for limit in own)
    of_products = [h.definition.args[1] for h in nest.products]
    vectors = [*of_products, *(h.definition for h in nest.updates)]
    made = [vector for vector in vectors if not _is_copy(vector)]
    variables = [v for v in topological(made) if v.op == "variable" and v["kind"] == "j"]
    kept = min(limit.kept for limit in own)
    read = sum(v.dim for v in variables if v.dim <= kept)
    memory = min(limit.memory for limit in own)
    of_tile = sum(vector.dim if vector.dim <= kept else chunk for vector in of_products)
    return min((memory - read) // 2 - of_tile, *(limit.most for limit in own))


def _is_copy(vector: Value) -> bool:
    """Whether a column's vector is an argument as it is, before `scalarize` or after it."""
    element = vector.args[0] if vector.op == "map" else vector
    if element.op == "component" and element.args[-1] is vector.args[1]:
        element = element.args[0]
    return element.op == "variable"


def is_divisible(nest: Nest) -> bool:
    """Whether each component of a wide state is for the same component of one result alone."""
    for state in _updated(nest):
        users = [result for result in nest.results if _reads(result, [state.total])]
        if len(users) != 1 or not acts_componentwise(users[0], state.total):
            return False
        others = [other.total for other in _updated(nest) if other is not state]
        if _reads(users[0], others):
            return False
    return True


def divided(nest: Nest, most: int) -> tuple[Nest, tuple[Piece, ...]]:
    """The nest whose updated states have at most `most` components each, and what of which result
    of the whole each of its results is.
    """
    states: list[Carried] = []
    vectors: list[Hoisted] = []
    groups: dict[Value, list[_Group]] = {}  # by the total
    definitions = {h.variable: h for h in nest.updates}
    numbers = itertools.count(len(nest.states))
    for state in nest.states:
        if state.step.op != "update":
            states.append(state)
            continue
        vector = definitions[state.step.args[2]]
        if state.variable.dim <= most:
            states.append(state)
            vectors.append(vector)
            continue
        groups[state.total] = list(_groups(state, most, numbers))
        for group in groups[state.total]:
            made, own = group.of_state(state, vector.definition)
            states.append(made)
            vectors.append(own)
    if not groups:
        return nest, tuple(Piece(n, 0, result.dim) for n, result in enumerate(nest.results))
    results, pieces = _divided_results(nest, groups)
    whole = replace(nest, states=tuple(states), results=results, updates=tuple(vectors))
    return whole, pieces


def _divided_results(
    nest: Nest, groups: Mapping[Value, list[_Group]]
) -> tuple[tuple[Value, ...], tuple[Piece, ...]]:
    """The results, those of divided states by groups, and which components they are."""
    results: list[Value] = []
    pieces: list[Piece] = []
    for number, result in enumerate(nest.results):
        own = next((found for total, found in groups.items() if _reads(result, [total])), None)
        if own is None:
            results.append(result)
            pieces.append(Piece(number, 0, result.dim))
            continue
        results += [group.of(result) for group in own]
        pieces += [Piece(number, group.first, result.dim) for group in own]
    return tuple(results), tuple(pieces)


def _updated(nest: Nest) -> list[Carried]:
    return [state for state in nest.states if state.step.op == "update"]


def _reads(value: Value, variables: Iterable[Value]) -> bool:
    wanted = set(variables)
    return any(part in wanted for part in topological([value]))


@record
class _Group:
    """Components `first`, `first + 1`, ... of a state, and the variables that stand for them."""

    first: int
    dim: int
    renamed: Mapping[Value, Value]

    def of(self, vector: Value) -> Value:
        """The same components of a vector that is made component by component."""
        if vector in self.renamed:
            return self.renamed[vector]
        element, counter = vector.args
        own = index(self.dim, counter["level"])
        place = shifted(own, self.first)
        assert isinstance(place, Value)
        done = {counter: place}
        for value in topological([element], known=done):
            if value.op == "component" and value.args[0] in self.renamed:
                if value.args[-1] is not counter:
                    raise CompilerError("a component of a state is made of another one")
                done[value] = component(self.renamed[value.args[0]], own)
            else:
                done[value] = value.with_args(tuple([done[arg] for arg in value.args]))
        return vector_map(done[element], own)

    def of_state(self, state: Carried, vector: Value) -> tuple[Carried, Hoisted]:
        """The state of the group, and what it adds a multiple of."""
        own = self.renamed[state.variable]
        number = own["position"]
        name = variable(f"update{number}", "update", number, own.type)
        made = Carried(
            variable=own,
            initial=state.initial,
            total=self.renamed[state.total],
            other=self.renamed[state.other],
            start=self.of(state.start),
            adjust=self.of(state.adjust),
            step=replace(state.step, args=(own, state.step.args[1], name), type=own.type),
            merge=self.of(state.merge),
            join=None if state.join is None else self.of(state.join),
        )
        return made, Hoisted(name, self.of(vector))


def _groups(state: Carried, most: int, numbers: Iterator[int]) -> Iterator[_Group]:
    """As few groups as there can be, of about the same size."""
    dim = state.variable.dim
    count = -(-dim // (most - most % _UNIT))
    size = -(-dim // (count * _UNIT)) * _UNIT
    for first in range(0, dim, size):
        number, own = next(numbers), min(size, dim - first)
        renamed = {
            old: variable(f"{name}{number}", old["kind"], number, Type(old.dtype, own))
            for old, name in (
                (state.variable, "state"),
                (state.total, "total"),
                (state.other, "other"),
            )
        }
        yield _Group(first, own, renamed)
