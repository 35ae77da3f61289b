"""grad: reverse-mode differentiation, IR to IR, of any order.

Each operation is differentiated by its row's rule: partial derivatives for elementwise operations,
the selection for those that select among their operands, a pullback for the others.  The rules are
those of the mathematical functions, never of their approximations.

The derivative of a selection is a selection of derivatives: a branch that is not taken gets no
cotangent, which stays zero whatever it is multiplied by (see `redcomp.passes.guarded`).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from redcomp.errors import CompilerError
from redcomp.ir import Value, broadcast, constant, topological, zero
from redcomp.ops.table import OPERATIONS, Operation
from redcomp.passes.guarded import Guarded, Supports, negation, selection

Cotangents = tuple[Guarded | None, ...]


def gradient(output: Value, wrt: Value, cotangent: Value) -> Value:
    """The cotangent of `wrt` (a variable), given that of `output`: a vector-Jacobian product.

    A scalar cotangent serves all components of the output.
    """
    return gradients(output, (wrt,), cotangent)[0]


def gradients(output: Value, wrt: tuple[Value, ...], cotangent: Value) -> tuple[Value, ...]:
    """`gradient` with respect to several variables at once."""
    return reverse(((output, cotangent),), wrt)


def reverse(seeds: Iterable[tuple[Value, Value]], wrt: tuple[Value, ...]) -> tuple[Value, ...]:
    """The cotangents of `wrt`, given those of several outputs, as (output, cotangent) pairs."""
    guarded = ((output, Guarded(cotangent)) for output, cotangent in seeds)
    found = sweep(guarded, wrt, Supports())
    return tuple(
        zero(v.type) if e is None else e.settled() for v, e in zip(wrt, found, strict=True)
    )


def sweep(
    seeds: Iterable[tuple[Value, Guarded]],
    wrt: tuple[Value, ...],
    supports: Supports,
    known: Container[Value] = (),
) -> Cotangents:
    """As `reverse`, with guards; None for what the outputs do not depend on.

    Nothing is searched below `known` values.
    """
    cotangents: dict[Value, Guarded] = {}
    outputs = []
    for output, cotangent in seeds:
        outputs.append(output)
        _accumulate(cotangents, output, cotangent)
    order = list(topological(outputs, known))
    active = _depending_on(order, wrt)
    for value in reversed(order):
        arriving = cotangents.get(value)
        if arriving is None or value not in active:
            continue
        pulled = pull_back(arriving, value, active, supports)
        for arg, part in zip(value.args, pulled, strict=True):
            if part is not None and arg in active:
                _accumulate(cotangents, arg, part)
    return tuple(cotangents.get(v) for v in wrt)


def _accumulate(cotangents: dict[Value, Guarded], value: Value, part: Guarded) -> None:
    part = part.fit(value.type)
    known = cotangents.get(value)
    cotangents[value] = part if known is None else known.plus(part)


def _depending_on(order: Iterable[Value], wrt: tuple[Value, ...]) -> set[Value]:
    active = set(wrt)
    for value in order:
        if any(arg in active for arg in value.args):
            active.add(value)
    return active


def pull_back(e: Guarded, value: Value, active: Container[Value], supports: Supports) -> Cotangents:
    """One cotangent an argument, given the value's own: None where it is zero, or not `active`.

    It is linear in `e`.  One with more or fewer components than its argument still has to `fit`.
    """
    if not value.args:
        return ()
    if value.op == "broadcast":
        return (e,)
    if value.op == "select":
        condition = value.args[0]
        return None, e.where(condition), e.where(negation(condition))
    row = OPERATIONS[value.op]
    if row.selection is not None:
        return _through_selection(e, value, active, supports)
    if row.pullback is not None:
        return _by_rule(e, value, row, supports)
    if len(row.partials) != len(value.args):
        raise CompilerError(f"operation {value.op!r} has no derivative rule")
    attrs = dict(value.attrs)
    return tuple(
        _product(e, row, position, value, attrs, supports) if arg in active else None
        for position, arg in enumerate(value.args)
    )


def _through_selection(
    e: Guarded, value: Value, active: Container[Value], supports: Supports
) -> Cotangents:
    """The cotangents of the arguments among which a row selects; all of an argument's at once."""
    wrt = tuple(dict.fromkeys(arg for arg in value.args if arg in active))
    below = set(value.args)
    found = sweep(((selection(value), e),), wrt, supports, below)
    pulled = dict(zip(wrt, found, strict=True))
    return tuple(pulled.pop(arg, None) for arg in value.args)


def _by_rule(e: Guarded, value: Value, row: Operation, supports: Supports) -> Cotangents:
    assert row.pullback is not None
    if not row.moves:
        e = e.with_scalar_guard()
        parts = row.pullback(e.value, value)
        return tuple(None if part is None else supports.split(e, part) for part in parts)
    guards: tuple[Value | None, ...] = (e.guard,) * len(value.args)
    if row.moves == "some" or (e.guard is not None and e.guard.dim > 1):
        guard = constant(True, "i1") if e.guard is None else e.guard
        guards = row.pullback(broadcast(guard, value.dim), value)
    return tuple(
        None if part is None else Guarded(part, guard, e.is_settled)
        for part, guard in zip(row.pullback(e.value, value), guards, strict=True)
    )


def _product(
    e: Guarded,
    row: Operation,
    position: int,
    value: Value,
    attrs: Mapping[str, object],
    supports: Supports,
) -> Guarded | None:
    rule = row.partials[position]
    if rule is None:
        return None
    partial = rule(*value.args, value, **attrs)
    # Where a rule selects, it chooses between limits of one derivative: that is no guard.
    if isinstance(partial, Value) and partial.op == "select" and partial not in value.args:
        return supports.times(e, partial, is_guard=False)
    return supports.times(e, partial)
