"""The work of a compilation grows as its formula does, and vectors do not multiply it: no backend.

What is counted is calls of functions, since times are different on each machine.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

import llvmlite.binding as llvm
import pytest

from redcomp import compile as compiler
from redcomp.frontend.reductions import derivatives
from redcomp.frontend.reductions.genred import reducer_of_formulas
from redcomp.frontend.reductions.pair_reduction import PairReduction
from redcomp.llvm_backend import code_generation
from redcomp.llvm_backend.code import Code
from redcomp.llvm_backend.host.schedule import loops_of
from redcomp.llvm_backend.host.targets import host_target
from redcomp.numpy import Genred

Formula = Callable[[int], str]

# A formula of n terms, factors or levels.
GROWING: dict[str, Formula] = {
    "sum of Gaussians": lambda n: "+".join(f"Exp(-IntCst({k + 1})*SqDist(x,y))" for k in range(n)),
    "sum of unlike terms": lambda n: "+".join(
        f"Exp(-IntCst({k + 1})*SqDist(x,y))+SqDist(x,y)*IntCst({k + 1})" for k in range(n // 2)
    ),
    "nested sines": lambda n: n * "Sin(" + "(x|y)" + n * ")",
    "product": lambda n: "*".join(n * ["(x|y)"]),
    "alternating": lambda n: n * "(Sqrt(Abs(" + "(x|y)" + n * "))+1)",
}

# Each is to be compiled as soon as a long vector's: a few loops instead of many operations.
OF_A_VECTOR = {
    "gradient of a power": "Powf(Sum(Powf(Abs(x-y),p)),Inv(p))",
    "gradient of a quadratic form": "SymSqNorm(A,x-y)",
    "gradient of a Matern kernel": "(1+Norm2(x-y))*Exp(-Norm2(x-y))",
}


def reduction_of(formula: str, dim: int = 3) -> PairReduction:
    declared = {"x": f"Vi({dim})", "y": f"Vj({dim})", "p": "Pm(1)", "A": f"Pm({dim * dim})"}
    aliases = [f"{name}={kind}" for name, kind in declared.items() if name in formula]
    return Genred(formula, aliases, axis=1).reduction


def calls_of(reduction: PairReduction, target: str) -> int:
    """How many functions are called from the kernel to LLVM's text."""
    kernel = reduction.kernel("f32")
    lowering = compiler.lower(kernel, target)
    return calls_within(lambda: lowering.module_text)


def calls_within(function: Callable[[], object]) -> int:
    count = 0

    def counted(frame: object, event: str, arg: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(counted)
    try:
        assert function()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.sampled(16)
@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("name", GROWING)
def test_work_grows_as_the_formula_does(name: str, order: int) -> None:
    def calls(n: int) -> int:
        reduction = reduction_of(GROWING[name](n))
        for _ in range(order):
            reduction = derivatives.gradient(reduction, (0,), (True,))
        return calls_of(reduction, "avx512")

    calls(3)  # what is worked out once a process
    assert calls(60) < 2.2 * calls(30)


def loops_within_loops(n: int) -> PairReduction:
    """Each loop needs the result of the one before it."""
    return reduction_of(n * "Sum(Sin(y*" + "x" + n * "))", 20)


@pytest.mark.thorough
def test_loops_are_ordered_in_linear_time() -> None:
    def compared(n: int) -> int:
        lowering = compiler.lower(loops_within_loops(n).kernel("f32"), "avx512")
        _ = lowering.nest
        return calls_within(lambda: lowering.module_text)

    compared(3)
    assert compared(80) < 2.2 * compared(40)


def test_loops_start_at_records_that_llvm_does_not_advance() -> None:
    """LLVM's reduction of strength would carry the start of each loop through the loop around."""
    text = compiler.lower(loops_within_loops(3).kernel("f32"), "avx512").module_text
    records = re.findall(r"(%v\d+) = getelementptr inbounds float, ptr %(?:rows|columns), ", text)
    assert records
    for record in set(records):
        assert f"call ptr @llvm.launder.invariant.group.p0(ptr {record})" in text
    short = compiler.lower(reduction_of("SqDist(x,y)").kernel("f32"), "avx512").module_text
    assert "launder" not in short


@pytest.mark.thorough
def test_loops_are_divided_as_fast_as_there_are_lists() -> None:
    """Each list has a guard and several states, and each of many pair loops keeps its own."""

    def calls(dim: int) -> int:
        aliases = [f"x=Vi({dim})", f"y=Vj({dim})"]
        reduction = Genred("x*y", aliases, reduction_op="KMin", opt_arg=5, axis=1).reduction
        nest = compiler.lower(reduction.kernel("f32"), "avx512").nest
        return calls_within(lambda: loops_of(nest))

    assert calls(30) < 2.5 * calls(15)


@pytest.mark.thorough
def test_no_function_merges_all_lists() -> None:
    """LLVM's time grows with the square of a function without branches: 98 lists took minutes."""

    def longest_function(dim: int) -> int:
        aliases = [f"x=Vi({dim})", f"y=Vj({dim})"]
        reduction = Genred("x*y", aliases, reduction_op="KMin", opt_arg=20, axis=1).reduction
        text = reduction.lower("f32", "avx512", 5).module_text
        return max(function.count("\n") for function in text.split("define internal void @"))

    assert longest_function(40) < 1.5 * longest_function(20)


@pytest.mark.sampled(6)
@pytest.mark.parametrize(("target", "most"), [("avx512", 1.1), ("sm_90", 50 / 17)])
@pytest.mark.parametrize("wrt", [0, 2])
def test_tables_of_alignments_are_not_written_out(wrt: int, target: str, most: float) -> None:
    """GPUs write the gradient's components out, but not the table's, which are 9 times as many."""

    def calls(dim: int) -> int:
        aliases = [f"x=Vi({dim})", f"y=Vj({dim})", "g=Pm(1)"]
        reduction = Genred("SoftDTW_SqDist(x,y,g)", aliases, axis=1).reduction
        return calls_of(derivatives.gradient(reduction, (wrt,), (True,)), target)

    calls(17)
    assert calls(50) < most * calls(17)


# Calls of functions for each operation that is compiled, with every pass verified.
EFFORT = {"sum of Gaussians": 470, "nested sines": 290}


@pytest.mark.sampled(6)
@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("name", EFFORT)
def test_an_operation_takes_few_calls(name: str, order: int) -> None:
    def reduction(n: int) -> PairReduction:
        made = reduction_of(GROWING[name](n))
        for _ in range(order):
            made = derivatives.gradient(made, (0,), (True,))
        return made

    calls_of(reduction(3), "avx512")  # what is worked out once a process
    long = reduction(60)
    operations = sum(compiler.lower(long.kernel("f32"), "avx512").operations.values())
    assert calls_of(long, "avx512") < EFFORT[name] * operations


def test_derivatives_of_a_sum_share_what_its_terms_have_in_common() -> None:
    """Each Gaussian has a distance of its own in the text, whose derivative is a vector."""
    reduction = reduction_of(GROWING["sum of Gaussians"](60))
    counts = []
    for _ in range(3):
        lowering = compiler.lower(reduction.kernel("f32"), "avx512")
        counts.append(sum(lowering.operations.values()))
        reduction = derivatives.gradient(reduction, (0,), (True,))
    assert counts[1] < 1.1 * counts[0]
    assert counts[2] < 1.4 * counts[0]


def operations_of(reduction: PairReduction) -> list[int]:
    """How many operations each kernel has."""
    lowered = [compiler.lower(part.kernel("f32"), "avx512") for part in reduction.parts]
    return [sum(lowering.operations.values()) for lowering in lowered]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", EFFORT)
def test_derivatives_of_all_orders_are_two_kernels(name: str) -> None:
    """Those of x and those of y are one function, which is differentiated as a whole."""
    counts = []
    together = apart = reduction_of(GROWING[name](20))
    for _ in range(3):
        positions = sorted(
            range(len(together.parameters)), key=lambda n: together.parameters[n].kind
        )
        together = derivatives.gradient(together, tuple(positions), (True,) * len(together.results))
        counts.append(operations_of(together))
        apart = derivatives.gradient(apart, (0,), (True,) * len(apart.results))
        (alone,) = operations_of(apart)
        assert len(counts[-1]) == 2
        assert max(counts[-1]) < 1.8 * alone


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", OF_A_VECTOR)
def test_vectors_of_9_to_16_components_cost_no_more_than_long_ones(name: str) -> None:
    def calls(dim: int) -> int:
        gradient = derivatives.gradient(reduction_of(OF_A_VECTOR[name], dim), (0,), (True,))
        return calls_of(derivatives.gradient(gradient, (0,), (True,)), "avx512")

    calls(40)
    # They are written out once to see whether that is short, which vectors of 40 never are.
    trial = 12_000
    assert max(calls(9), calls(16)) < 1.15 * calls(40) + trial


def tower(height: int) -> str:
    """Extrema of gradients, whose guards are made of the guards below."""
    formula = "x-y"
    for _ in range(height):
        formula = f"Max(Grad(({formula})*x,x,y))*x"
    return formula


@pytest.mark.sampled(4)
@pytest.mark.parametrize("target", ["avx512", "sm_90"])
@pytest.mark.parametrize(("height", "combines"), [(1, True), (6, False)])
def test_llvm_does_not_combine_many_conditions(height: int, combines: bool, target: str) -> None:
    """Its time grows faster than their number, to minutes within the limits of a module."""
    lowering = compiler.lower(reduction_of(tower(height), 2).kernel("f32"), target)
    _, target_of_module = lowering.given_llvm
    assert ("instruction_combine" in target_of_module.llvm_passes) is combines
    assert "loop_rotate" in target_of_module.llvm_passes


@pytest.mark.parametrize(("loops", "rotates"), [(100, True), (101, False)])
def test_llvm_does_not_rotate_many_loops(loops: int, rotates: bool) -> None:
    """Each rotation costs what all loops beside it do: 1,672 of them took 14 s."""
    target = host_target("avx2")
    code = Code()
    for _ in range(loops):
        with code.loop(0, 5, 1):
            pass
    passes = code_generation.for_module(target, "\n".join(code.lines)).llvm_passes
    assert ("loop_rotate" in passes) is rotates
    assert "instruction_combine" in passes


@pytest.mark.sampled(4)
@pytest.mark.parametrize("target", ["avx512", "sm_90"])
@pytest.mark.parametrize("height", [1, 3])
def test_conditions_are_counted_as_llvm_reads_them(height: int, target: str) -> None:
    lowering = compiler.lower(reduction_of(tower(height), 2).kernel("f32"), target)
    text = lowering.module_text
    code_generation.initialize()
    with llvm.create_context() as context, llvm.parse_assembly(text, context) as module:
        operations = [
            instruction
            for function in module.functions
            for block in function.blocks
            for instruction in block.instructions
            if instruction.opcode in ("and", "or", "xor")
            and str(instruction.type).strip("<>").endswith("i1")
        ]
        assert code_generation.conditions(text) == len(operations)
    assert operations or height == 1


def test_what_is_derived_is_lowered_in_one_dtype() -> None:
    """A derivative of what has been computed in float32 needs no kernel in float64."""
    reducer_of_formulas.cache_clear()
    reduction = reduction_of("Exp(-SqDist(x,y))")
    reduction.kernel("f32")
    first = derivatives.gradient(reduction, (0,), (True,))
    first.kernel("f32")
    second = derivatives.gradient(first, (1,), (True,))
    second.kernel("f32")
    assert [list(made._kernels) for made in (first, second)] == [["f32"], ["f32"]]
    reducer_of_formulas.cache_clear()
    described = derivatives.gradient(reduction_of("Exp(-SqDist(x,y))"), (0,), (True,))
    assert described.described == "f64"
    assert described.parameters == first.parameters
