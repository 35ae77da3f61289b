"""What a `LazyTensor` needs of an array library; `redcomp.numpy` and `redcomp.torch` have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from redcomp.frontend.lazy.bindings import Argument
from redcomp.frontend.reductions.genred import Reducer


class ArrayType(NamedTuple):
    """What an array's numbers are: the name of their dtype, and of which sort."""

    dtype: str
    is_integer: bool = False
    is_complex: bool = False


class Library(Protocol):
    """An array library."""

    name: str

    def is_array(self, value: object) -> bool:
        """Whether a value is an array of this library."""

    def type_of(self, array: Any) -> ArrayType:
        """What the array's numbers are; raises ArgumentError for a dtype that cannot be taken."""

    def real(self, array: Any) -> Any:
        """A complex array with real and imaginary parts one after the other, on the last axis."""

    def complex(self, array: Any) -> Any:
        """The reverse of `real`."""

    def without_axis(self, array: Any, axis: int) -> Any:
        """The array without an axis of length 1."""

    def call(
        self, reducer: Reducer, arguments: Sequence[Argument], dtype: str | None, options: Any
    ) -> Any:
        """The reduction of the arguments' values."""

    def solve(
        self, solver: tuple[Any, ...], arguments: Sequence[Argument], options: Mapping[str, Any]
    ) -> Any:
        """The solution of a linear system."""
