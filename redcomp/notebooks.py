"""Tables for notebooks, whose text is anybody's."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


def row(*cells: tuple[str, str]) -> str:
    """A row of a table; each cell is a tag, "th" or "td", and its text."""
    made = [f'<{tag} style="text-align:left">{html.escape(text)}</{tag}>' for tag, text in cells]
    return f"<tr>{''.join(made)}</tr>"


def table(caption: str, rows: Iterable[str]) -> str:
    """A table of rows."""
    return "\n".join([f"<table><caption>{html.escape(caption)}</caption>", *rows, "</table>"])


def facts(caption: str, named: Sequence[tuple[str, str]]) -> str:
    """A table of facts, each with its name."""
    return table(caption, [row(("th", name), ("td", what)) for name, what in named])
