"""The pass legal: needs no backend."""

from __future__ import annotations

import pytest
from ir_samples import kernel_of
from pass_tools import EXACT

from redcomp.errors import CompilerError
from redcomp.ir import (
    Kernel,
    Output,
    Type,
    Value,
    broadcast,
    from_elements,
    index,
    variable,
    vector_map,
)
from redcomp.ops.table import apply
from redcomp.passes.legal import legal

X = variable("x", "i", 0, Type("f32"))
V = variable("v", "i", 1, Type("f32", 3))


@pytest.mark.parametrize(
    "value", [X + 1.0, apply("sqrt", X), from_elements((X, X * 2.0)), vector_map(X, index(20)), V]
)
def test_what_can_be_emitted_passes_unchanged(value: Value) -> None:
    kernel = kernel_of(value)
    assert legal(kernel, EXACT) is kernel


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (apply("exp", X), "operation 'exp' reached a target that cannot emit it"),
        (apply("exp", X) + 1.0, "operation 'exp'"),
        (broadcast(X, 3), "operation 'broadcast'"),
        (apply("sum", V), "operation 'sum'"),
        (V + V, "operation 'add' on a vector reached the code generator"),
    ],
)
def test_anything_else_is_refused_before_llvm_sees_it(value: Value, message: str) -> None:
    with pytest.raises(CompilerError, match=message):
        legal(kernel_of(value), EXACT)


def test_scales_are_looked_at_too() -> None:
    kernel = Kernel((X,), (Output(X, "sum", apply("exp", X)),))
    with pytest.raises(CompilerError, match="'exp'"):
        legal(kernel, EXACT)
