"""The command line: needs the CPU's backend, because it shows machine code."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from redcomp.__main__ import find_stage, main, short_name
from redcomp.errors import ArgumentError
from redcomp.frontend.reductions import derivatives
from redcomp.numpy import Genred
from redcomp.ops.reductions import usual_spellings
from redcomp.ptx import assemble
from redcomp.ptx.assemble import ToolError

pytestmark = pytest.mark.slow

GAUSSIAN = "Exp(-SqDist(x, y)) * b"
ALIASES = ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)"]
SHOW = ["show", GAUSSIAN, *ALIASES, "--target", "avx512"]

TWICE = """\
"redcomp.kernel"() ({
^bb0(%x: f32, %y: f32):
  %0 = "arith.addf"(%x, %y) : (f32, f32) -> f32
  %1 = "arith.addf"(%x, %y) : (f32, f32) -> f32
  %2 = "arith.constant"() {value = 1.0 : f32} : () -> f32
  %3 = "arith.mulf"(%0, %2) : (f32, f32) -> f32
  %4 = "arith.divf"(%3, %1) : (f32, f32) -> f32
  "redcomp.yield"(%4) : (f32) -> ()
}) {counts = array<i64: 0>, kinds = ["i", "j"], names = ["x", "y"], \
positions = array<i64: 0, 1>, reductions = ["sum"], scaled = [false]} : () -> ()
"""
ONCE = """\
"redcomp.kernel"() ({
^bb0(%x: f32, %y: f32):
  %0 = "arith.addf"(%x, %y) : (f32, f32) -> f32
  %1 = "arith.divf"(%0, %0) : (f32, f32) -> f32
  "redcomp.yield"(%1) : (f32) -> ()
}) {counts = array<i64: 0>, kinds = ["i", "j"], names = ["x", "y"], \
positions = array<i64: 0, 1>, reductions = ["sum"], scaled = [false]} : () -> ()
"""

Captured = pytest.CaptureFixture[str]


def stages() -> dict[str, str]:
    """The stages that `SHOW` is about."""
    return Genred(GAUSSIAN, ALIASES, axis=1).lower("float32", "avx512").stages


def test_show_explains_without_a_stage(capsys: Captured) -> None:
    assert main(SHOW) == 0
    out = capsys.readouterr().out
    assert f"formula    {GAUSSIAN}" in out
    assert "schedule   16 lanes" in out
    assert "the step of the pair loop:" in out


@pytest.mark.sampled(18)
@pytest.mark.parametrize(
    ("wanted", "full"),
    [
        ("kernel", "kernel"),
        ("hoist", "hoist"),
        ("module", "module.4x2.ll"),
        ("llvm", "llvm.4x2.ll"),
        ("asm", "asm.4x2.s"),
        ("simplify-after-scalarize", "simplify-after-scalarize"),
    ],
)
def test_show_prints_one_stage(capsys: Captured, wanted: str, full: str) -> None:
    assert main([*SHOW, "--stage", wanted]) == 0
    assert capsys.readouterr().out == stages()[full].rstrip("\n") + "\n"


def test_show_prints_all_stages_in_order(capsys: Captured) -> None:
    assert main([*SHOW, "--stage", "all"]) == 0
    out = capsys.readouterr().out
    titles = [line for line in out.splitlines() if line.startswith("==== ")]
    assert titles == [f"==== {name} ====" for name in stages()]
    assert stages()["hoist"] in out


def test_stages_have_names_of_their_own() -> None:
    names = dict.fromkeys(["kernel", "simplify", "cse", "simplify-after-cse", "module.4x2.ll"], "")
    assert find_stage("simplify", names) == "simplify"
    assert find_stage("simplify-after-cse", names) == "simplify-after-cse"
    assert find_stage("module", names) == "module.4x2.ll"
    assert short_name("module.4x2.ll") == "module"
    with pytest.raises(
        ArgumentError,
        match="known ones: kernel, simplify, cse, simplify-after-cse, module, pair-loop, all",
    ):
        find_stage("parse", names)


@pytest.mark.sampled(6)
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--dtype", "float64"], "f64"),
        (["--axis", "0"], "sum over j of f32"),
        (["--dtype", "f32", "--reduction", "Sum"], "f32"),
        (["--reduction", "KMin", "--opt-arg", "5"], "kmin over j of f32"),
        (["--reduction", "SoftMax", "--formula2", "y"], "softmax over j of vector<4xf32>"),
    ],
)
def test_show_takes_options(capsys: Captured, options: list[str], expected: str) -> None:
    assert main([*SHOW, *options]) == 0
    assert expected in capsys.readouterr().out


def test_help_lists_the_reductions(capsys: Captured) -> None:
    with pytest.raises(SystemExit):
        main(["show", "--help"])
    shown = capsys.readouterr().out
    assert [name for name in usual_spellings() if name not in shown.replace("\n", " ")] == []


def test_axis_exchanges_rows_and_columns(capsys: Captured) -> None:
    main([*SHOW, "--axis", "0", "--stage", "kernel"])
    assert 'kinds = ["j", "i", "i"]' in capsys.readouterr().out


def test_fast_math_reaches_the_passes(capsys: Captured) -> None:
    main([*SHOW, "--stage", "simplify"])
    assert "redcomp.exp2" not in capsys.readouterr().out
    main([*SHOW, "--stage", "simplify", "--fast-math"])
    assert "redcomp.exp2" in capsys.readouterr().out


@pytest.mark.sampled(6)
@pytest.mark.parametrize(
    ("options", "is_fast"),
    [
        (["--target", "avx512"], False),
        (["--target", "avx512", "--fast-math"], True),
        (["--target", "avx512", "--no-fast-math"], False),
        (["--target", "sm_90"], True),
        (["--target", "sm_90", "--fast-math"], True),
        (["--target", "sm_90", "--no-fast-math"], False),
    ],
)
def test_fast_math_is_the_default_on_gpus_only(
    capsys: Captured, options: list[str], is_fast: bool
) -> None:
    main(["show", GAUSSIAN, *ALIASES, *options, "--stage", "simplify"])
    assert ("redcomp.exp2" in capsys.readouterr().out) == is_fast


@pytest.mark.sampled(9)
@pytest.mark.parametrize("target", ["sm_75", "sm_90", "sm_120"])
def test_ptx_is_shown_without_a_gpu_or_its_tools(
    target: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_tools(monkeypatch)
    assert main(["show", GAUSSIAN, *ALIASES, "--target", target, "--stage", "ptx"]) == 0
    out = capsys.readouterr().out
    assert f".target {target}" in out
    assert ".visible .entry redcomp_run(" in out


def test_story_of_a_gpu_without_its_tools(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the last line is there, and that one says how to get it."""
    hide_tools(monkeypatch)
    assert main(["show", GAUSSIAN, *ALIASES, "--target", "sm_90"]) == 0
    out = capsys.readouterr().out
    assert "target     sm_90" in out
    assert "schedule   128 threads of 4 rows a block, 8 columns a step" in out
    assert "machine    unknown: ptxas was not found" in out
    assert "pip install nvidia-cuda-nvcc" in out
    lowering = Genred(GAUSSIAN, ALIASES, axis=1).lower("float32", "sm_90")
    with pytest.raises(ToolError, match="pip install nvidia-cuda-nvcc"):
        print(lowering.stats)


@pytest.mark.ptxas
def test_story_of_a_gpu(capsys: Captured) -> None:
    assert main(["show", GAUSSIAN, *ALIASES, "--target", "sm_90"]) == 0
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if line.startswith("machine")]
    instructions = float(line.split()[1])
    assert 8 < instructions <= 8.6
    assert "(7.0 fma" in line
    assert "1.0 xu" in line
    assert "no spills" in line
    share = re.search(r"(\d+)% of what the arithmetic allows", line)
    assert share
    assert int(share[1]) == pytest.approx(100 * 8 / instructions, abs=1)


def hide_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """NVIDIA's programs cannot be found."""
    assemble.find_program.cache_clear()
    monkeypatch.setattr(assemble.shutil, "which", lambda name: None)
    monkeypatch.setattr(assemble, "_in_packages", lambda name, packages: iter(()))


@pytest.fixture(autouse=True)
def _tools_are_looked_for_again() -> Iterator[None]:
    """Whatever a test hid is found by the next one."""
    yield
    assemble.find_program.cache_clear()


def test_help_names_the_gpus(capsys: Captured) -> None:
    with pytest.raises(SystemExit):
        main(["opt", "--help"])
    shown = capsys.readouterr().out
    assert [name for name in ("sm_70", "sm_90", "sm_120") if name not in shown] == []
    assert "--no-fast-math" in shown


def test_opt_for_a_gpu_uses_its_instructions(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "exponential.mlir"
    exponential = ONCE.replace('"arith.divf"(%0, %0) : (f32, f32)', '"redcomp.exp2"(%0) : (f32)')
    path.write_text(exponential)
    main(["opt", str(path), "-p", "expand", "--target", "sm_90"])
    assert "exp2_approx" in capsys.readouterr().out
    main(["opt", str(path), "-p", "expand", "--target", "sm_90", "--no-fast-math"])
    assert "exp2_approx" not in capsys.readouterr().out


def test_opt_runs_the_passes_on_a_file(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "twice.mlir"
    path.write_text(TWICE)
    assert main(["opt", str(path), "-p", "simplify,cse"]) == 0
    assert capsys.readouterr().out == ONCE


def test_opt_reads_standard_input(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(TWICE))
    assert main(["opt", "-", "--passes", "simplify"]) == 0
    assert capsys.readouterr().out == ONCE


def test_opt_without_passes_prints_the_canonical_text(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "once.mlir"
    path.write_text(f'"builtin.module"() ({{\n{ONCE}}}) : () -> ()\n')
    assert main(["opt", str(path)]) == 0
    assert capsys.readouterr().out == ONCE


def test_opt_continues_with_a_nest(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "nest.mlir"
    path.write_text(ONCE)
    main(["opt", str(path), "-p", "accumulate,scalarize"])
    nest = capsys.readouterr().out
    assert nest.startswith('"redcomp.nest"')
    path.write_text(nest)
    assert main(["opt", str(path), "-p", "hoist"]) == 0
    assert capsys.readouterr().out.startswith('"redcomp.nest"')


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("passes", "positions"), [("gradient{wrt=0}", (0,)), ("gradient{wrt=1,2},transpose", (1, 2))]
)
def test_show_compiles_gradients_as_autograd_does(
    capsys: Captured, passes: str, positions: tuple[int, ...]
) -> None:
    made = derivatives.gradient(Genred(GAUSSIAN, ALIASES, axis=1).reduction, positions, (True,))
    expected = made.lower("f32", "avx512").stages
    for stage in ("kernel", "module"):
        assert main([*SHOW, "-p", f"{passes},cse", "--stage", stage]) == 0
        assert capsys.readouterr().out.rstrip() == expected[find_stage(stage, expected)].rstrip()
    assert main([*SHOW, "-p", passes]) == 0
    assert f"formula    {GAUSSIAN}, {passes}" in capsys.readouterr().out


def test_opt_divides_a_nest_as_the_compiler_does(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "program.mlir"
    wide = ["show", "Exp(-SqDist(x, y)) * b", *ALIASES[:2], "b = Vj(40)", "--target", "sm_86"]
    main([*wide, "--stage", "legal"])
    path.write_text(capsys.readouterr().out)
    main([*wide, "--stage", "partition"])
    shown = capsys.readouterr().out
    assert shown.count('"redcomp.part"') == 2
    assert main(["opt", str(path), "-p", "partition{most=20}"]) == 0
    assert capsys.readouterr().out == shown
    path.write_text(shown)
    assert main(["opt", str(path), "-p", "simplify,cse"]) == 0
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "Exp(x", "x = Vi(1)"], "redcomp: '(' is never closed\n  Exp(x\n     ^"),
        (["show", "x + z", "x = Vi(1)"], "  x + z\n      ^"),
        (["show", "x", "x = Vi(0)"], "x = Vi(0)"),
        (["show", "x", "x = Vi(1)", "--reduction", "Total"], "unknown reduction_op 'Total'"),
        (["show", "x", "x = Vi(1)", "--reduction", "KMin"], "'KMin' needs opt_arg"),
        (["show", "x", "x = Vi(1)", "--formula2", "x"], "formula2 has no effect"),
        (["show", "x", "x = Vi(1)", "--stage", "parse"], "unknown stage 'parse'"),
        (["show", "x", "x = Vi(1)", "--target", "vax"], "target must be one of host"),
        (["show", "x", "x = Vi(1)", "--target", "sm_60"], "not 'sm_60'; did you mean sm_"),
        (["opt", "text.mlir", "-p", "simplify", "--target", "sm_x"], "unknown GPU target 'sm_x'"),
        (["opt", "nowhere.mlir"], "redcomp: nowhere.mlir: No such file or directory\n"),
        (["opt", "text.mlir", "-p", "inline"], "unknown pass 'inline'"),
        (["opt", "text.mlir", "-p", "hoist"], "takes a nest of loops"),
        (["opt", "text.mlir", "-p", "legal", "--target", "sse2"], "cannot emit it"),
        (["opt", "broken.mlir"], 'redcomp: line 3: %z is not defined here\n  %0 = "arith.addf"(%z'),
        ([*SHOW, "-p", "accumulate"], "passes that come first must give a kernel"),
        (
            ["opt", "empty.mlir"],
            "redcomp: line 1: expected a program: block, kernel, nest or partition",
        ),
        (["opt", "binary.mlir"], "utf-8"),
    ],
)
def test_user_errors_are_told_without_a_traceback(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = ONCE.replace('"arith.divf"(%0, %0)', '"redcomp.minimum"(%0, %0)')
    Path("text.mlir").write_text(wrong)
    Path("broken.mlir").write_text(ONCE.replace("(%x, %y)", "(%z, %y)"))
    Path("empty.mlir").write_text("")
    Path("binary.mlir").write_bytes(b"\xff\xfe")
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("arguments", [[], ["compile"], ["show"], ["show", "x", "--axis", "2"]])
def test_wrong_usage_ends_with_status_2(arguments: list[str], capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: redcomp" in capsys.readouterr().err


def test_module_runs_as_a_program() -> None:
    command = [sys.executable, "-m", "redcomp", "show", "Exp(x"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("redcomp: '(' is never closed")


@pytest.mark.skipif(os.name != "posix", reason="Windows has no SIGPIPE")
def test_closed_output_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "redcomp", *SHOW, "--stage", "all"]
    result = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (result.returncode, result.stderr) == (141, "")


# -- the readable form, differences, the pair loop ----------------------------------------------


def test_show_prints_the_form_for_people(capsys: Captured) -> None:
    assert main([*SHOW, "--stage", "kernel", "--pretty"]) == 0
    assert "  %3 = exp %2 : f32  // Exp(-SqDist(x, y))\n" in capsys.readouterr().out
    assert main([*SHOW, "--stage", "all", "--pretty"]) == 0
    out = capsys.readouterr().out
    assert "==== hoist ====\nnest (%x: i[0] vector<3xf32>" in out
    assert "define internal void @pairs" in out


def test_opt_reads_and_prints_the_form_for_people(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "twice.mlir"
    path.write_text(TWICE)
    assert main(["opt", str(path), "--pretty"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("kernel (%x: i[0] f32, %y: j[1] f32) {\n  %0 = add %x, %y : f32\n")
    path.write_text(text)
    assert main(["opt", str(path), "-p", "simplify,cse"]) == 0
    assert capsys.readouterr().out == ONCE
    path.write_text("block (%x: i[0] f32) {\n  yield %x\n}\n")
    assert main(["opt", str(path)]) == 2
    assert "not a block" in capsys.readouterr().err


def test_differences_name_equal_values_alike(capsys: Captured) -> None:
    assert main([*SHOW, "--diff", "contract..expand"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["--- contract", "+++ expand"]
    changed = [line[1:].strip() for line in lines[2:] if line[0] in "+-"]
    # The distance keeps its name, and so does the exponential, which is made in another way.
    removed = [line.strip("- ") for line in lines[2:] if line[0] == "-"]
    assert any(line.startswith("%6 = exp %5 : f32") for line in removed)
    assert any(line.startswith("%6 = scale ") for line in changed)
    assert not any(" = fma %3, %3, " in line for line in changed)


def test_differences_of_what_is_the_same_and_of_texts(capsys: Captured) -> None:
    assert main([*SHOW, "--diff", "hoist..legal"]) == 0
    assert capsys.readouterr().out == "hoist and legal are the same\n"
    assert main([*SHOW, "--diff", "module..llvm"]) == 0
    assert capsys.readouterr().out.startswith("--- module.4x2.ll\n+++ llvm.4x2.ll\n")
    for wrong in ("hoist", "hoist..legal..llvm", "hoist..nowhere"):
        assert main([*SHOW, "--diff", wrong]) == 2
        assert "redcomp: " in capsys.readouterr().err


def test_the_pair_loop_alone(capsys: Captured) -> None:
    assert main([*SHOW, "--stage", "pair-loop"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("vscalefps" in line for line in lines) == 8
    assert lines[-1].split()[0].startswith("j")
    assert len(lines) < 250


@pytest.mark.ptxas
def test_the_pair_loop_of_a_gpu(capsys: Captured) -> None:
    assert main(["show", GAUSSIAN, *ALIASES, "--target", "sm_90", "--stage", "pair-loop"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("MUFU.EX2" in line for line in lines) == 32
    assert len(lines) <= 8.6 * 32


def test_the_pair_loop_of_a_gpu_without_its_tools(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_tools(monkeypatch)
    assert main(["show", GAUSSIAN, *ALIASES, "--target", "sm_90", "--stage", "pair-loop"]) == 2
    assert "pip install nvidia-cuda-nvcc" in capsys.readouterr().err


@pytest.mark.sampled(4)
@pytest.mark.parametrize("dim", [3, 16, 17, 100])
def test_operations_of_loops_count_as_often_as_they_run(dim: int, capsys: Captured) -> None:
    """A difference and a product for each component, and the sum over the columns."""
    aliases = [f"x = Vi({dim})", f"y = Vj({dim})"]
    assert main(["show", "SqDist(x, y)", *aliases, "--target", "avx512"]) == 0
    (line,) = [text for text in capsys.readouterr().out.splitlines() if "per pair  " in text]
    assert line.split()[2] == str(2 * dim + 1)
