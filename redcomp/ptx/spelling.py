"""What vendors of GPUs spell differently: thread numbers, barriers, copies, and how kernels begin.

The skeleton asks a `Spelling` for these; all else that it writes is LLVM's for any GPU.  Another
vendor's GPU is another instance, with a target and a loader.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from redcomp.llvm_backend.code import Code
from redcomp.llvm_backend.spelling import LLVM_TYPES
from redcomp.ptx.mma import MatrixProduct

# Address spaces, the same for NVIDIA and AMD.
GLOBAL, SHARED = 1, 3
# Of all loops: the blocks of the schedule do what unrolling would, and the assembler would do it
# once more, with another remainder.
NO_UNROLLING = "!1"
# Of calls that LLVM must not move to where only some of the threads come.
_CONVERGENT = "#1"
# Of loads of what never changes while a kernel runs.
INVARIANT = "!invariant.load !0"


def shared_array(name: str, size: int) -> str:
    """The declaration of so many bytes of a block's shared memory."""
    return f"{name} = internal addrspace({SHARED}) global [{size} x i8] undef, align 16\n"


class Spelling(Protocol):
    """What code for the GPUs of a vendor looks like where vendors differ."""

    def thread(self, code: Code) -> str:
        """The number of the thread within its block, as 64 bits."""

    def block(self, code: Code) -> str:
        """The number of the block."""

    def blocks(self, code: Code) -> str:
        """How many blocks there are."""

    def barrier(self, code: Code) -> None:
        """Wait for all threads of the block."""

    def copy(self, code: Code, source: str, target: str, size: int) -> None:
        """Begin to copy so many bytes from global to shared memory, past the registers."""

    def await_copies(self, code: Code) -> None:
        """Wait for the copies that the thread has begun."""

    def forgotten(self, code: Code, number: str) -> str:
        """A 64-bit number that compilers know nothing of: what follows is computed anew, and needs
        no registers until then.
        """

    def exchanged(self, code: Code, type_: str, operand: str, distance: int) -> str:
        """What the lane has whose number differs in this bit; all lanes of a warp take part."""

    def multiplied(
        self,
        code: Code,
        product: MatrixProduct,
        a: Sequence[str],
        b: Sequence[str],
        sums: Sequence[str],
    ) -> list[str]:
        """The elements of the product and sum of matrices that a lane holds; all take part."""

    def kernel(self, name: str, parameters: Sequence[str], code: Code) -> str:
        """The text of a kernel, its code complete."""

    def module(
        self, triple: str, texts: Iterable[str], launches: Mapping[str, tuple[int, int]]
    ) -> str:
        """The text of a module: definitions and declarations, and for each kernel the threads of a
        block and the blocks that a multiprocessor is to hold at a time.
        """


class Nvidia:
    """The spelling of PTX: PTX ISA, and LLVM's user guide for its NVPTX back end."""

    def thread(self, code: Code) -> str:
        return self._special(code, "tid")

    def block(self, code: Code) -> str:
        return self._special(code, "ctaid")

    def blocks(self, code: Code) -> str:
        return self._special(code, "nctaid")

    def _special(self, code: Code, name: str) -> str:
        """A special register of the first dimension, as 64 bits."""
        number = code.call("i32", f"llvm.nvvm.read.ptx.sreg.{name}.x", [], [])
        return code.value(f"zext i32 {number} to i64")

    def barrier(self, code: Code) -> None:
        self._assembly(code, "bar.sync 0;", "")

    def copy(self, code: Code, source: str, target: str, size: int) -> None:
        address = code.value(f"ptrtoint ptr addrspace({SHARED}) {target} to i32")
        operands = [f"i32 {address}", f"ptr addrspace({GLOBAL}) {source}"]
        self._assembly(code, f"cp.async.ca.shared.global [$0], [$1], {size};", "r,l", operands)

    def await_copies(self, code: Code) -> None:
        self._assembly(code, "cp.async.wait_all;", "")

    def _assembly(
        self, code: Code, text: str, constraints: str, operands: Sequence[str] = ()
    ) -> None:
        """An instruction with effects on memory that LLVM must not move anything across."""
        clobbered = f"{constraints},~{{memory}}".lstrip(",")
        code.line(f'call void asm sideeffect "{text}", "{clobbered}"({", ".join(operands)}) #1')

    def forgotten(self, code: Code, number: str) -> str:
        return code.value(f'call i64 asm sideeffect "mov.b64 $0, $1;", "=l,l"(i64 {number}) #1')

    def exchanged(self, code: Code, type_: str, operand: str, distance: int) -> str:
        if type_ == "float":
            bits = self._exchanged(code, code.value(f"bitcast float {operand} to i32"), distance)
            return code.value(f"bitcast i32 {bits} to float")
        bits = code.value(f"bitcast {type_} {operand} to i64")
        low = code.value(f"trunc i64 {bits} to i32")
        high = code.value(f"trunc i64 {code.integer('lshr', bits, 32)} to i32")
        low, high = (
            code.value(f"zext i32 {self._exchanged(code, word, distance)} to i64")
            for word in (low, high)
        )
        joined = code.integer("or", low, code.integer("shl", high, 32))
        return code.value(f"bitcast i64 {joined} to {type_}")

    def _exchanged(self, code: Code, word: str, distance: int) -> str:
        name = "llvm.nvvm.shfl.sync.bfly.i32"
        operands = ["-1", word, str(distance), "31"]
        return code.call("i32", name, ["i32"] * 4, operands, _CONVERGENT)

    def multiplied(
        self,
        code: Code,
        product: MatrixProduct,
        a: Sequence[str],
        b: Sequence[str],
        sums: Sequence[str],
    ) -> list[str]:
        type_ = LLVM_TYPES[product.dtype]
        result = f"{{ {', '.join([type_] * len(sums))} }}"
        types = [product.operand] * (len(a) + len(b)) + [type_] * len(sums)
        operands = [*a, *b, *sums]
        made = code.call(result, product.intrinsic, types, operands, _CONVERGENT)
        return [code.value(f"extractvalue {result} {made}, {n}") for n in range(len(sums))]

    def kernel(self, name: str, parameters: Sequence[str], code: Code) -> str:
        body = "\n".join(code.lines)
        listed = ", ".join(parameters)
        return f"define ptx_kernel void @{name}({listed}) #0 {{\nentry:\n{body}\n  ret void\n}}\n"

    def module(
        self, triple: str, texts: Iterable[str], launches: Mapping[str, tuple[int, int]]
    ) -> str:
        # Metadata is the form of limits that all releases of LLVM read.
        notes = [
            f'!{{ptr @{name}, !"maxntidx", i32 {threads}, !"minctasm", i32 {resident}}}'
            for name, (threads, resident) in launches.items()
        ]
        lines = [
            f'target triple = "{triple}"',
            *texts,
            "attributes #0 = { nounwind }",
            "attributes #1 = { convergent nounwind }",
            "!0 = !{}",
            f'{NO_UNROLLING} = distinct !{{{NO_UNROLLING}, !{{!"llvm.loop.unroll.disable"}}}}',
            f"!nvvm.annotations = !{{{', '.join(f'!{n}' for n in range(2, len(notes) + 2))}}}",
            *(f"!{n} = {note}" for n, note in enumerate(notes, 2)),
        ]
        return "\n".join(lines) + "\n"


NVIDIA = Nvidia()
