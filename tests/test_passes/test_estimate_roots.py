"""The pass estimate_roots: needs no backend.  tests/test_roots.py has the values."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ir_samples import kernel_of
from pass_tools import PRIMITIVES, context_with

from redcomp.ir import Type, Value, elementwise, fold, index, topological, variable
from redcomp.ir import constant as number
from redcomp.passes.estimate_roots import estimate_roots
from redcomp.target import Context
from redcomp.verify import verify

F32 = Type("f32")
X, Y = variable("x", "i", 0, F32), variable("y", "j", 0, F32)


def context(hidden_by: int) -> Context:
    made = context_with(PRIMITIVES | {"rsqrt_estimate", "root_or_limit"})
    return replace(made, target=replace(made.target, hidden_by={"f32": hidden_by}))


def root(value: Value) -> Value:
    return elementwise("sqrt", value)


def ops(value: Value, hidden_by: int) -> list[str]:
    made = estimate_roots(kernel_of(value), context(hidden_by))
    verify(made)
    return [part.op for part in topological(made.roots)]


def test_roots_are_estimated_where_little_else_is_computed() -> None:
    value = root(X * Y) + X  # two other operations
    assert "sqrt" not in ops(value, 3)
    assert "sqrt" in ops(value, 2)


def test_other_operations_are_counted_for_each_root() -> None:
    value = root(X * Y) + root(X - Y)  # three for two
    assert "sqrt" not in ops(value, 2)
    assert ops(value, 1).count("sqrt") == 2


@pytest.mark.parametrize("value", [root(X) + Y, X + root(Y * Y)], ids=["row", "column"])
def test_roots_that_are_hoisted_stay(value: Value) -> None:
    assert "sqrt" in ops(value, 100)


def test_operations_in_loops_count_as_often_as_they_are_done() -> None:
    counter = index(50)
    total = fold(number(0.0, "f32"), lambda before: before + X * Y, counter)
    value = root(total)
    assert "sqrt" in ops(value, 20)
    assert "sqrt" not in ops(value, 200)


def test_targets_that_do_not_say_keep_roots() -> None:
    kernel = kernel_of(root(X * Y))
    assert estimate_roots(kernel, context_with(PRIMITIVES)) is kernel
