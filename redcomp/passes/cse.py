"""cse: share values of equal structure, so that each is computed once."""

from __future__ import annotations

from redcomp.ir import P, shared, with_roots


def cse(program: P) -> P:
    """The program with one object for all values of equal structure."""
    return with_roots(program, shared(program.values))
