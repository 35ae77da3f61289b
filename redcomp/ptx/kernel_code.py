"""The code of a kernel under construction: its parameters, a thread's own memory, global memory."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from redcomp.abi import GPU_JOB
from redcomp.errors import SizeError
from redcomp.ir import ARGUMENT_KINDS, I_BIT, SIZES, Value, free_indices
from redcomp.limits import MAX_WORKSPACE
from redcomp.llvm_backend.code import Code
from redcomp.llvm_backend.emit import Emitter, Loader
from redcomp.llvm_backend.memory import Memory, all_positions
from redcomp.llvm_backend.records import Record
from redcomp.llvm_backend.samples import is_last_nearer
from redcomp.llvm_backend.spelling import LLVM_TYPES
from redcomp.ptx.layout import BlockLayout
from redcomp.ptx.multiprocessor import WARP
from redcomp.ptx.schedule import PlannedPart
from redcomp.ptx.spelling import GLOBAL, INVARIANT, NO_UNROLLING, Spelling
from redcomp.ptx.teams import Team
from redcomp.records import record
from redcomp.target import Target

# Of a kernel's parameters, and of the shared memory that a block gets without asking for more: CUDA
# C++ Programming Guide, technical specifications.
MOST_PARAMETER_BYTES = 4096
MOST_SHARED_BYTES = 48 * 1024
# Words of the job that are pointers.
_POINTER_WORDS = ("table", "intervals", "entries", "partials", "workspace")


@record
class ThreadMemory:
    """Memory that holds a record for each row of a thread, its components `stride` elements apart.

    Where threads' records lie side by side, a thread's own begins at `pointer`.
    """

    record: Record
    pointer: str
    space: int
    stride: int
    row_stride: int

    def _place(self, code: Code, variable: Value, position: int | str, row: int) -> str:
        type_ = LLVM_TYPES[variable.dtype]
        fixed = self.record.offsets[variable] * self.stride + row * self.row_stride
        if isinstance(position, int):
            moved: int | str = position * self.stride
        else:
            moved = code.integer("mul", position, self.stride)
        return code.at(self.pointer, type_, moved, fixed, space=self.space)

    def load(self, code: Code, variable: Value, position: int | str, row: int = 0) -> str:
        place = self._place(code, variable, position, row)
        return code.load(LLVM_TYPES[variable.dtype], place, SIZES[variable.dtype], self.space)

    def store(
        self, code: Code, operand: str, variable: Value, position: int | str, row: int = 0
    ) -> None:
        place = self._place(code, variable, position, row)
        type_ = LLVM_TYPES[variable.dtype]
        code.store(type_, operand, place, SIZES[variable.dtype], self.space)

    def positions(self, code: Code, extent: int) -> Iterator[str]:
        return all_positions(code, extent)


class KernelCode:
    """One kernel under construction: the thread's numbers, and what it reads and writes.

    `job` names its first parameters.
    """

    job = GPU_JOB

    def __init__(
        self, planned: PlannedPart, outputs: int, target: Target, spelling: Spelling
    ) -> None:
        nest, schedule = planned.part.nest, planned.schedule
        self.nest, self.pieces, self.schedule = nest, planned.part.pieces, schedule
        self.target, self.outputs = target, outputs
        self.spelling = spelling
        self.layout = BlockLayout(nest, schedule)
        self.free = free_indices(nest.values)
        self.scalar, self.size = LLVM_TYPES[nest.dtype], SIZES[nest.dtype]
        self.code = Code(NO_UNROLLING)
        self.thread = spelling.thread(self.code)
        self._fixed_row = self._own_row() if schedule.sharing > 1 else self.thread
        self.team: Team | None = None  # of the thread, in its task
        self.array_count = outputs + sum(v["kind"] in ARGUMENT_KINDS for v in nest.params)

    def function(self, name: str) -> str:
        """The text of the kernel, its code complete."""
        words = [
            f"ptr addrspace({GLOBAL}) %{word}" if word in _POINTER_WORDS else f"i64 %{word}"
            for word in self.job
        ]
        arrays = [f"ptr addrspace({GLOBAL}) %array{n}" for n in range(self.array_count)]
        return self.spelling.kernel(name, [*words, *arrays], self.code)

    def emitter(
        self, load: Loader, lane_bit: int = I_BIT, rows: int = 1, scans: Memory | None = None
    ) -> Emitter:
        """An emitter for which a lane is a thread."""
        return Emitter(
            self.code, self.target, 1, self.free, load, lane_bit=lane_bit, rows=rows, scans=scans
        )

    def _own_row(self) -> str:
        """The first of the thread's rows in a block, where neighbouring threads share rows."""
        code, schedule = self.code, self.schedule
        warp, lane = (code.integer(op, self.thread, WARP) for op in ("udiv", "urem"))
        first = code.integer("mul", warp, schedule.row_stride * schedule.rows)
        return code.integer("add", first, code.integer("udiv", lane, schedule.sharing))

    @property
    def own_row(self) -> str:
        """The first of the thread's rows in a block."""
        return self._fixed_row if self.team is None else self.team.own_row

    def first_of_row(self, condition: str) -> str:
        """The condition, and that the thread is the first of those that share its rows."""
        code, sharing = self.code, self.schedule.sharing
        if self.team is not None:
            return code.value(f"and i1 {condition}, {self.team.is_first}")
        if sharing == 1:
            return condition
        is_first = code.value(f"icmp eq i64 {code.integer('urem', self.thread, sharing)}, 0")
        return code.value(f"and i1 {condition}, {is_first}")

    # -- tasks -------------------------------------------------------------------------------------

    @contextmanager
    def tasks(self) -> Iterator[str]:
        """The loop over the tasks of a block; the number of a task among those of all entries."""
        first, step = self.spelling.block(self.code), self.spelling.blocks(self.code)
        with self.code.loop(first, "%tasks", step) as task:
            yield task.counter

    def enter(self, number: str) -> Entry:
        """The entry of a task by the task's number among those of all entries."""
        return Entry(self, number)

    def word_at(self, pointer: str, *offsets: str | int) -> str:
        """An element of a table of 64-bit words."""
        return self.code.load(
            "i64", self.code.at(pointer, "i64", *offsets, space=GLOBAL), 8, GLOBAL
        )

    def rows(self, first: str, last: str) -> list[str]:
        """The numbers of the thread's rows of a block; beyond the last row, the last row again."""
        code, final = self.code, self.code.integer("sub", last, 1)
        own = code.integer("add", first, self.own_row)
        return [
            code.smaller(code.integer("add", own, row * self.schedule.row_stride), final)
            for row in range(self.schedule.rows)
        ]

    # -- memory ------------------------------------------------------------------------------------

    def thread_memory(self, record: Record, pointer: str, size: int, place: str) -> ThreadMemory:
        """The records of the thread with a number, which no other thread of the block has."""
        own = self.code.at(pointer, f"i{8 * size}", place, space=GLOBAL)
        threads, rows = self.schedule.threads, self.schedule.rows
        return ThreadMemory(record, own, GLOBAL, threads * rows, threads)

    def row_memory(self, record: Record, pointer: str, size: int, place: str) -> ThreadMemory:
        """What belongs to the row at a place of a block, in the block's records in global memory.

        A thread of the loop over columns has its first row there, and others further on.
        """
        schedule = self.schedule
        if schedule.teams:  # a row's components side by side, for as many rows as a task has
            place = self.code.integer("mul", place, record.width)
        own = self.code.at(pointer, f"i{8 * size}", place, space=GLOBAL)
        if schedule.teams:
            return ThreadMemory(record, own, GLOBAL, 1, record.width)
        return ThreadMemory(record, own, GLOBAL, schedule.block_rows, schedule.row_stride)

    def component(self, variable: Value, vector: str, *position: int | str) -> str:
        """A component of a vector of an argument."""
        code, type_ = self.code, LLVM_TYPES[variable.dtype]
        place = code.at(vector, type_, *position, space=GLOBAL)
        size = SIZES[variable.dtype]
        # Through the read-only cache.
        return code.value(
            f"load {type_}, ptr addrspace({GLOBAL}) {place}, align {size}, {INVARIANT}"
        )

    def number(self, number: str, variable: Value) -> str:
        """A 64-bit number in a variable's dtype."""
        type_ = LLVM_TYPES[variable.dtype]
        if variable.type.is_float:
            return self.code.value(f"sitofp i64 {number} to {type_}")
        return number if type_ == "i64" else self.code.value(f"trunc i64 {number} to {type_}")


class Entry:
    """The entry of the batch that a task belongs to: where its arrays are, and what is read there.

    task    the number of the task within it
    arrays  pointers to its outputs and arguments
    """

    def __init__(self, kernel: KernelCode, number: str) -> None:
        self.kernel, self.code, count = kernel, kernel.code, kernel.array_count
        code = self.code
        self.number = code.integer("sdiv", number, "%entry_tasks")
        is_batch = code.value(f"icmp ne ptr addrspace({GLOBAL}) %entries, null")
        with code.when(is_batch, [("i64", "0")] * count) as offsets:
            first = code.integer("mul", self.number, count)
            offsets[:] = [kernel.word_at("%entries", first, n) for n in range(count)]
        self.arrays = [
            code.at(f"%array{n}", "i8", offset, space=GLOBAL) for n, offset in enumerate(offsets)
        ]
        self.task = code.integer("srem", number, "%entry_tasks")

    def partial(self, record: Record, number: str, place: str) -> ThreadMemory:
        """Where one of its tasks leaves the totals of a row that are to be joined."""
        code, layout = self.code, self.kernel.layout
        own = code.integer("add", code.integer("mul", self.number, "%entry_partials"), number)
        size: int | str = layout.partial_bytes
        if self.kernel.schedule.teams:
            size = code.integer("mul", "%height", layout.row_bytes)
        offset = code.integer("mul", own, size)
        pointer = code.at("%partials", "i8", offset, space=GLOBAL)
        return self.kernel.row_memory(record, pointer, layout.total_size, place)

    def argument(self, variable: Value) -> str:
        """The pointer to the array of a variable."""
        return self.arrays[self.kernel.outputs + int(variable["position"])]

    def vector(self, variable: Value, number: str) -> str:
        """The pointer to a vector of an argument."""
        start = self.code.integer("mul", number, variable.dim)
        return self.code.at(
            self.argument(variable), LLVM_TYPES[variable.dtype], start, space=GLOBAL
        )

    def component(self, variable: Value, number: str, position: int | str) -> str:
        """A component of a vector of an argument."""
        return self.kernel.component(variable, self.vector(variable, number), position)

    def parameter(self, variable: Value, position: int | str, row: int, col: int) -> str:
        """Loads a component of a parameter."""
        return self.kernel.component(variable, self.argument(variable), position)

    def row(self, variable: Value, position: int | str, number: str) -> str:
        """A component of what belongs to the row with a number, or that number."""
        if variable["kind"] == "i_index":
            return self.kernel.number(number, variable)
        return self.component(variable, number, position)

    def samples(self) -> dict[int, str]:
        """Find the columns that stand for all, by the position of the argument."""
        found = {}
        for variable in self.kernel.nest.params:
            if variable["kind"] != "j_sample":
                continue
            final = self.code.integer("sub", "%columns", 1)
            first, last = (self.vector(variable, number) for number in ("0", final))
            load = functools.partial(self.kernel.component, variable)
            is_last = is_last_nearer(self.code, variable, first, last, load)
            found[variable["position"]] = self.code.value(
                f"select i1 {is_last}, i64 {final}, i64 0"
            )
        return found

    def sampled(self, samples: Mapping[int, str]) -> Loader:
        """Loads a component of the column that stands for all."""
        return lambda v, k, row, col: self.component(v, samples[v["position"]], k)


def check_limits(kernel: KernelCode) -> None:
    """Refuse what no GPU takes."""
    parameters = 8 * (len(GPU_JOB) + kernel.array_count)
    if parameters > MOST_PARAMETER_BYTES:
        raise SizeError(
            f"has {kernel.array_count} arguments and results, too many for a GPU, whose kernels "
            f"have {MOST_PARAMETER_BYTES:,} bytes of parameters"
        )
    layout = kernel.layout
    shared = 2 * layout.tile_bytes + layout.staged_bytes + layout.exchanged_bytes
    if shared > MOST_SHARED_BYTES:
        raise SizeError(
            f"needs {shared:,} bytes of shared memory for tiles of {kernel.schedule.tile} columns; "
            f"a GPU's block has {MOST_SHARED_BYTES:,}"
        )
    if layout.workspace_bytes > MAX_WORKSPACE:
        raise SizeError(
            f"needs {layout.workspace_bytes / 2**30:.1f} GB of memory in each block of a "
            f"GPU; at most {MAX_WORKSPACE / 2**30:g} GB are possible"
        )
