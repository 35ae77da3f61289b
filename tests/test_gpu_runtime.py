"""Launching kernels for GPUs: needs no GPU, because a model of the kernels runs the tasks."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import pickle
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from gpu_model import SLOW, Arena, ModelDriver
from hypothesis import given
from hypothesis import strategies as st

from redcomp import config
from redcomp.abi import JOIN_THREADS, Launch
from redcomp.frontend.reductions.ranges import read_ranges
from redcomp.runtime import driver as drivers
from redcomp.runtime import gpu
from redcomp.runtime.device import Device, DeviceError
from redcomp.runtime.gpu import MOST_BLOCKS, Copies, GpuKernel, Queue, Upload
from redcomp.runtime.kernel import PLAIN, BatchLayout
from redcomp.runtime.tasks import Blocks, whole

Array = np.ndarray[Any, np.dtype[Any]]


def problem(rows: int, columns: int, entries: int = 1) -> tuple[Array, Array, Array]:
    """An output and arguments: whole numbers, whose sums are exact."""
    random = np.random.default_rng(rows + 7 * columns)
    x = random.integers(1, 9, (entries, rows, 1)).astype(np.float64)
    y = random.integers(1, 1000, (entries, columns, 1)).astype(np.float64)
    return np.full((entries, rows, 1), -1.0), x, y


def layout_of(arrays: tuple[Array, ...]) -> BatchLayout:
    """All entries of all arrays; no batch if there is one."""
    batch = (len(arrays[0]),) if len(arrays[0]) > 1 else ()
    steps = tuple(a[0].nbytes for a in arrays)
    return BatchLayout(arrays[0].shape[1], 0, batch, (batch,) * len(arrays), steps)


def run_copied(driver: ModelDriver, blocks: Blocks, arrays: tuple[Array, Array, Array]) -> None:
    """A call on arrays of the host."""
    out, *arguments = (array.ctypes.data for array in arrays)
    place = Copies(driver, driver.devices()[0])
    GpuKernel("code", (driver.kernel,))(blocks, [out], arguments, layout_of(arrays), place)


def run(
    kernel: GpuKernel, arena: Arena, blocks: Blocks, arrays: tuple[Array, Array, Array]
) -> None:
    """A call on arrays that are on the device already; a batch if there are several entries."""
    out, *arguments = (arena.driver.adopt(array) for array in arrays)
    kernel(blocks, [out], arguments, layout_of(arrays), arena.queue)


launches = st.builds(
    lambda rows, tile, workspace, can_split, clocks: Launch(
        4, rows, tile, 8 * rows, workspace, can_split, clocks
    ),
    rows=st.sampled_from([1, 4, 24]),
    tile=st.sampled_from([1, 16]),
    workspace=st.sampled_from([0, 40]),
    can_split=st.booleans(),
    clocks=st.sampled_from([1.0, SLOW]),
)
machines = st.fixed_dictionaries(
    {"processors": st.sampled_from([1, 7]), "resident": st.integers(0, 3)}
)


def largest(driver: ModelDriver) -> int:
    return driver.devices()[0].processors * max(1, driver.resident)


@given(launches, machines, st.integers(1, 60), st.integers(1, 200), st.integers(1, 3))
def test_dense_tasks_visit_each_pair_once(
    launch: Launch, machine: dict[str, int], rows: int, columns: int, entries: int
) -> None:
    driver = ModelDriver(launch, **machine)
    out, x, y = arrays = problem(rows, columns, entries)
    run(GpuKernel("code", (launch,)), Arena(driver), whole(rows, columns), arrays)
    assert np.array_equal(out, x * y.sum(1, keepdims=True))
    assert set(driver.visits.values()) == {1}
    assert len(driver.visits) == entries * rows * columns
    names = [name for name, *_ in driver.launches]
    splits = driver.launches[0][-1]["splits"]
    assert names == ["redcomp_run", "redcomp_join"][: 1 + (splits > 1)]
    if launch.workspace_bytes:
        assert all(blocks <= largest(driver) for _, _, blocks, *_ in driver.launches)
    if not launch.can_split:
        assert splits == 1


@st.composite
def half(draw: st.DrawFn, rows: int, columns: int) -> tuple[Array, Array, Array]:
    """Disjoint blocks of rows, each with disjoint intervals of columns."""

    def cut(size: int) -> list[tuple[int, int]]:
        count = draw(st.integers(0, 3))
        ends = draw(
            st.lists(st.integers(0, size), min_size=2 * count, max_size=2 * count).map(sorted)
        )
        return list(zip(ends[::2], ends[1::2], strict=True))

    blocks = cut(rows)
    intervals = [cut(columns) for _ in blocks]
    slices = np.cumsum([len(some) for some in intervals], dtype=np.int64)
    flat = [pair for some in intervals for pair in some]
    return np.array(blocks, int).reshape(-1, 2), slices, np.array(flat, int).reshape(-1, 2)


def test_splits_of_a_table_all_have_columns() -> None:
    """Eleven columns are no five parts of equal width, but for the last."""
    launch = Launch(4, 1, 1, 8)
    ends = np.array([[1, 2]]), np.array([1]), np.array([[0, 11]])
    blocks = read_ranges((*ends, *ends), 70, 70).i
    out, x, y = arrays = problem(70, 70)
    run(GpuKernel("code", (launch,)), Arena(ModelDriver(launch, processors=7)), blocks, arrays)
    assert out[0, 1] == x[0, 1] * y[0, :11].sum()


@given(st.data(), launches, machines, st.integers(1, 3))
def test_tables_visit_each_pair_of_the_ranges_once(
    data: st.DataObject, launch: Launch, machine: dict[str, int], entries: int
) -> None:
    rows, columns = 70, 300
    three = data.draw(half(rows, columns))
    blocks = read_ranges((*three, *data.draw(half(columns, rows))), rows, columns).i
    if not blocks.covered:
        return
    driver = ModelDriver(launch, **machine)
    arrays = problem(rows, columns, entries)
    run(GpuKernel("code", (launch,)), Arena(driver), blocks, arrays)
    mask = blocks.mask(rows, columns)
    pairs = np.argwhere(np.broadcast_to(mask, (entries, rows, columns)))
    assert driver.visits == Counter(map(tuple, pairs.tolist()))
    for out, x, y in zip(*arrays, strict=True):
        expected = np.where(mask.any(1), x[:, 0] * (mask @ y[:, 0]), -1.0)
        assert np.array_equal(out[:, 0], expected)


def test_few_blocks_of_a_table_are_split_and_joined() -> None:
    driver = ModelDriver()
    ends = np.array([[3, 9], [20, 21]]), np.array([1, 2]), np.array([[5, 800], [1, 900]])
    blocks = read_ranges((*ends, *ends), 1000, 1000).i
    out, x, y = arrays = problem(1000, 1000)
    run(GpuKernel("code", (driver.kernel,)), Arena(driver), blocks, arrays)
    assert [name for name, *_ in driver.launches] == ["redcomp_run", "redcomp_join"]
    assert np.array_equal(out[0, 3:9], x[0, 3:9] * y[0, 5:800].sum())
    assert np.array_equal(out[0, 20:21], x[0, 20:21] * y[0, 1:900].sum())


def test_few_rows_fill_the_device_and_many_are_not_split() -> None:
    driver = ModelDriver(processors=5, resident=3)
    kernel, arena = GpuKernel("code", (driver.kernel,)), Arena(driver)
    for rows, columns, entries in ((8, 16 * 1000, 1), (8, 16 * 1000, 4), (8 * 40, 640, 1)):
        run(kernel, arena, whole(rows, columns), problem(rows, columns, entries))
    few, batch, many = (job["tasks"] for name, *_, job in driver.launches if name == "redcomp_run")
    # All of the 5 multiprocessors have as many, but for the last tasks of few rows.
    assert few >= batch >= 15
    assert -few % 5 <= 1
    assert -batch % 5 <= 3
    assert many % 5 == 0


@pytest.mark.parametrize("workspace", [0, 10_000, 20_000])
def test_more_tasks_than_a_grid_has_blocks(workspace: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks take no more workspace than there may be."""
    monkeypatch.setattr(gpu, "MAX_WORKSPACE", 60_000)
    launch = Launch(4, 1, 16, 8, workspace, can_split=True)
    seen: list[int] = []

    class Counting(ModelDriver):
        def launch(self, device: Device, function: int, blocks: int, *rest: Any) -> None:
            seen.append(blocks)

    driver = Counting(launch)
    arena = Arena(driver)
    kernel = GpuKernel("code", (launch,))
    kernel(whole(2**32, 5), [0], [0, 0], PLAIN, arena.queue)
    most = min(largest(driver), 60_000 // workspace) if workspace else MOST_BLOCKS
    assert seen == [most]
    assert arena.sizes == ([math.ceil(most * workspace / 256) * 256] * bool(workspace))


# -- what a call asks of the driver --


def test_a_warm_call_on_the_device_only_launches() -> None:
    driver = ModelDriver()
    kernel, arena = GpuKernel("code", (driver.kernel,)), Arena(driver)
    blocks = read_ranges(
        (*[np.array([[0, 5], [6, 9]]), np.array([1, 2]), np.array([[0, 4], [3, 900]])] * 2,),
        1000,
        1000,
    ).i
    calls = [(whole(9, 1000), 1), (whole(9, 1000), 3), (blocks, 1), (blocks, 3)]
    for visited, entries in calls:
        run(kernel, arena, visited, problem(1000, 1000, entries))
    driver.calls.clear()
    for visited, entries in calls:
        run(kernel, arena, visited, problem(1000, 1000, entries))
    assert driver.calls == {"launch": 6}  # rows of three entries fill the three multiprocessors
    assert {stream for *_, stream, _ in driver.launches} == {5}


def test_temporaries_are_asked_for_at_once_and_dropped() -> None:
    launch = Launch(4, 8, 16, 64, workspace_bytes=100, clocks=SLOW)
    driver = ModelDriver(launch)
    arena = Arena(driver)
    run(GpuKernel("code", (launch,)), arena, whole(8, 1536), problem(8, 1536))
    _, _, blocks, _, job = driver.launches[0]
    assert blocks == largest(driver)
    workspace = -(-blocks * 100 // 256) * 256
    assert arena.sizes == [workspace + job["splits"] * 64]
    assert job["partials"] == job["workspace"] + workspace


def test_a_module_is_made_once_a_device_and_kept_on_disk() -> None:
    driver = ModelDriver(devices=2)
    kernel = GpuKernel("text of this test", (driver.kernel,))
    for number in (0, 1, 0, 1):
        run(kernel, Arena(driver, number), whole(3, 5), problem(3, 5))
    assert driver.calls["load"] == 2
    assert driver.calls["assemble"] == 1  # both devices are of the same kind
    assert [number for _, number, *_ in driver.launches] == [0, 1, 0, 1]
    again = GpuKernel("text of this test", (driver.kernel,))
    run(again, Arena(driver), whole(3, 5), problem(3, 5))
    assert (driver.calls["load"], driver.calls["assemble"]) == (3, 1)
    newer = ModelDriver()
    newer.version = "model 2"
    run(again, Arena(newer), whole(3, 5), problem(3, 5))
    assert newer.calls["assemble"] == 1


def test_modules_are_made_once_by_many_threads() -> None:
    driver = ModelDriver()
    kernel = GpuKernel("text for threads", (driver.kernel,))
    start = threading.Barrier(8)

    def call(_: int) -> Array:
        start.wait()
        out, x, y = arrays = problem(40, 50)
        run(kernel, Arena(driver), whole(40, 50), arrays)
        return out - x * y.sum()

    with ThreadPoolExecutor(8) as pool:
        assert all(not error.any() for error in pool.map(call, range(8)))
    assert (driver.calls["assemble"], driver.calls["load"]) == (1, 1)


def test_without_a_disk_cache_code_is_assembled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "cache_directory", lambda: None)
    driver = ModelDriver()
    for _ in range(2):
        run(GpuKernel("no disk", (driver.kernel,)), Arena(driver), whole(3, 5), problem(3, 5))
    assert driver.calls["assemble"] == 2


def test_kernels_that_cannot_be_split_have_no_join() -> None:
    class WithoutJoin(ModelDriver):
        def function(self, device: Device, module: int, name: str) -> int:
            assert name == "redcomp_run"
            return super().function(device, module, name)

    driver = WithoutJoin(Launch(4, 8, 16, 64, can_split=False))
    out, x, y = arrays = problem(5, 1000)
    run(GpuKernel("code", (driver.kernel,)), Arena(driver), whole(5, 1000), arrays)
    assert np.array_equal(out[0], x[0] * y[0].sum())


def test_parts_of_the_results_are_launched_one_after_the_other() -> None:
    """Each with a grid of its own, and the same arrays."""
    seen: list[tuple[str, int, int, list[int]]] = []

    class Reading(ModelDriver):
        def launch(
            self, device: Device, function: int, blocks: int, threads: int, *rest: Any
        ) -> None:
            seen.append((self._functions[function], blocks, threads, list(rest[-1])[-3:]))

        def resident_blocks(self, device: Device, function: int, threads: int) -> int:
            return 2

    driver = Reading()
    launches = (
        driver.kernel,
        Launch(16, 2, 32, 8, can_split=False),
        Launch(8, 20, 10**6, 8, clocks=1.0),
    )
    arena = Arena(driver)
    GpuKernel("parts", launches)(whole(40, 1000), [1], [2, 3], PLAIN, arena.queue)
    arrays = [1, 2, 3]
    assert seen == [
        ("redcomp_run", 15, 4, arrays),  # 5 blocks of rows
        ("redcomp_join", 5, JOIN_THREADS, arrays),
        ("redcomp_run_1", 20, 16, arrays),
        ("redcomp_run_2", 2, 8, arrays),
    ]
    assert arena.sizes == [15 * driver.kernel.partial_bytes]


def test_tables_are_released_when_another_is_made() -> None:
    """Not when the blocks go, which may be while a graph is recorded."""
    driver = ModelDriver()
    kernel, arena = GpuKernel("code", (driver.kernel,)), Arena(driver)
    parts = np.array([[0, 2], [3, 5]]), np.array([1, 2]), np.array([[0, 4], [3, 6]])
    made = [read_ranges((*parts, *parts), 10 + n, 10).i for n in range(2)]
    copies = [Blocks(blocks.rows, blocks.ends, blocks.intervals) for blocks in made]
    run(kernel, arena, copies[0], problem(10, 10))
    allocated = driver.calls["allocate"]
    assert allocated == 3
    copies[0] = copies[1]
    gc.collect()
    assert driver.calls["release"] == 0
    run(kernel, arena, copies[1], problem(10, 10))
    assert driver.calls["release"] == 3


class Refusing(ModelDriver):
    """Refuses to release some addresses; notes what it was asked to release."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: set[int] = set()
        self.asked: list[int] = []

    def release(self, device: Device, address: int) -> None:
        self.asked.append(address)
        if address in self.refused:
            raise DeviceError(f"{address} is not released")
        super().release(device, address)


def test_what_cannot_be_released_yet_is_released_later() -> None:
    """And does not stop the call that was about to copy a table of its own."""
    driver = Refusing()
    device = driver.devices()[0]
    old = [Upload(driver, device, np.arange(n)) for n in (1, 2, 3)]
    addresses = [upload.address for upload in old]
    driver.refused = set(addresses[:2])
    old.clear()
    gc.collect()
    kept = Upload(driver, device, np.arange(4))
    assert sorted(driver.asked) == sorted(addresses)
    assert driver.memory.keys() == {kept.address, *addresses[:2]}
    driver.refused = {addresses[0]}
    again = Upload(driver, device, np.arange(5))
    assert driver.memory.keys() == {kept.address, again.address, addresses[0]}
    driver.refused.clear()
    last = Upload(driver, device, np.arange(6))
    assert driver.memory.keys() == {kept.address, again.address, last.address}


def test_what_a_recorded_call_points_to_stays() -> None:
    driver = ModelDriver()
    kernel, arena = GpuKernel("code", (driver.kernel,)), Arena(driver)
    recording = Queue(driver, driver.devices()[0], 5, arena.allocate, lambda: True)
    parts = np.array([[0, 2], [3, 5]]), np.array([1, 2]), np.array([[0, 4], [3, 6]])
    kept = read_ranges((*parts, *parts), 12, 10).i
    blocks = Blocks(kept.rows, kept.ends, kept.intervals)
    arrays = problem(12, 10)
    addresses = [driver.adopt(array) for array in arrays]
    kernel(blocks, addresses[:1], addresses[1:], PLAIN, recording)
    del blocks
    gc.collect()
    run(kernel, arena, Blocks(kept.rows, kept.ends, kept.intervals), arrays)
    assert driver.calls["release"] == 0
    gpu._recorded.clear()


def test_modules_of_kernels_that_are_gone_are_unloaded_when_another_one_is_loaded() -> None:
    driver = ModelDriver()
    arena, arrays = Arena(driver), problem(12, 10)
    for _ in range(5):
        run(GpuKernel("code", (driver.kernel,)), arena, whole(12, 10), arrays)
        gc.collect()
    assert (driver.calls["load"], driver.calls["unload"], len(driver.modules)) == (5, 4, 1)


def test_the_module_of_a_recorded_call_stays() -> None:
    driver = ModelDriver()
    arena, arrays = Arena(driver), problem(12, 10)
    recording = Queue(driver, driver.devices()[0], 5, arena.allocate, lambda: True)
    addresses = [driver.adopt(array) for array in arrays]
    kernel = GpuKernel("code", (driver.kernel,))
    kernel(whole(12, 10), addresses[:1], addresses[1:], PLAIN, recording)
    del kernel
    gc.collect()
    run(GpuKernel("code", (driver.kernel,)), arena, whole(12, 10), arrays)
    assert driver.calls["unload"] == 0
    gpu._recorded.clear()


def test_offsets_of_the_latest_batches_are_kept() -> None:
    driver = ModelDriver()
    kernel, arena = GpuKernel("code", (driver.kernel,)), Arena(driver)
    for entries in range(2, 70):
        run(kernel, arena, whole(1, 1), problem(1, 1, entries))
    before = driver.calls["allocate"]
    run(kernel, arena, whole(1, 1), problem(1, 1, 69))
    assert driver.calls["allocate"] == before
    run(kernel, arena, whole(1, 1), problem(1, 1, 2))
    assert driver.calls["allocate"] == before + 1


# -- arrays on the host --


@pytest.mark.parametrize("is_filled", [False, True])
def test_copies_go_there_and_back_and_memory_is_released(is_filled: bool) -> None:
    driver = ModelDriver()
    blocks = whole(6, 1000)
    out, x, y = problem(9 if is_filled else 6, 1000)
    run_copied(driver, blocks, (out, x, y))
    assert np.array_equal(out[0, :6], x[0, :6] * y.sum())
    assert np.array_equal(out[0, 6:], np.full((len(out[0]) - 6, 1), -1.0))
    assert not driver.memory
    assert driver.calls["copy_out"] == 1


def test_memory_is_released_after_an_error() -> None:
    class Failing(ModelDriver):
        def launch(self, *_: Any) -> None:
            raise DeviceError("the launch failed")

    driver = Failing()
    with pytest.raises(DeviceError, match="launch failed"):
        run_copied(driver, whole(6, 10), problem(6, 10))
    assert not driver.memory


class Broken(Refusing):
    """A fault shows when results are copied; from then on one address cannot be released."""

    def copy_out(self, device: Device, target: int, source: int, size: int, stream: int) -> None:
        self.refused = {min(self.memory)}
        raise DeviceError("the kernel faulted")


def test_the_first_error_is_told_and_all_memory_is_released_that_can_be() -> None:
    driver = Broken()
    with pytest.raises(DeviceError, match="the kernel faulted"):
        run_copied(driver, whole(6, 10), problem(6, 10))
    assert driver.calls["allocate"] == len(driver.asked) == 3
    assert driver.memory.keys() == driver.refused
    driver.refused = set()
    Upload(driver, driver.devices()[0], np.arange(1))
    assert driver.calls["release"] == 3


# -- which driver --


def test_a_driver_is_in_use_within_its_statement() -> None:
    outer, inner = ModelDriver(), ModelDriver()
    with drivers.use(outer):
        assert drivers.driver() is outer
        with contextlib.suppress(KeyError), drivers.use(inner):
            assert drivers.driver() is inner
            raise KeyError
        assert drivers.driver() is outer


def test_device_errors_are_runtime_errors_and_can_be_pickled() -> None:
    error = pickle.loads(pickle.dumps(DeviceError("why")))
    assert isinstance(error, RuntimeError)
    assert str(error) == "why"


def test_words_are_64_bits_wide() -> None:
    """Kernels read 8 bytes a parameter, beyond what a C int holds."""
    seen: list[Any] = []

    class Reading(ModelDriver):
        def launch(self, device: Device, function: int, *rest: Any) -> None:
            seen.append(rest[-1])

    driver = Reading()
    address = 2**40 + 16
    GpuKernel("code", (driver.kernel,))(
        whole(3, 5), [address], [8, 2**62], PLAIN, Arena(driver).queue
    )
    (words,) = seen
    assert ctypes.sizeof(words) == 8 * len(words)
    assert list(words)[-3:] == [address, 8, 2**62]
