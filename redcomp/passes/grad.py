"""grad: reverse-mode differentiation, IR to IR, of any order.

Each operation contributes its row's rule: partial derivatives for elementwise operations, a
pullback for the others.  The rules are those of the mathematical functions, never of their
approximations.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from redcomp.errors import CompilerError
from redcomp.ir import Type, Value, broadcast, select, topological, zero
from redcomp.ops.table import OPERATIONS, Operation, apply


def gradient(output: Value, wrt: Value, cotangent: Value) -> Value:
    """The cotangent of `wrt` (a variable), given that of `output`: a vector-Jacobian product.

    A scalar cotangent serves all components of the output.
    """
    return gradients(output, (wrt,), cotangent)[0]


def gradients(output: Value, wrt: tuple[Value, ...], cotangent: Value) -> tuple[Value, ...]:
    """`gradient` with respect to several variables at once."""
    return reverse(((output, cotangent),), wrt)


def reverse(
    seeds: Iterable[tuple[Value, Value]], wrt: tuple[Value, ...], known: Container[int] = ()
) -> tuple[Value, ...]:
    """The cotangents of `wrt`, given those of several outputs, as (output, cotangent) pairs.

    Nothing is searched below a value whose `id` is `known`: promise that `wrt` is not there.
    """
    cotangents: dict[int, Value] = {}
    outputs = []
    for output, cotangent in seeds:
        outputs.append(output)
        _accumulate(cotangents, output, cotangent)
    order = list(topological(outputs, known))
    active = _depending_on(order, wrt)
    for value in reversed(order):
        arriving = cotangents.get(id(value))
        if arriving is None or id(value) not in active:
            continue
        for arg, part in zip(value.args, pull_back(arriving, value, active), strict=True):
            if part is not None and id(arg) in active:
                _accumulate(cotangents, arg, part)
    return tuple(
        cotangents[id(v)] if id(v) in cotangents and id(v) in active else zero(v.type) for v in wrt
    )


def _accumulate(cotangents: dict[int, Value], value: Value, part: Value) -> None:
    part = fit(part, value.type)
    known = cotangents.get(id(value))
    cotangents[id(value)] = part if known is None else known + part


def _depending_on(order: Iterable[Value], wrt: tuple[Value, ...]) -> set[int]:
    wanted = {id(v) for v in wrt}
    active: set[int] = set()
    for value in order:
        if id(value) in wanted or any(id(arg) in active for arg in value.args):
            active.add(id(value))
    return active


def pull_back(e: Value, value: Value, active: Container[int]) -> tuple[Value | None, ...]:
    """One cotangent an argument, given the value's own: None where it is zero, or not `active`.

    It is linear in `e`.  One with more or fewer components than its argument still has to `fit`.
    """
    if not value.args:
        return ()
    if value.op == "broadcast":
        return (e,)
    if value.op == "select":  # pullbacks select between cotangents; these are differentiable again
        condition = value.args[0]
        return None, select(condition, e, 0.0), select(condition, 0.0, e)
    row = OPERATIONS[value.op]
    if row.pullback is not None:
        return row.pullback(e, value)
    if len(row.partials) != len(value.args):
        raise CompilerError(f"operation {value.op!r} has no derivative rule")
    attrs = dict(value.attrs)
    return tuple(
        _product(e, row, position, value, attrs) if id(arg) in active else None
        for position, arg in enumerate(value.args)
    )


def _product(
    e: Value, row: Operation, position: int, value: Value, attrs: Mapping[str, object]
) -> Value | None:
    rule = row.partials[position]
    if rule is None:
        return None
    partial = rule(*value.args, value, **attrs)
    if isinstance(partial, Value):
        return e * partial
    if partial == 1.0:
        return e
    return -e if partial == -1.0 else e * partial


def fit(cotangent: Value, wanted: Type) -> Value:
    """Sum a cotangent over components that were broadcast, or repeat a scalar one."""
    if cotangent.dim == wanted.dim:
        return cotangent
    if wanted.dim == 1:
        return apply("sum", cotangent)
    return broadcast(cotangent, wanted.dim)
