"""Teams: the threads of a block that have the same rows, each of them other columns.

A task of few rows leaves threads of a block without rows of their own.  So a task's rows are given
to as many groups of rows as they fill, and all threads are divided among these: each group has a
team, whose members take the columns of a tile in turn.  How many there are is known when the task
is.  Neighbouring threads have neighbouring groups, so that most threads of a warp have the same
columns; those of neighbouring members are neighbours, so no two of them are in one bank of shared
memory.
"""

from __future__ import annotations

from collections.abc import Iterator

from redcomp.llvm_backend.code import Code
from redcomp.ptx.schedule import PtxSchedule
from redcomp.ptx.tile_sizes import MOST_COLUMNS
from redcomp.records import record


@record
class Stretch:
    """Columns of a tile that are taken by steps of one kind: a loop, all of i32.

    start, stop   the column of the first step, and that where no other one begins
    by            how far the columns of steps are from each other
    cols          columns of a step
    """

    start: str
    stop: str
    by: int | str
    cols: int


# Beyond the last column of every tile.
_NOWHERE = 1 << 20


class Team:
    """Operands: the place of a thread in a task of so many rows.

    groups    of rows, and the distance between the threads of neighbouring members
    members   of a team; `size` is the same number as i32
    member    number of the thread in its team; threads that are left have no team, and number
              `members`
    own_row   first row of the thread in the task
    """

    def __init__(self, code: Code, schedule: PtxSchedule, thread: str, rows: str) -> None:
        self._code, self._schedule = code, schedule
        above = self._integer("add", self._short(rows), schedule.rows - 1)
        groups = self._integer("udiv", above, schedule.rows)
        self.size = self._integer("udiv", schedule.threads, groups)
        number = self._short(thread)
        self._member = self._integer("udiv", number, groups)
        group = self._integer("sub", number, self._integer("mul", self._member, groups))
        self.groups, self.members, self.member = (
            self._long(n) for n in (groups, self.size, self._member)
        )
        self.own_row = self._long(self._integer("mul", group, schedule.rows))

    @property
    def is_first(self) -> str:
        """Whether the thread is the one that stores what its team has found."""
        return self._code.value(f"icmp eq i64 {self.member}, 0")

    @property
    def levels(self) -> str:
        """Of the tree in which members are joined: the binary logarithm of their number."""
        last = self._code.integer("sub", self.members, 1)
        zeros = self._code.call("i64", "llvm.ctlz.i64", ["i64", "i1"], [last, "false"])
        return self._code.integer("sub", 64, zeros)

    def tile(self) -> str:
        """The columns of a tile: as many whole steps as fit, or else columns for each member.

        A thread adds up at most `MOST_COLUMNS` of them.
        """
        schedule = self._schedule
        most = self._smaller(schedule.tile, self._integer("mul", self.size, MOST_COLUMNS))
        step = self._integer("mul", self.size, schedule.cols)
        is_step = self._code.value(f"icmp ule i32 {step}, {most}")
        unit = self._code.select(is_step, "i32", step, self._smaller(self.size, most))
        left = self._integer("urem", most, unit)
        return self._long(self._integer("sub", most, left))

    def stretches(self, count: str) -> Iterator[Stretch]:
        """The columns that the thread takes of a tile that has so many (i32): by steps, and what is
        left one by one.
        """
        code, cols = self._code, self._schedule.cols
        is_one = code.value(f"icmp ult i32 {self._member}, {self.size}")
        start = code.select(is_one, "i32", self._member, str(_NOWHERE))
        step = self._integer("mul", self.size, cols)
        whole = self._integer("sub", count, self._integer("urem", count, step))
        if cols > 1:
            yield Stretch(start, whole, step, cols)
        else:
            whole = "0"
        yield Stretch(self._integer("add", whole, start), count, self.size, 1)

    def _integer(self, op: str, a: str | int, b: str | int) -> str:
        return self._code.value(f"{op} i32 {a}, {b}")

    def _smaller(self, a: str | int, b: str | int) -> str:
        is_less = self._code.value(f"icmp ult i32 {a}, {b}")
        return self._code.select(is_less, "i32", str(a), str(b))

    def _short(self, number: str) -> str:
        return self._code.value(f"trunc i64 {number} to i32")

    def _long(self, number: str) -> str:
        return self._code.value(f"zext i32 {number} to i64")
