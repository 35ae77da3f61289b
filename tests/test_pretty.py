"""The form of programs for people, written and read back: needs no backend."""

from __future__ import annotations

import contextlib
import math
import struct
from collections.abc import Callable
from typing import Any

import ir_samples
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir_samples import X, Y, kernel_of

from redcomp.ir import (
    AnyProgram,
    Block,
    Kernel,
    Output,
    Type,
    Value,
    compare,
    component,
    constant,
    constants,
    elementwise,
    lookup,
    topological,
    variable,
)
from redcomp.numpy import Genred
from redcomp.text import TextError, print_program
from redcomp.text.functions import with_calls
from redcomp.text.pretty import decimal, listing_of, pretty
from redcomp.text.pretty_parser import parse_pretty

pytestmark = pytest.mark.slow

VECTORS = ["x=Vi(3)", "y=Vj(3)", "b=Vj(1)"]


def stages(
    formula: str, aliases: list[str], target: str = "avx512", **options: Any
) -> dict[str, AnyProgram]:
    operation = Genred(formula, aliases, axis=1, **options)
    return dict(operation.lower("float32", target).programs)


def assert_reads_back(program: AnyProgram | Block) -> None:
    text = pretty(program)
    assert print_program(parse_pretty(text)) == print_program(program)
    assert pretty(parse_pretty(text)) == text


@given(ir_samples.kernels())
def test_kernels_are_read_back(kernel: Kernel) -> None:
    assert_reads_back(kernel)


@pytest.mark.parametrize("make", [ir_samples.everything, ir_samples.loops, ir_samples.nest])
def test_samples_are_read_back(make: Callable[[], AnyProgram]) -> None:
    assert_reads_back(make())


@pytest.mark.sampled(96)
@pytest.mark.parametrize("target", ["avx512", "sse2", "sm_90"])
@pytest.mark.parametrize(
    ("formula", "aliases", "options"),
    [
        ("Exp(-SqDist(x,y))*b", VECTORS, {}),
        ("Exp(-SqDist(x,y))", ["x=Vi(64)", "y=Vj(64)"], {}),
        ("Exp(x*y)+Exp(x-y)*Sin(x)+Sin(y)*Exp(x)", ["x=Vi(1)", "y=Vj(1)"], {}),
        ("SqDist(x,y)", ["x=Vi(40)", "y=Vj(40)"], {"reduction_op": "ArgKMin", "opt_arg": 3}),
        ("(x|y)", VECTORS, {"reduction_op": "SumSoftMaxWeight", "formula2": "b"}),
        ("SoftDTW_SqDist(x,y,g)", ["x=Vi(17)", "y=Vj(17)", "g=Pm(1)"], {}),
        ("Exp(-SqDist(x,y))*b", ["x=Vi(3)", "y=Vj(3)", "b=Vj(40)"], {}),
    ],
)
def test_every_stage_is_read_back(
    formula: str, aliases: list[str], options: dict[str, Any], target: str
) -> None:
    for program in stages(formula, aliases, target, **options).values():
        assert_reads_back(program)


def test_kernels_look_like_this() -> None:
    made = pretty(stages("Exp(-SqDist(x, y)) * b", VECTORS)["kernel"], "Exp(-SqDist(x, y)) * b")
    assert (
        made
        == """\
kernel (%x: i[0] vector<3xf32>, %y: j[1] vector<3xf32>, %b: j[2] f32) {
  %0 = subtract %x, %y : vector<3xf32>
  %1 = scalprod %0, %0 : f32  // SqDist(x, y)
  %2 = negate %1 : f32  // -SqDist(x, y)
  %3 = exp %2 : f32  // Exp(-SqDist(x, y))
  %4 = multiply %3, %b : f32  // Exp(-SqDist(x, y)) * b
  sum %4
}
"""
    )


def test_blocks_are_read_back() -> None:
    block = Block((X, Y), (elementwise("add", X, Y), constant(2.5, "f32")))
    assert_reads_back(block)


@given(st.floats(width=32), st.floats())
def test_decimals_tell_all_numbers_apart(single: float, double: float) -> None:
    for number, dtype, layout in ((single, "f32", "<f"), (double, "f64", "<d")):
        kernel = kernel_of(elementwise("add", constant(number, dtype), _of(dtype)))
        (found,) = [v for v in topological(parse_pretty(pretty(kernel)).roots) if v.is_constant]
        packed = [struct.pack(layout, n) for n in (number, found["value"])]
        assert packed[0] == packed[1] or (math.isnan(number) and math.isnan(found["value"]))


def _of(dtype: str) -> Value:
    return variable("v", "i", 0, Type(dtype))


@pytest.mark.parametrize(
    ("number", "dtype", "text"),
    [(0.1, "f32", "0.1"), (-0.0, "f64", "-0.0"), (math.inf, "f32", "inf"), (1, "i1", "true")],
)
def test_decimals(number: float, dtype: str, text: str) -> None:
    assert decimal(constant(number, dtype)["value"], dtype) == text


@pytest.mark.parametrize(
    "value",
    [
        compare("olt", constant(1.0, "f32"), component(X, 0)),
        compare("olt", component(X, 0), constant(1.0, "f32")),
        component(X, constant(1, "index")),
        elementwise("shift_left", variable("n", "i", 0, Type("i32")), 3),
        lookup((1.0, math.inf, -0.0, 0.1), variable("n", "i", 0, Type("i32")), "f32"),
        constants((1.0, math.inf, -0.0, 0.1), "f32"),
        constants((1.0, math.inf, -0.0, 0.1), "f64"),
    ],
)
def test_constants_have_their_dtype_where_it_is_not_the_results(value: Value) -> None:
    assert_reads_back(kernel_of(value))


# -- functions -------------------------------------------------------------------------------------


def test_what_is_expanded_several_times_is_one_function() -> None:
    program = stages("Exp(x*y)+Exp(x-y)", ["x=Vi(1)", "y=Vj(1)"])["legal"]
    functions, calling = with_calls(program)
    assert [function.name for function in functions] == ["exp"]
    assert sum(value.op == "call" for value in topological(calling.roots)) == 2
    text = pretty(program)
    assert text.count("func @exp(%a: f32) : f32 {") == 1
    assert text.count("call @exp(") == 2
    assert text.count(" lookup ") == 1
    # A page lists every value, since each is hovered by itself.
    assert "".join(map(str, listing_of(program))).count(" lookup ") == 2


@pytest.mark.parametrize("name", ["exp", "sin", "log", "tanh", "expm1"])
def test_functions_are_recognised_by_their_numbers(name: str) -> None:
    spelling = name.capitalize()
    program = stages(f"{spelling}(x*y)+{spelling}(x+y)", ["x=Vi(1)", "y=Vj(1)"])["expand"]
    assert [function.name for function in with_calls(program)[0]] == [name]


def test_values_that_others_need_are_in_no_function() -> None:
    """A chain whose middle is used elsewhere cannot be hidden in a call."""

    def chain(start: Value) -> list[Value]:
        made = [start]
        for k in range(8):
            made.append(elementwise("add", elementwise("multiply", made[-1], made[-1]), float(k)))
        return made

    first, second = chain(component(X, 0)), chain(component(X, 1))
    hidden = Kernel((X,), (Output(first[-1] * second[-1]),))
    assert len(with_calls(hidden)[0]) == 1
    needed = Kernel((X,), (Output(first[-1] * second[-1] + first[4] + first[5] + first[6]),))
    functions = with_calls(needed)[0]
    assert all(len(list(topological([f.result], known={f.argument}))) < 20 for f in functions)
    assert_reads_back(needed)


# -- errors ----------------------------------------------------------------------------------------

LINES = """\
kernel (%x: i[0] f32, %y: j[1] f32) {
  %0 = add %x, %y : f32
  sum %0
}
"""


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("%x, %y : f32", "%x, %z : f32", "line 2: %z is not defined here"),
        ("add", "ad", "line 2: unknown operation 'ad'"),
        ("%0 =", "%x =", "line 2: %x is defined twice"),
        ("i[0]", "k[0]", "line 1: unknown kind 'k'"),
        (": f32\n", ": f33\n", "or a vector of one of them, not 'f33'"),
        ("%x, %y : f32", "%x : f32", "wrong number of operands for add"),
        ("sum %0", "sum 1.0", "line 3: the constant 1.0 needs a type, such as 1.0:f32"),
        ("sum %0", "sum 1.0:f99", "line 3: expected a type, not 'f99'"),
        ("%x, %y : f32", "%x, call @f(%y) : f32", "line 2: expected a value, not 'call'"),
        ("add %x, %y", "call @f(%x)", "line 2: @f is not defined"),
        ("kernel", "kernels", "line 1: expected a program: block, kernel, nest or partition"),
        ("}\n", "} }\n", "line 4: expected the end, not '}'"),
        ("}\n", "", "line 4: expected a line, but the text ends"),
        ("add %x, %y", "add %x, ~%y", "line 2: unexpected '~'"),
        ("add %x, %y", "fold %k < 3 as %a (ij)", "expected"),
    ],
)
def test_errors_name_the_line(before: str, after: str, message: str) -> None:
    text = LINES.replace(before, after, 1)
    with pytest.raises(TextError, match=r"^line ") as error:
        parse_pretty(text)
    assert message in str(error.value)


@given(st.text(alphabet=st.sampled_from(list(LINES + "<>@0123")), max_size=60))
def test_no_text_is_anything_but_a_program_or_an_error(text: str) -> None:
    for given_text in (text, LINES[:40] + text, LINES.replace("add", text)):
        with contextlib.suppress(TextError):
            parse_pretty(given_text)
