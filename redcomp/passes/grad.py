"""grad: reverse-mode differentiation, IR to IR, of any order.

Each operation contributes its row's rule: partial derivatives for elementwise operations, a
pullback for the others.  The rules are those of the mathematical functions, never of their
approximations.
"""

from __future__ import annotations

from collections.abc import Mapping

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
    active = _depending_on(output, wrt)
    cotangents: dict[int, Value] = {id(output): _fit(cotangent, output.type)}
    for value in reversed(list(topological([output]))):
        arriving = cotangents.get(id(value))
        if arriving is None or id(value) not in active:
            continue
        for arg, part in zip(value.args, _pull_back(arriving, value, active), strict=True):
            if part is None or id(arg) not in active:
                continue
            part = _fit(part, arg.type)
            known = cotangents.get(id(arg))
            cotangents[id(arg)] = part if known is None else known + part
    return tuple(
        cotangents[id(v)] if id(v) in cotangents and id(v) in active else zero(v.type) for v in wrt
    )


def _depending_on(output: Value, wrt: tuple[Value, ...]) -> set[int]:
    wanted = {id(v) for v in wrt}
    active: set[int] = set()
    for value in topological([output]):
        if id(value) in wanted or any(id(arg) in active for arg in value.args):
            active.add(id(value))
    return active


def _pull_back(e: Value, value: Value, active: set[int]) -> tuple[Value | None, ...]:
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


def _fit(cotangent: Value, wanted: Type) -> Value:
    """Sum a cotangent over components that were broadcast, or repeat a scalar one."""
    if cotangent.dim == wanted.dim:
        return cotangent
    if wanted.dim == 1:
        return apply("sum", cotangent)
    return broadcast(cotangent, wanted.dim)
