"""The parameters of a kernel, and where a task's data are in memory."""

from __future__ import annotations

# The first parameters of both kernels; all have 64 bits.  Pointers to outputs, then to arguments,
# follow.  A dense call has no table: its tasks are blocks of rows times parts of the columns.
JOB_WORDS = (
    "tasks",  # of all entries of the batch
    "entry_tasks",  # of one entry
    "rows",  # of an entry
    "columns",  # of an entry
    "splits",  # parts that the columns are split into, without a table
    "split_columns",  # columns of such a part, but for the last one
    "table",  # pointer to the records of one entry's tasks (`llvm_backend.layout.TASK_WORDS`), or 0
    "intervals",  # pointer to pairs of columns, as on the host; read where there is a table
    "entries",  # pointer to a row for each entry: bytes from each pointer to its array; or 0
    "partials",  # pointer to the totals that are to be joined
    "entry_partials",  # tasks of an entry that leave their totals to be joined
    "workspace",  # pointer to what blocks keep in memory, each its part
    "second_axis",  # vectors on the second axis of arrays of pairs
)
JOB_WORD = {name: n for n, name in enumerate(JOB_WORDS)}
