"""Where everything is in memory: the job, packed rows and columns, a worker's scratch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from redcomp.ir import Nest, Value, topological
from redcomp.llvm_backend.schedule import SIZES, Schedule, loops_of, pending_entries

# The job: an array of 64-bit words that the caller fills in.
JOB_WORDS = (
    "next_task",  # taken and incremented atomically; from `STOPPED` on, tasks end early
    "tasks",  # of all entries of the batch
    "entry_tasks",  # of one entry: the same for each
    "table",  # pointer to the records of one entry's tasks
    "intervals",  # pointer to pairs of columns: the first one, and the one after the last
    "entry_partials",  # tasks of one entry that leave their totals to be joined
    "last_column",  # the number of the last column of all intervals
    "partial_bytes",  # of the totals of one task
    "partials",  # pointer to the totals that are to be joined; unused without any
    "entry_bytes",  # of a row of pointers
    "entries",  # pointer to a row of pointers for each entry: its outputs, then its arguments
    "second_axis",  # vectors on the second axis of arrays of pairs
)
STOPPED = 2**62
JOB_WORD = {name: n for n, name in enumerate(JOB_WORDS)}

# A record of the task table.  A task that joins others has partials where those have intervals.
TASK_WORDS = (
    "first",  # row
    "last",  # the row after the last
    "start",  # first interval of columns
    "stop",  # the interval after the last
    "partial",  # number of the place where the task leaves its totals; -1 if it stores results
)
TASK_WORD = {name: n for n, name in enumerate(TASK_WORDS)}

ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Record:
    """Variables packed one after the other; offsets are in components."""

    variables: tuple[Value, ...]
    offsets: dict[Value, int]
    width: int

    @classmethod
    def of(cls, variables: Iterable[Value]) -> Record:
        """The record of these variables, in their order."""
        listed = tuple(variables)
        offsets: dict[Value, int] = {}
        width = 0
        for variable in listed:
            offsets[variable] = width
            width += variable.dim
        return cls(listed, offsets, width)


# Arrays of vectors for each pair, by what counts their first axis.
PAIR_KINDS = ("ij", "ji")
# What a row is packed from: i-variables and its number.
ROW_KINDS = ("i", "i_index")


def variables_of(roots: Sequence[Value], *kinds: str) -> list[Value]:
    """The variables of some kinds that the roots reach."""
    return [v for v in topological(roots) if v.op == "variable" and v["kind"] in kinds]


def scans_of(roots: Iterable[Value]) -> list[Value]:
    """The scans that the roots reach."""
    return [value for value in topological(roots) if value.op == "scan"]


def in_memory(nest: Nest) -> Iterator[Value]:
    """What each row has memory for: states that are vectors, and scans."""
    yield from (state for state in nest.states if state.dim > 1)
    others = topological(nest.results, known=set(nest.pair_values))
    yield from (value for value in (*nest.pair_values, *others) if value.op == "scan")


class Layout:
    """The records of a nest and the parts of the scratch memory of one worker."""

    def __init__(self, nest: Nest, dtype: str, schedule: Schedule) -> None:
        row_roots = (*nest.pair_variables, *(h.definition for h in nest.rows))
        column_roots = (*nest.pair_variables, *(h.definition for h in nest.columns))
        hoisted = {h.variable for h in nest.rows + nest.columns + nest.uniform}
        self.raw_rows = [v for v in variables_of(row_roots, *ROW_KINDS) if v not in hoisted]
        self.raw_columns = [v for v in variables_of(column_roots, "j") if v not in hoisted]
        self.rows = Record.of([*self.raw_rows, *(h.variable for h in nest.rows)])
        self.numbers = variables_of(column_roots, "column", "j_index")
        hoisted_columns = (h.variable for h in nest.columns)
        self.columns = Record.of([*self.raw_columns, *self.numbers, *hoisted_columns])
        self.pairs = Record.of(variables_of(nest.pair_variables, *PAIR_KINDS))
        self.totals = Record.of(nest.totals)
        self.others = Record.of(nest.others)
        self.states = Record.of(in_memory(nest))
        self.result_inputs = Record.of(variables_of(nest.results, *ROW_KINDS))
        self.result_bytes = max(result.dim * SIZES[result.dtype] for result in nest.results)
        self.loops = loops_of(nest)
        waiting = (len(pending_entries(loop)) for loop in self.loops)
        self.pending_entries = max(waiting) if schedule.pending else 0
        self.total_bytes = self.totals.width * schedule.lanes * SIZES[nest.totals[0].dtype]
        self._lay_out(schedule, SIZES[dtype])

    def _lay_out(self, schedule: Schedule, size: int) -> None:
        vector = schedule.lanes * size
        self.states_bytes = self.states.width * schedule.rows * vector
        # The slots, one more for spreading vectors, and the counts (see `pending`).
        pending = (schedule.pending + 1) * self.pending_entries * vector + schedule.lanes * 8
        sizes = {
            "rows": schedule.chunk * self.rows.width * vector,
            "totals": schedule.chunk * self.total_bytes,
            # Columns are prepared by whole vectors, so the last tile may run over by one.
            "columns": (schedule.tile + schedule.lanes) * self.columns.width * size,
            "column_lanes": self.columns.width * vector,
            "pairs": schedule.tile * schedule.rows * self.pairs.width * vector,
            "states": self.states_bytes + pending,
            "result_inputs": self.result_inputs.width * vector,
            "results": self.result_bytes * schedule.lanes,
        }
        self.scratch: dict[str, int] = {}
        self.scratch_bytes = 0
        for name, bytes_ in sizes.items():
            self.scratch[name] = self.scratch_bytes
            self.scratch_bytes += -(-bytes_ // ALIGNMENT) * ALIGNMENT
