"""Machine code of NVIDIA's GPUs, counted: needs ptxas and nvdisasm (the "test" extra has them)."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from ptx_samples import LOOPS, gaussian, loops, ptx_of

from redcomp.backends.gpu import GpuLowering
from redcomp.errors import CompilerError
from redcomp.numpy import Genred
from redcomp.ptx import assemble as assembler
from redcomp.ptx.assemble import Resources, ToolError, assemble, disassemble, version
from redcomp.ptx.ceiling import Ceiling, Occupancy, ceiling, occupancy
from redcomp.ptx.costs import clocks, costs, description
from redcomp.ptx.multiprocessor import H200, MULTIPROCESSORS, multiprocessor
from redcomp.ptx.sass import MachineLoop, pair_loop
from redcomp.ptx.targets import CAPABILITIES

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import ptx_report

TARGETS = ("sm_75", "sm_80", "sm_90", "sm_100", "sm_120")

# The shape of nvdisasm's text.  Threads part and meet, a warp rarely runs the loop of .L_x_3.
BRANCHES = """
	.target	sm_90

//--------------------- .text.other               --------------------------
	.section	.text.other,"ax",@progbits
other:
.text.other:
.L_x_9:
        /*0000*/                   LDS R1, [R2] ;
        /*0010*/                   FFMA R0, R0, R0, R0 ;
        /*0020*/               @P0 BRA `(.L_x_9) ;
        /*0030*/                   EXIT ;

//--------------------- .text.redcomp_run         --------------------------
	.section	.text.redcomp_run,"ax",@progbits
redcomp_run:
.text.redcomp_run:
        /*0000*/                   S2R R0, SR_TID.X ;
        /*0010*/               @P0 EXIT ;
.L_x_0:
        /*0020*/                   BSSY B0, `(.L_x_2) ;
        /*0030*/                   LDS.U.128 R4, [UR4+0x10] ;
        /*0040*/                   FSETP.GT.AND P1, PT, R4, R8, PT ;
        /*0050*/              @!P1 BRA `(.L_x_1) ;
.L_x_3:
        /*0060*/                   MUFU.EX2 R9, R9 ;
        /*0070*/                   BRA.DIV UR4, `(.L_x_3) ;
        /*0080*/                   BSYNC B0 ;
.L_x_1:
        /*0090*/              @!P2 FFMA R10, R4.reuse, R5, R10 ;
        /*00a0*/                   BSYNC B0 ;
        /*00b0*/                   FADD R1, R1, R1 ;
.L_x_2:
        /*00c0*/                   HFMA2.MMA R3, -RZ, RZ, 0, 0 ;
        /*00d0*/                   UIADD3 UR4, UR4, 0x20, URZ ;
        /*00e0*/                   STL [R1], R3 ;
        /*00f0*/                   BRA.U !UP0, `(.L_x_0) ;
        /*0100*/                   EXIT ;
.L_x_5:
        /*0110*/                   BRA `(.L_x_5);
        /*0120*/                   NOP;
.L_x_6:
"""


def test_cheapest_way_through_branches() -> None:
    """The rare loop and what stands between BSYNC and where it goes on are left out."""
    loop = pair_loop(BRANCHES, "redcomp_run")
    names = "BSSY LDS.U.128 FSETP.GT.AND @!P1 @!P2 BSYNC HFMA2.MMA UIADD3 STL BRA.U"
    assert [line.split()[0] for line in loop.lines] == names.split()
    assert loop.counts["FFMA"] == 1
    assert loop.pipes == {"control": 4, "lsu": 2, "alu": 1, "fma": 2, "uniform": 1}
    assert loop.work["lsu"] == 4 + 1
    assert (loop.arithmetic, loop.prepares_tiles, loop.spills) == (2, False, 1)


def test_loop_over_tiles_is_not_the_one_over_pairs() -> None:
    """It may compute more, where totals are converted and merged; but its threads wait."""
    tiles = """.L_x_7:
        /*0200*/                   FADD R1, R1, R1 ;
        /*0210*/                   F2F.F64.F32 R2, R1 ;
        /*0220*/                   DADD R2, R2, R4 ;
        /*0230*/                   BAR.SYNC 0x0 ;
        /*0240*/               @P0 BRA `(.L_x_7) ;
        /*0250*/                   EXIT ;
"""
    after = "        /*0100*/                   EXIT ;\n"
    text = BRANCHES.replace(after, tiles)
    assert text != BRANCHES
    assert pair_loop(text, "redcomp_run").counts["FFMA"] == 1
    unmarked = pair_loop(text.replace("BAR.SYNC 0x0", "NOP"), "redcomp_run")
    assert unmarked.counts["DADD"] == 1


def test_kernel_without_a_loop_or_name() -> None:
    straight = BRANCHES.replace("BRA.U !UP0, `(.L_x_0)", "NOP").replace("(.L_x_3)", "(.L_x_1)")
    with pytest.raises(ValueError, match="redcomp_run has no loop"):
        pair_loop(straight, "redcomp_run")
    with pytest.raises(ValueError, match=r"no kernel 'absent', but \['other', 'redcomp_run'\]"):
        pair_loop(BRANCHES, "absent")


def test_instructions_of_two_results_and_unknown_ones() -> None:
    loop = MachineLoop(("FFMA2 R2, R4, R6, R2", "LDG.E.64 R4, [R2.64]", "NEWOP R1, R2"))
    assert loop.pipes == {"fma": 1, "lsu": 1, "other": 1}
    assert loop.work == {"fma": 2, "lsu": 2, "other": 1}


@pytest.mark.sampled(40)
@pytest.mark.ptxas
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("rows", "cols"), [(2, 8), (4, 4), (8, 4)])
def test_gaussian_costs_eight_instructions_a_pair_and_the_loop(
    target: str, rows: int, cols: int
) -> None:
    """7 on float32, 1 exponential, the load of each column, and at most 6 at the loop's end."""
    assembled = assemble(ptx_of(gaussian(rows, cols), target), target)
    loop, pairs = pair_loop(disassemble(assembled.code), "redcomp_run"), rows * cols
    assert (loop.pipes["fma"], loop.pipes["xu"]) == (7 * pairs, pairs)
    assert loop.counts["FADD"] == loop.counts["FFMA"] == 3 * pairs
    assert loop.pipes["lsu"] == cols
    assert loop.work["lsu"] == 4 * cols
    assert 0 < len(loop.lines) - 8 * pairs - cols <= 6
    assert 8.2 <= len(loop.lines) / pairs <= 8.9
    taken = assembled.kernels["redcomp_run"]
    assert taken == Resources(taken.registers, 0, 0, 0, shared=128 * 16)
    assert 3 * rows + rows <= taken.registers <= 128


# What the core of each sample computes, on every target: names without modifiers.
CORES = {
    "fills a tile": {"FFMA": 1, "LDS": 1, "STS": 0, "LDG": 0},
    "rare branch": {"FADD": 2, "FFMA": 1, "MUFU": 1, "FSETP": 1, "LDS": 1, "VOTE": 1},
    "components": {"FFMA": 1, "LDS": 2, "MUFU": 0, "FADD": 0},
    "quotient": {"FFMA": 5, "MUFU": 1, "FADD": 1, "FCHK": 1, "CALL": 0},
}


@pytest.mark.sampled(28)
@pytest.mark.ptxas
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", LOOPS)
def test_loop_over_pairs_is_found(name: str, target: str) -> None:
    loop = pair_loop(disassemble(assemble(loops(name), target).code), "sample")
    names = [re.sub(r"^@\S+\s+", "", line).split(".")[0].split()[0] for line in loop.lines]
    assert {name: names.count(name) for name in CORES[name]} == CORES[name]


@pytest.mark.ptxas
def test_loops_that_are_not_marked_are_unrolled() -> None:
    """Why the mark is needed: the same loop without it has pairs of several steps."""
    text = gaussian(1, 4)
    marked, free = (
        pair_loop(disassemble(assemble(ptx_of(t, "sm_90"), "sm_90").code), "redcomp_run")
        for t in (text, text.replace(", !llvm.loop !0", ""))
    )
    assert marked.pipes["xu"] == 4
    assert free.pipes["xu"] > 4


@pytest.mark.ptxas
def test_wrong_ptx_and_targets_are_reported() -> None:
    with pytest.raises(
        CompilerError, match=r"(?s)ptxas refused the PTX for sm_90.*line \d+; error"
    ):
        assemble(loops("quotient").replace("bra PAIRS", "bra bra"), "sm_90")
    with pytest.raises(ToolError, match="does not know sm_20"):
        assemble(loops("quotient"), "sm_20")
    with pytest.raises(ToolError, match="nvdisasm cannot read"):
        disassemble(b"no machine code")


@pytest.mark.ptxas
def test_spills_are_counted() -> None:
    """Forty values that live through a loop do not fit into 24 registers."""
    values = range(40)
    loads = "".join(f"  ld.global.f32 %g{n}, [%a1+{4 * n}];\n" for n in values)
    sums = "".join(f"  fma.rn.f32 %g{n}, %g{n}, %f3, %f3;\n" for n in values)
    merges = "".join(f"  add.f32 %f1, %f1, %g{n};\n" for n in values)
    text = loops("fills a tile").replace("PAIRS:\n", f"{loads}PAIRS:\n")
    text = text.replace("  fma.rn.f32 %f1, %f3, %f3, %f1;\n", sums)
    text = text.replace("  st.global.f32 [%a1], %f1;", f"{merges}  st.global.f32 [%a1], %f1;")
    text = text.replace("  .reg .f32 %f<8>;", "  .reg .f32 %f<8>;\n  .reg .f32 %g<40>;")
    text = text.replace(".maxntid 64\n", ".maxntid 64\n.maxnreg 24\n")
    assembled = assemble(text.replace(".maxntid 64\n", ""), "sm_90")
    taken = assembled.kernels["sample"]
    assert taken.registers <= 24
    assert taken.spill_stores > 0
    assert taken.spill_loads > 0
    assert taken.stack_frame >= 4 * 16
    assert pair_loop(disassemble(assembled.code), "sample").spills > 0


def test_missing_programs_say_where_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ToolError, match=r"CUDA toolkit on PATH.*pip install no-such-package"):
        assembler.find_program("no-such-program", ("no-such-package",))


@pytest.mark.ptxas
def test_programs_are_found_in_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assembler.find_program.cache_clear()
    try:
        for name, packages in (assembler.PTXAS, assembler.NVDISASM):
            path = Path(assembler.find_program(name, packages))
            assert path.is_file()
            assert path.stem == name
            assert path.parent.name == "bin"
    finally:
        assembler.find_program.cache_clear()


def ideal(formula: str, target: str, dtype: str = "f32", reduction_op: str = "Sum") -> Ceiling:
    """What the arithmetic of a formula of points in three dimensions allows."""
    aliases = ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)"]
    lowering = Genred(formula, aliases, reduction_op, axis=1).lower(dtype, target)
    assert isinstance(lowering, GpuLowering)
    assert lowering.ideal is not None
    return lowering.ideal


def test_ceiling_of_the_gaussian_on_an_h200() -> None:
    """By hand: 16 exponentials a clock; 8 instructions a pair, 128 a clock: 16 pairs as well."""
    best = ideal("Exp(-SqDist(x, y)) * b", "sm_90")
    assert best.pairs == pytest.approx(16.0)
    assert best.clocks["fma"] == pytest.approx(7 / 128)
    assert best.clocks["issue"] == pytest.approx(best.clocks["xu"])
    assert H200.pairs_per_second(best.pairs) == pytest.approx(4.18e12, rel=1e-3)
    older = ideal("Exp(-SqDist(x, y)) * b", "sm_80")
    assert (older.limit, older.pairs) == ("fma", pytest.approx(64 / 7))


@pytest.mark.parametrize(
    ("reduction_op", "target", "dtype", "limit", "pairs"),
    [
        # A squared distance takes six operations, and a sum one; all rows share a mean's count.
        ("Sum", "sm_75", "f32", "fma", 64 / 7),
        ("Mean", "sm_75", "f32", "fma", 64 / 7),
        ("Mean", "sm_90", "f32", "fma", 128 / 7),
        ("Sum", "sm_75", "f64", "fp64", 2 / 7),
        ("Sum", "sm_80", "f64", "fp64", 32 / 7),
        ("Sum", "sm_90", "f64", "fp64", 64 / 7),
        ("Sum", "sm_120", "f64", "fp64", 2 / 7),
        # A maximum is one instruction, or half of one, in float64 at least a comparison; of its
        # place there are a comparison and two selections.
        ("Max", "sm_90", "f32", "issue", 128 / 7),
        ("Max", "sm_100", "f32", "issue", 128 / 6.5),
        ("Max", "sm_80", "f64", "fp64", 32 / 7),
        ("ArgMax", "sm_90", "f32", "issue", 128 / 9),
    ],
)
def test_ceilings_by_hand(
    reduction_op: str, target: str, dtype: str, limit: str, pairs: float
) -> None:
    best = ideal("SqDist(x, y)", target, dtype, reduction_op)
    assert (best.limit, best.pairs) == (limit, pytest.approx(pairs))


def test_ceiling_of_a_loop() -> None:
    """16 pairs in 136 instructions are limited by issuing, or by words from shared memory."""
    work = {"fma": 112, "xu": 16, "lsu": 16, "alu": 2}
    reached = ceiling(work, 136, 16, "sm_90")
    assert (reached.limit, reached.pairs) == ("issue", pytest.approx(16 * 128 / 136))
    loads = ceiling({**work, "lsu": 64}, 136, 16, "sm_90")
    assert (loads.limit, loads.pairs) == ("lsu", pytest.approx(32 / 4))


@pytest.mark.parametrize(
    ("target", "threads", "registers", "shared", "expected"),
    [
        ("sm_90", 128, 40, 2048, Occupancy(12, 48, 0.75)),  # 1280 registers a warp: 12 a partition
        ("sm_90", 128, 32, 0, Occupancy(16, 64, 1.0)),
        ("sm_90", 32, 16, 0, Occupancy(32, 32, 0.5)),  # the number of blocks
        ("sm_90", 128, 32, 48 * 1024, Occupancy(4, 16, 0.25)),  # 49 KiB each of 228
        ("sm_75", 128, 64, 2048, Occupancy(8, 32, 1.0)),
        ("sm_75", 128, 255, 2048, Occupancy(2, 8, 0.25)),
        ("sm_120", 192, 40, 0, Occupancy(8, 48, 1.0)),
        ("sm_80", 1024, 80, 0, Occupancy(0, 0, 0.0)),  # 24 warps have so many registers, not 32
    ],
)
def test_occupancy(
    target: str, threads: int, registers: int, shared: int, expected: Occupancy
) -> None:
    assert occupancy(target, threads, registers, shared) == expected


def test_every_target_has_figures() -> None:
    """A new one gets those of the last before it."""
    assert set(MULTIPROCESSORS) == {c.number for c in CAPABILITIES}
    assert multiprocessor("sm_87") is MULTIPROCESSORS[87]
    assert multiprocessor("sm_130") is MULTIPROCESSORS[121]
    with pytest.raises(CompilerError, match="no figures for the multiprocessors of 'sm_52'"):
        multiprocessor("sm_52")


@pytest.mark.ptxas
def test_cost_of_the_sample() -> None:
    """It has the figures that the counts above have; the share is 15.06 of 16 pairs."""
    best = ideal("Exp(-SqDist(x, y)) * b", "sm_90")
    assembled = assemble(ptx_of(gaussian(4, 4), "sm_90"), "sm_90")
    (cost,) = costs(assembled, disassemble(assembled.code), "sm_90", [(128, 16, 0)])
    row = dict(zip(ptx_report.HEADER[2:-1], ptx_report.cells(cost), strict=True))
    assert (row["spills"], row["stack"], row["shared"]) == ("0", "0", "2048")
    assert (row["fma"], row["xu"], row["lsu"], row["fp64"]) == ("7.00", "1.00", "0.25", "0.00")
    assert sum(cost.pipes.values()) == pytest.approx(cost.instructions)
    share = 8 * 16 / len(cost.loop.lines)
    assert row["pairs"] == f"{16 * share:.2f}"
    told = description([cost], best)
    assert told.startswith(f"{cost.instructions:.1f} instructions per pair (7.0 fma, ")
    assert told.endswith(f"(limit: issue), {share:.0%} of what the arithmetic allows")
    assert f"{cost.resources.registers} registers, no spills, " in told
    assert "per component" in description([cost, cost], None)
    assert clocks([cost, cost]) == pytest.approx(2 / (16 * share))
    assert ptx_report.table([list(row.values())]).count("\n") == 2


@pytest.mark.ptxas
def test_version_of_the_assembler() -> None:
    assert re.fullmatch(r"\d+\.\d+", version())
