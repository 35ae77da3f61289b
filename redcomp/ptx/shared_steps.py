"""Steps of threads that share rows: each has pairs of columns, as products need them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from redcomp.errors import CompilerError
from redcomp.ir import Value
from redcomp.llvm_backend.code import Code
from redcomp.llvm_backend.emit import Loader
from redcomp.llvm_backend.tile_reduction import Advancing
from redcomp.ptx.products import Fragments
from redcomp.ptx.shared_rows import SharedRows
from redcomp.ptx.steps import Made, Step
from redcomp.ptx.tile import FilledTile, StepColumns
from redcomp.ptx.updates import MatrixUpdates, OwnColumn, UpdateStep


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


class SharedSteps:
    """Steps whose products are computed together, see `redcomp.ptx.steps`.

    rows       how threads share rows
    fragments  of the product of a pair, if it needs one
    updates    of wide states, if there are any
    count      columns of the tile (i32)
    types      of the scalar states
    """

    def __init__(
        self,
        tile: FilledTile,
        step: Step,
        rows: SharedRows,
        fragments: Fragments | None,
        updates: MatrixUpdates | None,
        count: str,
        types: Sequence[str],
    ) -> None:
        self.tile, self.step, self.fragments, self.updates = tile, step, fragments, updates
        self.count, self.types = count, types
        self.code, self.rest = tile.memory.code, rows.product.n
        # The thread's first column of a product, and that whose elements it reads.
        self.own, self.read = (
            self.code.value(f"trunc i64 {n} to i32") for n in (rows.first, rows.group)
        )

    def at(self, column: str, width: int) -> Advancing:
        """See `Steps`."""
        if width == self.rest:
            return self._masked(column)
        starts = range(0, width, self.rest)
        own, read = ([self._moved(column, n, k) for k in starts] for n in (self.own, self.read))
        product = self._products(read)
        columns = SpreadColumns([self.tile.step(place, 2) for place in own], 2)
        neighbours = [OwnColumn(self._wide(place), k) for place in own for k in range(2)]
        return self.step(columns, 2 * len(own), self._made(neighbours), product=product())

    def _masked(self, column: str) -> InTurn:
        """The last columns, of which some may not be there: the last one stands for these."""
        code = self.code
        last = code.value(f"sub i32 {self.count}, 1")

        def inside(place: str) -> tuple[str, str]:
            is_there = code.value(f"icmp slt i32 {place}, {self.count}")
            return is_there, code.value(f"select i1 {is_there}, i32 {place}, i32 {last}")

        _, read = inside(self._moved(column, self.read, 0))
        product = self._products([read])
        steps: list[Advancing] = []
        for k in range(2):
            is_there, own = inside(self._moved(column, self.own, k))
            neighbours: list[OwnColumn | None] = [None, None]
            neighbours[k] = OwnColumn(self._wide(own), is_there=is_there)
            made, columns = self._made(neighbours), self.tile.step(own, 1)
            step = self.step(columns, 1, made, product=product(k))
            steps.append(step if self.updates else Masked(code, self.types, is_there, step))
        return InTurn(steps)

    def _made(self, columns: Sequence[OwnColumn | None]) -> Made | None:
        """How a step of some columns of the thread is made."""
        if self.updates is None:
            return None
        return functools.partial(UpdateStep, updates=self.updates, tile=self.tile, columns=columns)

    def _products(self, columns: Sequence[str]) -> Callable[..., Loader]:
        """Load the products of a row and a column, from the step's k-th column on."""
        if self.fragments is None:
            return lambda first=0: _no_product
        grid = self.fragments.of_columns(self.tile, [self._wide(column) for column in columns])
        return functools.partial(_from, grid)

    def _wide(self, column: str) -> str:
        return self.code.value(f"sext i32 {column} to i64")

    def _moved(self, column: str, own: str, offset: int) -> str:
        moved = self.code.value(f"add i32 {column}, {own}")
        return self.code.value(f"add i32 {moved}, {offset}") if offset else moved


def _no_product(variable: Value, position: int | str, row: int, col: int) -> str:
    raise CompilerError("a step has no product")


def _from(grid: Sequence[Sequence[str]], first: int = 0) -> Loader:
    """Loads the product of a row and a column."""
    return lambda variable, position, row, col: grid[row][first + col]


class InTurn:
    """Steps of one column after the other: the columns that remain of a tile."""

    def __init__(self, steps: Sequence[Advancing]) -> None:
        self.steps = steps

    def advance(self, current: list[list[str]]) -> list[list[str]]:
        """See `PairStep.advance`."""
        for step in self.steps:
            current = step.advance(current)
        return current


class Masked:
    """A step of a column that some lanes have not: what it makes there is dropped.

    No thread goes another way, because all of them take part in the products.
    """

    def __init__(self, code: Code, types: Sequence[str], is_there: str, step: Advancing) -> None:
        self.code, self.types, self.is_there, self.step = code, types, is_there, step

    def advance(self, current: list[list[str]]) -> list[list[str]]:
        """See `PairStep.advance`."""
        following = self.step.advance(current)
        return [
            [
                self.code.value(f"select i1 {self.is_there}, {type_} {new}, {type_} {old}")
                for new, old in zip(made, before, strict=True)
            ]
            for type_, made, before in zip(self.types, following, current, strict=True)
        ]
