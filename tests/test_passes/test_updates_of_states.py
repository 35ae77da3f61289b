"""Updates of wide states, found by the pass products: needs no backend."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pass_tools import PRIMITIVES, context_with, random_variables, run_nest

from redcomp.errors import CompilerError
from redcomp.ir import Nest, Value
from redcomp.numpy import Genred
from redcomp.passes.divide import most_updated
from redcomp.passes.partition import partitioned
from redcomp.passes.pipeline import parse_pipeline, run_pipeline
from redcomp.passes.products import products
from redcomp.target import Context, UpdateLimits
from redcomp.text import parse_program, print_nest
from redcomp.text.pretty import pretty
from redcomp.text.pretty_parser import parse_pretty
from redcomp.verify import verify

EVERY = {(use, dtype): (4, 64) for use in ("product", "distance") for dtype in ("f32", "f64")}
KEPT = {"f32": 64, "f64": 64}


def context() -> Context:
    """Of a target that multiplies matrices."""
    made = context_with(PRIMITIVES | {"exp2", "log2"}, use_fast_math=True)
    wide = dict.fromkeys(
        ("f32", "f64"), UpdateLimits(least=9, most=32, memory=100, kept=256, chunk=32)
    )
    return replace(
        made, target=replace(made.target, product_dims=EVERY, kept_dims=KEPT, update_limits=wide)
    )


def nest_of(formula: str, aliases: tuple[str, ...], options: dict[str, object]) -> Nest:
    """The nest before the pass."""
    kernel = Genred(formula, list(aliases), axis=1, **options).lower("f64", target="host").kernel
    nest = run_pipeline(parse_pipeline("simplify,factor,accumulate"), kernel, context())
    assert isinstance(nest, Nest)
    return nest


POINTS = ("x = Vi(3)", "y = Vj(3)", "b = Vj(10)")
LONG = ("x = Vi(12)", "y = Vj(12)", "b = Vj(10)")
NUMBERS = ("v = Vi(1)", "w = Vj(1)")
SOFTMAX = {"reduction_op": "SumSoftMaxWeight", "formula2": "b"}
# Formulas, what their kernels read, the options of the reduction, and how many products they have.
FOUND = {
    "Gaussian": ("Exp(-SqDist(x, y)) * b", POINTS, {}, 0),
    "of long vectors": ("Exp(-SqDist(x, y)) * b", LONG, {}, 1),
    "with factors": ("-w * Sin(x | y) * (b + p) * 3", (*POINTS, "w = Vj(1)", "p = Pm(10)"), {}, 0),
    "of several vectors": ("Exp(x | y) * Concat(b, y)", POINTS, {}, 0),
    "of the same vectors": ("Exp(x | y) * y", LONG[:2], {}, 1),
    "mean": ("Exp(x | y) * b", POINTS, {"reduction_op": "Mean"}, 0),
    "softmax": ("(x | y)", POINTS, SOFTMAX, 0),
    "attention": ("(x | y)", LONG, SOFTMAX, 1),
    "weighted": ("(x | y)", LONG, {"reduction_op": "LogSumExpWeight", "formula2": "b"}, 1),
    "gradient": ("Grad(Exp(-SqDist(x, y)), x, 1)", LONG[:2], {}, 1),
    "sum of a row and a column": ("Exp(-Square(w - v)) * (y + x)", (*LONG[:2], *NUMBERS), {}, 0),
    "mean of differences": (
        "Exp(w * v) * (y - x) * w",
        (*LONG[:2], *NUMBERS),
        {"reduction_op": "Mean"},
        0,
    ),
}
NOT_FOUND = {
    "few components": ("Exp(-SqDist(x, y)) * b", (*POINTS[:2], "b = Vj(8)"), {}),
    "many that others are computed from": (
        "Exp(-SqDist(x, y)) * (b + c * (d + e * f))",
        (*POINTS[:2], *(f"{name} = Vj(20)" for name in "bcdef")),
        {},
    ),
    "no number of the pair": ("Elem(x, 0) * Exp(b)", (POINTS[0], POINTS[2]), {}),
    "vectors of the pair": ("Exp(b * Elem(x, 0))", (POINTS[0], POINTS[2]), {}),
    "long vectors besides": ("Exp(-Sqrt(SqDist(x, y))) * b", LONG, {}),
    "another sum": ("Exp(x | y) * b", POINTS, {"sum_scheme": "kahan_scheme"}),
    "extrema": ("Exp(x | y) * b", POINTS, {"reduction_op": "Max"}),
    "numbers of columns": ("Exp(x | y) * b", POINTS, {"reduction_op": "ArgMax"}),
    "differences with a shift": (
        "w * v",
        (*LONG[:2], *NUMBERS),
        {"reduction_op": "SumSoftMaxWeight", "formula2": "x - y"},
    ),
    "differences times vectors": (
        "Exp(w * v) * (x - y) * b",
        (*LONG[:2], *NUMBERS, "b = Vj(12)"),
        {},
    ),
    "another shift": (
        "(x | y)",
        POINTS,
        {"reduction_op": "Max_SumShiftExpWeight", "formula2": "b"},
    ),
}


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", FOUND)
def test_same_results(name):
    """In the nest, in its texts, and after the rest of the pipeline."""
    formula, aliases, options, count = FOUND[name]
    nest = nest_of(formula, aliases, options)
    found = products(nest, context())
    verify(found)
    assert (len(found.products), len(found.updates)) == (count, 1)
    assert print_nest(parse_program(print_nest(found))) == print_nest(found)
    assert print_nest(parse_pretty(pretty(found))) == print_nest(found)
    rest = "products,scalarize,simplify,cse,prescale,contract,expand,simplify,hoist,legal"
    lowered = run_pipeline(parse_pipeline(rest), nest, context())
    assert isinstance(lowered, Nest)
    verify(lowered)
    assert [s.step.op for s in lowered.states].count("update") == 1
    assert {h.definition.op for h in lowered.updates} == {"map"}
    arrays = random_variables(nest.params, np.random.default_rng(0), rows=4, columns=9)
    expected = run_nest(nest, arrays, 9, 4)
    for made, error in ((found, 1e-12), (lowered, 1e-7)):
        for a, b in zip(expected, run_nest(made, arrays, 9, 4), strict=True):
            np.testing.assert_allclose(a, b, rtol=error, atol=error)


# Formulas whose wide states have more components than the 32 of a part, and those of each part.
DIVIDED = {
    "one sum": ("Exp(-SqDist(x, y)) * b", (*POINTS[:2], "b = Vj(75)"), {}, [32, 32, 11]),
    "scaled": ("Exp(x | y) * b * c", (*LONG[:2], "b = Vj(40)", "c = Vi(40)"), {}, [24, 16]),
    "computed vectors": ("Exp(x | y) * (Square(b) + 1)", (*POINTS[:2], "b = Vj(34)"), {}, [24, 10]),
    "parts of vectors": (
        "Exp(x | y) * Concat(b, Sin(b))",
        (*POINTS[:2], "b = Vj(18)"),
        {},
        [24, 12],
    ),
    "softmax": ("(x | y)", (*POINTS[:2], "b = Vj(33)"), SOFTMAX, [24, 9]),
    "several sums": (
        ["Exp(x | y) * b", "Exp(x | y)", "Sin(x | y) * c", "Sin(x | y) * d"],
        (*POINTS[:2], "b = Vj(36)", "c = Vj(12)", "d = Vj(20)"),
        {},
        [24, 12, 12, 20],
    ),
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", DIVIDED)
def test_wide_states_are_divided(name):
    """Each part gives components of the results, which together are all of them."""
    formula, aliases, options, dims = DIVIDED[name]
    nest = nest_of(formula, aliases, options)
    rest = "products,scalarize,simplify,cse,prescale,contract,expand,simplify,hoist,legal"
    lowered = run_pipeline(parse_pipeline(rest), nest, context())
    assert isinstance(lowered, Nest)
    most = most_updated(lowered, context().target.update_limits)
    partition = partitioned(lowered, most)
    assert len(partition.parts) > 1
    arrays = random_variables(nest.params, np.random.default_rng(0), rows=4, columns=9)
    expected = run_nest(nest, arrays, 9, 4)
    found = [np.full_like(array, np.nan) for array in expected]
    wide = []
    for part in partition.parts:
        verify(part.nest)
        own = [h.variable.dim for h in part.nest.updates]
        assert sum(own) <= most
        wide += own
        for piece, made in zip(part.pieces, run_nest(part.nest, arrays, 9, 4), strict=True):
            found[piece.result][..., piece.first : piece.first + made.shape[-1]] = made
    assert sorted(wide) == sorted(dims)
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", NOT_FOUND)
def test_what_stays(name):
    formula, aliases, options = NOT_FOUND[name]
    assert not products(nest_of(formula, aliases, options), context()).updates


def _broken(value: Value, **changes: object) -> Value:
    args = [changes.get(name, arg) for name, arg in zip("afv", value.args, strict=True)]
    return Value("update", tuple(args), value.type)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda v: _broken(v, a=v.args[2]), "updates what is no state"),
        (lambda v: _broken(v, f=v.args[2]), "multiplies by vector<10xf64>"),
        (lambda v: _broken(v, v=v.args[0]), "adds what is no update"),
    ],
)
def test_rules(broken, message):
    formula, aliases, options, _ = FOUND["Gaussian"]
    nest = products(nest_of(formula, aliases, options), context())
    (state,) = nest.states
    with pytest.raises(CompilerError, match=message):
        verify(replace(nest, states=(replace(state, step=broken(state.step)),)))
