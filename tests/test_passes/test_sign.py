"""The analysis of signs: needs no backend."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pass_tools import SPECIAL

from redcomp.interpret import interpret
from redcomp.ir import (
    Type,
    Value,
    compare,
    component,
    constant,
    elementwise,
    fma,
    fold,
    index,
    select,
    variable,
)
from redcomp.ops.table import apply
from redcomp.passes.sign import is_nonnegative, is_nonpositive

X = variable("x", "i", 0, Type("f32"))
Y = variable("y", "i", 1, Type("f32"))
V = variable("v", "i", 2, Type("f32", 20))
FUNCTIONS = ("abs", "square", "sqrt", "exp", "exp2", "rsqrt", "sigmoid", "softplus")


def at(vector: Value) -> Value:
    return component(vector, index(20))


def loop(start: float, step: Callable[[Value], Value]) -> Value:
    return fold(constant(start, "f32"), step, index(20))


@pytest.mark.parametrize(
    "value",
    [
        *(apply(name, X) for name in FUNCTIONS),
        constant(0.0, "f32"),
        constant(-0.0, "f32"),
        constant(2.0, "f32"),
        X * X,
        -(apply("abs", X) * -apply("exp", Y)),
        fma(X, X, apply("exp", Y)),
        X * X + Y * Y,
        select(compare("olt", X, Y), 1.0, X * X),
        elementwise("scale", apply("exp", X), Y),
        (-apply("exp", X)) * (-apply("exp", Y)),
    ],
)
def test_nonnegative(value: Value) -> None:
    assert is_nonnegative(value)
    assert is_nonpositive(-value)


@pytest.mark.parametrize(
    "value", [X, X * Y, X * X - 1.0, X * X + Y, fma(X, X, Y), constant(-1.0, "f32"),
              select(compare("olt", X, 0.0), X, 1.0), apply("sin", X), apply("log", X)]
)  # fmt: skip
def test_of_unknown_or_other_sign(value: Value) -> None:
    assert not is_nonnegative(value)


def test_zero_has_both_signs_and_nan_none() -> None:
    zero, nan = constant(0.0, "f32"), constant(float("nan"), "f32")
    assert is_nonnegative(zero)
    assert is_nonpositive(zero)
    assert not is_nonnegative(nan)
    assert not is_nonpositive(nan)


def test_loops_over_squares() -> None:
    element = at(V)
    assert is_nonnegative(loop(0.0, lambda s: fma(element, element, s)))
    assert is_nonnegative(loop(1.0, lambda s: apply("abs", element) + s))
    assert is_nonnegative(loop(2.0, lambda s: s * (element * element)))
    assert is_nonpositive(loop(0.0, lambda s: s + -(element * element)))
    assert not is_nonnegative(loop(-1.0, lambda s: fma(element, element, s)))
    assert not is_nonnegative(loop(0.0, lambda s: fma(element, X, s)))
    assert not is_nonnegative(loop(0.0, lambda s: element + s))
    assert not is_nonnegative(loop(1.0, lambda s: -s))
    assert not is_nonpositive(loop(0.0, lambda s: -s + apply("exp", X)))


def test_deep_definitions_are_not_followed_forever() -> None:
    value = X * X
    for _ in range(5_000):
        value = value + 1.0
    assert not is_nonnegative(value)


BUILDERS: tuple[Callable[[Value, Value], Value], ...] = (
    lambda a, b: a + b,
    lambda a, b: a * b,
    lambda a, b: a * a,
    lambda a, b: -a,
    lambda a, b: fma(a, b, a),
    lambda a, b: select(compare("olt", a, b), a, b),
    lambda a, b: apply("abs", a),
    lambda a, b: apply("sqrt", b),
    lambda a, b: elementwise("scale", a, b),
)


@given(st.data())
def test_claims_hold_for_all_numbers(data: st.DataObject) -> None:
    values = [X, Y, constant(data.draw(st.sampled_from([0.0, -0.0, 2.0, -3.0])), "f32")]
    for _ in range(data.draw(st.integers(1, 8))):
        a, b = (data.draw(st.sampled_from(values)) for _ in range(2))
        values.append(data.draw(st.sampled_from(BUILDERS))(a, b))
    numbers = np.array(SPECIAL, np.float32)
    grid = np.stack(np.meshgrid(numbers, numbers), axis=-1).reshape(-1, 2)
    arrays = {"x": grid[:, :1], "y": grid[:, 1:]}
    for value, array in zip(values, interpret(values, arrays), strict=True):
        if is_nonnegative(value):
            assert np.all((array >= 0) | np.isnan(array))
        if is_nonpositive(value):
            assert np.all((array <= 0) | np.isnan(array))
