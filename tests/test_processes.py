"""Forks, interrupts, threads and small stacks around compilations and long calls: needs the CPU."""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import numpy as np
import pytest

from redcomp.backends.host import HostLowering
from redcomp.concurrency import Latest, cached_property, on_deep_stack, once
from redcomp.frontend.reductions.genred import reducer_of_formulas
from redcomp.llvm_backend import code_generation
from redcomp.lowering import KEPT_KERNELS
from redcomp.numpy import Genred

pytestmark = pytest.mark.slow

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX processes and signals")

# Where a test waits for somebody else; reached only if the test fails.
DEADLINE = 120.0

PROLOGUE = """
import os, signal, sys, threading, time, warnings
import numpy as np
import redcomp.numpy

warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells may start tests without it
ALIASES = ["x = Vi(2)", "y = Vj(2)"]
x, y = np.random.default_rng(0).random((2, 7, 2))

def is_right(k):
    result = redcomp.numpy.Genred(f"{k} * (x | y) + SqDist(x, y)", ALIASES, axis=1)(x, y)
    distance = ((x[:, None] - y) ** 2).sum(-1)
    return np.allclose(result[:, 0], (k * x @ y.T + distance).sum(1), rtol=1e-12)
"""


SETTINGS = {"REDCOMP_CACHE_DIR": "off", "REDCOMP_VERIFY": "0"}


def run_script(script: str, **environment: str) -> str:
    """The output of a fresh interpreter that compiles all it needs; a hang is a failure."""
    path = os.pathsep.join(filter(None, sys.path))
    result = subprocess.run(
        [sys.executable, "-c", PROLOGUE + textwrap.dedent(script)],
        env={**os.environ, **SETTINGS, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


# -- forks -----------------------------------------------------------------------------------------


@posix
def test_children_forked_during_compilations_compile_and_call() -> None:
    output = run_script(
        """
        is_over = threading.Event()

        def compile_all_the_time(k):
            while not is_over.is_set():
                assert is_right(k)
                k += 2

        threads = [threading.Thread(target=compile_all_the_time, args=(k,)) for k in (2, 3)]
        for thread in threads:
            thread.start()
        try:
            for n in range(20):
                time.sleep(0.013)
                child = os.fork()
                if not child:
                    signal.alarm(100)  # ends a child that hangs
                    os._exit(not is_right(1000 + n))
                print(os.waitpid(child, 0)[1])
        finally:
            is_over.set()
            for thread in threads:
                thread.join()
        """
    )
    assert output.split() == ["0"] * 20


@posix
@pytest.mark.parametrize("lock", ["lock", "llvmlite_lock"])
def test_a_fork_waits_until_no_thread_is_inside_of_llvm(lock: str) -> None:
    output = run_script(
        f"""
        from redcomp.llvm_backend import locks

        taken, released = threading.Event(), []

        def hold():
            with locks.{lock}:
                taken.set()
                time.sleep(0.2)
                released.append(True)

        threading.Thread(target=hold).start()
        assert taken.wait(60)
        child = os.fork()
        if not child:
            signal.alarm(100)
            os._exit(not (released and is_right(2)))
        print(os.waitpid(child, 0)[1], is_right(3))
        """
    )
    assert output.split() == ["0", "True"]


@posix
def test_a_child_forgets_what_other_threads_were_making() -> None:
    output = run_script(
        """
        import gc
        from redcomp import concurrency

        begun, go_on, known = threading.Event(), threading.Event(), {}

        def make():
            begun.set()
            go_on.wait(60)
            return "parent's"

        maker = threading.Thread(target=concurrency.once, args=(known, "key", make))
        maker.start()
        assert begun.wait(60)
        with concurrency._lock:
            child = os.fork()
        if not child:
            signal.alarm(100)
            collects = gc.isenabled()
            made = concurrency.once(known, "key", lambda: "child's")
            os._exit(made != "child's" or not collects or not gc.isenabled())
        go_on.set()
        maker.join()
        print(os.waitpid(child, 0)[1], known, gc.isenabled())
        """
    )
    assert output == "0 {'key': \"parent's\"} True\n"


# -- interrupts ------------------------------------------------------------------------------------

# A call of about a minute on one fast core, and much longer on others.
LONG = """
def interrupted(call):
    sent = []

    def interrupt():
        time.sleep(0.3)
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    try:
        call()
    except KeyboardInterrupt:
        return time.perf_counter() - sent[0]
    return float("inf")

large = np.random.default_rng(1).random((600_000, 2))
wide = redcomp.numpy.Genred("Exp(-SqDist(x, y)) * Sin((x | y))", ALIASES, axis=1)
"""
CALLS = {
    "numpy": "call = lambda: wide(large, large)",
    "float32": "s = large.astype('f'); call = lambda: wide(s, s)",
    "over i": """
        over_i = redcomp.numpy.Genred("Exp(-SqDist(x, y)) * Sin((x | y))", ALIASES, axis=0)
        call = lambda: over_i(large, large)
        """,
    "few rows": """
        many = np.random.default_rng(1).random((8_000_000, 2))
        call = lambda: [wide(large[:2], many) for _ in range(1000)]
        """,
    "batch": """
        entries = large.reshape(100, 6000, 2)
        call = lambda: [wide(entries, entries) for _ in range(100)]
        """,
    "torch": """
        import torch, redcomp.torch
        made = redcomp.torch.Genred("Exp(-SqDist(x, y)) * Sin((x | y))", ALIASES, axis=1)
        t = torch.from_numpy(large)
        call = lambda: made(t, t)
        """,
    "backward": """
        import torch, redcomp.torch
        made = redcomp.torch.Genred("Exp(-SqDist(x, y)) * Sin((x | y))", ALIASES, axis=1)
        t = torch.from_numpy(large)

        class Sum(torch.autograd.Function):
            @staticmethod
            def forward(ctx, t):
                return t.sum()

            @staticmethod
            def backward(ctx, cotangent):
                return made(t, t).repeat(1, 2)

        call = lambda: Sum.apply(t.clone().requires_grad_()).backward()
        """,
}


@pytest.mark.sampled(5)
@posix
@pytest.mark.parametrize(
    ("name", "threads", "progress"),
    [*((name, "2", "0") for name in CALLS), ("numpy", "1", "0"), ("numpy", "2", "1")],
)
def test_ctrl_c_ends_a_long_call_and_the_next_one_is_right(
    name: str, threads: str, progress: str
) -> None:
    script = LONG + textwrap.dedent(CALLS[name]) + "\n"
    script += "print(interrupted(call), is_right(2), threading.active_count())"
    settings = {"REDCOMP_NUM_THREADS": threads, "REDCOMP_PROGRESS": progress}
    seconds, right, active = run_script(script, **settings).split()
    # The whole call takes a minute.  A fifth of a second is usual; a busy machine may take longer.
    assert float(seconds) < 10
    assert right == "True"
    assert int(active) <= 2 + int(threads)


@posix
def test_ctrl_c_during_a_compilation_leaves_it_to_end() -> None:
    output = run_script(
        """
        from redcomp.llvm_backend import code_generation

        compile_object, begun = code_generation.compile_object, threading.Event()

        def slow(text, target):
            begun.set()
            time.sleep(0.5)
            compiled.append(1)
            return compile_object(text, target)

        compiled, code_generation.compile_object = [], slow
        made = redcomp.numpy.Genred("(x | y)", ALIASES, axis=1)

        def interrupt():
            begun.wait(60)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=interrupt).start()
        try:
            made(x, y)
        except KeyboardInterrupt:
            print(len(compiled))
        print(np.allclose(made(x, y)[:, 0], (x @ y.T).sum(1)), len(compiled))
        """
    )
    assert output.split() == ["0", "True", "1"]


# -- one compilation for each key ------------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modules that LLVM compiles; nothing is taken from a cache."""
    texts: list[str] = []
    compile_object = code_generation.compile_object

    def count(text: str, target: Any) -> bytes:
        texts.append(text)
        return compile_object(text, target)

    monkeypatch.setattr(code_generation, "compile_object", count)
    monkeypatch.setenv("REDCOMP_CACHE_DIR", "off")
    monkeypatch.setattr(HostLowering, "LOADED", Latest(KEPT_KERNELS))
    return texts


def in_threads(function: Any, count: int) -> list[Any]:
    """The results of so many calls that begin together."""
    barrier, results = threading.Barrier(count), [None] * count

    def run(n: int) -> None:
        barrier.wait(DEADLINE)
        results[n] = function(n)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive()
    return results


@pytest.mark.parametrize("is_shared", [True, False], ids=["one Genred", "one each"])
def test_32_first_calls_compile_once(counted: list[str], is_shared: bool) -> None:
    reducer_of_formulas.cache_clear()
    x = np.random.default_rng(0).random((9, 3))
    shared = Genred("Exp(-SqDist(x, y))", ["x = Vi(3)", "y = Vj(3)"], axis=1)

    def call(n: int) -> Any:
        own = Genred("Exp(-SqDist(x, y))", ["x = Vi(3)", "y = Vj(3)"], axis=1)
        return (shared if is_shared else own)(x, x)

    results = in_threads(call, 32)
    assert len(counted) == 1
    expected = np.exp(-((x[:, None] - x) ** 2).sum(-1)).sum(1)
    for result in results:
        np.testing.assert_allclose(result[:, 0], expected, rtol=1e-12)


def test_32_formulas_in_32_threads(counted: list[str]) -> None:
    x = np.random.default_rng(0).random((9, 1))

    def call(n: int) -> Any:
        return Genred(f"{n + 2} * x * y", ["x = Vi(1)", "y = Vj(1)"], axis=1)(x, x)

    for n, result in enumerate(in_threads(call, 32)):
        np.testing.assert_allclose(result, (n + 2) * x * x.sum(), rtol=1e-12)
    assert len(counted) == 32


def test_others_do_not_wait_for_a_key_that_is_being_made() -> None:
    begun, go_on, known = threading.Event(), threading.Event(), dict[str, int]()

    def make() -> int:
        begun.set()
        assert go_on.wait(DEADLINE)
        return 1

    first = threading.Thread(target=once, args=(known, "slow", make))
    first.start()
    assert begun.wait(DEADLINE)
    assert once(known, "fast", lambda: 2) == 2
    assert first.is_alive()
    go_on.set()
    first.join(DEADLINE)
    assert known == {"slow": 1, "fast": 2}
    assert once(known, "slow", lambda: 3) == 1


def test_after_a_failure_the_next_one_tries() -> None:
    known, begun, tried = dict[str, int](), threading.Event(), []

    def fail() -> int:
        begun.set()
        time.sleep(0.05)  # most likely the other thread waits by then; right at any time
        raise KeyError("mine")

    def succeed() -> int:
        tried.append(1)
        return 7

    def fails() -> None:
        with pytest.raises(KeyError, match="mine"):
            once(known, "key", fail)

    thread = threading.Thread(target=fails)
    thread.start()
    assert begun.wait(DEADLINE)
    assert once(known, "key", succeed) == 7
    thread.join(DEADLINE)
    assert (known, tried) == ({"key": 7}, [1])


def test_a_cached_property_is_computed_once_for_each_instance() -> None:
    class Example:
        def __init__(self, value: int) -> None:
            self.value = value

        @cached_property
        def doubled(self) -> list[int]:
            """Twice the value."""
            return [2 * self.value]

    one, two = Example(1), Example(2)
    assert (one.doubled, two.doubled) == ([2], [4])
    assert one.doubled is one.doubled
    assert Example.doubled.__doc__ == "Twice the value."


# -- stacks ----------------------------------------------------------------------------------------


def recursion(depth: int) -> int:
    """A recursion through C, for which Python before 3.12 takes the stack of the machine."""
    return max(map(recursion, (depth - 1,))) + 1 if depth else 0


def test_work_on_a_deep_stack_returns_raises_and_nests() -> None:
    threads = []

    def nested() -> int:
        threads.append(threading.get_ident())
        return on_deep_stack(lambda: threads.append(threading.get_ident()) or 5)

    assert on_deep_stack(nested) == 5
    assert threads[0] == threads[1] != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        on_deep_stack(lambda: 1 // 0)
    assert on_deep_stack(lambda: recursion(300)) == 300
    assert threading.stack_size() == 0


def test_without_further_threads_the_caller_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    assert on_deep_stack(threading.get_ident) == threading.get_ident()
    assert threading.stack_size() == 0


LONG_FORMULAS = {
    "sum": "+".join(f"{k}*x" for k in range(1, 2400)),
    "difference": "-".join(["x"] * 4500),
    "product": "*".join(["x", "y"] * 100),
    "mixed": "".join("x*y+" if k % 2 else "x/y-" for k in range(2000)) + "x",
    "nested": "Sqrt(1+" * 60 + "x*y" + ")" * 60,
    "parentheses": "(" * 150 + "x*y" + ")" * 150,
    "powers": "**".join(["x"] * 5),
    "functions": "+".join(f"Square(x-{k}*y)" for k in range(300)),
}


# CPython 3.13 frees nested objects by recursion, up to 10,000 levels deep.  A chain of so many
# dataclasses, without redcomp, ends a process too if the stack has 256 KiB, and not with 1 MiB.
TOO_DEEP = {(3, 13): {"difference"}}


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", LONG_FORMULAS)
def test_long_formulas_in_a_thread_with_a_small_stack(name: str) -> None:
    if name in TOO_DEEP.get(sys.version_info[:2], ()):
        pytest.skip("this version of Python frees nested objects by deep recursion")
    output = run_script(
        f"""
        def call():
            made = redcomp.numpy.Genred({LONG_FORMULAS[name]!r}, ["x = Vi(1)", "y = Vj(1)"], axis=1)
            print(made(x[:, :1], y[:, :1]).shape)

        threading.stack_size(256 * 1024)
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        """
    )
    assert output == "(7, 1)\n"


# -- Python's collector ----------------------------------------------------------------------------


@pytest.mark.parametrize("is_on", [True, False])
@pytest.mark.parametrize("fails", [False, True])
def test_the_collector_waits_while_values_are_made(is_on: bool, fails: bool) -> None:
    seen: list[bool] = []
    known: dict[str, int] = {}

    def make() -> int:
        seen.append(gc.isenabled())
        if len(seen) == 1:  # and while another one is made, and after that
            once(known, "inner", make)
            seen.append(gc.isenabled())
            if fails:
                raise ArithmeticError
        return len(seen)

    was_on = gc.isenabled()
    (gc.enable if is_on else gc.disable)()
    try:
        with pytest.raises(ArithmeticError) if fails else contextlib.nullcontext():
            once(known, "outer", make)
        assert seen == [False] * 3
        assert gc.isenabled() is is_on
    finally:
        (gc.enable if was_on else gc.disable)()


def test_the_collector_waits_for_the_last_of_several_threads() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def hold() -> int:
        begun.set()
        assert go_on.wait(DEADLINE)
        return 1

    assert gc.isenabled()
    first = threading.Thread(target=once, args=({}, "slow", hold))
    first.start()
    assert begun.wait(DEADLINE)
    once({}, "quick", lambda: 1)
    assert not gc.isenabled()
    go_on.set()
    first.join(DEADLINE)
    assert gc.isenabled()
