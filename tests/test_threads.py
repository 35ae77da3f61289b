"""The worker threads.  Needs no backend."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref

import pytest

from redcomp.runtime import threads

pytestmark = pytest.mark.slow

# Where a test waits for another thread; reached only if the test fails.
DEADLINE = 60.0


@pytest.fixture
def pool(monkeypatch):
    """A pool of its own, so that what other tests have started does not count."""
    pool = threads._Pool()
    monkeypatch.setattr(threads, "_pool", pool)
    return pool


def run_python(*arguments: str) -> str:
    """The output of a fresh interpreter; a hang is a failure."""
    result = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def run_script(script: str) -> str:
    return run_python("-c", textwrap.dedent(script))


def meeting(size: int):
    """A function that returns only when `size` calls run at the same time."""
    barrier = threading.Barrier(size)
    return lambda k: barrier.wait(DEADLINE)


def wait_until(condition) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def no_thread(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("workers", [0, 1, 2, 5, 40])
def test_each_number_is_called_once(pool, workers):
    calls: list[int] = []
    threads.run(calls.append, workers)
    assert sorted(calls) == list(range(workers))


def test_calls_run_at_the_same_time(pool):
    seen = set()
    meet = meeting(4)

    def function(k):
        seen.add((k, threading.get_ident()))
        meet(k)

    threads.run(function, 4)
    assert len({ident for _, ident in seen}) == 4
    assert (0, threading.get_ident()) in seen


def test_one_worker_starts_no_threads(pool):
    threads.run(lambda k: None, 1)
    assert pool.size == 0


def test_workers_are_kept_and_grow(pool):
    for workers in (3, 3, 2, 5, 4):
        threads.run(meeting(workers), workers)
    assert pool.size == 4


def test_many_calls_one_after_the_other(pool):
    counts = [0, 0, 0]

    def function(k):
        counts[k] += 1

    for _ in range(2000):
        threads.run(function, 3)
    assert counts == [2000] * 3
    assert pool.board == []


def test_an_exception_in_the_caller_waits_for_the_workers(pool):
    begun, ended = threading.Event(), []

    def function(k):
        if k == 0:
            assert begun.wait(DEADLINE)
            raise KeyError("caller")
        begun.set()
        time.sleep(0.01)  # gives a caller that did not wait the chance to be caught
        ended.append(k)

    with pytest.raises(KeyError, match="caller"):
        threads.run(function, 2)
    assert ended == [1]


def test_an_exception_in_a_worker_is_raised_in_the_caller(pool):
    meet = meeting(2)

    def function(k):
        meet(k)
        if k == 1:
            raise KeyError("worker")

    with pytest.raises(KeyError, match="worker"):
        threads.run(function, 2)
    threads.run(meeting(2), 2)  # the worker has survived


def test_after_an_exception_in_the_caller_no_further_calls_begin(pool, monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    calls = []

    def function(k):
        calls.append(k)
        raise KeyError(k)

    with pytest.raises(KeyError):
        threads.run(function, 5)
    assert calls == [0]
    assert pool.board == []


def test_after_an_exception_in_a_worker_no_further_calls_begin(pool):
    calls = []

    def function(k):
        calls.append(k)
        if k > 0:
            raise KeyError(k)
        wait_until(lambda: not pool.board)

    pool.size = 3  # of the four workers that the job asks for one will exist
    with pytest.raises(KeyError, match="1"):
        threads.run(function, 5)
    assert sorted(calls) == [0, 1]


@pytest.mark.parametrize("fails", [None, 0, 1])
def test_nothing_keeps_the_function_alive(pool, fails):
    meet = meeting(2)

    class Arrays:
        pass

    def call():
        arrays = Arrays()

        def function(k, arrays=arrays):
            meet(k)
            if k == fails:
                raise KeyError

        try:
            threads.run(function, 2)
        except KeyError:
            assert fails is not None
        return weakref.ref(arrays)

    gc.disable()  # reference counts must do it: arrays are large
    try:
        reference = call()
        wait_until(lambda: len(pool.asleep) == pool.size)
        assert reference() is None
    finally:
        gc.enable()


def test_nested_calls_in_a_worker_run_in_it(pool):
    meet, inner = meeting(2), []

    def function(k):
        meet(k)
        if k == 1:
            me = threading.get_ident()
            threads.run(lambda n: inner.append((n, threading.get_ident() == me)), 3)

    threads.run(function, 2)
    assert inner == [(0, True), (1, True), (2, True)]
    assert pool.size == 1


def test_nested_calls_in_the_caller(pool):
    calls = []

    def function(k):
        threads.run(lambda n: calls.append((k, n)), 3)

    threads.run(function, 3)
    assert sorted(calls) == [(k, n) for k in range(3) for n in range(3)]


def test_a_caller_does_not_need_busy_workers(pool):
    """The only worker is held by one caller until another caller's call has returned."""
    begun, returned, calls = threading.Event(), threading.Event(), []

    def hold(k):
        if k == 1:
            begun.set()
        assert returned.wait(DEADLINE)

    def hold_the_worker():
        threads.run(hold, 2)

    holder = threading.Thread(target=hold_the_worker)
    holder.start()
    assert begun.wait(DEADLINE)
    threads.run(lambda k: calls.append((k, threading.get_ident())), 2)
    returned.set()
    holder.join(DEADLINE)
    assert not holder.is_alive()
    assert calls == [(0, threading.get_ident()), (1, threading.get_ident())]


def test_many_callers_at_once(pool):
    callers, repeats, workers = 8, 200, 4
    results = [[0] * workers for _ in range(callers)]

    def caller(mine):
        def function(k):
            mine[k] += 1

        for _ in range(repeats):
            threads.run(function, workers)

    running = [threading.Thread(target=caller, args=(mine,)) for mine in results]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(DEADLINE)
    assert results == [[repeats] * workers] * callers
    assert pool.size == workers - 1


def test_without_further_threads_the_caller_does_everything(pool, monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    calls = []
    threads.run(calls.append, 3)
    assert calls == [0, 1, 2]
    assert pool.size == 0  # so that a later call tries again


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs POSIX signals")
@pytest.mark.parametrize("interrupts", [1, 5])
def test_an_interrupt_while_waiting_waits_for_the_workers(pool, monkeypatch, interrupts):
    handled, ended = threading.Semaphore(0), []

    def handler(number, frame):
        handled.release()
        raise KeyboardInterrupt

    begun, main = threading.Event(), threading.get_ident()

    def function(k):
        if k == 0:
            assert begun.wait(DEADLINE)
            return
        begun.set()
        for _ in range(interrupts):
            time.sleep(0.01)  # most likely the caller is waiting by then; right at any time
            signal.pthread_kill(main, signal.SIGINT)
            assert handled.acquire(timeout=DEADLINE)
        time.sleep(0.01)  # gives a caller that did not wait the chance to be caught
        ended.append(k)

    previous = signal.signal(signal.SIGINT, handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            threads.run(function, 2)
        assert ended == [1]
    finally:
        signal.signal(signal.SIGINT, previous)
    threads.run(meeting(2), 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_child_has_workers_of_its_own():
    output = run_script(
        """
        import os, threading, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
        from redcomp.runtime import threads

        def meet(name):
            barrier = threading.Barrier(3)
            threads.run(lambda k: barrier.wait(30), 3)
            print(name, threads._pool.size, flush=True)

        meet("parent")
        with threads._pool.lock:  # as if another thread had held it
            child = os.fork()
        if child == 0:
            meet("child")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        meet("parent")
        """
    )
    assert output.split() == ["parent", "2", "child", "2", "parent", "2"]


def test_a_spawned_process_has_workers(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import multiprocessing, threading
            from redcomp.runtime import threads

            def meet(n):
                barrier = threading.Barrier(3)
                threads.run(lambda k: barrier.wait(30), 3)
                return n * n

            if __name__ == "__main__":
                meet(0)
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    print(pool.map(meet, [1, 2, 3]))
            """
        )
    )
    assert run_python(str(script)) == "[1, 4, 9]\n"


@pytest.mark.sampled(2)
@pytest.mark.parametrize("last_words", ["", "sys.exit(0)", "atexit.register(threads.run, late, 9)"])
def test_exit_does_not_wait_for_workers(last_words):
    output = run_script(
        f"""
        import atexit, sys, threading
        from redcomp.runtime import threads

        def late(k):
            print("late", flush=True)

        barrier = threading.Barrier(4)
        threads.run(lambda k: barrier.wait(30), 4)
        print(threading.active_count(), flush=True)
        {last_words}
        """
    )
    assert output.split()[0] == "4"
    assert output.count("late") == (9 if "atexit" in last_words else 0)


def test_exit_while_a_worker_runs():
    """A daemon thread's call is cut off: the main thread does not wait for it."""
    output = run_script(
        """
        import threading
        from redcomp.runtime import threads

        begun = threading.Barrier(3)

        def function(k):
            begun.wait(30)
            threading.Event().wait()

        threading.Thread(target=threads.run, args=(function, 2), daemon=True).start()
        begun.wait(30)
        print("end")
        """
    )
    assert output == "end\n"
