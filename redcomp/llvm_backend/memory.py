"""The memory of vectors that a step of the pair loop changes."""

from __future__ import annotations

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
