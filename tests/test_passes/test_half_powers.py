"""The pass half_powers: needs no backend.  tests/test_powers_by_roots.py has the values."""

from __future__ import annotations

import numpy as np
import pytest
from ir_samples import kernel_of
from pass_tools import EXACT, PRIMITIVES, SPECIAL, context_with

from redcomp.interpret import interpret
from redcomp.ir import Type, Value, constant, topological, variable
from redcomp.ops.table import apply
from redcomp.passes.half_powers import half_powers
from redcomp.verify import verify

X = variable("x", "i", 0, Type("f32"))
ESTIMATES = context_with(PRIMITIVES | {"rsqrt_estimate"})


def power(exponent: float) -> Value:
    return apply("powf", X, constant(exponent, "f32"))


@pytest.mark.parametrize("exponent", [4.5, -4.5, 0.0, 3.0, 0.25, 1e30, float("inf"), float("nan")])
def test_other_powers_stay(exponent: float) -> None:
    kernel = kernel_of(power(exponent))
    assert half_powers(kernel, EXACT) is kernel


def test_exponents_that_are_no_numbers_stay() -> None:
    kernel = kernel_of(apply("powf", X, variable("p", "parameter", 1, Type("f32"))))
    assert half_powers(kernel, EXACT) is kernel


def test_fast_powers_stay() -> None:
    kernel = kernel_of(power(1.5))
    assert half_powers(kernel, context_with(PRIMITIVES | {"log2_approx"})) is kernel


@pytest.mark.parametrize("context", [EXACT, ESTIMATES], ids=["roots", "estimates"])
@pytest.mark.parametrize("n", [1, -1, 3, -3, 5, -5, 7, -7])
def test_values(n: int, context: object) -> None:
    (value,) = (made := half_powers(kernel_of(power(n / 2)), context)).roots
    verify(made)
    ops = [part.op for part in topological([value])]
    assert "powf" not in ops
    assert ("divide" in ops) == (n < -1 and context is EXACT)
    x = np.concatenate([SPECIAL, np.linspace(0.01, 100.0, 1000)]).astype(np.float32)
    with np.errstate(all="ignore"):
        expected = np.power(x, np.full_like(x, n / 2))
        (found,) = interpret([value], {"x": x[:, None]})
    is_small = np.abs(expected) < np.finfo(np.float32).tiny
    np.testing.assert_allclose(found[~is_small, 0], expected[~is_small], rtol=5e-7)
    np.testing.assert_allclose(found[is_small, 0], expected[is_small], atol=2e-38)
