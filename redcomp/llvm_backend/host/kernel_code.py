"""What the code of a host's kernel is made with: reading the job, packed lanes, copies, stores."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

from redcomp.abi import ALIGNMENT, HOST_JOB
from redcomp.ir import BINDERS, SIZES, Nest, Value, free_indices
from redcomp.llvm_backend.code import Code
from redcomp.llvm_backend.emit import Emitter, Loader
from redcomp.llvm_backend.host.layout import WorkerLayout
from redcomp.llvm_backend.host.schedule import Schedule
from redcomp.llvm_backend.memory import Memory, all_positions
from redcomp.llvm_backend.records import Record, variables_of
from redcomp.llvm_backend.samples import is_last_nearer
from redcomp.llvm_backend.spelling import LLVM_TYPES
from redcomp.records import record
from redcomp.target import Target

# Above this many components, copying them is a loop.
_UNROLLED_COPY = 8


@record
class Lanes:
    """Memory that holds a record for one vector of lanes: component after component.

    All its variables have the same width, `size` bytes, whether floats or integers.
    """

    record: Record
    pointer: str
    lanes: int
    size: int

    def vector(self, variable: Value) -> str:
        return f"<{self.lanes} x {LLVM_TYPES[variable.dtype]}>"

    @property
    def align(self) -> int:
        return min(ALIGNMENT, self.lanes * self.size)

    def place(self, code: Code, variable: Value, position: int | str, row: int = 0) -> str:
        """The pointer to a component of the variable, `row` records further on."""
        offset = self.record.offsets[variable] + row * self.record.width
        return code.at(self.pointer, self.vector(variable), position, offset)

    def load(self, code: Code, variable: Value, position: int | str, row: int = 0) -> str:
        place = self.place(code, variable, position, row)
        return code.load(self.vector(variable), place, self.align)

    def store(
        self, code: Code, operand: str, variable: Value, position: int | str, row: int = 0
    ) -> None:
        place = self.place(code, variable, position, row)
        code.store(self.vector(variable), operand, place, self.align)

    def positions(self, code: Code, extent: int) -> Iterator[str]:
        return all_positions(code, extent)


class HostCode:
    """A nest and its layout, and the pieces that functions of the module are written with."""

    def __init__(self, nest: Nest, target: Target, schedule: Schedule) -> None:
        self.nest, self.target, self.schedule = nest, target, schedule
        self.layout = WorkerLayout(nest, schedule)
        self.free = free_indices(nest.values)
        self._has_loops = not set(BINDERS).isdisjoint([value.op for value in nest.values])
        self.lanes, self.dtype = schedule.lanes, nest.dtype
        self.size, self.scalar = SIZES[self.dtype], LLVM_TYPES[self.dtype]
        self.accumulator = nest.accumulator
        self.declarations: dict[str, str] = {}

    def function(self, name: str, parameters: str, code: Code, linkage: str = "internal ") -> str:
        self.declarations.update(code.declarations)
        body = "\n".join(code.lines)
        return f"define {linkage}void @{name}({parameters}) #0 {{\nentry:\n{body}\n  ret void\n}}\n"

    def word(self, code: Code, name: str) -> str:
        return code.load("i64", code.at("%job", "i64", HOST_JOB[name]), 8)

    def pointer(self, code: Code, name: str) -> str:
        return code.load("ptr", code.at("%job", "i64", HOST_JOB[name]), 8)

    def output(self, code: Code, n: int) -> str:
        return code.load("ptr", code.at("%pointers", "i64", n), 8)

    def argument(self, code: Code, variable: Value) -> str:
        place = len(self.nest.results) + int(variable["position"])
        return code.load("ptr", code.at("%pointers", "i64", place), 8)

    def part(self, code: Code, name: str) -> str:
        return code.at("%scratch", "i8", self.layout.scratch[name])

    def record_at(self, code: Code, records: str, number: str, size: int) -> str:
        """The pointer to a record of so many numbers, in the body of the loop over records.

        Loops over components start at it.  If LLVM saw that it advances from record to record, its
        reduction of strength would carry the start of each loop through the loop over records, in
        time that is quadratic in the number of loops.
        """
        place = code.at(records, self.scalar, code.integer("mul", number, size))
        return code.opaque(place) if self._has_loops else place

    def lanes_at(self, record: Record, pointer: str) -> Lanes:
        return Lanes(record, pointer, self.lanes, self.size)

    def total_lanes(self, record: Record, pointer: str) -> Lanes:
        return Lanes(record, pointer, self.lanes, SIZES[self.accumulator])

    def parameters(self, code: Code, roots: Sequence[Value]) -> Loader:
        """Reads the call's parameters that the roots need."""
        hoisted = {h.variable for h in self.nest.uniform}
        pointers = {
            v: self.argument(code, v) for v in variables_of(roots, "parameter") if v not in hoisted
        }

        return lambda variable, position, row, col: self._component(
            code, variable, pointers[variable], position
        )

    def samples(self, code: Code, roots: Sequence[Value]) -> Loader:
        """Reads what the roots need of the column that stands for all."""
        chosen: dict[Value, str] = {}
        for variable in variables_of(roots, "j_sample"):
            first, scalar = self.argument(code, variable), LLVM_TYPES[variable.dtype]
            last = code.at(first, scalar, code.integer("mul", "%last_column", variable.dim))
            load = functools.partial(self._component, code, variable)
            is_last = is_last_nearer(code, variable, first, last, load)
            pointer = code.value(f"select i1 {is_last}, ptr {last}, ptr {first}")
            chosen[variable] = pointer
        return lambda variable, position, row, col: self._component(
            code, variable, chosen[variable], position
        )

    def _component(self, code: Code, variable: Value, vector: str, position: int | str) -> str:
        scalar = LLVM_TYPES[variable.dtype]
        return code.load(scalar, code.at(vector, scalar, position), self.size)

    def emitter(
        self,
        code: Code,
        load: Loader,
        lane_bit: int,
        rows: int = 1,
        scans: Memory | None = None,
    ) -> Emitter:
        return Emitter(
            code,
            self.target,
            self.lanes,
            self.free,
            load,
            lane_bit=lane_bit,
            rows=rows,
            scans=scans,
        )

    def pack(self, code: Code, lanes: Lanes, variables: Sequence[Value], first: str) -> None:
        """Copy rows first, first + 1, ... into lanes; beyond the last row, the last row again."""
        pointers = {v: self.argument(code, v) for v in variables if v["kind"] == "i"}
        last = code.integer("sub", "%last", 1)
        with code.loop(0, self.lanes, 1) as lane:
            row = code.smaller(code.integer("add", first, lane.counter), last)
            for variable in variables:
                target = code.at(lanes.place(code, variable, 0), self.scalar, lane.counter)
                pointer = pointers.get(variable)
                if pointer is None:
                    self.store_number(code, variable, row, target)
                    continue
                source = code.at(pointer, self.scalar, code.integer("mul", row, variable.dim))
                self.copy(code, source, 1, target, self.lanes, variable.dim)

    def store_number(self, code: Code, variable: Value, number: str, target: str) -> None:
        """Store a 64-bit number as a variable's only component, in its dtype."""
        type_ = LLVM_TYPES[variable.dtype]
        if variable.type.is_float:
            number = code.value(f"sitofp i64 {number} to {type_}")
        elif type_ != "i64":
            number = code.value(f"trunc i64 {number} to {type_}")
        code.store(type_, number, target, self.size)

    def copy(
        self,
        code: Code,
        source: str,
        step: int,
        target: str,
        target_step: int,
        count: int,
        dtype: str = "",
    ) -> None:
        """Copy scalars (of the kernel's dtype, unless another is given) between arrays."""
        scalar, size = LLVM_TYPES[dtype or self.dtype], SIZES[dtype or self.dtype]

        def one(k: int | str, type_: str = scalar) -> None:
            def scaled(by: int) -> int | str:
                return k * by if isinstance(k, int) else code.integer("mul", k, by)

            value = code.load(type_, code.at(source, scalar, scaled(step)), size)
            where = code.at(target, scalar, scaled(target_step))
            code.store(type_, value, where, size)

        first = 0
        if step == target_step == 1 and count > max(_UNROLLED_COPY, self.lanes):
            first = count - count % self.lanes
            with code.loop(0, first, self.lanes) as loop:
                one(loop.counter, f"<{self.lanes} x {scalar}>")
        if count - first <= _UNROLLED_COPY:
            for k in range(first, count):
                one(k)
        else:
            with code.loop(first, count, 1) as loop:
                one(loop.counter)
