"""Integers in formulas: some operations compute with them exactly, as their rows say.

Every other operation gets them converted to the kernel's dtype.  Arithmetic wraps around.
"""

from __future__ import annotations

from collections.abc import Mapping

from redcomp.ir import INTEGER_OF_WIDTH, NUMPY_DTYPES, Attribute, Value
from redcomp.ops.table import OPERATIONS, apply, broadcast_dim


def is_exact(op: str) -> bool:
    """Whether the operation computes with integers exactly."""
    return bool(OPERATIONS[op].integers)


def fits(number: int, dtype: str) -> bool:
    """Whether the integers of a kernel of this float dtype hold the number."""
    limit: int = 2 ** (8 * NUMPY_DTYPES[INTEGER_OF_WIDTH[dtype]]().itemsize - 1)
    return -limit <= number < limit


def apply_exactly(
    op: str, operands: tuple[Value, ...], attrs: Mapping[str, Attribute], dtype: str
) -> Value:
    """An exact operation on integers; truth values are floats of the kernel's dtype."""
    rule = OPERATIONS[op].integers
    if callable(rule):
        broadcast_dim(*(operand.dim for operand in operands))
        return rule(dtype, *operands)
    return apply(op, *operands, **attrs)
