"""The table of reductions: how the values of one row are combined over all columns.

A row is written once, in the IR, on vectors, and serves pairs, lanes, tiles, threads and splits of
the columns.  A reduction with weights takes the formula and its weights as one vector: the
formula's only component first.
"""

from __future__ import annotations

from dataclasses import replace

from redcomp.ops.reductions.exponentials import EXPONENTIALS
from redcomp.ops.reductions.extrema import EXTREMA
from redcomp.ops.reductions.products import PRODUCTS
from redcomp.ops.reductions.row import Arrived, Columns, Reduction, Result, ResultKind, State
from redcomp.ops.reductions.sums import SUMS

__all__ = [
    "REDUCTIONS",
    "REDUCTIONS_BY_SPELLING",
    "USUAL_SPELLINGS",
    "Arrived",
    "Columns",
    "Reduction",
    "Result",
    "ResultKind",
    "State",
]

REDUCTIONS: dict[str, Reduction] = {
    row.name: row
    for row in (
        *(replace(row, accumulates=True) for row in (*SUMS, *EXPONENTIALS)),
        *PRODUCTS,
        *EXTREMA,
    )
}

# The usual names in `reduction_op`, for messages that list them.
USUAL_SPELLINGS = tuple(row.spelling for row in REDUCTIONS.values() if row.spellings)

# The row of each name that `reduction_op` may have.
REDUCTIONS_BY_SPELLING: dict[str, Reduction] = {
    spelling: row for row in REDUCTIONS.values() for spelling in row.spellings
}
