"""Which components of their arguments kernels read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from redcomp.ir import Value, topological
from redcomp.llvm_backend.layout import Record
from redcomp.llvm_backend.schedule import SIZES

# More 32-bit words of a vector are not kept close to the arithmetic: in registers, shared memory.
MOST_WORDS = 64


@dataclass(frozen=True, slots=True)
class Slice:
    """Components first, first + 1, ... of a variable."""

    variable: Value
    first: int
    count: int

    @property
    def is_short(self) -> bool:
        """Whether they are kept close to the arithmetic, and not read from global memory."""
        return self.count * SIZES[self.variable.dtype] <= MOST_WORDS * 4


def slices(roots: Iterable[Value], *kinds: str) -> list[Slice]:
    """What the roots read of variables of some kinds: of each, the least slice that has it all.

    A vector that is read at computed positions is needed as a whole.
    """
    variables: dict[int, Value] = {}
    positions: dict[int, set[int]] = {}
    for value in topological(roots):
        if value.op == "component":
            vector, *computed = value.args
            read = range(vector.dim) if computed else [value["position"]]
        elif value.op == "variable" and value.dim == 1:
            vector, read = value, range(1)
        else:
            continue
        if vector.op == "variable" and vector["kind"] in kinds:
            variables[id(vector)] = vector
            positions.setdefault(id(vector), set()).update(read)
    return [
        Slice(variable, min(positions[key]), max(positions[key]) - min(positions[key]) + 1)
        for key, variable in variables.items()
    ]


def record_of(parts: Iterable[Slice]) -> Record:
    """A record of slices; its offsets are where component 0 would be."""
    listed = tuple(parts)
    offsets: dict[int, int] = {}
    width = 0
    for part in listed:
        offsets[id(part.variable)] = width - part.first
        width += part.count
    return Record(tuple(part.variable for part in listed), offsets, width)
