"""The pass grad, for every operation to second order: needs no backend, but PyTorch."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
import reference
import torch
from pass_tools import Array, kernel_text

from redcomp.errors import CompilerError
from redcomp.interpret import interpret
from redcomp.ir import (
    Kernel,
    Output,
    Type,
    Value,
    broadcast,
    elementwise,
    topological,
    variable,
)
from redcomp.ops.table import OPERATIONS, Operation, ShapeError, apply
from redcomp.passes.grad import gradient, gradients
from redcomp.text import parse_kernel, print_kernel
from redcomp.verify import verify

pytestmark = pytest.mark.slow

DIFFERENTIABLE = [row for row in OPERATIONS.values() if row.spelling and row.section != "Constants"]

# Parameters and dimensions of the operands, where the first that fit say too little.
CASES: Mapping[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "pow": ({"m": 3}, (3,)),
    "round": ({"d": 1}, (3,)),
    "clampint": ({"m": -1, "n": 2}, (3,)),
    "diffclampint": ({"m": -1, "n": 2}, (3,)),
    "sum_t": ({"n": 4}, (1,)),
    "one_hot": ({"n": 4}, (1,)),
    "elem": ({"m": 1}, (3,)),
    "elem_t": ({"n": 4, "m": 2}, (1,)),
    "extract": ({"start": 1, "length": 2}, (4,)),
    "extract_t": ({"start": 1, "n": 5}, (3,)),
    "concat": ({}, (2, 3)),
    "symsqnorm": ({}, (9, 3)),
    "weightedsqnorm": ({}, (9, 3)),
    "weightedsqdist": ({}, (3, 3, 3)),
    "matvecmult": ({}, (6, 3)),
    "vecmatmult": ({}, (3, 6)),
    "tensorprod": ({}, (2, 3)),
    "tensordot": (
        {"dimsf": (2, 3, 2), "dimsg": (2, 2, 3), "contf": (1, 2), "contg": (2, 0), "perm": (1, 0)},
        (12, 12),
    ),
    "kron": ({"dimsf": (2, 2), "dimsg": (1, 3)}, (4, 3)),
    "bspline": ({"order": 2}, (7, 1)),
    "softdtw_sqdist": ({}, (3, 4, 1)),
    "soft_alignments": ({"m": 4}, (12, 1)),
    "grid_recurrence": ({"m": 3}, (6, 6, 6, 6)),
}

Tensor = Any


def fitting(row: Operation) -> tuple[dict[str, int], tuple[int, ...]]:
    """Parameters and dimensions that an operation takes; vectors of 3 if it takes them."""
    sizes = [(3,) * row.arity, *product((1, 2, 3, 6, 9), repeat=row.arity)]
    for dims, numbers in product(sizes, product(range(4), repeat=len(row.parameters))):
        operands = tuple(variable(f"a{k}", "i", k, Type("f64", d)) for k, d in enumerate(dims))
        attrs = dict(zip(row.parameters, numbers, strict=True))
        with contextlib.suppress(ShapeError):
            apply(row.name, *operands, **attrs)
            return attrs, dims
    raise ValueError(f"give {row.name!r} parameters and dimensions in CASES")


def case(row: Operation) -> tuple[Value, tuple[Value, ...], Value, dict[str, Array]]:
    """An operation, its operands, a cotangent and random values for them."""
    attrs, dims = CASES.get(row.name) or fitting(row)
    operands = tuple(variable(f"a{k}", "i", k, Type("f64", d)) for k, d in enumerate(dims))
    output = apply(row.name, *operands, **attrs)
    cotangent = variable("e", "i", len(dims), output.type)
    rng = np.random.default_rng(0)
    arrays = {
        operand["name"]: rng.uniform(*interval, (4, operand.dim))
        for operand, interval in zip(operands, row.domain.intervals * row.arity, strict=False)
    }
    arrays["e"] = rng.uniform(0.5, 2.0, (4, output.dim))
    return output, operands, cotangent, arrays


def evaluated(value: Value, arrays: Mapping[str, Array]) -> Array:
    (array,) = interpret([value], arrays)
    return np.broadcast_to(array, (4, value.dim))


def differences(
    value: Value, wrt: Value, cotangent: str, arrays: Mapping[str, Array], step: float = 1e-5
) -> Array:
    """Central differences of <cotangent, value>, component by component."""
    columns = []
    for k in range(wrt.dim):
        ends = []
        for sign in (1.0, -1.0):
            moved = arrays[wrt["name"]].copy()
            moved[:, k] += sign * step
            ends.append(evaluated(value, {**arrays, wrt["name"]: moved}))
        columns.append(((ends[0] - ends[1]) / (2 * step) * arrays[cotangent]).sum(-1))
    return np.stack(columns, axis=-1)


def second_order(row: Operation) -> tuple[list[Value], tuple[Value, ...], dict[str, Array]]:
    """First derivatives, variables, and values for them and for the second cotangents d0, ..."""
    output, operands, cotangent, arrays = case(row)
    first = list(gradients(output, operands, cotangent))
    rng = np.random.default_rng(1)
    for k, operand in enumerate(operands):
        arrays[f"d{k}"] = rng.uniform(0.5, 2.0, (4, operand.dim))
    return first, (*operands, cotangent), arrays


@pytest.mark.sampled(2)
@pytest.mark.parametrize("row", DIFFERENTIABLE, ids=lambda row: row.name)
def test_first_derivative_by_differences(row: Operation) -> None:
    output, operands, cotangent, arrays = case(row)
    for operand, found in zip(operands, gradients(output, operands, cotangent), strict=True):
        assert found.type == operand.type
        expected = differences(output, operand, "e", arrays)
        np.testing.assert_allclose(evaluated(found, arrays), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("row", DIFFERENTIABLE, ids=lambda row: row.name)
def test_second_derivative_by_differences(row: Operation) -> None:
    first, variables, arrays = second_order(row)
    for k, derivative in enumerate(first):
        direction = variable(f"d{k}", "i", 9, derivative.type)
        for wrt, found in zip(variables, gradients(derivative, variables, direction), strict=True):
            expected = differences(derivative, wrt, f"d{k}", arrays)
            np.testing.assert_allclose(evaluated(found, arrays), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("row", DIFFERENTIABLE, ids=lambda row: row.name)
def test_both_derivatives_as_pytorch(row: Operation) -> None:
    name = row.spelling
    assert name in reference.OPERATIONS, f"say in OPERATIONS of tests/reference.py what {name} is"
    attrs, _ = CASES.get(row.name) or fitting(row)
    first, variables, arrays = second_order(row)
    tensors = {name: torch.tensor(a, requires_grad=True) for name, a in arrays.items()}
    operands = [tensors[v["name"]] for v in variables]
    output = reference.OPERATIONS[name](*operands[:-1], *(attrs[p] for p in row.parameters))
    derivatives = torch_gradients(output, operands[:-1], tensors["e"])
    for k, derivative in enumerate(first):
        expected = derivatives[k].detach().numpy()
        np.testing.assert_allclose(evaluated(derivative, arrays), expected, rtol=1e-9, atol=1e-12)
        direction = variable(f"d{k}", "i", 9, derivative.type)
        seconds = torch_gradients(derivatives[k], operands, tensors[f"d{k}"])
        for second, found in zip(seconds, gradients(derivative, variables, direction), strict=True):
            expected = second.detach().numpy()
            np.testing.assert_allclose(evaluated(found, arrays), expected, rtol=1e-8, atol=1e-10)


def torch_gradients(output: Tensor, wrt: Sequence[Tensor], cotangent: Tensor) -> list[Tensor]:
    """PyTorch's vector-Jacobian products, zeros where there is no dependence."""
    if not output.requires_grad:
        return [torch.zeros_like(tensor) for tensor in wrt]
    found = torch.autograd.grad(output, wrt, cotangent, create_graph=True, allow_unused=True)
    # The second derivative of abs is one of PyTorch's tensors without data; a sum has data.
    return [
        torch.zeros_like(t) + (0.0 if g is None else g) for g, t in zip(found, wrt, strict=True)
    ]


# -- the pass itself --

X = variable("x", "i", 0, Type("f32"))
V = variable("v", "i", 1, Type("f32", 3))
E = variable("e", "i", 2, Type("f32"))


def test_gradient_in_text() -> None:
    text = kernel_text(
        "x i f32, y j f32, e i f32",
        """
        %0 = "arith.mulf"(%x, %y) : (f32, f32) -> f32
        %1 = "redcomp.exp"(%0) : (f32) -> f32
        """,
        "%1: f32",
    )
    kernel = parse_kernel(text)
    x, _, e = kernel.params
    (output,) = kernel.outputs
    found = print_kernel(Kernel(kernel.params, (Output(gradient(output.value, x, e)),)))
    assert found == kernel_text(
        "x i f32, y j f32, e i f32",
        """
        %0 = "arith.mulf"(%x, %y) : (f32, f32) -> f32
        %1 = "redcomp.exp"(%0) : (f32) -> f32
        %2 = "arith.mulf"(%e, %1) : (f32, f32) -> f32
        %3 = "arith.mulf"(%2, %y) : (f32, f32) -> f32
        """,
        "%3: f32",
    )


def test_gradient_of_a_selection_in_text() -> None:
    """One selection at the end, whose other branch changes no sum."""
    text = kernel_text(
        "x i f32, y j f32, e i f32",
        """
        %0 = "arith.cmpf"(%x, %y) {predicate = 2 : i64} : (f32, f32) -> i1
        %1 = "redcomp.log"(%x) : (f32) -> f32
        %2 = "arith.constant"() {value = 0.0 : f32} : () -> f32
        %3 = "arith.select"(%0, %1, %2) : (i1, f32, f32) -> f32
        """,
        "%3: f32",
    )
    kernel = parse_kernel(text)
    x, _, e = kernel.params
    (output,) = kernel.outputs
    found = print_kernel(Kernel(kernel.params, (Output(gradient(output.value, x, e)),)))
    assert found == kernel_text(
        "x i f32, y j f32, e i f32",
        """
        %0 = "arith.cmpf"(%x, %y) {predicate = 2 : i64} : (f32, f32) -> i1
        %1 = "arith.constant"() {value = 1.0 : f32} : () -> f32
        %2 = "arith.divf"(%1, %x) : (f32, f32) -> f32
        %3 = "arith.mulf"(%e, %2) : (f32, f32) -> f32
        %4 = "arith.constant"() {value = 0x80000000 : f32} : () -> f32
        %5 = "arith.select"(%0, %3, %4) : (i1, f32, f32) -> f32
        """,
        "%5: f32",
    )


def test_both_branches_of_a_selection_are_one_selection() -> None:
    value = apply("if_else", E, apply("log", X), apply("exp", X * X))
    parts = list(topological([gradient(value, X, X)]))
    assert [part.op for part in parts].count("select") == 1


def test_terms_behind_one_guard_are_selected_together() -> None:
    guard = apply("if_else", E, apply("log", X) * V, V * 0.0)
    parts = list(topological([gradient(apply("scalprod", guard, V), X, E)]))
    assert [part.op for part in parts].count("select") == 1


def evaluate_at_one(value: Value) -> list[float]:
    arrays = {"x": np.array([2.0]), "v": np.array([1.0, 2.0, 3.0]), "e": np.array([1.0])}
    (array,) = interpret([value], arrays)
    return [float(component) for component in np.broadcast_to(array, (value.dim,))]


def test_cotangents_of_all_uses_add_up() -> None:
    assert evaluate_at_one(gradient(X * X * X, X, E)) == [12.0]


def test_scalar_that_served_all_components_gets_their_sum() -> None:
    cotangent = variable("v", "i", 1, Type("f32", 3))
    found = gradient(broadcast(X, 3) * X, X, cotangent)
    assert found.type == X.type
    assert evaluate_at_one(found) == [24.0]


def test_scalar_cotangent_serves_all_components() -> None:
    assert evaluate_at_one(gradient(V * X, V, E)) == [2.0, 2.0, 2.0]


def test_what_the_output_ignores_has_a_zero_gradient_of_its_type() -> None:
    found = gradient(X * 2.0, V, E)
    assert found.type == V.type
    assert evaluate_at_one(found) == [0.0, 0.0, 0.0]


def test_variable_is_its_own_derivative() -> None:
    assert evaluate_at_one(gradient(X, X, E)) == [1.0]


def test_several_gradients_share_the_sweep() -> None:
    first, second = gradients(apply("exp", X * V), (X, V), V)
    verify(Kernel((X, V, E), (Output(first), Output(second))))
    assert (first.type, second.type) == (X.type, V.type)
    for found, wrt in ((first, X), (second, V)):
        alone = gradient(apply("exp", X * V), wrt, V)
        assert evaluate_at_one(found) == evaluate_at_one(alone)


def test_primitive_without_a_rule_is_a_bug() -> None:
    with pytest.raises(CompilerError, match="'round_even' has no derivative rule"):
        gradient(elementwise("round_even", X), X, E)


def test_long_chains_need_no_deep_stack() -> None:
    value = X
    for _ in range(5_000):
        value = value * 1.0001
    assert evaluate_at_one(gradient(value, X, E))[0] == pytest.approx(1.0001**5000, rel=1e-3)
