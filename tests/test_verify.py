"""The verifier of the IR: needs no backend."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from time import process_time

import ir_samples
import pytest
from hypothesis import given
from ir_samples import P, X, Y, kernel_of

from redcomp.errors import CompilerError
from redcomp.ir import (
    Block,
    Carried,
    Hoisted,
    Kernel,
    Nest,
    Output,
    Part,
    Partition,
    Piece,
    Type,
    Value,
    broadcast,
    compare,
    component,
    constant,
    convert,
    earlier,
    elementwise,
    fma,
    fold,
    index,
    number_variable,
    scan,
    select,
    so_far,
    variable,
    vector_map,
)
from redcomp.ops.table import OPERATIONS, Operation
from redcomp.verify import verify

K = index(3)
M = earlier(K, "f32")
S = so_far(K, "f32", 0)
N = variable("n", "i", 3, Type("i32"))
D = variable("d", "i", 4, Type("f64"))
TABLE = (("table", (1, 2)),)


@pytest.mark.parametrize("row", ir_samples.rows(), ids=lambda row: row.name)
def test_operations_as_their_rows_build_them_are_right(row: Operation) -> None:
    for value in ir_samples.samples(row):
        verify(kernel_of(value))
        with pytest.raises(CompilerError, match=f"(?s)^{row.name}: .*> %"):
            verify(kernel_of(replace(value, type=Type(value.dtype, 7))))
        with pytest.raises(CompilerError, match="operands, not"):
            verify(kernel_of(replace(value, args=(*value.args, value.args[0]))))
        with pytest.raises(CompilerError, match="has the attributes"):
            verify(kernel_of(replace(value, attrs=(*value.attrs, ("zz", 1)))))


def test_everything_is_right() -> None:
    verify(ir_samples.everything())
    with pytest.raises(CompilerError, match="is no parameter"):
        verify(Kernel((), ir_samples.everything().outputs))


@given(ir_samples.kernels())
def test_random_kernels_are_right_until_a_parameter_is_missing(kernel: Kernel) -> None:
    verify(kernel)
    with pytest.raises(CompilerError, match="is no parameter"):
        verify(Kernel(kernel.params, (*kernel.outputs, Output(N))))


def typed(value: Value, dtype: str, dim: int = 1) -> Value:
    return replace(value, type=Type(dtype, dim))


def composite() -> Value:
    name = next(row.name for row in OPERATIONS.values() if row.definition is not None)
    return Value(name, (X,), Type("f32"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Value("frobnicate", (X,), X.type), "no operation of the IR"),
        (composite(), "no operation of the IR"),
        (Value("add", (X, variable("z", "i", 9, Type("f32", 2))), X.type), "dimensions 3, 2"),
        (elementwise("add", P, N), "operands of types f32, i32"),
        (typed(P + P, "f64"), "has a result of type f64, not f32"),
        (typed(X + P, "f32"), "has a result of type f32, not vector<3xf32>"),
        (elementwise("and", P, P), "takes integers, not f32"),
        (elementwise("pow", P), r"has the attributes \[\], not \['m'\]"),
        (elementwise("pow", P, m="2"), "'2', not of type int"),
        (elementwise("pow", P, m=True), "True, not of type int"),
        (compare("slt", P, P), "'slt' is no predicate for f32"),
        (compare("olt", N, N), "'olt' is no predicate for i32"),
        (elementwise("compare", P, P, predicate="olt"), "type f32, not i1"),
        (select(P, P, P), "chooses by an i1, not by f32"),
        (select(compare("olt", P, P), P, D), "operands of types f32, f64"),
        (Value("bitcast", (P,), Type("i64"), (("dtype", "i64"),)), "not of the same width"),
        (Value("bitcast", (P,), Type("f32"), (("dtype", "i32"),)), "type f32, not i32"),
        (Value("convert", (P,), Type("f64"), (("dtype", "i32"),)), "type f64, not i32"),
        (Value("convert", (P,), Type("f64"), (("dtype", "f8"),)), "'f8' is no dtype"),
        (Value("constant", (), Type("f32"), (("value", 1),)), "1, not of type float"),
        (Value("constant", (), Type("i32"), (("value", 1.0),)), "1.0, not of type int"),
        (Value("constant", (), Type("f32"), (("value", 0.1),)), "0.1 is not rounded"),
        (Value("constant", (), Type("i32"), (("value", 2**31),)), "does not fit into i32"),
        (Value("constant", (), Type("i1"), (("value", 2),)), "does not fit into i1"),
        (Value("constant", (), Type("f32", 3), (("value", 1.0),)), "vector<3xf32>, not f32"),
        (Value("constant", (), Type("f32")), "has the attributes"),
        (Value("constants", (), Type("f32", 2)), r"has the attributes \[\]"),
        (Value("constants", (), Type("f32", 3), TABLE), "vector<3xf32>, not vector<2xf32>"),
        (Value("constants", (), Type("i32", 2), TABLE), "holds floats, not i32"),
        (Value("constants", (), Type("f32", 2), (("table", (1, 2**31)),)), "of other widths"),
        (Value("constants", (), Type("f32", 2), (("table", (1, 2.0)),)), "than integers"),
        (Value("broadcast", (X,), Type("f32", 6)), "repeats a scalar"),
        (typed(broadcast(P, 3), "f64", 3), "type vector<3xf64>, not vector<3xf32>"),
        (component(X, 3), "outside of the vector"),
        (typed(component(X, 0), "f64"), "type f64, not f32"),
        (component(X, N), "position that is no index"),
        (Value("component", (), Type("f32")), "takes 1 operands, not 0"),
        (Value("from_elements", (P, X), Type("f32", 2)), "an element of type vector<3xf32>"),
        (Value("from_elements", (P, P), Type("f32", 3)), "vector<3xf32>, not vector<2xf32>"),
        (Value("variable", (), Type("f32"), (("kind", "i"),)), "has the attributes"),
        (Value("map", (P, P), Type("f32", 3)), "counts by no index"),
        (Value("map", (P,), Type("f32", 3)), "takes 2 operands"),
        (vector_map(X, K), "needs scalar elements"),
        (typed(vector_map(P, K), "f32", 4), "vector<4xf32>, not vector<3xf32>"),
        (Value("fold", (P, P, K), Type("f32")), "takes 4 operands, not 3"),
        (
            component(X, convert(number_variable("i_index", "f32"), "index")),
            "a position that changes with rows or columns",
        ),
        (Value("gather", (X, P), Type("f32")), "has an index of type f32"),
        (Value("gather", (X, N), Type("f64")), "result of type f64, not f32"),
        (fold(P, lambda s: X * s, K), "a state of type vector<3xf32>"),
        (fold(P, lambda s: D, K), "a state of type f64"),
        (fold(X, lambda s: s, K), "a state of type vector<3xf32>"),
        (Value("fold", (P, P, S, P), Type("f32")), "counts by no index"),
        (Value("fold", (P, P, M, K), Type("f32")), "no name for what it has come to"),
        (Value("fold", (P, P, S, index(4)), Type("f32")), "reads what another loop comes to"),
        (Value("fold", (P, P + S, S, K), Type("f64")), "state of type f32"),
        (
            Value("fold", (P, component(X, 0), S, K), Type("f32")),
            "changes with more than its state",
        ),
        (so_far(K, "f32", 4), "depends on what there is not"),
        (typed(S, "f32", 2), "vector<2xf32>, not f32"),
        (fold(P, lambda s: P, index(0)), "has an extent below 1"),
        (vector_map(P, index(3, -1)), "has a negative level"),
        (scan(P, M, P), "counts by no index"),
        (scan(P, X, K), "no name for what it has made"),
        (scan(P, earlier(index(4), "f32"), K), "reads what another loop makes"),
        (scan(X, M, K), "element of type vector<3xf32>"),
        (scan(D, M, K), "element of type f64"),
        (typed(scan(P, M, K), "f32", 4), "vector<4xf32>, not vector<3xf32>"),
        (typed(M, "f32", 4), "vector<4xf32>, not vector<3xf32>"),
    ],
)
def test_broken_values(value: Value, message: str) -> None:
    row = number_variable("i_index", "f32")
    block = Block((X, P, N, D, row, variable("z", "i", 9, Type("f32", 2))), (value,))
    with pytest.raises(CompilerError, match=message):
        verify(block)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (component(X, K), "outside of loops"),
        (component(M, 0), "outside of loops"),
        (component(M, 0) + component(scan(P, M, K), 1), "outside of loops"),
        (fold(P, lambda s: s + component(X, K) * component(Y, index(3, 1)), K), "outside of loops"),
        (vector_map(fold(component(X, K), lambda s: s + P, K), K), "depends on its own index"),
    ],
)
def test_broken_loops(value: Value, message: str) -> None:
    with pytest.raises(CompilerError, match=message):
        verify(kernel_of(value))


def test_loops_in_each_other_need_different_levels() -> None:
    u = variable("u", "i", 5, Type("f32", 4))
    outer, middle = index(3), index(4, 1)

    def nested(innermost: Value) -> Kernel:
        """Over `outer`, a sum over `middle`, of a sum over `innermost`."""
        times = component(X, innermost) * component(u, middle)
        deepest = fold(P, lambda s: times + s, innermost)
        weight = component(u, middle) * component(X, outer)
        return kernel_of(vector_map(fold(P, lambda s: fma(deepest, weight, s), middle), outer))

    verify(nested(index(3, 2)))
    with pytest.raises(CompilerError, match="stands in a loop of the same level and extent"):
        verify(nested(outer))


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (Kernel((X, X), (Output(X),)), "is a parameter twice"),
        (Kernel((X, X + X), (Output(X),)), "a parameter must be a variable"),
        (Kernel((X, variable("x", "j", 1, X.type)), (Output(X),)), "names of the parameters"),
        (Kernel((X, P), (Output(Y),)), "is no parameter"),
        (Kernel((X,), (Output(variable("x", "i", 0, Type("f32"))),)), "is no parameter"),
        (Kernel((variable("x", "i", -1, X.type),), ()), "negative position"),
        (Kernel((X,), (Output(X, "sums"),)), "'sums' is no reduction"),
        (Kernel((X, Y), (Output(X, "sum", component(Y, 0)),)), "a scale that depends on j"),
        (Kernel((X, P), (Output(X, "max", P),)), "is a scale of a reduction that is not linear"),
        (Kernel((P,), (Output(P, "kmin"),)), "keeps 0 columns by 'kmin'"),
        (Kernel((P,), (Output(P, "sum", count=2),)), "keeps 2 columns by 'sum'"),
        (Kernel((P,), (Output(P, "kmin", count=-1),)), "keeps -1 columns"),
        (Kernel((X,), (Output(X, "logsumexp"),)), "a value of dimension 3 for 'logsumexp'"),
        (Kernel((X,), (Output(X, "kmin", count=2),)), "a value of dimension 3 for 'kmin'"),
        (Kernel((P,), (Output(P, "softmax"),)), "a value of dimension 1 for 'softmax'"),
        (Kernel((X, D), (Output(X, "sum", D),)), "a scale of type f64"),
    ],
)
def test_broken_kernels(kernel: Kernel, message: str) -> None:
    with pytest.raises(CompilerError, match=message):
        verify(kernel)


def test_equal_variables_are_the_same_parameter() -> None:
    copy = variable("x", "i", 0, Type("f32", 3))
    verify(Kernel((X,), (Output(copy * X),)))
    with pytest.raises(CompilerError, match="is no parameter"):
        verify(Kernel((replace(X, type=Type("f32", 4)),), (Output(copy * X),)))


SHORT_TOTAL = variable("short", "total", 0, Type("f32"))


def with_state(nest: Nest, **parts: Value | None) -> Nest:
    """The nest with other parts of its only state."""
    (state,) = nest.states
    return replace(nest, states=(replace(state, **parts),))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n: with_state(n, step=n.states[0].merge), "is the step of state0"),
        (lambda n: with_state(n, merge=n.states[0].step), "is the merge of state0"),
        (lambda n: with_state(n, join=n.states[0].start), "is the join of state0"),
        (lambda n: with_state(n, start=n.states[0].merge), "is the start of state0"),
        (lambda n: with_state(n, other=SHORT_TOTAL, join=None), "is the other of state0"),
        (lambda n: with_state(n, total=n.states[0].variable), "is a parameter twice"),
        (lambda n: with_state(n, adjust=n.states[0].step), "adjusts state0, and there are no"),
        (lambda n: replace(n, guards=(n.states[0].step,)), "is a guard of type f32, not i1"),
        (lambda n: replace(n, states=()), "is no parameter"),
        (lambda n: replace(n, rows=(Hoisted(n.rows[0].variable, X),)), "of another type"),
        (
            lambda n: replace(
                n, params=(X, Y, P), rows=(Hoisted(n.rows[0].variable, component(Y, 0)),)
            ),
            "changes inside of the loop of row0",
        ),
    ],
)
def test_broken_nests(change: Callable[[Nest], Nest], message: str) -> None:
    verify(ir_samples.nest())
    with pytest.raises(CompilerError, match=message):
        verify(change(ir_samples.nest()))


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ((Piece(0, 0, 2), Piece(0, 0, 2)), "does not fit the other pieces"),
        ((Piece(0, 0, 2), Piece(0, 1, 3)), "does not fit the other pieces"),
        ((Piece(0, 0, 2), Piece(0, 2, 2)), "do not make up whole results"),
        ((Piece(0, 0, 1), Piece(2, 0, 1)), "do not make up whole results"),
        ((Piece(0, 0, 1), None), "one piece for each of its nest's results"),
    ],
)
def test_broken_partitions(pieces: tuple[Piece | None, ...], message: str) -> None:
    def made(pieces: Iterable[Piece | None]) -> Partition:
        nest = ir_samples.nest()
        return Partition(tuple(Part(nest, (piece,) if piece else ()) for piece in pieces))

    verify(made((Piece(0, 0, 2), Piece(0, 1, 2))))
    verify(made((Piece(0, 0, 1), Piece(1, 0, 1))))
    with pytest.raises(CompilerError, match=message):
        verify(made(pieces))


def test_the_nests_of_parts_are_verified() -> None:
    (state,) = ir_samples.nest().states
    broken = with_state(ir_samples.nest(), step=state.merge)
    with pytest.raises(CompilerError, match="is the step of state0"):
        verify(Partition((Part(broken, (Piece(0, 0, 1),)),)))


def test_columns_that_cannot_be_split_have_no_joins() -> None:
    verify(with_state(ir_samples.nest(), join=None))


def second_state(nest: Nest) -> Carried:
    """A state that is computed as the nest's first one is."""
    wide = Type("f64")
    own = variable("state1", "state", 1, Type("f32"))
    total, other = (variable(name, "total", 1, wide) for name in ("total1", "other1"))
    return replace(nest.states[0], variable=own, total=total, other=other, adjust=own)


def unchanged(state: Carried, variable: Value) -> Carried:
    """A state that nothing changes, with another variable."""
    return replace(state, variable=variable, start=variable, adjust=variable, step=variable)


def test_floats_of_states_have_one_dtype() -> None:
    nest = ir_samples.nest()
    integer, wide = (variable("state1", "state", 1, Type(dtype)) for dtype in ("i32", "f64"))
    second = second_state(nest)
    verify(replace(nest, states=(*nest.states, unchanged(second, integer))))
    for states in (
        (*nest.states, unchanged(second, wide)),
        (replace(unchanged(nest.states[0], integer), merge=nest.states[0].total),),
    ):
        with pytest.raises(CompilerError, match="have no dtype in common"):
            verify(replace(nest, states=states))


def test_all_states_can_be_joined_or_none() -> None:
    nest = ir_samples.nest()
    second = second_state(nest)
    verify(replace(nest, states=(*nest.states, second)))
    with pytest.raises(CompilerError, match="some of the nest's states have a join"):
        verify(replace(nest, states=(*nest.states, replace(second, join=None))))


def test_states_are_adjusted_where_there_are_guards() -> None:
    nest = ir_samples.nest()
    state = nest.states[0].variable
    guarded = replace(nest, guards=(compare("olt", state, 1.0),))
    verify(guarded)
    verify(with_state(guarded, adjust=state * 2.0))


def test_error_shows_the_place() -> None:
    value = P
    for k in range(20):
        value = value * (component(X, 0) + float(k))
    broken = Value("add", (value, P), Type("f64"))
    with pytest.raises(CompilerError) as caught:
        verify(kernel_of(fma(P, P, P), broken * 1.0))
    lines = str(caught.value).splitlines()
    assert lines[0] == "add: has a result of type f64, not f32"
    (marked,) = [line for line in lines if line.startswith("> ")]
    assert '"redcomp.add"' in marked
    assert marked.endswith("(f32, f32) -> f64")
    for operand in marked.split("(")[1].split(")")[0].split(", "):
        assert any(line.startswith(f"  {operand} = ") for line in lines)
    assert "  ..." in lines
    assert len(lines) < 12


def test_time_grows_with_the_values_only() -> None:
    """Each value is visited once: sharing must not multiply the work."""
    value = constant(1.0, "f32")
    for _ in range(2_000):
        value = value + value
    start = process_time()
    verify(kernel_of(value))
    assert process_time() - start < 2.0
