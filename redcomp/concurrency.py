"""What threads share: a deep stack for work that recurses, values that are made once, and forks.

Everything here may be called from any thread, and works in a forked child as well.
"""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Generic, Protocol, TypeVar, overload

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
K_contra = TypeVar("K_contra", contravariant=True)

# Of a thread that compiles; an operating system gives memory only to what is used of it.  The
# longest formulas that are accepted take some megabytes.
STACK_BYTES = 64 * 2**20

_local = threading.local()
# Whoever sets the size of stacks sets it for all threads that anybody starts.
_starting = threading.Lock()
# Held for some microseconds at a time.  Reentrant, since finalizers may run anywhere.
_lock = threading.RLock()
_being_made: dict[tuple[int, Hashable], threading.Event] = {}
# Held while modules are imported that are imported late, and while the process forks: a child would
# wait for ever for a module that another thread was about to import.
importing = threading.RLock()
# Others that the process holds while it forks; modules that are imported late have some of them.
while_forking: list[contextlib.AbstractContextManager[Any]] = [importing]
_held = contextlib.ExitStack()
# Who is doing without Python's collector, and whether it was on before the first of them.
_uncollected: set[object] = set()
_was_collecting = False


def on_deep_stack(function: Callable[[], T]) -> T:
    """What `function` returns or raises, called in a thread of its own with a deep stack.

    An interrupt (Ctrl-C) ends the wait and not the call, which leaves nothing half done.  Within
    such a call, and where no thread can be started, the function is called right here.
    """
    if getattr(_local, "is_deep", False):
        return function()
    call = _Call(function)
    if not _start(call.run):
        return function()
    call.done.wait()
    try:
        if call.error is not None:
            raise call.error
        return call.result
    finally:
        del call  # its error's traceback holds this frame: no cycle may keep arrays alive


class _Call(Generic[T]):
    def __init__(self, function: Callable[[], T]) -> None:
        self.function, self.done = function, threading.Event()
        self.error: BaseException | None = None
        self.result: T

    def run(self) -> None:
        _local.is_deep = True
        try:
            self.result = self.function()
        except BaseException as error:  # noqa: BLE001 (raised by whoever waits)
            self.error = error
        finally:
            self.done.set()


def _start(function: Callable[[], None]) -> bool:
    """Call a function in a new thread; False if there can be none.

    It is no daemon: the end of the process waits for it, since LLVM must not be cut off.
    """
    thread = threading.Thread(target=function, name="redcomp compiler", daemon=False)
    try:
        with _starting:
            before = threading.stack_size(STACK_BYTES)
            try:
                thread.start()
            finally:
                threading.stack_size(before)
    except (RuntimeError, MemoryError, ValueError):
        return False
    return True


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Within it Python's collector of circular garbage waits, in all threads.

    A compilation makes some 100,000 objects that live until it ends.  They make the collector look
    at everything that the program has, 0.1 s for what PyTorch alone has, and again a little later.
    """
    global _was_collecting
    mine = object()
    with _lock:
        if not _uncollected:
            _was_collecting = gc.isenabled()
            gc.disable()
        _uncollected.add(mine)
    try:
        yield
    finally:
        with _lock:
            _uncollected.discard(mine)
            if not _uncollected and _was_collecting:
                gc.enable()


class cached_property(Generic[T]):  # noqa: N801 (named as what it stands for)
    """`functools.cached_property` without the lock that it has before Python 3.12.

    All instances share that one, so compilations would wait for each other, and a fork may find it
    held by a thread that the child has not.
    """

    def __init__(self, function: Callable[[Any], T]) -> None:
        self.function, self.__doc__ = function, function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> cached_property[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> cached_property[T] | T:
        if instance is None:
            return self
        value: T = vars(instance).setdefault(self.name, self.function(instance))
        return value


class Known(Protocol[K_contra, T]):
    """Where `once` keeps values."""

    def get(self, key: K_contra, /) -> T | None:
        """The value of a key, or None."""

    def __setitem__(self, key: K_contra, value: T, /) -> None: ...


def once(known: Known[K, T], key: K, make: Callable[[], T]) -> T:
    """The value of a key in `known`, which `make` makes if there is none, on a deep stack.

    Threads that ask for the same key wait for the one that makes it, and no others do.  If it
    fails, each of them tries itself.
    """
    value = known.get(key)
    return on_deep_stack(lambda: _make_once(known, key, make)) if value is None else value


def _make_once(known: Known[K, T], key: K, make: Callable[[], T]) -> T:
    place = (id(known), key)  # dictionaries have no hash; the caller holds this one meanwhile
    while True:
        with _lock:
            value = known.get(key)
            if value is not None:
                return value
            other = _being_made.get(place)
            if other is None:
                mine = _being_made[place] = threading.Event()
                break
        other.wait()
    try:
        with uncollected():
            value = known[key] = make()
    finally:
        with _lock:
            _being_made.pop(place, None)
        mine.set()
    return value


class Latest(Generic[K, T]):
    """Values by key: those that somebody else holds, and the latest ones that were asked for.

    latest  so many are kept though nobody else holds them

    Values that hold themselves, by references in a circle, are found by Python's collector.  It
    knows nothing of memory outside of Python, so it is called here when values have become many.
    """

    # Dead values are looked for when there are so many, or twice as many as were alive last time.
    COLLECTED_AT = 256

    def __init__(self, latest: int) -> None:
        self._most = latest
        self._alive: weakref.WeakValueDictionary[K, Any] = weakref.WeakValueDictionary()
        self._latest: OrderedDict[K, T] = OrderedDict()
        self._collect_at = self.COLLECTED_AT

    def __len__(self) -> int:
        return len(self._alive)

    def get(self, key: K) -> T | None:
        """The value of a key, or None."""
        value: T | None = self._alive.get(key)
        if value is not None:
            self._keep(key, value)
        return value

    def __setitem__(self, key: K, value: T) -> None:
        self._alive[key] = value
        self._keep(key, value)
        if len(self._alive) > self._collect_at:
            gc.collect()
            self._collect_at = max(self.COLLECTED_AT, 2 * len(self._alive))

    def _keep(self, key: K, value: T) -> None:
        with _lock:
            self._latest[key] = value
            self._latest.move_to_end(key)
            if len(self._latest) > self._most:
                self._latest.popitem(last=False)


def _forget_threads() -> None:
    """After a fork: the child has none of the threads that held locks or made values."""
    global _starting, _lock
    _starting, _lock = threading.Lock(), threading.RLock()
    if _uncollected and _was_collecting:
        gc.enable()
    _uncollected.clear()
    _being_made.clear()
    _local.is_deep = False


def _hold() -> None:
    for lock in while_forking:  # it may become longer until the first of them is held
        _held.enter_context(lock)


def _release() -> None:
    _held.pop_all().close()  # the last one that is released lets another thread fork


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
    os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_release)
