"""Launching compiled GPU kernels: loads them once a device, cuts calls into tasks, queues them.

A warm call on arrays that are on the device asks nothing of the driver but launches, so it waits
for nothing and can be recorded in a CUDA graph.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import json
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from redcomp import config
from redcomp.abi import GPU_JOB, JOIN, JOIN_THREADS, RUN, TASK, Launch, kernel_name
from redcomp.limits import MAX_WORKSPACE
from redcomp.records import record
from redcomp.runtime.cache import default_cache
from redcomp.runtime.device import Device, DeviceError, Driver
from redcomp.runtime.kernel import PLAIN, BatchLayout, Executor
from redcomp.runtime.tasks import Blocks, Integers, Plan
from redcomp.runtime.waves import Waves
from redcomp.runtime.words import words

# The first axis of a grid: CUDA C++ Programming Guide, technical specifications.
MOST_BLOCKS = 2**31 - 1
_ALIGNMENT = 256  # of what is cut out of one allocation; cuMemAlloc's own
# Offsets of how many batches are kept on devices.
_KEPT = 64

# The words that a plan knows come first: those before the entries' offsets.
_PLANNED = GPU_JOB["entries"]

Allocate = Callable[[int], tuple[int, object]]


def _never() -> bool:
    return False


class Queue(NamedTuple):  # made at each call, three times as fast as a dataclass
    """A stream of a device, and where its kernels' temporaries come from.

    allocate     gives the address of so many bytes, and what holds them until it is dropped; what
                 is queued afterwards on the same stream may be given the same memory
    is_recorded  whether calls are being recorded, to be repeated with the same addresses
    """

    driver: Driver
    device: Device
    stream: int
    allocate: Allocate
    is_recorded: Callable[[], bool] = _never

    def run(
        self,
        kernel: GpuKernel,
        blocks: Blocks,
        outputs: Sequence[int],
        arguments: Sequence[int],
        layout: BatchLayout,
    ) -> None:
        """Queue a kernel on arrays that the device has."""
        kernel.queue(self, blocks, outputs, arguments, layout)


@record
class Copies:
    """A device that computes with copies of arrays in the host's memory."""

    driver: Driver
    device: Device

    def run(
        self,
        kernel: GpuKernel,
        blocks: Blocks,
        outputs: Sequence[int],
        arguments: Sequence[int],
        layout: BatchLayout,
    ) -> None:
        """Copy the arrays to the device, compute, and copy the outputs back."""
        driver, device, sizes = self.driver, self.device, layout.sizes
        # Outputs hold something already where there are rows outside of all blocks.
        is_filled = blocks.covered < layout.rows
        with _memory(driver, device) as allocate:
            copies = [allocate(size)[0] for size in sizes]
            arrays = list(zip(copies, (*outputs, *arguments), sizes, strict=True))
            count = len(outputs)
            for copy, address, size in arrays[0 if is_filled else count :]:
                driver.copy_in(device, copy, address, size, 0)
            queue = Queue(driver, device, 0, allocate)
            kernel.queue(queue, blocks, copies[:count], copies[count:], layout)
            for copy, address, size in arrays[:count]:
                driver.copy_out(device, address, copy, size, 0)


class Upload:
    """A table in a device's memory, for as long as this object lives."""

    def __init__(self, driver: Driver, device: Device, table: Integers) -> None:
        _release_dropped()
        self.address = driver.allocate(device, max(1, table.nbytes))
        _drop_with(self, functools.partial(driver.release, device, self.address))
        if table.nbytes:
            driver.copy_in(device, self.address, table.ctypes.data, table.nbytes, 0)


# What gives back memory of uploads and modules that are gone.  It is called when another one is
# made, because an object may go at any time, and a graph that is just being recorded would not
# survive a release; or when other memory is released.
_dropped: collections.deque[Callable[[], None]] = collections.deque()
# What recorded calls point to, which may be repeated until the process ends.
_recorded: list[object] = []


def _drop_with(owner: object, release: Callable[[], None]) -> None:
    """Let memory be given back some time after its owner has gone."""
    weakref.finalize(owner, _dropped.append, release).atexit = False


def _release_dropped() -> None:
    """Try each once: what the driver does not release now, it may release later."""
    for _ in range(len(_dropped)):
        try:
            release = _dropped.popleft()
        except IndexError:  # another thread has taken it
            return
        try:
            release()
        except DeviceError:
            # Not the caller's fault: the memory was another call's, and a fault of the device is
            # reported by whatever the caller asks for next.
            _dropped.append(release)


@record
class LaunchPlan:
    """A call cut into tasks for a device.

    words        the first words of a job (`GPU_JOB`)
    join_words   what they are while totals are joined (`GPU_JOIN`)
    blocks       that are launched, for tasks and for joins; no joins if the columns are whole
    partials     the tasks of an entry that leave their totals to be joined
    temporaries  bytes of the workspace, and then of the totals of all entries
    tables       what the words point to
    """

    words: tuple[int, ...]
    join_words: tuple[int, ...]
    blocks: int
    join_blocks: int
    partials: int
    temporaries: tuple[int, int]
    tables: tuple[Upload, ...] = ()


class GpuKernel:
    """A compiled module.  A call reads and writes raw memory: its caller has checked everything."""

    def __init__(self, ptx: str, launches: tuple[Launch, ...]) -> None:
        self.ptx, self.launches = ptx, launches
        self._loaded: dict[tuple[Driver, int], tuple[_Loaded, ...]] = {}
        self._lock = threading.Lock()

    def __call__(
        self,
        blocks: Blocks,
        outputs: Sequence[int],
        arguments: Sequence[int],
        layout: BatchLayout = PLAIN,
        executor: Executor | None = None,
    ) -> None:
        """Compute the rows of all blocks, see `LoadedKernel`, on a `Queue` or by `Copies`.

        Raises ConfigError without one.
        """
        if not isinstance(executor, (Queue, Copies)):
            wanted = config.target()
            raise config.ConfigError(f"REDCOMP_TARGET is {wanted!r}, which is not the host's")
        executor.run(self, blocks, outputs, arguments, layout)

    def queue(
        self,
        queue: Queue,
        blocks: Blocks,
        outputs: Sequence[int],
        arguments: Sequence[int],
        layout: BatchLayout,
    ) -> None:
        """Queue the computation; outputs and arguments are addresses on the device."""
        driver, device = queue.driver, queue.device
        parts = self._loaded.get((driver, device.number)) or self._load(driver, device)
        if queue.is_recorded():
            _recorded.append(self)  # a graph has its kernels' code
        offsets = layout.offsets()
        of_arrays = layout.second_axis, *outputs, *arguments
        for loaded in parts:
            loaded.queue(queue, blocks, of_arrays, offsets)

    def _load(self, driver: Driver, device: Device) -> tuple[_Loaded, ...]:
        with self._lock:
            key = driver, device.number
            if key not in self._loaded:
                _release_dropped()
                module = driver.load(device, _assembled(driver, device, self.ptx))
                _drop_with(self, functools.partial(driver.unload, device, module))
                self._loaded[key] = tuple(
                    _Loaded(driver, device, module, number, launch)
                    for number, launch in enumerate(self.launches)
                )
            return self._loaded[key]


class _Loaded:
    """A part's kernels in a module that has been loaded on a device, and the grids of calls."""

    def __init__(
        self, driver: Driver, device: Device, module: int, number: int, launch: Launch
    ) -> None:
        self.run = driver.function(device, module, kernel_name(RUN, number))
        self.join = 0
        if launch.can_split:
            self.join = driver.function(device, module, kernel_name(JOIN, number))
        self._driver, self._device, self._launch = driver, device, launch
        resident = max(1, driver.resident_blocks(device, self.run, launch.threads))
        self._waves = Waves(launch, device.processors, resident)
        self._most_resident = self._waves.blocks
        self.dense = functools.lru_cache(maxsize=256)(self._dense)
        self._lock = threading.Lock()

    def queue(
        self, queue: Queue, blocks: Blocks, of_arrays: Sequence[int], offsets: Integers | None
    ) -> None:
        """Queue the computation of the part's results; `of_arrays` ends the job's words."""
        driver, device = self._driver, self._device
        entries = 1 if offsets is None else len(offsets)
        extent = blocks.extent
        grid = self.table(blocks, entries) if extent is None else self.dense(*extent, entries)
        uploaded = None if offsets is None else _offsets(driver, device, offsets)
        if (grid.tables or uploaded) and queue.is_recorded():
            _recorded.append((grid.tables, uploaded))
        workspace, size = grid.temporaries
        address, holder = queue.allocate(workspace + size) if workspace + size else (0, None)
        job = words(
            (
                *grid.words,
                0 if uploaded is None else uploaded.address,
                address + workspace,
                grid.partials,
                address,
                *of_arrays,
            )
        )
        threads, stream = self._launch.threads, queue.stream
        driver.launch(device, self.run, grid.blocks, threads, stream, job)
        if grid.join_blocks:
            job[:_PLANNED] = list(grid.join_words)
            driver.launch(device, self.join, grid.join_blocks, JOIN_THREADS, stream, job)
        del holder

    def _dense(self, rows: int, columns: int, entries: int) -> LaunchPlan:
        """The grid for all pairs: a task is a block of rows, times a part of the columns."""
        waves, split_columns = self._waves.dense(rows, columns, entries)
        row_blocks = _ceiling(rows, waves.height)
        splits = _ceiling(columns, split_columns)
        run = row_blocks * splits, (rows, columns, splits, split_columns, waves.height, 0, 0)
        if splits == 1:
            return self._grid(waves, entries, run)
        groups, bits = waves.groups(row_blocks * entries, min(rows, waves.height), splits)
        join = row_blocks * groups, (rows, groups, splits, bits, waves.height, 0, columns)
        return self._grid(waves, entries, run, join, row_blocks * splits)

    def table(self, blocks: Blocks, entries: int) -> LaunchPlan:
        """The grid for a task table, which is copied to the device once."""
        plan = blocks.plan(entries, self._waves)
        grid: LaunchPlan | None = plan.prepared.get(self)
        if grid is None:
            with self._lock:
                grid = plan.prepared.get(self) or self._table(blocks, plan, entries)
                plan.prepared[self] = grid
        return grid

    def _table(self, blocks: Blocks, plan: Plan, entries: int) -> LaunchPlan:
        tasks, intervals, joins = tables = tuple(
            Upload(self._driver, self._device, np.ascontiguousarray(table))
            for table in (plan.tasks, plan.intervals, plan.joins)
        )
        rows, columns = int(blocks.rows[:, 1].max()), int(blocks.intervals[:, 1].max())
        waves = replace(self._waves, rows=plan.rows)
        addresses = tasks.address, intervals.address
        run = len(plan.tasks), (rows, columns, 1, columns, waves.height, *addresses)
        count = len(plan.joins)
        if not count:
            return self._grid(waves, entries, run, tables=tables)
        first, last, start, stop = (
            plan.joins[:, TASK[name]] for name in ("first", "last", "start", "stop")
        )
        heights, parts = last - first, stop - start
        groups, bits = waves.groups(count * entries, int(heights.max()), int(parts.max()))
        join = count * groups, (rows, groups, 1, bits, waves.height, joins.address, columns)
        return self._grid(waves, entries, run, join, plan.partials, tables)

    def _grid(
        self,
        waves: Waves,
        entries: int,
        run: tuple[int, tuple[int, ...]],
        join: tuple[int, tuple[int, ...]] = (0, ()),
        partials: int = 0,
        tables: tuple[Upload, ...] = (),
    ) -> LaunchPlan:
        """A grid from one entry's tasks and joins: how many, and the words after the counts."""
        workspace_bytes = self._launch.workspace_bytes
        most = MOST_BLOCKS
        if workspace_bytes:
            # Blocks that would need more memory do the tasks of several.
            most = min(self._most_resident, MAX_WORKSPACE // workspace_bytes)
        blocks, join_blocks = (min(most, entries * count) for count, _ in (run, join))
        workspace = _ceiling(blocks * workspace_bytes, _ALIGNMENT) * _ALIGNMENT
        return LaunchPlan(
            (entries * run[0], run[0], *run[1]),
            (entries * join[0], join[0], *join[1]),
            blocks,
            join_blocks,
            partials,
            (workspace, entries * partials * waves.partial_bytes),
            tables,
        )


def _ceiling(a: int, b: int) -> int:
    return -(-a // b)


def _assembled(driver: Driver, device: Device, ptx: str) -> bytes:
    """Machine code for a device, from the disk cache if it is there."""
    cache = default_cache()
    key = json.dumps([driver.version, device.capability, ptx])
    code = None if cache is None else cache.load(key)
    if code is None:
        code = driver.assemble(device, ptx)
        if cache is not None:
            cache.store(key, code)
    return code


@contextlib.contextmanager
def _memory(driver: Driver, device: Device) -> Iterator[Allocate]:
    """Gives a device's memory, and takes all of it back in the end."""
    taken: list[int] = []

    def allocate(size: int) -> tuple[int, None]:
        taken.append(driver.allocate(device, max(1, size)))
        return taken[-1], None

    try:
        yield allocate
    finally:
        # Nothing is raised here, which would hide what the call itself has raised.
        _dropped.extend(functools.partial(driver.release, device, address) for address in taken)
        _release_dropped()


_uploaded: collections.OrderedDict[tuple[Driver, int, bytes], Upload] = collections.OrderedDict()
_uploading = threading.Lock()


def _offsets(driver: Driver, device: Device, offsets: Integers) -> Upload:
    """The offsets of a batch on a device; the latest are kept, by their content."""
    key = driver, device.number, offsets.tobytes()
    with _uploading:
        known = _uploaded.pop(key, None)
        _uploaded[key] = known = known or Upload(driver, device, np.ascontiguousarray(offsets))
        if len(_uploaded) > _KEPT:
            _uploaded.popitem(last=False)
    return known
