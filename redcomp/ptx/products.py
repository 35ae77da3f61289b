"""Products of vectors of rows and columns for all pairs of a step, by products of matrices.

A thread has the elements of its rows in registers (`Fragments`), and reads those of columns from
the tile.  The sums that a lane gets are those of two rows and two neighbouring columns for each
product of matrices; all else that happens to a pair happens as everywhere.

A factor of float32 is the sum of what is left of it when it is rounded to the 11 bits of TF32 and
of the rest, of which instructions read 11 bits again.  The product of both rests is left out: so
three products of matrices err by at most 4 units of float32 of the sum of |x_k y_k|, besides
their sums.
"""

from __future__ import annotations

from collections.abc import Sequence

from redcomp.ir import Hoisted, Value
from redcomp.llvm_backend.code import Code
from redcomp.llvm_backend.components import components_at
from redcomp.llvm_backend.emit import Emitter, Loader
from redcomp.llvm_backend.tile_reduction import Advancing
from redcomp.ptx.kernel_code import KernelCode
from redcomp.ptx.mma import MEMBERS, PRODUCTS
from redcomp.ptx.multiprocessor import WARP
from redcomp.ptx.spelling import SHARED
from redcomp.ptx.steps import Step
from redcomp.ptx.tile import FilledTile, StepColumns

# Of the low 13 bits of float32, which TF32 has not: half of the last bit that it has, and the rest.
_HALF, _KEPT = 0x1000, -0x2000

# The parts of a factor, as instructions take them.
_Factor = tuple[str, ...]


class Fragments:
    """The thread's elements of the vectors of rows, and products with those of columns."""

    def __init__(self, kernel: KernelCode, emitter: Emitter, product: Hoisted) -> None:
        self.kernel, self.code, self.emitter = kernel, kernel.code, emitter
        self.product = PRODUCTS[product.variable.dtype]
        rows, _ = product.definition.args
        self.depth = self.product.depth(rows.dim)
        lane = self.code.integer("urem", kernel.thread, WARP)
        self.member, self.group = (self.code.integer(op, lane, MEMBERS) for op in ("urem", "udiv"))
        self.rows = [self._factors(rows, k) for k in range(0, self.depth, self.product.k)]

    def _factors(self, vector: Value, first: int) -> list[list[_Factor]]:
        """What each block of rows needs for the components from `first` on."""
        places = dict.fromkeys(k for _, k in self.product.a)
        known = {k: self._elements(vector, first + k) for k in places}
        own, stride = self.product.rows, self.kernel.schedule.row_stride
        return [
            [known[k][block + row // stride] for row, k in self.product.a]
            for block in range(0, self.kernel.schedule.rows, own)
        ]

    def _elements(self, vector: Value, offset: int) -> list[_Factor]:
        """A component of all rows of the thread, at an offset from its member."""
        code = self.code
        place = code.integer("add", self.member, offset)
        rows = range(self.kernel.schedule.rows)
        (operands,) = components_at(self.emitter, [vector], place, rows, self.depth)
        return [self._parts(operand) for operand in operands]

    def _parts(self, operand: str) -> _Factor:
        return split(self.code, operand) if len(self.product.terms) > 1 else (operand,)

    def of_columns(self, tile: FilledTile, columns: Sequence[str]) -> list[list[str]]:
        """The products of the thread's rows with its columns, by row and column.

        Each of the numbers (i64) is that of the column of the tile which the lane's group reads,
        for a product of matrices.
        """
        product, rows = self.product, self.kernel.schedule.rows
        blocks = range(len(self.rows[0]))
        places = [tile.memory.vector_place(tile.base, c, self.member) for c in columns]
        sums = {(m, n): ["0.0"] * len(product.sums) for m in blocks for n in range(len(columns))}
        for step, factors in enumerate(self.rows):
            right = [self._columns(place, step * product.k) for place in places]
            for a, b in product.terms:
                for m, n in sums:
                    left = [factor[a] for factor in factors[m]]
                    own = [factor[b] for factor in right[n]]
                    sums[m, n] = self.kernel.spelling.multiplied(
                        self.code, product, left, own, sums[m, n]
                    )
        stride = self.kernel.schedule.row_stride
        grid = [[""] * (2 * len(columns)) for _ in range(rows)]
        for (m, n), found in sums.items():
            for (row, column), operand in zip(product.sums, found, strict=True):
                grid[product.rows * m + row // stride][2 * n + column] = operand
        return grid

    def _columns(self, place: str, first: int) -> list[_Factor]:
        """The elements of a column from a component on."""
        code, type_ = self.code, self.kernel.scalar
        loaded = (
            code.load(
                type_, code.at(place, type_, first + k, space=SHARED), self.kernel.size, SHARED
            )
            for k in self.product.b
        )
        return [self._parts(operand) for operand in loaded]


def split(code: Code, operand: str) -> _Factor:
    """A number of float32, rounded to TF32 (halves away from zero), and the rest."""
    bits = code.value(f"bitcast float {operand} to i32")
    rounded = code.value(f"and i32 {code.value(f'add i32 {bits}, {_HALF}')}, {_KEPT}")
    as_float = code.value(f"bitcast i32 {rounded} to float")
    rest = code.value(f"fsub float {operand}, {as_float}")
    return rounded, code.value(f"bitcast float {rest} to i32")


class SpreadColumns:
    """The columns of a step that a thread has: runs of neighbours, each read at once."""

    def __init__(self, runs: Sequence[StepColumns], width: int) -> None:
        self.runs, self.width = runs, width

    def load(self, variable: Value, position: int | str, row: int, col: int) -> str:
        """A component of what belongs to a column."""
        run, own = divmod(col, self.width)
        return self.runs[run].load(variable, position, row, own)

    def number(self, col: int) -> str:
        """The number of a column."""
        run, own = divmod(col, self.width)
        return self.runs[run].number(own)


class ProductSteps:
    """Steps whose products are computed together, see `redcomp.ptx.steps`.

    count   columns of the tile (i32)
    types   of the scalar states
    """

    def __init__(
        self, tile: FilledTile, step: Step, fragments: Fragments, count: str, types: Sequence[str]
    ) -> None:
        self.tile, self.step, self.fragments = tile, step, fragments
        self.count, self.types = count, types
        self.code, self.rest = fragments.code, fragments.product.n
        # The thread's first column of a product, and that whose elements it reads.
        twice = self.code.integer("mul", fragments.member, 2)
        self.own, self.read = (
            self.code.value(f"trunc i64 {n} to i32") for n in (twice, fragments.group)
        )

    def at(self, column: str, width: int) -> Advancing:
        """See `Steps`."""
        if width == self.rest:
            return self._masked(column)
        starts = range(0, width, self.fragments.product.n)
        own, read = ([self._moved(column, n, k) for k in starts] for n in (self.own, self.read))
        grid = self._products(read)
        columns = SpreadColumns([self.tile.step(place, 2) for place in own], 2)
        return self.step(columns, 2 * len(own), product=_from(grid))

    def _masked(self, column: str) -> MaskedStep:
        """The last columns, of which some may not be there: the last one stands for these."""
        code = self.code
        last = code.value(f"sub i32 {self.count}, 1")

        def inside(place: str) -> tuple[str, str]:
            is_there = code.value(f"icmp slt i32 {place}, {self.count}")
            return is_there, code.value(f"select i1 {is_there}, i32 {place}, i32 {last}")

        _, read = inside(self._moved(column, self.read, 0))
        grid = self._products([read])
        steps = []
        for k in range(2):
            is_there, own = inside(self._moved(column, self.own, k))
            step = self.step(self.tile.step(own, 1), 1, product=_from(grid, k))
            steps.append((is_there, step))
        return MaskedStep(code, self.types, steps)

    def _products(self, columns: Sequence[str]) -> list[list[str]]:
        wide = [self.code.value(f"sext i32 {column} to i64") for column in columns]
        return self.fragments.of_columns(self.tile, wide)

    def _moved(self, column: str, own: str, offset: int) -> str:
        moved = self.code.value(f"add i32 {column}, {own}")
        return self.code.value(f"add i32 {moved}, {offset}") if offset else moved


def _from(grid: Sequence[Sequence[str]], first: int = 0) -> Loader:
    """Loads the product of a row and a column."""
    return lambda variable, position, row, col: grid[row][first + col]


class MaskedStep:
    """The columns that remain of a tile, one after the other: some lanes have one too many.

    What a step makes of a column that is not there is dropped: no thread goes another way, because
    all of them take part in the products.
    """

    def __init__(
        self, code: Code, types: Sequence[str], steps: Sequence[tuple[str, Advancing]]
    ) -> None:
        self.code, self.types, self.steps = code, types, steps

    def advance(self, current: list[list[str]]) -> list[list[str]]:
        """See `PairStep.advance`; each step comes with whether its column is there."""
        for is_there, step in self.steps:
            following = step.advance(current)
            current = [
                [
                    self.code.value(f"select i1 {is_there}, {type_} {new}, {type_} {old}")
                    for new, old in zip(made, before, strict=True)
                ]
                for type_, made, before in zip(self.types, following, current, strict=True)
            ]
        return current
