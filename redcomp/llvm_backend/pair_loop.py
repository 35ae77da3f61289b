"""The pair loop: one tile of columns, for all vectors of rows of a chunk."""

from __future__ import annotations

from collections.abc import Sequence

from redcomp.ir import I_BIT, Value, free_indices, topological
from redcomp.llvm_backend.code import Code
from redcomp.llvm_backend.given_pairs import PARAMETERS, GivenPairs
from redcomp.llvm_backend.host_parts import HostParts, by_counter, by_kind
from redcomp.llvm_backend.pending import Pending, adjust_vectors, component_of
from redcomp.llvm_backend.target import LLVM_TYPES


class PairLoop:
    """The pair loop of one tile of columns, for all vectors of rows of a chunk."""

    def __init__(self, parts: HostParts) -> None:
        self.parts, self.nest, self.layout = parts, parts.nest, parts.layout
        self.schedule, self.code = parts.schedule, Code()
        self.scalar_states = [n for n, state in enumerate(self.nest.states) if state.dim == 1]
        self.parameters = parts.parameters(
            self.code, [*self.nest.pairs, *(h.definition for h in self.nest.uniform)]
        )
        self.column: list[str] = []  # pointers to the first column of the current step
        self.rows = parts.lanes_at(self.layout.rows, "")
        self.totals = parts.total_lanes(self.layout.totals, "")
        self.states = parts.lanes_at(self.layout.states, "%states")
        self.given = GivenPairs(parts, self.code)
        load = by_kind(
            i=lambda v, k, row, col: self.rows.load(self.code, v, k, row),
            j=self._load_column,
            ij=self.given.load,
            tile=self._load_tile,
            parameter=self.parameters,
            total=lambda v, k, row, col: self.totals.load(self.code, v, k, row),
            state=lambda v, k, row, col: self.states.load(self.code, v, k, row),
        )
        self.emitter = parts.emitter(self.code, load, I_BIT, self.schedule.rows)
        self.pending = Pending(parts) if self.schedule.pending else None

    def _load_column(self, variable: Value, position: int | str, row: int, col: int) -> str:
        record, scalar = self.layout.columns, LLVM_TYPES[variable.dtype]
        offset = record.offsets[id(variable)] + col * record.width
        space = row if row < len(self.column) else 0
        pointer = self.code.at(self.column[space], scalar, position, offset, space=space)
        return self.code.load(scalar, pointer, self.parts.size, space)

    def _load_tile(self, variable: Value, position: int | str, row: int, col: int) -> str:
        """The number of the tile's first column."""
        return self.code.value(f"sitofp i64 %first to {LLVM_TYPES[variable.dtype]}")

    def _views(self, column: str) -> list[str]:
        """A pointer to the column for each row.

        If rows are to read a column by themselves (`Emitter._is_embedded`), LLVM must not merge
        their reads into one.  It keeps reads through different address spaces apart, and on x86
        those below 256 all mean the same memory.
        """
        rows = self.schedule.rows if self.parts.target.embeds_broadcasts else 1
        return [column, *(self.code.in_space(column, row) for row in range(1, rows))]

    def function(self) -> str:
        code, schedule = self.code, self.schedule
        self.emitter.emit([h.definition for h in self.nest.uniform])
        for h in self.nest.uniform:
            self.emitter.bind(h.variable, [self.emitter.operand(h.definition, 0, 0, False)])
        remainder = code.integer("srem", "%count", schedule.cols)
        whole = code.integer("sub", "%count", remainder)
        if self.pending is not None:
            self.pending.clear(code)
        with code.loop(0, "%blocks", schedule.rows) as block:
            self._point_at(block.counter)
            self.given.pack(block.counter)
            self.emitter.enter()
            self._read_rows()
            states = self._start()
            states = self._columns(0, whole, schedule.cols, states)
            if schedule.cols > 1:
                states = self._columns(whole, "%count", 1, states)
            if self.pending is not None:
                self.pending.flush(code)
            self._merge(states)
            self.emitter.leave()
        pairs = self.parts.function(
            "pairs",
            "ptr noalias %pointers, ptr noalias %rows, ptr noalias %columns, ptr noalias %totals, "
            f"ptr noalias %states, {PARAMETERS}, i64 %blocks, i64 %first, i64 %count",
            code,
        )
        return pairs if self.pending is None else f"{self.pending.functions()}\n{pairs}"

    def _point_at(self, block: str) -> None:
        """Aim the records of rows and totals at a block."""
        code, parts = self.code, self.parts
        elements = self.layout.rows.width * parts.lanes
        rows = code.at("%rows", parts.scalar, code.integer("mul", block, elements))
        self.rows = parts.lanes_at(self.layout.rows, rows)
        totals = code.at("%totals", "i8", code.integer("mul", block, self.layout.total_bytes))
        self.totals = parts.total_lanes(self.layout.totals, totals)

    def _read_rows(self) -> None:
        """Load what the steps need of the rows, before the loop over the columns."""
        self.emitter.emit(
            value
            for value in topological(self.nest.pairs)
            if value.dependence in (0, I_BIT) and value.op != "constant"
        )

    def _start(self) -> list[list[str]]:
        """The first states: operands of the scalar ones, memory for the vectors."""
        nest, emitter = self.nest, self.emitter
        scalars = [nest.starts[n] for n in self.scalar_states]
        emitter.emit(scalars)
        for counter, together in by_counter(nest.starts).items():
            with self.code.loop(0, counter["extent"], 1) as loop:
                emitter.enter_loop(counter, loop.counter)
                emitter.emit(nest.starts[n].args[0] for n in together)
                for n in together:
                    for row in range(self.schedule.rows):
                        operand = emitter.operand(nest.starts[n].args[0], row, 0, True)
                        self.states.store(self.code, operand, nest.states[n], loop.counter, row)
                emitter.leave_loop(counter)
        rows = range(self.schedule.rows)
        return [[emitter.operand(start, row, 0, True) for row in rows] for start in scalars]

    def _columns(
        self, start: int | str, stop: str, cols: int, states: list[list[str]]
    ) -> list[list[str]]:
        """The loop over columns, `cols` at a time."""
        code, rows, width = self.code, self.schedule.rows, self.layout.columns.width
        types = [self.emitter.type_of(self.nest.states[n].dtype, True) for n in self.scalar_states]
        carried = [
            (type_, operand)
            for type_, operands in zip(types, states, strict=True)
            for operand in operands
        ]
        with code.loop(start, stop, cols, carried) as loop:
            offset = code.integer("mul", loop.counter, width)
            self.column = self._views(code.at("%columns", self.parts.scalar, offset))
            self.given.point_at(loop.counter)
            self.emitter.cols = cols
            self.emitter.enter()
            current = [loop.carried[n * rows : (n + 1) * rows] for n in range(len(states))]
            following = self._advance(current)
            self.emitter.leave()
            self.emitter.cols = 1
            loop.following = [operand for operands in following for operand in operands]
        return [loop.carried[n * rows : (n + 1) * rows] for n in range(len(states))]

    def _advance(self, current: list[list[str]]) -> list[list[str]]:
        """Adjust and step all states; the scalar ones are operands, one list a state."""
        if self.pending is not None:
            self.pending.keep(self.emitter)
        elif self.nest.guards:
            current = self._adjusted(current)
        states = [self.nest.states[n] for n in self.scalar_states]
        steps = [self.nest.steps[n] for n in self.scalar_states]
        elements = [step.args[0] for step in self.nest.steps if step.op == "map"]
        following = self.emitter.advance(steps, states, current, read_by(elements, states))
        for counter, together in by_counter(self.nest.steps).items():
            self._advance_vectors(counter, together)
        return following

    def _advance_vectors(self, counter: Value, together: list[int]) -> None:
        """Step states that are vectors of one length, in memory, in one loop over components."""
        states, emitter = [self.nest.states[n] for n in together], self.emitter
        elements = [self.nest.steps[n].args[0] for n in together]
        leaves = [component_of(state, counter, elements) for state in states]
        rows = range(self.schedule.rows)
        emitter.emit(elements)
        with self.code.loop(0, counter["extent"], 1) as loop:
            emitter.enter_loop(counter, loop.counter)
            current = [
                [self.states.load(self.code, state, loop.counter, row) for row in rows]
                for state in states
            ]
            following = emitter.advance(elements, leaves, current)
            for state, operands in zip(states, following, strict=True):
                for row in rows:
                    self.states.store(self.code, operands[row], state, loop.counter, row)
            emitter.leave_loop(counter)

    # -- rare adjustments --------------------------------------------------------------------------

    def _adjusted(self, current: list[list[str]]) -> list[list[str]]:
        """The scalar states after adjusting what the guards of some column in the block ask for."""
        nest, emitter = self.nest, self.emitter
        states = [nest.states[n] for n in self.scalar_states]
        guarding = emitter.prepare(nest.guards, states)
        types = [emitter.type_of(state.dtype, True) for state in states]
        columns = range(emitter.cols)
        made: list[list[str]] = [[] for _ in states]
        for row in range(self.schedule.rows):
            before = [rows[row] for rows in current]

            def truths(operands: list[str], col: int, row: int = row) -> list[str]:
                with emitter.at_pair(states, operands, guarding, row, col):
                    return [emitter.operand(guard, row, col, True) for guard in nest.guards]

            is_any = emitter.any_lane([t for col in columns for t in truths(before, col)])
            with self.code.when(is_any, list(zip(types, before, strict=True))) as after:
                for col in columns:
                    carried = list(zip(types, after, strict=True))
                    is_here = emitter.any_lane(truths(after, col))
                    with self.code.when(is_here, carried) as adjusted:
                        adjusted[:] = self._adjust_pair(states, adjusted, row, col)
                    after[:] = adjusted
            for rows, operand in zip(made, after, strict=True):
                rows.append(operand)
        return made

    def _adjust_pair(
        self, states: list[Value], operands: list[str], row: int, col: int
    ) -> list[str]:
        """Adjust all states for one pair; the next scalar ones."""
        nest, emitter = self.nest, self.emitter
        adjusts = [nest.adjusts[n] for n in self.scalar_states]
        elements = [a.args[0] for a in nest.adjusts if a.op == "map"]
        emitter.enter()
        order = emitter.prepare((*adjusts, *read_by(elements, states)), states)
        with emitter.at_pair(states, operands, order, row, col):
            following = [emitter.operand(adjust, row, col, True) for adjust in adjusts]
            for counter, together in by_counter(nest.adjusts).items():
                adjust_vectors(emitter, self.states, nest, counter, together, row, col)
        emitter.leave()
        return following

    def _merge(self, states: list[list[str]]) -> None:
        """Merge the tile's states into the totals."""
        emitter, nest = self.emitter, self.nest
        for n, operands in zip(self.scalar_states, states, strict=True):
            emitter.bind(nest.states[n], operands)
        scalars = [n for n, merge in enumerate(nest.merges) if merge.op != "map"]
        emitter.emit(nest.merges[n] for n in scalars)  # all before the first total changes
        for n in scalars:
            self._store_totals(n, nest.merges[n], 0)
        for counter, together in by_counter(nest.merges).items():
            emitter.emit(nest.merges[n].args[0] for n in together)
            with self.code.loop(0, counter["extent"], 1) as loop:
                emitter.enter_loop(counter, loop.counter)
                emitter.emit(nest.merges[n].args[0] for n in together)
                for n in together:
                    self._store_totals(n, nest.merges[n].args[0], loop.counter)
                emitter.leave_loop(counter)

    def _store_totals(self, n: int, value: Value, position: int | str) -> None:
        for row in range(self.schedule.rows):
            operand = self.emitter.operand(value, row, 0, True)
            self.totals.store(self.code, operand, self.nest.totals[n], position, row)


def read_by(elements: Sequence[Value], states: Sequence[Value]) -> list[Value]:
    """What elements of vectors need of the scalar states, computed outside of their loops."""
    free = free_indices(elements)
    known = {id(state) for state in states}
    reached = set(known)
    for value in topological(elements):
        if any(id(arg) in reached for arg in value.args):
            reached.add(id(value))

    def is_outside(value: Value) -> bool:
        return id(value) in reached and not free[id(value)]

    inner = [value for value in topological(elements) if free[id(value)]]
    return list({id(arg): arg for v in inner for arg in v.args if is_outside(arg)}.values())
