"""The pass hoist: needs no backend."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from pass_tools import EXACT, context_with, nest_text, random_variables, run_nest

from redcomp.ir import I_BIT, J_BIT, Kernel, Nest, Output, Type, Value, topological, variable
from redcomp.ops.table import apply
from redcomp.passes.accumulate import accumulate
from redcomp.passes.cse import cse
from redcomp.passes.hoist import hoist
from redcomp.passes.scalarize import written_out_by
from redcomp.target import Unrolling
from redcomp.text import parse_nest, print_nest
from redcomp.verify import verify

UNROLLED = Unrolling().operands
LONG = UNROLLED + 4
CARRIED = "state0 state f32, total0 total f32, other0 total f32"
PARTS = dict.fromkeys(("states", "totals", "others", "steps", "merges", "joins", "results"), 1)


def test_each_part_goes_to_where_it_changes() -> None:
    before = nest_text(
        f"x i f32, y j f32, p parameter f32, {CARRIED}",
        """
        %0 = "redcomp.exp"(%x) : (f32) -> f32
        %1 = "redcomp.exp"(%y) : (f32) -> f32
        %2 = "redcomp.exp"(%p) : (f32) -> f32
        %3 = "arith.mulf"(%0, %1) : (f32, f32) -> f32
        %4 = "arith.mulf"(%3, %2) : (f32, f32) -> f32
        %5 = "arith.addf"(%state0, %4) : (f32, f32) -> f32
        %6 = "arith.addf"(%total0, %state0) : (f32, f32) -> f32
        %7 = "arith.addf"(%total0, %other0) : (f32, f32) -> f32
        """,
        "%5: f32, %6: f32, %7: f32, %total0: f32",
        [0.0],
        **PARTS,
    )
    after = nest_text(
        f"x i f32, y j f32, p parameter f32, {CARRIED}, "
        "uniform0 parameter f32, row0 i f32, column0 j f32",
        """
        %0 = "arith.mulf"(%row0, %column0) : (f32, f32) -> f32
        %1 = "arith.mulf"(%0, %uniform0) : (f32, f32) -> f32
        %2 = "arith.addf"(%state0, %1) : (f32, f32) -> f32
        %3 = "arith.addf"(%total0, %state0) : (f32, f32) -> f32
        %4 = "arith.addf"(%total0, %other0) : (f32, f32) -> f32
        %5 = "redcomp.exp"(%p) : (f32) -> f32
        %6 = "redcomp.exp"(%x) : (f32) -> f32
        %7 = "redcomp.exp"(%y) : (f32) -> f32
        """,
        "%2: f32, %3: f32, %4: f32, %total0: f32, %5: f32, %6: f32, %7: f32",
        [0.0],
        **PARTS,
        uniform=1,
        rows=1,
        columns=1,
    )
    assert print_nest(hoist(parse_nest(before), EXACT)) == after


def hoisted(value: Value, *params: Value) -> Nest:
    return hoist(
        cse(
            written_out_by(
                accumulate(Kernel(params, (Output(value),)), context_with(accumulator="f32")),
                Unrolling(),
            ),
            EXACT,
        ),
        EXACT,
    )


def scalar(name: str, kind: str, position: int, dim: int = 1) -> Value:
    return variable(name, kind, position, Type("f32", dim))  # type: ignore[arg-type]


X, Y, P = scalar("x", "i", 0), scalar("y", "j", 1), scalar("p", "parameter", 2)


def test_variables_and_constants_are_not_copied() -> None:
    nest = hoisted(2.0 * (X - Y) * P, X, Y, P)
    assert nest.uniform + nest.rows + nest.columns == ()


def test_value_with_two_users_is_hoisted_once() -> None:
    row = apply("exp", X)
    nest = hoisted((row - Y) * (row + Y), X, Y)
    assert [h.definition.op for h in nest.rows] == ["exp"]


def test_value_of_the_column_alone_is_the_whole_summand() -> None:
    nest = hoisted(apply("exp", Y), X, Y)
    assert [h.definition.op for h in nest.columns] == ["exp"]
    (step,) = nest.steps
    assert [arg["kind"] for arg in step.args] == ["state", "j"]


def test_element_of_a_loop_becomes_a_vector() -> None:
    x, y = scalar("x", "i", 0, LONG), scalar("y", "j", 1, LONG)
    nest = hoisted(apply("scalprod", apply("exp", x), apply("square", y)), x, y)
    for group, op in ((nest.rows, "exp"), (nest.columns, "square")):
        (moved,) = group
        assert moved.variable.type == Type("f32", LONG)
        assert moved.definition.op == "map"
        assert moved.definition.args[0].op == op


def test_parameters_in_a_loop_stay_there() -> None:
    x, p = scalar("x", "i", 0, LONG), scalar("p", "parameter", 1, LONG)
    y = scalar("y", "j", 2)
    nest = hoisted(apply("scalprod", x * y, apply("exp", p)), x, p, y)
    assert nest.uniform == ()


@st.composite
def kernels(draw: st.DrawFn) -> Kernel:
    """Expressions over scalars and vectors in which every dependence occurs."""
    dim = draw(st.sampled_from([1, 3, LONG]))
    x, y, p = scalar("x", "i", 0, dim), scalar("y", "j", 1, dim), scalar("p", "parameter", 2)
    values: list[Value] = [x, y, p]
    for _ in range(draw(st.integers(1, 7))):
        a, b = draw(st.sampled_from(values)), draw(st.sampled_from(values))
        made = [a + b, a * b, a - b, apply("sin", a), apply("sum", a * b), apply("cos", b * 0.5)]
        values.append(draw(st.sampled_from(made)))
    outputs = draw(st.lists(st.sampled_from(values), min_size=1, max_size=2))
    return Kernel((x, y, p), tuple(Output(value) for value in outputs))


@given(kernels(), st.integers(1, 6), st.integers(1, 4))
def test_hoisted_nest_computes_the_same(kernel: Kernel, columns: int, tile: int) -> None:
    nest = cse(written_out_by(accumulate(kernel, EXACT), Unrolling()), EXACT)
    moved = hoist(nest, EXACT)
    verify(moved)
    arrays = random_variables(kernel.params, np.random.default_rng(columns), columns=columns)
    before = run_nest(nest, arrays, columns, tile)
    after = run_nest(moved, arrays, columns, tile)
    for b, a in zip(before, after, strict=True):
        # The functions of NumPy may round differently for arrays of different lengths.
        np.testing.assert_allclose(np.broadcast_to(a, b.shape), b, rtol=1e-4, atol=1e-4)


@given(kernels())
def test_what_is_left_in_the_pair_loop_varies_with_the_pair(kernel: Kernel) -> None:
    assume(kernel.params[0].dim <= UNROLLED)  # parameters may stay in loops over components
    nest = hoist(
        cse(
            written_out_by(accumulate(kernel, context_with(accumulator="f32")), Unrolling()), EXACT
        ),
        EXACT,
    )
    raw = ("variable", "constant", "component")
    for value in topological(nest.steps):
        assert value.op in raw or value.dependence == I_BIT | J_BIT
