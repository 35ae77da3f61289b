"""The pass prescale: needs no backend."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir_samples import kernel_of
from pass_tools import (
    EXACT,
    FAST,
    PRIMITIVES,
    context_with,
    kernel_text,
    random_variables,
    variables_of,
    with_samples,
)

from redcomp.interpret import interpret
from redcomp.ir import (
    I_BIT,
    J_BIT,
    Kernel,
    Output,
    Type,
    Value,
    constant,
    convert,
    topological,
    variable,
)
from redcomp.ops.table import apply
from redcomp.passes.cse import cse
from redcomp.passes.prescale import prescale
from redcomp.text import parse_kernel, print_kernel
from redcomp.verify import verify

PARAMS = "x i f32, y j f32, b j f32, p parameter f32, w ij f32"
SQUARE = """
%0 = "arith.subf"(%x, %y) : (f32, f32) -> f32
%1 = "redcomp.square"(%0) : (f32) -> f32
"""


def check(
    body: str, result: str, after: str, new_result: str, *, negates: bool = True, sample: str = ""
) -> None:
    """`sample` is the variable of columns that an origin is made of."""
    before = kernel_text(PARAMS, body, f"%{result}: f32")
    expected = kernel_text(PARAMS, after, f"%{new_result}: f32")
    if sample:
        expected = with_sample(expected, sample)
    found = prescale(
        parse_kernel(before), context_with(use_fast_math=True, negates_operands=negates)
    )
    verify(found)
    assert print_kernel(found) == expected


def with_sample(text: str, name: str) -> str:
    """The text of a kernel that has one argument more, the sample of a variable."""
    position = [part.split()[0] for part in PARAMS.split(", ")].index(name)
    for before, after in (
        ("):\n", f", %{name}_sample: f32):\n"),
        ('"], names', '", "j_sample"], names'),
        ('"], positions', f'", "{name}.sample"], positions'),
        (">, reductions", f", {position}>, reductions"),
    ):
        assert text.count(before) == 1
        text = text.replace(before, after)
    return text


# The origin, a component of the sample, unless this is no number or its square is out of range.
ORIGIN = """
%0 = "math.absf"(%y_sample) : (f32) -> f32
%1 = "arith.constant"() {value = 9.22337204e+18 : f32} : () -> f32
%2 = "arith.cmpf"(%0, %1) {predicate = 4 : i64} : (f32, f32) -> i1
%3 = "arith.constant"() {value = 0.0 : f32} : () -> f32
%4 = "arith.select"(%2, %y_sample, %3) : (i1, f32, f32) -> f32"""


def unchanged(body: str, result: str, *, negates: bool = True) -> None:
    check(body, result, body, result, negates=negates)


GAUSSIAN = """
%0 = "arith.subf"(%x, %y) : (f32, f32) -> f32
%1 = "redcomp.square"(%0) : (f32) -> f32
%2 = "arith.constant"() {value = -4.0 : f32} : () -> f32
%3 = "arith.mulf"(%1, %2) : (f32, f32) -> f32
%4 = "redcomp.exp2"(%3) : (f32) -> f32
"""


def test_constant_enters_a_square_as_its_root() -> None:
    check(
        GAUSSIAN.replace("-4.0", "-9.0"),
        "4",
        ORIGIN
        + """
%5 = "arith.subf"(%x, %4) : (f32, f32) -> f32
%6 = "arith.constant"() {value = 3.0 : f32} : () -> f32
%7 = "arith.mulf"(%5, %6) : (f32, f32) -> f32
%8 = "arith.subf"(%y, %4) : (f32, f32) -> f32
%9 = "arith.mulf"(%8, %6) : (f32, f32) -> f32
%10 = "arith.subf"(%7, %9) : (f32, f32) -> f32
%11 = "redcomp.square"(%10) : (f32) -> f32
%12 = "arith.negf"(%11) : (f32) -> f32
%13 = "redcomp.exp2"(%12) : (f32) -> f32
""",
        "13",
        sample="y",
    )


def test_power_of_two_is_exact_and_needs_no_origin() -> None:
    check(
        GAUSSIAN,
        "4",
        """
        %0 = "arith.constant"() {value = 2.0 : f32} : () -> f32
        %1 = "arith.mulf"(%x, %0) : (f32, f32) -> f32
        %2 = "arith.mulf"(%y, %0) : (f32, f32) -> f32
        %3 = "arith.subf"(%1, %2) : (f32, f32) -> f32
        %4 = "redcomp.square"(%3) : (f32) -> f32
        %5 = "arith.negf"(%4) : (f32) -> f32
        %6 = "redcomp.exp2"(%5) : (f32) -> f32
        """,
        "6",
    )


def test_sides_of_a_sum_move_apart() -> None:
    check(
        """
        %0 = "arith.addf"(%y, %x) : (f32, f32) -> f32
        %1 = "arith.mulf"(%0, %p) : (f32, f32) -> f32
        """,
        "1",
        ORIGIN
        + """
%5 = "arith.subf"(%y, %4) : (f32, f32) -> f32
%6 = "arith.mulf"(%5, %p) : (f32, f32) -> f32
%7 = "arith.addf"(%x, %4) : (f32, f32) -> f32
%8 = "arith.mulf"(%7, %p) : (f32, f32) -> f32
%9 = "arith.addf"(%6, %8) : (f32, f32) -> f32
""",
        "9",
        sample="y",
    )


def test_origin_is_what_the_whole_side_is_in_one_column() -> None:
    check(
        """
        %0 = "arith.addf"(%y, %p) : (f32, f32) -> f32
        %1 = "arith.subf"(%x, %0) : (f32, f32) -> f32
        %2 = "arith.constant"() {value = 3.0 : f32} : () -> f32
        %3 = "arith.mulf"(%1, %2) : (f32, f32) -> f32
        """,
        "3",
        """
        %0 = "arith.addf"(%y_sample, %p) : (f32, f32) -> f32
        %1 = "math.absf"(%0) : (f32) -> f32
        %2 = "arith.constant"() {value = 9.22337204e+18 : f32} : () -> f32
        %3 = "arith.cmpf"(%1, %2) {predicate = 4 : i64} : (f32, f32) -> i1
        %4 = "arith.constant"() {value = 0.0 : f32} : () -> f32
        %5 = "arith.select"(%3, %0, %4) : (i1, f32, f32) -> f32
        %6 = "arith.subf"(%x, %5) : (f32, f32) -> f32
        %7 = "arith.constant"() {value = 3.0 : f32} : () -> f32
        %8 = "arith.mulf"(%6, %7) : (f32, f32) -> f32
        %9 = "arith.addf"(%y, %p) : (f32, f32) -> f32
        %10 = "arith.subf"(%9, %5) : (f32, f32) -> f32
        %11 = "arith.mulf"(%10, %7) : (f32, f32) -> f32
        %12 = "arith.subf"(%8, %11) : (f32, f32) -> f32
        """,
        "12",
        sample="y",
    )


TRIPLED = """
%{1} = "arith.constant"() {{value = 3.0 : f32}} : () -> f32
%{2} = "arith.mulf"(%{0}, %{1}) : (f32, f32) -> f32
"""


@pytest.mark.parametrize("op", ["maximum", "less_of"])
def test_differences_of_extrema_of_both_sides_stay(op: str) -> None:
    """They may be exact, and have no sides: an overlap min(x, y) - max(b, x), for example."""
    body = f"""
%0 = "redcomp.{op}"(%x, %y) : (f32, f32) -> f32
%1 = "arith.negf"(%0) : (f32) -> f32
%2 = "arith.subf"(%b, %1) : (f32, f32) -> f32"""
    unchanged(body + TRIPLED.format(2, 3, 4), "4")


def test_difference_with_the_number_of_a_column_stays() -> None:
    x, n = variable("x", "i", 0, Type("f32")), variable("n", "j_index", 0, Type("i32"))
    kernel = kernel_of(3.0 * (x - convert(n, "f32")))
    assert print_kernel(prescale(kernel, FAST)) == print_kernel(kernel)


def test_negation_that_costs_as_much_is_not_worth_it() -> None:
    unchanged(GAUSSIAN, "4", negates=False)


def test_constant_in_a_square_root_is_squared() -> None:
    check(
        """
        %0 = "arith.subf"(%x, %y) : (f32, f32) -> f32
        %1 = "arith.mulf"(%0, %0) : (f32, f32) -> f32
        %2 = "math.sqrt"(%1) : (f32) -> f32
        %3 = "arith.constant"() {value = 4.0 : f32} : () -> f32
        %4 = "arith.mulf"(%3, %2) : (f32, f32) -> f32
        """,
        "4",
        """
        %0 = "arith.constant"() {value = 4.0 : f32} : () -> f32
        %1 = "arith.mulf"(%x, %0) : (f32, f32) -> f32
        %2 = "arith.mulf"(%y, %0) : (f32, f32) -> f32
        %3 = "arith.subf"(%1, %2) : (f32, f32) -> f32
        %4 = "arith.mulf"(%3, %3) : (f32, f32) -> f32
        %5 = "math.sqrt"(%4) : (f32) -> f32
        """,
        "5",
    )


def test_products_are_scaled_on_one_side() -> None:
    check(
        """
        %0 = "arith.mulf"(%x, %y) : (f32, f32) -> f32
        %1 = "math.fma"(%x, %b, %0) : (f32, f32, f32) -> f32
        %2 = "arith.negf"(%p) : (f32) -> f32
        %3 = "arith.mulf"(%2, %1) : (f32, f32) -> f32
        """,
        "3",
        """
        %0 = "arith.negf"(%p) : (f32) -> f32
        %1 = "arith.mulf"(%b, %0) : (f32, f32) -> f32
        %2 = "arith.mulf"(%y, %0) : (f32, f32) -> f32
        %3 = "arith.mulf"(%x, %2) : (f32, f32) -> f32
        %4 = "math.fma"(%x, %1, %3) : (f32, f32, f32) -> f32
        """,
        "4",
    )


def test_coefficients_become_one() -> None:
    check(
        """
        %0 = "arith.mulf"(%w, %p) : (f32, f32) -> f32
        %1 = "arith.constant"() {value = 3.0 : f32} : () -> f32
        %2 = "arith.mulf"(%0, %1) : (f32, f32) -> f32
        %3 = "arith.divf"(%2, %b) : (f32, f32) -> f32
        """,
        "3",
        """
        %0 = "arith.constant"() {value = 1.0 : f32} : () -> f32
        %1 = "arith.divf"(%0, %b) : (f32, f32) -> f32
        %2 = "arith.constant"() {value = 3.0 : f32} : () -> f32
        %3 = "arith.mulf"(%p, %2) : (f32, f32) -> f32
        %4 = "arith.mulf"(%1, %3) : (f32, f32) -> f32
        %5 = "arith.mulf"(%w, %4) : (f32, f32) -> f32
        """,
        "5",
    )


def test_parameter_of_unknown_sign_stays_outside_squares() -> None:
    unchanged(SQUARE + '%2 = "arith.mulf"(%1, %p) : (f32, f32) -> f32', "2")


def test_values_with_another_user_stay() -> None:
    body = """
    %0 = "arith.subf"(%x, %y) : (f32, f32) -> f32
    %1 = "redcomp.square"(%0) : (f32) -> f32
    %2 = "arith.constant"() {value = 4.0 : f32} : () -> f32
    %3 = "arith.mulf"(%1, %2) : (f32, f32) -> f32
    %4 = "arith.addf"(%3, %0) : (f32, f32) -> f32
    """
    unchanged(body, "4")


def test_leaves_that_change_with_the_pair_stay() -> None:
    body = """
    %0 = "arith.subf"(%w, %y) : (f32, f32) -> f32
    %1 = "arith.constant"() {value = 4.0 : f32} : () -> f32
    %2 = "arith.mulf"(%0, %1) : (f32, f32) -> f32
    """
    unchanged(body, "2")


def test_row_coefficient_does_not_reach_columns() -> None:
    body = """
    %0 = "arith.addf"(%x, %y) : (f32, f32) -> f32
    %1 = "arith.mulf"(%0, %x) : (f32, f32) -> f32
    """
    unchanged(body, "1")


DIVISION = """
%0 = "arith.addf"(%x, %y) : (f32, f32) -> f32
%1 = "arith.divf"(%b, %0) : (f32, f32) -> f32
"""


def test_division_is_by_the_inverse_where_the_target_does_it() -> None:
    unchanged(DIVISION, "1")
    found = prescale(
        parse_kernel(kernel_text(PARAMS, DIVISION, "%1: f32")),
        context_with(PRIMITIVES | {"reciprocal_approx"}, use_fast_math=True),
    )
    after = """
    %0 = "arith.addf"(%x, %y) : (f32, f32) -> f32
    %1 = "redcomp.inverse"(%0) : (f32) -> f32
    %2 = "arith.mulf"(%b, %1) : (f32, f32) -> f32
    """
    assert print_kernel(found) == kernel_text(PARAMS, after, "%2: f32")


def a_pair(dtype: str) -> tuple[Value, Value]:
    return variable("x", "i", 0, Type(dtype)), variable("y", "j", 1, Type(dtype))


def test_division_of_doubles_stays() -> None:
    x, y = a_pair("f64")
    kernel = kernel_of(y / (x + y))
    found = prescale(kernel, context_with(PRIMITIVES | {"reciprocal_approx"}, use_fast_math=True))
    assert print_kernel(found) == print_kernel(kernel)


def test_square_of_a_constant_out_of_range_is_refused() -> None:
    x, y = a_pair("f32")
    for huge in (1e30, 1e-30):
        kernel = kernel_of(apply("sqrt", x * y) * huge)
        assert print_kernel(prescale(kernel, FAST)) == print_kernel(kernel)


@pytest.mark.parametrize("length", [10, 5000])
def test_chains_may_have_any_length(length: int) -> None:
    x, y = a_pair("f32")
    total = x * y
    for _ in range(length):
        total = total + y
    made = prescale(kernel_of(total * 3.0), FAST)
    products = [value for value in topological(made.roots) if is_pair(value, "multiply")]
    assert len(products) == (1 if length == 10 else 2)


def is_pair(value: Value, *ops: str) -> bool:
    return value.op in ops and value.dependence == I_BIT | J_BIT


# -- random values --

LEAVES = {
    "x": variable("x", "i", 0, Type("f64")),
    "z": variable("z", "i", 1, Type("f64")),
    "y": variable("y", "j", 2, Type("f64")),
    "b": variable("b", "j", 3, Type("f64")),
    "p": variable("p", "parameter", 4, Type("f64")),
    "w": variable("w", "ij", 5, Type("f64")),
}
BINARY: dict[str, Callable[[Value, Value], Value]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "maximum": lambda a, b: apply("maximum", a, b),
    # What is divided by is at least 1.
    "divide": lambda a, b: a / (b * b + 1.0),
}
UNARY: dict[str, Callable[[Value], Value]] = {
    "negate": lambda a: -a,
    "square": lambda a: apply("square", a),
    "own product": lambda a: a * a,
    "root": lambda a: apply("sqrt", a * a + 1.0),
    "abs": lambda a: apply("abs", a),
    # Of an argument in [0, 1], so that errors are not magnified.
    "exponential": lambda a: apply("exp2", -3.0 * (1.0 / (apply("abs", a) + 1.0))),
    "triple": lambda a: a * 3.0,
    "minus half": lambda a: -0.5 * a,
}


def expressions() -> st.SearchStrategy[Value]:
    leaves = st.sampled_from(sorted(LEAVES)).map(LEAVES.__getitem__)
    numbers = st.sampled_from([-2.5, 0.7, 1.0, 3.0]).map(lambda c: constant(c, "f64"))

    def larger(parts: st.SearchStrategy[Value]) -> st.SearchStrategy[Value]:
        binary = st.builds(
            lambda op, a, b: BINARY[op](a, b), st.sampled_from(sorted(BINARY)), parts, parts
        )
        unary = st.builds(lambda op, a: UNARY[op](a), st.sampled_from(sorted(UNARY)), parts)
        return st.one_of(binary, unary)

    return st.recursive(st.one_of(leaves, leaves, numbers), larger, max_leaves=12)


def majorant(value: Value) -> Value:
    """The value where nothing cancels, by which errors are measured: each operation adds to it."""
    args = tuple(majorant(arg) for arg in value.args)
    if value.op in ("negate", "exp2"):  # exponents are in [-3, 0]
        return args[0]
    if value.op == "divide":  # by at least 1
        return args[0] * (args[1] + 1.0)
    if value.op == "constant":
        return constant(abs(value["value"]), value.dtype)
    op = {"subtract": "add", "maximum": "add"}.get(value.op, value.op)
    return Value(op, args, value.type, value.attrs)


@given(expressions(), st.booleans(), st.integers(0, 2**32 - 1))
def test_random_values_stay_the_same(value: Value, negates: bool, seed: int) -> None:
    params = tuple(sorted(LEAVES.values(), key=lambda leaf: leaf["position"]))
    kernel = cse(Kernel(params, (Output(value),)), EXACT)
    made = prescale(kernel, context_with(use_fast_math=True, negates_operands=negates))
    verify(made)
    arrays = random_variables(params, np.random.default_rng(seed))
    positive = {name: np.abs(array) + 0.1 for name, array in arrays.items()}
    (before,) = interpret(kernel.roots, arrays)
    (after,) = interpret(made.roots, with_samples(made.params, arrays))
    (scale,) = interpret([majorant(kernel.roots[0])], positive)
    assert np.all(np.abs(after - before) <= 1e-12 * (scale + 1.0))
    assert costs(made) <= costs(kernel)
    assert {v["name"].removesuffix(".sample") for v in variables_of(made.roots)} <= set(LEAVES)


def costs(kernel: Kernel) -> int:
    """Products and quotients a pair."""
    return sum(is_pair(value, "multiply", "divide") for value in topological(kernel.roots))
