"""Steps of threads that share rows: each has pairs of columns, as products need them."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from redcomp.ir import Value
from redcomp.llvm_backend.emit import Loader
from redcomp.llvm_backend.tile_reduction import Advancing
from redcomp.ptx.mma import MEMBERS
from redcomp.ptx.products import Fragments, Grid
from redcomp.ptx.shared_rows import SharedRows
from redcomp.ptx.steps import Made, SpreadColumns, Step
from redcomp.ptx.tile import FilledTile
from redcomp.ptx.updates import MatrixUpdates, OwnColumn, UpdateStep


class SharedSteps:
    """Steps whose products are computed together, see `redcomp.ptx.steps`.

    rows       how threads share rows
    fragments  of the products of a pair
    updates    of wide states, if there are any
    count      columns of the tile (i32)
    """

    def __init__(
        self,
        tile: FilledTile,
        step: Step,
        rows: SharedRows,
        fragments: Sequence[Fragments],
        updates: MatrixUpdates | None,
        count: str,
    ) -> None:
        self.tile, self.step, self.fragments, self.updates = tile, step, fragments, updates
        self.count = count
        self.code, self.rest = tile.memory.code, rows.product.n
        # The thread's first column of a product, and that whose elements it reads.
        self.own, self.read = (
            self.code.value(f"trunc i64 {n} to i32") for n in (rows.first, rows.group)
        )

    def at(self, column: str, width: int) -> Advancing:
        """See `Steps`."""
        if width == self.rest:
            _, last = self._inside(column, self.read, 0)
            return self._masked(column, width, self._products([last]))
        starts = range(0, width, self.rest)
        own, read = ([self._moved(column, n, k) for k in starts] for n in (self.own, self.read))
        product = self._products(read)
        columns = SpreadColumns([self.tile.step(place, 2) for place in own], 2)
        neighbours = [OwnColumn(self._wide(place), k) for place in own for k in range(2)]
        return self.step(columns, 2 * len(own), self._made(neighbours), product=product)

    def known(self, grids: Mapping[Value, Grid], first: int, width: int) -> Advancing:
        """The step of so many columns from one of the tile on, of which all products are known."""
        start = first // MEMBERS

        def load(variable: Value, position: int | str, row: int, col: int) -> str:
            return grids[variable][row][start + col]

        return self._masked(str(first), width, load)

    def _masked(self, column: str, width: int, product: Loader) -> Advancing:
        """A step of columns of which some may not be there: the last one stands for these."""
        neighbours = [
            self._inside(column, self.own, start + k)
            for start in range(0, width, self.rest)
            for k in range(2)
        ]
        present, own = ([pair[n] for pair in neighbours] for n in range(2))
        columns = SpreadColumns([self.tile.step(place, 1) for place in own], 1)
        made = self._made([OwnColumn(self._wide(place)) for place in own])
        return self.step(columns, len(own), made, present, product=product)

    def _inside(self, column: str, own: str, offset: int) -> tuple[str, str]:
        """Whether there is a column of the tile, and its number or that of the last one."""
        code, count = self.code, self.count
        last = code.value(f"sub i32 {count}, 1")
        place = self._moved(column, own, offset)
        is_there = code.value(f"icmp slt i32 {place}, {count}")
        return is_there, code.select(is_there, "i32", place, last)

    def _made(self, columns: Sequence[OwnColumn]) -> Made | None:
        """How a step of some columns of the thread is made."""
        if self.updates is None:
            return None
        return functools.partial(UpdateStep, updates=self.updates, tile=self.tile, columns=columns)

    def _products(self, columns: Sequence[str]) -> Loader:
        """Loads the products of a row and a column of a step."""
        places = [self._wide(column) for column in columns] if self.fragments else []
        grids = {f.name: f.of_columns(self.tile, places) for f in self.fragments}
        return lambda variable, position, row, col: grids[variable][row][col]

    def _wide(self, column: str) -> str:
        return self.code.value(f"sext i32 {column} to i64")

    def _moved(self, column: str, own: str, offset: int) -> str:
        moved = self.code.value(f"add i32 {column}, {own}")
        return self.code.value(f"add i32 {moved}, {offset}") if offset else moved
