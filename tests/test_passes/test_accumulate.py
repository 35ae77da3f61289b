"""The pass accumulate: needs no backend."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pass_tools import (
    EXACT,
    context_with,
    kernel_text,
    nest_text,
    random_variables,
    results_of,
    run_nest,
)

from redcomp.ir import Kernel, Output, Type, Value, topological, variable
from redcomp.ops.table import apply
from redcomp.passes.accumulate import accumulate
from redcomp.passes.factor import factor
from redcomp.passes.scalarize import written_out_by
from redcomp.target import Unrolling
from redcomp.text import parse_kernel, print_nest
from redcomp.verify import verify

UNROLLED = Unrolling().operands
LONG = UNROLLED + 4


def test_states_are_of_the_data_and_totals_of_the_accumulator() -> None:
    before = kernel_text(
        "x i f32, y j f32",
        '%0 = "arith.mulf"(%x, %y) : (f32, f32) -> f32',
        "%0: f32",
    )
    after = nest_text(
        "x i f32, y j f32, state0 state f32, total0 total f64, other0 total f64",
        """
        %0 = "arith.constant"() {value = 0.0 : f32} : () -> f32
        %1 = "arith.mulf"(%x, %y) : (f32, f32) -> f32
        %2 = "arith.addf"(%state0, %1) : (f32, f32) -> f32
        %3 = "arith.extf"(%state0) : (f32) -> f64
        %4 = "arith.addf"(%total0, %3) : (f64, f64) -> f64
        %5 = "arith.addf"(%total0, %other0) : (f64, f64) -> f64
        %6 = "arith.truncf"(%total0) : (f64) -> f32
        """,
        "%0: f32, %2: f32, %4: f64, %5: f64, %6: f32",
        [0.0],
        states=1,
        totals=1,
        others=1,
        starts=1,
        steps=1,
        merges=1,
        joins=1,
        results=1,
    )
    assert print_nest(accumulate(parse_kernel(before), EXACT)) == after


def test_scale_is_applied_once_a_row_in_the_accumulators_dtype() -> None:
    before = kernel_text("x i f32, y j f32", "", "%y: f32, %x: f32", (True,))
    (result,) = accumulate(parse_kernel(before), EXACT).results
    assert result.op == "convert"
    assert result.args[0].op == "multiply"
    assert result.args[0].dtype == "f64"


def test_each_component_has_a_state_up_to_the_limit_of_unrolling() -> None:
    y = variable("y", "j", 0, Type("f32", UNROLLED))
    nest = written_out_by(
        accumulate(Kernel((y,), (Output(y * 2.0), Output(y))), EXACT), Unrolling()
    )
    assert len(nest.states) == 2 * UNROLLED
    assert {state.variable.dim for state in nest.states} == {1}
    assert [state.variable["position"] for state in nest.states] == list(range(2 * UNROLLED))


def test_long_results_have_vector_states() -> None:
    y = variable("y", "j", 0, Type("f32", LONG))
    nest = written_out_by(accumulate(Kernel((y,), (Output(y * 2.0),)), EXACT), Unrolling())
    (state,) = nest.states
    assert state.variable.type == Type("f32", LONG)
    assert state.total.type == Type("f64", LONG)
    assert [value.op for value in (state.step, state.merge, *nest.results)] == ["map"] * 3


def test_accumulator_of_the_datas_dtype_needs_no_conversion() -> None:
    y = variable("y", "j", 0, Type("f32"))
    nest = accumulate(Kernel((y,), (Output(y),)), context_with(accumulator="f32"))
    assert not any(value.op == "convert" for value in topological(nest.roots))


@st.composite
def kernels(draw: st.DrawFn) -> Kernel:
    """Outputs of different lengths, with factors that `factor` moves out."""
    dim = draw(st.sampled_from([1, 3, LONG]))
    x, y = (variable(n, k, p, Type("f32", dim)) for n, k, p in (("x", "i", 0), ("y", "j", 1)))
    b = variable("b", "j", 2, Type("f32"))
    distance = apply("sum", apply("square", x - y))
    values: list[Value] = [distance * b, x * b, x - y, (x * distance) * b, y / (x * x + 1.0)]
    outputs = draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))
    return Kernel((x, y, b), tuple(Output(value) for value in outputs))


@pytest.mark.sampled(2)
@pytest.mark.parametrize("is_factored", [False, True])
@given(kernels(), st.integers(1, 12), st.integers(1, 5))
def test_nest_computes_the_reduction(
    is_factored: bool, kernel: Kernel, columns: int, tile: int
) -> None:
    prepared = factor(kernel, EXACT) if is_factored else kernel
    nest = written_out_by(accumulate(prepared, EXACT), Unrolling())
    verify(nest)
    arrays = random_variables(kernel.params, np.random.default_rng(columns), columns=columns)
    expected = results_of(kernel, arrays)
    for result, right in zip(run_nest(nest, arrays, columns, tile), expected, strict=True):
        assert result.dtype == np.float32
        result = np.broadcast_to(result[:, 0], right.shape)
        np.testing.assert_allclose(result, right, rtol=1e-4, atol=1e-4)


def test_float32_sums_stay_accurate_over_many_tiles() -> None:
    columns, tile = 20_000, 100
    y = variable("y", "j", 0, Type("f32"))
    nest = accumulate(Kernel((y,), (Output(y),)), EXACT)
    arrays = {"y": np.full((1, columns, 1), np.float32(0.1))}
    (result,) = run_nest(nest, arrays, columns, tile)
    naive = np.cumsum(arrays["y"][0, :, 0], dtype=np.float32)[-1]
    exact = columns * float(np.float32(0.1))
    assert abs(result.item() - exact) < abs(naive - exact) / 10
