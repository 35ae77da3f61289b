"""What is shown of a LazyTensor: as text, and as a table in notebooks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from redcomp import notebooks

_HOW = "reduce it, as by .sum(axis=1), .argmin(axis=1) or @ b; .dense() gives the array"
_HOW_LATER = "reduce it, as by .sum(axis=1), and call the result with what symbols stand for"
_UNITS = ("bytes", "KB", "MB", "GB", "TB", "PB", "EB")


class Shown(NamedTuple):
    """What is shown.

    kind         the class
    shape        its shape
    dtype        its dtype's name, None as long as there are numbers and symbols only
    formula      what it is of its variables
    variables    these, as "x0 = Vi(0, 3)"
    stored       the bytes of the arrays that they stand for
    dense        the bytes of the array that it stands for, None where its size or its dtype is open
    has_symbols  whether some variables are symbols
    """

    kind: str
    shape: tuple[int, ...]
    dtype: str | None
    formula: str
    variables: tuple[str, ...]
    stored: int
    dense: int | None
    has_symbols: bool

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Each fact with its name."""
        rows = [
            ("shape", str(tuple(self.shape))),
            ("dtype", self.dtype or "that of the arrays it will meet"),
            ("formula", self.formula),
            ("variables", ", ".join(self.variables) or "none"),
        ]
        if self.dense is not None:
            taken, saved = size(self.stored), size(self.dense)
            rows.append(("memory", f"{taken} of variables; the array would take {saved}"))
        return [*rows, ("to compute", _HOW_LATER if self.has_symbols else _HOW)]

    @property
    def text(self) -> str:
        """All facts, a line each."""
        return text(self.kind, self.rows)

    @property
    def html(self) -> str:
        """All facts, a table."""
        return notebooks.facts(self.kind, self.rows)


def text(kind: str, rows: Iterable[tuple[str, str]]) -> str:
    """Facts with their names, a line each, below the class that they are of."""
    return "\n".join([kind, *(f"  {name + ':':<12}{what}" for name, what in rows)])


def size(count: int) -> str:
    """A number of bytes as one says it, with three digits."""
    rounded = float(f"{count:.2e}")
    power = min(int(f"{rounded:e}".partition("e")[2]) // 3, len(_UNITS) - 1)
    return f"{rounded / 1000**power:.3g} {_UNITS[power]}"
