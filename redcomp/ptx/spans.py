"""Tiles after which partial sums are merged together, where a merge costs much."""

from __future__ import annotations

from redcomp.llvm_backend.tile_reduction import TileReduction
from redcomp.ptx.kernel_code import ThreadMemory
from redcomp.records import record


@record
class Span:
    """Tiles between two merges: the scalar states are kept from one to the next.

    memory    for them
    is_first  whether the tile is the first of them (i1)
    is_last   or the last
    """

    memory: ThreadMemory
    is_first: str
    is_last: str

    def start(self, reduction: TileReduction) -> list[list[str]]:
        """The states before the tile."""
        code, emitter = reduction.code, reduction.emitter
        with code.when(self.is_first):
            emitter.enter()
            self._keep(reduction, reduction.start())
            emitter.leave()
        rows = range(emitter.rows)
        return [[self.memory.load(code, v, 0, row) for row in rows] for v in reduction.variables]

    def merge(self, reduction: TileReduction, states: list[list[str]]) -> None:
        """Keep the states after the tile, or merge them into the totals."""
        self._keep(reduction, states)
        with reduction.code.when(self.is_last):
            reduction.emitter.enter()
            reduction.merge(states)
            reduction.emitter.leave()

    def _keep(self, reduction: TileReduction, states: list[list[str]]) -> None:
        for variable, operands in zip(reduction.variables, states, strict=True):
            for row, operand in enumerate(operands):
                self.memory.store(reduction.code, operand, variable, 0, row)
