"""What machine code and its callers agree on: words of jobs and tasks, names of entry points."""

from __future__ import annotations

from collections.abc import Iterator

from redcomp.records import record


class Words:
    """Names of 64-bit words that lie one after the other; `words[name]` is the number of one."""

    def __init__(self, *names: str) -> None:
        self._numbers = {name: n for n, name in enumerate(names)}

    def renamed(self, **names: str) -> Words:
        """The same words, of which some have other names."""
        return Words(*(names.get(name, name) for name in self))

    def __getitem__(self, name: str) -> int:
        return self._numbers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)


# Entry points of a module: one computes tasks, the other joins the totals that they have left.
RUN, JOIN = "redcomp_run", "redcomp_join"
# How arrays that machine code makes are aligned, in bytes.
ALIGNMENT = 64

# The last words of every job: what a kernel does not know of a call's arrays.  Pointers to outputs,
# then to arguments, follow.
_OF_ARRAYS = ("second_axis",)  # vectors on the second axis of arrays of pairs

# The job of a host's kernel: an array that the caller fills in.
HOST_JOB = Words(
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
    *_OF_ARRAYS,
)
STOPPED = 2**62

# A record of the task table.  A task that joins others has partials where those have intervals.
TASK = Words(
    "first",  # row
    "last",  # the row after the last
    "start",  # first interval of columns
    "stop",  # the interval after the last
    "partial",  # number of the place where the task leaves its totals; -1 if it stores results
)

# The first parameters of both kernels; all have 64 bits.  A dense call has no table: its tasks are
# blocks of rows times parts of the columns.
GPU_JOB = Words(
    "tasks",  # of all entries of the batch
    "entry_tasks",  # of one entry
    "rows",  # of an entry
    "columns",  # of an entry
    "splits",  # parts that the columns are split into, without a table
    "split_columns",  # columns of such a part, but for the last one
    "height",  # rows of a task at most, which is what a block has unless its threads form teams
    "table",  # pointer to the records of one entry's tasks (`TASK`), or 0
    "intervals",  # pointer to pairs of columns, as on the host; read where there is a table
    "entries",  # pointer to a row for each entry: bytes from each pointer to its array; or 0
    "partials",  # pointer to the totals that are to be joined
    "entry_partials",  # tasks of an entry that leave their totals to be joined
    "workspace",  # pointer to what blocks keep in memory, each its part
    *_OF_ARRAYS,
)

# The same words for the kernel that joins: a task is a group of a block's rows.
GPU_JOIN = GPU_JOB.renamed(
    columns="groups",  # of a block: each has as many rows as lanes leave of `JOIN_THREADS`
    split_columns="lane_bits",  # threads that share the parts of a row, as a power of two
    intervals="columns",  # of an entry
)
JOIN_THREADS = 256  # of a block, a power of two


def kernel_name(kernel: str, part: int) -> str:
    """The name of a part's `RUN` or `JOIN` kernel."""
    return f"{kernel}_{part}" if part else kernel


@record
class Launch:
    """What the runtime has to know of the kernels that compute a part of the results.

    threads          of a block
    rows             that a block reduces together: a task holds at most so many
    team_rows        of a thread, if all threads of a block share the rows of a task, however many
                     it has; else 0
    tile             columns that are prepared at a time; parts of the columns are whole tiles
    partial_bytes    of the totals that a task leaves to be joined
    workspace_bytes  that a block keeps in memory; 0 if none
    can_split        whether totals of parts of the columns can be joined
    clocks           of a full multiprocessor that a column takes for the rows of a block, estimated
    filling          clocks that it takes besides, however many rows there are
    least_columns    of a part of the columns
    """

    threads: int
    rows: int
    tile: int
    partial_bytes: int
    workspace_bytes: int = 0
    can_split: bool = True
    clocks: float = 32.0
    filling: float = 0.0
    team_rows: int = 0
    least_columns: int = 1
