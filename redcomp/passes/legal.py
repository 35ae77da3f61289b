"""legal: refuse what LLVM could not lower; it would end the process instead of raising an error."""

from __future__ import annotations

from collections.abc import Collection

from redcomp.errors import CompilerError
from redcomp.ir import STRUCTURAL, P

_VECTORS = ("variable", "map", "scan", "earlier", "from_elements")


def legal(program: P, primitives: Collection[str]) -> P:
    """The program itself, if everything in it is scalar and within the target's primitives."""
    for value in program.values:
        if value.op not in STRUCTURAL and value.op not in primitives:
            raise CompilerError(f"operation {value.op!r} reached a target that cannot emit it")
        if value.dim > 1 and value.op not in _VECTORS:
            raise CompilerError(f"operation {value.op!r} on a vector reached the code generator")
    return program
