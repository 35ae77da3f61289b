"""expand: rewrite what a target cannot emit, until only its primitives are left."""

from __future__ import annotations

from collections.abc import Collection

from redcomp.errors import CompilerError
from redcomp.ir import P, Value, rewrite, rewrite_program
from redcomp.ops.table import OPERATIONS

STRUCTURAL = frozenset(
    {"variable", "constant", "index", "component", "fold", "map", "from_elements"}
)


def expand(program: P, primitives: Collection[str]) -> P:
    """A scalar program in terms of `primitives` (names of operations) and structural operations."""
    return rewrite_program(program, lambda value: _expanded(value, primitives))


def expand_value(value: Value, primitives: Collection[str]) -> Value:
    """One operation and all that it needs, in terms of primitives."""
    return rewrite([value], lambda part: _expanded(part, primitives))[id(value)]


def _expanded(value: Value, primitives: Collection[str]) -> Value:
    if value.op in STRUCTURAL or value.op in primitives:
        return value
    if value.op not in OPERATIONS or value.dim > 1:
        raise CompilerError(f"{value.op!r} is not scalar: expand takes a scalar program")
    row = OPERATIONS[value.op]
    suited = (rule for needed, rule in row.variants.items() if needed in primitives)
    rule = next(suited, row.expand or row.fallback)
    if rule is None:
        raise CompilerError(f"the target cannot emit {value.op!r}, which has no expansion")
    return rule(*value.args, **dict(value.attrs))
