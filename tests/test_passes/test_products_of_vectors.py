"""The pass products: needs no backend."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pass_tools import PRIMITIVES, context_with, random_variables, run_nest

from redcomp.ir import Kernel, Nest
from redcomp.numpy import Genred
from redcomp.passes.pipeline import parse_pipeline, run_pipeline
from redcomp.passes.products import products
from redcomp.target import Context, Height
from redcomp.text import parse_program, print_nest
from redcomp.verify import verify

EVERY = {(use, dtype): (4, 64) for use in ("product", "distance") for dtype in ("f32", "f64")}
KEPT = {"f32": 48, "f64": 48}


def context(*, use_fast_math: bool = True, height: Height = "many") -> Context:
    """Of a target that multiplies matrices."""
    made = context_with(PRIMITIVES | {"exp2", "log2"}, use_fast_math=use_fast_math)
    return replace(
        made, target=replace(made.target, product_dims=EVERY, kept_dims=KEPT), height=height
    )


def kernel(formula: str, *aliases: str, dtype: str = "float64", **options: object) -> Kernel:
    declared = [a if "=" in a else f"{a[0]} = {a[1:]}" for a in aliases]
    return Genred(formula, declared, axis=1, **options).lower(dtype, target="host").kernel


def nest_of(given: Kernel, made: Context) -> Nest:
    """The nest before the pass."""
    nest = run_pipeline(parse_pipeline("simplify,factor,accumulate"), given, made)
    assert isinstance(nest, Nest)
    return nest


POINTS = ("x = Vi(10)", "y = Vj(10)", "b = Vj(1)")
# Formulas, what their kernels read, and the options of the reduction.
FOUND = {
    "Gaussian": ("Exp(-SqDist(x, y)) * b", POINTS, {}),
    "the other way round": ("Exp(-SqDist(y, x) * 0.5) * b", POINTS, {}),
    "of a width": ("Exp(-g * SqDist(x, y)) * b", (*POINTS, "g = Pm(1)"), {}),
    "of a width a row": ("Exp(-SqDist(x, y) / s) * b", (*POINTS, "s = Vi(1)"), {}),
    "weighted": ("Exp(-WeightedSqDist(s, x, y)) * b", (*POINTS, "s = Pm(10)"), {}),
    "of moved points": ("Exp(-SqDist(x + p, 2 * y))", (*POINTS[:2], "p = Pm(10)"), {}),
    "product": ("(x | y) * b", POINTS, {}),
    "product with factors": ("Exp(s * (x | y) * b * 3)", (*POINTS, "s = Vi(1)"), {}),
    "function of a product": ("Sin(x | y) + Abs(x | y) * b", POINTS, {}),
    "two results": ("Exp(-SqDist(x, y)) * Concat(b, b * b)", POINTS, {}),
    "LogSumExp": ("-SqDist(x, y) + b", POINTS, {"reduction_op": "LogSumExp"}),
    "softmax": ("(x | y)", POINTS, {"reduction_op": "SumSoftMaxWeight", "formula2": "b"}),
    "largest": ("(x | y) + b", POINTS, {"reduction_op": "Max"}),
    "two products": ("Exp(-SqDist(x, y)) * (x | y)", POINTS[:2], {}),
    "two products and others of one index": (
        "Exp(-SqDist(x, y)) * (v | w) * (x | x) * (w | Sin(w))",
        (*POINTS[:2], "v = Vi(12)", "w = Vj(12)"),
        {},
    ),
    "a product as a sum": ("Exp(Sum(x * Sin(y)))", POINTS[:2], {}),
}
NOT_FOUND = {
    "too short": ("Exp(-SqDist(x, y))", ("x = Vi(3)", "y = Vj(3)"), {}),
    "too long": ("Exp(-SqDist(x, y))", ("x = Vi(65)", "y = Vj(65)"), {}),
    "no exponential": ("SqDist(x, y) * b", POINTS, {}),
    "a root": ("Exp(-Sqrt(SqDist(x, y))) * b", POINTS, {}),
    "a quotient": ("Exp(1 / (1 + SqDist(x, y)))", POINTS[:2], {}),
    "the distance besides": ("SqDist(x, y) * Exp(-SqDist(x, y))", POINTS[:2], {}),
    "the difference besides": ("Exp(-SqDist(x, y)) * Elem(x - y, 1)", POINTS[:2], {}),
    "vectors as results": ("Exp(-SqDist(x, y)) * y", POINTS[:2], {}),
    "more components than fit": (
        "Exp(-SqDist(x, y)) * (v | w)",
        (*POINTS[:2], "v = Vi(60)", "w = Vj(60)"),
        {},
    ),
    "one of two products": ("Exp(-SqDist(x, y)) * Max(v * y)", (*POINTS[:2], "v = Vi(10)"), {}),
    "numbers of columns": ("(x | y)", POINTS[:2], {"reduction_op": "ArgMax"}),
    "of many vectors": (
        "(x | y + z * Sin(w))",
        (*POINTS[:2], "z = Vj(10)", "w = Vj(10)"),
        {},
    ),
    "of rows alone": ("SqNorm2(x) * b", (POINTS[0], POINTS[2]), {}),
}


@pytest.mark.parametrize("name", FOUND)
def test_same_results(name):
    formula, aliases, options = FOUND[name]
    made, rng = context(), np.random.default_rng(0)
    nest = nest_of(kernel(formula, *aliases, **options), made)
    found = products(nest, made)
    verify(found)
    assert len(found.products) == 1 + name.startswith("two products")
    assert print_nest(parse_program(print_nest(found))) == print_nest(found)
    arrays = random_variables(nest.params, rng, rows=4, columns=9)
    for a, b in zip(run_nest(nest, arrays, 9, 4), run_nest(found, arrays, 9, 4), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", FOUND)
def test_pairs_read_numbers_only_and_the_rest_of_the_pipeline_takes_them(name):
    formula, aliases, options = FOUND[name]
    made, rng = context(), np.random.default_rng(1)
    nest = nest_of(kernel(formula, *aliases, **options), made)
    rest = "products,scalarize,simplify,cse,prescale,contract,expand,simplify,hoist,legal"
    found = run_pipeline(parse_pipeline(rest), nest, made)
    assert isinstance(found, Nest)
    verify(found)
    assert all(v.dim == 1 for v in found.pair_variables)
    assert {v.op for h in found.products for v in h.definition.args} == {"map"}
    arrays = random_variables(nest.params, rng, rows=4, columns=9)
    for a, b in zip(run_nest(nest, arrays, 9, 4), run_nest(found, arrays, 9, 4), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", NOT_FOUND)
def test_what_stays(name):
    formula, aliases, options = NOT_FOUND[name]
    nest = nest_of(kernel(formula, *aliases, **options), context())
    assert products(nest, context()) is nest


@pytest.mark.parametrize(
    "made",
    [context(use_fast_math=False), context(height="few"), context_with(use_fast_math=True)],
    ids=["exact", "few rows", "a target without products"],
)
def test_who_asks_for_none(made):
    nest = nest_of(kernel(*_given("Gaussian")), made)
    assert products(nest, made) is nest


def _given(name: str) -> tuple[str, ...]:
    formula, aliases, _ = FOUND[name]
    return (formula, *aliases)


SCALED = """\
"redcomp.nest"() ({
^bb0(%x: vector<4xf32>, %y: vector<4xf32>, %b: f32, %state0: f32, %total0: f64, %other0: f64, %product0: f32):
  %0 = "arith.constant"() {value = 0.0 : f32} : () -> f32
  %1 = "redcomp.sin"(%product0) : (f32) -> f32
  %2 = "arith.addf"(%state0, %1) : (f32, f32) -> f32
  %3 = "arith.extf"(%state0) : (f32) -> f64
  %4 = "arith.addf"(%total0, %3) : (f64, f64) -> f64
  %5 = "arith.addf"(%total0, %other0) : (f64, f64) -> f64
  %6 = "arith.truncf"(%total0) : (f64) -> f32
  %7 = "redcomp.multiply"(%y, %b) : (vector<4xf32>, f32) -> vector<4xf32>
  %8 = "redcomp.contraction"(%x, %7) : (vector<4xf32>, vector<4xf32>) -> f32
  "redcomp.yield"(%0, %2, %4, %5, %6, %8) : (f32, f32, f64, f64, f32, f32) -> ()
})"""  # noqa: E501


def test_a_factor_goes_to_the_vector_of_its_side():
    given = kernel("Sin((x | y) * b)", "x = Vi(4)", "y = Vj(4)", "b = Vj(1)", dtype="float32")
    found = products(nest_of(given, context()), context())
    assert print_nest(found).split(" {adjusts")[0] == SCALED


@pytest.mark.parametrize("far", [np.inf, -np.inf, np.nan, 1e30, 1e18])
def test_points_that_are_infinitely_far_away(far):
    """Or no points: in float32 products with them would be no numbers, or infinite."""
    given, made = kernel(*_given("Gaussian"), dtype="float32"), context()
    nest = nest_of(given, made)
    arrays = random_variables(nest.params, np.random.default_rng(2), rows=4, columns=6)
    arrays["y"][0, 3, 2] = arrays["x"][1, 0, 1] = far
    with np.errstate(all="ignore"):
        (expected,), (found,) = (run_nest(n, arrays, 6, 6) for n in (nest, products(nest, made)))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
