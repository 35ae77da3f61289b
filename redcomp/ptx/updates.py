"""Updates of wide states for all pairs of a step, by products of matrices.

A thread has the numbers of two neighbouring columns out of eight, as it has the sums of a product:
that is what it needs as elements of the first factor, if the columns are counted in another order,
in which they may be added up as well.  So numbers stay where they are, and the thread reads the
vectors of its own two columns as elements of the second factor.

Tensor cores cut off what their sums of float32 have beyond 24 bits.  So the sums of a step start
from zero, and are added to the state by instructions that round; the small parts of products come
first.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence

from redcomp.errors import CompilerError
from redcomp.ir import Nest, Value, depending_on, factors_of, topological
from redcomp.llvm_backend.emit import Emitter
from redcomp.llvm_backend.pair_step import PairStep
from redcomp.ptx.kernel_code import KernelCode
from redcomp.ptx.mma import MEMBERS, UPDATES, MatrixProduct, padded
from redcomp.ptx.products import Factor, factor
from redcomp.ptx.shared_rows import SharedMemory
from redcomp.ptx.spelling import SHARED
from redcomp.ptx.tile import FilledTile
from redcomp.records import record

_ZERO = "0.0"


@record
class OwnColumn:
    """A column of a step that the thread has.

    place    its number in the tile (i64) is this one
    beyond   and so many more
    """

    place: str
    beyond: int = 0


@record
class _Adding:
    """What a column adds: its number in each row, and the lane's component from one on."""

    numbers: Sequence[str]
    component: Callable[[int], str]


class MatrixUpdates:
    """Adds to wide states what the pairs of a step do."""

    def __init__(self, kernel: KernelCode, sums: SharedMemory) -> None:
        self.kernel, self.code, self.sums = kernel, kernel.code, sums
        self.rows = sums.rows

    def add(self, updated: Value, adding: Sequence[_Adding]) -> None:
        """Update a state by the thread's columns: the two neighbours of each eight in turn."""
        state, product = updated.args[0], UPDATES[factors_of(updated)]
        rows, stride = self.kernel.schedule.rows, self.kernel.schedule.row_stride
        left = self._operands(product, 0, (column.numbers for column in adding))
        for first in range(0, padded(state.dim), product.n):
            right = self._operands(product, 1, ([c.component(first)] for c in adding))
            for block in range(0, rows, product.rows):
                found = self._multiplied(product, left, right, block)
                for (row, column), operand in zip(product.sums, found, strict=True):
                    place = first // MEMBERS + column
                    self._add(state, operand, place, block + row // stride)

    def adding(
        self,
        tile: FilledTile,
        matrix: Value,
        column: OwnColumn,
        numbers: Sequence[str],
        is_there: str,
    ) -> _Adding:
        """What a column adds by its vector in a matrix; nothing where it is not there."""
        pointer = tile.memory.vector_place(matrix, tile.base, column.place, self.rows.group)
        kernel, type_ = self.kernel, self.kernel.scalar
        offset = column.beyond * kernel.layout.matrices[matrix][0].width

        def component(first: int) -> str:
            place = self.code.at(pointer, type_, offset + first, space=SHARED)
            return there(self.code.load(type_, place, kernel.size, SHARED))

        def there(operand: str) -> str:
            return self.code.select(is_there, type_, operand, _ZERO) if is_there else operand

        return _Adding([there(number) for number in numbers], component)

    def _operands(
        self, product: MatrixProduct, side: int, columns: Iterable[Sequence[str]]
    ) -> list[list[Factor]]:
        """What instructions take of one side, for each row, from the numbers of columns.

        The thread's columns are every fourth k; what whole instructions lack is zero.
        """
        found: list[list[Factor]] = []
        own: list[Sequence[str]] = []
        for column in columns:
            own.append(column)
            if len(own) == product.packed:
                found.append([factor(self.code, product, side, n) for n in zip(*own, strict=True)])
                own = []
        lacking = -len(found) % len(product.b)
        nothing = [("zeroinitializer",) * product.parts[side]] * len(found[0])
        return [*found, *[nothing] * lacking]

    def _multiplied(
        self,
        product: MatrixProduct,
        left: Sequence[Sequence[Factor]],
        right: Sequence[Sequence[Factor]],
        block: int,
    ) -> list[str]:
        """The sums over the columns of the step, for a block of rows."""
        stride, sums = self.kernel.schedule.row_stride, [_ZERO] * len(product.sums)

        def place(offsets: Sequence[int]) -> int:
            return offsets[0] // MEMBERS // product.packed

        for first in range(0, len(right), len(product.b)):
            for a, b in reversed(product.terms):
                of_rows = [left[first + place(k)][block + row // stride][a] for row, k in product.a]
                of_columns = [right[first + place(k)][0][b] for k in product.b]
                sums = self.kernel.spelling.multiplied(
                    self.code, product, of_rows, of_columns, sums
                )
        return sums

    def _add(self, state: Value, operand: str, place: int, row: int) -> None:
        code, memory = self.code, self.sums.memory
        before = memory.load(code, state, place, row)
        added = code.value(f"fadd {self.kernel.scalar} {before}, {operand}")
        memory.store(code, added, state, place, row)


class UpdateStep(PairStep):
    """A step whose wide states are updated by products of matrices.

    Lanes that share rows adjust their states together: for the largest of all exponents of a row.

    columns   those of the thread, two of each eight
    """

    def __init__(
        self,
        nest: Nest,
        emitter: Emitter,
        present: Sequence[str],
        *,
        updates: MatrixUpdates,
        tile: FilledTile,
        columns: Sequence[OwnColumn],
    ) -> None:
        super().__init__(nest, emitter, updates.sums, present)
        self.updates, self.tile, self.columns = updates, tile, columns
        self.updated = [s.step for s in nest.states if s.step.op == "update"]

    def read_by_vectors(self) -> list[Value]:
        numbers = dict.fromkeys(value.args[1] for value in self.updated)
        return [n for n in numbers if n in depending_on([n], self.variables)]

    def advance_vectors(self) -> None:
        emitter, rows = self.emitter, range(self.emitter.rows)
        emitter.emit(value.args[1] for value in self.updated)
        for value in self.updated:
            _, number, matrix = value.args
            adding = []
            for col, column in enumerate(self.columns):
                numbers = [emitter.operand(number, row, col, True) for row in rows]
                is_there = self.present[col] if self.present else ""
                adding.append(self.updates.adding(self.tile, matrix, column, numbers, is_there))
            self.updates.add(value, adding)

    def adjusted(self, current: list[list[str]]) -> list[list[str]]:
        """The scalar states after adjusting all for the largest exponent, where that is too large.

        A column that is not there is another one again, which does no harm here.  Guards and
        adjustments depend on the pair by the exponent only (`passes.updates`).
        """
        emitter, nest = self.emitter, self.nest
        (guard,) = nest.guards
        exponent, rows = guard.args[0], range(emitter.rows)
        guarding = emitter.prepare(nest.guards, self.variables)
        largest = [self._largest(exponent, row) for row in rows]
        emitter.enter()
        emitter.bind(exponent, largest)
        self._check_adjustments(exponent)
        of_rows = [[state[row] for state in current] for row in rows]
        truths = []
        for row in rows:
            with emitter.at_pair(self.variables, of_rows[row], guarding, row, 0):
                truths.append(emitter.operand(guard, row, 0, True))
        carried = [
            (type_, operand)
            for type_, state in zip(self.types(), current, strict=True)
            for operand in state
        ]
        with self.code.when(emitter.any_lane(truths), carried, is_rare=True) as after:
            made = [self.adjust_pair(of_rows[row], row, 0) for row in rows]
            after[:] = [operand for state in zip(*made, strict=True) for operand in state]
        emitter.leave()
        return [after[n * len(rows) : (n + 1) * len(rows)] for n in range(len(current))]

    def _largest(self, exponent: Value, row: int) -> str:
        """The largest exponent of a row in the step, which all threads that share the row know."""
        emitter, spelling = self.emitter, self.updates.kernel.spelling
        type_ = emitter.type_of(exponent.dtype, True)
        own = [emitter.operand(exponent, row, col, True) for col in range(emitter.cols)]
        found = functools.reduce(self._larger, own)
        distance = 1
        while distance < MEMBERS:
            found = self._larger(found, spelling.exchanged(self.code, type_, found, distance))
            distance *= 2
        return found

    def _larger(self, a: str, b: str) -> str:
        """The larger of two numbers."""
        code, type_ = self.code, self.updates.kernel.scalar
        name = self.emitter.target.extremes.get(("ogt", self.nest.dtype))
        if name is not None:
            return code.call(type_, name, [type_, type_], [a, b])
        is_larger = code.value(f"fcmp ogt {type_} {b}, {a}")
        return code.value(f"select i1 {is_larger}, {type_} {b}, {type_} {a}")

    def _check_adjustments(self, exponent: Value) -> None:
        adjusts = [*self.nest.guards, *(state.adjust for state in self.nest.states)]
        known = {exponent, *(state.variable for state in self.nest.states)}
        if any(v.op == "variable" and v.dependence for v in topological(adjusts, known)):
            raise CompilerError("an adjustment of shared states reads more of a pair than allowed")
