"""Docstrings of this project as reStructuredText, for autodoc.

They are written to be read in an editor: a sentence, then paragraphs, then a table of parameters,
in which two spaces or more stand between a name and what it is:

    formula       text in the formula language
    aliases       the variables; continued
                  on an indented line

Code is indented by four spaces; `names` stand between single backquotes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

# A name, or some of them, perhaps with a value: "axis", "dtype, cuda_type", "*args".
ENTRY = re.compile(r"(\*{0,2}[A-Za-z_]\w*(?:, \*{0,2}[A-Za-z_]\w*)*) {2,}(\S.*)")
# The same with one space, which the longest name of a table may have.
CLOSE_ENTRY = re.compile(r"([A-Za-z_]\w*) (\S.*)")
# A paragraph about one parameter: "ranges: six integer arrays".
TOPIC = re.compile(r"([a-z_]\w*(?:, [a-z_]\w*)*): (\S.*)")
CODE = re.compile(r"(``.+?``|`[^`]+`)", re.DOTALL)
SPECIAL = re.compile(r"([*|\\]|(?<=\w)_(?!\w))")
ITEM = "- "
PAGE = re.compile(r"docs/([a-z][\w/-]*)\.md")


def restructured(lines: list[str]) -> list[str]:
    """A docstring's lines as reStructuredText."""
    made: list[str] = []
    for paragraph in paragraphs(lines):
        made += [*_paragraph(paragraph), ""]
    return made


def paragraphs(lines: list[str]) -> Iterator[list[str]]:
    """Lines between empty lines."""
    found: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            found.append(line.rstrip())
        elif found:
            yield found
            found = []


def _paragraph(lines: list[str]) -> list[str]:
    if all(line.startswith("    ") for line in lines):
        return ["::", "", *lines]
    if ENTRY.fullmatch(lines[0]):
        return [line for entry in _entries(lines) for line in _definition(*entry)]
    if lines[0].startswith(ITEM):
        return [line[:2] + text(line[2:]) for line in lines]
    topic = TOPIC.fullmatch(lines[0])
    if topic:
        return [f"``{topic[1]}``: {text(topic[2])}", *map(text, lines[1:])]
    return text("\n".join(lines)).split("\n")


def _entries(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """The names of each row of a table of parameters, and what stands there."""
    names, found = "", list[str]()
    for line in lines:
        entry = ENTRY.fullmatch(line) or CLOSE_ENTRY.fullmatch(line)
        if entry and found:
            yield names, found
        if entry:
            names, found = entry[1], [entry[2]]
        else:
            found.append(line.strip())
    yield names, found


def _definition(names: str, lines: list[str]) -> Iterator[str]:
    yield ", ".join(f"``{name}``" for name in names.split(", "))
    yield from (f"    {line}" for line in text("\n".join(lines)).split("\n"))


def text(plain: str) -> str:
    """Text with what reStructuredText would take for its own taken away."""
    parts = [_part(part) for part in CODE.split(plain)]
    for n in range(1, len(parts), 2):  # code may go on as a word: `Linear`s
        parts[n] += "\\ " if parts[n + 1][:1].isalnum() else ""
    return PAGE.sub(r":doc:`/\1`", "".join(parts))


def _part(part: str) -> str:
    if part.startswith("``"):
        return part
    if part.startswith("`"):
        return f"``{part.strip('`')}``"
    return SPECIAL.sub(r"\\\1", part)


def _process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = restructured(lines)


def setup(app: Any) -> dict[str, bool]:
    """Sphinx calls this."""
    app.connect("autodoc-process-docstring", _process)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
