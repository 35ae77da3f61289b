"""Memory that calls and compilations give back: needs the CPU's backend."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import tracemalloc
import weakref
from typing import Any

import numpy as np
import pytest

from redcomp.backends.host import HostLowering
from redcomp.concurrency import Latest
from redcomp.frontend.language.expressions import Slot, number, operation, variable
from redcomp.frontend.reductions.genred import reducer_of_formulas
from redcomp.llvm_backend.host import jit
from redcomp.numpy import Genred, LazyTensor
from redcomp.runtime import host
from redcomp.runtime.tasks import grain, whole

pytestmark = pytest.mark.slow

ALIASES = ["x = Vi(2)", "y = Vj(2)"]
DEADLINE = 3600.0

GROWTH = """
import ctypes, gc, sys
import numpy as np

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

def mappings():
    with open("/proc/self/maps") as file:
        return sum(1 for _ in file)

def call_numpy(k):
    import redcomp.numpy
    x = np.ones((5, 2))
    redcomp.numpy.Genred(f"{k} * SqDist(x, y)", ["x = Vi(2)", "y = Vj(2)"], axis=1)(x, x)

def call_torch(k):
    import torch, redcomp.torch
    x = torch.ones(5, 2, requires_grad=True)
    made = redcomp.torch.Genred(f"{k} * SqDist(x, y)", ["x = Vi(2)", "y = Vj(2)"], axis=1)
    made(x, torch.ones(5, 2)).sum().backward()

def compile_formulas(call, first, last):
    for k in range(first, last):
        call(k)
    gc.collect()
    if hasattr(libc, "malloc_trim"):  # what is free is not always given back to the system
        libc.malloc_trim(0)

libc = ctypes.CDLL(None)
call, warm, count = globals()["call_" + sys.argv[1]], int(sys.argv[2]), int(sys.argv[3])
compile_formulas(call, 1, 1 + warm)
before, mapped = resident(), mappings()
compile_formulas(call, 1 + warm, 1 + warm + count)
print((resident() - before) / count, (mappings() - mapped) / count, resident() / 2**20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("library", "warm", "count"),
    [
        pytest.param("numpy", 80, 70, id="150 formulas"),
        pytest.param("torch", 40, 30, marks=pytest.mark.thorough, id="70 formulas with gradients"),
        pytest.param("numpy", 300, 3000, marks=pytest.mark.thorough, id="3,000 formulas"),
        pytest.param(
            "torch", 200, 1500, marks=pytest.mark.thorough, id="1,500 formulas with gradients"
        ),
    ],
)
def test_distinct_formulas_leave_no_memory(library: str, warm: int, count: int) -> None:
    """A kernel with its machine code takes about 100 kB and two mappings while it is there."""
    result = subprocess.run(
        [sys.executable, "-c", GROWTH, library, str(warm), str(count)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "REDCOMP_CACHE_DIR": "off",
            "REDCOMP_VERIFY": "0",
        },
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    print(result.stdout)
    bytes_each, mappings_each, _ = map(float, result.stdout.split())
    assert bytes_each < 40_000
    assert mappings_each < 0.5


def made(k: int, axis: int = 1) -> Genred:
    return Genred(f"{k} * SqDist(x, y) - {k}", ALIASES, axis=axis)


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Latest[bytes, Any]:
    """The loaded kernels of a process that has none yet, of which two are kept."""
    reducer_of_formulas.cache_clear()
    gc.collect()  # what tests before have left is no concern of this one
    jit.unload()
    loaded: Latest[bytes, Any] = Latest(2)
    monkeypatch.setattr(HostLowering, "LOADED", loaded)
    return loaded


def test_kernels_that_no_reduction_holds_are_unloaded(kernels: Latest[bytes, Any]) -> None:
    x = np.ones((5, 2))
    held = [made(k) for k in range(1, 5)]
    for each in held:
        each(x, x)
    assert len(kernels) == 4
    jit.unload()
    del each
    held.clear()
    reducer_of_formulas.cache_clear()
    gc.collect()
    assert len(kernels) == 2  # the latest ones
    assert len(jit._dropped) == 2
    jit.unload()
    assert not jit._dropped


@pytest.mark.thorough
def test_the_latest_kernels_are_found_again(kernels: Latest[bytes, Any]) -> None:
    x = np.ones((5, 2))
    for k in (1, 2, 1, 3):  # 2 is the least recently used
        made(k)(x, x)
        gc.collect()
    assert len(kernels) == 2
    before = set(kernels._alive)
    for k in (1, 3):
        made(k)(x, x)
    assert set(kernels._alive) == before


@pytest.mark.thorough
def test_reductions_in_circles_are_found_without_being_asked_for(
    kernels: Latest[bytes, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "_collect_at", 5)
    monkeypatch.setattr(Latest, "COLLECTED_AT", 5)
    x = np.ones((5, 2))
    gc.disable()  # so that nobody else collects
    try:
        for k in range(1, 20):
            made(k)(x, x)
            assert len(kernels) <= 6
    finally:
        gc.enable()


@pytest.mark.thorough
def test_code_is_not_unloaded_while_it_runs(kernels: Latest[bytes, Any]) -> None:
    """One thread computes with kernels that nobody else holds, another one unloads all the time."""
    x = np.random.default_rng(0).random((300, 2))
    expected = ((x[:, None] - x) ** 2).sum((1, 2))[:, None]
    is_over = threading.Event()

    def drop() -> None:
        while not is_over.is_set():
            kernels._latest.clear()
            gc.collect()
            jit.unload()

    thread = threading.Thread(target=drop)
    thread.start()
    try:
        for k in range(1, 4):
            np.testing.assert_allclose(made(k)(x, x), k * expected - k * 300, rtol=1e-9)
    finally:
        is_over.set()
        thread.join()


def test_a_reduction_is_freed_with_what_was_prepared_for_it() -> None:
    torch = pytest.importorskip("torch")
    import redcomp.torch

    x = torch.ones(5, 2, requires_grad=True)
    reduction = redcomp.torch.Genred("SqDist(x, y)", ALIASES, axis=1)
    reduction(x, x).sum().backward()
    reduction(x.half(), x.half())
    references = [weakref.ref(reduction), weakref.ref(reduction.reduction)]
    references += [weakref.ref(each) for each in reduction.reduction._derived.values()]
    assert len(references) > 2
    del reduction
    reducer_of_formulas.cache_clear()
    gc.collect()
    assert [reference() for reference in references] == [None] * len(references)


def test_plans_do_not_pile_up() -> None:
    blocks = whole(977, 983)
    for k in range(300):
        blocks.plan(1, grain(16, 16 * (k + 1), 16, 2048, 1000))
    assert len(blocks._plans) <= 64
    assert grain(1, 2, 3, 4) is grain(1, 2, 3, 4)


@pytest.mark.parametrize(("dim", "is_kept"), [(2, True), (100_000, False)])
def test_large_scratch_memory_is_given_back(
    monkeypatch: pytest.MonkeyPatch, dim: int, is_kept: bool
) -> None:
    scratch = host._Scratch()
    monkeypatch.setattr(host, "_scratch", scratch)
    reduction = Genred("SqDist(x, y)", [f"x = Vi({dim})", f"y = Vj({dim})"], axis=1)
    x = np.random.default_rng(0).random((3, dim))
    expected = ((x[:, None] - x) ** 2).sum((1, 2))
    for _ in range(2):
        np.testing.assert_allclose(reduction(x, x)[:, 0], expected, rtol=1e-9)
    assert (scratch.size > 0) == is_kept
    assert scratch.size <= host.KEPT_BYTES


@pytest.mark.thorough
def test_lazy_tensors_leave_no_memory() -> None:
    x, b = np.ones((5, 2)), np.ones(5)

    def product(power: float) -> None:
        x_i, x_j = LazyTensor(x[:, None]), LazyTensor(x[None])
        kernel = (((x_i - x_j) ** 2).sum(-1) * power - 2.5).exp()
        kernel @ b  # a call, for its own sake

    product(0.5)
    gc.collect()
    tracemalloc.start()
    for n in range(300):
        product(float(n))
    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    for n in range(3000):
        product(float(n))
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 20_000


def test_expressions_that_are_forgotten_are_made_again() -> None:
    made = variable(Slot("i", 2))
    kept = operation("*", made.in_place, number(2).in_place)
    assert kept is operation("*", made.in_place, number(2).in_place)
    for n in range(20_000):
        operation("*", made.in_place, number(n + 3).in_place)
    info = operation.cache_info()
    assert info.maxsize is not None
    assert info.currsize <= info.maxsize
    again = operation("*", made.in_place, number(2).in_place)
    assert again is not kept
    assert (again.callee, again.slots, again.dim) == (kept.callee, kept.slots, kept.dim)
