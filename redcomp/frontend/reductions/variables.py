"""The variables of kernels: those that a call has arguments for, numbers of pairs, new ones."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from redcomp.ir import Kernel, Kind, Value

# Variables that a call has no arguments for.
NUMBERS: tuple[Kind, ...] = ("i_index", "j_index")


def arguments_of(kernel: Kernel) -> tuple[Value, ...]:
    """The variables that a call has arguments for, by position."""
    return tuple(v for v in kernel.params if v["kind"] not in NUMBERS)


def numbers_of(variables: Sequence[Value]) -> tuple[Kind, ...]:
    """The kinds of the numbers among variables."""
    return tuple(v["kind"] for v in variables if v["kind"] in NUMBERS)


class Names:
    """Names that no variable of a kernel has."""

    def __init__(self, kernel: Kernel) -> None:
        self.taken = {v["name"] for v in kernel.params}

    def new(self, stem: str) -> str:
        name = next(n for k in itertools.count() if (n := f"{stem}{k}") not in self.taken)
        self.taken.add(name)
        return name
