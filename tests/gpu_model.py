"""A driver of which the kernels are known: they compute `out_i = sum_j x_i * y_j` in float64.

The tasks are read from the words and the tables as compiled kernels read them.  Memory is the
host's; every access must be to memory that was allocated or adopted.  Needs no backend.
"""

from __future__ import annotations

import collections
import ctypes
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from redcomp.abi import GPU_JOB, GPU_JOIN, JOIN_THREADS, TASK, Launch
from redcomp.runtime.device import Device
from redcomp.runtime.gpu import Queue

WORD = 8
SLOW = 1e4  # clocks of a column: so many that any split is worth its join


class ModelDriver:
    """The `Driver` protocol; `calls` are the names of what was called, `launches` with words."""

    def __init__(
        self,
        launch: Launch | None = None,
        devices: int = 1,
        processors: int = 3,
        resident: int = 2,
        capability: tuple[int, int] = (9, 0),
    ) -> None:
        self.kernel = launch or Launch(
            threads=4, rows=8, tile=16, partial_bytes=8 * WORD, clocks=SLOW
        )
        self._devices = [
            Device(number, f"model {number}", capability, processors) for number in range(devices)
        ]
        self.resident = resident
        self.version = "model 1"
        self.calls: collections.Counter[str] = collections.Counter()
        self.launches: list[tuple[str, int, int, int, dict[str, int]]] = []
        self.memory: dict[int, Any] = {}
        self.visits: collections.Counter[tuple[int, int, int]] = collections.Counter()
        self.modules: set[int] = set()
        self._handles = itertools.count(1)
        self._functions: dict[int, str] = {}

    def devices(self) -> Sequence[Device]:
        return self._devices

    def assemble(self, device: Device, ptx: str) -> bytes:
        self.calls["assemble"] += 1
        return f"{device.target} {ptx}".encode()

    def load(self, device: Device, code: bytes) -> int:
        self.calls["load"] += 1
        assert code.startswith(device.target.encode())
        self.modules.add(handle := next(self._handles))
        return handle

    def unload(self, device: Device, module: int) -> None:
        self.calls["unload"] += 1
        self.modules.remove(module)

    def function(self, device: Device, module: int, name: str) -> int:
        handle = next(self._handles)
        self._functions[handle] = name
        return handle

    def resident_blocks(self, device: Device, function: int, threads: int) -> int:
        assert threads == self.kernel.threads
        return self.resident

    def allocate(self, device: Device, size: int) -> int:
        self.calls["allocate"] += 1
        memory = np.full(size, 0xFF, np.uint8)  # floats among these are NaN
        return self.adopt(memory)

    def adopt(self, array: np.ndarray[Any, Any]) -> int:
        """Let kernels use an array; its address."""
        self.memory[array.ctypes.data] = array
        address: int = array.ctypes.data
        return address

    def release(self, device: Device, address: int) -> None:
        self.calls["release"] += 1
        del self.memory[address]

    def copy_in(self, device: Device, target: int, source: int, size: int, stream: int) -> None:
        self.calls["copy_in"] += 1
        self._check(target, size)
        ctypes.memmove(target, source, size)

    def copy_out(self, device: Device, target: int, source: int, size: int, stream: int) -> None:
        self.calls["copy_out"] += 1
        self._check(source, size)
        ctypes.memmove(target, source, size)

    def launch(
        self,
        device: Device,
        function: int,
        blocks: int,
        threads: int,
        stream: int,
        words: ctypes.Array[ctypes.c_int64],
    ) -> None:
        self.calls["launch"] += 1
        name = self._functions[function]
        is_join = name.startswith("redcomp_join")
        job = dict(zip(GPU_JOIN if is_join else GPU_JOB, words, strict=False))
        self.launches.append((name, device.number, blocks, stream, job))
        assert threads == (JOIN_THREADS if is_join else self.kernel.threads)
        assert 1 <= blocks <= job["tasks"]
        assert all(word % WORD == 0 for word in (job["partials"], job["workspace"]))
        if self.kernel.workspace_bytes:
            self._check(job["workspace"], blocks * self.kernel.workspace_bytes)
        arrays = list(words)[len(GPU_JOB) :]
        run = self._join if is_join else self._run
        for task in range(job["tasks"]):
            entry, number = divmod(task, job["entry_tasks"])
            offsets = [0] * len(arrays)
            if job["entries"]:
                row = self._read(job["entries"], entry + 1, len(arrays))[-1]
                offsets = row.tolist()
            run(job, entry, number, [a + o for a, o in zip(arrays, offsets, strict=True)])

    # -- the kernels -------------------------------------------------------------------------------

    def _run(self, job: dict[str, int], entry: int, number: int, arrays: list[int]) -> None:
        out, x, y = arrays
        first, last, intervals, partial = self._task(job, number)
        totals = np.zeros(last - first)
        for start, stop in intervals:
            columns = self._read(y, stop, 1, np.float64)[start:, 0]
            totals += self._read(x, last, 1, np.float64)[first:, 0] * columns.sum()
            self.visits.update(
                (entry, i, j) for i in range(first, last) for j in range(start, stop)
            )
        if partial < 0:
            self._read(out, last, 1, np.float64)[first:, 0] = totals
        else:
            assert partial < job["entry_partials"]
            self._partial(job, entry, partial)[: last - first] = totals

    def _join(self, job: dict[str, int], entry: int, number: int, arrays: list[int]) -> None:
        record, group = divmod(number, job["groups"])
        if job["table"]:
            first, last, start, stop, _ = self._read(job["table"], record + 1, len(TASK))[-1]
        else:
            first, last = self._rows(job, record)
            start, stop = record * job["splits"], (record + 1) * job["splits"]
        height = JOIN_THREADS >> job["lane_bits"]
        begin, end = group * height, min((group + 1) * height, last - first)
        partials = [self._partial(job, entry, n)[begin:end] for n in range(start, stop)]
        if begin < end:
            self._read(arrays[0], first + end, 1, np.float64)[first + begin :, 0] = sum(partials)

    def _task(
        self, job: dict[str, int], number: int
    ) -> tuple[int, int, Iterator[tuple[int, int]], int]:
        if job["table"]:
            words = self._read(job["table"], number + 1, len(TASK))[-1].tolist()
            first, last, start, stop, partial = words
            intervals = self._read(job["intervals"], stop, 2)[start:].tolist()
            assert last - first <= job["height"] <= self.kernel.rows
            return first, last, map(tuple, intervals), partial
        block, split = divmod(number, job["splits"])
        start = split * job["split_columns"]
        stop = min(job["columns"], start + job["split_columns"])
        assert start < stop
        assert job["split_columns"] % 16 == 0 or job["splits"] == 1  # whole steps
        partial = number if job["splits"] > 1 else -1
        return *self._rows(job, block), iter([(start, stop)]), partial

    def _rows(self, job: dict[str, int], block: int) -> tuple[int, int]:
        first = block * job["height"]
        return first, min(first + job["height"], job["rows"])

    def _partial(self, job: dict[str, int], entry: int, number: int) -> Any:
        place = entry * job["entry_partials"] + number
        size = self.kernel.partial_bytes * job["height"] // self.kernel.rows
        address = job["partials"] + place * size
        return self._read(address, job["height"], 1, np.float64)[:, 0]

    def _read(self, address: int, rows: int, columns: int, dtype: Any = np.int64) -> Any:
        """A view of memory."""
        size = rows * columns * WORD
        self._check(address, size)
        data = (ctypes.c_char * size).from_address(address)
        return np.frombuffer(data, dtype).reshape(rows, columns)

    def _check(self, address: int, size: int) -> None:
        assert any(
            base <= address and address + size <= base + memory.nbytes
            for base, memory in self.memory.items()
        ), f"{size} bytes at {address:#x} are nobody's"


class Arena:
    """A queue whose temporaries are taken back when the kernel drops them."""

    def __init__(self, driver: ModelDriver, number: int = 0, stream: int = 5) -> None:
        self.sizes: list[int] = []
        self.driver = driver
        self.queue = Queue(driver, driver.devices()[number], stream, self.allocate)

    def allocate(self, size: int) -> tuple[int, object]:
        self.sizes.append(size)
        memory = np.full(size, 0xFF, np.uint8)
        return self.driver.adopt(memory), memory
