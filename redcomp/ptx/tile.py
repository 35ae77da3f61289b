"""The tile of columns in shared memory: copied and prepared by all threads, read by all.

There are two buffers.  While the pairs of one tile are reduced, the next one's data are on their
way (from sm_80 on without passing through registers).  A thread prepares the columns whose short
vectors it copied itself, so one barrier a tile is enough; longer vectors are copied by whole warps,
so that memory is read by whole lines, and if they are prepared there is a second barrier.  No
access of a warp that fills a tile meets another one in a bank of shared memory (`BlockLayout`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import gcd

from redcomp.ir import J_BIT, SIZES, Value
from redcomp.llvm_backend.components import by_kind
from redcomp.llvm_backend.emit import Emitter
from redcomp.llvm_backend.spelling import LLVM_TYPES
from redcomp.ptx.kernel_code import Entry, KernelCode
from redcomp.ptx.layout import OWN_COPY, VECTOR_BYTES, BlockLayout
from redcomp.ptx.mma import TOGETHER
from redcomp.ptx.slices import Matrix, Slice, chunked
from redcomp.ptx.spelling import GLOBAL, SHARED, shared_array
from redcomp.ptx.together import by_length, contracted, contractions
from redcomp.records import record

_WARP = 32


def shared_memory(layout: BlockLayout, number: int) -> str:
    """The declarations of the shared memory of a part's tiles."""
    sizes = zip(_names(number), (2 * layout.tile_bytes, layout.staged_bytes), strict=True)
    return "".join(shared_array(name, size) for name, size in sizes if size)


def _names(number: int) -> tuple[str, str]:
    """Of the tiles of a part, and of what is staged for them."""
    return f"@tile{number}", f"@staged{number}"


@record
class Filling:
    """Which columns are prepared: so many from the first one on, and in which buffer.

    last   the place of the last one in the tile
    """

    first: str
    count: str
    last: str
    base: str


class Tile:
    """Shared memory of a block, and how columns of an entry come into it.

    samples   the columns that stand for all, see `Entry.samples`
    number    that of the part
    """

    def __init__(
        self, kernel: KernelCode, entry: Entry, samples: Mapping[int, str], number: int
    ) -> None:
        self.tile, self.staging = _names(number)
        self.kernel, self.code, self.layout = kernel, kernel.code, kernel.layout
        self.entry, self.samples = entry, samples

    # -- filling -----------------------------------------------------------------------------------

    def copy(self, first: str, count: str, buffer: str) -> None:
        """Start to copy the columns first, first + 1, ... into a buffer."""
        base = self.buffer(buffer)
        short = [part for part in self._copied() if part.count <= OWN_COPY]
        if short:
            with self._own_columns(count) as column:
                for part in short:
                    source, target = self._ends(part, first, column, base)
                    for k in range(part.count):
                        self._copy_element(source, target, k, part.variable)
        self._copy_matrices(first, count, base)
        code, long = self.code, [part for part in self._copied() if part.count > OWN_COPY]
        if long:
            warp, lane = (code.integer(op, self.kernel.thread, _WARP) for op in ("udiv", "urem"))
            with code.loop(warp, count, self.kernel.schedule.threads // _WARP) as column_loop:
                for part in long:
                    source, target = self._ends(part, first, column_loop.counter, base)
                    with code.loop(lane, part.count, _WARP) as loop:
                        self._copy_element(source, target, loop.counter, part.variable)

    def await_copies(self) -> None:
        """Wait for what is prepared, or for what the thread has copied itself."""
        if self.kernel.target.copies_asynchronously:
            self.kernel.spelling.await_copies(self.code)
        if any(self._is_prepared_by_others(part) for part in self._copied()):
            self.kernel.spelling.barrier(self.code)

    def prepare(self, first: str, count: str, buffer: str) -> None:
        """Compute what depends on columns only."""
        if not (self.layout.written or self.is_together):
            return
        base = self.buffer(buffer)
        if self.is_together:
            self._prepare_together(first, count, base)
            return
        with self._own_columns(count) as column:
            record, number = self.record(base, column), self.code.integer("add", first, column)
            known = self._numbers(column, number)
            writer = self._begin(record, column, known)
            self._compute(writer, self.of_column(record, known, column, number), known)
            writer.end()

    @property
    def is_together(self) -> bool:
        """Whether several threads prepare a column."""
        return bool(self._made or contractions(h.definition for h in self.kernel.nest.columns))

    @property
    def _made(self) -> list[Matrix]:
        """The matrices of vectors that are computed as a whole."""
        found = (matrix for matrix, _ in self.layout.matrices.values())
        return [matrix for matrix in found if matrix.is_whole and matrix.raw is None]

    def _copy_matrices(self, first: str, count: str, base: str) -> None:
        """Copy the vectors of matrices that are arguments: a warp along each.

        What is beyond the last component, which must be a number, is that one again.
        """
        found = (matrix for matrix, _ in self.layout.matrices.values())
        code, copied = self.code, [m for m in found if m.is_whole and m.raw]
        if not copied:
            return
        warp, lane = (code.integer(op, self.kernel.thread, _WARP) for op in ("udiv", "urem"))
        with code.loop(warp, count, self.kernel.schedule.threads // _WARP) as columns:
            for matrix in copied:
                part = matrix.raw
                assert part is not None
                number, dim = code.integer("add", first, columns.counter), part.count
                vector = self.entry.vector(part.variable, number)
                with code.loop(lane, matrix.depth, _WARP) as loop:
                    place = loop.counter
                    inside = place if dim == matrix.depth else code.smaller(place, dim - 1)
                    source = code.at(vector, self.kernel.scalar, inside, part.first, space=GLOBAL)
                    target = self.vector_place(matrix.name, base, columns.counter, place)
                    self._copy_number(source, target, self.kernel.scalar, self.layout.size)

    def _copied(self) -> list[Slice]:
        return [*self.layout.copied, *self.layout.staging]

    def _is_prepared_by_others(self, part: Slice) -> bool:
        """Whether a thread prepares what another one has copied."""
        is_long = part.count > OWN_COPY and part.variable in self.layout.prepared
        return is_long or self.is_together or chunked(self.kernel.nest) is not None

    def _numbers(self, column: str, number: str) -> dict[Value, str]:
        """What stands for the number of a column, in the tile and in the call."""
        return {
            v: self.kernel.number(column if v["kind"] == "column" else number, v)
            for v in self.layout.numbers
        }

    def _begin(self, record: str, column: str, numbers: Mapping[Value, str]) -> _RecordWriter:
        """Write the raw components of a column and its numbers."""
        writer = _RecordWriter(self, record)
        for part in self.layout.moved:
            for k in range(part.first, part.first + part.count):
                writer.add(self._load_staged(column, part.variable, k), part.variable)
        for variable, operand in numbers.items():
            writer.add(operand, variable)
        return writer

    def _compute(self, writer: _RecordWriter, emitter: Emitter, known: dict[Value, str]) -> None:
        """Compute the hoisted values of a column, `known` to the emitter from then on."""
        columns = self.kernel.nest.columns
        if not self.samples:
            emitter.emit(h.definition for h in columns)
        for h in columns:  # where there are samples, few of their components at a time
            emitter.emit([h.definition])
            known[h.variable] = emitter.operand(h.definition, 0, 0, True)
            writer.add(known[h.variable], h.variable)

    def _prepare_together(self, first: str, count: str, base: str) -> None:
        """Compute what columns have for products of matrices: some lanes a column, which share its
        sums.

        All lanes of a warp take part until their sums are there; those without a column compute the
        last one again, and store nothing.
        """
        kernel, code = self.kernel, self.code
        warp, lane = (code.integer(op, kernel.thread, _WARP) for op in ("udiv", "urem"))
        own, member = (code.integer(op, lane, TOGETHER) for op in ("udiv", "urem"))
        # The columns of a warp lie apart, so that few of its lanes meet in a bank.
        warps = kernel.schedule.threads // _WARP
        start = code.integer("add", warp, code.integer("mul", own, warps))
        filling = Filling(first, count, code.integer("sub", count, 1), base)
        with code.loop(0, count, kernel.schedule.threads // TOGETHER) as columns:
            column = code.integer("add", columns.counter, start)
            self.prepare_column(filling, column, member)

    def prepare_column(
        self,
        filling: Filling,
        wanted: str,
        member: str,
        known_sums: Mapping[Value, str] | None = None,
    ) -> None:
        """Prepare the column that some lanes want, if there is one; `member` counts them.

        known_sums   contractions that have been computed
        """
        kernel, code, type_ = self.kernel, self.code, self.kernel.scalar
        known_sums, definitions = known_sums or {}, [h.definition for h in kernel.nest.columns]
        base = filling.base
        is_there = code.value(f"icmp slt i64 {wanted}, {filling.count}")
        column = code.value(f"select i1 {is_there}, i64 {wanted}, i64 {filling.last}")
        record, number = self.record(base, column), code.integer("add", filling.first, column)
        known = self._numbers(column, number)
        emitter = self.of_column(record, known, column, number)
        for value, operand in known_sums.items():
            emitter.bind(value, [operand])
        values = [value for value in contractions(definitions) if value not in known_sums]
        visited = []
        for group, sums in self._computed_together(values):
            vectors = [matrix.vector for matrix in group]
            made = contracted(kernel, emitter, sums, (0,), member, TOGETHER, vectors)
            for value, operands in made.sums.items():
                emitter.bind(value, operands)
            visited += [(group, place, found) for place, found in made.visits]
        emitter.emit(definitions)
        with code.when(is_there):
            for group, place, found in visited:
                for matrix, (operand,) in zip(group, found, strict=True):
                    target = self.vector_place(matrix.name, base, column, place)
                    code.store(type_, operand, target, self.layout.size, SHARED)
        is_first = code.value(f"icmp eq i64 {member}, 0")
        with code.when(code.value(f"and i1 {is_there}, {is_first}")):
            writer = self._begin(record, column, known)
            for h in kernel.nest.columns:
                writer.add(emitter.operand(h.definition, 0, 0, True), h.variable)
            writer.end()

    def _computed_together(self, sums: Sequence[Value]) -> list[tuple[list[Matrix], list[Value]]]:
        """The vectors of matrices that are computed, with contractions of vectors as long."""
        made = self._made
        of_products = {h.variable for h in self.kernel.nest.products}
        alone = {m.name: m for m in made}
        groups = []
        for own in by_length(sums):
            dim = own[0].args[0].dim
            fitting = [m for m in made if m.name in of_products and m.vector.dim == dim]
            groups.append(([alone.pop(m.name) for m in fitting], own))
        return [*groups, *(([m], []) for m in alone.values())]

    def of_column(
        self, record: str, known: Mapping[Value, str], column: str, number: str
    ) -> Emitter:
        """An emitter of what depends on a column only, from what is known and its raw values."""
        kernel, layout = self.kernel, self.layout
        # What is read of the sample takes no registers until it is read for the next tile.
        samples = {
            place: kernel.spelling.forgotten(kernel.code, n) for place, n in self.samples.items()
        }

        def load(variable: Value, position: int | str, row: int, col: int) -> str:
            if variable in known:
                return known[variable]
            if variable in layout.staged.offsets:
                return self._load_staged(column, variable, position)
            if variable in layout.columns.offsets:
                return self.load(record, variable, position, layout.columns.offsets[variable])
            return self.entry.component(variable, number, position)

        sampled = self.entry.sampled(samples)
        loader = by_kind(j=load, parameter=self.entry.parameter, j_sample=sampled)
        return kernel.emitter(loader, J_BIT)

    @contextmanager
    def _own_columns(self, count: str) -> Iterator[str]:
        """The loop over the columns of a tile that a thread copies and prepares."""
        with self.code.loop(self.kernel.thread, count, self.kernel.schedule.threads) as loop:
            yield loop.counter

    def _ends(self, part: Slice, first: str, column: str, base: str) -> tuple[str, str]:
        """Where a column's components come from, and where they go."""
        code, variable = self.code, part.variable
        vector = self.entry.vector(variable, code.integer("add", first, column))
        source = code.at(vector, LLVM_TYPES[variable.dtype], part.first, space=GLOBAL)
        if variable in self.layout.staged.offsets:
            return source, self._staged(column, variable, part.first)
        offset = self.layout.columns.offsets[variable] + part.first
        record = self.record(base, column)
        return source, code.at(record, LLVM_TYPES[variable.dtype], offset, space=SHARED)

    def _copy_element(self, source: str, target: str, k: int | str, variable: Value) -> None:
        code, type_, size = self.code, LLVM_TYPES[variable.dtype], SIZES[variable.dtype]
        source = code.at(source, type_, k, space=GLOBAL)
        stride = self.layout.staged_stride if variable in self.layout.staged.offsets else 1
        moved = k * stride if isinstance(k, int) else code.integer("mul", k, stride)
        target = code.at(target, type_, moved, space=SHARED)
        self._copy_number(source, target, type_, size)

    def _copy_number(self, source: str, target: str, type_: str, size: int) -> None:
        code = self.code
        if self.kernel.target.copies_asynchronously:
            self.kernel.spelling.copy(code, source, target, size)
        else:
            code.store(type_, code.load(type_, source, size, GLOBAL), target, size, SHARED)

    # -- reading -----------------------------------------------------------------------------------

    def filled(self, first: str, buffer: str) -> FilledTile:
        """The tile that is in a buffer, whose first column has this number."""
        return FilledTile(self, first, self.buffer(buffer))

    # -- places ------------------------------------------------------------------------------------

    def buffer(self, buffer: str) -> str:
        """The pointer to a buffer by its number, if columns are kept there at all."""
        if not self.layout.tile_bytes:
            return ""
        offset = self.code.integer("mul", buffer, self.layout.tile_bytes)
        return self.code.at(self.tile, "i8", offset, space=SHARED)

    def record(self, base: str, column: str) -> str:
        """The pointer to a column's record in a buffer."""
        if not self.layout.width:
            return ""
        offset = self.code.integer("mul", column, self.layout.width)
        return self.code.at(base, self.kernel.scalar, offset, space=SHARED)

    def vector_place(self, matrix: Value, base: str, column: str, position: str) -> str:
        """The pointer to a component of a column's vector of a matrix in a buffer."""
        code = self.code
        found, start = self.layout.matrices[matrix]
        vectors = code.at(base, "i8", start, space=SHARED)
        offset = code.integer("mul", column, found.width)
        return code.at(vectors, self.kernel.scalar, offset, position, space=SHARED)

    def _staged(self, column: str, variable: Value, position: int | str) -> str:
        """The pointer to a component of a column's staged vector."""
        code, layout = self.code, self.layout
        place, fixed = position, layout.staged.offsets[variable] * layout.staged_stride
        if isinstance(place, int):
            place *= layout.staged_stride
        else:
            place = code.integer("mul", place, layout.staged_stride)
        return code.at(self.staging, self.kernel.scalar, column, place, fixed, space=SHARED)

    def _load_staged(self, column: str, variable: Value, position: int | str) -> str:
        type_ = LLVM_TYPES[variable.dtype]
        place = self._staged(column, variable, position)
        return self.code.load(type_, place, self.layout.size, SHARED)

    def load(self, record: str, variable: Value, position: int | str, offset: int) -> str:
        """A component of a record."""
        type_ = LLVM_TYPES[variable.dtype]
        place = self.code.at(record, type_, position, offset, space=SHARED)
        return self.code.load(type_, place, self.layout.size, SHARED)


class _RecordWriter:
    """Writes the components of a column's record one after the other, by vectors."""

    def __init__(self, tile: Tile, record: str) -> None:
        self.tile, self.record = tile, record
        self.code, self.scalar = tile.code, tile.kernel.scalar
        self._first = 0
        self._waiting: list[str] = []

    def add(self, operand: str, variable: Value) -> None:
        """The next component, of a variable whose dtype may differ from the record's."""
        type_ = LLVM_TYPES[variable.dtype]
        if type_ != self.scalar:
            operand = self.code.value(f"bitcast {type_} {operand} to {self.scalar}")
        self._waiting.append(operand)
        if len(self._waiting) == self.tile.layout.store:
            self._write()

    def end(self) -> None:
        """No more components: what lacks becomes zero."""
        while self._first + len(self._waiting) < self.tile.layout.written:
            self._waiting.append("0.0")
            if len(self._waiting) == self.tile.layout.store:
                self._write()

    def _write(self) -> None:
        code, count = self.code, len(self._waiting)
        type_, vector = f"<{count} x {self.scalar}>", "poison"
        for k, operand in enumerate(self._waiting):
            inserted = f"insertelement {type_} {vector}, {self.scalar} {operand}, i64 {k}"
            vector = code.value(inserted) if count > 1 else operand
        place = code.at(self.record, self.scalar, self._first, space=SHARED)
        written = type_ if count > 1 else self.scalar
        code.store(written, vector, place, count * self.tile.layout.size, SHARED)
        self._first += count
        self._waiting = []


@record
class FilledTile:
    """A tile that can be read: the number of its first column, and the buffer that it is in."""

    memory: Tile
    first: str
    base: str

    def step(self, column: str, cols: int, record: str = "") -> StepColumns:
        """The columns of a step, from a column of the tile (i32) on, whose record may be known."""
        return StepColumns(self, column, cols, record)

    def apart(self, column: str, count: int, distance: str) -> list[StepColumns]:
        """Columns so far (i32) from each other, from one of the tile (i32) on."""
        memory, code = self.memory, self.memory.code
        size = memory.layout.width * memory.layout.size
        wide = code.value(f"zext i32 {distance} to i64")
        record = memory.record(self.base, code.value(f"sext i32 {column} to i64"))
        found = [self.step(column, 1, record)]
        while len(found) < count:
            column = code.value(f"add i32 {column}, {distance}")
            if record:
                record = code.at(record, "i8", code.integer("mul", wide, size), space=SHARED)
            found.append(self.step(column, 1, record))
        return found


class StepColumns:
    """The columns of a step: their records are loaded at once, by vectors where they fit."""

    def __init__(self, tile: FilledTile, column: str, cols: int, record: str) -> None:
        self.tile, self.memory, self.record = tile, tile.memory, record
        self.kernel, self.code, self.layout = (
            tile.memory.kernel,
            tile.memory.code,
            tile.memory.layout,
        )
        self.column = self.code.value(f"sext i32 {column} to i64")
        number = self.number(0)
        # Pointers to long vectors of the first column.
        self.vectors = {v: self.memory.entry.vector(v, number) for v in self.layout.long_columns}
        self.known = self._loaded(cols) if self.layout.width else {}

    def _loaded(self, cols: int) -> dict[int, str]:
        """The components of the records, by their places."""
        layout = self.layout
        record = self.record or self.memory.record(self.tile.base, self.column)
        used = [col * layout.width + k for col in range(cols) for k in range(layout.columns.width)]
        alignment = gcd(VECTOR_BYTES, layout.width * cols * layout.size)
        return self._load_all(record, used, alignment // layout.size)

    def _load_all(self, record: str, used: list[int], most: int) -> dict[int, str]:
        """Load components by vectors of at most `most`; those of one width share a type."""
        code, scalar = self.code, self.kernel.scalar
        remaining = set(used)
        known: dict[int, str] = {}
        for start in used:
            if start not in remaining:
                continue
            width = most
            while start % width or not remaining.issuperset(range(start, start + width)):
                width //= 2
            type_ = f"<{width} x {scalar}>" if width > 1 else scalar
            place = code.at(record, scalar, start, space=SHARED)
            loaded = code.load(type_, place, width * self.layout.size, SHARED)
            for k in range(width):
                part = f"extractelement {type_} {loaded}, i64 {k}"
                known[start + k] = code.value(part) if width > 1 else loaded
            remaining -= set(range(start, start + width))
        return known

    def load(self, variable: Value, position: int | str, row: int, col: int) -> str:
        """A component of what belongs to a column of the step."""
        layout = self.layout
        offset = layout.columns.offsets.get(variable)
        if offset is None:
            vector = self.vectors[variable]
            return self.kernel.component(variable, vector, position, col * variable.dim)
        if isinstance(position, int):
            return self._as(variable, self.known[col * layout.width + offset + position])
        record = self.record or self.memory.record(self.tile.base, self.column)
        return self.memory.load(record, variable, position, offset + col * layout.width)

    def number(self, col: int) -> str:
        """The number of a column of the step."""
        code = self.code
        return code.integer("add", code.integer("add", self.tile.first, self.column), col)

    def _as(self, variable: Value, operand: str) -> str:
        """A component of a record, all of which are loaded as floats, in the variable's type."""
        type_ = LLVM_TYPES[variable.dtype]
        if type_ == self.kernel.scalar:
            return operand
        return self.code.value(f"bitcast {self.kernel.scalar} {operand} to {type_}")
