"""Launching compiled host kernels: splits a call into tasks, and runs them on the threads."""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from redcomp import config
from redcomp.llvm_backend.host import JOIN, RUN
from redcomp.llvm_backend.jit import Library
from redcomp.llvm_backend.layout import ALIGNMENT, JOB_WORDS
from redcomp.runtime import threads

_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)

# Tasks depend on the sizes only, never on the threads: enough of them that an uneven machine is
# used well.
_TASKS = 16
# A split of the columns is not worth its join below this many columns.
_SPLIT_COLUMNS = 2048
# Waking another thread takes tens of microseconds.  Below this many operations, which one thread
# does in about 0.2 ms, a call is one task or a few, and stays in its thread.
_SHARED_OPERATIONS = 20_000_000


@dataclass(frozen=True, slots=True)
class Plan:
    """How a call of a given size is cut into tasks, and whether threads share them."""

    is_shared: bool
    chunks: int
    chunk_rows: int
    splits: int
    split_columns: int


class _Scratch(threading.local):
    """Each thread's scratch memory, kept between calls."""

    def __init__(self) -> None:
        self.size = 0
        self.memory: np.ndarray[tuple[int], np.dtype[np.uint8]] | None = None
        self.address = 0

    def reserve(self, size: int) -> int:
        """The address of at least `size` aligned bytes."""
        if size > self.size:
            self.memory = np.empty(size + ALIGNMENT, np.uint8)
            self.address = _aligned(self.memory.ctypes.data)
            self.size = size
        return self.address


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
        operations: int,
        scratch_bytes: int,
        total_bytes: int,
        can_split: bool,
    ) -> None:
        self._library = library  # owns the code
        self._run = _FUNCTION(library.address(RUN))
        self._join = _FUNCTION(library.address(JOIN))
        self._lanes, self._step, self._chunk = lanes, lanes * rows, lanes * chunk
        self._operations = operations
        self._scratch_bytes, self._total_bytes = scratch_bytes, total_bytes
        self._can_split = can_split
        self.plan = functools.lru_cache(maxsize=64)(self._plan)

    def __call__(
        self, rows: int, columns: int, outputs: Sequence[int], arguments: Sequence[int]
    ) -> None:
        """Compute all outputs; they and the arguments are addresses of contiguous arrays."""
        plan = self.plan(rows, columns)
        tasks = plan.chunks * plan.splits
        partials = self._partials(plan) if plan.splits > 1 else None
        words = [
            0,
            tasks,
            rows,
            columns,
            plan.chunks,
            plan.chunk_rows,
            plan.splits,
            plan.split_columns,
            0 if partials is None else _aligned(partials.ctypes.data),
            *outputs,
            *arguments,
        ]
        job = (ctypes.c_int64 * len(words))(*words)
        address = ctypes.addressof(job)
        run, size = self._run, self._scratch_bytes
        workers = min(config.num_threads(), tasks) if plan.is_shared else 1
        if workers == 1:
            run(address, _scratch.reserve(size))
        else:
            threads.run(lambda k: run(address, _scratch.reserve(size)), workers)
        if partials is not None:
            job[JOB_WORDS.index("next_task")] = 0
            job[JOB_WORDS.index("tasks")] = plan.chunks
            self._join(address, _scratch.reserve(size))

    def _plan(self, rows: int, columns: int) -> Plan:
        """Chunks of rows, and splits of the columns where the rows make too few tasks."""
        is_shared = rows * columns * self._operations > _SHARED_OPERATIONS
        wanted = -(-rows // _TASKS) if is_shared else rows
        chunk_rows = min(self._chunk, max(self._step, -(-wanted // self._step) * self._step))
        chunks = -(-rows // chunk_rows)
        splits = 1
        if is_shared and self._can_split:
            splits = max(1, min(-(-_TASKS // chunks), columns // _SPLIT_COLUMNS))
        return Plan(is_shared, chunks, chunk_rows, splits, -(-columns // splits))

    def _partials(self, plan: Plan) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
        """Memory for the totals of all splits."""
        chunk_bytes = plan.chunk_rows // self._lanes * self._total_bytes
        return np.empty(plan.splits * plan.chunks * chunk_bytes + ALIGNMENT, np.uint8)
