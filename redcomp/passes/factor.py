"""factor: sum_j f(i) g(i, j) = f(i) sum_j g(i, j), so that f is applied once per row.

Such factors are frequent in gradients, and if f is a vector and g a scalar, one number is reduced
instead of many.  Rounding differs from the unfactored sum, and so does overflow: f g may be finite
where g is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from redcomp.ir import J_BIT, Kernel, Output, Value, select
from redcomp.ops.reductions import REDUCTIONS
from redcomp.ops.table import apply
from redcomp.passes.registry import compiler_pass
from redcomp.target import Context

_Split = tuple[Value | None, Value | None]
_Rule = Callable[[Value], bool]


@compiler_pass
def factor(kernel: Kernel, context: Context) -> Kernel:
    """Move the j-free factors of what results are linear in into the outputs' scales."""
    return Kernel(kernel.params, tuple(map(_factored, kernel.outputs)))


def _factored(output: Output) -> Output:
    first = REDUCTIONS[output.reduction].linear_from
    if first is None or output.scale is not None:
        return output
    before, linear = _parts(output.value, first)
    inside, outside = _split(linear)
    if outside is None:
        return output
    if inside is None:  # nothing depends on j: the sum counts the columns
        return output
    value = inside if before is None else apply("concat", before, inside)
    return replace(output, value=value, scale=_with_dim(outside, inside, linear))


def _parts(value: Value, first: int) -> tuple[Value | None, Value]:
    """The components before a position, if there are some, and those from there on."""
    if first == 0:
        return None, value
    if value.op == "concat" and value.args[0].dim == first:
        before, linear = value.args
        return before, linear
    before = apply("extract", value, start=0, length=first)
    return before, apply("extract", value, start=first, length=value.dim - first)


def _with_dim(scale: Value, inside: Value, value: Value) -> Value:
    """The scale widened if the product would otherwise have lost components."""
    if max(scale.dim, inside.dim) == value.dim:
        return scale
    return Value("broadcast", (scale,), value.type)


def _depends_on_rows_only(value: Value) -> bool:
    return not value.dependence & J_BIT


def _split(root: Value) -> _Split:
    """A value as (what stays in the sum) * (what leaves it), either missing if it is 1."""
    done: dict[tuple[Value, _Rule], _Split] = {}
    stack: list[tuple[Value, _Rule]] = [(root, _depends_on_rows_only)]
    while stack:  # products may have any number of factors
        value, may_leave = stack[-1]
        inner = _factors(value, may_leave)
        missing = [(arg, rule) for arg, rule in inner if (arg, rule) not in done]
        if not missing:
            parts = [done[arg, rule] for arg, rule in inner]
            done[value, may_leave] = _joined(value, may_leave, parts)
            stack.pop()
        stack += missing
    return done[root, _depends_on_rows_only]


def _factors(value: Value, may_leave: _Rule) -> list[tuple[Value, _Rule]]:
    """The arguments that factors are taken out of, and which ones."""
    if may_leave(value):
        return []
    if value.op == "multiply":
        return [(arg, may_leave) for arg in value.args]
    if value.op in ("negate", "divide", "broadcast"):
        return [(value.args[0], may_leave)]
    if value.op == "select":
        condition, a, b = value.args
        rule = may_leave if may_leave(condition) else _is_finite_constant
        return [(b if _is_zero(a) else a, rule)] if _is_zero(a) or _is_zero(b) else []
    return []


def _joined(value: Value, may_leave: _Rule, split: list[_Split]) -> _Split:
    """A value split as its factors are."""
    if may_leave(value):
        return None, value
    if value.op == "multiply":
        (a_in, a_out), (b_in, b_out) = split
        return _times(a_in, b_in), _times(a_out, b_out)
    if value.op == "broadcast":
        return split[0]
    inside, outside = split[0] if split else (None, None)
    if value.op == "divide" and may_leave(value.args[1]):
        return inside, (1.0 if outside is None else outside) / value.args[1]
    if outside is None:
        return value, None
    if value.op == "negate":
        return inside, -outside
    if value.op == "select":
        return _selected(value, may_leave, inside, outside)
    return (1.0 if inside is None else inside) / value.args[1], outside


def _selected(value: Value, may_leave: _Rule, inside: Value | None, outside: Value) -> _Split:
    """Where a product or zero is selected, constants leave it, and all else with its condition.

    What may be infinite or NaN would otherwise meet the zeros outside.
    """
    condition, a, b = value.args
    if inside is None:
        return value, None

    def selected(part: Value) -> Value:
        return select(condition, *((a, part) if _is_zero(a) else (part, b)))

    return selected(inside), selected(outside) if may_leave(condition) else outside


def _is_finite_constant(value: Value) -> bool:
    return value.is_constant and math.isfinite(value["value"])


def _is_zero(value: Value) -> bool:
    return value.is_constant and bool(value["value"] == 0)


def _times(a: Value | None, b: Value | None) -> Value | None:
    if a is None or b is None:
        return a if b is None else b
    return a * b
