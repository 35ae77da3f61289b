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

from redcomp.ir import I_BIT, J_BIT, Hoisted, Nest, Value, constant
from redcomp.llvm_backend.code import Code
from redcomp.llvm_backend.emit import Emitter
from redcomp.llvm_backend.host_parts import HostParts, Lanes, by_kind
from redcomp.llvm_backend.layout import ALIGNMENT, JOB_WORD, variables_of
from redcomp.llvm_backend.pair_loop import PairLoop
from redcomp.llvm_backend.schedule import SIZES, Schedule
from redcomp.llvm_backend.target import LLVM_TYPES, Target

RUN, JOIN = "redcomp_run", "redcomp_join"


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


class _Skeleton(HostParts):
    """The functions of the module, in the order in which a task runs them."""

    def module(self) -> str:
        functions = [
            self._pack_rows(),
            self._pack_columns(),
            PairLoop(self).function(),
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
        self.store_all(
            emitter,
            [h.definition for h in hoisted],
            lambda n, position, operand: lanes.store(
                emitter.code, operand, hoisted[n].variable, position
            ),
        )

    # -- rows and columns --------------------------------------------------------------------------

    def _pack_rows(self) -> str:
        """rows(job, rows, first, blocks): pack and prepare `blocks` vectors of rows."""
        code = Code()
        definitions = [h.definition for h in self.nest.rows]
        parameters = self.parameters(code, definitions)
        width = self.layout.rows.width
        with code.loop(0, "%blocks", 1) as block:
            offset = code.integer("mul", block.counter, width * self.lanes)
            lanes = self.lanes_at(self.layout.rows, code.at("%rows", self.scalar, offset))
            first = code.integer("add", "%first", code.integer("mul", block.counter, self.lanes))
            self.pack(code, lanes, self.layout.raw_rows, first)
            load = by_kind(i=lambda v, k, row, col: lanes.load(code, v, k), parameter=parameters)
            self._compute(self.emitter(code, load, I_BIT), self.nest.rows, lanes)
        return self.function("rows", "ptr %job, ptr %rows, i64 %first, i64 %blocks", code)

    def _pack_columns(self) -> str:
        """columns(job, columns, lanes, first, count): records of columns first, first + 1, ..."""
        code = Code()
        width = self.layout.columns.width
        sources = [(v, self.argument(code, v)) for v in self.layout.raw_columns]
        with code.loop(0, "%count", 1) as column:
            record = code.at("%columns", self.scalar, code.integer("mul", column.counter, width))
            at = code.integer("add", "%first", column.counter)
            for variable, pointer in sources:
                source = code.at(pointer, self.scalar, code.integer("mul", at, variable.dim))
                target = code.at(record, self.scalar, self.layout.columns.offsets[id(variable)])
                self.copy(code, source, 1, target, 1, variable.dim)
            for variable in self.layout.numbers:
                number = column.counter if variable["kind"] == "column" else at
                target = code.at(record, self.scalar, self.layout.columns.offsets[id(variable)])
                self.store_number(code, variable, number, target)
        if self.nest.columns:
            self._hoist_columns(code)
        return self.function(
            "columns", "ptr %job, ptr %columns, ptr %lanes, i64 %first, i64 %count", code
        )

    def _hoist_columns(self, code: Code) -> None:
        """Compute what depends on j only, a vector of columns at a time, transposed."""
        record = self.layout.columns
        definitions = [h.definition for h in self.nest.columns]
        parameters = self.parameters(code, definitions)
        lanes = self.lanes_at(record, "%lanes")
        needed = variables_of(definitions, "j", "j_index")
        with code.loop(0, "%count", self.lanes) as group:
            offset = code.integer("mul", group.counter, record.width)
            first = code.at("%columns", self.scalar, offset)
            self._transpose(code, lanes, first, needed, into_lanes=True)
            load = by_kind(j=lambda v, k, row, col: lanes.load(code, v, k), parameter=parameters)
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
                packed = code.at(record, self.scalar, self.layout.columns.offsets[id(variable)])
                spread = code.at(lanes.place(code, variable, 0), self.scalar, lane.counter)
                if into_lanes:
                    self.copy(code, packed, 1, spread, self.lanes, variable.dim)
                else:
                    self.copy(code, spread, self.lanes, packed, 1, variable.dim)

    # -- results -----------------------------------------------------------------------------------

    def _finish(self) -> str:
        """finish(job, scratch, totals, stride, splits, first, last): join splits, store results."""
        code = Code()
        nest, layout = self.nest, self.layout
        parameters = self.parameters(code, nest.results)
        inputs = self.lanes_at(layout.result_inputs, self.part(code, "result_inputs"))
        temporary = self.part(code, "results")
        outputs = [self.output(code, n) for n in range(len(nest.results))]
        with code.loop("%first", "%last", self.lanes) as row:
            block = code.integer("sdiv", code.integer("sub", row.counter, "%first"), self.lanes)
            pointer = code.at("%totals", "i8", code.integer("mul", block, layout.total_bytes))
            totals = self.total_lanes(layout.totals, pointer)
            self._join_splits(code, totals)
            self.pack(code, inputs, layout.result_inputs.variables, row.counter)
            load = by_kind(
                i=lambda v, k, row, col: inputs.load(code, v, k),
                total=lambda v, k, row, col: totals.load(code, v, k),
                parameter=parameters,
            )
            count = code.smaller(self.lanes, code.integer("sub", "%last", row.counter))
            for n, result in enumerate(nest.results):
                emitter = self.emitter(code, load, I_BIT)
                self._store_result(emitter, result, temporary)
                offset = code.integer("mul", row.counter, result.dim)
                target = code.at(outputs[n], LLVM_TYPES[result.dtype], offset)
                self._unpack(code, temporary, target, result, count)
        parameters_text = (
            "ptr %job, ptr %scratch, ptr %totals, i64 %stride, i64 %splits, i64 %first, i64 %last"
        )
        return self.function("finish", parameters_text, code)

    def _store_result(self, emitter: Emitter, result: Value, temporary: str) -> None:
        code, vector = emitter.code, f"<{self.lanes} x {LLVM_TYPES[result.dtype]}>"
        align = min(ALIGNMENT, self.lanes * SIZES[result.dtype])

        def store(n: int, position: int | str, operand: str) -> None:
            code.store(vector, operand, code.at(temporary, vector, position), align)

        self.store_all(emitter, [result], store)

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
            other_pointer = code.at(totals.pointer, "i8", offset)
            others = self.total_lanes(self.layout.others, other_pointer)

            def load(variable: Value, position: int | str, row: int, col: int) -> str:
                is_total = id(variable) in totals.record.offsets
                return (totals if is_total else others).load(code, variable, position)

            self.store_all(
                self.emitter(code, load, I_BIT),
                self.nest.joins,
                lambda n, position, operand: totals.store(
                    code, operand, self.nest.totals[n], position
                ),
            )

    # -- tasks -------------------------------------------------------------------------------------

    def _tasks(self, name: str, task: Callable[[Code, str], None]) -> str:
        """An exported function that takes tasks from the job's counter until there are none."""
        code = Code()
        tasks = self.word(code, "tasks")
        code.line("br label %next")
        code.label("next")
        number = code.value("atomicrmw add ptr %job, i64 1 monotonic")
        is_left = code.value(f"icmp slt i64 {number}, {tasks}")
        code.line(f"br i1 {is_left}, label %task, label %end")
        code.label("task")
        task(code, number)
        code.line("br label %next")
        code.label("end")
        return self.function(name, "ptr noalias %job, ptr noalias %scratch", code, linkage="")

    def _chunk(self, code: Code, chunk: str) -> tuple[str, str, str]:
        """A chunk's first row, the row after its last, and its number of vectors, rounded up."""
        chunk_rows = self.word(code, "chunk_rows")
        first = code.integer("mul", chunk, chunk_rows)
        last = code.smaller(self.word(code, "rows"), code.integer("add", first, chunk_rows))
        step = self.lanes * self.schedule.rows
        count = code.integer("sub", last, first)
        steps = code.integer("sdiv", code.integer("add", count, step - 1), step)
        return first, last, code.integer("mul", steps, self.schedule.rows)

    def _partial(self, code: Code, chunk: str) -> tuple[str, str]:
        """Where the first split's totals of a chunk are, and the bytes from split to split."""
        chunk_rows = self.word(code, "chunk_rows")
        vectors = code.integer("sdiv", chunk_rows, self.lanes)
        chunk_bytes = code.integer("mul", vectors, self.layout.total_bytes)
        stride = code.integer("mul", chunk_bytes, self.word(code, "chunks"))
        base = code.load("ptr", code.at("%job", "i64", JOB_WORD["partials"]), 8)
        return code.at(base, "i8", code.integer("mul", chunk, chunk_bytes)), stride

    def _run_task(self, code: Code, number: str) -> None:
        """Reduce one chunk of rows over one split of the columns."""
        chunks, splits = self.word(code, "chunks"), self.word(code, "splits")
        split, chunk = code.integer("sdiv", number, chunks), code.integer("srem", number, chunks)
        first, last, blocks = self._chunk(code, chunk)
        split_columns = self.word(code, "split_columns")
        start = code.integer("mul", split, split_columns)
        stop = code.smaller(self.word(code, "columns"), code.integer("add", start, split_columns))
        partial, stride = self._partial(code, chunk)
        shared = code.at(partial, "i8", code.integer("mul", split, stride))
        is_whole = code.value(f"icmp eq i64 {splits}, 1")
        own = self.part(code, "totals")
        totals = code.value(f"select i1 {is_whole}, ptr {own}, ptr {shared}")
        rows = self.part(code, "rows")
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
        rows, columns = self.part(code, "rows"), self.part(code, "columns")
        lanes, states = self.part(code, "column_lanes"), self.part(code, "states")
        with code.loop(start, stop, self.schedule.tile) as tile:
            left = code.integer("sub", stop, tile.counter)
            count = code.smaller(self.schedule.tile, left)
            code.line(
                f"call void @columns(ptr %job, ptr {columns}, ptr {lanes}, "
                f"i64 {tile.counter}, i64 {count})"
            )
            code.line(
                f"call void @pairs(ptr %job, ptr {rows}, ptr {columns}, ptr {totals}, "
                f"ptr {states}, i64 {blocks}, i64 {tile.counter}, i64 {count})"
            )

    def _start_totals(self, code: Code, pointer: str, blocks: str) -> None:
        """Set the totals of all rows to the reduction's neutral element."""
        with code.loop(0, blocks, 1) as block:
            offset = code.integer("mul", block.counter, self.layout.total_bytes)
            totals = self.total_lanes(self.layout.totals, code.at(pointer, "i8", offset))
            emitter = self.emitter(code, by_kind(), I_BIT)
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
        splits = self.word(code, "splits")
        code.line(
            f"call void @finish(ptr %job, ptr %scratch, ptr {partial}, i64 {stride}, "
            f"i64 {splits}, i64 {first}, i64 {last})"
        )
