"""What the text of kernels for GPUs has in its pair loop, and what it must not have: no backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
from ptxsim import Loop, Module, loops, parse
from ptxsim.syntax import Instruction

from redcomp.backends.gpu import GpuLowering
from redcomp.numpy import Genred
from redcomp.ptx.mma import PRODUCTS

TARGETS = ("sm_75", "sm_80", "sm_90", "sm_100", "sm_120")
# The first version of PTX that has each of them: PTX ISA, section "Release Notes".
VERSIONS = {"sm_75": "6.3", "sm_80": "7.0", "sm_90": "7.8", "sm_100": "8.6", "sm_120": "8.7"}
WIDTHS = {"float32": "v4", "float64": "v2"}  # of 16 bytes


class Case(NamedTuple):
    """A formula of short vectors whose reduction has no rare branch."""

    formula: str
    aliases: tuple[str, ...]
    options: Mapping[str, Any] = {}

    def lowering(self, dtype: str, target: str) -> GpuLowering:
        operation = Genred(self.formula, list(self.aliases), axis=1, **self.options)
        made = operation.lower(dtype, target=target)
        assert isinstance(made, GpuLowering)
        return made


POINTS = ("x = Vi(3)", "y = Vj(3)", "b = Vj(1)")
GAUSSIAN = "Exp(-SqDist(x, y)) * b"
CASES = {
    "gaussian": Case(GAUSSIAN, POINTS),
    "gaussian of a width": Case("Exp(-g * SqDist(x, y)) * b", (*POINTS, "g = Pm(1)")),
    "laplacian": Case("Exp(-Norm2(x - y)) * b", POINTS),
    "cauchy": Case("Inv(1 + SqDist(x, y)) * b", POINTS),
    "vectors": Case("Exp(-SqDist(x, y)) * v", (*POINTS[:2], "v = Vj(4)")),
    "gradient": Case(f"Grad({GAUSSIAN}, x, e)", (*POINTS, "e = Vi(1)")),
    "extremum": Case("SqDist(x, y)", POINTS[:2], {"reduction_op": "Min"}),
    "sines": Case("Sin(x | y) * b", POINTS),
    "seed": Case("Square(p - a) * Exp(x + y)", (*POINTS[:2], "a = Vj(1)", "p = Pm(1)")),
    "16 components": Case(GAUSSIAN, ("x = Vi(16)", "y = Vj(16)", "b = Vj(1)")),
    "given pairs": Case("Exp(-SqDist(x, y)) * w", (*POINTS[:2], "w = Vij(1)")),
}
# Of the pairs' own values: where a value is in memory needs 64 bits.
WITH_GLOBAL = {"given pairs"}

on_targets = pytest.mark.parametrize("target", TARGETS)
of_dtypes = pytest.mark.parametrize("dtype", list(WIDTHS))
of_cases = pytest.mark.parametrize("name", CASES)


def pair_loop(module: Module, kernel: str = "redcomp_run") -> Loop:
    """The innermost loop with most arithmetic: the whole steps over columns."""
    found = [loop for loop in loops(module.kernels[kernel]) if loop.is_innermost]
    return max(found, key=lambda loop: sum(map(is_arithmetic, loop.instructions)))


def is_arithmetic(instruction: Instruction) -> bool:
    return any(type_ in ("f32", "f64") for type_ in instruction.types)


def is_wide_integer(instruction: Instruction) -> bool:
    """Arithmetic on integers of 64 bits, which takes two instructions and more."""
    is_wide = any(type_ in ("s64", "u64", "b64") for type_ in instruction.types)
    return "wide" in instruction.modifiers or (is_wide and instruction.base not in ("ld", "mov"))


@pytest.mark.sampled(390)
@on_targets
@of_dtypes
@of_cases
def test_pair_loop_has_nothing_but_arithmetic(name: str, dtype: str, target: str) -> None:
    """Shared memory is read by vectors; one branch, no call, no stack, no address of 64 bits.

    Products of matrices take single elements besides, each of which serves all rows.
    """
    lowering = CASES[name].lowering(dtype, target)
    loop = pair_loop(parse(lowering.asm))
    listed = "\n".join(instruction.text for instruction in loop.instructions)
    bases = [instruction.base for instruction in loop.instructions]
    loads = [i for i in loop.instructions if i.base == "ld"]
    shared = [i for i in loads if "shared" in i.modifiers]
    assert bases.count("bra") == 1, listed
    assert {"call", "st", "bar", "vote", "shfl", "cp"}.isdisjoint(bases), listed
    assert not any("local" in i.modifiers for i in loads), listed
    others = [i for i in loads if i not in shared]
    if lowering.nest.products:
        single = [i for i in shared if {"v2", "v4"}.isdisjoint(i.modifiers)]
        product, schedule = PRODUCTS[lowering.nest.dtype], lowering.schedule
        of_rows = len(product.terms) * schedule.rows // product.rows
        assert len(single) * of_rows == bases.count("mma") * len(product.b), listed
        shared = [i for i in shared if i not in single]
    columns = [f"v{n}" for n in (2, 4) if any(f"v{n}" in i.modifiers for i in shared)]
    assert columns, listed
    # One load of 16 bytes for each 16 bytes of the step's columns.
    assert sum(WIDTHS[dtype] in i.modifiers for i in shared) * 2 > len(shared), listed
    if name in WITH_GLOBAL:
        assert len(others) == lowering.schedule.rows * lowering.schedule.cols, listed
        assert all("global" in i.modifiers for i in others), listed
        return
    assert others == [], listed
    if dtype == "float32":
        assert [i.text for i in loop.instructions if is_wide_integer(i)] == []
        assert not any("f64" in i.types for i in loop.instructions), listed


@pytest.mark.sampled(4)
@on_targets
def test_pair_loop_of_the_gaussian(target: str) -> None:
    """By hand: for each pair 3 differences, 1 product, 2 multiply-adds, 1 exponential, the sum."""
    lowering = CASES["gaussian"].lowering("float32", target)
    pairs = lowering.schedule.rows * lowering.schedule.cols
    counts = pair_loop(parse(lowering.asm)).opcodes
    assert counts["sub.rn.f32"] == counts["fma.rn.f32"] == 3 * pairs
    assert counts["mul.rn.f32"] == counts["ex2.approx.ftz.f32"] == pairs
    assert counts["ld.shared.v4.b32"] == lowering.schedule.cols


@pytest.mark.sampled(20)
@on_targets
@of_cases
def test_tiles_are_copied_without_registers_where_gpus_can(name: str, target: str) -> None:
    (code,) = (
        function.body
        for kernel, function in parse(CASES[name].lowering("float32", target).asm).kernels.items()
        if kernel == "redcomp_run"
    )
    copies = [i for i in code if i.base == "cp" and "async" in i.modifiers]
    waits = [i for i in copies if "wait_all" in i.modifiers]
    if target == "sm_75":
        assert copies == []
        assert any(i.base == "st" and "shared" in i.modifiers for i in code)
    else:
        assert len(waits) == 1
        assert len(copies) > len(waits)


@pytest.mark.sampled(60)
@on_targets
@of_cases
def test_text_is_for_the_oldest_driver_and_has_no_debris(name: str, target: str) -> None:
    lowering = CASES[name].lowering("float32", target)
    module = parse(lowering.asm)
    assert (module.version, module.target) == (VERSIONS[target], target)
    numbers = ["", *(f"_{n}" for n in range(1, len(lowering.planned)))]
    expected = {f"redcomp_{stem}{n}" for stem in ("run", "join") for n in numbers}
    assert set(module.kernels) == expected
    assert module.functions == {}
    assert module.variables == {}
    for function in module.kernels.values():
        used = {s for i in function.body for operand in i.operands for s in operand.symbols()}
        variables = {v.name for v in function.variables.values() if v.space != "param"}
        assert variables <= used
        assert {v.space for v in function.variables.values()} <= {"param", "shared"}


def test_version_is_that_of_the_target_where_there_are_several() -> None:
    """A GPU between two known ones gets the code of the one before it."""
    operation = Genred(CASES["gaussian"].formula, list(CASES["gaussian"].aliases), axis=1)
    module = parse(operation.reduction.lower("f32", "sm_88").asm)
    assert (module.version, module.target) == ("7.4", "sm_87")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("add.s64 %rd1, %rd1, 4;", True),
        ("mad.wide.s32 %rd1, %r1, 4, %rd1;", True),
        ("cvta.to.global.u64 %rd1, %rd1;", True),
        ("ld.global.b64 %rd1, [%rd1];", False),
        ("fma.rn.f32 %f1, %f1, %f1, %f1;", False),
    ],
)
def test_wide_integers_are_seen(line: str, found: bool) -> None:
    opcode, _, _ = line.partition(" ")
    assert is_wide_integer(Instruction(0, line, opcode)) == found
