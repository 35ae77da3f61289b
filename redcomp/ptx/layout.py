"""The parameters of a kernel, and where a task's data are in memory."""

from __future__ import annotations

from dataclasses import dataclass

from redcomp.ir import Nest
from redcomp.llvm_backend.layout import ALIGNMENT, Record, in_memory
from redcomp.llvm_backend.schedule import SIZES
from redcomp.ptx.schedule import PtxSchedule
from redcomp.ptx.slices import Slice, record_of, slices

# The widest load from shared memory.
VECTOR_BYTES = 16
# Totals of all rows of a thread that may stay in registers while pairs are reduced, of 32 bits.
_TOTAL_REGISTERS = 16

# The first parameters of both kernels; all have 64 bits.  Pointers to outputs, then to arguments,
# follow.  A dense call has no table: its tasks are blocks of rows times parts of the columns.
JOB_WORDS = (
    "tasks",  # of all entries of the batch
    "entry_tasks",  # of one entry
    "rows",  # of an entry
    "columns",  # of an entry
    "splits",  # parts that the columns are split into, without a table
    "split_columns",  # columns of such a part, but for the last one
    "table",  # pointer to the records of one entry's tasks (`llvm_backend.layout.TASK_WORDS`), or 0
    "intervals",  # pointer to pairs of columns, as on the host; read where there is a table
    "entries",  # pointer to a row for each entry: bytes from each pointer to its array; or 0
    "partials",  # pointer to the totals that are to be joined
    "entry_partials",  # tasks of an entry that leave their totals to be joined
    "workspace",  # pointer to what blocks keep in memory, each its part
    "second_axis",  # vectors on the second axis of arrays of pairs
)
JOB_WORD = {name: n for n, name in enumerate(JOB_WORDS)}


RUN, JOIN = "redcomp_run", "redcomp_join"


def kernel_name(kernel: str, part: int) -> str:
    """The name of a part's `RUN` or `JOIN` kernel."""
    return f"{kernel}_{part}" if part else kernel


@dataclass(frozen=True, slots=True)
class Launch:
    """What the runtime has to know of the kernels that compute a part of the results.

    threads          of a block
    rows             that a block reduces together: a task holds at most so many
    tile             columns that are prepared at a time; parts of the columns are whole tiles
    partial_bytes    of the totals that a task leaves to be joined
    workspace_bytes  that a block keeps in memory; 0 if none
    can_split        whether totals of parts of the columns can be joined
    """

    threads: int
    rows: int
    tile: int
    partial_bytes: int
    workspace_bytes: int = 0
    can_split: bool = True


class Layout:
    """What a block keeps where: its tile in shared memory, states and totals of its rows.

    A column of the tile is a record that steps read; what is only needed to prepare it is staged in
    a record of its own.  Vectors that are too long for a record are read from global memory: those
    of columns by all threads at the same place, those of rows from a copy in which the rows of
    neighbouring threads lie side by side.
    """

    def __init__(self, nest: Nest, dtype: str, schedule: PtxSchedule) -> None:
        self.size = SIZES[dtype]
        definitions = [h.definition for h in nest.columns]
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
        self.width = _padded(self.columns.width, schedule.cols, self.size)
        self.totals, self.others = Record.of(nest.totals), Record.of(nest.others)
        self.states = Record.of(in_memory(nest))
        self.total_size = SIZES[nest.totals[0].dtype]
        self.tile_bytes = schedule.tile * self.width * self.size
        self.staged_bytes = schedule.tile * self.staged.width * self.size
        self.partial_bytes = schedule.block_rows * self.totals.width * self.total_size
        words = schedule.rows * self.totals.width * self.total_size // 4
        is_few = all(total.dim == 1 for total in nest.totals) and words <= _TOTAL_REGISTERS
        self.keeps_totals = is_few
        self.states_offset = 0 if is_few else _aligned(self.partial_bytes)
        states_bytes = schedule.block_rows * self.states.width * self.size
        self.rows_offset = self.states_offset + _aligned(states_bytes)
        long_rows = (part for part in slices(nest.pairs, "i") if not part.is_short)
        self.long_rows = Record.of(part.variable for part in long_rows)
        rows_bytes = schedule.block_rows * self.long_rows.width * self.size
        self.workspace_bytes = self.rows_offset + _aligned(rows_bytes)


def _padded(width: int, cols: int, size: int) -> int:
    """The width at which the columns of a step begin where a vector of 16 bytes can be loaded."""
    if width == 0:
        return 0
    while width * cols * size % VECTOR_BYTES:
        width += 1
    return width


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
