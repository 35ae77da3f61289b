"""The pair loops: one tile of columns, for all vectors of rows of a chunk."""

from __future__ import annotations

from collections.abc import Mapping

from redcomp.ir import I_BIT, Value
from redcomp.llvm_backend.code import Code
from redcomp.llvm_backend.components import by_kind
from redcomp.llvm_backend.emit import Emitter, Loader
from redcomp.llvm_backend.host.given_pairs import PARAMETERS, GivenPairs
from redcomp.llvm_backend.host.kernel_code import HostCode, Lanes
from redcomp.llvm_backend.host.machine_code import loop_name
from redcomp.llvm_backend.host.pending import Pending, WaitingStep
from redcomp.llvm_backend.host.schedule import pending_entries
from redcomp.llvm_backend.pair_step import PairStep
from redcomp.llvm_backend.spelling import LLVM_TYPES
from redcomp.llvm_backend.tile_reduction import TileReduction, read_rows


class PairLoop:
    """The pair loop of one tile of columns, for all vectors of rows of a chunk.

    There are several, which share all records, where there are too many states for one.
    """

    def __init__(self, kernel: HostCode, number: int = 0) -> None:
        self.nest, self.name = kernel.layout.loops[number], loop_name(number)
        self.kernel, self.layout, self.schedule = kernel, kernel.layout, kernel.schedule
        self.code = code = Code()
        self.given = GivenPairs(kernel, code)
        self.states = kernel.lanes_at(self.layout.states, "%states")
        roots = [*self.nest.pair_variables, *(h.definition for h in self.nest.uniform)]
        self.of_call: Mapping[str, Loader] = {
            "parameter": kernel.parameters(code, roots),
            "j_sample": kernel.samples(code, roots),
        }
        load = by_kind(**self.of_call)
        self.emitter = kernel.emitter(code, load, I_BIT, self.schedule.rows, self.states)
        waits = self.schedule.pending and pending_entries(self.nest)
        self.pending = Pending(kernel, self.nest, str(number or "")) if waits else None

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
            self._reduce(block.counter, whole)
        pairs = self.kernel.function(
            self.name,
            "ptr noalias %pointers, i64 %last_column, ptr noalias %rows, ptr noalias %columns, "
            f"ptr noalias %totals, ptr noalias %states, {PARAMETERS}, i64 %blocks, i64 %first, "
            "i64 %count",
            code,
        )
        return pairs if self.pending is None else f"{self.pending.function()}\n{pairs}"

    def _reduce(self, block: str, whole: str) -> None:
        """Reduce the tile, of which so many columns are whole steps, for a block of rows."""
        rows, totals, cols = self._rows(block), self._totals(block), self.schedule.cols
        loaders: Mapping[str, Loader] = {
            **self.of_call,
            "i": lambda v, k, row, col: rows.load(self.code, v, k, row),
            "tile": self._load_tile,
            "total": lambda v, k, row, col: totals.load(self.code, v, k, row),
            "state": lambda v, k, row, col: self.states.load(self.code, v, k, row),
        }
        self.given.pack(block)
        emitter = self.emitter.within(by_kind(**loaders))
        tile = TileReduction(self.nest, emitter, self.states, totals)
        read_rows(self.nest, emitter)

        def step_at(column: str, width: int) -> PairStep:
            load = by_kind(**loaders, j=self._columns(column), ij=self.given.at(column))
            return self._step(emitter.within(load, width))

        states = tile.columns(0, whole, cols, tile.start(), step_at)
        if cols > 1:
            states = tile.columns(whole, "%count", 1, states, step_at)
        if self.pending is not None:
            self.pending.flush(self.code)
        tile.merge(states)

    def _step(self, emitter: Emitter) -> PairStep:
        """The step of an emitter's columns, which adjusts states at once or lets pairs wait."""
        if self.pending is None:
            return PairStep(self.nest, emitter, self.states)
        return WaitingStep(self.nest, emitter, self.states, self.pending)

    def _rows(self, block: str) -> Lanes:
        """The records of the rows of a block."""
        kernel = self.kernel
        elements = self.layout.rows.width * kernel.lanes
        rows = kernel.record_at(self.code, "%rows", block, elements)
        return kernel.lanes_at(self.layout.rows, rows)

    def _totals(self, block: str) -> Lanes:
        """The totals of a block."""
        offset = self.code.integer("mul", block, self.layout.total_bytes)
        return self.kernel.total_lanes(self.layout.totals, self.code.at("%totals", "i8", offset))

    def _columns(self, column: str) -> Loader:
        """Loads components of a step's columns, from this one of the tile on.

        If rows are to read a column by themselves (`Emitter._is_embedded`), LLVM must not merge
        their reads into one.  It keeps reads through different address spaces apart, and on x86
        those below 256 all mean the same memory.
        """
        code, kernel, record = self.code, self.kernel, self.layout.columns
        first = kernel.record_at(code, "%columns", column, record.width)
        spaces = self.schedule.rows if kernel.target.embeds_broadcasts else 1
        views = [first, *(code.in_space(first, space) for space in range(1, spaces))]

        def load(variable: Value, position: int | str, row: int, col: int) -> str:
            scalar, offset = LLVM_TYPES[variable.dtype], record.offsets[variable]
            space = row if row < len(views) else 0
            pointer = code.at(
                views[space], scalar, position, offset + col * record.width, space=space
            )
            return code.load(scalar, pointer, kernel.size, space)

        return load

    def _load_tile(self, variable: Value, position: int | str, row: int, col: int) -> str:
        """The number of the tile's first column."""
        return self.code.value(f"sitofp i64 %first to {LLVM_TYPES[variable.dtype]}")
