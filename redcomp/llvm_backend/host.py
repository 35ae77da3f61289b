"""The host's skeleton: the loops around the values that the emitter writes.

A task is a chunk of rows and a part of the columns.  Its rows are packed lane-wise and stay; its
columns come in tiles of packed records.  Rows are padded by repeating the last one and columns by
unused lanes, so no loop tests bounds and nothing is read past an array.  Every worker runs
`redcomp_run`, which takes tasks from an atomic counter; tasks depend on the sizes only, so results
do not depend on the number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from redcomp.ir import I_BIT, J_BIT, Hoisted, Nest, Value, constant, free_indices, topological
from redcomp.llvm_backend.code import Code
from redcomp.llvm_backend.emit import Emitter, Loader
from redcomp.llvm_backend.layout import ALIGNMENT, JOB_WORD, JOB_WORDS, Layout, Record, variables_of
from redcomp.llvm_backend.schedule import SIZES, Schedule
from redcomp.llvm_backend.target import LLVM_TYPES, Target

RUN, JOIN = "redcomp_run", "redcomp_join"

# Above this many components, copying them is a loop.
_UNROLLED_COPY = 8


@dataclass(frozen=True, slots=True)
class HostModule:
    """LLVM text, and the bytes that a worker's scratch and a vector of rows' totals take."""

    text: str
    scratch_bytes: int
    total_bytes: int


def host_module(nest: Nest, dtype: str, target: Target, schedule: Schedule) -> HostModule:
    """The module of a legal, hoisted nest; it exports `redcomp_run` and `redcomp_join`."""
    skeleton = _Skeleton(nest, dtype, target, schedule)
    layout = skeleton.layout
    return HostModule(skeleton.module(), layout.scratch_bytes, layout.total_bytes)


@dataclass(frozen=True, slots=True)
class _Lanes:
    """Memory that holds a record for one vector of lanes: component after component."""

    record: Record
    pointer: str
    scalar: str
    lanes: int
    size: int

    @property
    def vector(self) -> str:
        return f"<{self.lanes} x {self.scalar}>"

    @property
    def align(self) -> int:
        return min(ALIGNMENT, self.lanes * self.size)

    def place(self, code: Code, variable: Value, position: int | str, row: int = 0) -> str:
        """The pointer to a component of the variable, `row` records further on."""
        offset = self.record.offsets[id(variable)] + row * self.record.width
        return code.at(self.pointer, self.vector, position, offset)

    def load(self, code: Code, variable: Value, position: int | str, row: int = 0) -> str:
        return code.load(self.vector, self.place(code, variable, position, row), self.align)

    def store(
        self, code: Code, operand: str, variable: Value, position: int | str, row: int = 0
    ) -> None:
        code.store(self.vector, operand, self.place(code, variable, position, row), self.align)


class _Skeleton:
    def __init__(self, nest: Nest, dtype: str, target: Target, schedule: Schedule) -> None:
        self.nest, self.dtype, self.target, self.schedule = nest, dtype, target, schedule
        self.layout = Layout(nest, dtype, schedule)
        self.free = free_indices(nest.roots)
        self.lanes, self.size, self.scalar = schedule.lanes, SIZES[dtype], LLVM_TYPES[dtype]
        self.accumulator = nest.totals[0].dtype
        self.declarations: dict[str, str] = {}

    def module(self) -> str:
        functions = [
            self._pack_rows(),
            self._pack_columns(),
            self._pairs(),
            self._finish(),
            self._tasks(RUN, self._run_task),
            self._tasks(JOIN, self._join_task),
        ]
        text = "\n".join(functions)
        attributes = f"attributes #0 = {{ nounwind {self.target.attributes} }}"
        declarations = "\n".join(self.declarations.values())
        triple = f'target triple = "{self.target.triple}"'
        return f"{triple}\n\n{text}\n{declarations}\n{attributes}\n"

    # -- small parts -------------------------------------------------------------------------------

    def _function(self, name: str, parameters: str, code: Code, linkage: str = "internal ") -> str:
        self.declarations.update(code.declarations)
        body = "\n".join(code.lines)
        return f"define {linkage}void @{name}({parameters}) #0 {{\nentry:\n{body}\n  ret void\n}}\n"

    def _word(self, code: Code, name: str) -> str:
        return code.load("i64", code.at("%job", "i64", JOB_WORD[name]), 8)

    def _output(self, code: Code, n: int) -> str:
        return code.load("ptr", code.at("%job", "i64", len(JOB_WORDS) + n), 8)

    def _argument(self, code: Code, variable: Value) -> str:
        place = len(JOB_WORDS) + len(self.nest.results) + int(variable["position"])
        return code.load("ptr", code.at("%job", "i64", place), 8)

    def _part(self, code: Code, name: str) -> str:
        return code.at("%scratch", "i8", self.layout.scratch[name])

    def _lanes(self, record: Record, pointer: str) -> _Lanes:
        return _Lanes(record, pointer, self.scalar, self.lanes, self.size)

    def _total_lanes(self, record: Record, pointer: str) -> _Lanes:
        scalar, size = LLVM_TYPES[self.accumulator], SIZES[self.accumulator]
        return _Lanes(record, pointer, scalar, self.lanes, size)

    def _parameters(self, code: Code, roots: Sequence[Value]) -> Loader:
        """Reads the call's parameters that the roots need."""
        hoisted = {id(h.variable) for h in self.nest.uniform}
        pointers = {
            id(v): self._argument(code, v)
            for v in variables_of(roots, "parameter")
            if id(v) not in hoisted
        }

        def load(variable: Value, position: int | str, row: int, col: int) -> str:
            pointer = code.at(pointers[id(variable)], self.scalar, position)
            return code.load(self.scalar, pointer, self.size)

        return load

    def _emitter(self, code: Code, load: Loader, lane_bit: int, rows: int = 1) -> Emitter:
        return Emitter(code, self.target, self.lanes, self.free, load, lane_bit=lane_bit, rows=rows)

    def _pack(self, code: Code, lanes: _Lanes, variables: Sequence[Value], first: str) -> None:
        """Copy rows first, first + 1, ... into lanes; beyond the last row, the last row again."""
        pointers = [self._argument(code, v) for v in variables]
        last = code.integer("sub", self._word(code, "rows"), 1)
        with code.loop(0, self.lanes, 1) as lane:
            row = code.smaller(code.integer("add", first, lane.counter), last)
            for variable, pointer in zip(variables, pointers, strict=True):
                source = code.at(pointer, self.scalar, code.integer("mul", row, variable.dim))
                target = code.at(lanes.place(code, variable, 0), self.scalar, lane.counter)
                self._copy(code, source, 1, target, self.lanes, variable.dim)

    def _copy(
        self, code: Code, source: str, step: int, target: str, target_step: int, count: int
    ) -> None:
        """Copy scalars between arrays of different steps."""

        def one(k: int | str) -> None:
            def scaled(by: int) -> int | str:
                return k * by if isinstance(k, int) else code.integer("mul", k, by)

            value = code.load(self.scalar, code.at(source, self.scalar, scaled(step)), self.size)
            where = code.at(target, self.scalar, scaled(target_step))
            code.store(self.scalar, value, where, self.size)

        if count <= _UNROLLED_COPY:
            for k in range(count):
                one(k)
        else:
            with code.loop(0, count, 1) as loop:
                one(loop.counter)

    def _compute(self, emitter: Emitter, hoisted: Sequence[Hoisted], lanes: _Lanes) -> None:
        """Compute hoisted values and store them into their record."""
        self._store_all(
            emitter,
            [h.definition for h in hoisted],
            lambda n, position, operand: lanes.store(
                emitter.code, operand, hoisted[n].variable, position
            ),
        )

    def _store_all(
        self,
        emitter: Emitter,
        values: Sequence[Value],
        store: Callable[[int, int | str, str], None],
    ) -> None:
        """Compute values and give each component to `store(number, position, operand)`."""
        for n, value in enumerate(values):
            if value.op == "map":
                element, counter = value.args
                emitter.emit([element])  # what does not change in the loop, before it
                with emitter.code.loop(0, counter["extent"], 1) as loop:
                    emitter.enter_loop(counter, loop.counter)
                    emitter.emit([element])
                    store(n, loop.counter, emitter.operand(element, 0, 0, True))
                    emitter.leave_loop(counter)
                continue
            elements = value.args if value.op == "from_elements" else (value,)
            emitter.emit(elements)
            for k, element in enumerate(elements):
                store(n, k, emitter.operand(element, 0, 0, True))

    # -- rows and columns --------------------------------------------------------------------------

    def _pack_rows(self) -> str:
        """rows(job, rows, first, blocks): pack and prepare `blocks` vectors of rows."""
        code = Code()
        definitions = [h.definition for h in self.nest.rows]
        parameters = self._parameters(code, definitions)
        width = self.layout.rows.width
        with code.loop(0, "%blocks", 1) as block:
            offset = code.integer("mul", block.counter, width * self.lanes)
            lanes = self._lanes(self.layout.rows, code.at("%rows", self.scalar, offset))
            first = code.integer("add", "%first", code.integer("mul", block.counter, self.lanes))
            self._pack(code, lanes, self.layout.raw_rows, first)
            load = _by_kind(i=lambda v, k, row, col: lanes.load(code, v, k), parameter=parameters)
            self._compute(self._emitter(code, load, I_BIT), self.nest.rows, lanes)
        return self._function("rows", "ptr %job, ptr %rows, i64 %first, i64 %blocks", code)

    def _pack_columns(self) -> str:
        """columns(job, columns, lanes, first, count): records of columns first, first + 1, ..."""
        code = Code()
        width = self.layout.columns.width
        sources = [(v, self._argument(code, v)) for v in self.layout.raw_columns]
        with code.loop(0, "%count", 1) as column:
            record = code.at("%columns", self.scalar, code.integer("mul", column.counter, width))
            at = code.integer("add", "%first", column.counter)
            for variable, pointer in sources:
                source = code.at(pointer, self.scalar, code.integer("mul", at, variable.dim))
                target = code.at(record, self.scalar, self.layout.columns.offsets[id(variable)])
                self._copy(code, source, 1, target, 1, variable.dim)
        if self.nest.columns:
            self._hoist_columns(code)
        return self._function(
            "columns", "ptr %job, ptr %columns, ptr %lanes, i64 %first, i64 %count", code
        )

    def _hoist_columns(self, code: Code) -> None:
        """Compute what depends on j only, a vector of columns at a time, transposed."""
        record = self.layout.columns
        definitions = [h.definition for h in self.nest.columns]
        parameters = self._parameters(code, definitions)
        lanes = self._lanes(record, "%lanes")
        needed = variables_of(definitions, "j")
        with code.loop(0, "%count", self.lanes) as group:
            offset = code.integer("mul", group.counter, record.width)
            first = code.at("%columns", self.scalar, offset)
            self._transpose(code, lanes, first, needed, into_lanes=True)
            load = _by_kind(j=lambda v, k, row, col: lanes.load(code, v, k), parameter=parameters)
            self._compute(self._emitter(code, load, J_BIT), self.nest.columns, lanes)
            made = [h.variable for h in self.nest.columns]
            self._transpose(code, lanes, first, made, into_lanes=False)

    def _transpose(
        self, code: Code, lanes: _Lanes, first: str, variables: Sequence[Value], into_lanes: bool
    ) -> None:
        """Between a vector of column records and lanes."""
        width = self.layout.columns.width
        with code.loop(0, self.lanes, 1) as lane:
            record = code.at(first, self.scalar, code.integer("mul", lane.counter, width))
            for variable in variables:
                packed = code.at(record, self.scalar, self.layout.columns.offsets[id(variable)])
                spread = code.at(lanes.place(code, variable, 0), self.scalar, lane.counter)
                if into_lanes:
                    self._copy(code, packed, 1, spread, self.lanes, variable.dim)
                else:
                    self._copy(code, spread, self.lanes, packed, 1, variable.dim)

    # -- pairs -------------------------------------------------------------------------------------

    def _pairs(self) -> str:
        """pairs(job, rows, columns, totals, states, blocks, count): one tile, a chunk's rows."""
        return _Pairs(self).function()

    # -- results -----------------------------------------------------------------------------------

    def _finish(self) -> str:
        """finish(job, scratch, totals, stride, splits, first, last): join splits, store results."""
        code = Code()
        nest, layout = self.nest, self.layout
        parameters = self._parameters(code, nest.results)
        inputs = self._lanes(layout.result_inputs, self._part(code, "result_inputs"))
        temporary = self._part(code, "results")
        outputs = [self._output(code, n) for n in range(len(nest.results))]
        with code.loop("%first", "%last", self.lanes) as row:
            block = code.integer("sdiv", code.integer("sub", row.counter, "%first"), self.lanes)
            pointer = code.at("%totals", "i8", code.integer("mul", block, layout.total_bytes))
            totals = self._total_lanes(layout.totals, pointer)
            self._join_splits(code, totals)
            self._pack(code, inputs, layout.result_inputs.variables, row.counter)
            load = _by_kind(
                i=lambda v, k, row, col: inputs.load(code, v, k),
                total=lambda v, k, row, col: totals.load(code, v, k),
                parameter=parameters,
            )
            count = code.smaller(self.lanes, code.integer("sub", "%last", row.counter))
            for n, result in enumerate(nest.results):
                emitter = self._emitter(code, load, I_BIT)
                self._store_result(emitter, result, temporary)
                offset = code.integer("mul", row.counter, result.dim)
                target = code.at(outputs[n], self.scalar, offset)
                self._unpack(code, temporary, target, result.dim, count)
        parameters_text = (
            "ptr %job, ptr %scratch, ptr %totals, i64 %stride, i64 %splits, i64 %first, i64 %last"
        )
        return self._function("finish", parameters_text, code)

    def _store_result(self, emitter: Emitter, result: Value, temporary: str) -> None:
        code, vector = emitter.code, f"<{self.lanes} x {self.scalar}>"
        align = min(ALIGNMENT, self.lanes * self.size)

        def store(n: int, position: int | str, operand: str) -> None:
            code.store(vector, operand, code.at(temporary, vector, position), align)

        self._store_all(emitter, [result], store)

    def _unpack(self, code: Code, temporary: str, target: str, dim: int, count: str) -> None:
        """Store the valid lanes of a result as rows of the output."""
        with code.loop(0, count, 1) as lane:
            source = code.at(temporary, self.scalar, lane.counter)
            row = code.at(target, self.scalar, code.integer("mul", lane.counter, dim))
            self._copy(code, source, self.lanes, row, 1, dim)

    def _join_splits(self, code: Code, totals: _Lanes) -> None:
        """Merge the totals of all splits into the first one's, in their order."""
        with code.loop(1, "%splits", 1) as split:
            offset = code.integer("mul", split.counter, "%stride")
            other_pointer = code.at(totals.pointer, "i8", offset)
            others = self._total_lanes(self.layout.others, other_pointer)

            def load(variable: Value, position: int | str, row: int, col: int) -> str:
                is_total = id(variable) in totals.record.offsets
                return (totals if is_total else others).load(code, variable, position)

            self._store_all(
                self._emitter(code, load, I_BIT),
                self.nest.joins,
                lambda n, position, operand: totals.store(
                    code, operand, self.nest.totals[n], position
                ),
            )

    # -- tasks -------------------------------------------------------------------------------------

    def _tasks(self, name: str, task: Callable[[Code, str], None]) -> str:
        """An exported function that takes tasks from the job's counter until there are none."""
        code = Code()
        tasks = self._word(code, "tasks")
        code.line("br label %next")
        code.label("next")
        number = code.value("atomicrmw add ptr %job, i64 1 monotonic")
        is_left = code.value(f"icmp slt i64 {number}, {tasks}")
        code.line(f"br i1 {is_left}, label %task, label %end")
        code.label("task")
        task(code, number)
        code.line("br label %next")
        code.label("end")
        return self._function(name, "ptr noalias %job, ptr noalias %scratch", code, linkage="")

    def _chunk(self, code: Code, chunk: str) -> tuple[str, str, str]:
        """A chunk's first row, the row after its last, and its number of vectors, rounded up."""
        chunk_rows = self._word(code, "chunk_rows")
        first = code.integer("mul", chunk, chunk_rows)
        last = code.smaller(self._word(code, "rows"), code.integer("add", first, chunk_rows))
        step = self.lanes * self.schedule.rows
        count = code.integer("sub", last, first)
        steps = code.integer("sdiv", code.integer("add", count, step - 1), step)
        return first, last, code.integer("mul", steps, self.schedule.rows)

    def _partial(self, code: Code, chunk: str) -> tuple[str, str]:
        """Where the first split's totals of a chunk are, and the bytes from split to split."""
        chunk_rows = self._word(code, "chunk_rows")
        vectors = code.integer("sdiv", chunk_rows, self.lanes)
        chunk_bytes = code.integer("mul", vectors, self.layout.total_bytes)
        stride = code.integer("mul", chunk_bytes, self._word(code, "chunks"))
        base = code.load("ptr", code.at("%job", "i64", JOB_WORD["partials"]), 8)
        return code.at(base, "i8", code.integer("mul", chunk, chunk_bytes)), stride

    def _run_task(self, code: Code, number: str) -> None:
        """Reduce one chunk of rows over one split of the columns."""
        chunks, splits = self._word(code, "chunks"), self._word(code, "splits")
        split, chunk = code.integer("sdiv", number, chunks), code.integer("srem", number, chunks)
        first, last, blocks = self._chunk(code, chunk)
        split_columns = self._word(code, "split_columns")
        start = code.integer("mul", split, split_columns)
        stop = code.smaller(self._word(code, "columns"), code.integer("add", start, split_columns))
        partial, stride = self._partial(code, chunk)
        shared = code.at(partial, "i8", code.integer("mul", split, stride))
        is_whole = code.value(f"icmp eq i64 {splits}, 1")
        own = self._part(code, "totals")
        totals = code.value(f"select i1 {is_whole}, ptr {own}, ptr {shared}")
        rows = self._part(code, "rows")
        code.line(f"call void @rows(ptr %job, ptr {rows}, i64 {first}, i64 {blocks})")
        self._start_totals(code, totals, blocks)
        self._run_tiles(code, totals, start, stop, blocks)
        code.line(f"br i1 {is_whole}, label %finish, label %next")
        code.label("finish")
        code.line(
            f"call void @finish(ptr %job, ptr %scratch, ptr {totals}, i64 0, i64 1, "
            f"i64 {first}, i64 {last})"
        )

    def _run_tiles(self, code: Code, totals: str, start: str, stop: str, blocks: str) -> None:
        rows, columns = self._part(code, "rows"), self._part(code, "columns")
        lanes, states = self._part(code, "column_lanes"), self._part(code, "states")
        with code.loop(start, stop, self.schedule.tile) as tile:
            left = code.integer("sub", stop, tile.counter)
            count = code.smaller(self.schedule.tile, left)
            code.line(
                f"call void @columns(ptr %job, ptr {columns}, ptr {lanes}, "
                f"i64 {tile.counter}, i64 {count})"
            )
            code.line(
                f"call void @pairs(ptr %job, ptr {rows}, ptr {columns}, ptr {totals}, "
                f"ptr {states}, i64 {blocks}, i64 {count})"
            )

    def _start_totals(self, code: Code, pointer: str, blocks: str) -> None:
        """Set the totals of all rows to the reduction's neutral element."""
        with code.loop(0, blocks, 1) as block:
            offset = code.integer("mul", block.counter, self.layout.total_bytes)
            totals = self._total_lanes(self.layout.totals, code.at(pointer, "i8", offset))
            emitter = self._emitter(code, _by_kind(), I_BIT)
            for total, initial in zip(self.nest.totals, self.nest.initial, strict=True):
                value = emitter.operand(constant(initial, self.accumulator), 0, 0, True)
                if total.dim == 1:
                    totals.store(code, value, total, 0)
                    continue
                with code.loop(0, total.dim, 1) as loop:
                    totals.store(code, value, total, loop.counter)

    def _join_task(self, code: Code, chunk: str) -> None:
        """Join the splits of one chunk of rows and store its results."""
        first, last, _ = self._chunk(code, chunk)
        partial, stride = self._partial(code, chunk)
        splits = self._word(code, "splits")
        code.line(
            f"call void @finish(ptr %job, ptr %scratch, ptr {partial}, i64 {stride}, "
            f"i64 {splits}, i64 {first}, i64 {last})"
        )


class _Pairs:
    """The pair loop of one tile of columns, for all vectors of rows of a chunk."""

    def __init__(self, skeleton: _Skeleton) -> None:
        self.skeleton, self.nest, self.layout = skeleton, skeleton.nest, skeleton.layout
        self.schedule, self.code = skeleton.schedule, Code()
        self.scalar_states = [n for n, state in enumerate(self.nest.states) if state.dim == 1]
        self.parameters = skeleton._parameters(
            self.code, [*self.nest.steps, *(h.definition for h in self.nest.uniform)]
        )
        self.column: list[str] = []  # pointers to the first column of the current step
        self.rows = skeleton._lanes(self.layout.rows, "")
        self.totals = skeleton._total_lanes(self.layout.totals, "")
        self.states = skeleton._lanes(self.layout.states, "%states")
        load = _by_kind(
            i=lambda v, k, row, col: self.rows.load(self.code, v, k, row),
            j=self._load_column,
            parameter=self.parameters,
            total=lambda v, k, row, col: self.totals.load(self.code, v, k, row),
            state=lambda v, k, row, col: self.states.load(self.code, v, k, row),
        )
        self.emitter = skeleton._emitter(self.code, load, I_BIT, self.schedule.rows)

    def _load_column(self, variable: Value, position: int | str, row: int, col: int) -> str:
        record, scalar = self.layout.columns, self.skeleton.scalar
        offset = record.offsets[id(variable)] + col * record.width
        space = row if row < len(self.column) else 0
        pointer = self.code.at(self.column[space], scalar, position, offset, space=space)
        return self.code.load(scalar, pointer, self.skeleton.size, space)

    def _views(self, column: str) -> list[str]:
        """A pointer to the column for each row.

        If rows are to read a column by themselves (`Emitter._is_embedded`), LLVM must not merge
        their reads into one.  It keeps reads through different address spaces apart, and on x86
        those below 256 all mean the same memory.
        """
        rows = self.schedule.rows if self.skeleton.target.embeds_broadcasts else 1
        return [column, *(self.code.in_space(column, row) for row in range(1, rows))]

    def function(self) -> str:
        code, schedule = self.code, self.schedule
        self.emitter.emit([h.definition for h in self.nest.uniform])
        for h in self.nest.uniform:
            self.emitter.bind(h.variable, [self.emitter.operand(h.definition, 0, 0, False)])
        remainder = code.integer("srem", "%count", schedule.cols)
        whole = code.integer("sub", "%count", remainder)
        with code.loop(0, "%blocks", schedule.rows) as block:
            self._point_at(block.counter)
            self.emitter.enter()
            self._read_rows()
            states = self._initial_states()
            states = self._columns(0, whole, schedule.cols, states)
            if schedule.cols > 1:
                states = self._columns(whole, "%count", 1, states)
            self._merge(states)
            self.emitter.leave()
        return self.skeleton._function(
            "pairs",
            "ptr noalias %job, ptr noalias %rows, ptr noalias %columns, ptr noalias %totals, "
            "ptr noalias %states, i64 %blocks, i64 %count",
            code,
        )

    def _point_at(self, block: str) -> None:
        """Aim the records of rows and totals at a block."""
        code, skeleton = self.code, self.skeleton
        elements = self.layout.rows.width * skeleton.lanes
        rows = code.at("%rows", skeleton.scalar, code.integer("mul", block, elements))
        self.rows = skeleton._lanes(self.layout.rows, rows)
        totals = code.at("%totals", "i8", code.integer("mul", block, self.layout.total_bytes))
        self.totals = skeleton._total_lanes(self.layout.totals, totals)

    def _read_rows(self) -> None:
        """Load what the steps need of the rows, before the loop over the columns."""
        self.emitter.emit(
            value
            for value in topological(self.nest.steps)
            if value.dependence in (0, I_BIT) and value.op != "constant"
        )

    def _initial_states(self) -> list[list[str]]:
        """Neutral states: operands of the scalar ones, memory for the vectors."""
        operands: list[list[str]] = []
        for state, initial in zip(self.nest.states, self.nest.initial, strict=True):
            value = self.emitter.operand(constant(initial, state.dtype), 0, 0, True)
            if state.dim == 1:
                operands.append([value] * self.schedule.rows)
                continue
            with self.code.loop(0, state.dim, 1) as loop:
                for row in range(self.schedule.rows):
                    self.states.store(self.code, value, state, loop.counter, row)
        return operands

    def _columns(
        self, start: int | str, stop: str, cols: int, states: list[list[str]]
    ) -> list[list[str]]:
        """The loop over columns, `cols` at a time."""
        code, rows, width = self.code, self.schedule.rows, self.layout.columns.width
        vector = self.rows.vector
        carried = [(vector, operand) for operands in states for operand in operands]
        with code.loop(start, stop, cols, carried) as loop:
            offset = code.integer("mul", loop.counter, width)
            self.column = self._views(code.at("%columns", self.skeleton.scalar, offset))
            self.emitter.cols = cols
            self.emitter.enter()
            current = [loop.carried[n * rows : (n + 1) * rows] for n in range(len(states))]
            following = self.emitter.advance(
                [self.nest.steps[n] for n in self.scalar_states],
                [self.nest.states[n] for n in self.scalar_states],
                current,
            )
            self._advance_vectors()
            self.emitter.leave()
            self.emitter.cols = 1
            loop.following = [operand for operands in following for operand in operands]
        return [loop.carried[n * rows : (n + 1) * rows] for n in range(len(states))]

    def _advance_vectors(self) -> None:
        """Step the states that are long vectors, in memory, one loop for all of the same length."""
        steps = self.nest.steps
        for counter, together in _by_counter(steps).items():
            elements = [steps[n].args[0] for n in together]
            leaves = [_leaf(steps[n].args[0], self.nest.states[n]) for n in together]
            self.emitter.emit(elements)
            with self.code.loop(0, counter["extent"], 1) as loop:
                self.emitter.enter_loop(counter, loop.counter)
                current = [
                    [
                        self.states.load(self.code, self.nest.states[n], loop.counter, row)
                        for row in range(self.schedule.rows)
                    ]
                    for n in together
                ]
                following = self.emitter.advance(elements, leaves, current)
                for n, operands in zip(together, following, strict=True):
                    for row, operand in enumerate(operands):
                        self.states.store(
                            self.code, operand, self.nest.states[n], loop.counter, row
                        )
                self.emitter.leave_loop(counter)

    def _merge(self, states: list[list[str]]) -> None:
        """Merge the tile's states into the totals."""
        emitter, nest = self.emitter, self.nest
        for n, operands in zip(self.scalar_states, states, strict=True):
            emitter.bind(nest.states[n], operands)
        scalars = [n for n, merge in enumerate(nest.merges) if merge.op != "map"]
        emitter.emit(nest.merges[n] for n in scalars)  # all before the first total changes
        for n in scalars:
            self._store_totals(n, nest.merges[n], 0)
        for counter, together in _by_counter(nest.merges).items():
            emitter.emit(nest.merges[n].args[0] for n in together)
            with self.code.loop(0, counter["extent"], 1) as loop:
                emitter.enter_loop(counter, loop.counter)
                emitter.emit(nest.merges[n].args[0] for n in together)
                for n in together:
                    self._store_totals(n, nest.merges[n].args[0], loop.counter)
                emitter.leave_loop(counter)

    def _store_totals(self, n: int, value: Value, position: int | str) -> None:
        for row in range(self.schedule.rows):
            operand = self.emitter.operand(value, row, 0, True)
            self.totals.store(self.code, operand, self.nest.totals[n], position, row)


def _by_counter(values: Sequence[Value]) -> dict[Value, list[int]]:
    """The numbers of the values that are maps, by the counter of their loop."""
    groups: dict[Value, list[int]] = {}
    for n, value in enumerate(values):
        if value.op == "map":
            groups.setdefault(value.args[1], []).append(n)
    return groups


def _leaf(step: Value, state: Value) -> Value:
    """The component of a vector state that its step reads."""
    for value in topological([step]):
        if value.op == "component" and value.args[0] is state:
            return value
    raise ValueError(f"the step of {state['name']} does not read it")


def _by_kind(**loaders: Loader) -> Loader:
    """A loader that asks the one for the variable's kind."""

    def load(variable: Value, position: int | str, row: int, col: int) -> str:
        return loaders[variable["kind"]](variable, position, row, col)

    return load
