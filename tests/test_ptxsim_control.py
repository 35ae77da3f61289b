"""Branches, barriers, warps and calls in the interpreter of PTX: needs no backend."""

from __future__ import annotations

import numpy as np
import pytest
from ptxsim import ExecutionError, PtxError, loops, parse
from ptxsim.snippets import kernel, run

OWN = "ld.param.u64 %rd1, [p]; mov.u32 %r1, %tid.x; mad.wide.u32 %rd2, %r1, 4, %rd1;"


def results(body, *, head="", threads=32, blocks=1):
    """What each thread stores to its own word, without findings."""
    array = np.zeros(threads, np.uint32)
    result = run(kernel(OWN + body, ["p"], head), [array], threads=threads, blocks=blocks)
    assert not result.reports
    return array.tolist()


def test_special_registers():
    body = """
mov.u32 %r2, %ntid.x; mov.u32 %r3, %ctaid.x; mov.u32 %r4, %nctaid.x; mov.u32 %r5, %laneid;
mov.u32 %r6, %warpid; mov.u32 %r7, %lanemask_lt; mad.lo.u32 %r8, %r3, %r2, %r1;
mad.wide.u32 %rd2, %r8, 32, %rd1; st.global.v4.u32 [%rd2], {%r1, %r2, %r3, %r4};
st.global.v4.u32 [%rd2+16], {%r5, %r6, %r7, %tid.y};"""
    array = np.zeros((3, 40, 8), np.uint32)
    assert not run(kernel(OWN + body, ["p"]), [array], blocks=3, threads=40).reports
    for block in range(3):
        for thread in range(40):
            lane = thread % 32
            want = [thread, 40, block, 3, lane, thread // 32, (1 << lane) - 1, 0]
            assert array[block, thread].tolist() == want


def collatz(n: int) -> int:
    steps = 0
    while n > 1:
        n, steps = (n // 2 if n % 2 == 0 else 3 * n + 1), steps + 1
    return steps


COLLATZ = """
mov.u32 %r2, 0; add.u32 %r1, %r1, 1;
LOOP: setp.le.u32 %p1, %r1, 1; @%p1 bra END;
add.u32 %r2, %r2, 1; and.b32 %r3, %r1, 1; setp.eq.u32 %p2, %r3, 0; @%p2 bra HALF;
mad.lo.u32 %r1, %r1, 3, 1; bra LOOP;
HALF: shr.u32 %r1, %r1, 1; bra LOOP;
END: st.global.u32 [%rd2], %r2;
"""


def test_loops_of_different_lengths():
    assert results(COLLATZ, threads=100) == [collatz(n + 1) for n in range(100)]


def test_threads_meet_again_after_a_branch():
    result = run(kernel(OWN + COLLATZ, ["p"]), [np.zeros(100, np.uint32)], threads=100)
    longest = max(collatz(n + 1) for n in range(100))
    assert result.steps < 14 * longest + 20  # each of the two ways once in a round, for all


def test_a_table_of_targets():
    body = """
and.b32 %r2, %r1, 3; setp.gt.u32 %p1, %r2, 2; @%p1 bra OTHER;
T: .branchtargets A, B, C;
brx.idx %r2, T;
A: mov.u32 %r3, 10; bra OUT;
B: mov.u32 %r3, 20; bra OUT;
C: mov.u32 %r3, 30; bra OUT;
OTHER: mov.u32 %r3, 40;
OUT: st.global.u32 [%rd2], %r3;"""
    assert results(body) == [(10, 20, 30, 40)[n % 4] for n in range(32)]


FUNCTION = """
.func (.param .b32 result) twice(.param .b32 a, .param .b32 b)
{
.reg .b32 %r<9>; .reg .pred %p<2>;
ld.param.u32 %r1, [a]; ld.param.u32 %r2, [b];
setp.gt.u32 %p1, %r1, 9; @%p1 bra BIG;
shl.b32 %r1, %r1, 1;
BIG: add.u32 %r1, %r1, %r2; st.param.u32 [result], %r1; ret;
}
"""
CALL = """
{ .param .b32 x; .param .b32 y; .param .b32 z;
st.param.u32 [x], %r1; st.param.u32 [y], 100;
call.uni (z), twice, (x, y);
ld.param.u32 %r2, [z]; }
st.global.u32 [%rd2], %r2;"""


def test_a_call():
    want = [100 + (n if n > 9 else 2 * n) for n in range(32)]
    assert results(CALL, head=FUNCTION) == want


def test_barriers_in_a_loop_that_blocks_leave_at_different_times():
    body = """
mov.u32 %r2, %ctaid.x; mov.u32 %r3, s; mov.u32 %r4, 0; mad.lo.u32 %r5, %r1, 4, %r3;
mov.u32 %r9, 0;
LOOP: st.shared.u32 [%r5], %r4; bar.sync 0; xor.b32 %r6, %r1, 1; mad.lo.u32 %r6, %r6, 4, %r3;
ld.shared.u32 %r7, [%r6]; bar.sync 0; add.u32 %r9, %r9, %r7; add.u32 %r4, %r4, 1;
setp.le.u32 %p1, %r4, %r2; @%p1 bra LOOP;
setp.eq.u32 %p2, %r2, 4; @%p2 st.global.u32 [%rd2], %r9;"""
    assert results(body, head=".shared .align 4 .b8 s[256];", threads=64, blocks=5) == [10] * 64


SHUFFLES = [
    ("shfl.sync.bfly.b32 %r2, %r1, 1, 31, -1;", lambda n: n ^ 1),
    ("shfl.sync.up.b32 %r2, %r1, 4, 0, -1;", lambda n: n - 4 if n % 32 >= 4 else n),
    ("shfl.sync.down.b32 %r2, %r1, 4, 31, -1;", lambda n: n + 4 if n % 32 < 28 else n),
    ("shfl.sync.idx.b32 %r2, %r1, 3, 31, -1;", lambda n: n - n % 32 + 3),
    ("shfl.sync.bfly.b32 %r2|%p1, %r1, 9, 6151, -1;", lambda n: n ^ 9 if n & 8 else n),
    ("setp.gt.u32 %p1, %r1, 40; vote.sync.ballot.b32 %r2, %p1, -1;", lambda n: n // 32 * ~0x1FF),
    (
        "setp.gt.u32 %p1, %r1, 31; vote.sync.all.pred %p2, %p1, -1; selp.u32 %r2, 1, 0, %p2;",
        lambda n: n // 32,
    ),
    ("activemask.b32 %r2;", lambda n: -1),
]


@pytest.mark.parametrize(("instruction", "want"), SHUFFLES)
def test_warps_exchange(instruction, want):
    got = results(instruction + "st.global.u32 [%rd2], %r2;", threads=64)
    assert got == [want(n) & 0xFFFFFFFF for n in range(64)]


def test_threads_that_wait_let_others_go_on():
    """Block 0 waits for a flag that block 1 sets later in the code."""
    body = """
mov.u32 %r1, %ctaid.x; setp.ne.u32 %p1, %r1, 0; @%p1 bra SET;
WAIT: ld.acquire.gpu.global.u32 %r2, [%rd1]; setp.eq.u32 %p2, %r2, 0; @%p2 bra WAIT;
ld.global.u32 %r3, [%rd1+4]; st.global.u32 [%rd1+8], %r3; ret;
SET: st.global.u32 [%rd1+4], 42; fence.acq_rel.gpu; st.release.gpu.global.u32 [%rd1], 1;"""
    array = np.zeros(3, np.uint32)
    result = run(kernel(OWN + body, ["p"]), [array], blocks=2, threads=1)
    assert not result.reports
    assert array.tolist() == [1, 42, 42]


HALF = "mov.u32 %r1, %tid.x; setp.lt.u32 %p1, %r1, 16; "
SPLIT = HALF + "@%p1 bra A; {} bra.uni E; A: bar.sync 0; E: {}"
FINDINGS = [
    (SPLIT.format("ret;", ""), "divergent-barrier"),
    (HALF + "@%p1 shfl.sync.bfly.b32 %r2, %r1, 16, 31, 0xffff;", "shfl-source"),
    ("mov.u32 %r1, %tid.x; div.u32 %r2, 5, %r1;", "div-by-zero"),
]


@pytest.mark.parametrize(("body", "kind"), FINDINGS)
def test_findings(body, kind):
    (report,) = run(kernel(body)).reports
    assert report.kind == kind


def test_whole_warps_may_leave_before_a_barrier():
    body = "mov.u32 %r1, %tid.x; setp.ge.u32 %p1, %r1, 32; @%p1 ret; bar.sync 0;"
    assert not run(kernel(body), threads=64).reports


OTHER_WARP = "mov.u32 %r1, %tid.x; setp.ge.u32 %p1, %r1, 32; @%p1 bra E; {} E: bar.sync 0;"
ERRORS = [
    (SPLIT.format("bar.sync 0;", ""), "divergent-barrier", "waits at barriers at lines"),
    (SPLIT.format("", "bar.sync 1;"), "deadlock", "16 threads, first thread 0 of block 0, wait"),
    (OTHER_WARP.format("bar.sync 1, 64;"), "deadlock", "wait at a barrier"),
    (HALF + "@%p1 bra A; bar.warp.sync -1; A: bar.sync 0;", "deadlock", "a warp's instruction"),
    ("LOOP: bra LOOP;", "livelock", "steps"),
    ("trap;", "trap", "thread 0 of block 0"),
    ("frobnicate.s32 %r1, %r2;", "unsupported", "frobnicate.s32 %r1, %r2: unknown instruction"),
    ("add.cc.u32 %r1, %r2, %r3;", "unsupported", "carries"),
    ("mov.u32 %r1, %clusterid.x;", "unsupported", "special register %clusterid.x"),
    ("add.u64 %rd1, %r1, %rd2;", "unsupported", "32-bit register %r1"),
    ("bar.sync 16;", "divergent-barrier", "barriers are 0 to 15"),
]


@pytest.mark.parametrize(("body", "kind", "words"), ERRORS)
def test_what_cannot_go_on(body, kind, words):
    with pytest.raises(ExecutionError, match=words) as error:
        run(kernel(body), threads=64 if "32" in body else 32, max_steps=10_000)
    assert error.value.kind == kind


TEXT = """
// comment with ; and {
.version 8.0
.target sm_80, debug /* and
a comment over lines */
.address_size 64
.const .align 4 .f32 table[2] = {0f3F800000, -2.5};
.extern .func (.param .b32 r) helper(.param .b32 a);
.visible .entry k(.param .u64 .ptr .global .align 16 p, .param .align 8 .b8 s[24])
.maxntid 128, 1, 1
{
	.reg .b32 %r<9>; .reg .pred %p<3>; .reg .b64 %rd<5>;
	.loc 1 7 3
	{ // a scope
	.reg .b32 t;
	.param .b32 param0;
	mov.b32 t, 5; mov.b32 %r1, t;
	}
$L1:	ld.global.v2.b32 {%r1, _}, [%rd1+-8];
	.pragma "nounroll";
	@!%p1 bra $L1;
	ret;
}
.func (.param .b32 r) helper(.param .b32 a) { ret; }
.section .debug_info { .b8 1 }
"""


def test_text_is_read():
    module = parse(TEXT)
    function = module.kernels["k"]
    assert (module.version, module.target) == ("8.0", "sm_80")
    assert [(p.name, p.size) for p in function.parameters] == [("p", 8), ("s", 24)]
    assert function.limits["maxntid"] == [128, 1, 1]
    opcodes = [instruction.opcode for instruction in function.body]
    assert opcodes == ["mov.b32", "mov.b32", "ld.global.v2.b32", "bra", "ret"]
    load, jump = function.body[2:4]
    assert (load.operands[1].value.value, load.operands[1].offset) == ("%rd1", -8)
    assert (load.line, jump.guard) == (19, ("%p1", True))
    assert module.functions["helper"].code is not None
    assert module.variables["table"].data == np.array([1, -2.5], np.float32).tobytes()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (".version 8.0\n.entry k() { add.s32 %r1 %r2; }", "line 2: expected ','"),
        (".version 8.0\nnonsense", "line 2: cannot read 'nonsense'"),
        (".entry k() { mov.b32 %r1, 5;", "unexpected end"),
    ],
)
def test_text_that_cannot_be_read(text, words):
    with pytest.raises(PtxError, match=words):
        parse(text)


def test_natural_loops():
    body = """
mov.u32 %r1, 0;
OUTER: mov.u32 %r2, 0;
INNER: add.u32 %r2, %r2, 1; setp.lt.u32 %p1, %r2, 5; @%p1 bra INNER;
add.u32 %r1, %r1, 1; setp.lt.u32 %p2, %r1, 7; @%p2 bra OUTER;"""
    outer, inner = loops(parse(kernel(body)).kernels["k"])
    assert (outer.label, outer.depth, outer.is_innermost) == ("OUTER", 1, False)
    assert (inner.label, inner.depth, inner.is_innermost) == ("INNER", 2, True)
    assert inner.opcodes == {"add.u32": 1, "setp.lt.u32": 1, "bra": 1}
    assert outer.opcodes["add.u32"] == 2


@pytest.mark.parametrize(("blocks", "threads", "arguments"), [(0, 32, 1), (1, 2000, 1), (1, 32, 0)])
def test_wrong_launches(blocks, threads, arguments):
    with pytest.raises(PtxError):
        run(kernel("", ["p"]), [1] * arguments, blocks=blocks, threads=threads)
