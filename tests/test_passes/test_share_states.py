"""share_states: what several outputs carry alike is carried once: needs no backend."""

from __future__ import annotations

import numpy as np
import pytest
from pass_tools import EXACT

from redcomp.ir import Kernel, Nest, Output, Type, Value, variable
from redcomp.numpy import Genred
from redcomp.ops.table import apply
from redcomp.passes.accumulate import accumulate
from redcomp.passes.share_states import share_states
from redcomp.verify import verify

X, Y = variable("x", "i", 0, Type("f64")), variable("y", "j", 1, Type("f64", 3))


def exponent(factor: float = 1.0) -> Value:
    return X * apply("sum", Y) * factor


def shared(*outputs: Output) -> Nest:
    nest = share_states(accumulate(Kernel((X, Y), outputs), EXACT), EXACT)
    verify(nest)
    return nest


def test_shift_and_total_are_carried_once() -> None:
    """The exponents are equal, not the same object."""
    nest = shared(
        Output(exponent(), "logsumexp"),
        Output(apply("concat", exponent(), Y), "softmax"),
        Output(apply("concat", exponent(), Y * 2.0), "slopes_of_logsumexp"),
    )
    assert [state.variable.dim for state in nest.states] == [1, 1, 3, 3]
    assert len(nest.guards) == 1


def test_other_exponents_have_states_of_their_own() -> None:
    """A total of the same terms relative to another shift is another total."""
    nest = shared(Output(exponent(), "logsumexp"), Output(exponent(2.0), "logsumexp"))
    assert (len(nest.states), len(nest.guards)) == (4, 2)
    weighted = apply("concat", exponent(), exponent())
    nest = shared(Output(exponent(), "logsumexp"), Output(weighted, "weighted_logsumexp"))
    assert (len(nest.states), len(nest.guards)) == (3, 1)


@pytest.mark.parametrize("count", [1, 2])
def test_few_guards_are_left_alone(count: int) -> None:
    outputs = [Output(apply("sum", Y) * X, name) for name in ("logsumexp", "sum", "sum")]
    nest = accumulate(Kernel((X, Y), tuple(outputs[:count])), EXACT)
    assert share_states(nest, EXACT) is nest


def test_results() -> None:
    rng = np.random.default_rng(0)
    x, y, b = rng.normal(size=(5, 3)), rng.normal(size=(7, 3)), rng.normal(size=(7, 2))
    aliases = ["x = Vi(3)", "y = Vj(3)", "b = Vj(2)"]
    genred = Genred(
        ["(x | y)", "(x | y)", "2 * (x | y)", "(x | y)"],
        aliases,
        ["LogSumExp", "SumSoftMaxWeight", "SumSoftMaxWeight", "LogSumExpWeight"],
        axis=1,
        formula2=[None, "b", "b", "Exp(b)"],
    )
    pairs = x @ y.T

    def weights(f: np.ndarray) -> np.ndarray:
        return np.exp(f) / np.exp(f).sum(1, keepdims=True)

    expected = (
        np.log(np.exp(pairs).sum(1, keepdims=True)),
        weights(pairs) @ b,
        weights(2 * pairs) @ b,
        np.log(np.exp(pairs) @ np.exp(b)),
    )
    for one, other in zip(genred(x, y, b), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13)
