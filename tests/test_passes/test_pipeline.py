"""Pipelines as text, and passes by name: no backend needed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pass_tools import EXACT, kernel_text

from redcomp.compile import PIPELINE
from redcomp.errors import ArgumentError, CompilerError
from redcomp.frontend.reductions import derivatives
from redcomp.frontend.reductions.pair_reduction import PairReduction
from redcomp.ir import AnyProgram, Nest, Partition
from redcomp.numpy import Genred
from redcomp.passes.pipeline import PASSES, Step, parse_pipeline, run_pipeline, stage_names
from redcomp.text import parse_kernel, print_program

LONG_VECTOR = kernel_text(
    "x i vector<12xf32>, y j vector<12xf32>",
    '%0 = "redcomp.multiply"(%x, %y) : (vector<12xf32>, vector<12xf32>) -> vector<12xf32>',
    "%0: vector<12xf32>",
)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("", ()),
        ("  ", ()),
        ("cse", (Step("cse"),)),
        (" simplify , cse", (Step("simplify"), Step("cse"))),
        ("cse{}", (Step("cse"),)),
        (
            "scalarize{states=4 lists=1},cse",
            (Step("scalarize", (("states", 4), ("lists", 1))), Step("cse")),
        ),
        ("scalarize { operands=3 }", (Step("scalarize", (("operands", 3),)),)),
    ],
)
def test_pipelines_are_read(text: str, steps: tuple[Step, ...]) -> None:
    assert parse_pipeline(text) == steps


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("csee", "unknown pass 'csee'; known ones: .*cse"),
        ("cse,,cse", "it cannot be read from ',cse' on"),
        ("cse{", "it cannot be read from 'cse{' on"),
        ("scalarize{states=4", "cannot be read from"),
        ("scalarize{width=4}", "pass 'scalarize' has no option 'width'; it has operands, states"),
        ("cse{a=1}", "pass 'cse' has no option 'a'; it has none"),
        ("scalarize{states=few}", "'states' of pass 'scalarize' must be of type int, not 'few'"),
        ("scalarize{states}", "must be of type int, not ''"),
    ],
)
def test_what_is_no_pipeline_is_named(text: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        parse_pipeline(text)


def test_options_reach_the_pass() -> None:
    def states(pipeline: str) -> int:
        nest = run_pipeline(parse_pipeline(pipeline), parse_kernel(LONG_VECTOR), EXACT)
        assert isinstance(nest, Nest)
        return len(nest.states)

    assert states("accumulate,scalarize{states=4}") == 1
    assert states("accumulate,scalarize{states=12}") == 12


def test_passes_take_one_kind_of_program() -> None:
    kernel = parse_kernel(LONG_VECTOR)
    with pytest.raises(CompilerError, match="pass 'hoist' takes a nest of loops, not a kernel"):
        run_pipeline(parse_pipeline("hoist"), kernel, EXACT)
    nest = run_pipeline(parse_pipeline("accumulate"), kernel, EXACT)
    with pytest.raises(CompilerError, match="pass 'factor' takes a kernel, not a nest of loops"):
        run_pipeline(parse_pipeline("factor"), nest, EXACT)


def test_passes_run_on_each_part() -> None:
    kernel = parse_kernel(LONG_VECTOR)
    divided = "accumulate,scalarize{states=12},partition{most=5}"
    one_by_one = run_pipeline(parse_pipeline(f"{divided},simplify,hoist"), kernel, EXACT)
    assert isinstance(one_by_one, Partition)
    assert [part.carried for part in one_by_one.parts] == [4, 4, 4]
    before = run_pipeline(parse_pipeline(divided), kernel, EXACT)
    assert isinstance(before, Partition)
    for part, done in zip(before.parts, one_by_one.parts, strict=True):
        nest = run_pipeline(parse_pipeline("simplify,hoist"), part.nest, EXACT)
        assert print_program(done.nest) == print_program(nest)
        assert done.pieces == part.pieces
    for pipeline, message in (
        ("factor", "pass 'factor' takes a kernel, not a nest of loops"),
        ("partition{most=1}", "pass 'partition' takes a whole nest of loops, not its parts"),
    ):
        with pytest.raises(CompilerError, match=message):
            run_pipeline(parse_pipeline(pipeline), before, EXACT)
    with pytest.raises(ArgumentError, match="a part has at least one state, not 0"):
        run_pipeline(parse_pipeline("accumulate,partition{most=0}"), kernel, EXACT)


def test_each_pass_of_the_compiler_is_known_by_the_name_of_its_module() -> None:
    for step in PIPELINE:
        assert PASSES[step.name].function.__module__ == f"redcomp.passes.{step.name}"


def test_names_of_stages_do_not_count() -> None:
    names = stage_names(parse_pipeline("simplify,cse,simplify,hoist,cse"))
    assert names == ("simplify", "cse", "simplify-after-cse", "hoist", "cse-after-hoist")
    assert len(set(stage_names(PIPELINE))) == len(PIPELINE)


def test_stages_of_a_kernel_are_programs() -> None:
    program: AnyProgram = parse_kernel(LONG_VECTOR)
    for step in PIPELINE:
        program = step(program, EXACT)
    assert isinstance(program, Nest)


ALIASES = ["x = Vi(3)", "y = Vj(3)", "b = Vj(2)"]


@pytest.mark.parametrize(
    ("pipeline", "derived"),
    [
        ("for_derivatives", derivatives.for_derivatives),
        ("gradient{wrt=0}", lambda r: derivatives.gradient(r, (0,), (True,))),
        ("gradient{wrt=0 given=0}", lambda r: derivatives.gradient(r, (0,), (True,))),
        ("gradient{wrt=1,2},transpose", lambda r: derivatives.gradient(r, (1, 2), (True,))),
        ("differential{wrt=0,2}", lambda r: derivatives.differential(r, (0, 2))),
    ],
)
@pytest.mark.parametrize("reduction", ["Sum", "Max_SumShiftExpWeight", "Max_ArgMax"])
def test_derivatives_are_passes(
    pipeline: str, derived: Callable[[PairReduction], PairReduction], reduction: str
) -> None:
    weights = {"formula2": "b"} if "Weight" in reduction else {}
    formula = "Exp(-SqDist(x, y))" if weights else "Exp(-SqDist(x, y)) * b"
    made = Genred(formula, ALIASES, reduction, axis=1, **weights).reduction
    kept = derivatives.for_derivatives(made)
    steps = parse_pipeline(f"{pipeline},cse")
    text = print_program(run_pipeline(steps, kept.untransposed("f32"), EXACT))
    again = run_pipeline(parse_pipeline("cse"), derived(kept).kernel("f32"), EXACT)
    assert text == print_program(again)


def test_arguments_of_derivatives_are_checked() -> None:
    kernel = parse_kernel(LONG_VECTOR)
    with pytest.raises(
        ArgumentError, match=r"pass 'gradient' needs the option 'wrt': gradient\{wrt"
    ):
        parse_pipeline("gradient")
    with pytest.raises(ArgumentError, match="there is no number 2 among 2 arguments"):
        run_pipeline(parse_pipeline("gradient{wrt=2}"), kernel, EXACT)
    with pytest.raises(ArgumentError, match="'wrt' of pass 'gradient' must be of type tuple"):
        parse_pipeline("gradient{wrt=x}")
