"""Joins of states of columns that lie between each other: rows of the table, interpreted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from redcomp.interpret import interpret
from redcomp.ir import Type, Value, variable
from redcomp.ops.reductions import REDUCTIONS, Columns, Reduction

Array = np.ndarray[Any, np.dtype[Any]]
JOINED = [name for name, row in REDUCTIONS.items() if row.join_any is not None]
COLUMNS = 12
WIDTHS = {"vector": 3, "scalar": 1, "weights": 3, "components": 1, "complex": 4}
KEPT = 4


class Rows:
    """States of some rows, of a reduction of values of so many components."""

    def __init__(self, row: Reduction, values: Array) -> None:
        self.row, self.values = row, values
        self.specs = row.states(values.shape[-1], KEPT if row.keeps else 0)

    def variables(self, name: str) -> tuple[Value, ...]:
        return tuple(
            variable(f"{name}{n}", "state", n, Type(spec.dtype("f64"), spec.dim))
            for n, spec in enumerate(self.specs)
        )

    def after(self, columns: list[int]) -> list[Array]:
        """The states after some columns."""
        own = self.variables("a")
        value = variable("value", "i", 0, Type("f64", self.values.shape[-1]))
        numbers = Columns(
            variable("column", "column", 0, Type("f64")), variable("j", "j_index", 0, Type("i64"))
        )
        rows = len(self.values)
        states = [np.full((rows, spec.dim), spec.first("f64")) for spec in self.specs]
        changes = (self.row.adjust, self.row.step)
        for column in columns:
            for change in filter(None, changes):
                given = dict(zip((v["name"] for v in own), states, strict=True))
                given |= {"value": self.values[:, column], "column": np.array([column])}
                states = interpret(change(own, value, numbers), {**given, "j": np.array([column])})
        return [np.broadcast_to(state, (rows, state.shape[-1])) for state in states]

    def joined(self, first: list[Array], second: list[Array]) -> list[Array]:
        """The results of what the states are joined to."""
        a, b = self.variables("a"), self.variables("b")
        names = [v["name"] for v in (*a, *b)]
        assert self.row.join_any is not None
        joined = self.row.join_any(a, b)
        return interpret(self.row.finish(joined), dict(zip(names, first + second, strict=True)))

    def finished(self, states: list[Array]) -> list[Array]:
        own = self.variables("a")
        given = dict(zip((v["name"] for v in own), states, strict=True))
        return interpret(self.row.finish(own), given)


@pytest.mark.parametrize("name", JOINED)
def test_neither_set_of_columns_needs_to_come_first(name: str) -> None:
    """Every third column, and the others: both orders give what all columns give in theirs."""
    row, random = REDUCTIONS[name], np.random.default_rng(0)
    values = random.integers(-2, 3, (40, COLUMNS, WIDTHS[row.takes])).astype(float)
    if row.keeps:  # with places of lists that stay free
        values[::2, 3] = np.inf
        values[1::2, 2 : COLUMNS - 2] = np.nan
    rows = Rows(row, values)
    some = list(range(1, COLUMNS, 3))
    others = [n for n in range(COLUMNS) if n not in some]
    parts = rows.after(some), rows.after(others)
    expected = rows.finished(rows.after(list(range(COLUMNS))))
    for first, second in (parts, parts[::-1]):
        for found, right in zip(rows.joined(first, second), expected, strict=True):
            assert np.allclose(found, right, rtol=1e-12, atol=0, equal_nan=True)
