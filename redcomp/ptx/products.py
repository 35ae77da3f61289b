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
from redcomp.llvm_backend.emit import Emitter
from redcomp.ptx.kernel_code import KernelCode
from redcomp.ptx.mma import MEMBERS, PRODUCTS, MatrixProduct
from redcomp.ptx.multiprocessor import WARP
from redcomp.ptx.spelling import SHARED
from redcomp.ptx.tile import FilledTile

# Of the low 13 bits of float32, which TF32 has not: half of the last bit that it has, and the rest.
_HALF, _KEPT = 0x1000, -0x2000

# The parts of a factor, as instructions take them.
Factor = tuple[str, ...]


class Fragments:
    """The thread's elements of the vectors of rows, and products with those of columns."""

    def __init__(self, kernel: KernelCode, emitter: Emitter, product: Hoisted) -> None:
        self.kernel, self.code, self.emitter = kernel, kernel.code, emitter
        self.name, self.product = product.variable, PRODUCTS[product.variable.dtype]
        rows, _ = product.definition.args
        self.depth = self.product.depth(rows.dim)
        lane = self.code.integer("urem", kernel.thread, WARP)
        self.member, self.group = (self.code.integer(op, lane, MEMBERS) for op in ("urem", "udiv"))
        self.rows = [self._factors(rows, k) for k in range(0, self.depth, self.product.k)]

    def _factors(self, vector: Value, first: int) -> list[list[Factor]]:
        """What each block of rows needs for the components from `first` on."""
        places = dict.fromkeys(k for _, k in self.product.a)
        known = {k: self._elements(vector, first + k) for k in places}
        own, stride = self.product.rows, self.kernel.schedule.row_stride
        return [
            [known[k][block + row // stride] for row, k in self.product.a]
            for block in range(0, self.kernel.schedule.rows, own)
        ]

    def _elements(self, vector: Value, offset: int) -> list[Factor]:
        """A component of all rows of the thread, at an offset from its member."""
        code = self.code
        place = code.integer("add", self.member, offset)
        rows = range(self.kernel.schedule.rows)
        (operands,) = components_at(self.emitter, [vector], place, rows, self.depth)
        return [self._parts(operand) for operand in operands]

    def _parts(self, operand: str) -> Factor:
        return parts_of(self.code, self.product, operand)

    def of_columns(self, tile: FilledTile, columns: Sequence[str]) -> list[list[str]]:
        """The products of the thread's rows with its columns, by row and column.

        Each of the numbers (i64) is that of the column of the tile which the lane's group reads,
        for a product of matrices.
        """
        product, rows = self.product, self.kernel.schedule.rows
        blocks = range(len(self.rows[0]))
        places = [tile.memory.vector_place(self.name, tile.base, c, self.member) for c in columns]
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

    def _columns(self, place: str, first: int) -> list[Factor]:
        """The elements of a column from a component on."""
        code, type_ = self.code, self.kernel.scalar
        loaded = (
            code.load(
                type_, code.at(place, type_, first + k, space=SHARED), self.kernel.size, SHARED
            )
            for k in self.product.b
        )
        return [self._parts(operand) for operand in loaded]


def parts_of(code: Code, product: MatrixProduct, operand: str) -> Factor:
    """A factor as the instructions of a product take it."""
    return _split(code, operand) if len(product.terms) > 1 else (operand,)


def _split(code: Code, operand: str) -> Factor:
    """A number of float32, rounded to TF32 (halves away from zero), and the rest."""
    bits = code.value(f"bitcast float {operand} to i32")
    rounded = code.value(f"and i32 {code.value(f'add i32 {bits}, {_HALF}')}, {_KEPT}")
    as_float = code.value(f"bitcast i32 {rounded} to float")
    rest = code.value(f"fsub float {operand}, {as_float}")
    return rounded, code.value(f"bitcast float {rest} to i32")
