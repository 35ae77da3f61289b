"""expand: rewrite what a target cannot emit, until only its primitives are left."""

from __future__ import annotations

from collections.abc import Collection

from redcomp.errors import CompilerError
from redcomp.ir import P, Value, rewrite_program, topological
from redcomp.ops.table import OPERATIONS

STRUCTURAL = frozenset(
    {"variable", "constant", "index", "component", "fold", "map", "from_elements"}
)


def expand(program: P, primitives: Collection[str]) -> P:
    """A scalar program in terms of `primitives` (names of operations) and structural operations."""
    return rewrite_program(program, lambda value: expand_value(value, primitives))


def expand_value(value: Value, primitives: Collection[str]) -> Value:
    """One operation, its arguments left alone, in terms of primitives."""
    if value.op in STRUCTURAL or value.op in primitives:
        return value
    row = OPERATIONS[value.op]
    suited = (rule for needed, rule in row.variants.items() if needed in primitives)
    rule = next(suited, row.expand or row.fallback)
    if rule is None:
        raise CompilerError(f"the target cannot emit {value.op!r}, which has no expansion")
    expanded = rule(*value.args, **dict(value.attrs))
    done: dict[int, Value] = {id(arg): arg for arg in value.args}
    for part in list(topological([expanded], known=dict(done))):
        rebuilt = part.with_args(tuple(done[id(arg)] for arg in part.args))
        done[id(part)] = expand_value(rebuilt, primitives)
    return done[id(expanded)]
