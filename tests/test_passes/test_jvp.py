"""The passes jvp, trace and linear, for every operation: needs no backend, but PyTorch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import reference
import torch
from pass_tools import Array, kernel_text
from test_grad import CASES, DIFFERENTIABLE, case, evaluated, fitting

from redcomp.interpret import interpret
from redcomp.ir import (
    Kernel,
    Output,
    Type,
    Value,
    broadcast,
    compare,
    select,
    topological,
    variable,
    zero,
)
from redcomp.ops.table import OPERATIONS, Operation, ShapeError, apply
from redcomp.passes.grad import gradient
from redcomp.passes.jvp import jvp
from redcomp.passes.linear import is_linear
from redcomp.passes.trace import trace
from redcomp.text import parse_kernel, print_kernel
from redcomp.verify import verify

# -- jvp --


def with_tangents(row: Operation) -> tuple[Value, tuple[Value, ...], list[Value], dict[str, Array]]:
    """An operation, its operands, a tangent for each, and values for all of them."""
    output, operands, _, arrays = case(row)
    rng = np.random.default_rng(2)
    tangents = [variable(f"t{k}", "j", 20 + k, v.type) for k, v in enumerate(operands)]
    arrays |= {t["name"]: rng.uniform(0.5, 2.0, (4, t.dim)) for t in tangents}
    return output, operands, tangents, arrays


def along(
    value: Value, operands: tuple[Value, ...], arrays: Mapping[str, Array], step: float = 1e-5
) -> Array:
    """The central difference of a value, all operands moving along their tangents."""
    ends = []
    for sign in (1.0, -1.0):
        moved = {
            v["name"]: arrays[v["name"]] + sign * step * arrays[f"t{k}"]
            for k, v in enumerate(operands)
        }
        ends.append(evaluated(value, {**arrays, **moved}))
    return (ends[0] - ends[1]) / (2 * step)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("row", DIFFERENTIABLE, ids=lambda row: row.name)
def test_by_differences(row: Operation) -> None:
    output, operands, tangents, arrays = with_tangents(row)
    first = jvp(output, operands, tangents)
    second = jvp(first, operands, tangents)
    for lower, found in ((output, first), (first, second)):
        assert found.type == output.type
        # The cotangent through which the derivative is made does not stay in it.
        verify(Kernel((*operands, *tangents), (Output(found),)))
        expected = along(lower, operands, arrays)
        np.testing.assert_allclose(evaluated(found, arrays), expected, rtol=1e-5, atol=1e-6)


# PyTorch's forward mode warns about PyTorch's own scripts.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.sampled(2)
@pytest.mark.parametrize("row", DIFFERENTIABLE, ids=lambda row: row.name)
def test_as_pytorch(row: Operation) -> None:
    attrs, _ = CASES.get(row.name) or fitting(row)
    output, operands, tangents, arrays = with_tangents(row)
    primals = tuple(torch.tensor(arrays[v["name"]]) for v in operands)
    moving = tuple(torch.tensor(arrays[t["name"]]) for t in tangents)
    parameters = [attrs[p] for p in row.parameters]
    meaning = reference.OPERATIONS[row.spelling]
    # By differentiating twice: functions of the reference have no forward mode of their own.
    _, expected = torch.autograd.functional.jvp(
        lambda *args: meaning(*args, *parameters), primals, moving
    )
    found = evaluated(jvp(output, operands, tangents), arrays)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-9, atol=1e-12)


X = variable("x", "i", 0, Type("f64"))
V = variable("v", "i", 1, Type("f64", 3))
W = variable("w", "j", 2, Type("f64", 3))
S = variable("s", "j", 3, Type("f64"))
ARRAYS = {
    "x": np.array([2.0]),
    "v": np.array([1.0, 2.0, 3.0]),
    "w": np.array([5.0, 7.0, 11.0]),
    "s": np.array([13.0]),
}


def numbers(value: Value) -> list[float]:
    (array,) = interpret([value], ARRAYS)
    return [float(component) for component in np.broadcast_to(array, (value.dim,))]


def test_jvp_in_text() -> None:
    params = "x i f32, y j f32, t i f32"
    product = '%0 = "arith.mulf"(%x, %y) : (f32, f32) -> f32\n'
    kernel = parse_kernel(kernel_text(params, product, "%0: f32"))
    x, _, t = kernel.params
    found = jvp(kernel.outputs[0].value, [x], [t])
    text = product.replace("%x", "%t")
    expected = kernel_text(params, text, "%0: f32")
    assert print_kernel(Kernel(kernel.params, (Output(found),))) == expected


def test_tangents_of_all_variables_add_up() -> None:
    assert numbers(jvp(V * X, [V, X], [W, S])) == [5 * 2 + 13, 7 * 2 + 26, 11 * 2 + 39]
    assert numbers(jvp(V, [V, V], [W, V])) == [6.0, 9.0, 14.0]


def test_scalar_tangent_serves_all_components() -> None:
    assert numbers(jvp(V * V, [V], [X])) == [4.0, 8.0, 12.0]


def test_scalar_that_serves_all_components_moves_all() -> None:
    assert numbers(jvp(broadcast(X, 3), [X], [S])) == [13.0] * 3


def test_what_the_output_ignores_does_not_move_it() -> None:
    found = jvp(X * 2.0, [V], [W])
    assert found.type == X.type
    assert numbers(found) == [0.0]


def test_an_infinite_tangent_does_not_reach_the_other_branch() -> None:
    infinite = jvp(apply("if_else", X, V, W), [V, W], [V, W / 0.0])
    assert numbers(infinite) == [1.0, 2.0, 3.0]


def test_long_chains_cost_one_pass() -> None:
    value = X
    for _ in range(3_000):
        value = value * 1.0001
    found = jvp(value, [X], [X])
    assert numbers(found)[0] == pytest.approx(2 * 1.0001**3000, rel=1e-10)
    assert len(list(topological([found]))) < 10_000


# -- trace --


def diagonal_sum(output: Value, wrt: Value, weights: list[float]) -> float:
    """The trace from rows of the Jacobian, each by reverse mode."""
    total = 0.0
    for k, weight in enumerate(weights):
        unit = apply("elem_t", X * 0.0 + 1.0, n=output.dim, m=k)
        total += weight * numbers(gradient(output, wrt, unit))[k]
    return total


TRACED = {
    "variable": V,
    "square": V * V,
    "rank one": V * apply("scalprod", V, W),
    "normalized": apply("normalize", V - W),
    "gaussian": apply("exp", -apply("sqdist", V, W)) * (V - W),
    "matrix": apply("concat", apply("extract", V, start=1, length=2), apply("elem", V, m=0) * X),
    "longer": apply(
        "extract", apply("concat", apply("sin", V), apply("concat", V * V, W)), start=2, length=3
    ),
    "selected": select(compare("ogt", W, 6.0), V * V, W * V),
    "extremum": apply("max", V * W) * V,
    "matrix of sums": apply("concat", apply("concat", V, V) * apply("sum", V), W),
    "ignores": W,
}


@pytest.mark.parametrize("name", TRACED)
def test_trace(name: str) -> None:
    output = TRACED[name]
    if output.dim != 3:
        output = apply("extract", apply("square", output), start=1, length=3)
    found = numbers(trace(output, V, W))
    assert found == [pytest.approx(diagonal_sum(output, V, [5.0, 7.0, 11.0]), rel=1e-12)]
    (scaled,) = numbers(trace(output, V, S))
    assert scaled == pytest.approx(diagonal_sum(output, V, [13.0] * 3), rel=1e-12)


def test_trace_of_scalars() -> None:
    assert numbers(trace(X * X * X, X, S)) == [12.0 * 13.0]


def test_trace_of_elementwise_operations_and_sums_does_not_grow_with_the_dimension() -> None:
    counts = []
    for dim in (2, 1000):
        v, w = (variable(n, "i", k, Type("f32", dim)) for k, n in enumerate("vw"))
        output = apply("exp", -apply("sqdist", v, w)) * apply("normalize", v) + v * v
        counts.append(len(list(topological([trace(output, v, w)]))))
    assert counts[0] == counts[1]


def test_a_trace_that_becomes_too_much_stops() -> None:
    v = variable("v", "i", 0, Type("f32", 2**24))
    output = apply("extract", apply("concat", v, v), start=1, length=2**24)
    with pytest.raises(ShapeError, match="more than 30,000 operations"):
        trace(output, v, v)


# -- linear --

ZEROS = zero(V.type)
LINEAR = {
    "variable": V,
    "zero": ZEROS,
    "sums": V + X * V - V / W,
    "scaled by what cancels": W / X * V * -1.0,
    "scalar products": apply("scalprod", V, W) * W + V,
    "components": apply("elem_t", apply("elem", V, m=1), n=5, m=2),
    "pieces": apply("concat", apply("extract", V, start=1, length=2), apply("sum", V * W)),
    "next to zeros": apply("concat", V, zero(Type("f64", 2))),
    "repeated": apply("sum_t", apply("sum", V), n=4),
    "selected": apply("if_else", W, V, 2.0 * V),
    "masked": apply("if_else", W, V, ZEROS),
    "selection of the passes": select(compare("olt", W, 1.0), V, ZEROS),
    "first power": apply("pow", V, m=1),
    "gradient": gradient(apply("exp", apply("scalprod", W, X * W)), W, V),
}
NOT_LINEAR = {
    "independent": W,
    "affine": V + W,
    "square": V * V,
    "its own weight": apply("scalprod", V, W) * V,
    "quotient": W / V,
    "absolute value": apply("abs", V),
    "rectified": apply("relu", V),
    "rounded": apply("floor", V),
    "plus rounded": V + apply("floor", V),
    "remainder": apply("mod", V, X, X),
    "largest": apply("max", V),
    "place": apply("one_hot", apply("elem", V, m=0), n=3),
    "next to others": apply("concat", V, W),
    "half masked": apply("if_else", W, V, W),
    "selected by itself": apply("if_else", V, V, 2.0 * V),
    "compared": select(compare("olt", V, 1.0), V, 2.0 * V),
    "clamped far away": apply("clampint", V, m=-1000, n=1000),
    "root": apply("sqrt", apply("square", V)),
}


@pytest.mark.parametrize("name", LINEAR)
def test_linear(name: str) -> None:
    value = LINEAR[name]
    assert is_linear(value, V)
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(2, 3))
    values = [interpret([value], {**ARRAYS, "v": v})[0] for v in (a, b, 2 * a - 3 * b)]
    np.testing.assert_allclose(values[2], 2 * values[0] - 3 * values[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NOT_LINEAR)
def test_not_linear(name: str) -> None:
    assert not is_linear(NOT_LINEAR[name], V)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("row", DIFFERENTIABLE, ids=lambda row: row.name)
def test_no_operation_is_wrongly_called_linear(row: Operation) -> None:
    """What is called linear maps combinations of arguments, of any size, to combinations."""
    output, operands, _, arrays = case(row)
    rng = np.random.default_rng(4)
    for operand in operands:
        if is_linear(output, operand):
            name = operand["name"]
            a, b = rng.normal(scale=100.0, size=(2, 4, operand.dim))
            values = [evaluated(output, {**arrays, name: v}) for v in (a, b, 2 * a - 3 * b)]
            expected = 2 * values[0] - 3 * values[1]
            np.testing.assert_allclose(values[2], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "positions"),
    [
        ("add", ()),
        ("multiply", (0, 1)),
        ("divide", (0,)),
        ("negate", (0,)),
        ("sum", (0,)),
        ("sum_t", (0,)),
        ("scalprod", (0, 1)),
        ("elem", (0,)),
        ("elem_t", (0,)),
        ("extract", (0,)),
        ("extract_t", (0,)),
        ("symsqnorm", (0,)),
        ("weightedsqdist", (0,)),
        ("mod", ()),
        ("exp", ()),
    ],
)
def test_positions_in_which_operations_are_linear(name: str, positions: tuple[int, ...]) -> None:
    output, operands, _, _ = case(OPERATIONS[name])
    assert tuple(k for k, v in enumerate(operands) if is_linear(output, v)) == positions
