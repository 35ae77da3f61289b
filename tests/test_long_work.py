"""Progress of long calls and solves, shown to a stand-in: needs the CPU's backend and PyTorch."""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from ptxsim.driver import StandIn

import redcomp
import redcomp.numpy
import redcomp.torch
from redcomp import long_work
from redcomp.config import ConfigError
from redcomp.errors import ArgumentError, ConvergenceWarning
from redcomp.numpy.cluster import from_matrix
from redcomp.runtime import tasks, threads
from redcomp.runtime.driver import use

# Where a test waits for another thread; reached only if the test fails.
DEADLINE = 60.0


class Seen:
    """A display that keeps what it is shown."""

    def __init__(self, work: long_work.Work) -> None:
        self.unit, self.total = work.unit, work.total
        self.done: list[int] = []
        self.residuals: list[float | None] = []
        self.is_open = True

    def show(self, done: int, residual: float | None) -> None:
        assert self.is_open
        self.done.append(done)
        self.residuals.append(residual)

    def close(self) -> None:
        self.is_open = False


@pytest.fixture
def displays(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Seen]]:
    """The displays that are opened, at once; every call that is divided counts as a long one."""
    made: list[Seen] = []

    def display(work: long_work.Work) -> Seen:
        made.append(Seen(work))
        return made[-1]

    monkeypatch.setattr(long_work, "_display", display)
    monkeypatch.setattr(long_work, "DELAY_SECONDS", 0.0)
    monkeypatch.setattr(tasks, "LONG", 0)
    tasks.whole.cache_clear()
    yield made
    tasks.whole.cache_clear()


# -- what asks for it --


@pytest.fixture(autouse=True)
def unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As at the begin of a program: nobody has called `progress`, which holds for the process."""
    monkeypatch.setattr(long_work, "_asked", None)


def test_it_is_off_and_can_be_switched(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not long_work.is_shown()
    monkeypatch.setenv("REDCOMP_PROGRESS", "1")
    assert long_work.is_shown()
    with redcomp.progress(False):
        assert not long_work.is_shown()
        with redcomp.progress():
            assert long_work.is_shown()
        assert not long_work.is_shown()
    assert long_work.is_shown()
    monkeypatch.setenv("REDCOMP_PROGRESS", "maybe")
    with pytest.raises(ConfigError, match="REDCOMP_PROGRESS must be 0 or 1, not 'maybe'"):
        long_work.is_shown()


def test_it_holds_from_the_call_on(monkeypatch: pytest.MonkeyPatch) -> None:
    redcomp.progress()
    assert long_work.is_shown()
    monkeypatch.setattr(sys, "stderr", None)  # as in programs without a console
    assert not long_work.is_shown()


@pytest.mark.parametrize("wrong", ["yes", 2, None])
def test_it_is_true_or_false(wrong: Any) -> None:
    with pytest.raises(ArgumentError, match="shown must be True or False, not"):
        redcomp.progress(wrong)
    assert not long_work.is_shown()


# -- calls on the host --

FORMULA, ALIASES = "Exp(-SqDist(x, y)) * y", ["x = Vi(2)", "y = Vj(2)"]
LIBRARIES = {"numpy": np.asarray, "torch": torch.from_numpy}


def blocks(rows: int, columns: int) -> Any:
    """Blocks of several heights and widths: not all of the rows and columns."""
    ranges_i = np.array([[0, 10], [10, rows // 2], [rows // 2, rows]])
    ranges_j = np.array([[0, columns // 3], [columns // 3, columns]])
    keep = np.array([[True, False], [True, True], [False, True]])
    return from_matrix(ranges_i, ranges_j, keep)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("number", ["1", "2", "3"])
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("case", ["dense", "few rows", "batch", "ranges"])
def test_pairs_of_a_call(
    case: str, library: str, number: str, displays: list[Seen], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDCOMP_NUM_THREADS", number)
    shapes = {"few rows": ((3, 2), (900_000, 2)), "batch": ((2, 1100, 2), (2, 1500, 2))}
    random = np.random.default_rng(0)
    convert = LIBRARIES[library]
    x, y = (random.random(shape) for shape in shapes.get(case, ((1700, 2), (1900, 2))))
    ranges = blocks(1700, 1900) if case == "ranges" else None
    pairs = x.shape[-2] * y.shape[-2] * (2 if case == "batch" else 1)
    if case == "ranges":
        pairs = 10 * 633 + 840 * 1900 + 850 * (1900 - 633)
        ranges = tuple(map(convert, ranges))
    call = getattr(redcomp, library).Genred(FORMULA, ALIASES, axis=1)
    quiet = call(convert(x), convert(y), ranges=ranges)
    assert displays == []
    with redcomp.progress():
        watched = call(convert(x), convert(y), ranges=ranges)
    (seen,) = displays
    assert (seen.unit, seen.total, seen.done[-1]) == ("pairs", pairs, pairs)
    assert seen.done == sorted(seen.done)
    assert seen.done[0] >= 0
    assert not seen.is_open
    assert (watched == quiet).all()


def test_short_calls_are_not_watched(displays: list[Seen]) -> None:
    call = redcomp.numpy.Genred(FORMULA, ALIASES, axis=1)
    with redcomp.progress():
        call(np.ones((50, 2)), np.ones((50, 2)))
    assert displays == []


def test_what_takes_less_than_the_delay_is_not_shown(
    displays: list[Seen], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_work, "DELAY_SECONDS", 1e9)
    call = redcomp.numpy.Genred(FORMULA, ALIASES, axis=1)
    with redcomp.progress():
        call(np.ones((1700, 2)), np.ones((1900, 2)))
    assert displays == []


def test_pairs_before_tasks_are_those_of_their_rows_and_columns() -> None:
    grain = tasks.Grain(step=4, chunk=8, tasks=16, split_columns=7)
    ranges = tasks.Blocks(
        np.array([[0, 13], [20, 50], [50, 51]]),
        np.array([2, 3, 5]),
        np.array([[0, 9], [11, 40], [3, 33], [0, 1], [30, 60]]),
    )
    plan = ranges.plan(1, grain)
    assert plan.partials
    expected = [0]
    for first, last, start, stop, _ in plan.tasks:
        columns = sum(end - begin for begin, end in plan.intervals[start:stop])
        expected.append(expected[-1] + (last - first) * columns)
    assert plan.pairs_before().tolist() == expected
    assert expected[-1] == ranges.mask(51, 60).sum()


# -- the thread that waits --


@pytest.mark.parametrize("is_main", [True, False])
@pytest.mark.parametrize("workers", [1, 2])
def test_whoever_waits_watches(is_main: bool, workers: int) -> None:
    event = threading.Event()
    ended: list[bool] = []

    def call() -> None:
        # It ends only because it is watched.
        threads.run(lambda k: ended.append(event.wait(DEADLINE)), workers, event.set, event.set)

    if is_main:
        call()
    else:
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
    assert ended == [True] * workers


def test_what_a_watcher_raises_ends_the_call() -> None:
    event, stopped = threading.Event(), []

    def stop() -> None:
        stopped.append(True)
        event.set()

    def watch() -> None:
        raise OSError("no place to write to")

    with pytest.raises(OSError, match="no place"):
        threads.run(lambda k: event.wait(DEADLINE), 2, stop, watch)
    assert stopped


# -- solves --

SYSTEM, UNKNOWN = "Exp(-SqDist(x, y)) * b", ["x = Vi(2)", "y = Vj(2)", "b = Vj(2)"]
ALPHA = 0.3


def points(scale: float = 1.0) -> tuple[Any, Any]:
    random = np.random.default_rng(5)
    x, b = random.random((40, 2)), random.standard_normal((40, 2))
    b[:, 1] *= scale  # the two columns are systems of their own
    return x, b


def residual_after(x: Any, b: Any, iterations: int) -> float:
    """The largest residual of the columns, from the solution that maxiter gives."""
    solver = redcomp.numpy.KernelSolve(SYSTEM, UNKNOWN, "b", axis=1)
    with pytest.warns(ConvergenceWarning):
        a = solver(x, x, b, alpha=ALPHA, eps=0, rtol=1e-14, maxiter=iterations)
    matrix = np.exp(-((x[:, None] - x) ** 2).sum(-1)) + ALPHA * np.eye(len(x))
    return float(np.sqrt(((b - matrix @ a) ** 2).mean(0)).max())


@pytest.mark.sampled(4)
@pytest.mark.parametrize("library", LIBRARIES)
def test_callback_of_a_solve(library: str, displays: list[Seen]) -> None:
    convert, (x, b) = LIBRARIES[library], points(scale=100.0)
    solver = getattr(redcomp, library).KernelSolve(SYSTEM, UNKNOWN, "b", axis=1)
    told: list[tuple[int, float]] = []

    def solve(**options: Any) -> Any:
        given = convert(x), convert(x), convert(b)
        return solver(*given, alpha=ALPHA, eps=1e-9, return_info=True, **options)

    a, info = solve(callback=lambda *of_iteration: told.append(of_iteration))
    assert [n for n, _ in told] == list(range(1, info.iterations + 1))
    assert {(type(n), type(residual)) for n, residual in told} == {(int, float)}
    assert told[-1][1] <= 1e-9 < told[-2][1]
    for n in (1, 3, 5):
        np.testing.assert_allclose(told[n - 1][1], residual_after(x, b, n), rtol=1e-6)
    assert displays == []

    with redcomp.progress():
        shown, _ = solve()
        solve(callback=lambda *of_iteration: told.append(of_iteration))
    assert (shown == a).all()
    assert told[: info.iterations] == told[info.iterations :]
    for seen in (d for d in displays if d.unit == "iterations"):
        assert list(zip(seen.done, seen.residuals, strict=True)) == told[: info.iterations]
        assert (seen.total, seen.is_open) == (None, False)


def test_a_solve_on_a_gpu_tells_the_same(displays: list[Seen]) -> None:
    x, b = (a[:6] for a in points())
    solver = redcomp.numpy.KernelSolve(SYSTEM, UNKNOWN, "b", axis=1)
    told: dict[str, list[float]] = {"CPU": [], "GPU": []}
    with use(StandIn()), redcomp.progress():
        for backend, residuals in told.items():
            take = lambda _, residual, to=residuals: to.append(residual)
            solver(x, x, b, alpha=ALPHA, backend=backend, callback=take)
    assert [d.unit for d in displays] == ["iterations", "iterations"]
    assert [d.done[-1] for d in displays] == [len(told["CPU"]), len(told["GPU"])]
    np.testing.assert_allclose(told["GPU"][:3], told["CPU"][:3], rtol=1e-6)


@pytest.mark.parametrize("library", LIBRARIES)
def test_what_a_callback_raises_ends_the_solve(library: str, displays: list[Seen]) -> None:
    convert, (x, b) = LIBRARIES[library], points()
    solver = getattr(redcomp, library).KernelSolve(SYSTEM, UNKNOWN, "b", axis=1)
    told = []

    def callback(iteration: int, residual: float) -> None:
        told.append(iteration)
        if iteration == 3:
            raise StopIteration

    with redcomp.progress(), pytest.raises(StopIteration):
        solver(convert(x), convert(x), convert(b), alpha=ALPHA, callback=callback)
    assert told == [1, 2, 3]
    assert not displays[-1].is_open


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("wrong", [True, "print", 3.0])
def test_a_callback_can_be_called(library: str, wrong: Any) -> None:
    convert, (x, b) = LIBRARIES[library], points()
    solver = getattr(redcomp, library).KernelSolve(SYSTEM, UNKNOWN, "b", axis=1)
    with pytest.raises(ArgumentError, match="callback must be a function of an iteration's number"):
        solver(convert(x), convert(x), convert(b), callback=wrong)


def test_a_lazy_tensor_passes_the_callback_on() -> None:
    x, b = points()
    x_i, x_j = redcomp.numpy.Vi(x), redcomp.numpy.Vj(x)
    told = []
    (-((x_i - x_j) ** 2).sum(-1)).exp().solve(
        b, alpha=ALPHA, callback=lambda iteration, _: told.append(iteration)
    )
    assert told == list(range(1, len(told) + 1))
    assert told


def test_derivatives_solve_without_the_callback() -> None:
    x, b = map(torch.from_numpy, points())
    solver = redcomp.torch.KernelSolve(SYSTEM, UNKNOWN, "b", axis=1)
    told: list[int] = []
    a = solver(x, x, b.requires_grad_(), alpha=ALPHA, callback=lambda n, _: told.append(n))
    before = list(told)
    a.sum().backward()
    assert told == before
    assert b.grad is not None


def test_a_graph_has_no_callback() -> None:
    x, b = map(torch.from_numpy, points())
    solver = redcomp.torch.KernelSolve(SYSTEM, UNKNOWN, "b", axis=1)
    message = "callback is for eager calls: a graph has no iterations to count"

    def solve(b: torch.Tensor) -> Any:
        return solver(x, x, b, alpha=ALPHA, callback=lambda *_: None)

    with pytest.raises(ArgumentError, match=message):
        torch.func.functionalize(solve)(b)


# -- displays --


class Clock:
    """A clock that somebody sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(long_work, "_clock", made)
    return made


def steps(clock: Clock, unit: str, total: int | None) -> Callable[..., None]:
    """Work that is shown some numbers at some seconds."""

    def run(*seen: tuple[float, int, float | None]) -> None:
        begin = clock.now
        with long_work.Work(unit, total) as work:
            for seconds, done, residual in seen:
                clock.now = begin + seconds
                work.show(done, residual)

    return run


def test_lines(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    steps(clock, "pairs", 10**12)(
        (1, 1, None), (2, 10**11, None), (4, 3 * 10**11, None), (8, 5 * 10**11, None)
    )
    steps(clock, "pairs", 10**12)((2, 0, None), (9, 10**12, None))
    steps(clock, "iterations", None)((3, 1200, 0.5), (4, 1300, 0.25))
    steps(clock, "iterations", None)((1, 3, 0.5))
    assert capsys.readouterr().err.splitlines() == [
        "redcomp: 10 % of 1e+12 pairs after 2 s, about 18 s left",
        "redcomp: 50 % of 1e+12 pairs after 8 s, about 8 s left",
        "redcomp: 0 % of 1e+12 pairs after 2 s",
        "redcomp: 100 % of 1e+12 pairs after 9 s",
        "redcomp: 1,200 iterations after 3 s, residual 5.00e-01",
        "redcomp: 1,300 iterations after 4 s, residual 2.50e-01",
    ]


class FakeBar:
    """What is used of a bar of tqdm's."""

    made: ClassVar[list[FakeBar]] = []

    def __init__(self, **options: Any) -> None:
        self.options, self.n, self.start_t, self.text = options, 0, 1000.0, ""
        self.is_closed = False
        self.made.append(self)

    def set_postfix_str(self, text: str, refresh: bool) -> None:
        assert not refresh
        self.text = text

    def update(self, n: int) -> None:
        self.n += n

    def close(self) -> None:
        self.is_closed = True


def test_bars(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    fake: Any = types.ModuleType("tqdm.auto")
    fake.tqdm = FakeBar
    monkeypatch.setattr(FakeBar, "made", [])
    monkeypatch.setitem(sys.modules, "tqdm", types.ModuleType("tqdm"))
    monkeypatch.setitem(sys.modules, "tqdm.auto", fake)
    steps(clock, "pairs", 50)((1, 7, None), (3, 20, None), (4, 50, None))
    steps(clock, "iterations", None)((2, 1, 0.5), (4, 2, 0.25))
    of_pairs, of_iterations = FakeBar.made
    assert of_pairs.options["total"] == of_pairs.n == 50
    assert of_pairs.options["unit"] == " pairs"
    assert of_pairs.start_t == 1000.0 - 3
    assert of_pairs.options["smoothing"] == 0  # else the first rate is of the bar's own seconds
    assert (of_iterations.options["total"], of_iterations.n) == (None, 2)
    assert of_iterations.text == "residual 2.50e-01"
    assert of_pairs.is_closed
    assert of_iterations.is_closed
