"""Integers in formulas: the operations that compute with them exactly.

Every other operation gets them converted to the kernel's dtype.  Arithmetic wraps around.
"""

from __future__ import annotations

from collections.abc import Mapping

from redcomp.ir import INTEGER_OF_WIDTH, NUMPY_DTYPES, Attribute, Value, compare, indicator
from redcomp.ops.table import apply, broadcast_dim

_PREDICATES: Mapping[str, str] = {
    "equal": "eq",
    "not_equal": "ne",
    "less_than": "slt",
    "less_or_equal": "sle",
}
EXACT = frozenset(
    {"add", "subtract", "multiply", "negate", "elem", "extract", "concat", *_PREDICATES}
)


def fits(number: int, dtype: str) -> bool:
    """Whether the integers of a kernel of this float dtype hold the number."""
    limit: int = 2 ** (8 * NUMPY_DTYPES[INTEGER_OF_WIDTH[dtype]]().itemsize - 1)
    return -limit <= number < limit


def apply_exactly(
    op: str, operands: tuple[Value, ...], attrs: Mapping[str, Attribute], dtype: str
) -> Value:
    """One of the `EXACT` operations on integers; truth values are floats of the kernel's dtype."""
    if op in _PREDICATES:
        broadcast_dim(*(operand.dim for operand in operands))
        return indicator(compare(_PREDICATES[op], *operands), dtype)
    if op == "negate":
        return operands[0] * -1
    return apply(op, *operands, **attrs)
