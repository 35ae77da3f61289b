"""Products of vectors of rows and columns for all pairs of a step, by products of matrices.

A thread has the elements of its rows in registers (`Fragments`), and reads those of columns from
the tile.  The sums that a lane gets are those of two rows and two neighbouring columns for each
product of matrices; all else that happens to a pair happens as everywhere.

A factor of float32 is the sum of what is left of it when it is rounded to the 11 bits of TF32 and
of the rest, of which instructions read 11 bits again.  The product of both rests is left out: so
three products of matrices err by at most 4 units of float32 of the sum of |x_k y_k|, besides
their sums.  Numbers that were stored in 16 bits are one part: their products are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from redcomp.ir import Hoisted, factors_of
from redcomp.llvm_backend.code import Code
from redcomp.llvm_backend.components import Visit
from redcomp.llvm_backend.emit import Emitter
from redcomp.ptx.kernel_code import KernelCode
from redcomp.ptx.mma import MEMBERS, PRODUCTS, MatrixProduct
from redcomp.ptx.multiprocessor import WARP
from redcomp.ptx.spelling import SHARED
from redcomp.ptx.tile import FilledTile, Tile

# Of the low 13 bits of float32, which TF32 has not: half of the last bit that it has, and the rest.
_HALF, _KEPT = 0x1000, -0x2000

# The parts of a factor, as instructions take them.
Factor = tuple[str, ...]


# The elements of each block of rows, for one product of matrices.
Left = list[list[Factor]]
# Products of the thread's pairs, by row and column.
Grid = list[list[str]]
# What a lane has of the products of blocks of rows with columns, by their numbers.
Sums = dict[tuple[int, int], list[str]]


class Multiplication:
    """The products of the vectors of the thread's rows with those of its columns."""

    def __init__(self, kernel: KernelCode, product: Hoisted) -> None:
        self.kernel, self.code = kernel, kernel.code
        self.name, self.product = product.variable, PRODUCTS[factors_of(product.definition)]
        self.of_rows, self.of_columns = product.definition.args
        self.depth = self.product.depth(self.of_rows.dim)
        self.chunk = self.product.chunk(self.of_rows.dim)
        self.steps = range(0, self.chunk, self.product.k)
        lane = self.code.integer("urem", kernel.thread, WARP)
        self.member, self.group = (self.code.integer(op, lane, MEMBERS) for op in ("urem", "udiv"))

    def left(self, first: int, numbers: Callable[[int], list[str]]) -> Left:
        """What each block of rows needs for the components from `first` on.

        `numbers` gives a component of all rows of the thread, at an offset from its member.
        """
        product, stride = self.product, self.kernel.schedule.row_stride
        known = {}
        for offsets in dict.fromkeys(k for _, k in product.a):
            of_rows = zip(*[numbers(first + k) for k in offsets], strict=True)
            known[offsets] = [factor(self.code, product, 0, own) for own in of_rows]
        return [
            [known[k][block + row // stride] for row, k in product.a]
            for block in range(0, self.kernel.schedule.rows, product.rows)
        ]

    def sums(self, rows: Sequence[Left], tile: Tile, base: str, columns: Sequence[str]) -> Sums:
        """The products of the rows, in steps of a chunk, with columns of a buffer.

        Each of the numbers (i64) is that of the column of the tile which the lane's group reads,
        for a product of matrices.
        """
        product, blocks = self.product, range(len(rows[0]))
        places = [tile.vector_place(self.name, base, c, self.member) for c in columns]
        sums = {(m, n): ["0.0"] * len(product.sums) for m in blocks for n in range(len(columns))}
        for first, factors in zip(self.steps, rows, strict=True):
            right = [self._right(place, first) for place in places]
            for a, b in product.terms:
                for m, n in sums:
                    left = [factor[a] for factor in factors[m]]
                    own = [factor[b] for factor in right[n]]
                    sums[m, n] = self.kernel.spelling.multiplied(
                        self.code, product, left, own, sums[m, n]
                    )
        return sums

    def grid(self, sums: Sums) -> Grid:
        """The products by row and column of the thread."""
        product, schedule = self.product, self.kernel.schedule
        columns = 2 * (1 + max(n for _, n in sums))
        grid = [[""] * columns for _ in range(schedule.rows)]
        for (m, n), found in sums.items():
            for (row, column), operand in zip(product.sums, found, strict=True):
                grid[product.rows * m + row // schedule.row_stride][2 * n + column] = operand
        return grid

    def _right(self, place: str, first: int) -> list[Factor]:
        """The elements of a column from a component on."""
        return [
            factor(self.code, self.product, 1, [self._loaded(place, first + k) for k in components])
            for components in self.product.b
        ]

    def _loaded(self, place: str, component: int) -> str:
        code, type_ = self.code, self.kernel.scalar
        source = code.at(place, type_, component, space=SHARED)
        return code.load(type_, source, self.kernel.size, SHARED)


class Fragments:
    """The thread's elements of vectors of rows that registers keep, and products with columns."""

    def __init__(self, kernel: KernelCode, emitter: Emitter, product: Hoisted) -> None:
        self.product = Multiplication(kernel, product)
        self.name, rows = product.variable, range(kernel.schedule.rows)

        def numbers(offset: int) -> list[str]:
            made = self.product
            place = kernel.code.integer("add", made.member, offset)
            visit = Visit(emitter, [made.of_rows], place, made.depth)
            (operands,) = visit.operands([(row, 0) for row in rows])
            return operands

        self.rows = [self.product.left(first, numbers) for first in self.product.steps]

    def of_columns(self, tile: FilledTile, columns: Sequence[str]) -> Grid:
        """The products of the thread's rows with its columns, by row and column."""
        return self.product.grid(self.product.sums(self.rows, tile.memory, tile.base, columns))


def factor(code: Code, product: MatrixProduct, side: int, numbers: Sequence[str]) -> Factor:
    """Neighbouring numbers of the first or the second factor, as the instructions take them."""
    return _PARTS[product.format](code, numbers, product.parts[side])


def _as_it_is(code: Code, numbers: Sequence[str], parts: int) -> Factor:
    return tuple(numbers)


def _tf32(code: Code, numbers: Sequence[str], parts: int) -> Factor:
    """A number of float32, rounded to TF32 (halves away from zero), and the rest; or one of TF32.

    Instructions read no further bits.
    """
    (operand,) = numbers
    bits = code.value(f"bitcast float {operand} to i32")
    if parts == 1:
        return (bits,)
    rounded = code.value(f"and i32 {code.value(f'add i32 {bits}, {_HALF}')}, {_KEPT}")
    as_float = code.value(f"bitcast i32 {rounded} to float")
    rest = code.value(f"fsub float {operand}, {as_float}")
    return rounded, code.value(f"bitcast float {rest} to i32")


def _f16(code: Code, numbers: Sequence[str], parts: int) -> Factor:
    """Two numbers of float16."""
    return (_joined(code, numbers, "half"),)


def _bf16(code: Code, numbers: Sequence[str], parts: int) -> Factor:
    """Two numbers rounded to bfloat16, and what rounding cuts off, rounded again."""
    found = []
    for part in range(parts):
        joined = _joined(code, numbers, "bfloat")
        found.append(code.value(f"bitcast <2 x bfloat> {joined} to i32"))
        if part + 1 < parts:
            halves = (f"shl i32 {found[-1]}, 16", f"and i32 {found[-1]}, {-0x10000}")
            widened = [code.value(f"bitcast i32 {code.value(half)} to float") for half in halves]
            numbers = [
                code.value(f"fsub float {number}, {rounded}")
                for number, rounded in zip(numbers, widened, strict=True)
            ]
    return tuple(found)


def _joined(code: Code, numbers: Sequence[str], type_: str) -> str:
    """Two numbers of float32, rounded to 16 bits, in one register."""
    pair = "poison"
    for n, number in enumerate(numbers):
        pair = code.value(f"insertelement <2 x float> {pair}, float {number}, i64 {n}")
    return code.value(f"fptrunc <2 x float> {pair} to <2 x {type_}>")


# How numbers become operands, by the format of these.
_PARTS: Mapping[str, Callable[[Code, Sequence[str], int], Factor]] = {
    "f64": _as_it_is,
    "tf32": _tf32,
    "f16": _f16,
    "bf16": _bf16,
}
