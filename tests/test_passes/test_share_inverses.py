"""The pass share_inverses: needs no backend.  tests/test_quotients.py has the values."""

from __future__ import annotations

import numpy as np
import pytest
from ir_samples import kernel_of
from pass_tools import EXACT, PRIMITIVES, SPECIAL, context_with, kernel_text

from redcomp.interpret import interpret
from redcomp.ir import (
    Kind,
    Type,
    Value,
    component,
    constant,
    fold,
    index,
    topological,
    variable,
)
from redcomp.passes.share_inverses import share_inverses
from redcomp.passes.simplify import simplify
from redcomp.text import parse_kernel, print_kernel
from redcomp.verify import verify

F32 = Type("f32")
X, Y = variable("x", "i", 0, F32), variable("y", "j", 0, F32)
S = variable("s", "parameter", 0, F32)


def sum_over(term: Value, counter: Value) -> Value:
    return fold(constant(0.0, "f32"), lambda before: before + term, counter)


def divisions(value: Value, primitives: frozenset[str] = PRIMITIVES) -> list[Value]:
    """What is still divided after the pass."""
    made = share_inverses(kernel_of(value), context_with(primitives))
    verify(made)
    return [part for part in topological(made.roots) if part.op == "divide"]


@pytest.mark.parametrize("divisor", [S, X, Y, S * X, constant(3.0, "f32")])
def test_only_the_inverse_is_divided(divisor: Value) -> None:
    (inverse,) = divisions((X - Y) / divisor)
    assert inverse.dependence == divisor.dependence
    assert inverse.args[0].is_constant


def test_inverse_is_computed_once() -> None:
    assert len(divisions((X - Y) / S + (X + Y) / S)) == 1


@pytest.mark.parametrize(
    "value", [(X - Y) / (X + Y), S / (X * Y), X / S, Y / Y], ids=["pair", "S / pair", "X", "Y"]
)
def test_other_divisions_stay(value: Value) -> None:
    assert divisions(value) == [value]


def test_targets_without_fused_products_divide() -> None:
    value = (X - Y) / S
    assert divisions(value, PRIMITIVES - {"fma"}) == [value]


def test_divisor_that_changes_in_a_loop_stays() -> None:
    p = variable("p", "parameter", 1, Type("f32", 40))
    counter = index(40)
    term = (X - Y) / component(p, counter)
    assert divisions(sum_over(term, counter)) == [term]
    term = (X - Y) * component(p, counter) / S
    assert [part.dependence for part in divisions(sum_over(term, counter))] == [0]


def test_number_as_a_divisor_leaves_a_product_and_a_fused_one() -> None:
    before = kernel_text(
        "x i f32, y j f32",
        """
        %0 = "arith.constant"() {value = 3.0 : f32} : () -> f32
        %1 = "arith.subf"(%x, %y) : (f32, f32) -> f32
        %2 = "arith.divf"(%1, %0) : (f32, f32) -> f32
        """,
        "%2: f32",
    )
    # 1/3 is 0x2aaaaa.aa... * 2^-23; the first 24 bits of it, and of what they leave.
    high, low = float(np.float32(0x555555 * 2.0**-24)), float(np.float32(1 / 3 - 0x555555 / 2**24))
    after = kernel_text(
        "x i f32, y j f32",
        f"""
        %0 = "arith.constant"() {{value = {high!r} : f32}} : () -> f32
        %1 = "arith.constant"() {{value = {low!r} : f32}} : () -> f32
        %2 = "arith.subf"(%x, %y) : (f32, f32) -> f32
        %3 = "arith.mulf"(%2, %1) : (f32, f32) -> f32
        %4 = "math.fma"(%2, %0, %3) : (f32, f32, f32) -> f32
        """,
        "%4: f32",
    )
    made = simplify(share_inverses(parse_kernel(before), EXACT), EXACT)
    assert print_kernel(made) == print_kernel(parse_kernel(after))


@pytest.mark.parametrize("kind", ["parameter", "i", "j"])
def test_interpreted_values_are_quotients(kind: Kind) -> None:
    divisor = variable("c", kind, 1, F32)
    pair = variable("x", "i", 0, F32) + variable("z", "j", 2, F32)
    kernel = kernel_of(pair / divisor)
    numbers = np.array(SPECIAL, np.float32)
    x, c = (a.reshape(-1, 1) for a in np.meshgrid(numbers, numbers))
    arrays = {"x": x, "c": c, "z": np.full_like(x, -0.0)}
    (found,) = interpret(share_inverses(kernel, EXACT).roots, arrays)
    with np.errstate(all="ignore"):
        # Of subnormal results, of which NumPy knows, the last digit may be another.
        np.testing.assert_allclose(found, x / c, rtol=0, atol=np.finfo("f4").smallest_subnormal)
        np.testing.assert_array_equal(np.signbit(found), np.signbit(x / c))
