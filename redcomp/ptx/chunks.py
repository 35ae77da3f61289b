"""Products of vectors that fit neither into registers nor into a tile: by chunks of components.

The sums of all pairs of a tile are in registers.  A chunk of the columns' vectors is in shared
memory, while the next one is on its way: the lanes that prepare a column compute its components,
and what the sums of these that the column's norms are.  The elements of a thread's rows are in the
block's workspace, where the thread has written them before its first tile and nobody else reads
them; those of the next chunk are read while the columns are stored.

Tensor cores cut off what their sums of float32 have beyond 24 bits.  So the sums of a chunk start
from zero, and are added to those of the tile by instructions that round to nearest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from redcomp.ir import Hoisted
from redcomp.llvm_backend.components import Visit
from redcomp.llvm_backend.emit import Emitter
from redcomp.ptx.kernel_code import KernelCode, ThreadMemory
from redcomp.ptx.mma import MEMBERS, TOGETHER
from redcomp.ptx.multiprocessor import WARP
from redcomp.ptx.products import Grid, Multiplication, Sums
from redcomp.ptx.spelling import SHARED
from redcomp.ptx.tile import Filling, Tile
from redcomp.ptx.together import OfContractions, add_products, contractions, joined, split

# Products of matrices for each block of rows that do not wait for each other.
_AT_A_TIME = 2


class ChunkedProduct:
    """The products of the thread's rows with the columns of tiles.

    elements   memory for those of the rows
    """

    def __init__(
        self, kernel: KernelCode, emitter: Emitter, product: Hoisted, elements: ThreadMemory
    ) -> None:
        self.kernel, self.code, self.elements = kernel, kernel.code, elements
        self.name, self.product = product.variable, Multiplication(kernel, product)
        self.count = self.product.depth // self.product.chunk
        self.columns = range(kernel.schedule.tile // self.product.product.n)
        self._store_rows(emitter)

    def _store_rows(self, emitter: Emitter) -> None:
        product, code, rows = self.product, self.code, range(self.kernel.schedule.rows)
        emitter.emit([product.of_rows.args[0]])  # what is the same for all components
        with code.loop(0, self.count, 1) as loop:
            first = code.integer("mul", loop.counter, product.chunk)
            memory = self._chunk_of_rows(loop.counter)
            for position, offset in enumerate(range(0, product.chunk, MEMBERS)):
                place = code.integer("add", code.integer("add", first, product.member), offset)
                visit = Visit(emitter, [product.of_rows], place, product.depth)
                (operands,) = visit.operands([(row, 0) for row in rows])
                for row in rows:
                    memory.store(code, operands[row], self.name, position, row)

    def _chunk_of_rows(self, chunk: str) -> ThreadMemory:
        """Where the thread has its elements of a chunk."""
        code, elements = self.code, self.elements
        size = self.product.chunk // MEMBERS * elements.stride
        offset = code.integer("mul", chunk, size)
        pointer = code.at(elements.pointer, self.kernel.scalar, offset, space=elements.space)
        return replace(elements, pointer=pointer)

    def _read_rows(self, chunk: str) -> list[str]:
        """The thread's elements of a chunk, those of all rows side by side."""
        memory, rows = self._chunk_of_rows(chunk), range(self.kernel.schedule.rows)
        places = range(self.product.chunk // MEMBERS)
        return [memory.load(self.code, self.name, place, row) for place in places for row in rows]

    def of_tile(self, tile: Tile, first: str, count: str, buffer: str) -> Grid:
        """The products with a tile's columns, by row and column; prepares these columns."""
        code, product, scalar = self.code, self.product, self.kernel.scalar
        last = code.integer("sub", count, 1)
        columns = _Columns(product, tile, Filling(first, count, last, tile.buffer(buffer)))
        of_columns = columns.stored(columns.begun("0"), columns.nothing, tile.buffer("0"))
        blocks = range(self.kernel.schedule.rows // product.product.rows)
        places = [(m, n) for n in self.columns for m in blocks]
        sums: Sums = {place: ["0.0"] * len(product.product.sums) for place in places}
        state = [*_listed(sums), *self._read_rows("0"), *_listed(of_columns)]
        with code.loop(0, self.count, 1, [(scalar, operand) for operand in state]) as loop:
            self.kernel.spelling.barrier(code)
            sums, rows, of_columns = self._split(loop.carried, sums, of_columns)
            following = code.integer("add", loop.counter, 1)
            own, other = (tile.buffer(code.integer("and", n, 1)) for n in (loop.counter, following))
            begun = columns.begun(following)
            sums = self._added(tile, own, rows, sums)
            of_columns = columns.stored(begun, of_columns, other)
            rows = self._read_rows(code.smaller(following, self.count - 1))
            loop.following = [*_listed(sums), *rows, *_listed(of_columns)]
        sums, _, of_columns = self._split(loop.carried, sums, of_columns)
        if tile.is_together:
            columns.prepare(of_columns)
        else:
            tile.prepare(first, count, buffer)
        return product.grid(sums)

    def _split(
        self, carried: Sequence[str], sums: Sums, of_columns: OfContractions
    ) -> tuple[Sums, list[str], OfContractions]:
        """What the loop over chunks carries: sums of pairs, elements of rows, sums of columns."""
        left = list(carried)
        count = len(_listed(of_columns))
        end = len(left) - count
        begin = len(_listed(sums))
        return split(left[:begin], sums), left[begin:end], split(left[end:], of_columns)

    def _added(self, tile: Tile, base: str, elements: list[str], sums: Sums) -> Sums:
        """The sums after a chunk, that of the columns in a buffer."""
        code, product, rows = self.code, self.product, self.kernel.schedule.rows

        def numbers(offset: int) -> list[str]:
            place = offset // MEMBERS * rows
            return elements[place : place + rows]

        left = [product.left(first, numbers) for first in product.steps]
        added: Sums = {}
        for start in self.columns[::_AT_A_TIME]:
            own = self.columns[start : start + _AT_A_TIME]
            places = [code.integer("add", product.group, n * product.product.n) for n in own]
            found = product.sums(left, tile, base, places)
            for (m, n), operands in found.items():
                added[m, start + n] = [
                    code.value(f"fadd {self.kernel.scalar} {before}, {operand}")
                    for before, operand in zip(sums[m, start + n], operands, strict=True)
                ]
        return {place: added[place] for place in sums}


class _Columns:
    """The columns of a tile that the lane prepares, with others that have other components."""

    def __init__(self, product: Multiplication, tile: Tile, filling: Filling) -> None:
        kernel, code = product.kernel, product.code
        self.kernel, self.code, self.product = kernel, code, product
        self.tile, self.filling = tile, filling
        values = contractions(h.definition for h in kernel.nest.columns)
        dim = product.of_columns.dim
        self.values = [value for value in values if value.args[0].dim == dim]
        self.wanted = [*(arg for v in self.values for arg in v.args), product.of_columns]
        warp, lane = (code.integer(op, kernel.thread, WARP) for op in ("udiv", "urem"))
        own, self.member = (code.integer(op, lane, TOGETHER) for op in ("udiv", "urem"))
        warps = kernel.schedule.threads // WARP
        places = [
            code.integer("add", warp, start)
            for start in range(0, kernel.schedule.tile * TOGETHER // WARP, warps)
        ]
        self.columns = [self._column(place, own) for place in places]
        self.emitter = self._emitter()
        self.nothing: OfContractions = {v: ["0.0"] * len(places) for v in self.values}

    def _column(self, place: str, own: str) -> str:
        """One of four columns of a warp, every other one of eight: so they are in other banks."""
        code = self.code
        eight, odd = (code.integer(op, place, 2) for op in ("udiv", "urem"))
        start = code.integer("add", code.integer("mul", eight, 8), odd)
        return code.integer("add", start, code.integer("mul", own, 2))

    def _emitter(self) -> Emitter:
        """Of what the columns have; beyond the last one, that one again."""
        code, tile, filling = self.code, self.tile, self.filling
        emitters = []
        for column in self.columns:
            inside = code.smaller(column, filling.last)
            number = code.integer("add", filling.first, inside)
            emitters.append(tile.of_column(tile.record(filling.base, inside), {}, inside, number))
        loaders = [emitter.load for emitter in emitters]
        return emitters[0].within(
            lambda variable, position, row, col: loaders[col](variable, position, row, 0),
            len(emitters),
        )

    def begun(self, chunk: str) -> list[Visit]:
        """The lane's components of a chunk, or of what is beyond the last one; they are on their
        way.
        """
        code, size = self.code, self.product.chunk
        first = code.integer("add", code.integer("mul", chunk, size), self.member)
        visits = []
        for offset in range(0, size, TOGETHER):
            place = code.integer("add", first, offset)
            visit = Visit(self.emitter, self.wanted, place, self.product.depth + size)
            visit.read()
            visits.append(visit)
        return visits

    def stored(self, visits: Sequence[Visit], sums: OfContractions, base: str) -> OfContractions:
        """Store a chunk in a buffer; the sums of contractions with it."""
        code, made = self.code, dict(sums)
        points = [(0, col) for col in range(len(self.columns))]
        places = [
            self.tile.vector_place(self.product.name, base, column, self.member)
            for column in self.columns
        ]
        for n, visit in enumerate(visits):
            found, before = visit.unlimited(points), dict(made)
            add_products(self.kernel, self.emitter, made, found)
            for value, operands in made.items():
                made[value] = list(map(visit.inside, operands, before[value]))
            for place, operand in zip(places, found[-1], strict=True):
                target = code.at(place, self.kernel.scalar, n * TOGETHER, space=SHARED)
                own = visit.inside(operand, "0.0")
                code.store(self.kernel.scalar, own, target, self.kernel.size, SHARED)
        return made

    def prepare(self, sums: OfContractions) -> None:
        """Prepare the columns, from the sums of the lanes that share them."""
        whole = joined(self.kernel, sums, TOGETHER)
        for col, column in enumerate(self.columns):
            known = {value: operands[col] for value, operands in whole.items()}
            self.tile.prepare_column(self.filling, column, self.member, known)


def _listed(sums: Sums | OfContractions) -> list[str]:
    return [operand for operands in sums.values() for operand in operands]
