"""The sign of a value, as far as it follows from its definition; NaN counts as either sign."""

from __future__ import annotations

from collections.abc import Mapping

from redcomp.ir import Value, entries_of
from redcomp.ops.signs import ANY, NEGATIVE, POSITIVE, Sign
from redcomp.ops.table import OPERATIONS

# Definitions are followed this far.
_DEPTH = 12


def is_nonnegative(value: Value) -> bool:
    """Whether the value is NaN or at least -0.0."""
    return not _sign(value, {}) & NEGATIVE


def is_nonpositive(value: Value) -> bool:
    """Whether the value is NaN or at most 0.0."""
    return not _sign(value, {}) & POSITIVE


def _sign(value: Value, assumed: Mapping[Value, Sign], depth: int = _DEPTH) -> Sign:
    """What the value may be, if some values are what is assumed of them."""
    if value in assumed:
        return assumed[value]
    if depth == 0:
        return ANY
    if value.is_constant:
        number = value["value"]
        return (not number >= 0) * NEGATIVE | (not number <= 0) * POSITIVE
    if value.op == "component" and value.args[0].op == "constants":
        numbers = entries_of(value.args[0])
        return (not (numbers >= 0).all()) * NEGATIVE | (not (numbers <= 0).all()) * POSITIVE
    if value.op == "fold":
        return _of_fold(value, assumed, depth - 1)
    row = OPERATIONS.get(value.op)
    if row is None or row.sign is None:
        return ANY
    return row.sign(value, lambda arg: _sign(arg, assumed, depth - 1))


def _of_fold(value: Value, assumed: Mapping[Value, Sign], depth: int) -> Sign:
    """By induction: what a step makes of a sign is added to it until nothing is new."""
    initial, following, before, _ = value.args
    reached = _sign(initial, assumed, depth)
    while True:
        known = reached
        reached |= _sign(following, {**assumed, before: known}, depth)
        if reached == known:
            return known
