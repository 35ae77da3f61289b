"""factor: sum_j f(i) g(i, j) = f(i) sum_j g(i, j), so that f is applied once a row.

Gradients are full of such factors, and where f is a vector and g a scalar, one number is reduced
instead of many.  Rounding differs from the unfactored sum, and so does overflow: f g may fit where
g does not.
"""

from __future__ import annotations

from dataclasses import replace

from redcomp.ir import J_BIT, Kernel, Output, Value
from redcomp.ops.reductions import REDUCTIONS

_Split = tuple[Value | None, Value | None]


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


def _split(root: Value) -> _Split:
    """A value as (what depends on j) * (what does not), either missing if it is 1."""
    done: dict[int, _Split] = {}
    stack = [root]  # products may have any number of factors
    while stack:
        value = stack[-1]
        inner = _factors(value)
        missing = [arg for arg in inner if id(arg) not in done]
        if not missing:
            done[id(value)] = _joined(value, [done[id(arg)] for arg in inner])
            stack.pop()
        stack += missing
    return done[id(root)]


def _factors(value: Value) -> tuple[Value, ...]:
    """The arguments that factors are taken out of."""
    if not value.dependence & J_BIT:
        return ()
    if value.op == "multiply":
        return value.args
    return value.args[:1] if value.op in ("negate", "divide", "broadcast") else ()


def _joined(value: Value, split: list[_Split]) -> _Split:
    """A value split as its factors are."""
    if not value.dependence & J_BIT:
        return None, value
    if value.op == "multiply":
        (a_in, a_out), (b_in, b_out) = split
        return _times(a_in, b_in), _times(a_out, b_out)
    if value.op == "broadcast":
        return split[0]
    inside, outside = split[0] if split else (None, None)
    if value.op == "divide" and not value.args[1].dependence & J_BIT:
        return inside, (1.0 if outside is None else outside) / value.args[1]
    if outside is None:
        return value, None
    if value.op == "negate":
        return inside, -outside
    return (1.0 if inside is None else inside) / value.args[1], outside


def _times(a: Value | None, b: Value | None) -> Value | None:
    if a is None or b is None:
        return a if b is None else b
    return a * b
