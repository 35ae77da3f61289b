"""What values that are vectors need, on every target: loops over components, where they live."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from redcomp.ir import Value, component, read_in_loops, topological
from redcomp.llvm_backend.code import Code
from redcomp.llvm_backend.emit import Emitter, Loader
from redcomp.llvm_backend.memory import all_positions
from redcomp.llvm_backend.spelling import LLVM_TYPES

State = TypeVar("State")  # a state, or what stands for one


def by_counter(states: Iterable[State], part: Callable[[State], Value]) -> dict[Value, list[State]]:
    """The states of which a part is a map, by the counter of its loop."""
    groups: dict[Value, list[State]] = {}
    for state in states:
        if part(state).op == "map":
            groups.setdefault(part(state).args[1], []).append(state)
    return groups


def component_of(state: Value, counter: Value, elements: Sequence[Value]) -> Value:
    """The component of a vector state that the loop over it steps; steps need not read it."""
    for value in topological(elements):
        if value.op == "component" and value.args[0] is state and value.args[-1] is counter:
            return value
    return component(state, counter)


def read_by(elements: Sequence[Value], states: Sequence[Value]) -> list[Value]:
    """What elements of vectors need of the scalar states, computed outside of their loops."""
    reached = set(states)
    for value in topological(elements):
        if any(arg in reached for arg in value.args):
            reached.add(value)
    return [value for value in read_in_loops(elements) if value in reached]


def store_all(
    emitter: Emitter,
    values: Sequence[Value],
    store: Callable[[int, int | str, str], None],
    positions: Callable[[Code, int], Iterator[str]] = all_positions,
) -> None:
    """Compute values and give each component to `store(number, position, operand)`.

    Of those that loops make, the ones at some positions.
    """
    for n, value in enumerate(values):
        if value.op == "map":
            element, counter = value.args
            emitter.emit([element])  # what does not change in the loop, before it
            for place in positions(emitter.code, counter["extent"]):
                emitter.enter_loop(counter, place)
                emitter.emit([element])
                store(n, place, emitter.operand(element, 0, 0, True))
                emitter.leave_loop(counter)
            continue
        elements = value.args if value.op == "from_elements" else (value,)
        emitter.emit(elements)
        for k, element in enumerate(elements):
            store(n, k, emitter.operand(element, 0, 0, True))


class Visit:
    """A component of vectors of one length that loops would make.

    `place` is below `depth`; beyond the last component they are 0.
    """

    def __init__(self, emitter: Emitter, vectors: Sequence[Value], place: str, depth: int) -> None:
        self.code, self.place, self.vectors = emitter.code, place, vectors
        dim = vectors[0].dim
        self.limit = 0 if dim == depth else dim
        elements, counters = zip(*[vector.args for vector in vectors], strict=True)
        self.elements: Sequence[Value] = elements
        emitter.emit(elements)  # what is the same for all components, before
        inside = place if dim == depth else emitter.code.smaller(place, dim - 1)
        self.emitter = emitter.within(emitter.load, emitter.cols)
        self.emitter.enter_loop(counters[0], inside)
        for counter in counters[1:]:
            self.emitter.bind(counter, [inside])

    def read(self) -> None:
        """Read what they are made of, before that is computed."""
        self.emitter.emit(v for v in topological(self.elements) if v.op == "component")

    def operands(self, points: Sequence[tuple[int, int]]) -> list[list[str]]:
        """Those of each vector, by row and column of the emitter."""
        return [[self.inside(operand, "0.0") for operand in own] for own in self.unlimited(points)]

    def unlimited(self, points: Sequence[tuple[int, int]]) -> list[list[str]]:
        """The same, which beyond the last component are that one."""
        emitter = self.emitter
        emitter.emit(self.elements)
        return [[emitter.operand(element, *p, True) for p in points] for element in self.elements]

    def inside(self, operand: str, otherwise: str) -> str:
        """One of two operands: the first one if there is a component."""
        if not self.limit:
            return operand
        is_inside = self.code.value(f"icmp slt i64 {self.place}, {self.limit}")
        return self.code.select(is_inside, LLVM_TYPES[self.vectors[0].dtype], operand, otherwise)


# Numbers are packed into the records of rows and columns.
_PACKED_WITH = {"i_index": "i", "j_index": "j", "column": "j", "ji": "ij"}


def by_kind(**loaders: Loader) -> Loader:
    """A loader that asks the one for the variable's kind."""

    def load(variable: Value, position: int | str, row: int, col: int) -> str:
        kind = variable["kind"]
        return loaders[_PACKED_WITH.get(kind, kind)](variable, position, row, col)

    return load
