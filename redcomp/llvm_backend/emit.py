"""The emitter: from scalar IR to LLVM instructions, the same for every target.

What an instruction looks like is in `instructions`; here is which are written, where and once.

A step of the pair loop holds a block of `rows` x `cols` pairs of lane vectors and columns.  A
value's dependence set says how many copies of it the block needs, its *grid*: one for each row if
it depends on i, one for each column if it depends on j.  What depends on the lane axis is a vector
of lanes, the rest is uniform and becomes a vector only where it meets one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import chain

from redcomp.errors import CompilerError
from redcomp.ir import (
    I_BIT,
    J_BIT,
    Outside,
    Value,
    constant,
    depending_on,
    loop_of,
    topological,
)
from redcomp.llvm_backend.code import Code
from redcomp.llvm_backend.instructions import Instructions
from redcomp.llvm_backend.memory import Memory, load_entry
from redcomp.llvm_backend.order import SCHEDULED_TOGETHER, longest_sum, term_by_term, turns
from redcomp.llvm_backend.scopes import Scopes
from redcomp.llvm_backend.spelling import LLVM_TYPES, literal
from redcomp.records import record
from redcomp.target import Target

Loops = frozenset[tuple[int, int]]
# (row, column) to the operand of a value
Point = Callable[[int, int], str]
# (variable, position, row, column) to the operand that holds the component
Loader = Callable[[Value, int | str, int, int], str]


@record
class Operands:
    """The operands that hold a value in each row and column of the block."""

    rows: int
    cols: int
    operands: list[str]

    def at(self, row: int, col: int) -> str:
        return self.operands[(row % self.rows) * self.cols + col % self.cols]


def _bindings(code: Code) -> Scopes[Value, Operands]:
    return Scopes()


# Makes what an emitter keeps of the values that it has written into some code: which operands hold
# them.  Who wants to know that afterwards puts another one here, see `redcomp.view.origins`.
BINDINGS: ContextVar[Callable[[Code], Scopes[Value, Operands]]] = ContextVar(
    "BINDINGS", default=_bindings
)


class Emitter(Instructions):
    """Writes values into `code`, each once in a scope; `load` reads variables."""

    def __init__(
        self,
        code: Code,
        target: Target,
        lanes: int,
        free: Mapping[Value, Loops],
        load: Loader,
        *,
        lane_bit: int,
        rows: int = 1,
        scans: Memory | None = None,
    ) -> None:
        super().__init__(code, target, lanes)
        self.free, self.load = free, load
        self.lane_bit, self.rows, self.cols = lane_bit, rows, 1
        self.bound = BINDINGS.get()(code)
        self.splats: Scopes[str, str] = Scopes()
        self.inside: Loops = frozenset()
        self.scans = scans  # where their components are
        self.open_scans: dict[Value, Value] = {}  # by what their bodies call them

    # -- types and operands ------------------------------------------------------------------------

    def is_lane(self, value: Value) -> bool:
        """Whether the value differs between lanes."""
        return bool(value.dependence & self.lane_bit)

    def operand(self, value: Value, row: int, col: int, lane: bool) -> str:
        """The operand for one pair of the block, as a vector of lanes where `lane` says so."""
        wide = lane and self.lanes > 1
        if value.op == "constant":
            text = literal(value)
            return f"splat ({LLVM_TYPES[value.dtype]} {text})" if wide else text
        held = self.bound.now[value]
        operands = held.operands
        operand = operands[0] if len(operands) == 1 else held.at(row, col)
        if not wide or value.dependence & self.lane_bit:
            return operand
        known = self.splats.now.get(operand)
        if known is None:
            known = self.splat(operand, value.dtype)
            self.splats.add(operand, known)
        return known

    # -- scopes ------------------------------------------------------------------------------------

    def enter(self) -> None:
        """Open a scope: what it binds is forgotten when it closes."""
        self.bound.enter()
        self.splats.enter()

    def leave(self) -> None:
        """Close the innermost scope."""
        self.bound.leave()
        self.splats.leave()

    def within(self, load: Loader, cols: int = 1) -> Emitter:
        """An emitter in a scope of its own, for so many columns, with another loader."""
        made = copy.copy(self)
        made.load, made.cols = load, cols
        made.bound, made.splats = self.bound.copy(), self.splats.copy()
        return made

    def bind(self, value: Value, operands: Sequence[str]) -> None:
        """Let `operands`, one for all or one a row, stand for a value."""
        self.bound.add(value, Operands(len(operands), 1, list(operands)))

    # -- values ------------------------------------------------------------------------------------

    def emit(self, roots: Iterable[Value]) -> None:
        """Write everything that the roots need and that is not bound yet."""
        order = list(topological(roots, self.bound.now))
        by_terms = self.lanes > 1 and longest_sum(order) > self.target.registers
        pending = [
            value
            for value in (term_by_term(order) if by_terms else order)
            if value.op != "constant" and self.free[value] <= self.inside
        ]
        loops = [value for value in pending if value.op in ("fold", "scan")]
        known = {*self.bound.now, *pending} if loops else set()
        needs = {loop: _read_by(loop, known) for loop in loops}
        written = 0
        for turn in turns(pending, needs):
            if turn[0] in needs:
                self._emit_loops(turn)
                continue
            for value in turn:
                self._emit_value(value)
                written += 1
                if by_terms and not written % SCHEDULED_TOGETHER:
                    self.code.end_scheduling()

    def _emit_value(self, value: Value) -> None:
        (rows, cols), point = self._shape(value), self._point(value)
        if rows == cols == 1:
            operands = [point(0, 0)]
        else:
            operands = [point(row, col) for row in range(rows) for col in range(cols)]
        self.bound.add(value, Operands(rows, cols, operands))

    def _shape(self, value: Value) -> tuple[int, int]:
        """Rows and columns of a value's grid."""
        rows = self.rows if value.dependence & I_BIT or self._is_embedded(value) else 1
        return rows, self.cols if value.dependence & J_BIT else 1

    def _is_embedded(self, value: Value) -> bool:
        """Whether every row reads the value from memory by itself.

        Where an instruction can repeat a scalar from memory over its lanes, that costs less than to
        do it once in an instruction of its own and share the register.
        """
        is_read = value.op in ("component", "variable")
        return self.target.embeds_broadcasts and is_read and value.dependence == J_BIT

    def _point(self, value: Value) -> Point:
        """What writes the value's operation for one pair of the block."""
        if value.op in ("earlier", "constants"):
            return lambda row, col: ""
        if value.op == "variable":
            return lambda row, col: "" if value.dim > 1 else self.load(value, 0, row, col)
        if value.op == "component":
            return lambda row, col: self._read(value, row, col)
        lane, args, operand, write = self.is_lane(value), value.args, self.operand, self.code.value
        if (value.op, value.dtype) in self.target.native:
            return lambda row, col: self.native(
                value, [operand(arg, row, col, lane) for arg in args], lane
            )
        form = self.form(value, lane).format
        return lambda row, col: write(form(*[operand(arg, row, col, lane) for arg in args]))

    def _read(self, value: Value, row: int, col: int) -> str:
        """A component for one pair of the block."""
        vector, *position = value.args
        if position and self.is_lane(position[0]) and self.lanes > 1:
            return self._gathered(value, row, col)
        at = self.operand(position[0], row, col, False) if position else value["position"]
        return self._component(vector, at, row, col)

    def _component(self, vector: Value, position: int | str, row: int, col: int) -> str:
        if vector.op == "constants":
            return load_entry(self.code, vector, position, self.target.constants_space)
        made = self.open_scans.get(vector, vector)
        if made.op != "scan":
            return self.load(vector, position, row, col)
        return self._memory().load(self.code, made, position, row)

    def _memory(self) -> Memory:
        if self.scans is None or self.cols > 1:
            raise CompilerError("there is no memory for a scan in this step")
        return self.scans

    def _gathered(self, value: Value, row: int, col: int) -> str:
        """The component that each lane asks for, of a uniform vector or of its own one."""
        vector, position = value.args
        positions = self.operand(position, row, col, True)
        types = [self.type_of(v.dtype, True) for v in (position, value)]
        gathered = "poison"
        for lane in range(self.lanes):
            at = self.code.value(f"extractelement {types[0]} {positions}, i64 {lane}")
            loaded = self.load(vector, at, row, col)
            if self.is_lane(vector):
                loaded = self.code.value(f"extractelement {types[1]} {loaded}, i64 {lane}")
            one = f"{LLVM_TYPES[value.dtype]} {loaded}"
            gathered = self.code.value(f"insertelement {types[1]} {gathered}, {one}, i64 {lane}")
        return gathered

    # -- loops over components ---------------------------------------------------------------------

    def _emit_loops(self, together: list[Value]) -> None:
        """Write a scan, or folds that share a loop."""
        if together[0].op == "scan":
            self._emit_scan(together[0])
        else:
            self._emit_loop(together[0].args[-1], together)

    def _emit_loop(self, counter: Value, folds: list[Value]) -> None:
        shapes = [(f, self.is_lane(f), *self._shape(f)) for f in folds]
        carried = [
            (self.type_of(f.dtype, lane), self.operand(f.args[0], row, col, lane))
            for f, lane, rows, cols in shapes
            for row in range(rows)
            for col in range(cols)
        ]
        with self.code.loop(0, counter["extent"], 1, carried) as loop:
            self.enter_loop(counter, loop.counter)
            steps = self._prepare_steps(counter, folds)
            n = 0
            for (f, lane, rows, cols), order in zip(shapes, steps, strict=True):
                _, following, before, _ = f.args
                for row in range(rows):
                    for col in range(cols):
                        with self.at_pair([before], [loop.carried[n]], order, row, col):
                            loop.following[n] = self.operand(following, row, col, lane)
                        n += 1
            self.leave_loop(counter)
        n = 0
        for f, _, rows, cols in shapes:
            self.bound.add(f, Operands(rows, cols, loop.carried[n : n + rows * cols]))
            n += rows * cols

    def _prepare_steps(self, counter: Value, folds: list[Value]) -> list[list[Value]]:
        """Write what the folds' steps need at this component; what is left of each, in order."""
        outside = Outside(self.free, loop_of(counter))
        steps = [depending_on(f.args[1:2], f.args[2:3], outside) for f in folds]
        self._emit_operands(chain(*steps), [f.args[2] for f in folds])
        return steps

    def _emit_scan(self, value: Value) -> None:
        element, before, counter = value.args
        memory, rows = self._memory(), range(self.rows)
        self.emit([element])  # what does not change in the loop, before it
        self.open_scans[before] = value
        nothing = self.operand(constant(0, value.dtype), 0, 0, True)
        for row in rows:
            memory.store(self.code, nothing, value, 0, row)
        with self.code.loop(0, counter["extent"], 1) as loop:
            self.enter_loop(counter, loop.counter)
            self.emit([element])
            for row in rows:
                operand = self.operand(element, row, 0, True)
                memory.store(self.code, operand, value, loop.counter, row)
            self.leave_loop(counter)
        del self.open_scans[before]
        self.bound.add(value, Operands(self.rows, 1, [""] * self.rows))

    def enter_loop(self, counter: Value, operand: str) -> None:
        """Open the scope of a loop over components."""
        self.enter()
        self.inside = self.inside | {loop_of(counter)}
        self.bind(counter, [operand])

    def leave_loop(self, counter: Value) -> None:
        """Close the scope of a loop over components."""
        self.inside = self.inside - {loop_of(counter)}
        self.leave()

    # -- steps of reductions -----------------------------------------------------------------------

    def prepare(self, roots: Sequence[Value], leaves: Sequence[Value]) -> list[Value]:
        """Write what the roots need and what does not depend on the leaves; the rest, in order."""
        order = depending_on(roots, leaves)
        self._emit_operands(order, leaves)
        later = {*order, *leaves}
        self.emit(root for root in roots if root not in later)
        return order

    def _emit_operands(self, later: Iterable[Value], leaves: Iterable[Value]) -> None:
        """Write what some values need that is neither one of them nor a leaf."""
        order = list(later)
        known = {*order, *leaves}
        self.emit(arg for value in order for arg in value.args if arg not in known)

    @contextmanager
    def at_pair(
        self,
        leaves: Sequence[Value],
        operands: Sequence[str],
        order: Sequence[Value],
        row: int,
        col: int,
    ) -> Iterator[None]:
        """A scope for one pair: the leaves stand for the operands, and `order` is written."""
        self.enter()
        for leaf, operand in zip(leaves, operands, strict=True):
            self.bind(leaf, [operand])
        for value in order:
            self.bind(value, [self._point(value)(row, col)])
        yield
        self.leave()

    def advance(
        self,
        steps: Sequence[Value],
        states: Sequence[Value],
        operands: list[list[str]],
        kept: Sequence[Value] = (),
        present: Sequence[str] = (),
    ) -> list[list[str]]:
        """Apply the steps of a reduction, column after column.

        `states` are the leaves that stand for the states in the steps, `operands` their values, one
        list a state with one operand a row; the result is the same for the next values.  Values in
        `kept` depend on the states and stay known, for each pair.  Where `present` says which
        columns there are, by truth values, the others change no state.
        """
        order = self.prepare((*steps, *kept), states)
        current = [list(rows) for rows in operands]
        grids: list[list[str]] = [[""] * (self.rows * self.cols) for _ in kept]
        for col in range(self.cols):
            for row in range(self.rows):
                with self.at_pair(states, [rows[row] for rows in current], order, row, col):
                    following = [self.operand(step, row, col, True) for step in steps]
                    for grid, value in zip(grids, kept, strict=True):
                        place = row * self.cols + col
                        grid[place] = self.operand(value, row, col, self.is_lane(value))
                for step, rows, operand in zip(steps, current, following, strict=True):
                    type_, before = self.type_of(step.dtype, True), rows[row]
                    rows[row] = (
                        self.code.select(present[col], type_, operand, before)
                        if present
                        else operand
                    )
        for grid, value in zip(grids, kept, strict=True):
            self.bound.add(value, Operands(self.rows, self.cols, grid))
        return current


def _read_by(loop: Value, known: set[Value]) -> frozenset[Value]:
    """Which of the `known` values a loop and its body read."""
    body = topological(loop.args, known)
    return frozenset(arg for value in (loop, *body) for arg in value.args) & known
