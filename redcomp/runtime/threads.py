"""Worker threads that outlive the calls they work on.

`run(function, workers)` calls `function(k)` once for each k in range(workers), at the same time as
far as threads are free.  It is made for functions that spend their time in machine code, with
Python's global lock released.

How a call is handed over: the caller puts its job on a board, wakes sleeping workers, and starts
on k = 0.  Workers that are awake take the next k of the oldest job on the board.  A caller that is
done with its own k takes any k that no worker has begun, then waits only for those that are begun:

- a call that is shorter than waking a thread never waits for one to wake;
- callers on many threads share the workers, and none can deadlock: a caller waits for nothing but
  running calls, so if all workers are busy elsewhere it does all of its job itself;
- it does not matter how many workers there are, or whether any could be started.

Python handles signals in its main thread, between two steps of a program, so not while that thread
is in machine code.  Therefore long jobs of the main thread, which can be stopped, are all left to
workers, of which one is free or is started; the main thread waits, which an interrupt ends.  So
are long jobs that somebody watches.

The board and the counters have one lock, held for about a microsecond at a time.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

_local = threading.local()
# On Windows, waiting does not notice interrupts.
_LOOK_SECONDS = 0.05


def run(
    function: Callable[[int], object],
    workers: int,
    stop: Callable[[], object] | None = None,
    watch: Callable[[], object] | None = None,
) -> None:
    """Call `function(k)` for each k in range(workers); return when all calls have returned.

    k = 0 runs in the calling thread.  Called within a worker, all calls run one after the other in
    that worker.  If a call raises, no further ones begin, and the first exception is raised here
    after the running ones have returned.  An interrupt (Ctrl-C) waits for them as well: nobody
    writes to the caller's memory once `run` has ended.  `function` must not fork.

    `stop` makes running calls return early, and is called if something has been raised.  Where it
    is given, no call runs in the main thread, so that an interrupt is noticed at once.

    `watch`, beside `stop`, is called again and again by the calling thread while it waits, so no
    call runs in that thread, whichever it is.  What it raises is raised here.
    """
    if getattr(_local, "is_worker", False) or (workers <= 1 and stop is None):
        for k in range(workers):
            function(k)
    else:
        is_main = threading.current_thread() is threading.main_thread()
        is_left = stop is not None and (is_main or watch is not None)
        _pool.run(_Job(function, workers, stop or _nothing, is_left), watch or _nothing)


def _nothing() -> None:
    pass


class _Job:
    """One call of `run`; all but the first four belongs to the pool's lock.

    is_left  whether all calls are left to workers
    """

    __slots__ = ("done", "error", "finished", "function", "is_left", "remaining", "running", "stop")

    def __init__(
        self,
        function: Callable[[int], object],
        workers: int,
        stop: Callable[[], object],
        is_left: bool,
    ) -> None:
        self.function, self.stop, self.is_left = function, stop, is_left
        # Calls not begun; the next one is at the end.
        self.remaining = list(range(workers - 1, -1 if is_left else 0, -1))
        self.running = 0  # calls begun and not ended by workers
        self.error: BaseException | None = None  # the first one raised in a worker
        self.finished = False
        self.done = threading.Lock()  # released when none remains and workers run none any more
        self.done.acquire()


class _Pool:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.board: list[_Job] = []  # open jobs, also those whose calls have all begun
        self.asleep: list[threading.Lock] = []  # each holds up a worker until it is released
        self.size = 0

    def run(self, job: _Job, watch: Callable[[], object]) -> None:
        # Ctrl-C may come between any two steps.  Even so, `close` has to get to its end once.
        failure: BaseException | None = None
        try:
            self.post(job)
            if not job.is_left:
                job.function(0)
            elif self.size and not sys.is_finalizing():
                while not job.done.acquire(timeout=_LOOK_SECONDS):
                    watch()
            while (k := self.take(job)) is not None:
                job.function(k)
        except BaseException as error:  # noqa: BLE001 (raised below)
            failure = error
        while not job.finished:
            try:
                if failure is not None:
                    job.stop()
                self.close(job)
            except BaseException as error:  # noqa: BLE001 (raised below)
                failure = error
        if failure is None:
            failure, job.error = job.error, None
        try:
            if failure is not None:
                raise failure
        finally:
            del failure  # its traceback holds this frame: no cycle may keep arrays alive

    def post(self, job: _Job) -> None:
        """Put the job on the board and see to it that enough workers are awake to look at it."""
        helpers = len(job.remaining)
        with self.lock:
            self.grow(helpers)
            sleeping = [wake for wake in self.asleep if wake.locked()]
            if job.is_left and not sleeping:
                self.grow(self.size + 1)
            self.board.append(job)
            # Workers leave the list themselves, so that an interrupt here cannot lose one for good.
            for wake in sleeping[:helpers]:
                wake.release()

    def grow(self, size: int) -> None:
        while self.size < size:
            # Daemons: the interpreter does not wait for workers when it exits.
            thread = threading.Thread(target=self.serve, name="redcomp worker", daemon=True)
            self.size += 1
            try:
                thread.start()
            except RuntimeError:  # a limit of the system, the end of the interpreter
                self.size -= 1
                return

    def take(self, job: _Job) -> int | None:
        """The number of a call that the job's own caller now makes; None if none remains."""
        with self.lock:
            return job.remaining.pop() if job.remaining else None

    def close(self, job: _Job) -> None:
        """Begin no further calls of the job, and wait for those that run.  May be repeated."""
        with self.lock:
            self.cancel(job)
            running = job.running
        if running:
            job.done.acquire()
        job.finished = True

    def cancel(self, job: _Job) -> None:
        if job in self.board:
            self.board.remove(job)
        job.remaining.clear()

    def serve(self) -> None:
        """What a worker does."""
        _local.is_worker = True
        wake = threading.Lock()
        wake.acquire()
        while True:
            if not self.help(wake):
                wake.acquire()

    def help(self, wake: threading.Lock) -> bool:
        """Make one call for some job; without one, register as asleep and return False.

        A function of its own, so that a sleeping worker keeps no job, and so no arrays, alive.
        """
        with self.lock:
            if wake in self.asleep:
                self.asleep.remove(wake)
            job = next((job for job in self.board if job.remaining), None)
            if job is None:
                self.asleep.append(wake)
                return False
            k = job.remaining.pop()
            job.running += 1
        error = None
        try:
            job.function(k)
        except BaseException as raised:  # noqa: BLE001 (raised again by the job's caller)
            error = raised
        try:
            self.leave(job, error)
        finally:
            del error
        return True

    def leave(self, job: _Job, error: BaseException | None) -> None:
        with self.lock:
            if error is not None:
                job.error = job.error or error
                self.cancel(job)
            job.running -= 1
            if not job.remaining and not job.running:
                job.done.release()


_pool = _Pool()


def _forget_workers() -> None:
    """After a fork the child has no workers, and nobody there will ever release the old locks."""
    global _pool
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_workers)
