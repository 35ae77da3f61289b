"""The kernel that joins the totals of parts of the columns, where they are split.

A task is a group of rows.  Each row has some lanes, which are threads of the block.  A lane joins
the totals of parts that lie side by side; then the lanes of a row are joined in pairs of
neighbours, of which the first half of a pair keeps the result.  So totals are joined in the order
of the columns, which is the same in each call: of equal extrema the first one wins.
"""

from __future__ import annotations

from redcomp.abi import GPU_JOIN, JOIN_THREADS
from redcomp.llvm_backend.records import Record
from redcomp.ptx.kernel_code import Entry, ThreadMemory
from redcomp.ptx.spelling import SHARED, shared_array
from redcomp.ptx.task_kernel import Task, TaskKernel
from redcomp.records import record

_BITS = JOIN_THREADS.bit_length() - 1


@record
class _Lane:
    """Operands: what a thread joins.

    entry      of the batch
    number     of its lane among those of its row
    height     rows of the group, and the distance between the threads of neighbouring lanes
    place      of its row in the block of rows
    row        the row's number
    is_row     whether there is such a row
    first      number of its first part
    share      parts of a lane
    stop       number of the part after the last one, of all lanes
    has_parts  whether there is such a row, and parts are left for the lane
    """

    entry: Entry
    number: str
    height: str
    place: str
    row: str
    is_row: str
    first: str
    share: str
    stop: str
    has_parts: str


class JoinKernel(TaskKernel):
    """redcomp_join: joins the totals of a group of rows and stores their results.

    Few totals are joined in registers, and lanes exchange them through shared memory; many stay
    where they are, and a lane's first part becomes what it has joined.
    """

    job = GPU_JOIN

    @property
    def limits(self) -> tuple[int, int]:
        return JOIN_THREADS, 1

    def shared_memory(self) -> str:
        if not self.layout.joins_in_registers:
            return ""
        size = self.layout.totals.width * JOIN_THREADS * self.layout.total_size
        return shared_array(self._exchange_name, size)

    @property
    def _exchange_name(self) -> str:
        return f"@exchange{self.part_number}"

    def text(self, name: str) -> str:
        """The kernel."""
        in_registers = self._registers() if self.layout.joins_in_registers else None
        with self.tasks() as number:
            entry = self.enter(number)
            record, group = (
                self.code.integer(op, entry.task, "%groups") for op in ("sdiv", "srem")
            )
            lane = self._lane(entry, self.task(record), group)
            own = entry.partial(self.layout.totals, lane.first, lane.place)
            totals = in_registers or own
            with self.code.when(lane.has_parts):
                if in_registers is not None:
                    self.copy(own, totals)
                self._join_parts(lane, totals)
            self._join_lanes(lane, totals)
            is_first = self.code.value(f"icmp eq i64 {lane.number}, 0")
            with self.code.when(self.code.value(f"and i1 {lane.is_row}, {is_first}")):
                self.finish_row(entry, lane.row, totals, lane.place)
        return self.function(name)

    def computed_task(self, number: str) -> tuple[str, ...]:
        start = self.code.integer("mul", number, "%splits")
        stop = self.code.integer("add", start, "%splits")
        return *self.block(number), start, stop, "-1"

    def _lane(self, entry: Entry, task: Task, group: str) -> _Lane:
        """What this thread joins."""
        code = self.code
        height = code.integer("shl", 1, code.integer("sub", _BITS, "%lane_bits"))
        number, within = (code.integer(op, self.thread, height) for op in ("udiv", "urem"))
        place = code.integer("add", code.integer("mul", group, height), within)
        row = code.integer("add", task.first, place)
        is_row = code.value(f"icmp slt i64 {row}, {task.last}")
        lanes = code.integer("shl", 1, "%lane_bits")
        parts = code.integer("sub", task.stop, task.start)
        above = code.integer("sub", code.integer("add", parts, lanes), 1)
        share = code.integer("lshr", above, "%lane_bits")
        first = code.integer("add", task.start, code.integer("mul", number, share))
        has_parts = code.value(
            f"and i1 {is_row}, {code.value(f'icmp slt i64 {first}, {task.stop}')}"
        )
        return _Lane(entry, number, height, place, row, is_row, first, share, task.stop, has_parts)

    def _join_parts(self, lane: _Lane, totals: ThreadMemory) -> None:
        """Join all parts of a lane; where lanes exchange totals, it leaves them."""
        code = self.code
        end = code.smaller(code.integer("add", lane.first, lane.share), lane.stop)
        with code.loop(code.integer("add", lane.first, 1), end, 1) as part:
            self.join(totals, lane.entry.partial(self.layout.others, part.counter, lane.place))
        if self.layout.joins_in_registers:
            self.copy(totals, self._exchange(self.layout.totals, self.thread))

    def _join_lanes(self, lane: _Lane, totals: ThreadMemory) -> None:
        """Join neighbours, then neighbours among those that are left, until there is one lane."""
        code = self.code

        def part(distance: str) -> str:
            return code.integer("add", lane.first, code.integer("mul", lane.share, distance))

        def exists(distance: str) -> str:
            return code.value(f"icmp slt i64 {part(distance)}, {lane.stop}")

        for distance, goes_on in self.neighbours("%lane_bits", lane.number, exists):
            with code.when(code.value(f"and i1 {lane.is_row}, {goes_on}")):
                if self.layout.joins_in_registers:
                    far = code.integer("mul", lane.height, distance)
                    thread = code.integer("add", self.thread, far)
                    self.join(totals, self._exchange(self.layout.others, thread))
                    self.copy(totals, self._exchange(self.layout.totals, self.thread))
                else:
                    others = lane.entry.partial(self.layout.others, part(distance), lane.place)
                    self.join(totals, others)
        if self.layout.joins_in_registers:
            self.spelling.barrier(code)  # before what is exchanged changes for the next task

    # -- memory ------------------------------------------------------------------------------------

    def _registers(self) -> ThreadMemory:
        """Memory that LLVM turns into registers."""
        totals, bits = self.layout.totals, 8 * self.layout.total_size
        return ThreadMemory(totals, self.code.value(f"alloca [{totals.width} x i{bits}]"), 0, 1, 1)

    def _exchange(self, record: Record, thread: str) -> ThreadMemory:
        """Where a thread of the block leaves its totals for others."""
        type_ = f"i{8 * self.layout.total_size}"
        own = self.code.at(self._exchange_name, type_, thread, space=SHARED)
        return ThreadMemory(record, own, SHARED, JOIN_THREADS, 1)
