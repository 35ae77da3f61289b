"""factor: sum_j f(i) g(i, j) = f(i) sum_j g(i, j), so that f is applied once a row.

Gradients are full of such factors, and where f is a vector and g a scalar, one number is reduced
instead of many.  Rounding differs from the unfactored sum, and so does overflow: f g may fit where
g does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from redcomp.ir import J_BIT, Kernel, Output, Value, select
from redcomp.ops.reductions import REDUCTIONS


def factor(kernel: Kernel) -> Kernel:
    """Move the j-free factors of every sum into the output's scale."""
    return Kernel(kernel.params, tuple(map(_factored, kernel.outputs)))


def _factored(output: Output) -> Output:
    if not REDUCTIONS[output.reduction].is_linear or output.scale is not None:
        return output
    inside, outside = _split(output.value, _depends_on_rows_only)
    if outside is None:
        return output
    if inside is None:  # nothing depends on j: the sum counts the columns
        return output
    return replace(output, value=inside, scale=_with_dim(outside, inside, output.value))


def _with_dim(scale: Value, inside: Value, value: Value) -> Value:
    """The scale widened if the product would otherwise have lost components."""
    if max(scale.dim, inside.dim) == value.dim:
        return scale
    return Value("broadcast", (scale,), value.type)


def _depends_on_rows_only(value: Value) -> bool:
    return not value.dependence & J_BIT


def _split(value: Value, may_leave: Callable[[Value], bool]) -> tuple[Value | None, Value | None]:
    """A value as (what stays) * (what leaves the sum), either missing if it is 1."""
    if may_leave(value):
        return None, value
    if value.op == "multiply":
        (a_in, a_out), (b_in, b_out) = (_split(arg, may_leave) for arg in value.args)
        return _times(a_in, b_in), _times(a_out, b_out)
    if value.op == "negate":
        inside, outside = _split(value.args[0], may_leave)
        if outside is not None:
            return inside, -outside
        return value, None
    if value.op == "divide":
        numerator, denominator = value.args
        inside, outside = _split(numerator, may_leave)
        if may_leave(denominator):
            return inside, 1.0 / denominator if outside is None else outside / denominator
        if outside is not None:
            return (1.0 / denominator if inside is None else inside / denominator), outside
    if value.op == "broadcast":
        return _split(value.args[0], may_leave)
    if value.op == "select":
        return _split_selection(value, may_leave)
    return value, None


def _split_selection(
    value: Value, may_leave: Callable[[Value], bool]
) -> tuple[Value | None, Value | None]:
    """Where a product or zero is selected, constants leave it, and all else with its condition.

    What may be infinite or NaN would otherwise meet the zeros outside.
    """
    condition, a, b = value.args
    if not _is_zero(a) and not _is_zero(b):
        return value, None
    leaves_with_condition = may_leave(condition)
    inside, outside = _split(
        b if _is_zero(a) else a, may_leave if leaves_with_condition else _is_finite_constant
    )
    if inside is None or outside is None:
        return value, None

    def selected(part: Value) -> Value:
        return select(condition, *((a, part) if _is_zero(a) else (part, b)))

    return selected(inside), selected(outside) if leaves_with_condition else outside


def _is_finite_constant(value: Value) -> bool:
    return value.is_constant and math.isfinite(value["value"])


def _is_zero(value: Value) -> bool:
    return value.is_constant and bool(value["value"] == 0)


def _times(a: Value | None, b: Value | None) -> Value | None:
    if a is None or b is None:
        return a if b is None else b
    return a * b
