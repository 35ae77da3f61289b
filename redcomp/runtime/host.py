"""Launching compiled host kernels: fills in the job, and runs its tasks on the threads."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence

import numpy as np

from redcomp import config, long_work
from redcomp.abi import ALIGNMENT, HOST_JOB, JOIN, RUN, STOPPED
from redcomp.llvm_backend.host.jit import Library
from redcomp.runtime import threads
from redcomp.runtime.kernel import PLAIN, BatchLayout
from redcomp.runtime.tasks import Blocks, Integers, Plan, grain
from redcomp.runtime.words import Words, words

# Enough tasks that an uneven machine is used well.
TASKS = 16
# A split of the columns is not worth its join below this many columns.
SPLIT_COLUMNS = 2048
# And where lists of K columns are kept, below so many times K * K, which is about how many numbers
# are moved until a list is filled, as each split does (`scripts/measure_decisions.py 0066`).
SPLIT_OF_LISTS = 64
# Waking another thread takes tens of microseconds.  Below this many operations, which one thread
# does in about 0.2 ms, a call is one task or a few, and stays in its thread.
SHARED_OPERATIONS = 20_000_000
# Between two tiles it is noticed that a call has been stopped, so a tile is at most so much work,
# which takes a hundredth of a second, and some hundredths where operations are slow.
TILE_OPERATIONS = 1_000_000_000

_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
_NEXT_TASK, _TASKS, _ENTRIES = (HOST_JOB[word] for word in ("next_task", "tasks", "entries"))
_POINTERS = 8 * len(HOST_JOB)  # where pointers follow the job's words: one row, without a batch


# Of scratch memory, for each thread.  Fresh memory costs nothing beside a call that needs more.
KEPT_BYTES = 4 * 2**20

_HOST = "host"


class _Scratch(threading.local):
    """Each thread's scratch memory, kept between calls unless it is large."""

    def __init__(self) -> None:
        self.size = 0
        self.address = 0
        self.memory: np.ndarray[tuple[int], np.dtype[np.uint8]] | None = None

    def run(self, function: Callable[[int, int], object], job: int, size: int) -> None:
        """Call a function of machine code with a job and at least `size` aligned bytes."""
        address = self.address
        if size > self.size:
            memory = np.empty(size + ALIGNMENT, np.uint8)
            address = _aligned(memory.ctypes.data)
            if size <= KEPT_BYTES:
                self.memory, self.address, self.size = memory, address, size
        function(job, address)


def _aligned(address: int) -> int:
    return -(-address // ALIGNMENT) * ALIGNMENT


_scratch = _Scratch()


class HostKernel:
    """A loaded kernel.  A call reads and writes raw memory: its caller has checked everything."""

    def __init__(
        self,
        library: Library,
        *,
        lanes: int,
        rows: int,
        chunk: int,
        tile: int,
        operations: int,
        scratch_bytes: int,
        total_bytes: int,
        can_split: bool,
        kept: int,
    ) -> None:
        self._library = library  # owns the code
        self._run = _FUNCTION(library.address(RUN))
        self._join = _FUNCTION(library.address(JOIN))
        alone = SHARED_OPERATIONS // max(1, operations)
        step = lanes * rows
        steps = min(lanes * chunk, TILE_OPERATIONS // (tile * max(1, operations))) // step
        split = max(SPLIT_COLUMNS, SPLIT_OF_LISTS * kept**2)
        self.grain = grain(step, step * max(1, steps), TASKS, split, alone, can_split)
        self._lanes, self._scratch_bytes, self._total_bytes = lanes, scratch_bytes, total_bytes

    def __call__(
        self,
        blocks: Blocks,
        outputs: Sequence[int],
        arguments: Sequence[int],
        layout: BatchLayout = PLAIN,
        _: object = None,
    ) -> None:
        """Compute the rows of all blocks, see `LoadedKernel`.

        Ctrl-C ends a call early.  Then outputs hold anything.
        """
        offsets = layout.offsets() if layout.batch else None
        entries = 1 if offsets is None else len(offsets)
        plan = blocks.plan(entries, self.grain)
        first, join_words = plan.prepared.get(_HOST) or _prepare(plan, entries)
        partial_bytes = plan.rows // self._lanes * self._total_bytes
        partials = None
        if plan.partials:
            partials = np.empty(entries * plan.partials * partial_bytes + ALIGNMENT, np.uint8)
        values = [
            *first,
            partial_bytes,
            0 if partials is None else _aligned(partials.ctypes.data),
            8 * (len(outputs) + len(arguments)),
            0,
            layout.second_axis,
            *outputs,
            *arguments,
        ]
        job = words(values)
        address = ctypes.addressof(job)
        if offsets is None:
            job[_ENTRIES] = address + _POINTERS
        else:
            pointers = offsets + np.array(values[len(HOST_JOB) :], np.int64)
            job[_ENTRIES] = pointers.ctypes.data
        run, size = self._run, self._scratch_bytes
        if plan.is_shared:
            _divide(lambda k: _scratch.run(run, address, size), job, plan)
        else:
            _scratch.run(run, address, size)
        if partials is not None:
            job[: len(join_words)] = list(join_words)
            _scratch.run(self._join, address, size)


def _divide(function: Callable[[int], object], job: Words, plan: Plan) -> None:
    """Call a function that does tasks of a job until none is left, on several threads."""
    workers = min(config.num_threads(), job[_TASKS])
    if not plan.is_long:
        threads.run(function, workers)
        return

    def stop() -> None:
        job[_NEXT_TASK] = STOPPED

    if not long_work.is_shown():
        threads.run(function, workers, stop)
        return
    tasks, pairs = job[_TASKS], _pairs_of(plan, job[_TASKS])
    with long_work.Work("pairs", pairs(tasks)) as work:
        # A worker has ended all of its tasks but the latest.
        watch = lambda: work.show(pairs(job[_NEXT_TASK] - workers))
        threads.run(function, workers, stop, watch)
        work.show(pairs(tasks))


def _pairs_of(plan: Plan, tasks: int) -> Callable[[int], int]:
    """How many pairs the first tasks of a job have, which has so many in all."""
    before, entry_tasks = plan.pairs_before(), len(plan.tasks)

    def pairs(number: int) -> int:
        entries, rest = divmod(min(max(0, number), tasks), entry_tasks)
        return entries * int(before[-1]) + int(before[rest])

    return pairs


def _prepare(plan: Plan, entries: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The first words of a job, and what they are while totals are joined."""

    def header(table: Integers) -> tuple[int, ...]:
        return 0, entries * len(table), len(table), table.ctypes.data

    last_column = int(plan.intervals.max()) - 1
    first = (*header(plan.tasks), plan.intervals.ctypes.data, plan.partials, last_column)
    prepared = first, header(plan.joins)
    plan.prepared[_HOST] = prepared
    return prepared
