"""The pass cse: needs no backend."""

from __future__ import annotations

import ir_samples
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from pass_tools import EXACT, random_variables, same_bits

from redcomp.interpret import interpret
from redcomp.ir import Interner, Kernel, Output, Type, Value, constant, topological, variable
from redcomp.passes.cse import cse


def x_and_y() -> tuple[Value, Value]:
    return variable("x", "i", 0, Type("f32")), variable("y", "j", 1, Type("f32"))


def test_equal_values_become_one_object() -> None:
    x, y = x_and_y()
    kernel = Kernel((x, y), (Output((x - y) * (x - y)),))
    (product,) = (output.value for output in cse(kernel, EXACT).outputs)
    assert product.args[0] is product.args[1]
    assert kernel.outputs[0].value.args[0] is not kernel.outputs[0].value.args[1]


def test_values_are_shared_between_outputs_and_scales() -> None:
    x, y = x_and_y()
    first, second = cse(
        Kernel((x, y), (Output(x * y, "sum", x + 1.0), Output(x + 1.0))), EXACT
    ).outputs
    assert first.scale is second.value


def test_different_zeros_stay_apart_and_nan_is_itself() -> None:
    x, y = x_and_y()
    zeros = (x * constant(0.0, "f32"), x * constant(-0.0, "f32"))
    nans = tuple(y * constant(float("nan"), "f32") for _ in range(2))
    kernel = Kernel((x, y), tuple(Output(value) for value in zeros + nans))
    plus, minus, one, other = (output.value for output in cse(kernel, EXACT).outputs)
    assert plus is not minus
    assert one is other


def test_equal_operands_in_another_order_stay_apart() -> None:
    x, y = x_and_y()
    first, second = cse(Kernel((x, y), (Output(x - y), Output(y - x))), EXACT).outputs
    assert first.value is not second.value


@given(ir_samples.kernels(), st.integers(0, 2**32 - 1))
def test_random_kernels_keep_every_bit_and_have_no_duplicates(kernel: Kernel, seed: int) -> None:
    shared = cse(kernel, EXACT)
    arrays = random_variables(kernel.params, np.random.default_rng(seed), special=True)
    before, after = interpret(kernel.roots, arrays), interpret(shared.roots, arrays)
    assert all(same_bits(b, a) for b, a in zip(before, after, strict=True))
    intern = Interner()
    values = list(topological(shared.roots))
    assert len({intern(value) for value in values}) == len(values)
