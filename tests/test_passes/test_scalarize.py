"""The pass scalarize: needs no backend."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import ir_samples
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from ir_samples import kernel_of, list_samples, operand_dtype
from pass_tools import EXACT, kernel_text, random_variables, same_bits

from redcomp.compile import context_of
from redcomp.errors import SizeError
from redcomp.interpret import interpret
from redcomp.ir import (
    Kernel,
    Nest,
    Output,
    Type,
    Value,
    compare,
    elementwise,
    indicator,
    topological,
    variable,
)
from redcomp.numpy import Genred
from redcomp.ops.table import OPERATIONS, Operation, ShapeError, apply
from redcomp.passes import scalarize as module
from redcomp.passes.cse import cse
from redcomp.passes.pipeline import parse_pipeline, run_pipeline
from redcomp.passes.scalarize import _Choices, _Scalarizer, scalarize, written_out_by
from redcomp.target import Options, Unrolling
from redcomp.text import parse_kernel, print_kernel, print_program
from redcomp.verify import verify

Array = np.ndarray[Any, np.dtype[Any]]

pytestmark = pytest.mark.slow

UNROLLED = Unrolling().operands
LONG = UNROLLED + 4
ON_GPU = context_of("sm_90", Options())


def scalar_kernel(kernel: Kernel) -> Kernel:
    """The kernel on scalars: its values are scalarized as if they were a nest's results."""
    nest = Nest(kernel.params, states=(), guards=(), results=kernel.roots)
    made = written_out_by(nest, Unrolling()).results
    done = dict(zip(kernel.roots, made, strict=True))
    return kernel.map_roots(lambda root: done[root])


def check(before: str, after: str) -> None:
    assert print_kernel(scalar_kernel(parse_kernel(before))) == after


def test_short_vectors_are_written_out() -> None:
    check(
        kernel_text(
            "x i vector<2xf32>, y j f32",
            """
            %0 = "redcomp.multiply"(%x, %y) : (vector<2xf32>, f32) -> vector<2xf32>
            %1 = "redcomp.sum"(%x) : (vector<2xf32>) -> f32
            """,
            "%0: vector<2xf32>, %1: f32",
            (True,),
        ),
        kernel_text(
            "x i vector<2xf32>, y j f32",
            """
            %0 = "redcomp.component"(%x) {position = 0 : i64} : (vector<2xf32>) -> f32
            %1 = "arith.mulf"(%0, %y) : (f32, f32) -> f32
            %2 = "redcomp.component"(%x) {position = 1 : i64} : (vector<2xf32>) -> f32
            %3 = "arith.mulf"(%2, %y) : (f32, f32) -> f32
            %4 = "redcomp.from_elements"(%1, %3) : (f32, f32) -> vector<2xf32>
            %5 = "arith.addf"(%2, %0) : (f32, f32) -> f32
            """,
            "%4: vector<2xf32>, %5: f32",
            (True,),
        ),
    )


def test_long_vectors_are_a_loop() -> None:
    loop = "extent = 64 : i64, level = 0 : i64"
    check(
        kernel_text(
            "x i vector<64xf32>, y j vector<64xf32>",
            '%0 = "redcomp.scalprod"(%x, %y) : (vector<64xf32>, vector<64xf32>) -> f32',
            "%0: f32",
        ),
        kernel_text(
            "x i vector<64xf32>, y j vector<64xf32>",
            f"""
            %0 = "arith.constant"() {{value = 0.0 : f32}} : () -> f32
            %5 = "redcomp.fold"(%0) ({{
            ^bb0(%k: index):
              %1 = "redcomp.component"(%x, %k) : (vector<64xf32>, index) -> f32
              %2 = "redcomp.component"(%y, %k) : (vector<64xf32>, index) -> f32
              %3 = "redcomp.so_far"() {{dependence = 3 : i64, {loop}}} : () -> f32
              %4 = "math.fma"(%1, %2, %3) : (f32, f32, f32) -> f32
              "redcomp.yield"(%4, %3) : (f32, f32) -> ()
            }}) {{{loop}}} : (f32) -> f32
            """,
            "%5: f32",
        ),
    )


def test_long_result_is_a_map() -> None:
    (output,) = scalar_kernel(kernel_of(variable("x", "i", 0, Type("f64", 100)) * 2.0)).outputs
    assert output.value.op == "map"
    assert output.value.type == Type("f64", 100)


def test_loop_in_a_loop_has_its_own_level() -> None:
    x = variable("x", "i", 0, Type("f64", LONG))
    (output,) = scalar_kernel(kernel_of(x * apply("sum", x))).outputs
    levels = {value["level"] for value in topological([output.value]) if value.op == "index"}
    assert levels == {0, 1}


@pytest.mark.thorough
def test_chain_of_any_length_needs_no_recursion() -> None:
    value = variable("x", "i", 0, Type("f64", 2))
    for _ in range(5_000):
        value = value * 1.5 + 1.0
    (root,) = cse(scalar_kernel(kernel_of(value)), EXACT).roots
    # Both components, two constants, the variable, its two components, and the vector at the end.
    assert len(list(topological([root]))) == 2 * 10_000 + 2 + 1 + 2 + 1


def applied(row: Operation, dim: int) -> Value | None:
    """An operation of the table on f64 vectors, with parameters that fit."""
    for numbers in ((2, 5), (5, 2), (2,), (40,), ()):
        if len(numbers) == len(row.parameters):
            rest = (1,) * (row.arity - 1)
            some = ((dim, *rest), (2 * dim, *rest))
            for dims in ((dim,) * row.arity, (2 * dim,) * row.arity, (1,) * row.arity, *some):
                args = tuple(
                    variable(f"a{k}", "i", k, Type(operand_dtype(row, k, "f64"), d))
                    for k, d in enumerate(dims)
                )
                if row.dtypes == ("i1",):
                    args = tuple(compare("ogt", arg, 1.5) for arg in args)
                try:
                    return apply(row.name, *args, **dict(zip(row.parameters, numbers, strict=True)))
                except ShapeError:
                    continue
    return None


VECTOR_ROWS = [
    row
    for row in OPERATIONS.values()
    if row.element is not None and row.name not in {*ir_samples.LIST_SAMPLES, "merged"}
]
LIST_SAMPLES = [v for n in ir_samples.LIST_SAMPLES for v in list_samples(OPERATIONS[n], "f64")]


@pytest.mark.parametrize("dim", [7, UNROLLED, LONG])
@pytest.mark.parametrize("row", VECTOR_ROWS, ids=lambda row: row.name)
def test_vector_operation_is_its_components(row: Operation, dim: int) -> None:
    value = applied(row, dim)
    assert value is not None, "its shape rule takes none of the parameters that are tried"
    assert_scalar_form_agrees(value)


def sorted_lists(random: np.random.Generator, dim: int, first: int) -> list[Array]:
    """Values and places of 200 lists, worst first: ties, infinities, and free components."""
    values = random.integers(-3, 4, (200, dim)).astype(float)
    values[random.random(values.shape) < 0.1] = np.inf
    values[random.random(values.shape) < 0.2] = np.nan
    places = random.permuted(np.tile(np.arange(first, 4 * dim, 2.0), (200, 1)), axis=1)[:, :dim]
    order = np.lexsort((places, values))[:, ::-1]
    return [np.take_along_axis(array, order, -1) for array in (values, places)]


@pytest.mark.sampled(15)
@pytest.mark.parametrize("dim", [1, 2, 3, 5, 8, 11, 16, 24, 31])
@pytest.mark.parametrize("longest", [1, 31])
def test_lists_are_merged(dim: int, longest: int) -> None:
    """Written out and by loops, as NumPy sorts the entries of both."""
    names = ("values", "places", "others", "other_places")
    lists = [variable(name, "total", n, Type("f64", dim)) for n, name in enumerate(names)]
    merged = [apply("merged", *lists, part=part) for part in range(2)]
    scalarizer = _Scalarizer({}, _Choices(Unrolling(operands=8, scans=8)))
    scalars = [scalarizer.vector(value, dim <= longest) for value in merged]
    random = np.random.default_rng(dim)
    arrays = [*sorted_lists(random, dim, 0), *sorted_lists(random, dim, 1)]
    values, places = interpret(scalars, dict(zip(names, arrays, strict=True)))
    every, at = (np.concatenate(arrays[n::2], axis=1) for n in range(2))
    order = np.lexsort((at, every))[:, :dim][:, ::-1]  # NumPy puts NaN last
    assert np.array_equal(values, np.take_along_axis(every, order, 1), equal_nan=True)
    is_kept = ~np.isnan(values)
    assert np.array_equal(places[is_kept], np.take_along_axis(at, order, 1)[is_kept])


@pytest.mark.parametrize("value", LIST_SAMPLES, ids=lambda value: f"{value.op}-{value.dim}")
def test_operation_with_lists_is_its_components(value: Value) -> None:
    assert_scalar_form_agrees(value)
    assert_scalar_form_agrees(apply("sum", value))


def assert_scalar_form_agrees(value: Value) -> None:
    kernel = kernel_of(value * 1.0 if value.type.is_float else indicator(value, "f64"))
    scalar = scalar_kernel(kernel)
    verify(scalar)
    arrays = random_variables(kernel.params, np.random.default_rng(0))
    (before,), (after,) = interpret(kernel.roots, arrays), interpret(scalar.roots, arrays)
    np.testing.assert_allclose(after, np.broadcast_to(before, after.shape), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("dim", [1, 3, UNROLLED, LONG])
def test_a_table_in_memory_is_read_at_a_position(dim: int) -> None:
    table = variable("table", "parameter", 0, Type("f64", dim))
    index = variable("index", "j", 1, Type("i64"))
    value = apply("gather", table, index * 3)  # at -3, 0 and 3: some are outside
    assert_scalar_form_agrees(value)
    (scalar,) = scalar_kernel(kernel_of(value)).roots
    loops = [part for part in topological([scalar]) if part.op == "fold"]
    assert not loops


@pytest.mark.parametrize("dim", [3, LONG])
def test_elementwise_operations_repeat_scalars(dim: int) -> None:
    x, p = variable("x", "i", 0, Type("f32", dim)), variable("p", "parameter", 1, Type("f32"))
    kernel = Kernel((x, p), (Output(elementwise("maximum", p, x) - p),))
    arrays = random_variables(kernel.params, np.random.default_rng(0), special=True)
    before, after = (interpret(k.roots, arrays)[0] for k in (kernel, scalar_kernel(kernel)))
    assert same_bits(np.broadcast_to(before, after.shape), after)


@st.composite
def vector_kernels(draw: st.DrawFn) -> Kernel:
    """Elementwise operations, sums and extractions over vectors of one length."""
    dim = draw(st.sampled_from([3, UNROLLED, LONG]))
    x, y = (variable(n, k, p, Type("f64", dim)) for n, k, p in (("x", "i", 0), ("y", "j", 1)))
    p = variable("p", "parameter", 2, Type("f64"))
    values: list[Value] = [x, y, p]
    for _ in range(draw(st.integers(1, 6))):
        a, b = draw(st.sampled_from(values)), draw(st.sampled_from(values))
        vector = a if a.dim > 1 else x
        made = [a * b, a - b, apply("scalprod", a, b), apply("sum", vector)]
        made += [apply("elem", vector, m=dim - 1), apply("max", vector), apply("argmin", vector)]
        values.append(draw(st.sampled_from(made)))
    return Kernel((x, y, p), (Output(values[-1]), Output(values[-2], "sum", p)))


@given(vector_kernels(), st.integers(0, 2**32 - 1))
def test_random_kernels_keep_their_values(kernel: Kernel, seed: int) -> None:
    scalar = scalar_kernel(kernel)
    verify(scalar)
    arrays = random_variables(kernel.params, np.random.default_rng(seed))
    before, after = interpret(kernel.roots, arrays), interpret(scalar.roots, arrays)
    for b, a in zip(before, after, strict=True):
        np.testing.assert_allclose(a, np.broadcast_to(b, a.shape), rtol=1e-11, atol=1e-11)


@given(ir_samples.kernels())
def test_elementary_kernels_become_scalar(kernel: Kernel) -> None:
    loops = ("component", "fold", "map", "from_elements", "variable")
    assume(not any(value.op in loops[:3] for value in topological(kernel.roots)))
    values = topological(scalar_kernel(kernel).roots)
    assert all(value.dim == 1 or value.op in loops for value in values)


def nested_splines(count: int, dim: int) -> Nest:
    """Splines over knots that are splines, in which each component has to be searched for."""
    formula = "x"
    for _ in range(count):
        formula = f"BSpline(Concat(Concat({formula}, x), Concat(y, b)), b, 1)"
    aliases = [f"x = Vi({dim})", f"y = Vj({dim})", "b = Vj(1)"]
    kernel = Genred(f"Sum({formula})", aliases, axis=1).lower("float64", "sm_90").kernel
    made = run_pipeline(parse_pipeline("simplify,factor,accumulate,products"), kernel, ON_GPU)
    assert isinstance(made, Nest)
    return made


@pytest.mark.thorough
def test_what_is_begun_in_rules_is_not_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules ask for a component about once, however deep they are within each other."""
    begun = ended = 0
    make = _Scalarizer._make

    def counted(self: _Scalarizer, value: Value, place: Any) -> Value:
        nonlocal begun, ended
        begun += 1
        found = make(self, value, place)
        ended += 1
        return found

    monkeypatch.setattr(_Scalarizer, "_make", counted)
    with pytest.raises(SizeError, match="values and components"):
        written_out_by(nested_splines(20, 300), Unrolling())
    assert ended > 5000
    assert begun < 1.5 * ended


@pytest.mark.sampled(9)
@pytest.mark.parametrize("deepest", [2, 7, 10_000])
def test_how_deep_rules_ask_changes_nothing(monkeypatch: pytest.MonkeyPatch, deepest: int) -> None:
    nest = nested_splines(4, 5)
    usual = print_program(written_out_by(nest, Unrolling()))
    monkeypatch.setattr(module, "_DEEPEST", deepest)
    assert print_program(written_out_by(nest, Unrolling())) == usual


@pytest.mark.thorough
@pytest.mark.parametrize("count", [3, 7])
def test_what_comes_of_the_same_choices_is_made_once(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """A GPU's five unrollings differ in vectors that this nest has not: one is tried."""
    tried = []
    written_out = module._written_out

    def counted(nest: Nest, choices: _Choices) -> Nest:
        tried.append(choices.unrolling)
        return written_out(nest, choices)

    monkeypatch.setattr(module, "_written_out", counted)
    nest = nested_splines(count, 300)
    with pytest.raises(SizeError, match="values and components") if count == 7 else nullcontext():
        scalarize(nest, ON_GPU)
    assert len(tried) == 1
