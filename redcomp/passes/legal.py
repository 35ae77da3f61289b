"""legal: raise an error for operations that LLVM cannot lower, which would abort the process."""

from __future__ import annotations

from redcomp.errors import CompilerError
from redcomp.ir import STRUCTURAL, P
from redcomp.passes.registry import compiler_pass
from redcomp.target import Context

_VECTORS = ("variable", "map", "scan", "earlier", "from_elements", "constants", "update")


@compiler_pass
def legal(program: P, context: Context) -> P:
    """The program itself, if everything in it is scalar and within the target's primitives."""
    primitives = context.target.primitives
    for value in program.values:
        if value.op not in STRUCTURAL and value.op not in primitives:
            raise CompilerError(f"operation {value.op!r} reached a target that cannot emit it")
        if value.dim > 1 and value.op not in _VECTORS:
            raise CompilerError(f"operation {value.op!r} on a vector reached the code generator")
    return program
