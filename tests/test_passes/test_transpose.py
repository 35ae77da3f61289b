"""The pass transpose: needs no backend."""

from __future__ import annotations

import ir_samples
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from pass_tools import kernel_text, random_variables, same_bits

from redcomp.interpret import interpret
from redcomp.ir import I_BIT, J_BIT, Kernel, topological
from redcomp.passes.transpose import with_indices_exchanged
from redcomp.text import parse_kernel, print_kernel

BODY = """
%0 = "arith.subf"(%x, %y) : (f32, f32) -> f32
%1 = "arith.mulf"(%0, %p) : (f32, f32) -> f32
"""


def test_rows_become_columns_and_parameters_stay() -> None:
    before = kernel_text("x i f32, y j f32, p parameter f32", BODY, "%1: f32")
    after = kernel_text("x j f32, y i f32, p parameter f32", BODY, "%1: f32")
    assert print_kernel(with_indices_exchanged(parse_kernel(before))) == after


def test_unused_parameters_are_exchanged_too() -> None:
    before = kernel_text("x i f32, y j f32", "", "%y: f32")
    after = kernel_text("x j f32, y i f32", "", "%y: f32")
    assert print_kernel(with_indices_exchanged(parse_kernel(before))) == after


def test_dependence_sets_follow() -> None:
    kernel = parse_kernel(kernel_text("x i f32, y j f32, p parameter f32", BODY, "%1: f32"))
    exchanged = {0: 0, I_BIT: J_BIT, J_BIT: I_BIT, I_BIT | J_BIT: I_BIT | J_BIT}
    before = [value.dependence for value in topological(kernel.roots)]
    after = [value.dependence for value in topological(with_indices_exchanged(kernel).roots)]
    assert after == [exchanged[bits] for bits in before]


@given(ir_samples.kernels(), st.integers(0, 2**32 - 1))
def test_random_kernels_are_evaluated_on_exchanged_arrays(kernel: Kernel, seed: int) -> None:
    kernel = Kernel(kernel.params, tuple(o for o in kernel.outputs if o.scale is None))
    arrays = random_variables(kernel.params, np.random.default_rng(seed), special=True)
    exchanged = {
        name: array.swapaxes(0, 1) if array.ndim == 3 else array for name, array in arrays.items()
    }
    there = with_indices_exchanged(kernel)
    for before, after in zip(
        interpret(kernel.roots, arrays), interpret(there.roots, exchanged), strict=True
    ):
        assert same_bits(before, after.swapaxes(0, 1) if after.ndim == 3 else after)
    assert print_kernel(with_indices_exchanged(there)) == print_kernel(kernel)
