"""The pass simplify and each of its rules: needs no backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product

import ir_samples
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pass_tools import (
    EXACT,
    FAST,
    SPECIAL,
    Array,
    context_with,
    expanded,
    kernel_text,
    random_variables,
    same_bits,
    variables_of,
)

from redcomp.interpret import interpret
from redcomp.ir import (
    Kernel,
    Output,
    Type,
    Value,
    broadcast,
    compare,
    component,
    constant,
    constants,
    elementwise,
    fma,
    fold,
    index,
    indicator,
    select,
    topological,
    variable,
    vector_map,
)
from redcomp.ops.table import apply
from redcomp.passes.simplify import RULES, Rule, simplify
from redcomp.text import parse_kernel, print_kernel

pytestmark = pytest.mark.slow

Build = Callable[[Value, Value], Value]


def at_most(x: Value, limit: float) -> Value:
    bound = constant(limit, x.dtype)
    return select(compare("ogt", x, bound), bound, x)


def at_least(x: Value, limit: float) -> Value:
    bound = constant(limit, x.dtype)
    return select(compare("olt", x, bound), bound, x)


def negated(x: Value) -> Value:
    return -x


def negation(x: Value) -> Value:
    return x ^ True


def same(x: Value, op: str) -> Value:
    return elementwise(op, x, x)


def choices(
    condition: Value, first: tuple[Value | float, ...], second: tuple[Value | float, ...]
) -> Value:
    return select(condition, *first) + select(condition, *second)


def exp(x: Value) -> Value:
    return apply("exp", x)


# For each rule, by its name, expressions that it rewrites.
EXAMPLES: Mapping[str, tuple[Build, ...]] = {
    "operations repeat scalars": (
        lambda x, y: broadcast(x, 3) + broadcast(y, 3),
        lambda x, y: fma(broadcast(x, 3), y, broadcast(y, 3)),
        lambda x, y: broadcast(x, 3) * vector(x.dtype),
        lambda x, y: compare("olt", broadcast(x, 3), vector(x.dtype)),
    ),
    "x * 1 = x": (lambda x, y: x * 1.0, lambda x, y: 1.0 * x),
    "x * -1 = -x": (lambda x, y: x * -1.0, lambda x, y: -1.0 * x),
    "x / 1 = x": (lambda x, y: x / 1.0,),
    "x - 0 = x": (lambda x, y: x - 0.0,),
    "x + -0 = x": (lambda x, y: x + -0.0, lambda x, y: -0.0 + x),
    "-(-x) = x": (lambda x, y: negated(negated(x)),),
    "x + -y = x - y": (lambda x, y: x + -y, lambda x, y: -x + y),
    "x - -y = x + y": (lambda x, y: x - -y,),
    "-x * y = -(x * y)": (
        lambda x, y: -x * y,
        lambda x, y: x * -y,
        lambda x, y: -x * -y,
        lambda x, y: -x / y,
        lambda x, y: x / -y,
        lambda x, y: -x / -y,
        lambda x, y: -x * 3.0,
        lambda x, y: -x / 3.0,
        lambda x, y: 3.0 / -y,
    ),
    "fma(-x, c, y) = fma(x, -c, y)": (
        lambda x, y: fma(-x, 3.0, y),
        lambda x, y: fma(constant(3.0, x.dtype), -x, y),
    ),
    "x + x = 2 * x": (lambda x, y: x + x,),
    "x / 2**n = x * 2**-n": (
        lambda x, y: x / 8.0,
        lambda x, y: x / -0.25,
        lambda x, y: x / 2.0**60,
    ),
    "(-x)**2 = |x|**2 = x**2": (
        lambda x, y: apply("square", -x),
        lambda x, y: apply("square", apply("abs", x)),
    ),
    "|-x| = ||x|| = |x|": (
        lambda x, y: apply("abs", -x),
        lambda x, y: apply("abs", apply("abs", x)),
        lambda x, y: apply("abs", apply("square", x)),
        lambda x, y: apply("abs", exp(x)),
    ),
    "small powers": tuple(
        lambda x, y, m=m: apply("pow", x, m=m)  # type: ignore[misc]
        for m in (0, 1, 2, -1)
    ),
    "components of a part": (
        lambda x, y: apply("elem", apply("concat", x, y), m=0),
        lambda x, y: apply("elem", apply("concat", apply("concat", x, y), x), m=1),
        lambda x, y: apply("extract", apply("concat", x, apply("concat", y, x)), start=1, length=2),
        lambda x, y: apply("extract", apply("concat", x, y), start=0, length=2),
    ),
    "decided selections": (
        lambda x, y: select(constant(True, "i1"), x, y),
        lambda x, y: select(constant(False, "i1"), x, y),
        lambda x, y: select(compare("olt", x, y), x, x),
    ),
    "negated conditions": (
        lambda x, y: select(negation(compare("olt", x, y) & compare("ogt", x, 1.0)), x, y),
    ),
    "negated comparisons": (
        *(
            lambda x, y, p=predicate: negation(compare(p, x, y))  # type: ignore[misc]
            for predicate in ("oeq", "une", "olt", "ole", "ogt", "oge", "ult", "ule", "ugt", "uge")
        ),
        lambda x, y: negation(negation(compare("olt", x, y) | compare("ogt", x, 1.0))),
    ),
    "decided truth values": (
        lambda x, y: compare("olt", x, y) & True,
        lambda x, y: compare("olt", x, y) & False,
        lambda x, y: constant(True, "i1") | compare("olt", x, y),
        lambda x, y: constant(False, "i1") | compare("olt", x, y),
        lambda x, y: same(compare("olt", x, y), "and"),
        lambda x, y: same(compare("olt", x, y), "or"),
    ),
    "comparisons of constants that are selected": (
        lambda x, y: compare("une", indicator(compare("olt", x, y), x.dtype), 0.0),
        lambda x, y: compare("oeq", indicator(compare("olt", x, y), x.dtype), 0.0),
        lambda x, y: compare("ogt", indicator(compare("olt", x, y), x.dtype), -1.0),
    ),
    "x + select(c, y, -0) = select(c, x + y, x)": (
        lambda x, y: x + select(compare("olt", x, y), y, -0.0),
        lambda x, y: select(compare("olt", x, y), -0.0, y) + x,
        lambda x, y: choices(compare("olt", x, y), (x, -0.0), (-0.0, y)),
        lambda x, y: choices(compare("olt", x, y), (-0.0, y), (x, -0.0)),
    ),
    "max(-x, c) = -min(x, -c)": (
        lambda x, y: at_least(-x, -0.5),
        lambda x, y: at_least(-x, 0.0),
        lambda x, y: at_most(-x, 3.0),
        lambda x, y: at_most(-x, -0.0),
    ),
    "clamps that cannot act": (
        lambda x, y: at_most(-apply("abs", x), 3.0),
        lambda x, y: at_most(-(x * x), 0.0),
        lambda x, y: at_least(apply("square", x) + exp(y), 0.0),
        lambda x, y: at_least(fma(x, x, apply("sqrt", y)), -1.0),
    ),
    "x + 0 = x": (lambda x, y: x + 0.0, lambda x, y: 0.0 + x),
    "x * 0 = 0": (lambda x, y: x * 0.0, lambda x, y: -0.0 * x),
    "x - x = 0": (lambda x, y: x - x,),
    "c * (d * x) = (c * d) * x": (lambda x, y: 3.0 * (0.1 * x), lambda x, y: (x * 0.1) * 3.0),
    "x / c = x * (1 / c)": (lambda x, y: x / 3.0,),
    "exp(x) * exp(y) = exp(x + y)": (lambda x, y: exp(x) * exp(y),),
    "exp(x) = exp2(x * log2(e))": (lambda x, y: exp(x),),
}

# Close to a fit, but not one: what a rule must leave alone.
COUNTEREXAMPLES: tuple[Build, ...] = (
    lambda x, y: x + 0.0,  # -0.0 would become 0.0
    lambda x, y: 0.0 - x,
    lambda x, y: x - -0.0,
    lambda x, y: x * 0.0,
    lambda x, y: x - x,
    lambda x, y: x / x,
    lambda x, y: x / 3.0,
    lambda x, y: x / (2.0**-126 if x.dtype == "f32" else 2.0**-1022),
    lambda x, y: 3.0 * (0.1 * x),
    lambda x, y: exp(x) * exp(y),
    lambda x, y: apply("pow", x, m=3),
    lambda x, y: at_most(apply("square", x), 3.0),
    lambda x, y: at_least(apply("square", x) * y, 0.0),
    lambda x, y: x * y + 1.0,
    lambda x, y: x + select(compare("olt", x, y), y, 0.0),
    lambda x, y: compare("ogt", select(compare("olt", x, y), x, 0.0), 1.0),
)


def vector(dtype: str) -> Value:
    return variable("v", "i", 2, Type(dtype, 3))


def operands(dtype: str) -> tuple[Value, Value]:
    return variable("x", "i", 0, Type(dtype)), variable("y", "i", 1, Type(dtype))


def examples(exact: bool) -> list[tuple[Rule, Build]]:
    """Each rule with each of its examples; a rule that has none fails its test."""
    return [
        (rule, build)
        for rule in RULES
        if rule.is_exact == exact
        for build in EXAMPLES.get(rule.name, (lambda x, y: x,))
    ]


def rule_name(item: object) -> str | None:
    return item.name if isinstance(item, Rule) else ""


def special_pairs(dtype: str) -> dict[str, Array]:
    """x and y through all pairs of special values, and v beside them."""
    numpy_dtype = Type(dtype).numpy
    with np.errstate(over="ignore"):
        pairs = np.array(list(product(SPECIAL, SPECIAL))).astype(numpy_dtype)
    v = np.stack([pairs[:, 1], pairs[:, 0], np.ones(len(pairs), numpy_dtype)], axis=-1)
    return {"x": pairs[:, :1], "y": pairs[:, 1:], "v": v}


def evaluated(value: Value, arrays: Mapping[str, Array]) -> Array:
    """The value, elementary functions as they are expanded."""
    is_scalar = all(part.dim == 1 for part in topological([value]))
    (array,) = interpret([expanded(value) if is_scalar else value], arrays)
    shape = (len(arrays["x"]), value.dim)
    return np.broadcast_to(array, shape)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize(("rule", "build"), examples(exact=True), ids=rule_name)
def test_exact_rule_keeps_every_bit(rule: Rule, build: Build, dtype: str) -> None:
    before = build(*operands(dtype))
    after = rule.apply(before)
    assert after is not None, f"no example for the rule {rule.name!r}"
    assert before.op in rule.ops
    assert after.type == before.type
    arrays = special_pairs(dtype)
    assert same_bits(evaluated(after, arrays), evaluated(before, arrays))


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize(("rule", "build"), examples(exact=False), ids=rule_name)
def test_fast_rule_is_close_on_ordinary_numbers(rule: Rule, build: Build, dtype: str) -> None:
    before = build(*operands(dtype))
    after = rule.apply(before)
    assert after is not None, f"no example for the rule {rule.name!r}"
    assert before.op in rule.ops
    assert after.type == before.type
    rng = np.random.default_rng(0)
    arrays = {n: rng.uniform(-4, 4, (50, 1)).astype(before.type.numpy) for n in "xy"}
    ulp = np.finfo(before.type.numpy).eps
    np.testing.assert_allclose(evaluated(after, arrays), evaluated(before, arrays), rtol=20 * ulp)


def test_every_example_belongs_to_a_rule() -> None:
    assert EXAMPLES.keys() == {rule.name for rule in RULES}


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("build", COUNTEREXAMPLES)
def test_exact_rules_leave_what_they_would_change(build: Build, dtype: str) -> None:
    value = build(*operands(dtype))
    kernel = Kernel(tuple(variables_of([value])), (Output(value),))
    assert print_kernel(simplify(kernel, EXACT)) == print_kernel(kernel)


@pytest.mark.parametrize(("rule", "build"), examples(exact=False), ids=rule_name)
def test_fast_rules_need_fast_math(rule: Rule, build: Build) -> None:
    value = build(*operands("f32"))
    kernel = Kernel(tuple(variables_of([value])), (Output(value),))
    assert print_kernel(simplify(kernel, EXACT)) == print_kernel(kernel)
    assert print_kernel(simplify(kernel, FAST)) != print_kernel(kernel)


def check(before: str, after: str, use_fast_math: bool = False) -> None:
    assert (
        print_kernel(simplify(parse_kernel(before), context_with(use_fast_math=use_fast_math)))
        == after
    )


def test_constants_fold_in_their_dtype_by_ieee_rules() -> None:
    before = kernel_text(
        "x i f32",
        """
        %0 = "arith.constant"() {value = 16777216.0 : f32} : () -> f32
        %1 = "arith.constant"() {value = 1.0 : f32} : () -> f32
        %2 = "arith.constant"() {value = 0.0 : f32} : () -> f32
        %3 = "arith.addf"(%0, %1) : (f32, f32) -> f32
        %4 = "arith.divf"(%1, %2) : (f32, f32) -> f32
        %5 = "arith.divf"(%2, %2) : (f32, f32) -> f32
        """,
        "%3: f32, %4: f32, %5: f32",
        (False, False, False),
    )
    first, second, third = simplify(parse_kernel(before), EXACT).outputs
    assert [o.value.op for o in (first, second, third)] == ["constant"] * 3
    assert first.value["value"] == 16777216.0  # as in float32: 2**24 + 1 is no float32
    assert second.value["value"] == float("inf")
    assert np.isnan(third.value["value"])


def test_entries_of_tables_fold_where_they_are_at_one_place() -> None:
    counter = index(3)
    table = component(constants((1.0, 0.0, -3.0), "f32"), counter)
    other = component(constants((0.125, 0.25, 0.5), "f32"), counter)
    folded = component(constants((-16.0, -0.0, 12.0), "f32"), counter)
    before, after = (
        Kernel((), (Output(vector_map(value, counter)),))
        for value in (-(table * 2.0) / other, folded)
    )
    assert print_kernel(simplify(before, EXACT)) == print_kernel(after)


def test_entries_of_tables_at_other_places_stay() -> None:
    counter, inner = index(3), index(3, 1)
    table = constants((1.0, 2.0, 3.0), "f32")
    first = component(table, counter)
    products = (first * component(table, 1), first * apply("exp", first))
    nested = vector_map(
        fold(first, lambda s: fma(first, component(table, inner), s), inner), counter
    )
    outputs = (*(vector_map(value, counter) for value in products), nested)
    kernel = Kernel((), tuple(map(Output, outputs)))
    assert print_kernel(simplify(kernel, EXACT)) == print_kernel(kernel)


def test_negations_move_to_where_they_cost_nothing() -> None:
    check(
        kernel_text(
            "x i f32, y j f32",
            """
            %0 = "arith.negf"(%x) : (f32) -> f32
            %1 = "arith.negf"(%y) : (f32) -> f32
            %2 = "arith.mulf"(%0, %1) : (f32, f32) -> f32
            %3 = "arith.negf"(%2) : (f32) -> f32
            %4 = "arith.addf"(%x, %3) : (f32, f32) -> f32
            """,
            "%4: f32",
        ),
        kernel_text(
            "x i f32, y j f32",
            """
            %0 = "arith.mulf"(%x, %y) : (f32, f32) -> f32
            %1 = "arith.subf"(%x, %0) : (f32, f32) -> f32
            """,
            "%1: f32",
        ),
    )


def test_rules_apply_until_none_fits() -> None:
    check(
        kernel_text(
            "x i f64, v j vector<2xf64>",
            """
            %0 = "redcomp.pow"(%x) {m = 1 : i64} : (f64) -> f64
            %1 = "arith.constant"() {value = 1.0 : f64} : () -> f64
            %2 = "arith.mulf"(%0, %1) : (f64, f64) -> f64
            %3 = "redcomp.broadcast"(%2) : (f64) -> vector<2xf64>
            %4 = "arith.divf"(%v, %3) : (vector<2xf64>, vector<2xf64>) -> vector<2xf64>
            """,
            "%4: vector<2xf64>",
        ),
        kernel_text(
            "x i f64, v j vector<2xf64>",
            '%0 = "redcomp.divide"(%v, %x) : (vector<2xf64>, f64) -> vector<2xf64>',
            "%0: vector<2xf64>",
        ),
    )


def test_replacement_keeps_all_components() -> None:
    text = kernel_text(
        "x i f32, v j vector<3xf32>",
        """
        %0 = "arith.constant"() {value = 1.0 : f32} : () -> f32
        %1 = "redcomp.broadcast"(%0) : (f32) -> vector<3xf32>
        %2 = "redcomp.multiply"(%x, %1) : (f32, vector<3xf32>) -> vector<3xf32>
        """,
        "%2: vector<3xf32>",
    )
    (output,) = simplify(parse_kernel(text), EXACT).outputs
    assert output.value.dim == 3
    assert output.value.op == "broadcast"


@given(ir_samples.kernels(), st.integers(0, 2**32 - 1))
def test_random_kernels_keep_every_bit(kernel: Kernel, seed: int) -> None:
    rng = np.random.default_rng(seed)
    arrays = random_variables(kernel.params, rng, special=True)
    before = interpret(kernel.roots, arrays)
    after = interpret(simplify(kernel, EXACT).roots, arrays)
    assert all(same_bits(b, a) for b, a in zip(before, after, strict=True))


@given(ir_samples.kernels())
def test_simplifying_again_changes_nothing(kernel: Kernel) -> None:
    once = simplify(kernel, EXACT)
    assert print_kernel(simplify(once, EXACT)) == print_kernel(once)


# Each of these becomes a value with a new operand, to which another rule applies.
CHAINS: tuple[Build, ...] = (
    lambda x, y: at_most(-apply("square", x), 3.0),
    lambda x, y: at_least(at_most(-apply("square", x), 89.0), -104.0),
    lambda x, y: broadcast(x, 3) * 1.0,
)


@pytest.mark.parametrize("build", CHAINS)
def test_new_operands_are_simplified_too(build: Build) -> None:
    value = build(*operands("f32"))
    once = simplify(Kernel(tuple(variables_of([value])), (Output(value),)), EXACT)
    assert print_kernel(simplify(once, EXACT)) == print_kernel(once)


def test_product_of_exponentials_is_one_exponential_under_fast_math() -> None:
    x, y = operands("f32")
    kernel = Kernel((x, y), (Output(exp(x) * exp(y)),))
    text = print_kernel(simplify(kernel, FAST))
    assert text.count("redcomp.exp") == 1


def test_integers_are_left_alone() -> None:
    n = variable("n", "i", 0, Type("i32"))
    values = (n + 0, n * 1, n - n, elementwise("shift_left", n, 0))
    kernel = Kernel((n,), tuple(Output(value) for value in values))
    assert print_kernel(simplify(kernel, EXACT)) == print_kernel(kernel)


def test_sum_of_equal_negated_values_is_a_product() -> None:
    """Gradients of squares are such sums; as a product it can be factored out of a reduction."""
    x = variable("x", "j", 0, Type("f32"))
    negative = -x
    (output,) = simplify(Kernel((x,), (Output(negative + negative),)), EXACT).outputs
    assert output.value.op == "multiply"
    assert output.value.args[0].is_constant or output.value.args[1].is_constant
