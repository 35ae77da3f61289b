"""What formulas can say and how they can be reduced, as tables that print themselves."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Generic, NamedTuple, TypeVar, get_args, overload

from redcomp import arguments, notebooks
from redcomp.frontend.language.builders import DERIVATIVES, VARIABLES
from redcomp.frontend.language.lower import OPERATORS, SWAPPED
from redcomp.ops import SPELLINGS, Operation
from redcomp.ops.reductions import REDUCTIONS, Reduction
from redcomp.ops.table import OPERATIONS, Section

__all__ = ["NamedOperation", "NamedReduction", "Table", "operations", "reductions"]

WIDTH = 100
_KINDS = {"value": "values", "constant": "values", "index": "indices (int64)", "truth": "booleans"}


class NamedOperation(NamedTuple):
    """An operation of the formula language.

    name     as formulas have it
    call     a call with its arguments
    meaning  what it is of them
    section  what sort of operation it is
    """

    name: str
    call: str
    meaning: str
    section: str


class NamedReduction(NamedTuple):
    """A reduction over i or j.

    name     the usual `reduction_op`
    other    other names of it, those of KeOps among them
    needs    the options that it needs
    gives    what a call returns
    meaning  what it is of the values
    section  "Reductions"
    """

    name: str
    other: tuple[str, ...]
    needs: str
    gives: str
    meaning: str
    section: str


Row = TypeVar("Row", bound=NamedOperation | NamedReduction)


class Table(Sequence[Row], Generic[Row]):
    """Rows in an order, also found by their names; prints itself, in notebooks as a table."""

    __slots__ = ("_header", "_rows", "_title")

    def __init__(self, title: str, header: Sequence[str], rows: Sequence[Row]) -> None:
        self._title, self._header, self._rows = title, tuple(header), tuple(rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    @overload
    def __getitem__(self, key: int | str) -> Row: ...

    @overload
    def __getitem__(self, key: slice) -> Sequence[Row]: ...

    def __getitem__(self, key: int | slice | str) -> Row | Sequence[Row]:
        if not isinstance(key, str):
            return self._rows[key]
        for row in self._rows:
            if key in (row.name, *getattr(row, "other", ())):
                return row
        names = [name for row in self._rows for name in (row.name, *getattr(row, "other", ()))]
        raise KeyError(f"there is no {key!r}{arguments.nearest(key, names)}")

    def __contains__(self, item: object) -> bool:
        return item in self._rows or any(item == row.name for row in self._rows)

    def _sections(self) -> Iterator[tuple[str, list[list[str]]]]:
        """Each section and the cells of its rows."""
        for section, rows in groupby(self._rows, lambda row: row.section):
            yield section, [[_cell(getattr(row, name)) for name in self._header] for row in rows]

    def __repr__(self) -> str:
        lines = [self._title]
        for section, cells in self._sections():
            widths = [max(map(len, column)) for column in zip(*cells, strict=True)][:-1]
            lines += ["", section]
            for *first, last in cells:
                begin = "  ".join(["", *map(str.ljust, first, widths), ""])
                room = max(WIDTH - len(begin), 30)
                parts = textwrap.wrap(last, room) or [""]
                lines += [begin + parts[0], *(" " * len(begin) + part for part in parts[1:])]
        return "\n".join(line.rstrip() for line in lines)

    def _repr_html_(self) -> str:
        """The table for notebooks."""
        rows = [notebooks.row(*(("th", name) for name in self._header))]
        for section, listed in self._sections():
            rows.append(notebooks.row(("th", section)))
            rows += [notebooks.row(*(("td", cell) for cell in cells)) for cells in listed]
        return notebooks.table(self._title, rows)


def _cell(value: str | tuple[str, ...]) -> str:
    return value if isinstance(value, str) else ", ".join(value)


def operations() -> Table[NamedOperation]:
    """All operations of the formula language: their names, arguments and meanings, by sections.

    print(redcomp.operations())
    redcomp.operations()["SqDist"].meaning
    """
    rows = [_operator(symbol, OPERATIONS[op]) for symbol, op in OPERATORS.items()]
    rows.append(
        NamedOperation("**", "f ** g", "Powf(f, g); Pow(f, m) for an integer m", "Operators")
    )
    rows += [_operation(name, b.arguments, b.doc, "Variables") for name, b in VARIABLES.items()]
    for section in get_args(Section):
        listed = (row for row in SPELLINGS.values() if row.section == section)
        rows += [_operation(row.spelling, row.arguments, row.doc, section) for row in listed]
    rows += [_operation(name, b.arguments, b.doc, "Derivatives") for name, b in DERIVATIVES.items()]
    return Table("Operations of the formula language", ("call", "meaning"), rows)


def _operator(symbol: str, row: Operation) -> NamedOperation:
    operands = ("g", "f") if symbol in SWAPPED else ("f", "g")
    meaning = f"{row.spelling}({', '.join(operands)})"
    return NamedOperation(symbol, f"f {symbol} g", meaning, "Operators")


def _operation(name: str, arguments: Sequence[str], meaning: str, section: str) -> NamedOperation:
    return NamedOperation(name, f"{name}({', '.join(arguments)})", meaning, section)


def reductions() -> Table[NamedReduction]:
    """All reductions, by the names that `reduction_op` takes: what they need, give and mean."""
    rows = [_reduction(row) for row in REDUCTIONS.values() if row.spellings]
    return Table("Reductions, for reduction_op", ("name", "needs", "gives", "meaning"), rows)


def _reduction(row: Reduction) -> NamedReduction:
    needs = ["opt_arg=K"] * row.keeps + ["formula2"] * (row.takes == "weights")
    gives = " and ".join(dict.fromkeys(_KINDS[result.kind] for result in row.results))
    name, *others = row.spellings
    return NamedReduction(name, tuple(others), ", ".join(needs), gives, row.doc, "Reductions")
