"""The host's skeleton: the loops around the values that the emitter writes.

A task is a chunk of rows of one entry of the batch, and a list of intervals of its columns, as the
caller's table says.  Its rows are packed lane-wise and stay; its columns come in tiles of packed
records.  Rows are padded by repeating the last one and columns by unused lanes, so no loop tests
bounds and nothing is read past an array.  Every worker runs `redcomp_run`, which takes tasks from
an atomic counter; tasks do not depend on the number of workers, nor do results.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

from redcomp.abi import ALIGNMENT, JOIN, RUN, STOPPED, TASK
from redcomp.ir import I_BIT, J_BIT, SIZES, Hoisted, Nest, Value, constant
from redcomp.llvm_backend.code import Code
from redcomp.llvm_backend.components import by_kind, store_all
from redcomp.llvm_backend.emit import Emitter
from redcomp.llvm_backend.host.kernel_code import HostCode, Lanes
from redcomp.llvm_backend.host.machine_code import loop_name
from redcomp.llvm_backend.host.pair_loop import PairLoop
from redcomp.llvm_backend.host.schedule import Schedule
from redcomp.llvm_backend.records import variables_of
from redcomp.llvm_backend.spelling import LLVM_TYPES
from redcomp.llvm_backend.tile_reduction import joins_of, store_totals
from redcomp.records import record
from redcomp.target import Target


@record
class HostModule:
    """LLVM text, the number of its pair loops, bytes of a worker's scratch and of rows' totals."""

    text: str
    loops: int
    scratch_bytes: int
    total_bytes: int


def host_module(nest: Nest, target: Target, schedule: Schedule) -> HostModule:
    """The module of a legal, hoisted nest; it exports `redcomp_run` and `redcomp_join`."""
    skeleton = _Skeleton(nest, target, schedule)
    layout = skeleton.layout
    text = skeleton.module()
    return HostModule(text, len(layout.loops), layout.scratch_bytes, layout.total_bytes)


@record
class _Task:
    """Operands: the task's entry of the batch, the entry's row of pointers, the task's record."""

    entry: str
    pointers: str
    first: str
    last: str
    start: str
    stop: str
    partial: str


class _Skeleton(HostCode):
    """The functions of the module, in the order in which a task runs them."""

    def module(self) -> str:
        functions = [
            self._pack_rows(),
            self._pack_columns(),
            *(PairLoop(self, number).function() for number in range(len(self.layout.loops))),
            *map(self._result, range(len(self.nest.results))),
            *self._joins(),
            self._finish(),
            self._tasks(RUN, self._run_task),
            self._tasks(JOIN, self._join_task),
        ]
        text = "\n".join(functions)
        attributes = f"attributes #0 = {{ nounwind {self.target.attributes} }}"
        declarations = "\n".join(self.declarations.values())
        triple = f'target triple = "{self.target.triple}"'
        return f"{triple}\n\n{text}\n{declarations}\n{attributes}\n"

    def _compute(self, emitter: Emitter, hoisted: Sequence[Hoisted], lanes: Lanes) -> None:
        """Compute hoisted values and store them into their record."""
        store_all(
            emitter,
            [h.definition for h in hoisted],
            lambda n, position, operand: lanes.store(
                emitter.code, operand, hoisted[n].variable, position
            ),
        )

    # -- rows and columns --------------------------------------------------------------------------

    def _pack_rows(self) -> str:
        """rows(pointers, last_column, rows, first, last, blocks): pack and prepare `blocks` vectors
        of rows."""
        code = Code()
        definitions = [h.definition for h in self.nest.rows]
        parameters, samples = self.parameters(code, definitions), self.samples(code, definitions)
        width = self.layout.rows.width
        with code.loop(0, "%blocks", 1) as block:
            place = self.record_at(code, "%rows", block.counter, width * self.lanes)
            lanes = self.lanes_at(self.layout.rows, place)
            first = code.integer("add", "%first", code.integer("mul", block.counter, self.lanes))
            self.pack(code, lanes, self.layout.raw_rows, first)
            load = by_kind(
                i=lambda v, k, row, col: lanes.load(code, v, k),
                parameter=parameters,
                j_sample=samples,
            )
            self._compute(self.emitter(code, load, I_BIT), self.nest.rows, lanes)
        parameters_text = (
            "ptr %pointers, i64 %last_column, ptr %rows, i64 %first, i64 %last, i64 %blocks"
        )
        return self.function("rows", parameters_text, code)

    def _pack_columns(self) -> str:
        """columns(pointers, last_column, columns, lanes, first, count): pack records of columns
        first, ..."""
        code = Code()
        width = self.layout.columns.width
        sources = [(v, self.argument(code, v)) for v in self.layout.raw_columns]
        with code.loop(0, "%count", 1) as column:
            record = self.record_at(code, "%columns", column.counter, width)
            at = code.integer("add", "%first", column.counter)
            for variable, pointer in sources:
                source = code.at(pointer, self.scalar, code.integer("mul", at, variable.dim))
                target = code.at(record, self.scalar, self.layout.columns.offsets[variable])
                self.copy(code, source, 1, target, 1, variable.dim)
            for variable in self.layout.numbers:
                number = column.counter if variable["kind"] == "column" else at
                target = code.at(record, self.scalar, self.layout.columns.offsets[variable])
                self.store_number(code, variable, number, target)
        if self.nest.columns:
            self._hoist_columns(code)
        parameters_text = (
            "ptr %pointers, i64 %last_column, ptr %columns, ptr %lanes, i64 %first, i64 %count"
        )
        return self.function("columns", parameters_text, code)

    def _hoist_columns(self, code: Code) -> None:
        """Compute what depends on j only, a vector of columns at a time, transposed."""
        record = self.layout.columns
        definitions = [h.definition for h in self.nest.columns]
        parameters, samples = self.parameters(code, definitions), self.samples(code, definitions)
        lanes = self.lanes_at(record, "%lanes")
        needed = variables_of(definitions, "j", "j_index")
        with code.loop(0, "%count", self.lanes) as group:
            first = self.record_at(code, "%columns", group.counter, record.width)
            self._transpose(code, lanes, first, needed, into_lanes=True)
            load = by_kind(
                j=lambda v, k, row, col: lanes.load(code, v, k),
                parameter=parameters,
                j_sample=samples,
            )
            self._compute(self.emitter(code, load, J_BIT), self.nest.columns, lanes)
            made = [h.variable for h in self.nest.columns]
            self._transpose(code, lanes, first, made, into_lanes=False)

    def _transpose(
        self, code: Code, lanes: Lanes, first: str, variables: Sequence[Value], into_lanes: bool
    ) -> None:
        """Between a vector of column records and lanes."""
        width = self.layout.columns.width
        with code.loop(0, self.lanes, 1) as lane:
            record = code.at(first, self.scalar, code.integer("mul", lane.counter, width))
            for variable in variables:
                packed = code.at(record, self.scalar, self.layout.columns.offsets[variable])
                spread = code.at(lanes.place(code, variable, 0), self.scalar, lane.counter)
                if into_lanes:
                    self.copy(code, packed, 1, spread, self.lanes, variable.dim)
                else:
                    self.copy(code, spread, self.lanes, packed, 1, variable.dim)

    # -- results -----------------------------------------------------------------------------------

    def _finish(self) -> str:
        """finish(pointers, scratch, totals, splits, stride, first, last): join, store results."""
        code, layout = Code(), self.layout
        inputs = self.lanes_at(layout.result_inputs, self.part(code, "result_inputs"))
        temporary, states = self.part(code, "results"), self.part(code, "states")
        with code.loop("%first", "%last", self.lanes) as row:
            block = code.integer("sdiv", code.integer("sub", row.counter, "%first"), self.lanes)
            pointer = code.at("%totals", "i8", code.integer("mul", block, layout.total_bytes))
            totals = self.total_lanes(layout.totals, pointer)
            self._join_splits(code, totals)
            self.pack(code, inputs, layout.result_inputs.variables, row.counter)
            count = code.smaller(self.lanes, code.integer("sub", "%last", row.counter))
            for n in range(len(self.nest.results)):
                code.line(
                    f"call void @result{n}(ptr %pointers, ptr {pointer}, ptr {inputs.pointer}, "
                    f"ptr {temporary}, ptr {states}, i64 {row.counter}, i64 {count})"
                )
        parameters_text = (
            "ptr %pointers, ptr %scratch, ptr %totals, i64 %splits, i64 %stride, "
            "i64 %first, i64 %last"
        )
        return self.function("finish", parameters_text, code)

    def _result(self, n: int) -> str:
        """result(pointers, totals, inputs, temporary, states, row, count): store one for lanes."""
        code, layout, result = Code(), self.layout, self.nest.results[n]
        inputs = self.lanes_at(layout.result_inputs, "%inputs")
        totals = self.total_lanes(layout.totals, "%totals")
        load = by_kind(
            i=lambda v, k, row, col: inputs.load(code, v, k),
            total=lambda v, k, row, col: totals.load(code, v, k),
            parameter=self.parameters(code, [result]),
        )
        scans = self.lanes_at(layout.states, "%states")
        emitter = self.emitter(code, load, I_BIT, scans=scans)
        self._store_result(emitter, result, "%temporary")
        offset = code.integer("mul", "%row", result.dim)
        target = code.at(self.output(code, n), LLVM_TYPES[result.dtype], offset)
        self._unpack(code, "%temporary", target, result, "%count")
        parameters_text = (
            "ptr %pointers, ptr %totals, ptr %inputs, ptr %temporary, ptr %states, i64 %row, "
            "i64 %count"
        )
        return self.function(f"result{n}", parameters_text, code)

    def _store_result(self, emitter: Emitter, result: Value, temporary: str) -> None:
        code, vector = emitter.code, f"<{self.lanes} x {LLVM_TYPES[result.dtype]}>"
        align = min(ALIGNMENT, self.lanes * SIZES[result.dtype])

        def store(n: int, position: int | str, operand: str) -> None:
            code.store(vector, operand, code.at(temporary, vector, position), align)

        store_all(emitter, [result], store)

    def _unpack(self, code: Code, temporary: str, target: str, result: Value, count: str) -> None:
        """Store the valid lanes of a result as rows of the output."""
        scalar = LLVM_TYPES[result.dtype]
        with code.loop(0, count, 1) as lane:
            source = code.at(temporary, scalar, lane.counter)
            row = code.at(target, scalar, code.integer("mul", lane.counter, result.dim))
            self.copy(code, source, self.lanes, row, 1, result.dim, result.dtype)

    def _join_splits(self, code: Code, totals: Lanes) -> None:
        """Merge the totals of all splits into the first one's, in their order."""
        with code.loop(1, "%splits", 1) as split:
            offset = code.integer("mul", split.counter, "%stride")
            others = code.at(totals.pointer, "i8", offset)
            if len(self.layout.loops) == 1:
                self._join(code, self.nest, totals, others)
            else:
                for n in range(len(self.layout.loops)):
                    code.line(f"call void @join{n}(ptr {totals.pointer}, ptr {others})")

    def _joins(self) -> Iterator[str]:
        """join(totals, others) of each pair loop's states, which need none of the other loops'.

        LLVM's time grows with the square of a function without branches.  What a single pair loop
        joins stays in `finish`.
        """
        if len(self.layout.loops) > 1:
            for n, loop in enumerate(self.layout.loops):
                code = Code()
                self._join(code, loop, self.total_lanes(self.layout.totals, "%totals"), "%others")
                yield self.function(f"join{n}", "ptr %totals, ptr %others", code)

    def _join(self, code: Code, nest: Nest, totals: Lanes, other_pointer: str) -> None:
        """Merge the totals of a nest's states in two places into the first one."""
        others = self.total_lanes(self.layout.others, other_pointer)

        def load(variable: Value, position: int | str, row: int, col: int) -> str:
            is_total = variable in totals.record.offsets
            return (totals if is_total else others).load(code, variable, position)

        store_totals(self.emitter(code, load, I_BIT), joins_of(nest), totals)

    # -- tasks -------------------------------------------------------------------------------------

    def _tasks(self, name: str, task: Callable[[Code, _Task], None]) -> str:
        """An exported function that takes tasks from the job's counter until there are none.

        It has one exit, so the caller's state of arithmetic is always restored.
        """
        code, arithmetic = Code(), self.target.arithmetic
        code.declarations.update(arithmetic.declarations)
        for line in arithmetic.enter:
            code.line(line)
        tasks, entry_tasks = self.word(code, "tasks"), self.word(code, "entry_tasks")
        code.line("br label %next")
        code.label("next")
        number = code.value("atomicrmw add ptr %job, i64 1 monotonic")
        is_left = code.value(f"icmp slt i64 {number}, {tasks}")
        code.line(f"br i1 {is_left}, label %task, label %end")
        code.label("task")
        task(code, self._task(code, number, entry_tasks))
        code.line("br label %next")
        code.label("end")
        for line in arithmetic.leave:
            code.line(line)
        return self.function(name, "ptr noalias %job, ptr noalias %scratch", code, linkage="")

    def _task(self, code: Code, number: str, entry_tasks: str) -> _Task:
        """The record of a task: every entry of the batch has the same ones."""
        entry = code.integer("sdiv", number, entry_tasks)
        record = code.integer("mul", code.integer("srem", number, entry_tasks), len(TASK))
        base = code.at(self.pointer(code, "table"), "i64", record)
        words = {
            name: code.load("i64", code.at(base, "i64", place), 8)
            for place, name in enumerate(TASK)
        }
        row = code.integer("mul", entry, self.word(code, "entry_bytes"))
        return _Task(entry, code.at(self.pointer(code, "entries"), "i8", row), **words)

    def _partial(self, code: Code, task: _Task, number: str) -> str:
        """Where the totals of one of the task's entry's partials are."""
        base = code.integer("mul", task.entry, self.word(code, "entry_partials"))
        place = code.integer("add", base, number)
        offset = code.integer("mul", place, self.word(code, "partial_bytes"))
        return code.at(self.pointer(code, "partials"), "i8", offset)

    def _run_task(self, code: Code, task: _Task) -> None:
        """Reduce one chunk of rows over a list of intervals."""
        step = self.lanes * self.schedule.rows
        count = code.integer("sub", task.last, task.first)
        steps = code.integer("sdiv", code.integer("add", count, step - 1), step)
        blocks = code.integer("mul", steps, self.schedule.rows)
        is_whole = code.value(f"icmp slt i64 {task.partial}, 0")
        own, shared = self.part(code, "totals"), self._partial(code, task, task.partial)
        totals = code.value(f"select i1 {is_whole}, ptr {own}, ptr {shared}")
        code.line(
            f"call void @rows(ptr {task.pointers}, i64 {self.word(code, 'last_column')}, "
            f"ptr {self.part(code, 'rows')}, i64 {task.first}, i64 {task.last}, i64 {blocks})"
        )
        self._start_totals(code, totals, blocks)
        intervals = self.pointer(code, "intervals")
        with code.loop(task.start, task.stop, 1) as interval:
            ends = code.at(intervals, "i64", code.integer("mul", interval.counter, 2))
            start = code.load("i64", ends, 8)
            stop = code.load("i64", code.at(ends, "i64", 1), 8)
            self._run_tiles(code, task, totals, start, stop, blocks)
        code.line(f"br i1 {is_whole}, label %finish, label %next")
        code.label("finish")
        self._call_finish(code, task, totals, "1", "0")

    def _run_tiles(
        self, code: Code, task: _Task, totals: str, start: str, stop: str, blocks: str
    ) -> None:
        """Reduce over one interval of columns."""
        rows, columns = self.part(code, "rows"), self.part(code, "columns")
        lanes, states = self.part(code, "column_lanes"), self.part(code, "states")
        given, second_axis = self.part(code, "pairs"), self.word(code, "second_axis")
        last_column = self.word(code, "last_column")
        with code.loop(start, stop, self.schedule.tile) as tile:
            self._end_if_stopped(code)
            left = code.integer("sub", stop, tile.counter)
            count = code.smaller(self.schedule.tile, left)
            code.line(
                f"call void @columns(ptr {task.pointers}, i64 {last_column}, ptr {columns}, "
                f"ptr {lanes}, i64 {tile.counter}, i64 {count})"
            )
            arguments = (
                f"ptr {task.pointers}, i64 {last_column}, ptr {rows}, ptr {columns}, "
                f"ptr {totals}, ptr {states}, ptr {given}, i64 {task.first}, i64 {task.last}, "
                f"i64 {second_axis}, i64 {blocks}, i64 {tile.counter}, i64 {count}"
            )
            for number in range(len(self.layout.loops)):
                code.line(f"call void @{loop_name(number)}({arguments})")

    def _end_if_stopped(self, code: Code) -> None:
        """Leave the task, with its results undefined, if the caller has stopped the job."""
        number = code.value("load atomic i64, ptr %job monotonic, align 8")
        is_stopped = code.value(f"icmp sge i64 {number}, {STOPPED}")
        go_on = code.fresh()[1:]
        code.line(f"br i1 {is_stopped}, label %next, label %{go_on}")
        code.label(go_on)

    def _start_totals(self, code: Code, pointer: str, blocks: str) -> None:
        """Set the totals of all rows to the reduction's neutral element."""
        with code.loop(0, blocks, 1) as block:
            offset = code.integer("mul", block.counter, self.layout.total_bytes)
            totals = self.total_lanes(self.layout.totals, code.at(pointer, "i8", offset))
            emitter = self.emitter(code, by_kind(), I_BIT)
            # Equal ones that lie side by side are one run; NaN is equal to itself as a text.
            for _, run in itertools.groupby(self.nest.states, lambda s: str(s.initial)):
                alike = list(run)
                initial = constant(alike[0].initial, self.accumulator)
                value = emitter.operand(initial, 0, 0, True)
                with code.loop(0, sum(state.total.dim for state in alike), 1) as loop:
                    totals.store(code, value, alike[0].total, loop.counter)

    def _join_task(self, code: Code, task: _Task) -> None:
        """Join the partials of one chunk of rows and store its results."""
        splits = code.integer("sub", task.stop, task.start)
        totals = self._partial(code, task, task.start)
        self._call_finish(code, task, totals, splits, self.word(code, "partial_bytes"))

    def _call_finish(self, code: Code, task: _Task, totals: str, splits: str, stride: str) -> None:
        code.line(
            f"call void @finish(ptr {task.pointers}, ptr %scratch, ptr {totals}, i64 {splits}, "
            f"i64 {stride}, i64 {task.first}, i64 {task.last})"
        )
