"""What the interpreter of PTX finds wrong with accesses to memory: needs no backend."""

from __future__ import annotations

import numpy as np
import pytest
from ptxsim import ExecutionError
from ptxsim.snippets import Uninitialised, kernel, run

SHARED = ".shared .align 4 .b8 s[256];"
LOCAL = ".local .align 4 .b8 d[8];"
# The address of the thread's own word: of shared memory in %r4, of the array p in %rd2.
OWN_SHARED = "mov.u32 %r1, %tid.x; mov.u32 %r2, s; shl.b32 %r3, %r1, 2; add.u32 %r4, %r2, %r3;"
OWN_GLOBAL = "ld.param.u64 %rd1, [p]; mov.u32 %r1, %tid.x; mad.wide.u32 %rd2, %r1, 4, %rd1;"
WORDS = 64


def kinds(text, arguments=(), **how):
    """The kinds of findings of a kernel that goes on to the end."""
    return {report.kind for report in run(text, arguments, **how).reports}


def words(count=WORDS):
    return np.zeros(count, np.uint32)


# Each row: a body, whether it has an argument p, and what is found with 64 threads.
EXCHANGE = (
    OWN_SHARED + "st.shared.u32 [%r4], %r1; {} "
    "xor.b32 %r5, %r3, {}; add.u32 %r6, %r2, %r5; ld.shared.u32 %r7, [%r6]; "
)
COUNT = (
    OWN_SHARED + "setp.eq.u32 %p1, %r1, 0; @%p1 st.shared.u32 [%r2], 0; {} "
    "red.shared.add.u32 [%r2], 1; {} ld.shared.u32 %r3, [%r2];"
)
SHARED_CASES = [
    (EXCHANGE.format("bar.sync 0;", 4), set()),
    (EXCHANGE.format("barrier.sync 0;", 128), set()),
    (EXCHANGE.format("", 4), {"shared-race"}),
    (EXCHANGE.format("bar.warp.sync -1;", 4), set()),
    (EXCHANGE.format("bar.warp.sync -1;", 128), {"shared-race"}),
    (EXCHANGE.format("bar.sync 0;", 4) + "st.shared.u32 [%r4], %r7;", {"shared-race"}),
    (EXCHANGE.format("bar.sync 0;", 4) + "bar.sync 0; st.shared.u32 [%r4], %r7;", set()),
    (OWN_SHARED + "st.shared.u32 [%r2], %r1;", {"shared-race"}),
    (OWN_SHARED + "ld.shared.u32 %r5, [%r4];", {"uninit-shared"}),
    (OWN_SHARED + "red.shared.add.u32 [%r4], 1;", {"uninit-shared"}),
    (COUNT.format("bar.sync 0;", "bar.sync 0;"), set()),
    (COUNT.format("", "bar.sync 0;"), {"shared-race"}),
    (COUNT.format("bar.sync 0;", ""), {"shared-race"}),
    ("mov.u64 %rd1, d; ld.local.u32 %r1, [%rd1+4];", {"uninit-local"}),
    ("mov.u64 %rd1, d; st.local.u32 [%rd1+4], 7; ld.local.u32 %r1, [%rd1+4];", set()),
]


@pytest.mark.parametrize(("body", "expected"), SHARED_CASES)
def test_findings_in_shared_and_local_memory(body, expected):
    assert kinds(kernel(LOCAL + body, head=SHARED), threads=WORDS) == expected


FIRST = "mov.u32 %r3, %ctaid.x; setp.eq.u32 %p1, %r3, 0; @%p1 st.global.u32 [%rd1], 1; {} "
GLOBAL_CASES = [
    (OWN_GLOBAL + "st.global.u32 [%rd2], %r1;", 1, set()),
    (OWN_GLOBAL + "st.global.u32 [%rd1], %r1;", 1, {"global-race"}),
    (OWN_GLOBAL + "ld.global.u32 %r3, [%rd2+4]; st.global.u32 [%rd2], %r3;", 1, {"global-race"}),
    (OWN_GLOBAL + "red.global.add.u32 [%rd1], 1;", 2, set()),
    (OWN_GLOBAL + "st.global.u32 [%rd2], %r1;", 2, {"global-race"}),
    (OWN_GLOBAL + "st.global.u32 [%rd2], 1; ld.global.nc.u32 %r3, [%rd2];", 1, {"global-race"}),
    (
        OWN_GLOBAL + "st.volatile.global.u32 [%rd1], 1; ld.volatile.global.u32 %r3, [%rd1];",
        1,
        set(),
    ),
]


@pytest.mark.parametrize(("body", "blocks", "expected"), GLOBAL_CASES)
def test_findings_in_global_memory(body, blocks, expected):
    array = words(WORDS + 1)
    assert kinds(kernel(body, ["p"]), [array], blocks=blocks, threads=WORDS) == expected


@pytest.mark.parametrize("fence", ["", "membar.gl;"])
def test_conflicts_between_blocks(fence):
    """A fence may order reads and writes of different blocks, but not two plain writes."""
    read = OWN_GLOBAL + FIRST.format(fence) + "@!%p1 ld.global.u32 %r4, [%rd1];"
    expected = set() if fence else {"global-race"}
    assert kinds(kernel(read, ["p"]), [words(1)], blocks=2, threads=1) == expected
    write = OWN_GLOBAL + FIRST.format(fence) + "@!%p1 st.global.u32 [%rd1], 2;"
    assert kinds(kernel(write, ["p"]), [words(1)], blocks=2, threads=1) == {"global-race"}


def test_blocks_of_different_batches_race_too():
    body = OWN_GLOBAL + "st.global.u32 [%rd2], %r1;"
    result = run(kernel(body, ["p"]), [words(1024)], blocks=5, threads=1024)
    (report,) = result.reports
    assert report.kind == "global-race"
    last = "thread 0 of block 4 writes allocation 0+0 after a write by thread 0 of block 3"
    first = "thread 0 of block 0 and thread 0 of block 3 write allocation 0+0 at the same time"
    assert report.message == first or last in report.message


@pytest.mark.parametrize("writer", [0, 1, 31, 63])
def test_a_write_after_others_have_read_is_found(writer):
    body = (
        OWN_SHARED + "st.shared.u32 [%r4], 0; bar.sync 0; ld.shared.u32 %r5, [%r2]; "
        f"setp.eq.u32 %p1, %r1, {writer}; @%p1 st.shared.u32 [%r2], 1;"
    )
    (report,) = run(kernel(body, head=SHARED), threads=WORDS).reports
    assert report.kind == "shared-race"
    assert f"thread {writer} of block 0 writes s+0 after a read" in report.message


def test_neighbouring_bytes_are_no_race():
    body = "mov.u32 %r1, %tid.x; mov.u32 %r2, s; add.u32 %r2, %r2, %r1; st.shared.u8 [%r2], %h1;"
    assert kinds(kernel(body, head=SHARED), threads=WORDS) == set()


def test_a_finding_says_who_and_where():
    body = OWN_SHARED + (
        "setp.ne.u32 %p1, %r1, 5; @%p1 st.shared.u32 [%r4], %r1; bar.sync 0; "
        "ld.shared.u32 %r5, [%r4];"
    )
    (report,) = run(kernel(body, head=SHARED), threads=WORDS).reports
    assert report.count == 1
    assert report.text == "ld.shared.u32 %r5, [%r4]"
    assert report.message == "thread 5 of block 0 reads s+20, which nothing has written"


def test_memory_that_nothing_has_written():
    read = kernel(OWN_GLOBAL + "ld.global.u32 %r3, [%rd2];", ["p"])
    assert kinds(read, [Uninitialised(4 * 32)]) == {"uninit-global"}
    write = kernel(OWN_GLOBAL + "st.global.u32 [%rd2], 1; ld.global.u32 %r3, [%rd2];", ["p"])
    assert kinds(write, [Uninitialised(4 * 32)]) == set()


ERRORS = [
    (OWN_GLOBAL + "ld.global.u32 %r3, [%rd2+4];", "out-of-bounds", "offset 128 .* 1 of 32 threads"),
    (OWN_GLOBAL + "st.global.u32 [%rd1+-4], 0;", "out-of-bounds", "offset -4 of"),
    (OWN_GLOBAL + "ld.global.v2.u32 {%r3, %r4}, [%rd1+4];", "misaligned", "multiple of 8"),
    ("ld.global.u64 %rd2, [0];", "out-of-bounds", "address 0x0"),
    (OWN_SHARED + "st.shared.u32 [%r4+256], 0;", "out-of-bounds", "offset 256 of 'shared memory'"),
    ("mov.u32 %r2, s; st.shared.u32 [%r2+-4], 0;", "out-of-bounds", "shared memory"),
    (
        "mov.u64 %rd1, s; cvta.shared.u64 %rd1, %rd1; ld.global.u32 %r1, [%rd1];",
        "out-of-bounds",
        "shared memory",
    ),
    ("mov.u64 %rd1, d; st.local.u32 [%rd1+8], 0;", "out-of-bounds", "'local memory'"),
    ("mov.u64 %rd1, p; st.param.u32 [%rd1], 0;", "unsupported", "cannot be interpreted"),
]


@pytest.mark.parametrize(("body", "kind", "words_of_it"), ERRORS)
def test_accesses_that_cannot_be(body, kind, words_of_it):
    with pytest.raises(ExecutionError, match=words_of_it) as error:
        run(kernel(LOCAL + body, ["p"], head=SHARED), [words(32)])
    assert error.value.kind == kind


def test_bytes_between_shared_variables():
    head = ".shared .align 4 .b8 a[20]; .shared .align 4 .b8 b[4];"
    body = "mov.u32 %r1, a; mov.u32 %r2, b; st.shared.u32 [%r1+20], 0; st.shared.u32 [%r2], 0;"
    with pytest.raises(ExecutionError, match=r"a\+20 lies between shared variables"):
        run(kernel(body, head=head))


def test_generic_addresses_reach_shared_memory():
    body = OWN_GLOBAL + (
        "mov.u64 %rd3, s; cvta.shared.u64 %rd3, %rd3; mad.wide.u32 %rd4, %r1, 4, %rd3; "
        "st.u32 [%rd4], %r1; cvta.to.shared.u64 %rd5, %rd4; ld.shared.u32 %r5, [%rd5]; "
        "isspacep.shared %p1, %rd4; @%p1 st.u32 [%rd2], %r5;"
    )
    array = words(32)
    assert kinds(kernel(body, ["p"], head=SHARED), [array]) == set()
    assert array.tolist() == list(range(32))


def test_vectors_of_words():
    body = (
        "ld.param.u64 %rd1, [p]; mov.u32 %r1, %tid.x; mad.wide.u32 %rd2, %r1, 16, %rd1; "
        "ld.global.v4.u32 {%r2, %r3, %r4, _}, [%rd2]; st.global.v2.u32 [%rd2+8], {%r4, %r2};"
    )
    array = np.arange(128, dtype=np.uint32)
    assert kinds(kernel(body, ["p"]), [array]) == set()
    want = np.arange(128).reshape(-1, 4)[:, [0, 1, 2, 0]]
    assert array.reshape(-1, 4).tolist() == want.tolist()


ATOMICS = [
    ("atom.global.add.u32 %r3, [%rd1], %r1;", 7, 7 + sum(range(32))),
    ("red.global.max.s32 [%rd1], %r1;", 7, 31),
    ("red.global.min.u32 [%rd1], %r1;", 7, 0),
    ("red.global.or.b32 [%rd1], %r1;", 64, 64 | 31),
    ("atom.global.exch.b32 %r3, [%rd1], %r1;", 7, 31),
    ("atom.global.cas.b32 %r3, [%rd1], 7, %r1;", 7, 0),
    ("atom.global.inc.u32 %r3, [%rd1], 9;", 0, 32 % 10),
]


@pytest.mark.parametrize(("instruction", "start", "want"), ATOMICS)
def test_threads_change_a_word_one_after_the_other(instruction, start, want):
    array = np.full(1, start, np.uint32)
    assert kinds(kernel(OWN_GLOBAL + instruction, ["p"]), [array]) == set()
    assert array[0] == want


def test_atomic_floats():
    array = np.zeros(1, np.float32)
    body = OWN_GLOBAL + "cvt.rn.f32.u32 %f1, %r1; red.global.add.f32 [%rd1], %f1;"
    assert kinds(kernel(body, ["p"]), [array]) == set()
    assert array[0] == sum(range(32))


# Two words are copied to shared memory, and another thread's are read.
COPY = (
    "ld.param.u64 %rd1, [p]; mov.u32 %r1, %tid.x; mad.wide.u32 %rd2, %r1, 8, %rd1; mov.u32 %r2, s; "
    "mad.lo.u32 %r4, %r1, 8, %r2; cp.async.ca.shared.global [%r4], [%rd2], 8{}; "
    "{} xor.b32 %r5, %r4, 8; ld.shared.v2.u32 {{%r6, %r7}}, [%r5]; "
    "st.global.v2.u32 [%rd2], {{%r6, %r7}};"
)
GROUP = "cp.async.commit_group; cp.async.wait_group {}; "
COPIES = [
    (GROUP.format(0) + "bar.sync 0;", set()),
    ("cp.async.wait_all; bar.sync 0;", set()),
    (GROUP.format(1) + "bar.sync 0;", {"cp.async"}),
    ("cp.async.commit_group; bar.sync 0;", {"cp.async"}),
    ("cp.async.wait_group 0; bar.sync 0;", {"cp.async"}),
    ("cp.async.wait_all;", {"shared-race"}),
    ("bar.sync 0; cp.async.wait_all;", {"shared-race"}),
]


@pytest.mark.parametrize(("wait", "expected"), COPIES)
def test_asynchronous_copies(wait, expected):
    array = np.arange(64, dtype=np.uint32)
    text = kernel(COPY.format("", wait), ["p"], head=".shared .align 8 .b8 s[256];")
    assert kinds(text, [array]) == expected
    if not expected:
        want = np.arange(64).reshape(-1, 2)[np.arange(32) ^ 1]
        assert array.reshape(-1, 2).tolist() == want.tolist()


def test_copies_of_fewer_bytes_add_zeros_and_read_no_more():
    text = kernel(
        COPY.format(", %r8", "cp.async.wait_all; bar.sync 0;").replace(
            "mov.u32 %r2, s;", "mov.u32 %r2, s; setp.lt.u32 %p1, %r1, 16; selp.b32 %r8, 8, 0, %p1;"
        ),
        ["p"],
        head=".shared .align 8 .b8 s[256];",
    )
    array = np.arange(64, dtype=np.uint32)
    assert kinds(text, [array]) == set()
    want = np.where(np.arange(32) < 16, np.arange(32) ^ 1, 32)
    padded = np.concatenate([np.arange(64), [0, 0]]).reshape(-1, 2)
    assert array.reshape(-1, 2).tolist() == padded[want].tolist()


def test_a_copy_past_the_end():
    text = kernel(COPY.format("", ""), ["p"], head=".shared .align 8 .b8 s[256];")
    with pytest.raises(ExecutionError, match="thread 31 of block 0: 8 bytes") as error:
        run(text, [words(62)])
    assert error.value.kind == "out-of-bounds"
    assert "cp.async" in str(error.value)
