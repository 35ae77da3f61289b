"""The memory of vectors that a step of the pair loop changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from redcomp.ir import Value
from redcomp.llvm_backend.code import Code


class Memory(Protocol):
    """Where variables of a record are: a place for each component and each row of a step."""

    def load(self, code: Code, variable: Value, position: int | str, row: int = 0) -> str:
        """The operand for a component of a row."""

    def store(
        self, code: Code, operand: str, variable: Value, position: int | str, row: int = 0
    ) -> None:
        """Keep an operand as a component of a row."""

    def positions(self, code: Code, extent: int) -> Iterator[str]:
        """The components of a vector that are there, one after the other; maybe in a loop."""


def all_positions(code: Code, extent: int) -> Iterator[str]:
    """All components, in a loop."""
    with code.loop(0, extent, 1) as loop:
        yield loop.counter
