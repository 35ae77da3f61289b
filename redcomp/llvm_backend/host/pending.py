"""Adjustments of long vectors of states, at once or after a few pairs have been kept for each lane.

With long lists, such as the 100 nearest columns, nearly every column concerns one of the lanes, and
to adjust all of them for it does a sixteenth of the work that it costs.  So pairs that a guard lets
through wait, lane by lane, until a lane has no more room; then the states are adjusted for all that
wait.  Meanwhile the guard sees older states and lets more pairs through than it has to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from redcomp.ir import (
    I_BIT,
    Carried,
    Nest,
    Type,
    Value,
    component,
    free_indices,
    select,
    topological,
    variable,
    vector_map,
)
from redcomp.llvm_backend.code import Code
from redcomp.llvm_backend.components import by_counter, by_kind
from redcomp.llvm_backend.emit import Emitter
from redcomp.llvm_backend.host.kernel_code import HostCode
from redcomp.llvm_backend.host.schedule import pending_entries
from redcomp.llvm_backend.memory import Memory
from redcomp.llvm_backend.pair_step import PairStep, adjust_vectors
from redcomp.llvm_backend.spelling import LLVM_TYPES

FLUSH = "flush"


class WaitingStep(PairStep):
    """A step whose pairs wait until the states are adjusted for them."""

    def __init__(self, nest: Nest, emitter: Emitter, states: Memory, pending: Pending) -> None:
        super().__init__(nest, emitter, states)
        self.pending = pending

    def adjusted(self, current: list[list[str]]) -> list[list[str]]:
        self.pending.keep(self.emitter)
        return current


class Pending:
    """The memory of pairs that wait: slots of entries, each a vector of lanes, and their counts.

    A lane adjusts its states for as many slots as its count says.
    """

    def __init__(self, kernel: HostCode, nest: Nest, number: str) -> None:
        self.kernel, self.nest, self.number = kernel, nest, number
        self.slots, self.lanes = kernel.schedule.pending, kernel.lanes
        self.entries = pending_entries(nest)
        self.vector_bytes = self.lanes * kernel.size

    # -- in the pair loop --------------------------------------------------------------------------

    def clear(self, code: Code) -> None:
        """Before the first pair: nothing waits."""
        self._forget(code, self._memory(code))

    def flush(self, code: Code) -> None:
        """Adjust the states for all that waits."""
        code.line(f"call void @{FLUSH}{self.number}(ptr %states, ptr {self._memory(code)})")

    def keep(self, emitter: Emitter) -> None:
        """Keep the pairs of a block's columns, in their order, that a guard lets through."""
        code = emitter.code
        emitter.emit(self.nest.guards)
        emitter.emit(self.entries)
        for col in range(emitter.cols):
            truths = [emitter.operand(guard, 0, col, True) for guard in self.nest.guards]
            with code.when(emitter.any_lane(truths), is_rare=True):
                emitter.enter()
                memory = self._memory(code)
                mask = emitter.either(truths)
                kept = [emitter.operand(entry, 0, col, True) for entry in self.entries]
                fullest = self._append(code, memory, mask, kept)
                emitter.leave()
                is_full = code.value(f"icmp sge i64 {fullest}, {self.slots}")
                with code.when(is_full, is_rare=True):
                    self.flush(code)

    def _append(self, code: Code, memory: str, mask: str, kept: Sequence[str]) -> str:
        """Give each lane of the mask its entries; the number that wait in the fullest of them."""
        spread = self._spread(code, memory)
        for n, (entry, operand) in enumerate(zip(self.entries, kept, strict=True)):
            place = code.at(spread, "i8", n * self.vector_bytes)
            code.store(self._vector(entry), operand, place, self.kernel.size)
        packed = code.value(f"bitcast <{self.lanes} x i1> {mask} to i{self.lanes}")
        bits = code.value(f"zext i{self.lanes} {packed} to i64")
        many = code.call("i64", "llvm.ctpop.i64", ["i64"], [bits])
        counts = self._counts(code, memory)
        with code.loop(0, many, 1, [("i64", bits), ("i64", "0")]) as loop:
            left, fullest = loop.carried
            # The second operand says that there is a bit.
            lane = code.call("i64", "llvm.cttz.i64", ["i64", "i1"], [left, "true"])
            count = code.load("i64", code.at(counts, "i64", lane), 8)
            following = code.integer("add", count, 1)
            code.store("i64", following, code.at(counts, "i64", lane), 8)
            slot = code.at(memory, "i8", code.integer("mul", count, self._slot_bytes))
            for n, entry in enumerate(self.entries):
                type_, offset = LLVM_TYPES[entry.dtype], n * self.lanes
                value = code.load(type_, code.at(spread, type_, lane, offset), self.kernel.size)
                code.store(type_, value, code.at(slot, type_, lane, offset), self.kernel.size)
            others = code.integer("sub", left, 1)
            is_more = code.value(f"icmp sgt i64 {following}, {fullest}")
            most = code.value(f"select i1 {is_more}, i64 {following}, i64 {fullest}")
            loop.following = [code.integer("and", left, others), most]
        return loop.carried[1]

    # -- a function of its own ---------------------------------------------------------------------

    def function(self) -> str:
        """flush(states, pending)."""
        code, kernel = Code(), self.kernel
        memory = kernel.lanes_at(kernel.layout.states, "%states")
        states, entries, used = self._with_entries_of_lanes()
        load = by_kind(state=lambda v, k, row, col: memory.load(code, v, k, row))
        free = free_indices([state.adjust for state in states])
        emitter = Emitter(code, kernel.target, self.lanes, free, load, lane_bit=I_BIT)
        vector = f"<{self.lanes} x i64>"
        counts = code.load(vector, self._counts(code, "%pending"), 8)
        most = code.call("i64", f"llvm.vector.reduce.smax.v{self.lanes}i64", [vector], [counts])
        with code.loop(0, most, 1) as slot:
            emitter.enter()
            is_used = code.value(
                f"icmp sgt {vector} {counts}, {emitter.splat(slot.counter, 'i64')}"
            )
            for n, entry in enumerate(entries):
                place = self._slot(code, "%pending", slot.counter, n)
                kept = code.load(self._vector(entry), place, kernel.size)
                emitter.bind(entry, [kept])
            emitter.bind(used, [is_used])
            for counter, together in by_counter(states, lambda s: s.adjust).items():
                adjust_vectors(emitter, memory, counter, together)
            emitter.leave()
        self._forget(code, "%pending")
        parameters = "ptr noalias %states, ptr noalias %pending"
        return kernel.function(f"{FLUSH}{self.number}", parameters, code)

    def _with_entries_of_lanes(self) -> tuple[list[Carried], list[Value], Value]:
        """The states, their adjustments as functions of entries that all differ from lane to lane.

        They are made in the lanes that use a slot, as the last value says.
        """
        entries = [
            variable(f"entry{n}", "i", n, entry.type) for n, entry in enumerate(self.entries)
        ]
        done = dict(zip(self.entries, entries, strict=True))
        for value in topological([s.adjust for s in self.nest.states], known=tuple(done)):
            done[value] = value.with_args(tuple(done[arg] for arg in value.args))
        used = variable("used", "i", len(entries), Type("i1"))
        states = []
        for state in self.nest.states:
            element, counter = done[state.adjust].args
            chosen = select(used, element, component(state.variable, counter))
            states.append(replace(state, adjust=vector_map(chosen, counter)))
        return states, entries, used

    def _forget(self, code: Code, memory: str) -> None:
        """Set the counts to zero."""
        counts = self._counts(code, memory)
        code.store(f"<{self.lanes} x i64>", "zeroinitializer", counts, 8)

    # -- places ------------------------------------------------------------------------------------

    @property
    def _slot_bytes(self) -> int:
        return len(self.entries) * self.vector_bytes

    def _memory(self, code: Code) -> str:
        """It lies after the states; then come the counts, and one slot for spreading vectors."""
        return code.at("%states", "i8", self.kernel.layout.states_bytes)

    def _counts(self, code: Code, memory: str) -> str:
        return code.at(memory, "i8", self.slots * self._slot_bytes)

    def _spread(self, code: Code, memory: str) -> str:
        return code.at(memory, "i8", self.slots * self._slot_bytes + self.lanes * 8)

    def _slot(self, code: Code, memory: str, slot: str, entry: int) -> str:
        offset = code.integer("mul", slot, self._slot_bytes)
        return code.at(memory, "i8", offset, entry * self.vector_bytes)

    def _vector(self, entry: Value) -> str:
        return f"<{self.lanes} x {LLVM_TYPES[entry.dtype]}>"
