"""The skeleton of kernels for GPUs: the loops around the values that the emitter writes.

A task is a block of rows of one entry of the batch and a list of intervals of its columns; without
a table it is computed from its number.  Each thread of a block has some of the rows; the columns
come in tiles, in shared memory.  Rows beyond the last one repeat it and are not stored, and what a
tile lacks to whole steps is reduced column by column, so that no pair tests bounds.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence

from redcomp.abi import JOIN, RUN, Launch, kernel_name
from redcomp.ir import Value, constant
from redcomp.llvm_backend.components import by_kind
from redcomp.llvm_backend.emit import Loader
from redcomp.llvm_backend.memory import Memory, all_positions
from redcomp.llvm_backend.pair_step import PairStep
from redcomp.llvm_backend.records import Record
from redcomp.llvm_backend.spelling import LLVM_TYPES
from redcomp.llvm_backend.tile_reduction import Advancing, TileReduction, read_rows, store_totals
from redcomp.ptx.chunks import ChunkedProduct
from redcomp.ptx.join import JoinKernel
from redcomp.ptx.kernel_code import Entry, KernelCode, ThreadMemory, check_limits
from redcomp.ptx.mma import PRODUCTS
from redcomp.ptx.products import Fragments, Grid
from redcomp.ptx.schedule import PlannedPart
from redcomp.ptx.shared_rows import ByLength, SharedMemory, SharedRows
from redcomp.ptx.shared_steps import SharedSteps
from redcomp.ptx.slices import chunked
from redcomp.ptx.spans import Span
from redcomp.ptx.spelling import GLOBAL, NVIDIA, SHARED, Spelling, shared_array
from redcomp.ptx.steps import Columns, Made, PlainSteps, Steps, TeamSteps
from redcomp.ptx.task_kernel import Task, TaskKernel
from redcomp.ptx.teams import Stretch, Team
from redcomp.ptx.tile import FilledTile, Tile, shared_memory
from redcomp.ptx.together import by_length, contracted, contractions
from redcomp.ptx.updates import MatrixUpdates
from redcomp.records import record
from redcomp.target import Target

# A part of the columns is to have a multiple of those that lists keep of it: the first ones all
# enter, and each takes as long as many pairs.
COLUMNS_OF_KEPT = 16


@record
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
        check_limits(run)
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
        filling=planned.filling,
        team_rows=schedule.rows if schedule.teams else 0,
        least_columns=max(1, COLUMNS_OF_KEPT * kernel.nest.kept),
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
        if self.nest.updates:
            self.shared = SharedRows(self)
        workspace = self.workspace()
        self.totals = self._total_memory(workspace)
        long_rows = code.at(workspace, "i8", layout.rows_offset, space=GLOBAL)
        self.long_rows = self.thread_memory(layout.long_rows, long_rows, self.size, self.thread)
        self.states = self.states_memory(workspace, self.thread)
        if self.shared is not None:
            self.sums = SharedMemory(self.shared, self._registers(layout.shared_states, self.size))
            self.between = self._registers(layout.scalar_states, self.size)

    @property
    def step_states(self) -> Memory:
        """Where steps have states that are vectors."""
        return self.states if self.shared is None else self.sums

    def elements_memory(self) -> ThreadMemory:
        """Where the thread has its elements of rows whose vectors come in chunks."""
        layout = self.layout
        elements = self.code.at(self.workspace(), "i8", layout.elements_offset, space=GLOBAL)
        return self.thread_memory(layout.elements, elements, self.size, self.thread)

    def _total_memory(self, workspace: str) -> ThreadMemory | ByLength:
        """Registers if the totals are few, else the workspace."""
        layout, size = self.layout, self.layout.total_size
        if layout.keeps_totals:
            return self._registers(layout.totals, size)
        if self.shared is None:
            return self.thread_memory(layout.totals, workspace, size, self.thread)
        wide = self.thread_memory(layout.shared_totals, workspace, size, self.thread)
        scalars = self._registers(layout.scalar_totals, size)
        return ByLength(scalars, SharedMemory(self.shared, wide))

    def _registers(self, record: Record, size: int) -> ThreadMemory:
        """Memory that LLVM turns into registers."""
        rows = self.schedule.rows
        pointer = self.code.value(f"alloca [{rows * record.width} x i{8 * size}]")
        return ThreadMemory(record, pointer, 0, rows, 1)

    def shared_memory(self) -> str:
        tiles = shared_memory(self.layout, self.part_number)
        size = self.layout.exchanged_bytes
        return tiles + (shared_array(self._exchange_name, size) if size else "")

    @property
    def _exchange_name(self) -> str:
        return f"@team{self.part_number}"

    def text(self, name: str) -> str:
        """The kernel."""
        with self.tasks() as number:
            entry = self.enter(number)
            task = self._begin(entry)
            rows = self.rows(task.first, task.last)
            _RunTask(self, entry, rows).reduce(task)
            self._join_sharing()
            entry = self.enter(self.spelling.forgotten(self.code, number))
            task = self._begin(entry)
            self._join_team()
            self._leave_totals(entry, task, rows)
        return self.function(name)

    def _begin(self, entry: Entry) -> Task:
        """The task, and the thread's place in it."""
        task = self.task(entry.task)
        if self.schedule.teams:
            rows = self.code.integer("sub", task.last, task.first)
            self.team = Team(self.code, self.schedule, self.thread, rows)
        return task

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
        wide = self.layout.shared_totals.variables
        with code.when(self.first_of_row(is_partial)):
            target = entry.partial(self.layout.totals, task.partial, self.own_row)
            for state in self.nest.states:
                if state.total not in wide:
                    self._copy_total(state.total, target)
        if self.shared is not None:
            with code.when(is_partial):
                target = entry.partial(self.layout.totals, task.partial, self.own_row)
                for total in wide:
                    self._copy_total(total, target)

    def _join_sharing(self) -> None:
        """Join the totals of the threads that share rows: neighbours first, then pairs of them."""
        distance = 1
        while distance < self.schedule.sharing:
            self._join_with(distance)
            distance *= 2

    def _join_team(self) -> None:
        """Join the totals of the members of each team."""
        team, code, rows = self.team, self.code, self.schedule.rows
        if team is None:
            return
        if self.layout.keeps_totals:
            self.copy(self.totals, self._exchange(self.layout.totals, self.thread), rows)

        def exists(distance: str) -> str:
            other = code.integer("add", team.member, distance)
            return code.value(f"icmp slt i64 {other}, {team.members}")

        for distance, goes_on in self.neighbours(team.levels, team.member, exists):
            far = code.integer("mul", team.groups, distance)
            with code.when(goes_on):
                others = self._exchange(self.layout.others, code.integer("add", self.thread, far))
                self.join(self.totals, others, rows)
                if self.layout.keeps_totals:
                    self.copy(self.totals, self._exchange(self.layout.totals, self.thread), rows)
        self.spelling.barrier(code)  # before totals change for the next task

    def _exchange(self, record: Record, thread: str) -> ThreadMemory:
        """Where a thread has its totals for its team: in shared memory, if it has few."""
        threads, size = self.schedule.threads, self.layout.total_size
        if not self.layout.keeps_totals:
            return self.thread_memory(record, self.workspace(), size, thread)
        own = self.code.at(self._exchange_name, f"i{8 * size}", thread, space=SHARED)
        return ThreadMemory(record, own, SHARED, threads * self.schedule.rows, threads)

    def _join_with(self, distance: int) -> None:
        """Join the totals of each thread and those of the thread at a distance from it."""
        rows = range(self.schedule.rows)
        others = {
            state.other: [self._exchanged(state.total, row, distance) for row in rows]
            for state in self.nest.states
            if state.step.op != "update"  # of which no thread has what another one has
        }

        def load(variable: Value, position: int | str, row: int, col: int) -> str:
            if variable in others:
                return others[variable][row]
            return self.totals.load(self.code, variable, position, row)

        emitter = self.emitter(by_kind(total=load), rows=len(rows))
        joins = [(s.total, s.join) for s in self.nest.states if s.other in others and s.join]
        store_totals(emitter, joins, self.totals)

    def _exchanged(self, total: Value, row: int, distance: int) -> str:
        """A total as the thread at a distance has it."""
        own = self.totals.load(self.code, total, 0, row)
        return self.spelling.exchanged(self.code, LLVM_TYPES[total.dtype], own, distance)

    def _copy_total(self, total: Value, target: ThreadMemory) -> None:
        def copy(position: int | str) -> None:
            for row in range(self.schedule.rows):
                operand = self.totals.load(self.code, total, position, row)
                target.store(self.code, operand, total, position, row)

        if total.dim == 1:
            copy(0)
            return
        positions = self.shared.inside if self.shared else all_positions
        for position in positions(self.code, total.dim):
            copy(position)


class _RunTask:
    """One task of redcomp_run: the thread's rows, and the columns that they are reduced over."""

    def __init__(self, kernel: _RunKernel, entry: Entry, rows: Sequence[str]) -> None:
        self.kernel, self.entry, self.rows = kernel, entry, rows
        self.code, self.nest, self.schedule = kernel.code, kernel.nest, kernel.schedule
        self.team = kernel.team
        self.width: int | str = self.schedule.tile if self.team is None else self.team.tile()
        self._copy_long_rows()
        self.fragments: list[Fragments] = []
        self.chunked: ChunkedProduct | None = None
        samples = entry.samples()
        self.tile = Tile(kernel, entry, samples, kernel.part_number)
        self.loaders: Mapping[str, Loader] = {
            "i": self._row,
            "parameter": entry.parameter,
            "j_sample": entry.sampled(samples),
            "total": lambda v, k, row, col: kernel.totals.load(kernel.code, v, k, row),
            "state": lambda v, k, row, col: kernel.step_states.load(kernel.code, v, k, row),
        }
        self.emitter = kernel.emitter(
            by_kind(**self.loaders), rows=self.schedule.rows, scans=kernel.states
        )

    def _prepare(self) -> None:
        """What does not change from pair to pair, and the first totals."""
        emitter, nest = self.emitter, self.nest
        self._contract_rows()
        for hoisted in (nest.uniform, nest.rows):
            emitter.emit(h.definition for h in hoisted)
            for h in hoisted:
                rows = range(self.schedule.rows if h.variable.dependence else 1)
                operands = [emitter.operand(h.definition, row, 0, True) for row in rows]
                emitter.bind(h.variable, operands)
        read_rows(nest, emitter)
        product = chunked(nest)
        if product is None:
            self.fragments = [Fragments(self.kernel, emitter, made) for made in nest.products]
        else:
            elements = self.kernel.elements_memory()
            self.chunked = ChunkedProduct(self.kernel, emitter, product, elements)
        for state in nest.states:
            initial = constant(state.initial, nest.accumulator)
            self._fill(state.total, emitter.operand(initial, 0, 0, True))

    def _contract_rows(self) -> None:
        """Compute the contractions of rows, by all threads that share them."""
        values, rows = contractions(h.definition for h in self.nest.rows), range(self.schedule.rows)
        if not values:
            return
        sharing, code = self.schedule.sharing, self.code
        member = code.integer("urem", self.kernel.thread, sharing)
        for group in by_length(values):
            made = contracted(self.kernel, self.emitter, group, rows, member, sharing)
            for value, operands in made.sums.items():
                self.emitter.bind(value, operands)

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
        for position in self.kernel.totals.positions(self.code, total.dim):
            for row in rows:
                self.kernel.totals.store(self.code, operand, total, position, row)

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
        code, tile, width = self.code, self.tile, self.width
        self.kernel.spelling.barrier(code)  # other threads may still read the tile before
        tile.copy(start, self._count(start, stop), "0")
        with code.loop(start, stop, width, [("i64", "0")]) as loop:
            first, (buffer,) = loop.counter, loop.carried
            count = self._count(first, stop)
            tile.await_copies()
            grids = {}
            if self.chunked is None:
                tile.prepare(first, count, buffer)
            else:
                grids[self.chunked.name] = self.chunked.of_tile(tile, first, count, buffer)
            self.kernel.spelling.barrier(code)
            following, other = (
                code.integer("add", first, width),
                code.integer("xor", buffer, 1),
            )
            is_more = code.value(f"icmp slt i64 {following}, {stop}")
            with code.when(is_more):
                tile.copy(following, self._count(following, stop), other)
            span = self._span(start, first, is_more)
            self._pairs(tile.filled(first, buffer), count, span, grids)
            loop.following = [other]

    def _span(self, start: str, first: str, is_more: str) -> Span | None:
        """Which of the tiles between two merges the one at a column of an interval is."""
        code, schedule = self.code, self.schedule
        if not self.nest.updates:
            return None
        columns = schedule.tile * schedule.span
        place = code.integer("urem", code.integer("sub", first, start), columns)
        is_end = code.value(f"icmp eq i64 {place}, {columns - schedule.tile}")
        is_last = code.value(f"or i1 {is_end}, {code.value(f'xor i1 {is_more}, true')}")
        is_first = code.value(f"icmp eq i64 {place}, 0")
        return Span(self.kernel.between, is_first, is_last)

    def _count(self, first: str, stop: str) -> str:
        """Columns of the tile that begins there."""
        return self.code.smaller(self.width, self.code.integer("sub", stop, first))

    def _pairs(
        self, tile: FilledTile, count: str, span: Span | None, grids: Mapping[Value, Grid]
    ) -> None:
        """Reduce the tile: by whole steps, and then what is left of it.

        grids   products that have been computed of all its columns
        """
        count = self.code.value(f"trunc i64 {count} to i32")
        stretches = [] if grids else list(self._stretches(count))
        loaders: Mapping[str, Loader] = {
            **self.loaders,
            "tile": lambda v, k, row, col: self.kernel.number(tile.first, v),
        }
        emitter = self.emitter.within(by_kind(**loaders))
        memory = self.kernel.step_states
        reduction = TileReduction(self.nest, emitter, memory, self.kernel.totals)

        def step(
            columns: Columns,
            cols: int,
            made: Made | None = None,
            present: Sequence[str] = (),
            **more: Loader,
        ) -> Advancing:
            pair = functools.partial(self._pair, columns)
            inside = emitter.within(by_kind(**loaders, j=columns.load, ij=pair, **more), cols)
            if made is not None:
                return made(self.nest, inside, present)
            return PairStep(self.nest, inside, memory, present)

        steps: Steps = PlainSteps(tile, step)
        if self.team is not None:
            steps = TeamSteps(tile, step, self.team.size)
        if self.schedule.sharing > 1:
            rows = self.kernel.shared or SharedRows(self.kernel)
            updates = None if span is None else MatrixUpdates(self.kernel, self.kernel.sums)
            steps = shared = SharedSteps(tile, step, rows, self.fragments, updates, count)
        states = reduction.start() if span is None else span.start(reduction)
        if grids:
            for first in range(0, self.schedule.tile, self.schedule.step_columns):
                made = shared.known(grids, first, self.schedule.step_columns)
                states = made.advance(states)
        for one in stretches:
            states = reduction.columns(
                one.start, one.stop, one.cols, states, steps.at, "i32", one.by
            )
        if span is None:
            reduction.merge(states)
        else:
            span.merge(reduction, states)

    def _stretches(self, count: str) -> Iterator[Stretch]:
        """The whole steps of a tile that has so many columns (i32), and the rest."""
        code, width = self.code, self.schedule.step_columns
        if self.team is not None:
            yield from self.team.stretches(count)
            return
        whole = code.value(f"sub i32 {count}, {code.value(f'srem i32 {count}, {width}')}")
        yield Stretch("0", whole, width, width)
        rest = 1 if self.schedule.sharing == 1 else PRODUCTS[self.nest.dtype].n
        if rest < width:
            yield Stretch(whole, count, rest, rest)

    def _pair(
        self, columns: Columns, variable: Value, position: int | str, row: int, col: int
    ) -> str:
        """Loads a component of what is given for each pair."""
        code, numbers = self.code, [self.rows[row], columns.number(col)]
        major, minor = numbers if variable["kind"] == "ij" else numbers[::-1]
        vector = code.integer("add", code.integer("mul", major, "%second_axis"), minor)
        return self.entry.component(variable, vector, position)
