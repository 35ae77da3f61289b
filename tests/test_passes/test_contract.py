"""The pass contract: needs no backend."""

from __future__ import annotations

import ir_samples
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pass_tools import EXACT, kernel_text, random_variables

from redcomp.interpret import interpret
from redcomp.ir import BOUND, Kernel, topological
from redcomp.passes.contract import contract
from redcomp.passes.cse import cse
from redcomp.text import parse_kernel, print_kernel
from redcomp.verify import verify

PARAMS = "x i f32, y j f32, z j f32"
PRODUCT = '%0 = "arith.mulf"(%x, %y) : (f32, f32) -> f32\n'


def check(body: str, result: str, contracted: str) -> None:
    before = kernel_text(PARAMS, body, result)
    after = kernel_text(PARAMS, contracted, result if contracted == body else "%LAST: f32")
    last = print_kernel(contract(parse_kernel(before), EXACT))
    if contracted != body:
        after = after.replace("%LAST", f"%{contracted.count('=') - 1}")
    assert last == after


@pytest.mark.parametrize(
    ("rest", "contracted"),
    [
        (
            '%1 = "arith.addf"(%0, %z) : (f32, f32) -> f32',
            '%0 = "math.fma"(%x, %y, %z) : (f32, f32, f32) -> f32',
        ),
        (
            '%1 = "arith.addf"(%z, %0) : (f32, f32) -> f32',
            '%0 = "math.fma"(%x, %y, %z) : (f32, f32, f32) -> f32',
        ),
        (
            '%1 = "arith.subf"(%0, %z) : (f32, f32) -> f32',
            '%0 = "arith.negf"(%z) : (f32) -> f32\n'
            '%1 = "math.fma"(%x, %y, %0) : (f32, f32, f32) -> f32',
        ),
        (
            '%1 = "arith.subf"(%z, %0) : (f32, f32) -> f32',
            '%0 = "arith.negf"(%x) : (f32) -> f32\n'
            '%1 = "math.fma"(%0, %y, %z) : (f32, f32, f32) -> f32',
        ),
    ],
)
def test_product_and_sum_become_one_operation(rest: str, contracted: str) -> None:
    check(PRODUCT + rest, "%1: f32", contracted)


@pytest.mark.parametrize(
    ("rest", "result"),
    [
        ('%1 = "arith.addf"(%0, %0) : (f32, f32) -> f32', "%1: f32"),
        (
            '%1 = "arith.addf"(%0, %z) : (f32, f32) -> f32\n'
            '%2 = "arith.divf"(%1, %0) : (f32, f32) -> f32',
            "%2: f32",
        ),
        ('%1 = "arith.mulf"(%0, %z) : (f32, f32) -> f32', "%1: f32"),
    ],
)
def test_products_with_another_user_stay(rest: str, result: str) -> None:
    check(PRODUCT + rest, result, PRODUCT + rest)


def test_products_that_are_computed_less_often_stay() -> None:
    product = '%0 = "arith.mulf"(%y, %z) : (f32, f32) -> f32\n'
    check(
        product + '%1 = "arith.subf"(%x, %0) : (f32, f32) -> f32',
        "%1: f32",
        product + '%1 = "arith.subf"(%x, %0) : (f32, f32) -> f32',
    )


def test_result_of_the_kernel_is_a_user() -> None:
    text = kernel_text(
        PARAMS,
        PRODUCT + '%1 = "arith.addf"(%0, %z) : (f32, f32) -> f32',
        "%0: f32, %1: f32",
        (False, False),
    )
    assert print_kernel(contract(parse_kernel(text), EXACT)) == text


def test_sum_in_a_loop_takes_the_product_in() -> None:
    state = "{dependence = 1 : i64, extent = 64 : i64, level = 0 : i64}"

    def loop(*body: str) -> str:
        lines = [*body, f'"redcomp.yield"(%{len(body) + 1}, %{len(body)}) : (f32, f32) -> ()']
        return kernel_text(
            "x i vector<64xf32>",
            f"""
            %0 = "arith.constant"() {{value = 0.0 : f32}} : () -> f32
            %{len(body) + 2} = "redcomp.fold"(%0) ({{
            ^bb0(%k: index):
              %1 = "redcomp.component"(%x, %k) : (vector<64xf32>, index) -> f32
              {(chr(10) + " " * 14).join(lines)}
            }}) {{extent = 64 : i64, level = 0 : i64}} : (f32) -> f32
            """,
            f"%{len(body) + 2}: f32",
        )

    before = loop(
        '%2 = "arith.mulf"(%1, %1) : (f32, f32) -> f32',
        f'%3 = "redcomp.so_far"() {state} : () -> f32',
        '%4 = "arith.addf"(%2, %3) : (f32, f32) -> f32',
    )
    after = loop(
        f'%2 = "redcomp.so_far"() {state} : () -> f32',
        '%3 = "math.fma"(%1, %1, %2) : (f32, f32, f32) -> f32',
    )
    assert print_kernel(contract(parse_kernel(before), EXACT)) == after


def test_integers_stay() -> None:
    text = kernel_text(
        "x i i32, y j i32",
        """
        %0 = "arith.muli"(%x, %y) : (i32, i32) -> i32
        %1 = "arith.addi"(%0, %y) : (i32, i32) -> i32
        """,
        "%1: i32",
    )
    assert print_kernel(contract(parse_kernel(text), EXACT)) == text


@given(ir_samples.kernels(), st.integers(0, 2**32 - 1))
def test_random_kernels_change_by_roundings_only(kernel: Kernel, seed: int) -> None:
    shared = cse(kernel, EXACT)
    contracted = contract(shared, EXACT)
    verify(contracted)
    arrays = random_variables(kernel.params, np.random.default_rng(seed))
    wide = {name: array.astype(np.float32) for name, array in arrays.items()}
    reference = interpret(shared.roots, wide)
    for before, after in zip(reference, interpret(contracted.roots, wide), strict=True):
        # Where a sum cancels, and what is then divided by it, one rounding is all that is left.
        settled = np.isfinite(before) & np.isfinite(after)
        close = np.isclose(after, before, rtol=1e-3, atol=1e-3 * _largest(shared, wide))
        assert np.all(close | ~settled)


def _largest(kernel: Kernel, arrays: dict[str, np.ndarray]) -> float:
    """The largest magnitude of any value on the way."""
    values = [v for v in topological(kernel.roots) if v.type.is_float and v.op != "component"]
    values = [v for v in values if not any(a.op in BOUND for a in topological([v]))]
    found = [np.abs(a[np.isfinite(a)]) for a in interpret(values, arrays)]
    return max((float(a.max()) for a in found if a.size), default=1.0)
