"""What is shown of a LazyTensor: as text, and as a table in notebooks."""

from __future__ import annotations

import html
import math
from typing import NamedTuple

_HOW = (
    "reduce it to compute it, as by .sum(axis=1), .argmin(axis=1) or @ b; .dense() gives the array"
)
_HOW_LATER = (
    "it has symbolic variables: a reduction, as .sum(axis=1), gives a function of their values"
)
_UNITS = ("bytes", "KB", "MB", "GB", "TB", "PB", "EB")


class Shown(NamedTuple):
    """What is shown.

    kind       the class
    shape      its shape
    dtype      its dtype's name, None as long as there are numbers and symbols only
    formula    what it is of its variables
    variables  these, as "x0 = Vi(0, 3)"
    stored     the bytes of the arrays that they stand for
    dense      the bytes of the array that it stands for, None where symbols leave its size open
    """

    kind: str
    shape: tuple[int, ...]
    dtype: str | None
    formula: str
    variables: tuple[str, ...]
    stored: int
    dense: int | None

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Each fact with its name."""
        rows = [
            ("shape", f"({', '.join(map(str, self.shape))}{',' * (len(self.shape) == 1)})"),
            ("dtype", self.dtype or "that of the arrays it will meet"),
            ("formula", self.formula),
            ("variables", ", ".join(self.variables) or "none"),
        ]
        if self.dense is not None:
            rows.append(("memory", f"{size(self.stored)}, not {size(self.dense)} as an array"))
        return [*rows, ("to compute", _HOW_LATER if self.dense is None else _HOW)]

    @property
    def text(self) -> str:
        """All facts, a line each."""
        return "\n".join([self.kind, *(f"  {name + ':':<12}{what}" for name, what in self.rows)])

    @property
    def html(self) -> str:
        """All facts, a table."""
        lines = [
            f'<tr><th style="text-align:left">{name}</th>'
            f'<td style="text-align:left">{html.escape(what)}</td></tr>'
            for name, what in self.rows
        ]
        return f"<table><caption>{self.kind}</caption>\n" + "\n".join(lines) + "\n</table>"


def size(count: int) -> str:
    """A number of bytes as one says it, with three digits."""
    power = min(int(math.log10(max(count, 1))) // 3, len(_UNITS) - 1)
    return f"{count / 1000**power:.3g} {_UNITS[power]}" if power else f"{count} bytes"
