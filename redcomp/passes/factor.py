"""factor: sum_j f(i) g(i, j) = f(i) sum_j g(i, j), so that f is applied once a row.

Gradients are full of such factors, and where f is a vector and g a scalar, one number is reduced
instead of many.  Rounding differs from the unfactored sum, and so does overflow: f g may fit where
g does not.
"""

from __future__ import annotations

from dataclasses import replace

from redcomp.ir import J_BIT, Kernel, Output, Value
from redcomp.ops.reductions import REDUCTIONS


def factor(kernel: Kernel) -> Kernel:
    """Move the j-free factors of every sum into the output's scale."""
    return Kernel(kernel.params, tuple(map(_factored, kernel.outputs)))


def _factored(output: Output) -> Output:
    if not REDUCTIONS[output.reduction].is_linear or output.scale is not None:
        return output
    inside, outside = _split(output.value)
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


def _split(value: Value) -> tuple[Value | None, Value | None]:
    """A value as (what depends on j) * (what does not), either missing if it is 1."""
    if not value.dependence & J_BIT:
        return None, value
    if value.op == "multiply":
        (a_in, a_out), (b_in, b_out) = map(_split, value.args)
        return _times(a_in, b_in), _times(a_out, b_out)
    if value.op == "negate":
        inside, outside = _split(value.args[0])
        if outside is not None:
            return inside, -outside
        return value, None
    if value.op == "divide":
        numerator, denominator = value.args
        inside, outside = _split(numerator)
        if not denominator.dependence & J_BIT:
            return inside, 1.0 / denominator if outside is None else outside / denominator
        if outside is not None:
            return (1.0 / denominator if inside is None else inside / denominator), outside
    if value.op == "broadcast":
        return _split(value.args[0])
    return value, None


def _times(a: Value | None, b: Value | None) -> Value | None:
    if a is None or b is None:
        return a if b is None else b
    return a * b
