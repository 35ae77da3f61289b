"""The pass expand: needs no backend.  The accuracy of the expansions has its own tests."""

from __future__ import annotations

import numpy as np
import pytest
from ir_samples import kernel_of
from pass_tools import EXACT, PRIMITIVES, context_with, kernel_text

from redcomp.errors import CompilerError
from redcomp.interpret import interpret
from redcomp.ir import STRUCTURAL, Type, Value, topological, variable
from redcomp.ops.table import OPERATIONS, Operation, apply
from redcomp.passes.expand import expand
from redcomp.text import parse_kernel, print_kernel
from redcomp.verify import verify

pytestmark = pytest.mark.slow

EXPANDED = [row for row in OPERATIONS.values() if row.elementwise and row.expand is not None]


def applied(row: Operation, dtype: str) -> Value:
    args = tuple(variable(f"a{k}", "i", k, Type(dtype)) for k in range(row.arity))
    return apply(row.name, *args, **dict(zip(row.parameters, (2, 3), strict=False)))


def test_operations_become_what_their_rows_say() -> None:
    before = kernel_text(
        "x i f32, y j f32",
        """
        %0 = "arith.addf"(%x, %y) : (f32, f32) -> f32
        %1 = "redcomp.square"(%0) : (f32) -> f32
        %2 = "redcomp.inverse"(%1) : (f32) -> f32
        """,
        "%2: f32",
    )
    after = kernel_text(
        "x i f32, y j f32",
        """
        %0 = "arith.constant"() {value = 1.0 : f32} : () -> f32
        %1 = "arith.addf"(%x, %y) : (f32, f32) -> f32
        %2 = "arith.mulf"(%1, %1) : (f32, f32) -> f32
        %3 = "arith.divf"(%0, %2) : (f32, f32) -> f32
        """,
        "%3: f32",
    )
    assert print_kernel(expand(parse_kernel(before), EXACT)) == after


def test_target_may_emit_what_has_an_expansion() -> None:
    kernel = kernel_of(apply("exp", variable("x", "i", 0, Type("f32"))))
    kept = expand(kernel, context_with(PRIMITIVES | {"exp"}))
    assert print_kernel(kept) == print_kernel(kernel)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("row", EXPANDED, ids=lambda row: row.name)
def test_expansion_ends_in_primitives_of_the_same_value(row: Operation, dtype: str) -> None:
    kernel = kernel_of(applied(row, dtype))
    expanded = expand(kernel, EXACT)
    verify(expanded)
    ops = {value.op for value in topological(expanded.roots)}
    assert ops <= PRIMITIVES | STRUCTURAL
    rng = np.random.default_rng(0)
    intervals = (*row.domain.intervals, *row.domain.intervals[-1:] * row.arity)
    arrays = {
        f"a{k}": rng.uniform(*intervals[k], (200, 1)).astype(Type(dtype).numpy)
        for k in range(row.arity)
    }
    (before,), (after,) = interpret(kernel.roots, arrays), interpret(expanded.roots, arrays)
    resolution = np.finfo(Type(dtype).numpy).eps
    np.testing.assert_allclose(after, before, rtol=8 * resolution, atol=resolution)


def test_operation_without_an_expansion_is_refused() -> None:
    kernel = kernel_of(apply("sqrt", variable("x", "i", 0, Type("f32"))))
    with pytest.raises((CompilerError, ValueError), match="cannot emit 'sqrt'"):
        expand(kernel, context_with(PRIMITIVES - {"sqrt"}))
