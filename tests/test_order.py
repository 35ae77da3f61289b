"""The order in which values of long sums are written: no backend."""

from __future__ import annotations

import pytest

from redcomp.backends.host import HostLowering
from redcomp.compile import lower
from redcomp.frontend.reductions import derivatives
from redcomp.ir import Value, topological
from redcomp.llvm_backend.order import longest_sum, term_by_term
from redcomp.numpy import Genred
from redcomp.passes import reroll
from redcomp.target import Options


@pytest.fixture(autouse=True)
def sums_of_like_terms_are_no_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reroll, "LEAST_TERMS", 1000)


def lowered(count: int, order: int, dtype: str = "f32") -> HostLowering:
    formula = "+".join(f"Exp(-IntCst({k + 1}) * SqDist(x, y))" for k in range(count))
    reduction = Genred(formula, ["x = Vi(3)", "y = Vj(3)"], axis=1).reduction
    for _ in range(order):
        reduction = derivatives.gradient(reduction, (0,), (True,))
    made = lower(reduction.kernel(dtype), "avx512", Options())
    assert isinstance(made, HostLowering)
    return made


def most_waiting(order: list[Value]) -> int:
    """How many values have been written at a time that are still to be used."""
    last = {arg: place for place, value in enumerate(order) for arg in value.args}
    waiting, most = set[Value](), 0
    for place, value in enumerate(order):
        waiting = {v for v in (*waiting, value) if last.get(v, -1) > place and not v.is_constant}
        most = max(most, len(waiting))
    return most


@pytest.mark.sampled(9)
@pytest.mark.parametrize("order", [0, 1, 2])
def test_terms_do_not_wait_for_the_end_of_the_sum(order: int) -> None:
    values = list(topological(lowered(60, order).nest.pairs))
    assert longest_sum(values) >= 60
    made = term_by_term(values)
    assert len(made) == len(values)
    assert set(made) == set(values)
    seen: set[Value] = set()
    for value in made:
        assert seen.issuperset(value.args)
        seen.add(value)
    # The second derivative has two sums, whose terms need the same exponentials.
    assert most_waiting(made) < (20 if order < 2 else 80)
    assert most_waiting(made) <= most_waiting(values)


# Vector instructions for a term: an exponential has 13 or 17, the rest is the term's own.
BUDGETS = {("f32", 0): 15.2, ("f32", 1): 17.2, ("f64", 0): 19.2, ("f64", 1): 21.2}


@pytest.mark.sampled(4)
@pytest.mark.parametrize(("dtype", "order"), BUDGETS)
def test_terms_of_a_long_sum_stay_in_registers(dtype: str, order: int) -> None:
    instructions = lowered(100, order, dtype).stats.instructions
    assert instructions <= 100 * BUDGETS[dtype, order]
