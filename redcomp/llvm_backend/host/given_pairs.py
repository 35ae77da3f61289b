"""Arrays with a vector for each pair: copied tile by tile into records of lanes.

Each element is read once.  A record is what a vector of rows has at one column; those of a column
lie side by side.  Memory is `Layout.pairs` for the rows of a step and the columns of a tile.
"""

from __future__ import annotations

from redcomp.ir import Value
from redcomp.llvm_backend.code import Code
from redcomp.llvm_backend.emit import Loader
from redcomp.llvm_backend.host.kernel_code import HostCode

# What it needs beside the columns' own: the records, the task's rows, and the arrays' second axis.
PARAMETERS = "ptr noalias %given, i64 %row, i64 %last, i64 %second_axis"


class GivenPairs:
    """The part of the pair loop that reads what is given for each pair."""

    def __init__(self, kernel: HostCode, code: Code) -> None:
        self.kernel, self.code, self.record = kernel, code, kernel.layout.pairs
        self.rows, self.lanes = kernel.schedule.rows, kernel.lanes

    def at(self, column: str) -> Loader:
        """Loads components for a vector of rows of the step and its columns, from this one on."""
        pointer = self._records(column) if self.record.variables else ""
        records = self.kernel.lanes_at(self.record, pointer)
        return lambda variable, position, row, col: records.load(
            self.code, variable, position, col * self.rows + row
        )

    def pack(self, block: str) -> None:
        """Copy all that is given for the rows of a step and a tile of `%count` columns."""
        for variable in self.record.variables:
            by_rows = variable["kind"] == "ij"  # in the order in which the array lies in memory
            stops: list[int | str] = [self.rows * self.lanes, "%count"]
            outer_stop, inner_stop = stops if by_rows else stops[::-1]
            code, steps = self.code, self._steps(variable)
            source = self.kernel.argument(code, variable)
            with code.loop(0, outer_stop, 1) as outer, code.loop(0, inner_stop, 1) as inner:
                counters = outer.counter, inner.counter
                lane, column = counters if by_rows else counters[::-1]
                row = code.integer("mul", self._row(block, lane), steps[0])
                at = code.integer("mul", code.integer("add", "%first", column), steps[1])
                start = code.at(source, self.kernel.scalar, row, at)
                target = self._place(variable, lane, column)
                self.kernel.copy(code, start, 1, target, self.lanes, variable.dim)

    def _row(self, block: str, lane: str) -> str:
        """The number of a lane's row; beyond the last row, the last row again."""
        code = self.code
        last = code.integer("sub", "%last", 1)
        first = code.integer("add", "%row", code.integer("mul", block, self.lanes))
        return code.smaller(code.integer("add", first, lane), last)

    def _place(self, variable: Value, lane: str, column: str) -> str:
        """Where a variable's first component is for a lane of the step's rows and a column."""
        code, vector = self.code, self.code.integer("udiv", lane, self.lanes)
        offset = code.integer("mul", vector, self.record.width * self.lanes)
        record = code.at(self._records(column), self.kernel.scalar, offset)
        place = self.kernel.lanes_at(self.record, record).place(code, variable, 0)
        return code.at(place, self.kernel.scalar, code.integer("urem", lane, self.lanes))

    def _records(self, column: str) -> str:
        """The pointer to the records of a column."""
        size = self.rows * self.record.width * self.lanes
        return self.code.at("%given", self.kernel.scalar, self.code.integer("mul", column, size))

    def _steps(self, variable: Value) -> tuple[int | str, int | str]:
        """Components from row to row and from column to column of an array."""
        by_rows = variable["kind"] == "ij"
        long_step = self.code.integer("mul", "%second_axis", variable.dim)
        return (long_step, variable.dim) if by_rows else (variable.dim, long_step)
