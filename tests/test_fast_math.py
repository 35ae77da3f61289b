"""Fast math on GPUs, as far as no GPU is needed: targets, fast functions, what a pair costs."""

from __future__ import annotations

import importlib
import json
import math
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

from redcomp.errors import ArgumentError, CompilerError
from redcomp.frontend.reductions import derivatives
from redcomp.interpret import interpret
from redcomp.ir import (
    I_BIT,
    STRUCTURAL,
    Block,
    Type,
    Value,
    elementwise,
    free_indices,
    topological,
    variable,
)
from redcomp.llvm_backend.code import Code
from redcomp.llvm_backend.emit import Emitter
from redcomp.lowering import Lowering
from redcomp.numpy import Genred
from redcomp.ops.table import OPERATIONS, Array, apply
from redcomp.passes.expand import expand_value
from redcomp.ptx.targets import APPROXIMATE, CAPABILITIES, TRIPLE, gpu_target
from redcomp.target import Target
from redcomp.verify import verify

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests" / "test_passes")]
measure_fast_math: Any = importlib.import_module("measure_fast_math")
pass_tools: Any = importlib.import_module("pass_tools")

ALIASES = ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)", "g = Pm(1)"]
GAUSSIAN = "Exp(-SqDist(x, y)) * b"
NUMPY = {"f32": np.float32, "f64": np.float64}


def genred(formula: str, **options: Any) -> Genred:
    used = [a for a in ALIASES if re.search(rf"\b{a[0]}\b", formula)]
    return Genred(formula, used, axis=1, **options)


def lowered(formula: str, dtype: str = "f32", target: str = "sm_90", **options: Any) -> Lowering:
    return genred(formula, **options).lower(dtype, target)


# -- targets --


@pytest.mark.parametrize("use_fast_math", [False, True])
@pytest.mark.parametrize("capability", CAPABILITIES, ids=lambda c: str(c.number))
def test_llvm_knows_every_target(capability: Any, use_fast_math: bool) -> None:
    target = gpu_target(f"sm_{capability.number}", use_fast_math)
    assert target.name == f"sm_{capability.number}"
    header = ptx(target, "").splitlines()
    version = target.features.removeprefix("+ptx")
    assert f".version {version[:-1]}.{version[-1]}" in header
    assert f".target {target.cpu}" in header
    if llvm.llvm_version_info[0] >= capability.llvm:
        assert (target.cpu, int(version)) == (target.name, capability.ptx)


def ptx(target: Target, body: str, *declarations: str) -> str:
    """The PTX of a kernel of this body, for a pointer %p to float32 numbers."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    text = "\n".join([f'target triple = "{TRIPLE}"', *declarations, ""])
    text += f"define ptx_kernel void @f(ptr addrspace(1) %p) {{\n{body}\nret void\n}}\n"
    machine = llvm.Target.from_triple(TRIPLE).create_target_machine(
        cpu=target.cpu, features=target.features, opt=3
    )
    return str(machine.emit_assembly(llvm.parse_assembly(text)))


@pytest.mark.parametrize(
    ("name", "falls_to"), [("sm_88", "sm_87"), ("sm_110", "sm_103"), ("sm_999", "sm_121")]
)
def test_later_gpu_runs_the_code_of_the_last_known_before_it(name: str, falls_to: str) -> None:
    assert gpu_target(name, True) == gpu_target(falls_to, True)


def test_older_llvm_writes_code_for_an_older_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llvm, "llvm_version_info", (20, 1, 8))
    target = gpu_target.__wrapped__("sm_121", False)
    assert (target.name, target.cpu, target.features) == ("sm_121", "sm_120", "+ptx87")


@pytest.mark.parametrize("name", ["sm_60", "sm_", "sm_9x", "sm_90a", "sm_-90"])
def test_unknown_gpu_is_refused(name: str) -> None:
    with pytest.raises(ArgumentError, match=r"target must be one of host, .* sm_70, .*, sm_121"):
        lowered(GAUSSIAN, target=name)


def test_lane_is_a_thread() -> None:
    target = gpu_target("sm_80", True)
    assert [target.lanes(dtype) for dtype in NUMPY] == [1, 1]


# The names of the instructions in PTX.
INSTRUCTIONS = {
    "exp2_approx": "ex2",
    "log2_approx": "lg2",
    "reciprocal_approx": "rcp",
    "sqrt_approx": "sqrt",
    "rsqrt_approx": "rsqrt",
    "sin_approx": "sin",
    "cos_approx": "cos",
}


@pytest.mark.parametrize("op", APPROXIMATE)
def test_operation_is_one_instruction(op: str) -> None:
    target = gpu_target("sm_75", True)
    x = variable("x", "i", 0, Type("f32"))
    value, code = elementwise(op, x), Code()
    emitter = Emitter(code, target, 1, free_indices([value]), lambda *_: "%x", lane_bit=I_BIT)
    emitter.emit([value])
    result = emitter.operand(value, 0, 0, True)
    load = "%x = load float, ptr addrspace(1) %p"
    store = f"store float {result}, ptr addrspace(1) %p"
    text = ptx(target, "\n".join([load, *code.lines, store]), *code.declarations.values())
    name = rf"{INSTRUCTIONS[op]}\.approx\.ftz\.f32"
    (instruction,) = re.findall(rf"\t{name}\s+(%\w+), (%\w+);", text)
    loaded = re.findall(r"ld\.global\.\w+\s+(%\w+)", text)
    stored = re.findall(r"st\.global\.\w+\s+\[\S+\], (%\w+)", text)
    assert instruction == (*stored, *loaded)


# -- when approximate instructions are used --


def approximate(lowering: Lowering) -> set[str]:
    return set(lowering.operations) & set(APPROXIMATE)


def test_fast_math_is_the_default_of_gpus_only() -> None:
    assert lowered(GAUSSIAN).context.use_fast_math is True
    assert lowered(GAUSSIAN, target="avx2").context.use_fast_math is False
    assert approximate(lowered(GAUSSIAN)) == {"exp2_approx"}
    assert not approximate(lowered(GAUSSIAN, use_fast_math=False))
    assert not approximate(lowered(GAUSSIAN, target="avx2", use_fast_math=True))


def test_doubles_are_never_approximate() -> None:
    formula = f"{GAUSSIAN} + Sin(b) / Sqrt(b + x | y) + Rsqrt(b) + Log(b) + Tanh(b)"
    assert not approximate(lowered(formula, "f64"))
    assert approximate(lowered(formula, "f32"))


def test_instruction_on_doubles_breaks_a_rule() -> None:
    x = variable("x", "i", 0, Type("f64"))
    with pytest.raises(CompilerError, match="takes f32, not f64"):
        verify(Block((x,), (elementwise("exp2_approx", x),)))


# -- what a pair costs --

# Negations are part of the instructions that use them.
COSTS: dict[str, dict[str, int]] = {
    GAUSSIAN: {"subtract": 3, "multiply": 1, "fma": 3, "exp2_approx": 1},
    "Exp(-SqDist(x, y) / 2) * b": {"subtract": 3, "multiply": 1, "fma": 3, "exp2_approx": 1},
    "Exp(-g * SqDist(x, y)) * b": {"subtract": 3, "multiply": 2, "fma": 3, "exp2_approx": 1},
    "Exp(-SqDist(x, y) / (2*g*g)) * b": {
        "subtract": 3, "multiply": 2, "fma": 3, "exp2_approx": 1
    },
    "Exp(-(x | y)) * b": {"multiply": 1, "fma": 3, "exp2_approx": 1},
    "Exp(g * (x | y)) * b": {"multiply": 1, "fma": 3, "exp2_approx": 1},
    "Exp(-SqDist(x, y) - 2 * (x | y))": {
        "subtract": 4, "multiply": 2, "fma": 4, "exp2_approx": 1, "add": 1
    },
    "Exp(-Norm2(x - y)) * b": {
        "subtract": 3, "multiply": 1, "fma": 3, "sqrt_approx": 1, "exp2_approx": 1
    },
    "b / (1 + SqDist(x, y))": {
        "subtract": 3, "multiply": 1, "fma": 3, "add": 1, "reciprocal_approx": 1
    },
}  # fmt: skip


def counted(lowering: Lowering) -> dict[str, int]:
    return {op: count for op, count in lowering.operations.items() if op != "negate"}


@pytest.mark.parametrize("formula", COSTS)
def test_what_a_pair_costs(formula: str) -> None:
    assert counted(lowered(formula)) == COSTS[formula]


def test_what_a_pair_of_a_gradient_costs() -> None:
    gradient = derivatives.gradient(genred(GAUSSIAN).reduction, (0,), (True,))
    counts = counted(gradient.lower("f32", "sm_90"))
    assert counts == {"subtract": 3, "multiply": 3, "fma": 5, "exp2_approx": 1}


@pytest.mark.parametrize("target", ["avx512", "avx2"])
@pytest.mark.parametrize("formula", [GAUSSIAN, "Exp(-g * SqDist(x, y)) * b", "Exp(-(x | y)) * b"])
def test_fast_math_costs_the_host_no_more(formula: str, target: str) -> None:
    fast, exact = (
        sum(lowered(formula, target=target, use_fast_math=fast).operations.values())
        for fast in (True, False)
    )
    assert fast < exact


# -- values --


@pytest.mark.parametrize(("dtype", "tolerance"), [("f32", 1e-5), ("f64", 1e-12)])
@pytest.mark.parametrize("formula", [*COSTS, "Tanh(x | y)", "Sigmoid(b - g) * Sin(x | y)"])
def test_compiled_for_a_gpu_a_formula_has_its_value(
    formula: str, dtype: str, tolerance: float
) -> None:
    lowering = lowered(formula, dtype)
    arrays = pass_tools.random_variables(lowering.kernel.params, np.random.default_rng(0))
    with np.errstate(all="ignore"):
        results = pass_tools.run_nest(lowering.nest, arrays, columns=7, tile=4)
    kernel = genred(formula).reduction.kernel("f64")
    wide = {name: array.astype(np.float64) for name, array in arrays.items()}
    (pairs,) = interpret([kernel.outputs[0].value], wide)
    pairs = np.broadcast_to(pairs, (5, 7, pairs.shape[-1]))
    scale = kernel.outputs[0].scale
    factor = 1.0 if scale is None else interpret([scale], wide)[0]
    largest = np.abs(pairs * factor).sum(axis=1, keepdims=True)
    error = np.abs(results[0] - (pairs * factor).sum(axis=1, keepdims=True))
    assert np.all(error <= tolerance * (largest + 1.0))


FAST = [row for row in OPERATIONS.values() if row.fast]
PRIMITIVES = gpu_target("sm_90", True).primitives


def expansion(op: str) -> Value:
    row = OPERATIONS[op]
    operands = [variable(f"v{k}", "i", k, Type("f32")) for k in range(row.arity)]
    return expand_value(apply(op, *operands), PRIMITIVES)


def values_at(op: str, *arrays: Array) -> Array:
    columns = {f"v{k}": array[:, None] for k, array in enumerate(arrays)}
    return interpret([expansion(op)], columns)[0][:, 0]


@pytest.mark.parametrize("row", FAST, ids=lambda row: row.name)
def test_fast_function_at_special_values(row: Any) -> None:
    positive = (0.0, 0.25, 1.0, 1.5, 2.0, 3.0, 100.0, math.inf)
    values = np.array([math.nan, *positive, *(-x for x in positive)], np.float32)
    points = [axis.ravel() for axis in np.meshgrid(*[values] * row.arity)]
    with np.errstate(all="ignore"):
        expected = row.evaluate(*points)
    found = values_at(row.name, *points)
    # The errors are of exponents up to 127, and absolute for sines; below 2**-126 all is 0.
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("op", "at", "expected"),
    [
        ("rsqrt", (1e-40,), 0.0),
        ("log", (1e-40,), -math.inf),
        ("divide", (1.0, 1e-39), math.inf),
        ("divide", (1e38, 2.0**127), 0.0),
        ("exp2", (-126.5,), 0.0),
        ("sqrt", (1e-40,), 0.0),
    ],
)
def test_subnormal_numbers_are_zeros(op: str, at: tuple[float, ...], expected: float) -> None:
    found = values_at(op, *(np.array([x], np.float32) for x in at))
    np.testing.assert_array_equal(found, [expected])


@pytest.mark.parametrize("op", ["sqrt", "divide"])
def test_roots_and_quotients_keep_the_sign_of_zero(op: str) -> None:
    zeros = np.array([0.0, -0.0], np.float32)
    ones = [np.ones(2, np.float32)] * (OPERATIONS[op].arity - 1)
    np.testing.assert_array_equal(np.signbit(values_at(op, zeros, *ones)), [False, True])


# -- the page of errors --

LINE = re.compile(r"^\| (\w+) \| .* \| 2\^(\S+) \| ", re.MULTILINE)


def stated() -> dict[str, float]:
    text = (ROOT / "docs" / "fast-math.md").read_text(encoding="utf-8")
    return {found[1]: float(found[2]) for found in LINE.finditer(text)}


def test_page_is_made_of_the_stored_tables() -> None:
    tables = json.loads(measure_fast_math.TABLES.read_text(encoding="utf-8"))
    page = measure_fast_math.PAGE.read_text(encoding="utf-8")
    assert page == measure_fast_math.page(tables), "run scripts/measure_fast_math.py offsets"


def test_page_has_every_function_that_becomes_approximate() -> None:
    measured = measure_fast_math.measured()
    missing = {OPERATIONS[op].spelling for op in measured} ^ set(stated())
    assert not missing, f"{missing}: run scripts/measure_fast_math.py functions"


def test_rows_say_where_the_errors_of_fast_math_are_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stairs = set(measure_fast_math.approximate()) - set(measure_fast_math.measured())
    assert stairs == {"mod", "round"}
    without = replace(OPERATIONS["exp"], fast_range=None)
    monkeypatch.setitem(OPERATIONS, "exp", without)
    with pytest.raises(AssertionError, match=r"'exp' becomes .* its row .* in which `fast_range`"):
        measure_fast_math.measured()


@pytest.mark.sampled(6)
@pytest.mark.parametrize("op", measure_fast_math.measured())
def test_errors_are_those_of_the_page(op: str) -> None:
    found = measure_fast_math.measure(op, 200_000)
    exponent = stated()[OPERATIONS[op].spelling]
    assert exponent - 0.6 < math.log2(found.error) < exponent + 0.06, found


def test_measured_instructions_err_as_documented() -> None:
    x = np.linspace(0.6, 3.0, 1000, dtype=np.float32)
    before = OPERATIONS["exp2_approx"]
    with measure_fast_math.inexact(0):
        moved = OPERATIONS["exp2_approx"].value(x)
    assert OPERATIONS["exp2_approx"] is before
    relative = np.abs(moved / np.exp2(x.astype(np.float64)) - 1)
    assert 0.5 * before.error.relative < relative.min()
    assert relative.max() < 1.5 * before.error.relative


@pytest.mark.parametrize("row", FAST, ids=lambda row: row.name)
def test_fast_form_is_in_primitives(row: Any) -> None:
    parts = list(topological([expansion(row.name)]))
    assert {part.op for part in parts} <= PRIMITIVES | STRUCTURAL
    assert any(part.op in APPROXIMATE for part in parts)
