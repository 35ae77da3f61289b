"""The operations and reductions of the language, one row each."""

from redcomp.ops import (
    alignment,
    approximate,
    arithmetic,
    complex,
    extraction,
    lists,
    mathematics,
    primitives,
    reductions,
    rounding,
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
    "alignment",
    "approximate",
    "arithmetic",
    "complex",
    "extraction",
    "lists",
    "mathematics",
    "primitives",
    "reductions",
    "rounding",
    "splines",
    "tensors",
    "vectors",
]
