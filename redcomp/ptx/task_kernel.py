"""What kernels of tasks have in common: they read tasks, and finish the results of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from redcomp.abi import TASK
from redcomp.ir import SIZES, Value, topological
from redcomp.llvm_backend.code import Code
from redcomp.llvm_backend.components import by_kind, store_all
from redcomp.llvm_backend.emit import Loader
from redcomp.llvm_backend.memory import Memory, all_positions
from redcomp.llvm_backend.records import scans_of
from redcomp.llvm_backend.spelling import LLVM_TYPES
from redcomp.llvm_backend.tile_reduction import joins_of, store_totals
from redcomp.ptx.kernel_code import Entry, KernelCode, ThreadMemory
from redcomp.ptx.schedule import PlannedPart
from redcomp.ptx.shared_rows import SharedRows
from redcomp.ptx.spelling import GLOBAL, Spelling
from redcomp.records import record
from redcomp.target import Target


@record
class Task:
    """Operands: rows, number of the totals (-1 if it stores results), and what comes from where.

    With a table, as `has_table` says, `start` and `stop` are numbers of intervals, else of columns.
    """

    has_table: str

    first: str
    last: str
    start: str
    stop: str
    partial: str


class TaskKernel(KernelCode):
    """What both kernels of a part do: read tasks, and finish results."""

    def __init__(
        self,
        planned: PlannedPart,
        outputs: int,
        target: Target,
        spelling: Spelling,
        number: int,
    ) -> None:
        super().__init__(planned, outputs, target, spelling)
        self.part_number = number
        # Where threads that share rows have some components each of wide totals.
        self.shared: SharedRows | None = None

    @property
    def limits(self) -> tuple[int, int]:
        """The threads of a block, and the blocks that a multiprocessor is to hold at a time."""
        raise NotImplementedError

    def task(self, number: str) -> Task:
        """A task of an entry: from the table, or computed."""
        code = self.code
        has_table = code.value(f"icmp ne ptr addrspace({GLOBAL}) %table, null")
        computed = self.computed_task(number)
        with code.when(has_table, [("i64", operand) for operand in computed]) as words:
            first = code.integer("mul", number, len(TASK))
            for n, name in enumerate(("first", "last", "start", "stop", "partial")):
                words[n] = self.word_at("%table", first, TASK[name])
        return Task(has_table, *words)

    def computed_task(self, number: str) -> tuple[str, ...]:
        """The words of a dense task."""
        raise NotImplementedError

    def shared_memory(self) -> str:
        """The declarations of the shared memory of a block."""
        raise NotImplementedError

    def text(self, name: str) -> str:
        """The kernel under a name."""
        raise NotImplementedError

    def block(self, number: str) -> tuple[str, str]:
        """The first row of a block of rows, and the one after its last."""
        code = self.code
        height = "%height" if self.schedule.teams else self.schedule.block_rows
        first = code.integer("mul", number, height)
        return first, code.smaller(code.integer("add", first, height), "%rows")

    def finish(self, entry: Entry, task: Task, rows: Sequence[str], totals: Memory) -> None:
        """Compute and store the results of the thread's rows."""
        code, samples = self.code, self._samples(entry)
        for row in range(self.schedule.rows):
            load = self._result_loader(entry, rows[row], totals, row, samples)
            own = code.integer("add", task.first, self.own_row)
            number = code.integer("add", own, row * self.schedule.row_stride)
            is_row = code.value(f"icmp slt i64 {number}, {task.last}")
            alone = self._results(are_shared=False)
            with code.when(self.first_of_row(is_row)):
                self._store_results(entry, load, number, self.thread, alone)
            if self.shared is not None:
                together, positions = self._results(are_shared=True), self.shared.inside
                with code.when(is_row):
                    self._store_results(entry, load, number, self.thread, together, positions)

    def _results(self, *, are_shared: bool) -> list[int]:
        """The numbers of those that threads of one row compute together, or of the others."""
        is_shared = [self.shared is not None and value.dim > 1 for value in self.nest.results]
        return [n for n, own in enumerate(is_shared) if own == are_shared]

    def finish_row(self, entry: Entry, number: str, totals: Memory, place: str) -> None:
        """Compute and store the results of the row with a number, which has a place in a block."""
        load = self._result_loader(entry, number, totals, 0, self._samples(entry))
        self._store_results(entry, load, number, place, range(len(self.nest.results)))

    def _samples(self, entry: Entry) -> Mapping[int, str]:
        """The columns that stand for all, see `Entry.samples`; none if results need none."""
        values = topological(self.nest.results)
        needs_some = any(v.op == "variable" and v["kind"] == "j_sample" for v in values)
        return entry.samples() if needs_some else {}

    def _result_loader(
        self, entry: Entry, number: str, totals: Memory, row: int, samples: Mapping[int, str]
    ) -> Loader:
        return by_kind(
            j_sample=entry.sampled(samples),
            i=lambda v, k, _, col: entry.row(v, k, number),
            total=lambda v, k, _, col: totals.load(self.code, v, k, row),
            parameter=entry.parameter,
        )

    def _store_results(
        self,
        entry: Entry,
        load: Loader,
        row: str,
        place: str,
        numbers: Sequence[int],
        positions: Callable[[Code, int], Iterator[str]] = all_positions,
    ) -> None:
        """Store the results of some numbers: all components, or those at some positions."""
        code = self.code
        results = [self.nest.results[n] for n in numbers]
        pieces = [self.pieces[n] for n in numbers]
        starts = [code.integer("mul", row, piece.dim) for piece in pieces]

        def store(n: int, position: int | str, operand: str) -> None:
            type_, array = LLVM_TYPES[results[n].dtype], entry.arrays[pieces[n].result]
            place = code.at(array, type_, starts[n], pieces[n].first, position, space=GLOBAL)
            code.store(type_, operand, place, SIZES[results[n].dtype], GLOBAL)

        scans = self.states_memory(self.workspace(), place) if scans_of(results) else None
        store_all(self.emitter(load, scans=scans), results, store, positions)

    # -- joins -------------------------------------------------------------------------------------

    def neighbours(
        self, levels: str, number: str, exists: Callable[[str], str]
    ) -> Iterator[tuple[str, str]]:
        """The levels of a tree in which threads of a row are joined: neighbours, then neighbours
        among those that are left.

        For each level the distance of neighbours, and whether the thread with a number joins one.
        A barrier comes first.

        exists   whether there is one at a distance
        """
        code = self.code
        with code.loop(0, levels, 1) as level:
            self.spelling.barrier(code)
            distance = code.integer("shl", 1, level.counter)
            has_other = exists(distance)
            pair = code.integer("shl", distance, 1)
            offset = code.integer("and", number, code.integer("sub", pair, 1))
            is_kept = code.value(f"icmp eq i64 {offset}, 0")
            yield distance, code.value(f"and i1 {has_other}, {is_kept}")

    def copy(self, source: Memory, target: ThreadMemory, rows: int = 1) -> None:
        """Copy totals that are scalars."""
        for total in self.layout.totals.variables:
            for row in range(rows):
                target.store(self.code, source.load(self.code, total, 0, row), total, 0, row)

    def join(self, totals: Memory, others: ThreadMemory, rows: int = 1) -> None:
        """Join totals and those of other columns."""
        code = self.code

        def load(variable: Value, position: int | str, row: int, col: int) -> str:
            is_total = variable in self.layout.totals.offsets
            return (totals if is_total else others).load(code, variable, position, row)

        store_totals(self.emitter(by_kind(total=load), rows=rows), joins_of(self.nest), totals)

    # -- memory ------------------------------------------------------------------------------------

    def workspace(self) -> str:
        """The pointer to what the block keeps in memory."""
        offset = self.code.integer(
            "mul", self.spelling.block(self.code), self.layout.workspace_bytes
        )
        return self.code.at("%workspace", "i8", offset, space=GLOBAL)

    def states_memory(self, workspace: str, place: str) -> ThreadMemory:
        """States that are vectors, and scans, of the thread at a place of a block."""
        states = self.code.at(workspace, "i8", self.layout.states_offset, space=GLOBAL)
        return self.thread_memory(self.layout.states, states, self.size, place)
