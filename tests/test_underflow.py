"""Numbers below the normal ones on hosts, and the state of arithmetic: needs the CPU backend."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import arithmetic_state
import numpy as np
import pytest
from arithmetic_state import STATES, USUAL, computing

from redcomp.abi import JOIN, RUN
from redcomp.llvm_backend.host.targets import HOST_TARGETS, host_target
from redcomp.numpy import Genred
from redcomp.runtime import threads

pytestmark = pytest.mark.slow

Array = np.ndarray[Any, Any]
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])

# Points so far from each other that exp(-SqDist) is below all numbers for some pairs, between them
# and the normal numbers for others, and normal for the rest.
WIDTH = {np.float32: 11.0, np.float64: 30.0}
ALIASES = ["x = Vi(2)", "y = Vj(2)"]
COUNT = 200


def points(dtype: type) -> tuple[Array, Array]:
    random = np.random.default_rng(0)
    x, y = (random.uniform(0, WIDTH[dtype], (COUNT, 2)).astype(dtype) for _ in range(2))
    return x, y


# -- results ---------------------------------------------------------------------------------------


class Case(NamedTuple):
    """A reduction, and its dense values from d = SqDist(x, y), of shape (M, N), and |x - y|."""

    reduction: str
    formula: str
    dense: Callable[[Array, Array], Array]
    weight: str = ""


def of_terms(reduce: Callable[[Array], Array], term: Callable[[Array], Array]) -> Any:
    return lambda d, apart: reduce(term(d))[:, None]


def total(a: Array) -> Array:
    return np.asarray(a.sum(1))


def euclidean(a: Array) -> Array:
    return np.asarray(np.linalg.norm(a, axis=1))


def log_sum_exp(d: Array, apart: Array) -> Array:
    nearest = d.min(1, keepdims=True)
    return np.asarray(np.log(np.exp(nearest - d).sum(1, keepdims=True)) - nearest)


def softmax(d: Array, apart: Array) -> Array:
    shares = np.exp(d.min(1, keepdims=True) - d)
    return np.asarray((shares[..., None] * apart).sum(1) / shares.sum(1, keepdims=True))


CASES = [
    Case("Sum", "Exp(-SqDist(x,y))", of_terms(total, lambda d: np.exp(-d))),
    Case("Sum", "Exp(-SqDist(x,y)) * Abs(x-y)", lambda d, a: (np.exp(-d)[..., None] * a).sum(1)),
    Case("Sum", "Square(Exp(-SqDist(x,y)))", of_terms(total, lambda d: np.exp(-d) ** 2)),
    Case("Sum", "Exp2(-SqDist(x,y))", of_terms(total, lambda d: np.exp2(-d))),
    Case("Sum", "Sigmoid(-SqDist(x,y))", of_terms(total, lambda d: np.exp(-d) / (1 + np.exp(-d)))),
    Case("Sum", "Log(1 + Exp(-SqDist(x,y)))", of_terms(total, lambda d: np.log1p(np.exp(-d)))),
    Case("Mean", "Exp(-SqDist(x,y))", of_terms(lambda a: a.mean(1), lambda d: np.exp(-d))),
    Case("Max", "Exp(-SqDist(x,y))", of_terms(lambda a: a.max(1), lambda d: np.exp(-d))),
    Case("Min", "Exp(-SqDist(x,y))", of_terms(lambda a: a.min(1), lambda d: np.exp(-d))),
    Case("Norm", "Exp(-SqDist(x,y))", of_terms(euclidean, lambda d: np.exp(-d))),
    Case("Prod", "Exp(-SqDist(x,y)/64)", of_terms(lambda a: a.prod(1), lambda d: np.exp(-d / 64))),
    Case("LogSumExp", "-SqDist(x,y)", log_sum_exp),
    Case("SumSoftMaxWeight", "-SqDist(x,y)", softmax, weight="Abs(x-y)"),
]


@pytest.mark.sampled(16)
@every_dtype
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.reduction} {case.formula}")
def test_terms_that_underflow_are_wrong_by_less_than_a_normal_number(
    case: Case, dtype: type
) -> None:
    x, y = points(dtype)
    weight = {"formula2": case.weight} if case.weight else {}
    result = Genred(case.formula, ALIASES, case.reduction, axis=1, **weight)(x, y)
    apart = abs(x[:, None].astype(np.float64) - y)
    d = (apart**2).sum(-1)
    info = np.finfo(dtype)
    is_subnormal = (np.exp(-d) < info.tiny) & (np.exp(-d) >= info.smallest_subnormal)
    assert 0.005 < is_subnormal.mean() < 0.5
    # The exponent, of up to about a thousand, has a rounding error itself.
    rtol = float(info.eps) * 2 * WIDTH[dtype] ** 2
    np.testing.assert_allclose(
        result, case.dense(d, apart), rtol=rtol, atol=COUNT * float(info.tiny)
    )


@pytest.mark.sampled(2)
@every_dtype
def test_subnormal_arguments_are_taken_as_they_are(dtype: type) -> None:
    """They are not taken for zeros, whose logarithm and reciprocal are infinite."""
    tiny = np.finfo(dtype).smallest_subnormal
    x = (np.arange(1, 20) * tiny).astype(dtype)[:, None]
    one = np.ones((1, 1), dtype)
    for formula, exact in (
        ("Log(x) * y", np.log(x.astype(np.longdouble))),
        ("Sqrt(x) * y", np.sqrt(x.astype(np.longdouble))),
        ("Step(x - y * 0) * y", np.ones_like(x)),
        ("IfElse(-x, y, 2 * y)", 2 * np.ones_like(x)),
    ):
        result = Genred(formula, ["x = Vi(1)", "y = Vj(1)"], axis=1)(x, one)
        np.testing.assert_allclose(result, exact.astype(dtype), rtol=4 * np.finfo(dtype).eps)


@pytest.mark.skipif(not arithmetic_state.IS_X86, reason="other processors keep such results")
@every_dtype
def test_results_below_the_normal_numbers_are_zeros(dtype: type) -> None:
    tiny = np.finfo(dtype).tiny
    x = np.array([[1.0], [0.99], [-0.5]], dtype)
    y = np.array([[tiny]], dtype)
    result = Genred("x * y", ["x = Vi(1)", "y = Vj(1)"], "Max", axis=1)(x, y)
    np.testing.assert_array_equal(result, [[tiny], [0], [0]])


def test_subnormal_numbers_of_half_precision_are_kept() -> None:
    """They are normal numbers of float32, which computes."""
    x = (np.arange(1, 1024) * np.finfo(np.float16).smallest_subnormal).astype(np.float16)[:, None]
    result = Genred("x * y", ["x = Vi(1)", "y = Vj(1)"], axis=1)(x, np.ones((1, 1), np.float16))
    assert result.dtype == np.float16
    np.testing.assert_array_equal(result, x)


# -- the state of arithmetic -----------------------------------------------------------------------


@pytest.fixture
def op() -> Genred:
    """Its results depend on how numbers are rounded, and on what is taken for 0."""
    return Genred("Exp(-SqDist(x, y)) / 3 + Log(Elem(x, 0)) * Elem(y, 0)", ALIASES, axis=1)


@pytest.mark.parametrize("workers", ["1", "3"])
@pytest.mark.parametrize("state", STATES)
def test_results_and_the_callers_state_do_not_depend_on_each_other(
    op: Genred, state: int, workers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDCOMP_NUM_THREADS", workers)
    x, y = (np.tile(a, (10, 1)) for a in points(np.float32))
    x[0, 0] = np.finfo(np.float32).tiny / 2
    few = x[:3]
    with computing(USUAL):
        expected = op(x, y), op(few, np.tile(y, (5, 1)))
    with computing(state):
        found = op(x, y), op(few, np.tile(y, (5, 1)))
        after = arithmetic_state.read()
    assert after == state
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("state", STATES)
def test_a_call_that_is_stopped_restores_the_state(
    op: Genred, state: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C ends a long call by `stop`."""
    found = []

    def run(function: Callable[[int], object], workers: int, stop: Callable[[], None]) -> None:
        timer = threading.Timer(0.05, stop)
        with computing(state):
            timer.start()
            function(0)
            found.append(arithmetic_state.read())
        timer.join()

    monkeypatch.setattr(threads, "run", run)
    x = np.ones((3_000_000, 2), np.float32)  # about a minute, if it were not stopped
    op(x, x)
    assert found == [state]


FUNCTION = r"define void @{}\(.*?^}}"


@pytest.mark.parametrize("function", [RUN, JOIN])
@pytest.mark.parametrize("target", HOST_TARGETS)
def test_the_state_is_set_once_in_each_task_and_outside_of_all_loops(
    op: Genred, target: str, function: str
) -> None:
    text = op.lower("float32", target).module_text
    arithmetic = host_target(target).arithmetic
    found = re.search(FUNCTION.format(function), text, re.S | re.M)
    assert found is not None
    blocks = re.split(r"^[\w.]+:$", found[0], flags=re.M)
    entry, end = blocks[1], blocks[-1]
    # The caller's state is saved and ours set before the first loop; the last block follows all.
    for lines, block in ((arithmetic.enter, entry), (arithmetic.leave, end)):
        assert lines
        for line in lines:
            assert block.count(line) == found[0].count(line) == 1
    changes = re.compile(r"call void @llvm\.(?:x86\.sse\.ldmxcsr|aarch64\.set\.fpcr)")
    assert len(changes.findall(text)) == 4
