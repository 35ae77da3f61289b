"""Elementary functions against exact references: no backend needed, mpmath, NumPy."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest

from redcomp.interpret import interpret
from redcomp.ir import Type, Value, constant, elementwise, topological, variable
from redcomp.ops.expansions import exponential
from redcomp.ops.expansions.shared import expand_scale
from redcomp.ops.table import OPERATIONS, SIMD, Array, Operation, apply
from redcomp.passes.expand import expand_value
from redcomp.passes.grad import gradients

pytestmark = pytest.mark.slow

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
measure_ulp: Any = importlib.import_module("measure_ulp")

DTYPES = {"f32": np.float32, "f64": np.float64}
# What targets emit, but for the primitives that rows have variants for; `scale` is in others too.
PRIMITIVES = frozenset(name for name, row in OPERATIONS.items() if row.is_primitive) - {
    needed
    for row in OPERATIONS.values()
    for needed in (*row.variants, *row.fast)
    if needed != "scale"
}
ROWS = [row for row in OPERATIONS.values() if row.section == "Mathematics"]
CASES = [
    (row, dict(zip(row.parameters, values, strict=True)))
    for row in ROWS
    for values in row.domain.parameters or [()]
]
IDS = [row.name + "".join(f"-{value}" for value in attrs.values()) for row, attrs in CASES]


def forms(row: Operation) -> dict[str, frozenset[str]]:
    """For the expansion of a row and for each of its variants, the primitives that select it."""
    others = PRIMITIVES - row.variants.keys()
    return {"": others, **{f"-by-{needed}": others | {needed} for needed in row.variants}}


FORMS = [
    pytest.param(row, attrs, primitives, id=name + form)
    for (row, attrs), name in zip(CASES, IDS, strict=True)
    for form, primitives in forms(row).items()
]

every_case = pytest.mark.parametrize(("row", "attrs"), CASES, ids=IDS)
every_form = pytest.mark.parametrize(("row", "attrs", "primitives"), FORMS)
every_dtype = pytest.mark.parametrize("dtype", list(DTYPES))


def operands_of(arity: int, dtype: str) -> list[Value]:
    return [variable(f"v{k}", "i", k, Type(dtype)) for k in range(arity)]


def run(value: Value, *arrays: Array) -> Array:
    columns = {f"v{k}": array[:, None] for k, array in enumerate(arrays)}
    return np.broadcast_to(interpret([value], columns)[0][..., 0], arrays[0].shape)


def expansion(
    row: Operation,
    dtype: str,
    attrs: Mapping[str, int] | None = None,
    primitives: frozenset[str] = PRIMITIVES,
) -> Value:
    operands = operands_of(row.arity, dtype)
    return expand_value(apply(row.name, *operands, **(attrs or {})), primitives)


def in_domain(row: Operation, dtype: str, count: int) -> list[Array]:
    """Random points of the row's domain, and one with each special value for all operands."""
    random = np.random.default_rng(row.arity)
    intervals = (row.domain.intervals * row.arity)[: row.arity]
    uniform = [random.uniform(low, high, count) for low, high in intervals]
    return [np.append(u, row.domain.special).astype(DTYPES[dtype]) for u in uniform]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_errors_are_measured_against_what_is_exact(row: Operation) -> None:
    has = "`exact`, the function in terms of mpmath"
    assert bool(row.ulp) == (row.exact is not None), (
        f"the row of {row.name!r} has to have {has}, if its `ulp` is more than 0, and only then"
    )


@every_dtype
@every_form
def test_expansion_is_within_its_limit(
    row: Operation, attrs: dict[str, int], primitives: frozenset[str], dtype: str
) -> None:
    points = in_domain(row, dtype, 20_000 if dtype == "f32" else 300)
    result = run(expansion(row, dtype, attrs, primitives), *points)
    if row.name in measure_ulp.MEASURED:
        exact = measure_ulp.reference(row.name, *points)
        assert measure_ulp.ulp_error(result, *exact).max() <= row.ulp
    else:
        np.testing.assert_array_equal(result, row.evaluate(*points, **attrs))


@every_dtype
@every_form
def test_special_values(
    row: Operation, attrs: dict[str, int], primitives: frozenset[str], dtype: str
) -> None:
    info = np.finfo(DTYPES[dtype])
    tiny = (float(info.smallest_subnormal), float(info.tiny) / 3, float(info.tiny))
    positive = (0.0, *tiny, 0.5, 1.0, 1.5, 2.0, 3.0, 100.0, math.inf)
    values = np.array([math.nan, *positive, *(-x for x in positive)], DTYPES[dtype])
    points = [axis.ravel() for axis in np.meshgrid(*[values] * row.arity)]
    result = run(expansion(row, dtype, attrs, primitives), *points)
    with np.errstate(all="ignore"):
        expected = row.evaluate(*points, **attrs)
    # The reference, which is NumPy's, may err by a unit itself; so may the smallest numbers.
    smallest = float(info.smallest_subnormal) if row.ulp else 0.0
    np.testing.assert_allclose(result, expected, rtol=(row.ulp + 1) * info.eps, atol=smallest)


@pytest.mark.parametrize(
    "op", ["sin", "tanh", "sinh", "asin", "atan", "expm1", "log1p", "erf", "cbrt"]
)
@every_dtype
def test_odd_functions_keep_the_sign_of_zero_and_tiny_numbers(op: str, dtype: str) -> None:
    tiny = float(np.finfo(DTYPES[dtype]).smallest_subnormal)
    points = np.array([0.0, -0.0, tiny, -tiny], DTYPES[dtype])
    result = run(expansion(OPERATIONS[op], dtype), points)
    np.testing.assert_array_equal(np.signbit(result), [False, True, False, True])
    np.testing.assert_array_equal(result == 0, [True, True, False, False])


def partials(row: Operation, variables: list[Value], **attrs: int) -> tuple[Value, ...]:
    """The derivative by each operand."""
    out = apply(row.name, *variables, **attrs)
    return gradients(out, tuple(variables), constant(1.0, out.dtype))


@pytest.mark.parametrize("op", sorted(measure_ulp.MEASURED))
def test_derivative_is_that_of_the_function(op: str) -> None:
    row = OPERATIONS[op]
    points = [array[:40] for array in in_domain(row, "f64", 40)]
    variables = operands_of(row.arity, "f64")
    for position, value in enumerate(partials(row, variables)):
        derivative = run(value, *points)
        order = tuple(int(k == position) for k in range(row.arity))
        for k in range(len(points[0])):
            at = tuple(mpmath.mpf(float(array[k])) for array in points)
            with mpmath.workprec(200):
                exact = mpmath.diff(functools.partial(row.exact, mpmath), at, order)
            assert derivative[k] == pytest.approx(float(exact), rel=2e-13, abs=2e-15)


@every_case
def test_derivative_by_differences(row: Operation, attrs: dict[str, int]) -> None:
    points = [array[:200] for array in in_domain(row, "f64", 200)]
    variables = operands_of(row.arity, "f64")
    step = 1e-5
    for position, value in enumerate(partials(row, variables, **attrs)):
        derivative = run(value, *points)
        above, below = list(points), list(points)
        above[position], below[position] = points[position] + step, points[position] - step
        difference = row.evaluate(*above, **attrs) - row.evaluate(*below, **attrs)
        slope = difference / (2 * step)
        np.testing.assert_allclose(derivative, slope, rtol=1e-6, atol=1e-6)


# Operation, operands, the expected derivative by each operand.
CONVENTIONS: list[tuple[str, tuple[float, ...], tuple[float, ...]]] = [
    ("asin", (1.0,), (0.0,)),
    ("acos", (-1.0,), (0.0,)),
    ("abs", (0.0,), (0.0,)),
    ("relu", (0.0,), (1.0,)),
    ("sinxdivx", (0.0,), (0.0,)),
    ("xlogx", (0.0,), (-math.inf,)),
    ("cbrt", (0.0,), (0.0,)),
    ("atan2", (0.0, 0.0), (math.nan, math.nan)),
    ("powf", (0.0, 0.5), (0.0, 0.0)),
    ("powf", (0.0, 2.0), (0.0, 0.0)),
    ("powf", (0.0, 0.0), (0.0, 0.0)),
    ("powf", (-2.0, 3.0), (12.0, math.nan)),
    ("minimum", (1.0, 1.0), (1.0, 0.0)),
    ("maximum", (1.0, 1.0), (1.0, 0.0)),
    ("maximum", (1.0, 2.0), (0.0, 1.0)),
    ("clamp", (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)),
    ("clamp", (1.0, 0.0, 1.0), (1.0, 0.0, 0.0)),
    ("clamp", (-1.0, 0.0, 1.0), (0.0, 1.0, 0.0)),
    ("clamp", (2.0, 0.0, 1.0), (0.0, 0.0, 1.0)),
    ("clamp", (2.0, 1.0, 1.0), (0.0, 0.0, 1.0)),
    ("clamp", (0.5, 1.0, 0.0), (0.0, 1.0, 0.0)),
]


@pytest.mark.parametrize(("op", "at", "expected"), CONVENTIONS)
def test_derivative_at_special_points(
    op: str, at: tuple[float, ...], expected: tuple[float, ...]
) -> None:
    variables = operands_of(len(at), "f64")
    points = [np.array([x]) for x in at]
    for found, value in zip(partials(OPERATIONS[op], variables), expected, strict=True):
        np.testing.assert_array_equal(run(found, *points), [value])


@pytest.mark.parametrize("op", ["exp", "exp2", "expm1", "log", "log2", "log1p", "sigmoid", "tanh"])
def test_whole_float32_range_in_strides(op: str) -> None:
    # An odd stride, so that all low bits occur.
    chunks = list(measure_ulp.every_float(op, "f32", 50_021))
    row = OPERATIONS[op]
    values = [expansion(row, "f32", primitives=primitives) for primitives in forms(row).values()]
    for points in chunks:
        exact = measure_ulp.reference(op, *points)
        for value in values:
            assert measure_ulp.ulp_error(run(value, *points), *exact).max() <= row.ulp


@pytest.mark.parametrize("op", ["sin", "cos"])
@every_dtype
def test_circular_functions_of_huge_numbers_stay_bounded(op: str, dtype: str) -> None:
    points = np.exp2(np.linspace(20, np.finfo(DTYPES[dtype]).maxexp - 1, 500)).astype(DTYPES[dtype])
    result = run(expansion(OPERATIONS[op], dtype), points)
    assert np.abs(result).max() <= 1.0


@every_dtype
def test_expanded_scale_is_the_primitive(dtype: str) -> None:
    random = np.random.default_rng(0)
    limit = 155.0 if dtype == "f32" else 1080.0
    a = random.uniform(0.5, 2.0, 20_000) * random.choice([-1.0, 1.0], 20_000)
    n = random.uniform(-limit, limit, 20_000)
    a, n = a.astype(DTYPES[dtype]), n.astype(DTYPES[dtype])
    x, y = operands_of(2, dtype)
    expected = run(elementwise("scale", x, y), a, n)
    np.testing.assert_array_equal(run(expand_scale(x, y), a, n), expected)
    subnormal = (expected != 0) & (np.abs(expected) < np.finfo(DTYPES[dtype]).tiny)
    assert subnormal.any()
    assert np.isinf(expected).any()


HALVED = {
    "exp": (exponential.EXP, exponential.exp, exponential.exp_by_halves),
    "exp2": (exponential.EXP2, exponential.exp2, exponential.exp2_by_halves),
}


@every_dtype
@pytest.mark.parametrize("name", HALVED)
def test_halves_of_the_exponent_change_no_bit(name: str, dtype: str) -> None:
    """Over all exponents, and where results overflow, are below the normal numbers, and 0."""
    tables, by_scale, by_halves = HALVED[name]
    limits = tables[dtype]
    special = [limits.lowest, limits.highest, -1e30, 1e30, -np.inf, np.inf, np.nan, 0.0, -0.0]
    points = np.linspace(limits.lowest - 2.0, limits.highest + 2.0, 200_000)
    points = np.concatenate([points, special]).astype(DTYPES[dtype])
    (x,) = operands_of(1, dtype)
    scaled, halved = (run(form(x), points) for form in (by_scale, by_halves))
    assert halved.tobytes() == scaled.tobytes()
    tiny = np.finfo(DTYPES[dtype]).tiny
    assert np.isinf(halved).any()
    assert (halved == 0).any()
    assert ((halved > 0) & (halved < tiny)).any()


# The fma that subtract n * ln 2 and evaluate the polynomial, what looks up the power of two, and
# what scales.
EXP_COSTS: list[tuple[frozenset[str], dict[str, int]]] = [
    (PRIMITIVES, {"fma": 8, "multiply": 0, "lookup": 0, "scale": 1}),
    (PRIMITIVES | {SIMD}, {"fma": 8, "multiply": 2, "lookup": 0, "scale": 0}),
    (PRIMITIVES | {SIMD, "lookup"}, {"fma": 6, "multiply": 1, "lookup": 1, "scale": 1}),
]


@pytest.mark.parametrize(
    ("primitives", "costs"), EXP_COSTS, ids=["everywhere", "by-halves", "by-lookup"]
)
def test_what_exp_costs_in_float32(primitives: frozenset[str], costs: dict[str, int]) -> None:
    value = expansion(OPERATIONS["exp"], "f32", primitives=primitives)
    parts = [part.op for part in topological([value])]
    assert {op: parts.count(op) for op in costs} == costs
    assert not {"divide", "convert", "floor"} & set(parts)


@every_dtype
@pytest.mark.parametrize("error", [-(2.0**-14), 0.0, 2.0**-14])
def test_estimated_roots_are_refined(
    dtype: str, error: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The NumPy form of the estimate is exact, so it gets the error that instructions may have."""
    row = OPERATIONS["rsqrt_estimate"]
    assert row.error is not None
    assert abs(error) <= row.error.relative

    def estimate(x: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray((1 + error) / np.sqrt(x), x.dtype)

    monkeypatch.setitem(OPERATIONS, row.name, dataclasses.replace(row, evaluate=estimate))
    value = expansion(OPERATIONS["rsqrt"], dtype, primitives=PRIMITIVES | {row.name})
    assert not {"divide", "sqrt"} & {part.op for part in topological([value])}
    (x,) = next(measure_ulp.points("rsqrt", dtype, 5_000))
    x = np.concatenate([x[:5000], np.array([0.0, -0.0, np.inf, -np.inf, np.nan], x.dtype)])
    error_found = measure_ulp.ulp_error(run(value, x), *measure_ulp.reference("rsqrt", x))
    assert 0.3 < error_found.max() <= OPERATIONS["rsqrt"].ulp


@every_dtype
def test_derivative_of_sigmoid_is_accurate_where_sigmoid_is_nearly_1(dtype: str) -> None:
    x = np.linspace(10.0, 85.0, 50).astype(DTYPES[dtype])
    (f,) = operands_of(1, dtype)
    (rule,) = OPERATIONS["sigmoid"].partials
    assert rule is not None
    derivative = rule(f, apply("sigmoid", f))
    assert isinstance(derivative, Value)
    e = np.exp(-x.astype(np.float64))
    expected = e / (1 + e) ** 2
    np.testing.assert_allclose(run(derivative, x), expected, rtol=4 * np.finfo(x.dtype).eps)


def test_quotient_of_the_sine_is_accurate_next_to_multiples_of_pi() -> None:
    # Floats next to multiples of pi, where the sine is what the reduction leaves of x.
    x = (np.arange(1, 300_000) * np.pi).astype(np.float32)
    result = run(expansion(OPERATIONS["sinxdivx"], "f32"), x)
    assert measure_ulp.ulp_error(result, *measure_ulp.reference("sinxdivx", x)).max() <= 2.0


def test_error_is_counted_in_units_of_the_exact_result() -> None:
    one, ulp = np.float32(1.0), np.float32(2.0**-23)
    result = np.array([one + ulp, one - ulp / 2, one, np.inf, np.nan, np.nan, 3e-45], np.float32)
    exact = np.array([1.0, 1.0, 1.0 + 2.0**-24, 1e39, np.nan, 1.0, 0.0])
    expected = [1.0, 0.5, 0.5, 0.0, 0.0, np.inf, 2.0]
    np.testing.assert_allclose(measure_ulp.ulp_error(result, exact), expected, rtol=0.1)
