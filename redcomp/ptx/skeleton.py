"""The skeleton of kernels for GPUs: the loops around the values that the emitter writes.

A task is a block of rows of one entry of the batch and a list of intervals of its columns; without
a table it is computed from its number.  Each thread of a block has some of the rows; the columns
come in tiles, in shared memory.  Rows beyond the last one repeat it and are not stored, and what a
tile lacks to whole steps is reduced column by column, so that no pair tests bounds.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from redcomp.abi import GPU_JOB, JOIN, RUN, Launch, kernel_name
from redcomp.errors import SizeError
from redcomp.ir import Value, constant
from redcomp.limits import MAX_WORKSPACE
from redcomp.llvm_backend.components import by_kind
from redcomp.llvm_backend.emit import Loader
from redcomp.llvm_backend.pair_step import PairStep
from redcomp.llvm_backend.tile_reduction import TileReduction, read_rows
from redcomp.ptx.join import JoinKernel
from redcomp.ptx.kernel_code import Entry, KernelCode, ThreadMemory
from redcomp.ptx.schedule import PlannedPart
from redcomp.ptx.spelling import GLOBAL, NVIDIA, Spelling
from redcomp.ptx.task_kernel import Task, TaskKernel
from redcomp.ptx.tile import FilledTile, StepColumns, Tile, shared_memory
from redcomp.target import Target

# Of a kernel's parameters, and of the shared memory that a block gets without asking for more: CUDA
# C++ Programming Guide, technical specifications.
MOST_PARAMETER_BYTES = 4096
MOST_SHARED_BYTES = 48 * 1024


@dataclass(frozen=True, slots=True)
class PtxModule:
    """LLVM text, and how the kernels of each part are launched."""

    text: str
    launches: tuple[Launch, ...]


def ptx_module(
    parts: Sequence[PlannedPart],
    outputs: int,
    target: Target,
    spelling: Spelling = NVIDIA,
) -> PtxModule:
    """The module of the parts of a legal, hoisted nest that has so many outputs.

    Each part has the kernel `redcomp_run`, and `redcomp_join` if its columns can be split; the
    names of later parts have a number.
    """
    texts: list[str] = []
    declarations: dict[str, str] = {}
    limits: dict[str, tuple[int, int]] = {}
    launches: list[Launch] = []
    for number, planned in enumerate(parts):
        run = _RunKernel(planned, outputs, target, spelling, number)
        _check_limits(run)
        kernels: list[tuple[str, TaskKernel]] = [(RUN, run)]
        if planned.part.nest.can_split:
            kernels.append((JOIN, JoinKernel(planned, outputs, target, spelling, number)))
        for stem, kernel in kernels:
            name = kernel_name(stem, number)
            texts += [kernel.shared_memory(), kernel.text(name)]
            limits[name] = kernel.limits
            declarations.update(kernel.code.declarations)
        launches.append(_launch(run, planned))
    text = spelling.module(target.triple, [*texts, *declarations.values()], limits)
    return PtxModule(text, tuple(launches))


def _launch(kernel: KernelCode, planned: PlannedPart) -> Launch:
    """What the runtime has to know of a part's kernels."""
    layout, schedule = kernel.layout, kernel.schedule
    return Launch(
        threads=schedule.threads,
        rows=schedule.block_rows,
        tile=schedule.tile,
        partial_bytes=layout.partial_bytes,
        workspace_bytes=layout.workspace_bytes,
        can_split=kernel.nest.can_split,
        clocks=planned.clocks,
    )


def _check_limits(kernel: KernelCode) -> None:
    """Refuse what no GPU takes."""
    parameters = 8 * (len(GPU_JOB) + kernel.array_count)
    if parameters > MOST_PARAMETER_BYTES:
        raise SizeError(
            f"has {kernel.array_count} arguments and results, too many for a GPU, whose kernels "
            f"have {MOST_PARAMETER_BYTES:,} bytes of parameters"
        )
    shared = 2 * kernel.layout.tile_bytes + kernel.layout.staged_bytes
    if shared > MOST_SHARED_BYTES:
        raise SizeError(
            f"needs {shared:,} bytes of shared memory for tiles of {kernel.schedule.tile} columns; "
            f"a GPU's block has {MOST_SHARED_BYTES:,}"
        )
    if kernel.layout.workspace_bytes > MAX_WORKSPACE:
        raise SizeError(
            f"needs {kernel.layout.workspace_bytes / 2**30:.1f} GB of memory in each block of a "
            f"GPU; at most {MAX_WORKSPACE / 2**30:g} GB are possible"
        )


class _RunKernel(TaskKernel):
    """redcomp_run: reduces a block of rows over the columns of a task."""

    @property
    def limits(self) -> tuple[int, int]:
        return self.schedule.threads, self.schedule.resident

    def __init__(
        self,
        planned: PlannedPart,
        outputs: int,
        target: Target,
        spelling: Spelling,
        number: int,
    ) -> None:
        super().__init__(planned, outputs, target, spelling, number)
        layout, code = self.layout, self.code
        workspace = self.workspace()
        self.totals = self._total_memory(workspace)
        long_rows = code.at(workspace, "i8", layout.rows_offset, space=GLOBAL)
        self.long_rows = self.own_memory(layout.long_rows, long_rows, self.size, self.thread)
        self.states = self.states_memory(workspace, self.thread)

    def _total_memory(self, workspace: str) -> ThreadMemory:
        """Memory that LLVM turns into registers if the totals are few, else the workspace."""
        layout, rows = self.layout, self.schedule.rows
        if not layout.keeps_totals:
            return self.own_memory(layout.totals, workspace, layout.total_size, self.thread)
        type_ = f"i{8 * layout.total_size}"
        pointer = self.code.value(f"alloca [{rows * layout.totals.width} x {type_}]")
        return ThreadMemory(layout.totals, pointer, 0, rows, 1)

    def shared_memory(self) -> str:
        return shared_memory(self.layout, self.part_number)

    def text(self, name: str) -> str:
        """The kernel."""
        with self.tasks() as number:
            entry = self.enter(number)
            task = self.task(entry.task)
            rows = self.rows(task.first, task.last)
            _RunTask(self, entry, rows).reduce(task)
            entry = self.enter(self.spelling.forgotten(self.code, number))
            self._leave_totals(entry, self.task(entry.task), rows)
        return self.function(name)

    def computed_task(self, number: str) -> tuple[str, ...]:
        code = self.code
        block, split = (code.integer(op, number, "%splits") for op in ("sdiv", "srem"))
        start = code.integer("mul", split, "%split_columns")
        stop = code.smaller(code.integer("add", start, "%split_columns"), "%columns")
        is_split = code.value("icmp sgt i64 %splits, 1")
        partial = code.value(f"select i1 {is_split}, i64 {number}, i64 -1")
        return *self.block(block), start, stop, partial

    def _leave_totals(self, entry: Entry, task: Task, rows: Sequence[str]) -> None:
        """Store results, or totals that are to be joined."""
        code = self.code
        is_whole = code.value(f"icmp slt i64 {task.partial}, 0")
        with code.when(is_whole):
            self.finish(entry, task, rows, self.totals)
        if not self.nest.can_split:
            return
        is_partial = code.value(f"xor i1 {is_whole}, true")
        with code.when(is_partial):
            target = entry.partial(self.layout.totals, task.partial, self.thread)
            for state in self.nest.states:
                self._copy_total(state.total, target)

    def _copy_total(self, total: Value, target: ThreadMemory) -> None:
        def copy(position: int | str) -> None:
            for row in range(self.schedule.rows):
                operand = self.totals.load(self.code, total, position, row)
                target.store(self.code, operand, total, position, row)

        if total.dim == 1:
            copy(0)
        else:
            with self.code.loop(0, total.dim, 1) as loop:
                copy(loop.counter)


class _RunTask:
    """One task of redcomp_run: the thread's rows, and the columns that they are reduced over."""

    def __init__(self, kernel: _RunKernel, entry: Entry, rows: Sequence[str]) -> None:
        self.kernel, self.entry, self.rows = kernel, entry, rows
        self.code, self.nest, self.schedule = kernel.code, kernel.nest, kernel.schedule
        self._copy_long_rows()
        samples = entry.samples()
        self.tile = Tile(kernel, entry, samples, kernel.part_number)
        self.loaders: Mapping[str, Loader] = {
            "i": self._row,
            "parameter": entry.parameter,
            "j_sample": entry.sampled(samples),
            "total": lambda v, k, row, col: kernel.totals.load(kernel.code, v, k, row),
            "state": lambda v, k, row, col: kernel.states.load(kernel.code, v, k, row),
        }
        self.emitter = kernel.emitter(
            by_kind(**self.loaders), rows=self.schedule.rows, scans=kernel.states
        )

    def _prepare(self) -> None:
        """What does not change from pair to pair, and the first totals."""
        emitter, nest = self.emitter, self.nest
        for hoisted in (nest.uniform, nest.rows):
            emitter.emit(h.definition for h in hoisted)
            for h in hoisted:
                rows = range(self.schedule.rows if h.variable.dependence else 1)
                operands = [emitter.operand(h.definition, row, 0, True) for row in rows]
                emitter.bind(h.variable, operands)
        read_rows(nest, emitter)
        for state in nest.states:
            initial = constant(state.initial, nest.accumulator)
            self._fill(state.total, emitter.operand(initial, 0, 0, True))

    def _copy_long_rows(self) -> None:
        """Copy long vectors of rows to where neighbouring threads find theirs side by side."""
        for variable in self.kernel.layout.long_rows.variables:
            vectors = [self.entry.vector(variable, row) for row in self.rows]
            with self.code.loop(0, variable.dim, 1) as loop:
                for row, vector in enumerate(vectors):
                    operand = self.kernel.component(variable, vector, loop.counter)
                    self.kernel.long_rows.store(self.code, operand, variable, loop.counter, row)

    def _row(self, variable: Value, position: int | str, row: int, col: int) -> str:
        """Loads a component of what belongs to a row, from the copy if there is one."""
        if variable in self.kernel.long_rows.record.offsets:
            return self.kernel.long_rows.load(self.code, variable, position, row)
        return self.entry.row(variable, position, self.rows[row])

    def _fill(self, total: Value, operand: str) -> None:
        """Set all components of a total, for all rows."""
        rows = range(self.schedule.rows)
        if total.dim == 1:
            for row in rows:
                self.kernel.totals.store(self.code, operand, total, 0, row)
            return
        with self.code.loop(0, total.dim, 1) as loop:
            for row in rows:
                self.kernel.totals.store(self.code, operand, total, loop.counter, row)

    def reduce(self, task: Task) -> None:
        """Reduce over all intervals of columns of the task."""
        self._prepare()
        code = self.code
        first = code.value(f"select i1 {task.has_table}, i64 {task.start}, i64 0")
        last = code.value(f"select i1 {task.has_table}, i64 {task.stop}, i64 1")
        with code.loop(first, last, 1) as interval:
            dense = [("i64", task.start), ("i64", task.stop)]
            with code.when(task.has_table, dense) as ends:
                place = code.integer("mul", interval.counter, 2)
                ends[:] = [self.kernel.word_at("%intervals", place, n) for n in range(2)]
            self._tiles(*ends)

    def _tiles(self, start: str, stop: str) -> None:
        """Reduce over an interval, tile by tile; the next one is copied meanwhile."""
        code, tile, width = self.code, self.tile, self.schedule.tile
        self.kernel.spelling.barrier(code)  # other threads may still read the tile before
        tile.copy(start, self._count(start, stop), "0")
        with code.loop(start, stop, width, [("i64", "0")]) as loop:
            first, (buffer,) = loop.counter, loop.carried
            count = self._count(first, stop)
            tile.prepare(first, count, buffer)
            self.kernel.spelling.barrier(code)
            following, other = (
                code.integer("add", first, width),
                code.integer("xor", buffer, 1),
            )
            is_more = code.value(f"icmp slt i64 {following}, {stop}")
            with code.when(is_more):
                tile.copy(following, self._count(following, stop), other)
            self._pairs(tile.filled(first, buffer), count)
            loop.following = [other]

    def _count(self, first: str, stop: str) -> str:
        """Columns of the tile that begins there."""
        return self.code.smaller(self.schedule.tile, self.code.integer("sub", stop, first))

    def _pairs(self, tile: FilledTile, count: str) -> None:
        """Reduce the tile: by whole steps, and then what is left of it."""
        code, cols = self.code, self.schedule.cols
        count = code.value(f"trunc i64 {count} to i32")
        whole = code.value(f"sub i32 {count}, {code.value(f'srem i32 {count}, {cols}')}")
        loaders: Mapping[str, Loader] = {
            **self.loaders,
            "tile": lambda v, k, row, col: self.kernel.number(tile.first, v),
        }
        emitter = self.emitter.within(by_kind(**loaders))
        reduction = TileReduction(self.nest, emitter, self.kernel.states, self.kernel.totals)

        def step_at(column: str, width: int) -> PairStep:
            columns = tile.step(column, width)
            pair = functools.partial(self._pair, columns)
            load = by_kind(**loaders, j=columns.load, ij=pair)
            return PairStep(self.nest, emitter.within(load, width), self.kernel.states)

        states = reduction.start()
        for start, stop, width in [("0", whole, cols), (whole, count, 1)][: min(cols, 2)]:
            states = reduction.columns(start, stop, width, states, step_at, "i32")
        reduction.merge(states)

    def _pair(
        self, columns: StepColumns, variable: Value, position: int | str, row: int, col: int
    ) -> str:
        """Loads a component of what is given for each pair."""
        code, numbers = self.code, [self.rows[row], columns.number(col)]
        major, minor = numbers if variable["kind"] == "ij" else numbers[::-1]
        vector = code.integer("add", code.integer("mul", major, "%second_axis"), minor)
        return self.entry.component(variable, vector, position)
