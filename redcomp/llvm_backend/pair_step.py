"""One step of the pair loop: how a block of pairs changes the states of a reduction.

It is the same for every target: scalar states are operands, which a loop carries; states that are
vectors, and all totals, are in some memory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from redcomp.ir import I_BIT, Carried, Nest, Value, leaves_of, topological
from redcomp.llvm_backend.components import by_counter, component_of, read_by
from redcomp.llvm_backend.emit import Emitter
from redcomp.llvm_backend.memory import Memory


class PairStep:
    """The reduction of a nest over the columns of a tile, for the rows of a step."""

    def __init__(self, nest: Nest, emitter: Emitter, states: Memory, totals: Memory) -> None:
        self.nest, self.emitter, self.code = nest, emitter, emitter.code
        self.states, self.totals = states, totals
        emitter.scans = states
        self.scalars = [state for state in nest.states if state.variable.dim == 1]
        self.variables = [state.variable for state in self.scalars]
        shared = _of_no_row(nest)
        self.copies = [1 if v in shared else emitter.rows for v in self.variables]

    def read_rows(self) -> None:
        """Load what the steps need of the rows, before the loop over the columns."""
        self.emitter.emit(
            value
            for value in self.nest.pair_values
            if value.dependence in (0, I_BIT) and value.op not in ("constant", "map")
        )

    def start(self) -> list[list[str]]:
        """The first states: operands of the scalar ones, memory for the vectors."""
        emitter = self.emitter
        scalars = [state.start for state in self.scalars]
        emitter.emit(scalars)
        for counter, together in by_counter(self.nest.states, lambda s: s.start).items():
            with self.code.loop(0, counter["extent"], 1) as loop:
                emitter.enter_loop(counter, loop.counter)
                emitter.emit(state.start.args[0] for state in together)
                for state in together:
                    for row in range(emitter.rows):
                        operand = emitter.operand(state.start.args[0], row, 0, True)
                        self.states.store(self.code, operand, state.variable, loop.counter, row)
                emitter.leave_loop(counter)
        rows = range(self.emitter.rows)
        return [[emitter.operand(start, row, 0, True) for row in rows] for start in scalars]

    def columns(
        self,
        start: int | str,
        stop: str,
        cols: int,
        states: list[list[str]],
        point_at: Callable[[str], None],
        index: str = "i64",
    ) -> list[list[str]]:
        """The loop over columns, `cols` at a time; `point_at` aims the loaders at a column."""
        code = self.code
        types = self._types()
        carried = [
            (type_, operand)
            for type_, operands, copies in zip(types, states, self.copies, strict=True)
            for operand in operands[:copies]
        ]
        with code.loop(start, stop, cols, carried, index) as loop:
            self.emitter.cols = cols
            point_at(loop.counter)
            self.emitter.enter()
            following = self._advance(self._of_rows(loop.carried))
            self.emitter.leave()
            self.emitter.cols = 1
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

    def _advance(self, current: list[list[str]]) -> list[list[str]]:
        """Adjust and step all states; the scalar ones are operands, one list a state."""
        if self.nest.guards:
            current = self.adjusted(current)
        steps = [state.step for state in self.scalars]
        elements = [s.step.args[0] for s in self.nest.states if s.step.op == "map"]
        reading = read_by(elements, self.variables)
        following = self.emitter.advance(steps, self.variables, current, reading)
        for counter, together in by_counter(self.nest.states, lambda s: s.step).items():
            self._advance_vectors(counter, together)
        return following

    def _advance_vectors(self, counter: Value, together: Sequence[Carried]) -> None:
        """Step states that are vectors of one length, in memory, in one loop over components."""
        variables, emitter = [state.variable for state in together], self.emitter
        elements = [state.step.args[0] for state in together]
        leaves = [component_of(variable, counter, elements) for variable in variables]
        rows = range(self.emitter.rows)
        emitter.emit(elements)
        with self.code.loop(0, counter["extent"], 1) as loop:
            emitter.enter_loop(counter, loop.counter)
            current = [
                [self.states.load(self.code, variable, loop.counter, row) for row in rows]
                for variable in variables
            ]
            following = emitter.advance(elements, leaves, current)
            for variable, operands in zip(variables, following, strict=True):
                for row in rows:
                    self.states.store(self.code, operands[row], variable, loop.counter, row)
            emitter.leave_loop(counter)

    # -- rare adjustments --------------------------------------------------------------------------

    def adjusted(self, current: list[list[str]]) -> list[list[str]]:
        """The scalar states after adjusting what the guards of some pair of the block ask for.

        First all pairs are asked together, since mostly none of them needs it; then each row's, and
        then each pair.
        """
        nest, emitter = self.nest, self.emitter
        guarding, types = emitter.prepare(nest.guards, self.variables), self._types()
        rows = range(emitter.rows)
        of_rows = [[s[row] for s in current] for row in rows]
        truths = [self._any_truth(guarding, states, row) for row, states in enumerate(of_rows)]
        if emitter.rows == 1:
            return [[state] for state in self._adjusted_row(guarding, of_rows[0], truths, 0)]
        carried = [(type_, s[row]) for type_, s in zip(types, current, strict=True) for row in rows]
        with self.code.when(emitter.any_lane(truths), carried, is_rare=True) as after:
            made = [
                self._adjusted_row(guarding, states, self._truths(guarding, states, row), row)
                for row, states in enumerate(of_rows)
            ]
            after[:] = [operand for state in zip(*made, strict=True) for operand in state]
        return [after[n * len(rows) : (n + 1) * len(rows)] for n in range(len(current))]

    def _types(self) -> list[str]:
        """LLVM's types of the scalar states."""
        return [self.emitter.type_of(variable.dtype, True) for variable in self.variables]

    def _truths(
        self, guarding: Sequence[Value], states: list[str], row: int, cols: Sequence[int] = ()
    ) -> list[str]:
        """The guards of a row's pairs in some columns of the step, or in all."""
        emitter, found = self.emitter, []
        for col in cols or range(emitter.cols):
            with emitter.at_pair(self.variables, states, guarding, row, col):
                found += [emitter.operand(guard, row, col, True) for guard in self.nest.guards]
        return found

    def _any_truth(self, guarding: Sequence[Value], states: list[str], row: int) -> str:
        """Whether a guard asks for one of a row's pairs in the step, but for pairs with NaN.

        Where minima cost no more than comparisons, the least value of all columns is compared: the
        assembler makes longer code of many truth values.
        """
        emitter = self.emitter
        found: list[str] = []
        for guard in self.nest.guards:
            spelling = self._extreme(guard, guarding)
            if not spelling:
                return emitter.either(self._truths(guarding, states, row))
            value = guard.args[0]
            emitter.enter()
            emitter.bind(value, [self._over_columns(spelling, value, row)])
            with emitter.at_pair(self.variables, states, guarding, row, 0):
                found.append(emitter.operand(guard, row, 0, True))
            emitter.leave()
        return emitter.either(found)

    def _extreme(self, guard: Value, guarding: Sequence[Value]) -> str:
        """The intrinsic that makes one comparison of many, if they all are with the same state."""
        if guard.op != "compare" or guard.args[1] not in self.variables:
            return ""
        value = guard.args[0]
        key = guard["predicate"], value.dtype
        return "" if value in guarding else self.emitter.target.extremes.get(key, "")

    def _over_columns(self, spelling: str, value: Value, row: int) -> str:
        """What an intrinsic of two operands makes of a row's values in the step."""
        emitter, type_ = self.emitter, self.emitter.type_of(value.dtype, True)
        values = [emitter.operand(value, row, col, True) for col in range(emitter.cols)]
        return functools.reduce(
            lambda a, b: self.code.call(type_, spelling, [type_, type_], [a, b]), values
        )

    def _adjusted_row(
        self,
        guarding: Sequence[Value],
        before: list[str],
        truths: Sequence[str],
        row: int,
    ) -> list[str]:
        """The scalar states of a row after adjusting them for its pairs, column by column.

        Unless one of the truth values holds, no pair asks for it.
        """
        emitter, types = self.emitter, self._types()
        is_any = emitter.any_lane(truths)
        carried = list(zip(types, before, strict=True))
        with self.code.when(is_any, carried, is_rare=True) as after:
            if emitter.cols == 1:  # of which this has been asked
                after[:] = self._adjust_pair(before, row, 0)
                return after
            for col in range(emitter.cols):
                carried = list(zip(types, after, strict=True))
                is_here = emitter.any_lane(self._truths(guarding, after, row, [col]))
                with self.code.when(is_here, carried, is_rare=True) as adjusted:
                    adjusted[:] = self._adjust_pair(adjusted, row, col)
                after[:] = adjusted
        return after

    def _adjust_pair(self, operands: list[str], row: int, col: int) -> list[str]:
        """Adjust all states for one pair; the next scalar ones."""
        states, variables, emitter = self.nest.states, self.variables, self.emitter
        adjusts = [state.adjust for state in self.scalars]
        elements = [s.adjust.args[0] for s in states if s.adjust.op == "map"]
        emitter.enter()
        order = emitter.prepare((*adjusts, *read_by(elements, variables)), variables)
        with emitter.at_pair(variables, operands, order, row, col):
            following = [emitter.operand(adjust, row, col, True) for adjust in adjusts]
            for counter, together in by_counter(states, lambda s: s.adjust).items():
                adjust_vectors(emitter, self.states, counter, together, row, col)
        emitter.leave()
        return following

    def merge(self, states: list[list[str]]) -> None:
        """Merge the tile's states into the totals."""
        emitter = self.emitter
        for variable, operands in zip(self.variables, states, strict=True):
            emitter.bind(variable, operands)
        scalars = [state for state in self.nest.states if state.merge.op != "map"]
        emitter.emit(state.merge for state in scalars)  # all before the first total changes
        for state in scalars:
            self._store_totals(state.total, state.merge, 0)
        for counter, together in by_counter(self.nest.states, lambda s: s.merge).items():
            emitter.emit(state.merge.args[0] for state in together)
            with self.code.loop(0, counter["extent"], 1) as loop:
                emitter.enter_loop(counter, loop.counter)
                emitter.emit(state.merge.args[0] for state in together)
                for state in together:
                    self._store_totals(state.total, state.merge.args[0], loop.counter)
                emitter.leave_loop(counter)

    def _store_totals(self, total: Value, value: Value, position: int | str) -> None:
        for row in range(self.emitter.rows):
            operand = self.emitter.operand(value, row, 0, True)
            self.totals.store(self.code, operand, total, position, row)


def _of_no_row(nest: Nest) -> set[Value]:
    """The variables of the states that are the same for all rows, such as a count of columns."""
    if nest.guards:
        return set()
    rules = [value for state in nest.states for value in (state.start, state.step)]
    count = len(nest.states)
    rows = {v: count for v in topological(rules) if v.op == "variable" and v.dependence & I_BIT}
    numbers = {state.variable: n for n, state in enumerate(nest.states)}
    made_from = leaves_of(rules, rows | numbers)
    changing = 1 << count
    while True:  # what is made from a state that differs between rows does so too
        known = changing
        for n, state in enumerate(nest.states):
            if (made_from[state.start] | made_from[state.step]) & changing:
                changing |= 1 << n
        if changing == known:
            return {variable for variable, n in numbers.items() if not changing >> n & 1}


def adjust_vectors(
    emitter: Emitter,
    memory: Memory,
    counter: Value,
    together: Sequence[Carried],
    row: int = 0,
    col: int = 0,
) -> None:
    """Adjust states that are vectors of one length for one pair, in one loop over components."""
    variables, code = [state.variable for state in together], emitter.code
    elements = [state.adjust.args[0] for state in together]
    leaves = [component_of(variable, counter, elements) for variable in variables]
    emitter.emit(elements)
    with code.loop(0, counter["extent"], 1) as loop:
        emitter.enter_loop(counter, loop.counter)
        order = emitter.prepare(elements, leaves)
        loaded = [memory.load(code, v, loop.counter, row) for v in variables]
        with emitter.at_pair(leaves, loaded, order, row, col):
            for variable, element in zip(variables, elements, strict=True):
                operand = emitter.operand(element, row, col, True)
                memory.store(code, operand, variable, loop.counter, row)
        emitter.leave_loop(counter)
