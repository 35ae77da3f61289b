"""Values and kernels that the tests of the IR share: no backend needed."""

from __future__ import annotations

from itertools import product

from hypothesis import strategies as st

from redcomp.ir import (
    FLOATS,
    INTEGER_OF_WIDTH,
    Carried,
    Hoisted,
    Kernel,
    Nest,
    Output,
    Type,
    Value,
    bitcast,
    broadcast,
    compare,
    component,
    constant,
    constants,
    convert,
    earlier,
    elementwise,
    fma,
    fold,
    from_elements,
    index,
    lookup,
    number_variable,
    scan,
    select,
    topological,
    variable,
    vector_map,
)
from redcomp.ops.primitives import CASTS
from redcomp.ops.table import OPERATIONS, Operation, ShapeError, apply

X = variable("x", "i", 0, Type("f32", 3))
Y = variable("y", "j", 1, Type("f32", 3))
P = variable("p", "parameter", 2, Type("f32"))
W = variable("w", "ij", 3, Type("f32", 2))
TABLE = variable("table", "parameter", 4, Type("f32", 1000))

PRIMITIVE_SAMPLES = {
    "select": lambda a, b, c: select(compare("olt", a, b), b, c),
    "compare": lambda a, b: compare("oge", a, b),
    "bitcast": lambda a: bitcast(a, "i32"),
    "convert": lambda a: convert(a, "i32"),
    "lookup": lambda a: lookup((1.0, 2.0, 3.0, 4.0), bitcast(a, "i32"), "f32"),
}
# Operands and parameters of operations that take no numbers as parameters.
LIST_SAMPLES = {
    "tensordot": [
        ((6, 6), {"dimsf": (2, 3), "dimsg": (3, 2), "contf": (1,), "contg": (0,), "perm": ()}),
        (
            (40, 40),
            {"dimsf": (5, 8), "dimsg": (8, 5), "contf": (1,), "contg": (0,), "perm": (1, 0)},
        ),
        (
            (12, 4),
            {"dimsf": (2, 6), "dimsg": (2, 2), "contf": (), "contg": (), "perm": (0, 2, 1, 3)},
        ),
        ((17, 17), {"dimsf": (17,), "dimsg": (17,), "contf": (0,), "contg": (0,), "perm": ()}),
    ],
}


def operand_dtype(row: Operation, position: int, dtype: str) -> str:
    """The dtype of an operand of a row, whose results are to be of `dtype`."""
    _, alike = row.typing.alike  # what follows those is an index
    return dtype if alike is None or position < alike else INTEGER_OF_WIDTH[dtype]


def list_samples(row: Operation, dtype: str) -> list[Value]:
    """An operation whose parameters are lists."""
    return [
        apply(
            row.name,
            *(variable(f"l{k}_{dtype}_{d}", "i", k, Type(dtype, d)) for k, d in enumerate(dims)),
            **attrs,
        )
        for dims, attrs in LIST_SAMPLES.get(row.name, [])
    ]


def rows() -> list[Operation]:
    """The rows that can stand in the IR."""
    return [row for row in OPERATIONS.values() if row.definition is None]


def samples(row: Operation) -> list[Value]:
    """The operation on scalars, on vectors and on a mix, as far as its shape rule allows."""
    same = {(dim,) * row.arity for dim in (1, 2, 3)}
    dtype = "i32" if row.mlir[1] and not row.mlir[0] else (*row.dtypes, "f32")[0]
    found = list_samples(row, dtype)
    if found:
        return found
    for dims in sorted({*same, *product((1, 3), repeat=row.arity)}):
        types = [Type(operand_dtype(row, k, dtype), dim) for k, dim in enumerate(dims)]
        args = [variable(f"a{k}_{t.dtype}_{t.dim}", "i", k, t) for k, t in enumerate(types)]
        value = _applied(row, args)
        if value is not None:
            found.append(value)
    return found


def _applied(row: Operation, args: list[Value]) -> Value | None:
    if row.name in PRIMITIVE_SAMPLES:
        return PRIMITIVE_SAMPLES[row.name](*args)
    for numbers in product(range(4), repeat=len(row.parameters)):
        try:
            return apply(row.name, *args, **dict(zip(row.parameters, numbers, strict=True)))
        except ShapeError:
            continue
    return None


def kernel_of(*values: Value) -> Kernel:
    """A kernel that sums the values, its parameters in the order in which they are met."""
    params = {v.attrs: v for v in topological(values) if v.op == "variable"}
    return Kernel(tuple(params.values()), tuple(Output(value) for value in values))


def loops() -> Kernel:
    """Nested loops, a loop that another one reads, and values inside and outside of them."""
    x = variable("long_x", "i", 0, Type("f32", 64))
    y = variable("long_y", "j", 1, Type("f32", 64))
    outer, inner = index(64), index(64, 1)
    difference = component(x, outer) - component(y, outer)
    distance = fold(constant(0.0, "f32"), lambda s: fma(difference, difference, s), outer)
    times = component(x, inner) * difference
    nested = fold(P, lambda s: fma(times, difference + 1.0, s), inner)
    last = component(y, inner * 0 + 63)
    chosen = select(compare("slt", inner, 5), last, 1.0)
    ends = fold(P, lambda s: select(compare("ogt", chosen, s), chosen, s + last), inner)
    vector = vector_map(nested / distance, outer)
    before = earlier(outer, "f32")
    made = component(before, select(compare("slt", outer, 1), 0, outer - 1))
    sums = scan(made * 0.5 + difference / distance, before, outer)
    last_sum = component(sums, 63) - component(sums, 5)
    outputs = (Output(vector, "sum", P * 2.0), Output(distance), Output(ends), Output(last_sum))
    return Kernel((x, y, P), outputs)


def nest() -> Nest:
    """A maximum-like reduction with a hoisted row."""
    state = variable("state0", "state", 0, Type("f32"))
    total, other = (variable(name, "total", 0, Type("f64")) for name in ("total0", "other0"))
    row = variable("row0", "i", 0, Type("f32"))
    return Nest(
        params=(X, P),
        states=(
            Carried(
                variable=state,
                initial=float("-inf"),
                total=total,
                other=other,
                start=constant(float("-inf"), "f32"),
                adjust=state,
                step=state + row,
                merge=total + convert(state, "f64"),
                join=total + other,
            ),
        ),
        guards=(),
        results=(convert(total, "f32"),),
        rows=(Hoisted(row, component(X, 0) * P),),
    )


def conversions() -> list[Value]:
    """Every conversion that has a name in MLIR, and those that have none."""
    pairs = [*CASTS, ("f32", "i1"), ("i32", "i1"), ("f64", "index"), ("index", "f32")]
    return [convert(variable(f"v_{a}", "i", 0, Type(a)), b) for a, b in pairs]


def everything() -> Kernel:
    """One kernel with each operation, each conversion, the constants' dtypes and the structure."""
    values = [value for row in rows() for value in samples(row)]
    numbers = (0.0, -0.0, 1.0, 0.1, -1e-30, 1e30, float("inf"), -float("inf"), float("nan"))
    scalars = [constant(number, dtype) for dtype in FLOATS for number in numbers]
    tables = [constants(numbers, dtype) for dtype in FLOATS]
    integers = [constant(-3, dtype) for dtype in ("i32", "i64", "index")]
    truths = [constant(True, "i1"), constant(False, "i1")]
    structure = [broadcast(P, 3), from_elements((P, P + 1.0)), component(X, 2)]
    structure += [W, number_variable("i_index", "f32"), number_variable("j_index", "f64")]
    structure.append(component(TABLE, convert(number_variable("i_index", "f32"), "index")))
    looping = loops()
    straight = kernel_of(*values, *conversions(), *scalars, *tables, *integers, *truths, *structure)
    params = dict.fromkeys((*looping.params, *straight.params))
    return Kernel(tuple(params), looping.outputs + straight.outputs)


FLOAT_VALUES = st.one_of(
    st.floats(width=32), st.sampled_from([0.0, -0.0, 1.0, float("inf"), float("nan")])
)
UNARY = ("negate", "sqrt", "square", "round_even")
BINARY = ("add", "subtract", "multiply", "divide")


def _sum_of_products(a: Value, b: Value, counter: Value) -> Value:
    return fold(P, lambda so_far: fma(a, b, so_far), counter)


@st.composite
def kernels(draw: st.DrawFn) -> Kernel:
    """Kernels of elementwise operations on scalars and vectors, with sharing and loops."""
    counter = index(3)
    values: list[Value] = [X, Y, P, component(X, 1), constant(draw(FLOAT_VALUES), "f32")]
    for _ in range(draw(st.integers(1, 12))):
        a, b, c = (draw(st.sampled_from(values)) for _ in range(3))
        match draw(st.integers(0, 7)):
            case 0:
                made = elementwise(draw(st.sampled_from(UNARY)), a)
            case 1:
                made = fma(a, b, c)
            case 2:
                made = select(compare(draw(st.sampled_from(["olt", "une", "uno"])), a, b), b, c)
            case 3:
                made = a * draw(FLOAT_VALUES)
            case 4:
                made = _sum_of_products(_at(a, counter), _at(b, counter), counter)
            case 5:
                made = vector_map(_at(a, counter) - _at(b, counter), counter)
            case 6:
                before = earlier(counter, "f32")
                made = scan(component(before, counter * 0) * _at(a, counter), before, counter)
            case _:
                made = elementwise(draw(st.sampled_from(BINARY)), a, b)
        values.append(made)
    roots = draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))
    scale = draw(st.sampled_from([None, P, component(X, 0)]))
    return Kernel((X, Y, P), tuple(Output(root, "sum", scale) for root in roots))


def _at(value: Value, counter: Value) -> Value:
    return value if value.dim == 1 else component(value, counter)
