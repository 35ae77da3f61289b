"""Reading assembly: needs no backend."""

from __future__ import annotations

import pytest

from redcomp.llvm_backend.host.machine_code import pair_loop

# A loop over blocks of rows; in it a loop over columns that rarely runs another loop.
GUARDED = """
other:
.LBB0_1:
	vaddps	%zmm0, %zmm0, %zmm0
	vaddps	%zmm0, %zmm0, %zmm0
	vaddps	%zmm0, %zmm0, %zmm0
	jne	.LBB0_1
	retq
{entry}:
	testq	%rax, %rax
	je	.LBB2_9
.LBB2_1:
	vxorps	%zmm1, %zmm1, %zmm1
.LBB2_2:
	vsubps	(%rbx){{1to16}}, %zmm2, %zmm3   # a comment
	vcmpltps	%zmm3, %zmm1, %k1
	kortestw	%k1, %k1
	je	.LBB2_4
	vminps	%zmm3, %zmm1, %zmm1
.LBB2_3:
	vmaxps	%zmm3, %zmm1, %zmm1
	vmulps	%zmm3, %zmm3, %zmm3
	jne	.LBB2_3
.LBB2_4:
	vmovaps	%zmm4, -64(%rsp)
	cmpq	%rcx, %rdx
	jne	.LBB2_2
	vdivps	%zmm1, %zmm1, %zmm1
	vdivps	%zmm1, %zmm1, %zmm1
	vdivps	%zmm1, %zmm1, %zmm1
	jne	.LBB2_1
.LBB2_9:
	retq
"""


@pytest.mark.parametrize("entry", ["pairs", "_pairs"])
def test_cheapest_way_through_the_loop_over_columns(entry: str) -> None:
    body = pair_loop(GUARDED.format(entry=entry))
    assert dict(body.counts) == {"vsubps": 1, "vcmpltps": 1, "vmovaps": 1}
    assert len(body.lines) == 7
    assert body.vector_instructions == 3
    assert body.arithmetic == 2
    assert body.spills == 1


def test_loop_over_components_is_the_core() -> None:
    """The same with the inner loop on every way."""
    text = GUARDED.replace("	je	.LBB2_4\n", "").format(entry="pairs")
    assert dict(pair_loop(text).counts) == {"vmaxps": 1, "vmulps": 1}


def test_unconditional_jumps_and_other_machines() -> None:
    text = """
pairs:
	b	.LBB1_0
.LBB1_1:
	cbz	x1, .LBB1_5
.LBB1_0:
	ldr	q1, [x2]
.LBB1_2:
	fmla	v0.4s, v1.4s, v2.s[0]
	tbz	x9, #0, .LBB1_4
	fmin	v0.4s, v0.4s, v1.4s
	b	.LBB1_4
.LBB1_3:
	fmax	v0.4s, v0.4s, v1.4s
.LBB1_4:
	str	q0, [sp, #16]
	subs	x0, x0, #1
	b.ne	.LBB1_2
	b	.LBB1_1
.LBB1_5:
	ret
"""
    body = pair_loop(text)
    assert dict(body.counts) == {"fmla": 1, "str": 1}
    assert body.spills == 1


@pytest.mark.parametrize("text", ["", "pairs:\n\tretq\n", "other:\n.L1:\n\tjne\t.L1\n"])
def test_assembly_without_the_loop(text: str) -> None:
    with pytest.raises(ValueError, match="no loop over pairs"):
        pair_loop(text)
