"""The sign of a value, as far as its definition tells; NaN counts as of either sign."""

from __future__ import annotations

from redcomp.ir import Value
from redcomp.ops.table import OPERATIONS

# Definitions are followed this far.
_DEPTH = 12


def is_nonnegative(value: Value, depth: int = _DEPTH) -> bool:
    """Whether the value is NaN or at least -0.0."""
    if depth == 0:
        return False
    args, further = value.args, depth - 1
    match value.op:
        case "constant":
            return bool(value["value"] >= 0)
        case "negate":
            return is_nonpositive(args[0], further)
        case "multiply":
            return args[0] is args[1] or _have_one_sign(args[0], args[1], further)
        case "fma":
            is_square = args[0] is args[1] or _have_one_sign(args[0], args[1], further)
            return is_square and is_nonnegative(args[2], further)
        case "add":
            return all(is_nonnegative(arg, further) for arg in args)
        case "select":
            return all(is_nonnegative(arg, further) for arg in args[1:])
        case "fold":
            return _is_sum_of_nonnegative(value, further)
        case "scale":
            return is_nonnegative(args[0], further)
    row = OPERATIONS.get(value.op)
    return row is not None and row.is_nonnegative


def is_nonpositive(value: Value, depth: int = _DEPTH) -> bool:
    """Whether the value is NaN or at most 0.0."""
    if depth == 0:
        return False
    args, further = value.args, depth - 1
    match value.op:
        case "constant":
            return bool(value["value"] <= 0)
        case "negate":
            return is_nonnegative(args[0], further)
        case "multiply":
            a, b = args
            return (is_nonpositive(a, further) and is_nonnegative(b, further)) or (
                is_nonnegative(a, further) and is_nonpositive(b, further)
            )
        case "add":
            return all(is_nonpositive(arg, further) for arg in args)
        case "select":
            return all(is_nonpositive(arg, further) for arg in args[1:])
    return False


def _have_one_sign(a: Value, b: Value, depth: int) -> bool:
    return (is_nonnegative(a, depth) and is_nonnegative(b, depth)) or (
        is_nonpositive(a, depth) and is_nonpositive(b, depth)
    )


def _is_sum_of_nonnegative(value: Value, depth: int) -> bool:
    initial, *operands, _ = value.args
    if not is_nonnegative(initial, depth):
        return False
    if value["combine"] == "fma":
        a, b = operands
        return a is b or _have_one_sign(a, b, depth)
    return value["combine"] == "add" and is_nonnegative(operands[0], depth)
