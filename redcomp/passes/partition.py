"""partition: divide a nest with more states than a loop can keep in registers into several nests.

Each part computes some components of the results, with the states that these depend on.  Common
values, such as the shift of a LogSumExp or the value of a kernel function, are computed in each
part that needs them.  Wide states that steps update are divided into groups of components first
(`divide`).

If results are computed from the totals of all parts together, in one memory, `independent` divides
a nest into parts that have no state in common.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from redcomp.errors import ArgumentError
from redcomp.ir import (
    Carried,
    Nest,
    Part,
    Partition,
    Piece,
    Value,
    from_elements,
    leaves_of,
)
from redcomp.passes.divide import divided
from redcomp.passes.hoist import without_unused
from redcomp.passes.registry import compiler_pass
from redcomp.records import record
from redcomp.target import Context


@compiler_pass
def partition(nest: Nest, context: Context, *, most: int) -> Partition:
    """The nest in parts with at most `most` scalar states each, see `partitioned`."""
    if most < 1:
        raise ArgumentError(f"a part has at least one state, not {most}")
    return partitioned(nest, most)


@record
class _Element:
    """A component of a result (or a vector that is computed in a loop), and the states it needs."""

    result: int
    position: int
    value: Value
    states: frozenset[int]


@record
class _Unit:
    """Elements that are computed together, and the states they need."""

    states: frozenset[int]
    elements: list[_Element]


def partitioned(nest: Nest, most: int) -> Partition:
    """Parts with at most `most` scalar states each, as far as results allow to divide them.

    Where steps update wide states, components of these are counted instead.  There are as few parts
    as possible, of about the same size.  A nest keeps what has been made of it: several are
    compared before one is taken.
    """
    if most not in nest.partitions:
        nest.partitions[most] = _partitioned(nest, most)
    return nest.partitions[most]


def _partitioned(nest: Nest, most: int) -> Partition:
    whole = tuple(Piece(n, 0, result.dim) for n, result in enumerate(nest.results))
    made, pieces = divided(nest, most) if nest.updates else (nest, whole)
    needs = _Needs(made)
    units = _units(needs)
    groups = _grouped(made, units, most)
    if len(groups) == 1:
        return Partition((Part(nest, whole),))
    count = len(groups)
    for fewer in range(most - 1, 0, -1):
        smaller = _grouped(made, units, fewer)
        if len(smaller) > count:
            break
        groups = smaller
    return Partition(tuple(_part(needs, pieces, group) for group in groups))


def independent(nest: Nest, most: int, weight: Callable[[int], int]) -> tuple[Nest, ...]:
    """Parts that need no states of each other, neighbours together up to a weight of `most`.

    `weight` takes the number of a state.  All parts have the results of the whole.
    """
    needs, groups = _Needs(nest), list[list[int]]()
    for states in needs.connected():
        heavy = sum(map(weight, (*groups[-1], *states))) if groups else most + 1
        if heavy > most:
            groups.append([])
        groups[-1] += states
    if len(groups) == 1:
        return (nest,)
    return tuple(without_unused(needs.with_states(group)) for group in groups)


def _units(needs: _Needs) -> list[_Unit]:
    """All elements: with those that need most, those that need nothing else."""
    elements = list(_elements(needs))
    found = dict.fromkeys(element.states for element in elements)
    units = [_Unit(states, []) for states in found if not any(states < more for more in found)]
    for element in elements:
        next(unit for unit in units if element.states <= unit.states).elements.append(element)
    return units


def _grouped(nest: Nest, units: list[_Unit], most: int) -> list[_Unit]:
    """Neighbouring units that together need states of a weight of at most `most`."""
    groups: list[_Unit] = []
    weights = list(map(_weight_in(nest), nest.states))
    for unit in units:
        last = groups[-1] if groups else None
        together = last.states | unit.states if last else unit.states
        if last and sum(weights[n] for n in together) <= most:
            groups[-1] = _Unit(together, last.elements + unit.elements)
        else:
            groups.append(unit)
    return groups


def _weight_in(nest: Nest) -> Callable[[Carried], int]:
    """What a state counts: a scalar one, or the components of one that is updated."""
    if nest.updates:
        return lambda state: state.variable.dim if state.step.op == "update" else 0
    return lambda state: int(state.variable.dim == 1)


def _elements(needs: _Needs) -> Iterator[_Element]:
    for number, result in enumerate(needs.nest.results):
        values = result.args if result.op == "from_elements" else (result,)
        for position, value in enumerate(values):
            yield _Element(number, position, value, needs.of(value))


class _Needs:
    """Which states a value needs, and the states that these need in turn; sets are bit masks."""

    def __init__(self, nest: Nest) -> None:
        self.nest, states = nest, enumerate(nest.states)
        numbers = {v: n for n, s in states for v in (s.variable, s.total, s.other)}
        self.made_from = leaves_of(nest.values, numbers)
        self.guards = [self.made_from[guard] for guard in nest.guards]
        self.direct = [self._union(state.computed) for state in nest.states]

    def _union(self, values: Iterable[Value]) -> int:
        """What any of the values is made from."""
        return functools.reduce(operator.or_, [self.made_from[value] for value in values])

    def of(self, value: Value) -> frozenset[int]:
        """The states that must be carried for a value of totals."""
        needed, waiting = 0, self.made_from[value]
        while waiting:
            needed |= waiting
            following = 0
            for n in _numbers(waiting):
                following |= self.direct[n]
            for guard in self.guards:
                if guard & waiting:
                    following |= guard
            waiting = following & ~needed
        return frozenset(_numbers(needed))

    def connected(self) -> list[list[int]]:
        """The numbers of all states, those together that need each other."""
        lowest = list(range(len(self.direct)))

        def find(n: int) -> int:
            while lowest[n] != n:
                lowest[n] = n = lowest[lowest[n]]
            return n

        masks = [mask | 1 << n for n, mask in enumerate(self.direct)]
        for mask in (*masks, *self.guards):
            first, *others = map(find, _numbers(mask))
            for other in others:
                root, joined = sorted((find(first), find(other)))
                lowest[joined] = root
        groups: dict[int, list[int]] = {}
        for n in range(len(lowest)):
            groups.setdefault(find(n), []).append(n)
        return list(groups.values())

    def with_states(self, numbers: Iterable[int]) -> Nest:
        """The nest of some of the states."""
        kept = sorted(numbers)
        own = sum(1 << n for n in kept)
        guards = zip(self.nest.guards, self.guards, strict=True)
        return replace(
            self.nest,
            states=tuple(self.nest.states[n] for n in kept),
            guards=tuple(guard for guard, needed in guards if needed & own),
        )


def _numbers(mask: int) -> Iterator[int]:
    """The numbers of the bits of a mask."""
    while mask:
        yield (mask & -mask).bit_length() - 1
        mask &= mask - 1


def _part(needs: _Needs, pieces: Sequence[Piece], group: _Unit) -> Part:
    """The nest of some elements of its results, which are such pieces of the whole nest's."""
    runs = list(_runs(group.elements))
    results = tuple(from_elements(tuple(element.value for element in run)) for run in runs)
    own = []
    for first, *_ in runs:
        piece = pieces[first.result]
        own.append(replace(piece, first=piece.first + first.position))
    part = replace(needs.with_states(group.states), results=results)
    return Part(without_unused(part), tuple(own))


def _runs(elements: list[_Element]) -> Iterator[list[_Element]]:
    """The elements by result, those at neighbouring positions together."""
    run: list[_Element] = []
    for element in sorted(elements, key=lambda e: (e.result, e.position)):
        last = run[-1] if run else None
        if last and (last.result, last.position + 1) != (element.result, element.position):
            yield run
            run = []
        run.append(element)
    yield run
