"""expand: rewrite operations that the target cannot emit, until only its primitives are left.

An operation's expansion depends on its types and attributes, never on its operands.  So it is built
once, on variables, and copied for each value.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from redcomp.errors import CompilerError
from redcomp.ir import (
    BINDERS,
    STRUCTURAL,
    Attribute,
    Interner,
    P,
    Type,
    Value,
    free_indices,
    listing,
    rewrite,
    topological,
    variable,
    with_roots,
)
from redcomp.ops.table import OPERATIONS, SIMD
from redcomp.passes.registry import compiler_pass
from redcomp.target import Context


@compiler_pass
def expand(program: P, context: Context) -> P:
    """A scalar program in terms of the target's primitives and structural operations."""
    expanded = _Expander(context.target.primitives)
    done: dict[Value, Value] = {}
    for value in program.values:
        args = tuple([done[arg] for arg in value.args])
        done[value] = value.with_args(args) if value.op in STRUCTURAL else expanded(value, args)
    return with_roots(program, done)


class Size(NamedTuple):
    """Operations of a scalar program when it is expanded.

    written  as they are listed, those of a loop once
    needed   for a pair, if nothing were computed twice
    done     for a pair
    """

    written: int
    needed: int
    done: int


def measure(roots: Iterable[Value], primitives: Collection[str]) -> Size:
    """How many operations there will be, without expanding anything."""
    chosen, values = frozenset(primitives), listing(roots)
    loops = free_indices(values)
    runs = times(values, loops)
    written = needed = done = 0
    for value in values:
        if value.op not in STRUCTURAL:
            size = _template_of(value, chosen).size
            written += size
            needed += size * math.prod(extent for _, extent in loops[value])
            done += size * runs[value]
    return Size(written, needed, done)


def expanded_length(value: Value, primitives: frozenset[str]) -> int:
    """How many operations one on scalars becomes."""
    return _template_of(value, primitives).operations


def times(
    values: Sequence[Value], loops: Mapping[Value, frozenset[tuple[int, int]]]
) -> dict[Value, int]:
    """How often each value is computed for a pair, in the loops that it is inside of.

    values  all that is computed, arguments before their users
    loops   see `free_indices`

    What does not change in a loop is computed before it, unless it changes in one that is further
    inside.
    """
    if not any(loops.values()):
        return dict.fromkeys(values, 1)
    around: dict[Value, tuple[int, ...]] = {}  # the extents of the loops, outermost first
    nothing: tuple[int, ...] = ()
    for user in reversed(values):
        inside = around.get(user, nothing)
        if user.op in BINDERS:
            inside = (*inside, user.args[-1]["extent"])
        for arg in user.args:
            if inside and loops[arg]:
                found = inside[: max([level + 1 for level, _ in loops[arg]])]
                known = around.get(arg, nothing)
                if found != known and math.prod(found) > math.prod(known):
                    around[arg] = found
    return {value: math.prod(around.get(value, nothing)) for value in values}


def expand_value(value: Value, primitives: Collection[str]) -> Value:
    """One operation and all that it needs, in terms of primitives."""
    return rewrite([value], lambda part: _expanded(part, primitives))[value]


@dataclass(frozen=True, slots=True, eq=False)
class _Template:
    """An operation on variables, expanded.

    values      what the expansion computes, in order; the operands come first
    result      None where the operation is a primitive
    operations  how many of the values are neither operands nor constants
    """

    values: tuple[Value, ...]
    result: Value | None
    operations: int

    @property
    def size(self) -> int:
        """How many values it has, operands and constants among them."""
        return max(1, len(self.values))


class _Expander:
    """Expands the operations of a program; what several of them have in common, they share."""

    def __init__(self, primitives: frozenset[str]) -> None:
        self.primitives, self.intern = primitives, Interner()
        self.templates: dict[object, _Template] = {}  # found sooner than those of all programs
        self.constants: dict[_Template, dict[Value, Value]] = {}

    def __call__(self, value: Value, args: tuple[Value, ...]) -> Value:
        """The expansion of an operation, on these operands."""
        types = [arg.type for arg in value.args]
        key = (value.op, value.attrs, *[p for t in (value.type, *types) for p in (t.dtype, t.dim)])
        template = self.templates.get(key)
        if template is None:
            template = self.templates[key] = _template_of(value, self.primitives)
        if template.result is None:
            return value.with_args(args)
        done = self._constants_of(template) | dict(zip(template.values, args, strict=False))
        for part in template.values[len(args) :]:
            if part not in done:
                made = tuple([done[arg] for arg in part.args])
                done[part] = self.intern(Value(part.op, made, part.type, part.attrs, value.span))
        return done[template.result]

    def _constants_of(self, template: _Template) -> dict[Value, Value]:
        known = self.constants.get(template)
        if known is None:
            parts = (part for part in template.values if part.op == "constant")
            known = self.constants[template] = {part: self.intern(part) for part in parts}
        return known


def _template_of(value: Value, primitives: frozenset[str]) -> _Template:
    types = tuple([arg.type for arg in value.args])
    return _template(value.op, types, value.type, value.attrs, primitives)


@functools.lru_cache(maxsize=4096)
def _template(
    op: str,
    types: tuple[Type, ...],
    type_: Type,
    attrs: tuple[tuple[str, Attribute], ...],
    primitives: frozenset[str],
) -> _Template:
    operands = tuple(variable("operand", "i", n, of) for n, of in enumerate(types))
    value = Value(op, operands, type_, attrs)
    result = expand_value(value, primitives)
    if result.op == op and result.args == operands:
        return _Template((), None, 1)
    values = tuple(topological((*operands, result)))
    return _Template(values, result, sum(part.op not in STRUCTURAL for part in values))


def emits(op: str, dtype: str, primitives: Collection[str]) -> bool:
    """Whether a target of these primitives has the operation for the dtype, or SIMD."""
    return op in primitives and (op == SIMD or OPERATIONS[op].takes(dtype))


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
