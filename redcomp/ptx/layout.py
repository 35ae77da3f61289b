"""The parameters of a kernel, and where a task's data are in memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from redcomp.abi import ALIGNMENT
from redcomp.ir import SIZES, Nest, Value, factors_of
from redcomp.llvm_backend.records import Record
from redcomp.llvm_backend.records import in_memory as states_in_memory
from redcomp.ptx.mma import MEMBERS, PRODUCTS
from redcomp.ptx.schedule import PtxSchedule
from redcomp.ptx.slices import Matrix, Slice, beside, chunked, matrices, prepared, record_of, slices

# Vectors of at most so many components are copied by one thread each: they share lines of memory.
OWN_COPY = 8
# The widest load from shared memory.
VECTOR_BYTES = 16
# Totals of all rows of a thread that may stay in registers, of 32 bits.
_TOTAL_REGISTERS = 16


class BlockLayout:
    """What a block keeps where: its tile in shared memory, states and totals of its rows.

    A column of the tile is a record that steps read.  Threads write its first `written` components,
    by vectors of `store` of them, from what is staged: one component of all columns after the
    other.  So neighbouring threads meet in no bank of shared memory.  Short vectors are staged even
    if they are only moved; long ones that pairs need as they are come into the record at once.

    Vectors that are too long for a record are read from global memory: those of columns by all
    threads at the same place, those of rows from a copy in which the rows of neighbouring threads
    lie side by side.
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
        copied = [part for part in short if part.variable in for_pairs]
        self.moved = [part for part in copied if part.count <= OWN_COPY]
        self.copied = [part for part in copied if part.count > OWN_COPY]
        staging = [part for part in short if part.variable not in for_pairs]
        self.staging = [*self.moved, *staging]
        self.prepared = {part.variable for part in slices(definitions, "j")}
        long = (part.variable for part in raw if not part.is_short)
        self.long_columns = [variable for variable in long if variable in for_pairs]
        self.numbers = [part.variable for part in numbers]
        written, whole = record_of([*self.moved, *numbers, *made]), record_of(self.copied)
        shape = _record_shape(written.width, whole.width, schedule.run, self.size)
        self.written, self.store, self.width = shape
        self.columns = beside(written, whole, self.written)
        self.staged = record_of(self.staging)
        self.staged_stride = schedule.tile | 1  # odd: threads along a vector meet in no bank either
        self.staged_bytes = self.staged_stride * self.staged.width * self.size
        self.tile_bytes = schedule.tile * self.width * self.size
        # Matrices come after the records of a tile, where these offsets say.
        self.matrices: dict[Value, tuple[Matrix, int]] = {}
        for matrix in matrices(nest):
            offset = _rounded(self.tile_bytes, VECTOR_BYTES)
            self.matrices[matrix.name] = matrix, offset
            end = offset + schedule.tile * matrix.width * self.size
            self.tile_bytes = _rounded(end, VECTOR_BYTES)
        self._place_rows(nest, schedule)

    def _place_rows(self, nest: Nest, schedule: PtxSchedule) -> None:
        """States and totals of rows, and the workspace of a block."""
        self.totals = Record.of(state.total for state in nest.states)
        self.others = Record.of(state.other for state in nest.states)
        self.states = Record.of(states_in_memory(nest))
        self.total_size = SIZES[nest.accumulator]
        self.row_bytes = self.totals.width * self.total_size
        self.partial_bytes = schedule.block_rows * self.row_bytes
        records = schedule.threads * schedule.rows  # of all threads, some of which share rows
        # Each of the threads that share a row has some components of its wide states.
        shared = [state for state in nest.states if state.step.op == "update"]
        self.shared_states = _shared(nest, (state.variable for state in shared))
        self.shared_totals = _shared(nest, (state.total for state in shared))
        self.scalar_states = Record.of(s.variable for s in nest.states if s.variable.dim == 1)
        self.scalar_totals = Record.of(v for v in self.totals.variables if v.dim == 1)
        words = self.totals.width * self.total_size // 4
        is_scalar = all(state.total.dim == 1 for state in nest.states)
        self.joins_in_registers = is_scalar and words <= _TOTAL_REGISTERS
        is_few = is_scalar and schedule.rows * words <= _TOTAL_REGISTERS
        self.keeps_totals = is_few
        # What members of teams exchange through shared memory.
        exchanged = records * self.row_bytes
        self.exchanged_bytes = exchanged if schedule.teams and is_few else 0
        in_memory = self.shared_totals if shared else self.totals
        totals_bytes = records * in_memory.width * self.total_size
        self.states_offset = 0 if is_few else _aligned(totals_bytes)
        states_bytes = records * self.states.width * self.size
        self.rows_offset = self.states_offset + _aligned(states_bytes)
        long_rows = (part for part in slices(nest.pairs, "i") if not part.is_short)
        self.long_rows = Record.of(part.variable for part in long_rows)
        rows_bytes = records * self.long_rows.width * self.size
        self.elements_offset = self.rows_offset + _aligned(rows_bytes)
        # A thread's elements of the rows of a product whose vectors come in chunks.
        product = chunked(nest)
        self.elements = Record((), {}, 0)
        if product is not None:
            name, kind = product.variable, PRODUCTS[factors_of(product.definition)]
            width = kind.depth(product.definition.args[0].dim) // MEMBERS
            self.elements = Record((name,), {name: 0}, width)
        elements_bytes = records * self.elements.width * self.size
        self.workspace_bytes = self.elements_offset + _aligned(elements_bytes)


def _shared(nest: Nest, variables: Iterable[Value]) -> Record:
    """The record of what a thread has of variables whose components it shares with others."""
    listed, offsets, width = tuple(variables), {}, 0
    for variable in listed:
        offsets[variable] = width
        width += PRODUCTS[nest.dtype].shared(variable.dim)
    return Record(listed, offsets, width)


def _record_shape(written: int, whole: int, cols: int, size: int) -> tuple[int, int, int]:
    """Components that threads write, by vectors of how many, and the width of a column's record.

    The columns of a step begin where a vector of 16 bytes can be loaded.  A record has an odd
    number of the vectors that threads write, each to its own record: so no two of them that are
    written at a time are in one bank.  What is left over between columns is loaded with them,
    unless each column begins where a vector does.
    """
    most = VECTOR_BYTES // size
    if written + whole == 0:
        return 0, 1, 0
    for width in itertools.count(written + whole):
        if width * cols % most:
            continue
        if not written:
            return 0, 1, width
        for store in (1, 2, 4)[: most.bit_length()]:
            begin = -(-written // store) * store
            gap = width - begin - whole
            if width % most:  # nothing may be left out between columns
                begin, gap = begin + gap, min(gap, 0)
            is_odd = width % store == begin % store == 0 and width // store % 2 == 1
            if is_odd and gap >= 0:
                return begin, store, width
    raise AssertionError("widths have no end")


def _aligned(size: int) -> int:
    return _rounded(size, ALIGNMENT)


def _rounded(size: int, unit: int) -> int:
    return -(-size // unit) * unit
