"""The pair loops: one tile of columns, for all vectors of rows of a chunk."""

from __future__ import annotations

from redcomp.ir import I_BIT, Value
from redcomp.llvm_backend.code import Code
from redcomp.llvm_backend.components import by_kind
from redcomp.llvm_backend.host.given_pairs import PARAMETERS, GivenPairs
from redcomp.llvm_backend.host.machine_code import loop_name
from redcomp.llvm_backend.host.parts import HostParts
from redcomp.llvm_backend.host.pending import Pending
from redcomp.llvm_backend.host.schedule import pending_entries
from redcomp.llvm_backend.pair_step import PairStep
from redcomp.llvm_backend.spelling import LLVM_TYPES


class PairLoop(PairStep):
    """The pair loop of one tile of columns, for all vectors of rows of a chunk.

    There are several, which share all records, where there are too many states for one.
    """

    def __init__(self, parts: HostParts, number: int = 0) -> None:
        nest = parts.layout.loops[number]
        self.name = loop_name(number)
        self.parts, self.layout, self.schedule = parts, parts.layout, parts.schedule
        code = Code()
        roots = [*nest.pair_variables, *(h.definition for h in nest.uniform)]
        self.column: list[str] = []  # pointers to the first column of the current step
        self.rows = parts.lanes_at(self.layout.rows, "")
        self.given = GivenPairs(parts, code)
        load = by_kind(
            i=lambda v, k, row, col: self.rows.load(self.code, v, k, row),
            j=self._load_column,
            ij=self.given.load,
            tile=self._load_tile,
            parameter=parts.parameters(code, roots),
            j_sample=parts.samples(code, roots),
            total=lambda v, k, row, col: self.totals.load(self.code, v, k, row),
            state=lambda v, k, row, col: self.states.load(self.code, v, k, row),
        )
        super().__init__(
            nest,
            parts.emitter(code, load, I_BIT, self.schedule.rows),
            parts.lanes_at(self.layout.states, "%states"),
            parts.total_lanes(self.layout.totals, ""),
        )
        waits = self.schedule.pending and pending_entries(nest)
        self.pending = Pending(parts, nest, str(number or "")) if waits else None

    def _load_column(self, variable: Value, position: int | str, row: int, col: int) -> str:
        record, scalar = self.layout.columns, LLVM_TYPES[variable.dtype]
        offset = record.offsets[variable] + col * record.width
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
            self.read_rows()
            states = self.start()
            states = self.columns(0, whole, schedule.cols, states, self._point_at_column)
            if schedule.cols > 1:
                states = self.columns(whole, "%count", 1, states, self._point_at_column)
            if self.pending is not None:
                self.pending.flush(code)
            self.merge(states)
            self.emitter.leave()
        pairs = self.parts.function(
            self.name,
            "ptr noalias %pointers, i64 %last_column, ptr noalias %rows, ptr noalias %columns, "
            f"ptr noalias %totals, ptr noalias %states, {PARAMETERS}, i64 %blocks, i64 %first, "
            "i64 %count",
            code,
        )
        return pairs if self.pending is None else f"{self.pending.function()}\n{pairs}"

    def _point_at(self, block: str) -> None:
        """Aim the records of rows and totals at a block."""
        code, parts = self.code, self.parts
        elements = self.layout.rows.width * parts.lanes
        rows = code.at("%rows", parts.scalar, code.integer("mul", block, elements))
        self.rows = parts.lanes_at(self.layout.rows, rows)
        totals = code.at("%totals", "i8", code.integer("mul", block, self.layout.total_bytes))
        self.totals = parts.total_lanes(self.layout.totals, totals)

    def _point_at_column(self, column: str) -> None:
        """Aim the records of columns and of given pairs at a column of the tile."""
        offset = self.code.integer("mul", column, self.layout.columns.width)
        self.column = self._views(self.code.at("%columns", self.parts.scalar, offset))
        self.given.point_at(column)

    def adjusted(self, current: list[list[str]]) -> list[list[str]]:
        """Adjust at once, or let the pair wait."""
        if self.pending is None:
            return super().adjusted(current)
        self.pending.keep(self.emitter)
        return current
