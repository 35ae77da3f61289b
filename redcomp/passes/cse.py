"""cse: share values of equal structure, so that each is computed once."""

from __future__ import annotations

from redcomp.ir import P, shared, with_roots
from redcomp.passes.registry import compiler_pass
from redcomp.target import Context


@compiler_pass
def cse(program: P, context: Context) -> P:
    """The program with one object for all values of equal structure, on any target."""
    return with_shared_values(program)


def with_shared_values(program: P) -> P:
    """The program with one object for all values of equal structure."""
    return with_roots(program, shared(program.values))
