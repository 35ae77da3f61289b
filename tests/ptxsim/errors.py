"""What can go wrong: text that cannot be read, execution that cannot go on, findings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class PtxError(Exception):
    """PTX or parameters that cannot be taken."""


class Located(Protocol):
    """Something with a place in the text: an instruction."""

    @property
    def line(self) -> int:
        """The line, counted from 1."""

    @property
    def text(self) -> str:
        """The text of the instruction."""


class ExecutionError(PtxError):
    """Execution cannot go on.

    `kind` is out-of-bounds, misaligned, read-only, deadlock, divergent-barrier, trap, livelock,
    unsupported or internal; `line` is where, if that is known.
    """

    def __init__(self, kind: str, message: str, where: Located | None = None) -> None:
        place = f"line {where.line}: {where.text}: " if where else ""
        super().__init__(f"{kind}: {place}{message}")
        self.kind = kind
        self.message = message
        self.line = where.line if where else None


@dataclass(slots=True)
class Report:
    """A finding: its kind, the instruction, the first case in words, and how often it was met.

    Kinds: shared-race, global-race, uninit-shared, uninit-global, uninit-local, cp.async,
    divergent-barrier, shfl-source, div-by-zero.
    """

    kind: str
    line: int
    text: str
    message: str
    count: int = 1

    def __str__(self) -> str:
        cases = f" ({self.count} cases)" if self.count > 1 else ""
        return f"{self.kind}: line {self.line}: {self.text}: {self.message}{cases}"
