"""The reduction of a tile: from the totals to states, over all columns, and back into the totals.

It is the same for every target: scalar states are operands, which the loop over columns carries;
states that are vectors, and all totals, are in some memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from redcomp.ir import I_BIT, Nest, Value
from redcomp.llvm_backend.components import by_counter
from redcomp.llvm_backend.emit import Emitter
from redcomp.llvm_backend.memory import Memory
from redcomp.llvm_backend.pair_step import scalar_states, scalar_types


class Advancing(Protocol):
    """A step of the pair loop."""

    def advance(self, current: list[list[str]]) -> list[list[str]]:
        """The next scalar states, see `PairStep`."""


class TileReduction:
    """The reduction of a nest over the columns of a tile, for the rows of a step."""

    def __init__(self, nest: Nest, emitter: Emitter, states: Memory, totals: Memory) -> None:
        self.nest, self.emitter, self.code = nest, emitter, emitter.code
        self.states, self.totals = states, totals
        self.scalars = scalar_states(nest)
        self.variables = [state.variable for state in self.scalars]
        shared = _of_no_row(nest)
        self.copies = [1 if v in shared else emitter.rows for v in self.variables]

    def start(self) -> list[list[str]]:
        """The first states: operands of the scalar ones, memory for the vectors."""
        emitter = self.emitter
        scalars = [state.start for state in self.scalars]
        emitter.emit(scalars)
        for counter, together in by_counter(self.nest.states, lambda s: s.start).items():
            for place in self.states.positions(self.code, counter["extent"]):
                emitter.enter_loop(counter, place)
                emitter.emit(state.start.args[0] for state in together)
                for state in together:
                    for row in range(emitter.rows):
                        operand = emitter.operand(state.start.args[0], row, 0, True)
                        self.states.store(self.code, operand, state.variable, place, row)
                emitter.leave_loop(counter)
        rows = range(self.emitter.rows)
        return [[emitter.operand(start, row, 0, True) for row in rows] for start in scalars]

    def columns(
        self,
        start: int | str,
        stop: str,
        cols: int,
        states: list[list[str]],
        step_at: Callable[[str, int], Advancing],
        index: str = "i64",
        by: int | str = 0,
    ) -> list[list[str]]:
        """The loop over columns, `cols` at a time; `step_at` makes the step at a column.

        Steps are so many columns apart, or else by those of a step.
        """
        types = scalar_types(self.nest, self.emitter)
        carried = [
            (type_, operand)
            for type_, operands, copies in zip(types, states, self.copies, strict=True)
            for operand in operands[:copies]
        ]
        with self.code.loop(start, stop, by or cols, carried, index) as loop:
            following = step_at(loop.counter, cols).advance(self._of_rows(loop.carried))
            loop.following = [
                operand
                for operands, copies in zip(following, self.copies, strict=True)
                for operand in operands[:copies]
            ]
        return self._of_rows(loop.carried)

    def _of_rows(self, carried: list[str]) -> list[list[str]]:
        """What a loop carries as a list a state, with one operand a row."""
        left = iter(carried)
        taken = [[next(left) for _ in range(copies)] for copies in self.copies]
        return [operands * (self.emitter.rows // len(operands)) for operands in taken]

    def merge(self, states: list[list[str]]) -> None:
        """Merge the tile's states into the totals."""
        for variable, operands in zip(self.variables, states, strict=True):
            self.emitter.bind(variable, operands)
        store_totals(self.emitter, [(s.total, s.merge) for s in self.nest.states], self.totals)


def joins_of(nest: Nest) -> list[tuple[Value, Value]]:
    """The totals of a nest whose columns can be split, and their values after a join."""
    return [(state.total, state.join) for state in nest.states if state.join is not None]


def store_totals(
    emitter: Emitter, following: Sequence[tuple[Value, Value]], totals: Memory
) -> None:
    """Compute the next totals, each of which may be made from all, and store them.

    All are computed before the first one changes, or of vectors all of a component.
    """

    def store(total: Value, value: Value, position: int | str) -> None:
        for row in range(emitter.rows):
            operand = emitter.operand(value, row, 0, True)
            totals.store(emitter.code, operand, total, position, row)

    scalars = [(total, value) for total, value in following if value.op != "map"]
    emitter.emit(value for _, value in scalars)
    for total, value in scalars:
        store(total, value, 0)
    for counter, together in by_counter(following, lambda pair: pair[1]).items():
        emitter.emit(value.args[0] for _, value in together)
        for place in totals.positions(emitter.code, counter["extent"]):
            emitter.enter_loop(counter, place)
            emitter.emit(value.args[0] for _, value in together)
            for total, value in together:
                store(total, value.args[0], place)
            emitter.leave_loop(counter)


def read_rows(nest: Nest, emitter: Emitter) -> None:
    """Load what the steps need of the rows, before the loop over the columns."""
    emitter.emit(
        value
        for value in nest.pair_values
        if value.dependence in (0, I_BIT) and value.op not in ("constant", "map")
    )


def _of_no_row(nest: Nest) -> set[Value]:
    """The variables of the states that are the same for all rows, such as a count of columns."""
    if nest.guards:
        return set()
    own = {state.variable for state in nest.states}
    of_rows = {
        v for v in nest.values if v.op == "variable" and v.dependence & I_BIT and v not in own
    }
    while True:  # what is made from a state that differs between rows does so too
        before = len(of_rows)
        for value in nest.values:
            if not of_rows.isdisjoint(value.args):
                of_rows.add(value)
        of_rows.update(s.variable for s in nest.states if s.start in of_rows or s.step in of_rows)
        if own <= of_rows or len(of_rows) == before:
            return own - of_rows
