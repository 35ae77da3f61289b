"""Kernels to assemble: a tiled Gaussian sum in LLVM's text, and small loops in PTX.

No backend needed.
"""

from __future__ import annotations

from collections.abc import Iterator

from redcomp.llvm_backend import code_generation
from redcomp.target import Target

THREADS = 128

_GAUSSIAN = """
target triple = "nvptx64-nvidia-cuda"
@tile = internal addrspace(3) global [{threads} x <4 x float>] undef, align 16
declare i32 @llvm.nvvm.read.ptx.sreg.tid.x()
declare i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
declare void @llvm.nvvm.barrier0()
declare float @llvm.fma.f32(float, float, float)
declare float @llvm.nvvm.ex2.approx.ftz.f(float)

define ptx_kernel void @redcomp_run(
    i64 %columns, ptr addrspace(1) %x, ptr addrspace(1) %y, ptr addrspace(1) %out
) "nvvm.maxntid"="{threads}" {{
entry:
  %thread = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %block = call i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
  %first = mul i32 %block, {block_rows}
  %own = add i32 %first, %thread
  %count = trunc i64 %columns to i32
{load_rows}
  br label %tiles
tiles:
  %start = phi i32 [0, %entry], [%next_start, %tile_done]
{totals}
  call void @llvm.nvvm.barrier0()
  %column = add i32 %start, %thread
  %column64 = sext i32 %column to i64
  %source = getelementptr <4 x float>, ptr addrspace(1) %y, i64 %column64
  %copied = load <4 x float>, ptr addrspace(1) %source, align 16
  %place = getelementptr <4 x float>, ptr addrspace(3) @tile, i32 %thread
  store <4 x float> %copied, ptr addrspace(3) %place, align 16
  call void @llvm.nvvm.barrier0()
  br label %pairs
pairs:
  %j = phi i32 [0, %tiles], [%next_j, %pairs]
{sums}
  %here = getelementptr <4 x float>, ptr addrspace(3) @tile, i32 %j
{steps}
  %next_j = add nuw nsw i32 %j, {cols}
  %go_on = icmp ult i32 %next_j, {threads}
  br i1 %go_on, label %pairs, label %tile_done, !llvm.loop !0
tile_done:
{merges}
  %next_start = add i32 %start, {threads}
  %more = icmp slt i32 %next_start, %count
  br i1 %more, label %tiles, label %done, !llvm.loop !2
done:
{store_rows}
  ret void
}}
!0 = distinct !{{!0, !1}}
!1 = !{{!"llvm.loop.unroll.disable"}}
!2 = distinct !{{!2, !1}}
"""


def gaussian(rows: int, cols: int) -> str:
    """The sum over j of exp2(-|x - y|^2) b for points in 3-D, in LLVM's text.

    A thread has some rows, `THREADS` apart; a tile holds y and b of as many columns as a block has
    threads; the loop over the tile takes some columns a step.
    """
    each = [("\n".join(f(a) for a in range(rows))) for f in (_load_row, _total, _merge, _store_row)]
    return _GAUSSIAN.format(
        threads=THREADS,
        block_rows=THREADS * rows,
        cols=cols,
        load_rows=each[0],
        totals=each[1],
        merges=each[2].replace("COLS", str(cols)),
        store_rows=each[3],
        sums="\n".join(
            f"  %s{a}_0 = phi float [0.0, %tiles], [%s{a}_{cols}, %pairs]" for a in range(rows)
        ),
        steps="\n".join(line for c in range(cols) for line in _column(rows, c)),
    )


def _load_row(a: int) -> str:
    lines = [
        f"  %row{a} = add i32 %own, {a * THREADS}",
        f"  %row64_{a} = sext i32 %row{a} to i64",
        f"  %point{a} = getelementptr [3 x float], ptr addrspace(1) %x, i64 %row64_{a}",
    ]
    for d in range(3):
        lines += [
            f"  %at{a}_{d} = getelementptr float, ptr addrspace(1) %point{a}, i64 {d}",
            f"  %x{a}_{d} = load float, ptr addrspace(1) %at{a}_{d}",
        ]
    return "\n".join(lines)


def _total(a: int) -> str:
    return f"  %total{a} = phi float [0.0, %entry], [%merged{a}, %tile_done]"


def _merge(a: int) -> str:
    return f"  %merged{a} = fadd float %total{a}, %s{a}_COLS"


def _store_row(a: int) -> str:
    place = f"  %to{a} = getelementptr float, ptr addrspace(1) %out, i64 %row64_{a}"
    return f"{place}\n  store float %merged{a}, ptr addrspace(1) %to{a}"


def _column(rows: int, c: int) -> Iterator[str]:
    """The pairs of one column with all rows of a thread."""
    yield f"  %p{c} = getelementptr <4 x float>, ptr addrspace(3) %here, i32 {c}"
    yield f"  %v{c} = load <4 x float>, ptr addrspace(3) %p{c}, align 16"
    for d in range(4):
        yield f"  %y{c}_{d} = extractelement <4 x float> %v{c}, i32 {d}"
    for a in range(rows):
        n = f"{a}_{c}"
        for d in range(3):
            yield f"  %d{n}_{d} = fsub float %x{a}_{d}, %y{c}_{d}"
        yield f"  %q{n}_0 = fmul float %d{n}_0, %d{n}_0"
        for d in (1, 2):
            difference, before = f"float %d{n}_{d}", f"float %q{n}_{d - 1}"
            yield (
                f"  %q{n}_{d} = call float @llvm.fma.f32"
                f"({difference}, {difference}, {before})"
            )  # fmt: skip
        yield f"  %m{n} = fneg float %q{n}_2"
        yield f"  %e{n} = call float @llvm.nvvm.ex2.approx.ftz.f(float %m{n})"
        yield (
            f"  %s{a}_{c + 1} = call float @llvm.fma.f32"
            f"(float %e{n}, float %y{c}_3, float %s{a}_{c})"
        )


def ptx_of(text: str, target: str) -> str:
    """The PTX that LLVM makes of a module."""
    return code_generation.assembly(
        text, Target(target, "nvptx64-nvidia-cuda", target, "", 0, 0, frozenset())
    )


_LOOPS = """
.version 7.0
.target sm_75
.address_size 64
.visible .entry sample(.param .u64 data, .param .u32 count)
.maxntid 64
{{
  .reg .pred %p<4>;
  .reg .b32 %i<8>;
  .reg .b64 %a<4>;
  .reg .f32 %f<8>;
  .shared .align 16 .f32 tile[256];
  ld.param.u64 %a1, [data];
  ld.param.u32 %i1, [count];
  mov.u32 %i2, 0;
  mov.f32 %f1, 0f00000000;
  mov.f32 %f2, 0f3f800000;
{body}
  st.global.f32 [%a1], %f1;
  ret;
}}
"""

# Loops over pairs, each with what its core computes.  %i3 walks over the tile.
LOOPS = {
    # Filling the tile computes more than the pairs do, but reads no shared memory.
    "fills a tile": """
FILL:
  ld.global.f32 %f3, [%a1];
  fma.rn.f32 %f3, %f3, %f3, %f3;
  fma.rn.f32 %f3, %f3, %f3, %f3;
  fma.rn.f32 %f3, %f3, %f3, %f3;
  mov.u32 %i3, tile;
  mad.lo.u32 %i3, %i2, 4, %i3;
  st.shared.f32 [%i3], %f3;
  add.u64 %a1, %a1, 4;
  add.u32 %i2, %i2, 1;
  setp.lt.u32 %p1, %i2, %i1;
  .pragma "nounroll";
  @%p1 bra FILL;
  bar.sync 0;
  mov.u32 %i3, tile;
PAIRS:
  ld.shared.f32 %f3, [%i3];
  fma.rn.f32 %f1, %f3, %f3, %f1;
  add.u32 %i3, %i3, 4;
  sub.u32 %i2, %i2, 1;
  setp.ne.u32 %p1, %i2, 0;
  .pragma "nounroll";
  @%p1 bra PAIRS;
""",
    # The maximum grows rarely; a warp in which it does rescales its sum, in a loop.
    "rare branch": """
  mov.u32 %i3, tile;
PAIRS:
  ld.shared.f32 %f3, [%i3];
  setp.gt.f32 %p2, %f3, %f2;
  vote.sync.any.pred %p3, %p2, -1;
  @!%p3 bra USUAL;
  mov.u32 %i4, %i1;
RARE:
  ld.shared.f32 %f4, [%i3+4];
  fma.rn.f32 %f1, %f1, %f4, %f1;
  fma.rn.f32 %f1, %f1, %f4, %f1;
  sub.u32 %i4, %i4, 1;
  setp.ne.u32 %p2, %i4, 0;
  .pragma "nounroll";
  @%p2 bra RARE;
  max.f32 %f2, %f2, %f3;
USUAL:
  sub.f32 %f3, %f3, %f2;
  ex2.approx.ftz.f32 %f3, %f3;
  add.f32 %f1, %f1, %f3;
  fma.rn.f32 %f1, %f1, %f3, %f3;
  add.u32 %i3, %i3, 4;
  add.u32 %i2, %i2, 1;
  setp.lt.u32 %p1, %i2, %i1;
  .pragma "nounroll";
  @%p1 bra PAIRS;
""",
    # A pair's long vectors are read in a loop over components.
    "components": """
  mov.u32 %i3, tile;
PAIRS:
  mov.f32 %f3, 0f00000000;
  mov.u32 %i4, 0;
COMPONENTS:
  add.u32 %i5, %i3, %i4;
  ld.shared.f32 %f4, [%i5];
  ld.shared.f32 %f5, [%i5+128];
  fma.rn.f32 %f3, %f4, %f5, %f3;
  add.u32 %i4, %i4, 4;
  setp.lt.u32 %p2, %i4, 128;
  .pragma "nounroll";
  @%p2 bra COMPONENTS;
  ex2.approx.ftz.f32 %f3, %f3;
  add.f32 %f1, %f1, %f3;
  add.u32 %i3, %i3, 4;
  add.u32 %i2, %i2, 1;
  setp.lt.u32 %p1, %i2, %i1;
  .pragma "nounroll";
  @%p1 bra PAIRS;
""",
    # An exact quotient calls a subroutine for operands near the ends of the range.
    "quotient": """
  mov.u32 %i3, tile;
PAIRS:
  ld.shared.f32 %f3, [%i3];
  div.rn.f32 %f3, %f2, %f3;
  add.f32 %f1, %f1, %f3;
  add.u32 %i3, %i3, 4;
  add.u32 %i2, %i2, 1;
  setp.lt.u32 %p1, %i2, %i1;
  .pragma "nounroll";
  @%p1 bra PAIRS;
""",
}


def loops(name: str) -> str:
    """PTX of a kernel `sample` with one of the loops."""
    return _LOOPS.format(body=LOOPS[name])
