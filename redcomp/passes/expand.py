"""expand: rewrite what a target cannot emit, until only its primitives are left."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

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


def emits(op: str, dtype: str, primitives: Collection[str]) -> bool:
    """Whether a target of these primitives has the operation for the dtype."""
    return op in primitives and OPERATIONS[op].takes(dtype)


def _expanded(value: Value, primitives: Collection[str]) -> Value:
    if value.op in STRUCTURAL:
        return value
    row = OPERATIONS.get(value.op)
    rule = None if row is None else _suited(row.fast, value.dtype, primitives)
    if rule is None and value.op in primitives:
        return value
    if row is None or value.dim > 1:
        raise CompilerError(f"{value.op!r} is not scalar: expand takes a scalar program")
    rule = rule or _suited(row.variants, value.dtype, primitives) or row.expand or row.fallback
    if rule is None:
        raise CompilerError(f"the target cannot emit {value.op!r}, which has no expansion")
    return rule(*value.args, **dict(value.attrs))


def _suited(
    rules: Mapping[str, Callable[..., Value]], dtype: str, primitives: Collection[str]
) -> Callable[..., Value] | None:
    """The first of the rules whose primitive the target has for the dtype."""
    suited = (rule for needed, rule in rules.items() if emits(needed, dtype, primitives))
    return next(suited, None)
