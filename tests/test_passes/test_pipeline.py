"""Pipelines as text, and passes by name: no backend needed."""

from __future__ import annotations

import pytest
from pass_tools import EXACT, kernel_text

from redcomp.compile import PIPELINE
from redcomp.errors import ArgumentError, CompilerError
from redcomp.ir import Kernel, Nest
from redcomp.passes.pipeline import PASSES, Step, parse_pipeline, run_pipeline, stage_names
from redcomp.text import parse_kernel

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


def test_each_pass_of_the_compiler_is_known_by_the_name_of_its_module() -> None:
    for step in PIPELINE:
        assert PASSES[step.name].function.__module__ == f"redcomp.passes.{step.name}"


def test_names_of_stages_do_not_count() -> None:
    names = stage_names(parse_pipeline("simplify,cse,simplify,hoist,cse"))
    assert names == ("simplify", "cse", "simplify-after-cse", "hoist", "cse-after-hoist")
    assert len(set(stage_names(PIPELINE))) == len(PIPELINE)


def test_stages_of_a_kernel_are_programs() -> None:
    program: Kernel | Nest = parse_kernel(LONG_VECTOR)
    for step in PIPELINE:
        program = step(program, EXACT)
    assert isinstance(program, Nest)
