"""The pass factor: needs no backend."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pass_tools import EXACT, kernel_text, random_variables, results_of

from redcomp.ir import (
    J_BIT,
    Kernel,
    Output,
    Type,
    Value,
    broadcast,
    compare,
    constant,
    select,
    variable,
)
from redcomp.ops.table import apply
from redcomp.passes.factor import factor
from redcomp.text import parse_kernel, print_kernel
from redcomp.verify import verify

PARAMS = "x i f32, y j f32, p parameter f32, v i vector<3xf32>, w j vector<3xf32>"
X = variable("x", "i", 0, Type("f32"))
Y = variable("y", "j", 1, Type("f32"))
P = variable("p", "parameter", 2, Type("f32"))
V = variable("v", "i", 3, Type("f32", 3))
W = variable("w", "j", 4, Type("f32", 3))


def check(body: str, result: str, factored: str, results: str) -> None:
    before = kernel_text(PARAMS, body, result)
    after = kernel_text(PARAMS, factored, results, (True,))
    assert print_kernel(factor(parse_kernel(before), EXACT)) == after


def test_row_factor_leaves_the_sum() -> None:
    check(
        """
        %0 = "arith.mulf"(%x, %y) : (f32, f32) -> f32
        """,
        "%0: f32",
        "",
        "%y: f32, %x: f32",
    )


def test_factors_are_gathered_from_nested_products() -> None:
    check(
        """
        %0 = "redcomp.exp"(%y) : (f32) -> f32
        %1 = "arith.mulf"(%p, %0) : (f32, f32) -> f32
        %2 = "arith.negf"(%1) : (f32) -> f32
        %3 = "arith.mulf"(%2, %x) : (f32, f32) -> f32
        """,
        "%3: f32",
        """
        %0 = "redcomp.exp"(%y) : (f32) -> f32
        %1 = "arith.negf"(%p) : (f32) -> f32
        %2 = "arith.mulf"(%1, %x) : (f32, f32) -> f32
        """,
        "%0: f32, %2: f32",
    )


def test_one_number_is_reduced_instead_of_a_vector() -> None:
    check(
        '%0 = "redcomp.multiply"(%y, %v) : (f32, vector<3xf32>) -> vector<3xf32>',
        "%0: vector<3xf32>",
        "",
        "%y: f32, %v: vector<3xf32>",
    )


def test_divisor_becomes_a_factor() -> None:
    check(
        '%0 = "arith.divf"(%y, %x) : (f32, f32) -> f32',
        "%0: f32",
        """
        %0 = "arith.constant"() {value = 1.0 : f32} : () -> f32
        %1 = "arith.divf"(%0, %x) : (f32, f32) -> f32
        """,
        "%y: f32, %1: f32",
    )


def test_dividend_becomes_a_factor() -> None:
    check(
        '%0 = "arith.divf"(%x, %y) : (f32, f32) -> f32',
        "%0: f32",
        """
        %0 = "arith.constant"() {value = 1.0 : f32} : () -> f32
        %1 = "arith.divf"(%0, %y) : (f32, f32) -> f32
        """,
        "%1: f32, %x: f32",
    )


def test_repeated_scalar_keeps_its_components() -> None:
    check(
        """
        %0 = "arith.mulf"(%x, %y) : (f32, f32) -> f32
        %1 = "redcomp.broadcast"(%0) : (f32) -> vector<3xf32>
        """,
        "%1: vector<3xf32>",
        '%0 = "redcomp.broadcast"(%x) : (f32) -> vector<3xf32>',
        "%y: f32, %0: vector<3xf32>",
    )


UNTOUCHED = (X + Y, apply("exp", X * Y), X * P, Y, (X + Y) * (X - Y), Y * W)


@pytest.mark.parametrize("value", UNTOUCHED)
def test_sums_without_such_a_factor_stay(value: Value) -> None:
    kernel = Kernel((X, Y, P, V, W), (Output(value),))
    assert print_kernel(factor(kernel, EXACT)) == print_kernel(kernel)


def test_scaled_outputs_stay() -> None:
    kernel = Kernel((X, Y, P, V, W), (Output(X * Y, "sum", P),))
    assert print_kernel(factor(kernel, EXACT)) == print_kernel(kernel)


@st.composite
def products(draw: st.DrawFn) -> Value:
    """Products, quotients, negations and repetitions of scalars and vectors of every dependence."""
    values = [X, Y, P, V, W, apply("exp", X + Y), apply("exp", V * W)]
    for _ in range(draw(st.integers(1, 5))):
        a, b = draw(st.sampled_from(values)), draw(st.sampled_from(values))
        made = draw(
            st.sampled_from(
                [a * b, -a, a / (b * b + 1.0), broadcast(a, 3) if a.dim == 1 else a, a + b]
            )
        )
        values.append(made)
    return values[-1]


@given(products(), st.integers(0, 2**32 - 1))
def test_random_products_keep_their_sums(value: Value, seed: int) -> None:
    kernel = Kernel((X, Y, P, V, W), (Output(value),))
    factored = factor(kernel, EXACT)
    verify(factored)
    (output,) = factored.outputs
    scale = output.value if output.scale is None else output.scale
    assert max(scale.dim, output.value.dim) == value.dim
    assert output.scale is None or not output.scale.dependence & J_BIT
    arrays = random_variables(kernel.params, np.random.default_rng(seed))
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    (before,), (after,) = results_of(kernel, arrays), results_of(factored, arrays)
    scale = np.abs(before).max() + 1.0
    np.testing.assert_allclose(np.broadcast_to(after, before.shape), before, atol=1e-4 * scale)


# -- selections --

C = compare("ogt", X, Y)
ROW = compare("ogt", X, 0.0)


@pytest.mark.parametrize("nothing_first", [False, True])
@pytest.mark.parametrize(
    ("condition", "product", "has_scale"),
    [
        (C, 2.0 * Y, True),
        (C, V * Y * 2.0, True),
        (C, X * Y, False),
        (C, Y / X, False),
        (C, Y * float("inf"), False),
        (ROW, X * Y, True),
        (ROW, 2.0 * Y / X, True),
    ],
)
def test_what_leaves_a_selection_meets_no_zero(
    condition: Value, product: Value, has_scale: bool, nothing_first: bool
) -> None:
    """Of what it guards only constants leave it, and all else with a condition of the row."""
    nothing = constant(-0.0, "f32")
    value = select(condition, product, nothing)
    if nothing_first:
        value = select(condition ^ True, nothing, product)
    before = Kernel((X, Y, P, V, W), (Output(value),))
    after = factor(before, EXACT)
    verify(after)
    assert (after.outputs[0].scale is not None) == has_scale
    # A row that is kept has a number: how infinite terms add up is not what this is about.
    x = np.array([0.0, -np.inf, np.nan, 3.0, -2.0, np.inf if condition is C else 1.0])
    arrays = random_variables(before.params, np.random.default_rng(0), rows=len(x))
    arrays["x"] = x.astype(np.float32)[:, None, None]
    with np.errstate(invalid="ignore"):
        expected, found = results_of(before, arrays), results_of(after, arrays)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
