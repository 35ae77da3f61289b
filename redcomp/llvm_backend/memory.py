"""Memory that steps of the pair loop use: of vectors that they change, and of constants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from redcomp.ir import SIZES, Value
from redcomp.llvm_backend.code import Code
from redcomp.llvm_backend.spelling import LLVM_TYPES, array_text


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


def load_entry(code: Code, constants: Value, position: int | str, space: int) -> str:
    """An entry of constants that the module has in an address space."""
    scalar, size = LLVM_TYPES[constants.dtype], SIZES[constants.dtype]
    first = code.table(array_text(constants), size, space)
    return code.load(scalar, code.at(first, scalar, position, space=space), size, space)
