"""The parameters of a kernel, and where a task's data are in memory."""

from __future__ import annotations

from redcomp.abi import ALIGNMENT
from redcomp.ir import SIZES, Nest
from redcomp.llvm_backend.records import Record, in_memory
from redcomp.ptx.schedule import PtxSchedule
from redcomp.ptx.slices import Slice, prepared, product_width, record_of, slices

# The widest load from shared memory.
VECTOR_BYTES = 16
# Totals of all rows of a thread that may stay in registers, of 32 bits.
_TOTAL_REGISTERS = 16


class BlockLayout:
    """What a block keeps where: its tile in shared memory, states and totals of its rows.

    A column of the tile is a record that steps read; what is only needed to prepare it is staged in
    a record of its own.  Vectors that are too long for a record are read from global memory: those
    of columns by all threads at the same place, those of rows from a copy in which the rows of
    neighbouring threads lie side by side.
    """

    def __init__(self, nest: Nest, schedule: PtxSchedule) -> None:
        self.size = SIZES[nest.dtype]
        definitions = prepared(nest)
        made = [Slice(h.variable, 0, 1) for h in nest.columns]
        prepared_variables = {part.variable for part in made}
        for_pairs = {part.variable for part in slices(nest.pairs, "j")} - prepared_variables
        raw = slices((*nest.pairs, *definitions), "j")
        short = [p for p in raw if p.is_short and p.variable not in prepared_variables]
        numbers = slices((*nest.pairs, *definitions), "column", "j_index")
        self.copied = [part for part in short if part.variable in for_pairs]
        self.staging = [part for part in short if part.variable not in for_pairs]
        self.prepared = {part.variable for part in slices(definitions, "j")}
        long = (part.variable for part in raw if not part.is_short)
        self.long_columns = [variable for variable in long if variable in for_pairs]
        self.numbers = [part.variable for part in numbers]
        self.columns = record_of([*self.copied, *numbers, *made])
        self.staged = record_of(self.staging)
        self.width = _padded(self.columns.width, schedule.run, self.size)
        self.totals = Record.of(state.total for state in nest.states)
        self.others = Record.of(state.other for state in nest.states)
        self.states = Record.of(in_memory(nest))
        self.total_size = SIZES[nest.accumulator]
        # The vectors of products come after the records of a tile.
        self.product_width = sum(product_width(h, nest.dtype) for h in nest.products)
        self.products_offset = _rounded(schedule.tile * self.width * self.size, VECTOR_BYTES)
        self.tile_bytes = schedule.tile * self.width * self.size
        if nest.products:
            of_products = schedule.tile * self.product_width * self.size
            self.tile_bytes = _rounded(self.products_offset + of_products, VECTOR_BYTES)
        self.staged_width = self.staged.width
        if nest.products:
            # Eight lanes read a column together, from other banks than those of the next one.
            self.staged_width = _rounded(self.staged.width - 8, 16) + 8
        self.staged_bytes = schedule.tile * self.staged_width * self.size
        self.partial_bytes = schedule.block_rows * self.totals.width * self.total_size
        records = schedule.threads * schedule.rows  # of all threads, some of which share rows
        words = self.totals.width * self.total_size // 4
        is_scalar = all(state.total.dim == 1 for state in nest.states)
        self.joins_in_registers = is_scalar and words <= _TOTAL_REGISTERS
        is_few = is_scalar and schedule.rows * words <= _TOTAL_REGISTERS
        self.keeps_totals = is_few
        totals_bytes = records * self.totals.width * self.total_size
        self.states_offset = 0 if is_few else _aligned(totals_bytes)
        states_bytes = records * self.states.width * self.size
        self.rows_offset = self.states_offset + _aligned(states_bytes)
        long_rows = (part for part in slices(nest.pairs, "i") if not part.is_short)
        self.long_rows = Record.of(part.variable for part in long_rows)
        rows_bytes = records * self.long_rows.width * self.size
        self.workspace_bytes = self.rows_offset + _aligned(rows_bytes)


def _padded(width: int, cols: int, size: int) -> int:
    """The width at which the columns of a step begin where a vector of 16 bytes can be loaded."""
    if width == 0:
        return 0
    while width * cols * size % VECTOR_BYTES:
        width += 1
    return width


def _aligned(size: int) -> int:
    return _rounded(size, ALIGNMENT)


def _rounded(size: int, unit: int) -> int:
    return -(-size // unit) * unit
