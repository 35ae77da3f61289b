"""The operations and reductions of the language, one row each."""

from redcomp.ops import (
    arithmetic,
    complex,
    extraction,
    mathematics,
    reductions,
    splines,
    tensors,
    vectors,
)
from redcomp.ops.table import OPERATIONS, SPELLINGS, Operation, ShapeError, apply

__all__ = [
    "OPERATIONS",
    "SPELLINGS",
    "Operation",
    "ShapeError",
    "apply",
    "arithmetic",
    "complex",
    "extraction",
    "mathematics",
    "reductions",
    "splines",
    "tensors",
    "vectors",
]
