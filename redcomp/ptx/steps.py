"""Which columns of a tile a step of the pair loop has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from redcomp.ir import Nest, Value
from redcomp.llvm_backend.emit import Emitter, Loader
from redcomp.llvm_backend.tile_reduction import Advancing
from redcomp.ptx.tile import FilledTile, StepColumns


class Columns(Protocol):
    """The columns of a step that a thread has."""

    def load(self, variable: Value, position: int | str, row: int, col: int) -> str:
        """A component of what belongs to a column."""

    def number(self, col: int) -> str:
        """The number of a column."""


# Makes a step of a nest from the emitter of its columns, and of which there are.
Made = Callable[[Nest, Emitter, Sequence[str]], Advancing]


class Step(Protocol):
    """Makes the step of so many columns, in the usual way or in another one.

    It is given loaders of what is not in the tile.
    """

    def __call__(
        self,
        columns: Columns,
        cols: int,
        made: Made | None = None,
        present: Sequence[str] = (),
        **more: Loader,
    ) -> Advancing: ...


class Steps(Protocol):
    """Makes the steps at columns of a tile."""

    def at(self, column: str, width: int) -> Advancing:
        """The step of all threads that share rows, of so many columns from this one (i32) on."""


class PlainSteps:
    """A thread has all columns of a step."""

    def __init__(self, tile: FilledTile, step: Step) -> None:
        self.tile, self.step = tile, step

    def at(self, column: str, width: int) -> Advancing:
        """See `Steps`."""
        return self.step(self.tile.step(column, width), width)


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


class TeamSteps:
    """Steps of one member of a team: every so many columns of a tile, see `redcomp.ptx.steps`."""

    def __init__(self, tile: FilledTile, step: Step, members: str) -> None:
        self.tile, self.step, self.members = tile, step, members

    def at(self, column: str, width: int) -> Advancing:
        """See `Steps`."""
        return self.step(SpreadColumns(self.tile.apart(column, width, self.members), 1), width)
