"""The table of reductions: how the values of each i are combined over all j.

A row is written once, in the IR, on vectors, and serves pairs, lanes, tiles, threads and splits of
j.  A reduction with weights takes the formula and its weights as one vector: the
formula's only component first.
"""

from __future__ import annotations

from redcomp.ops.reductions.complex_products import COMPLEX_PRODUCTS
from redcomp.ops.reductions.exponentials import EXPONENTIALS
from redcomp.ops.reductions.extrema import EXTREMA
from redcomp.ops.reductions.products import PRODUCTS
from redcomp.ops.reductions.row import (
    REDUCTIONS,
    REDUCTIONS_BY_SPELLING,
    Arrived,
    Columns,
    Reduction,
    Result,
    ResultKind,
    State,
    register,
    usual_spellings,
)
from redcomp.ops.reductions.sums import SUMS

__all__ = [
    "REDUCTIONS",
    "REDUCTIONS_BY_SPELLING",
    "Arrived",
    "Columns",
    "Reduction",
    "Result",
    "ResultKind",
    "State",
    "register",
    "usual_spellings",
]

register(*SUMS, *EXPONENTIALS, *PRODUCTS, *COMPLEX_PRODUCTS, *EXTREMA)
