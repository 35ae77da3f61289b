"""scalars: how many operations on scalars a formula is, at least, before anything is compiled."""

from __future__ import annotations

from collections.abc import Container, Iterable

from redcomp.ir import Value, topological
from redcomp.limits import MAX_WRITTEN_OUT


def written_out(roots: Iterable[Value], known: Container[Value] = ()) -> int:
    """At least how many operations on scalars vectors become, none of them expanded.

    An operation that mixes components, a product of matrices for example, counts as its longest
    operand or result; `scalarize` counts what it makes of it.

    Nothing is counted below `known` values.
    """
    return sum(map(_components, topological(roots, known)))


def _components(value: Value) -> int:
    return max(map(_copies, {value.type.dim, *[arg.type.dim for arg in value.args]}))


def _copies(dim: int) -> int:
    """How often the code of a component is written: in a loop once."""
    return dim if dim <= MAX_WRITTEN_OUT else 1
