"""The table of reductions: how the values of one row are combined over all columns.

A row is written once, in the IR, and serves pairs, lanes, tiles, threads and splits of the columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from redcomp.ir import Value

States = tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Reduction:
    """One row of the table; `states` are the scalars that a reduction carries for each component.

    name      the reduction's name in the IR
    spelling  its name in `reduction_op`
    doc       one line of documentation
    initial   the states' value before the first column: the neutral element
    step      (states, value) to the next states
    merge     (states, states) to the states of both sets of columns
    finish    states to the result
    """

    name: str
    spelling: str
    doc: str
    initial: tuple[float, ...]
    step: Callable[[States, Value], States]
    merge: Callable[[States, States], States]
    finish: Callable[[States], Value]


REDUCTIONS: dict[str, Reduction] = {
    row.name: row
    for row in (
        Reduction(
            "sum",
            "Sum",
            "sum over the columns; 0 for none",
            initial=(0.0,),
            step=lambda states, value: (states[0] + value,),
            merge=lambda a, b: (a[0] + b[0],),
            finish=lambda states: states[0],
        ),
    )
}
