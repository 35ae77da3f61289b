"""The text form of the IR, printed and parsed: needs no backend."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import ir_samples
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir_samples import P, X, Y, kernel_of

from redcomp.errors import CompilerError
from redcomp.interpret import interpret
from redcomp.ir import (
    Block,
    Interner,
    Kernel,
    Output,
    Part,
    Partition,
    Piece,
    Type,
    Value,
    bitcast,
    compare,
    component,
    constant,
    convert,
    elementwise,
    fma,
    fold,
    index,
    select,
    topological,
    variable,
    vector_map,
)
from redcomp.ops.primitives import CASTS, FLOAT_PREDICATES, INTEGER_PREDICATES
from redcomp.ops.table import OPERATIONS, Operation
from redcomp.text import (
    TextError,
    parse_block,
    parse_kernel,
    parse_nest,
    parse_partition,
    parse_program,
    print_block,
    print_kernel,
    print_nest,
    print_partition,
    print_program,
    same_kernel,
)

pytestmark = pytest.mark.slow

SMALL = """\
"redcomp.kernel"() ({
^bb0(%x: vector<3xf32>, %p: f32):
  %0 = "redcomp.component"(%x) {position = 2 : i64} : (vector<3xf32>) -> f32
  %1 = "arith.subf"(%0, %p) : (f32, f32) -> f32
  %2 = "arith.constant"() {value = 0.5 : f32} : () -> f32
  %3 = "arith.cmpf"(%1, %2) {predicate = 4 : i64} : (f32, f32) -> i1
  %4 = "redcomp.multiply"(%x, %1) : (vector<3xf32>, f32) -> vector<3xf32>
  %5 = "arith.select"(%3, %4, %x) : (i1, vector<3xf32>, vector<3xf32>) -> vector<3xf32>
  "redcomp.yield"(%5, %p) : (vector<3xf32>, f32) -> ()
}) {counts = array<i64: 0>, kinds = ["i", "parameter"], names = ["x", "p"], \
positions = array<i64: 0, 2>, reductions = ["sum"], scaled = [true]} : () -> ()
"""

LOOP = """\
"redcomp.block"() ({
^bb0(%x: vector<3xf32>, %p: f32):
  %0 = "arith.constant"() {value = 0.0 : f32} : () -> f32
  %1 = "arith.addf"(%p, %p) : (f32, f32) -> f32
  %6 = "redcomp.fold"(%0) ({
  ^bb0(%k: index):
    %2 = "redcomp.component"(%x, %k) : (vector<3xf32>, index) -> f32
    %3 = "arith.mulf"(%2, %1) : (f32, f32) -> f32
    %4 = "redcomp.so_far"() {dependence = 1 : i64, extent = 3 : i64, level = 0 : i64} : () -> f32
    %5 = "math.fma"(%2, %3, %4) : (f32, f32, f32) -> f32
    "redcomp.yield"(%5, %4) : (f32, f32) -> ()
  }) {extent = 3 : i64, level = 0 : i64} : (f32) -> f32
  %9 = "redcomp.map"() ({
  ^bb0(%k: index):
    %7 = "redcomp.component"(%x, %k) : (vector<3xf32>, index) -> f32
    %8 = "arith.divf"(%7, %6) : (f32, f32) -> f32
    "redcomp.yield"(%8) : (f32) -> ()
  }) {extent = 3 : i64, level = 0 : i64} : () -> vector<3xf32>
  "redcomp.yield"(%9) : (vector<3xf32>) -> ()
}) {kinds = ["i", "parameter"], names = ["x", "p"], positions = array<i64: 0, 2>} : () -> ()
"""


def small() -> Kernel:
    last = component(X, 2) - P
    value = select(compare("olt", last, 0.5), X * last, X)
    return Kernel((X, P), (Output(value, "sum", P),))


def loop() -> Block:
    counter = index(3)
    element = component(X, counter)
    total = fold(constant(0.0, "f32"), lambda s: fma(element, element * (P + P), s), counter)
    return Block((X, P), (vector_map(element / total, counter),))


def round_trip(kernel: Kernel) -> Kernel:
    """The kernel parsed from its text, which must print the same text."""
    text = print_kernel(kernel)
    parsed = parse_kernel(text)
    assert print_kernel(parsed) == text
    return parsed


def printed_names(value: Value) -> list[str]:
    """The names under which the operations of a value print."""
    lines = print_kernel(kernel_of(value)).splitlines()
    return [line.split('"')[1] for line in lines if " = " in line and "bb0" not in line][:-1]


def test_kernel_prints_as_expected() -> None:
    assert print_kernel(small()) == SMALL


def test_loops_hold_what_depends_on_their_counter() -> None:
    assert print_block(loop()) == LOOP


@pytest.mark.parametrize("row", ir_samples.rows(), ids=lambda row: row.name)
def test_operation_comes_back(row: Operation) -> None:
    values = ir_samples.samples(row)
    assert values, f"no sample fits the shape rule of {row.name}"
    parsed = round_trip(kernel_of(*values))
    for before, output in zip(values, parsed.outputs, strict=True):
        after = output.value
        assert (after.op, after.attrs, after.type) == (before.op, before.attrs, before.type)


@pytest.mark.parametrize("column", [0, 1], ids=["floats", "integers"])
def test_mlir_names_are_unique(column: int) -> None:
    names = [row.mlir[column] for row in OPERATIONS.values() if row.mlir[column]]
    assert len(set(names)) == len(names)


def test_everything_together_comes_back() -> None:
    kernel = ir_samples.everything()
    assert len(round_trip(kernel).outputs) == len(kernel.outputs)


@given(ir_samples.kernels())
def test_random_kernels_keep_their_text_and_values(kernel: Kernel) -> None:
    parsed = round_trip(kernel)
    draws = np.random.default_rng(0)
    arrays = {p["name"]: draws.normal(size=p.dim).astype(p.type.numpy) for p in kernel.params}
    before, after = (interpret(k.roots, arrays) for k in (kernel, parsed))
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)


@given(st.sampled_from(["f32", "f64"]), st.floats())
def test_floats_keep_their_bits(dtype: str, number: float) -> None:
    value = constant(number, dtype)
    (output,) = round_trip(kernel_of(value)).outputs
    kept, given_ = (np.array(v["value"], value.type.numpy) for v in (output.value, value))
    assert kept.tobytes() == given_.tobytes()


@pytest.mark.parametrize(
    ("number", "dtype", "text"),
    [
        (1.0, "f32", "1.0 : f32"),
        (0.1, "f32", "0.100000001 : f32"),
        (0.1, "f64", "0.10000000000000001 : f64"),
        (1e30, "f32", "1.00000002e+30 : f32"),
        (1e-30, "f64", "1.0000000000000001e-30 : f64"),
        (1e22, "f64", "1.0e+22 : f64"),
        (-0.0, "f32", "0x80000000 : f32"),
        (float("inf"), "f32", "0x7F800000 : f32"),
        (float("-inf"), "f64", "0xFFF0000000000000 : f64"),
        (float("nan"), "f32", "0x7FC00000 : f32"),
        (-3, "i32", "-3 : i32"),
        (2**63 - 1, "i64", "9223372036854775807 : i64"),
        (7, "index", "7 : index"),
        (True, "i1", "true"),
    ],
)
def test_constant_literals(number: float, dtype: str, text: str) -> None:
    value = constant(number, dtype)
    assert f"{{value = {text}}}" in print_kernel(kernel_of(value))
    (output,) = round_trip(kernel_of(value)).outputs
    assert type(output.value["value"]) is type(value["value"])


def small_integer(dim: int = 1) -> Value:
    return variable(f"n{dim}", "i", 0, Type("i32", dim))


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (X + Y, "arith.addf"),
        (P + P, "arith.addf"),
        (X + P, "redcomp.add"),
        (small_integer() + small_integer(), "arith.addi"),
        (-small_integer(), "redcomp.negate"),
        (-X, "arith.negf"),
        (fma(X, Y, X), "math.fma"),
        (fma(X, Y, P), "redcomp.fma"),
        (compare("olt", X, Y), "arith.cmpf"),
        (compare("olt", X, P), "redcomp.compare"),
        (compare("slt", small_integer(), 1), "arith.cmpi"),
        (select(compare("olt", X, Y), X, Y), "arith.select"),
        (select(compare("olt", P, P), X, Y), "arith.select"),
        (select(compare("olt", X, Y), X, P), "redcomp.select"),
        (select(compare("olt", X, Y), P, P), "redcomp.select"),
        (bitcast(X, "i32"), "arith.bitcast"),
        (bitcast(small_integer(), "f32"), "arith.bitcast"),
        (convert(X, "f64"), "arith.extf"),
        (elementwise("inverse", X), "redcomp.inverse"),
    ],
)
def test_mlir_names_stand_where_mlir_accepts_them(value: Value, name: str) -> None:
    assert printed_names(value)[-1] == name
    assert round_trip(kernel_of(value)).outputs[0].value.op == value.op


@pytest.mark.parametrize(
    "value", ir_samples.conversions(), ids=lambda v: f"{v.args[0].dtype}-{v.dtype}"
)
def test_conversions(value: Value) -> None:
    pair = (value.args[0].dtype, value.dtype)
    assert printed_names(value) == [CASTS.get(pair, ("redcomp.convert", ""))[0]]
    (output,) = round_trip(kernel_of(value)).outputs
    assert (output.value.op, output.value.attrs) == ("convert", value.attrs)


@pytest.mark.parametrize("predicate", [*FLOAT_PREDICATES, *INTEGER_PREDICATES])
def test_predicates(predicate: str) -> None:
    operand = small_integer() if predicate in INTEGER_PREDICATES else P
    (output,) = round_trip(kernel_of(compare(predicate, operand, operand))).outputs
    assert output.value["predicate"] == predicate


@pytest.mark.parametrize("name", ["0", "", "a-b", "é", 'say "hi"\\', "line\nbreak", "k", "x_1"])
def test_any_name_comes_back(name: str) -> None:
    named = variable(name, "j", 1, Type("f32", 3))
    counter = index(3)
    vector = vector_map(component(X, counter) + component(named, counter), counter)
    kernel = Kernel((X, named, variable("x-1", "i", 3, Type("f32"))), (Output(vector),))
    assert [p["name"] for p in round_trip(kernel).params] == ["x", name, "x-1"]


def test_equal_structure_prints_once() -> None:
    twice = (X + P) * (X + P)
    assert len(set(topological([twice]))) == 5
    assert printed_names(twice) == ["redcomp.add", "arith.mulf"]
    shared = X + P
    assert same_kernel(kernel_of(twice), kernel_of(shared * shared))


def test_loops_of_equal_structure_print_once() -> None:
    first, second = loop().outs[0], loop().outs[0]
    assert print_kernel(kernel_of(first + second)).count("redcomp.map") == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda kernel: kernel_of(kernel.outputs[0].value),
        lambda kernel: Kernel(kernel.params[::-1], kernel.outputs),
        lambda kernel: Kernel(kernel.params, (replace(kernel.outputs[0], reduction="product"),)),
        lambda kernel: Kernel(kernel.params, kernel.outputs * 2),
        lambda kernel: kernel.map_roots(lambda root: root * 0.0),
    ],
)
def test_different_kernels_differ(change: Callable[[Kernel], Kernel]) -> None:
    assert same_kernel(small(), small())
    assert not same_kernel(small(), change(small()))


def test_signs_of_zero_differ() -> None:
    assert not same_kernel(kernel_of(constant(0.0, "f32")), kernel_of(constant(-0.0, "f32")))


def test_parser_shares_equal_values() -> None:
    kernel = parse_kernel(print_kernel(ir_samples.loops()))
    values = list(topological(kernel.roots))
    intern = Interner()
    assert len({intern(value) for value in values}) == len(values)


def test_long_chains_need_no_deep_stack() -> None:
    value = P
    for _ in range(5_000):
        value = value * 1.5
    assert len(list(topological(round_trip(kernel_of(value)).roots))) == 5_002


def test_block_comes_back() -> None:
    assert print_block(parse_block(LOOP)) == LOOP


def test_nest_comes_back() -> None:
    text = print_nest(ir_samples.nest())
    parsed = parse_nest(text)
    assert print_nest(parsed) == text
    assert [state.initial for state in parsed.states] == [float("-inf")]
    (row,) = parsed.rows
    assert (row.variable["name"], row.definition.op) == ("row0", "multiply")
    assert (parsed.uniform, parsed.columns) == ((), ())
    assert [len(part) for part in (parsed.params, parsed.joins)] == [2, 1]


@pytest.mark.parametrize(
    "counts",
    [{"merges": 0, "results": 2}, {"adjusts": 1, "results": 0}, {"totals": 0, "others": 2}],
    ids=str,
)
def test_states_have_one_of_each_part(counts: dict[str, int]) -> None:
    text = print_nest(ir_samples.nest())
    for part, count in counts.items():
        text = re.sub(rf"{part} = \d", f"{part} = {count}", text)
    with pytest.raises(TextError, match="the states do not all have the same parts"):
        parse_nest(text)


def test_program_prints_by_its_type() -> None:
    nest = ir_samples.nest()
    assert print_program(small()) == SMALL
    assert print_program(loop()) == LOOP
    assert print_program(nest) == print_nest(nest)


def partition() -> Partition:
    """Two parts with one component of a result each."""
    nest = ir_samples.nest()
    return Partition(tuple(Part(nest, (Piece(0, first, 2),)) for first in (0, 1)))


def test_partition_comes_back() -> None:
    text = print_partition(partition())
    parsed = parse_partition(text)
    assert print_program(parsed) == text
    assert [part.pieces for part in parsed.parts] == [(Piece(0, k, 2),) for k in (0, 1)]
    assert print_nest(parsed.parts[1].nest) == print_nest(ir_samples.nest())


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("redcomp.partition", "redcomp.parts", "exactly one operation, redcomp.partition"),
        ("redcomp.part" + '"', 'redcomp.kernel"', "holds redcomp.part operations"),
        ("redcomp.nest", "redcomp.kernel", "each of which holds one redcomp.nest"),
        ("dims = array<i64: 2>, ", "", "'dims', a list of int"),
        ("dims = array<i64: 2>", "dims = array<i64: 2, 2>", "different numbers of items"),
    ],
)
def test_errors_in_partitions(before: str, after: str, message: str) -> None:
    text = print_partition(partition())
    assert before in text
    with pytest.raises(TextError, match=message):
        parse_partition(text.replace(before, after, 1))


def test_programs_are_parsed_by_their_names() -> None:
    for program in (small(), ir_samples.nest(), partition()):
        text = print_program(program)
        parsed = parse_program(text)
        assert (type(parsed), print_program(parsed)) == (type(program), text)
    with pytest.raises(TextError, match=r"redcomp\.kernel or redcomp\.nest or redcomp\.partition"):
        parse_program("")


def test_counts_come_back() -> None:
    outputs = (Output(P, "kmin_argkmin", count=7), Output(P * 2.0), Output(P, "kmax", count=1))
    assert [o.count for o in round_trip(Kernel((P,), outputs)).outputs] == [7, 0, 1]


def test_what_mlir_tools_add_is_understood() -> None:
    other = SMALL.replace("{position = 2 : i64}", "<{position = 2 : i64}>")
    other = other.replace(
        '"arith.subf"(%0, %p)', '"arith.subf"(%0,%p) <{f = #arith.fastmath<none>}>'
    )
    other = (
        other.replace("%0", "%first").replace("\n", "  // note\n\n").replace("0.5", "5.000000e-01")
    )
    other = other.replace("-> f32", "-> (f32)")
    wrapped = f'"builtin.module"() ({{\n{other}\n}}) : () -> ()'
    assert print_kernel(parse_kernel(wrapped)) == SMALL


@pytest.mark.parametrize(
    ("before", "after", "message", "line"),
    [
        ("arith.subf", "arith.what", "unknown operation 'arith.what'", 4),
        ("redcomp.multiply", "redcomp.index", "unknown operation", 7),
        ("(%0, %p)", "(%0, %q)", "%q is not defined", 4),
        ("%1 = ", "%0 = ", "%0 is defined twice", 4),
        ("(%0, %p) : (f32, f32)", "(%0, %p) : (f32, f64)", "the operands have types", 4),
        ("arith.subf", "math.fma", "wrong number of operands", 4),
        ("redcomp.multiply", "arith.mulf", "arith.mulf does not take these types", 7),
        ("predicate = 4", "predicate = 99", "there is no predicate 99", 6),
        ("{predicate = 4 : i64}", "", "wrong attributes for arith.cmpf", 6),
        ("0.5 : f32", "1 : i32", "arith.constant does not take", 5),
        ("0.5 : f32", "0x1FFFFFFFF : f32", "a number of type f32", 5),
        ("0.5 : f32", "?", "unexpected '\\?'", 5),
        ("0.5 : f32", "none", "an attribute's value", 5),
        ("-> vector<3xf32>", "-> vector<0xf32>", "expected a type", 7),
        ("%0 = ", "", "must have one result", 3),
        ("%5, %p) : (vector<3xf32>, f32)", "%5) : (vector<3xf32>)", "do not fit", 1),
        ('"i", ', '"q", ', "unknown kind 'q'", 1),
        ("array<i64: 0, 2>", "array<i64: 0>", "one item for each argument", 1),
        ('reductions = ["sum"], ', "", "needs the attribute 'reductions'", 1),
        ("redcomp.yield", "arith.addf", "must end with redcomp.yield", 9),
        ("redcomp.kernel", "redcomp.block", "expected exactly one operation", 1),
        ("counts = array<i64: 0>, ", "", "needs the attribute 'counts'", 1),
        ("counts = array<i64: 0>", "counts = array<i64>", "do not fit", 1),
        ("counts = array<i64: 0>", "counts = array<f64: 0.0>", "'counts', a list of int", 1),
        ("}) {counts", "{counts", "expected an attribute's name|expected", 10),
        (" : () -> ()\n", "", "but the text ends", 10),
    ],
)
def test_errors_show_the_line(before: str, after: str, message: str, line: int) -> None:
    assert before in SMALL
    text = SMALL.replace(before, after, 1)
    with pytest.raises(TextError, match=message) as caught:
        parse_kernel(text)
    assert caught.value.line == line
    assert str(caught.value).startswith(f"line {line}: ")
    assert text.splitlines()[line - 1].strip() in str(caught.value)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("extent = 3 : i64, ", "", "the integers `extent` and `level`"),
        ("%k: index", "%k: i64", "all count by an index"),
        ('"redcomp.map"()', '"redcomp.fold"()', "a fold starts from one operand"),
        (
            '%6) : (f32, f32) -> f32\n    "red',
            '%2) : (f32, f32) -> f32\n    "red',
            "%2 is not defined",
        ),
    ],
)
def test_errors_in_loops(before: str, after: str, message: str) -> None:
    assert before in LOOP
    with pytest.raises(TextError, match=message):
        parse_block(LOOP.replace(before, after))


def test_what_cannot_be_printed() -> None:
    counter = index(3)
    with pytest.raises(CompilerError, match="the parameters lack the variable 'p'"):
        print_kernel(Kernel((X,), (Output(X * P),)))
    with pytest.raises(CompilerError, match="depends on a loop's index"):
        print_kernel(Kernel((X,), (Output(component(X, counter)),)))
    with pytest.raises(CompilerError, match="different variables"):
        print_kernel(Kernel((X, X), (Output(X),)))
