"""One step of the pair loop: how a block of pairs changes the states of a reduction.

It is the same for every target: scalar states are operands, which a loop carries; states that are
vectors are in some memory.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from redcomp.ir import Carried, Nest, Value
from redcomp.llvm_backend.components import by_counter, component_of, read_by
from redcomp.llvm_backend.emit import Emitter
from redcomp.llvm_backend.memory import Memory


class PairStep:
    """One step: the states of a nest go through the pairs of the emitter's rows and columns.

    present   which of the columns there are, by truth values; all of them if it is empty
    """

    def __init__(
        self, nest: Nest, emitter: Emitter, states: Memory, present: Sequence[str] = ()
    ) -> None:
        self.present = present
        self.nest, self.emitter, self.code, self.states = nest, emitter, emitter.code, states
        self.scalars = scalar_states(nest)
        self.variables = [state.variable for state in self.scalars]

    def advance(self, current: list[list[str]]) -> list[list[str]]:
        """Adjust and step all states; the scalar ones are operands, one list a state."""
        return self.stepped(self.adjusted(current) if self.nest.guards else current)

    def stepped(self, current: list[list[str]]) -> list[list[str]]:
        """Step all states, which need no adjustment."""
        steps = [state.step for state in self.scalars]
        following = self.emitter.advance(
            steps, self.variables, current, self.read_by_vectors(), self.present
        )
        self.advance_vectors()
        return following

    def read_by_vectors(self) -> list[Value]:
        """What states that are vectors need of the scalar ones."""
        elements = [s.step.args[0] for s in self.nest.states if s.step.op == "map"]
        return read_by(elements, self.variables)

    def advance_vectors(self) -> None:
        """Step the states that are vectors."""
        for counter, together in by_counter(self.nest.states, lambda s: s.step).items():
            self._advance_together(counter, together)

    def _advance_together(self, counter: Value, together: Sequence[Carried]) -> None:
        """Step states that are vectors of one length, in memory, in one loop over components."""
        variables, emitter = [state.variable for state in together], self.emitter
        elements = [state.step.args[0] for state in together]
        leaves = [component_of(variable, counter, elements) for variable in variables]
        rows = range(self.emitter.rows)
        emitter.emit(elements)
        for place in self.states.positions(self.code, counter["extent"]):
            emitter.enter_loop(counter, place)
            current = [
                [self.states.load(self.code, variable, place, row) for row in rows]
                for variable in variables
            ]
            following = emitter.advance(elements, leaves, current)
            for variable, operands in zip(variables, following, strict=True):
                for row in rows:
                    self.states.store(self.code, operands[row], variable, place, row)
            emitter.leave_loop(counter)

    # -- rare adjustments --------------------------------------------------------------------------

    def adjusted(self, current: list[list[str]]) -> list[list[str]]:
        """The scalar states after adjusting what the guards of some pair of the block ask for.

        First all pairs are asked together, since mostly none of them needs it; then each row's, and
        then each pair.
        """
        nest, emitter = self.nest, self.emitter
        guarding, types = emitter.prepare(nest.guards, self.variables), self.types()
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

    def types(self) -> list[str]:
        """LLVM's types of the scalar states."""
        return scalar_types(self.nest, self.emitter)

    def _truths(
        self, guarding: Sequence[Value], states: list[str], row: int, cols: Sequence[int] = ()
    ) -> list[str]:
        """The guards of a row's pairs in some columns of the step, or in all."""
        emitter, found = self.emitter, []
        for col in cols or range(emitter.cols):
            with emitter.at_pair(self.variables, states, guarding, row, col):
                truths = [emitter.operand(guard, row, col, True) for guard in self.nest.guards]
            if self.present:
                truths = [self.code.value(f"and i1 {self.present[col]}, {t}") for t in truths]
            found += truths
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
        emitter, types = self.emitter, self.types()
        is_any = emitter.any_lane(truths)
        carried = list(zip(types, before, strict=True))
        with self.code.when(is_any, carried, is_rare=True) as after:
            if emitter.cols == 1:  # of which this has been asked
                after[:] = self.adjust_pair(before, row, 0)
                return after
            for col in range(emitter.cols):
                carried = list(zip(types, after, strict=True))
                is_here = emitter.any_lane(self._truths(guarding, after, row, [col]))
                with self.code.when(is_here, carried, is_rare=True) as adjusted:
                    adjusted[:] = self.adjust_pair(adjusted, row, col)
                after[:] = adjusted
        return after

    def adjust_pair(self, operands: list[str], row: int, col: int) -> list[str]:
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
    for place in memory.positions(code, counter["extent"]):
        emitter.enter_loop(counter, place)
        order = emitter.prepare(elements, leaves)
        loaded = [memory.load(code, v, place, row) for v in variables]
        with emitter.at_pair(leaves, loaded, order, row, col):
            for variable, element in zip(variables, elements, strict=True):
                operand = emitter.operand(element, row, col, True)
                memory.store(code, operand, variable, place, row)
        emitter.leave_loop(counter)


def scalar_states(nest: Nest) -> list[Carried]:
    """The states that are operands, which loops carry."""
    return [state for state in nest.states if state.variable.dim == 1]


def scalar_types(nest: Nest, emitter: Emitter) -> list[str]:
    """LLVM's types of the scalar states."""
    return [emitter.type_of(state.variable.dtype, True) for state in scalar_states(nest)]
