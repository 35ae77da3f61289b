"""Which components of their arguments kernels read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from redcomp.ir import SIZES, Hoisted, Nest, Value, topological
from redcomp.llvm_backend.records import Record
from redcomp.ptx.mma import PRODUCTS

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

    def joined(self, other: Slice) -> Slice:
        """The least slice of the same variable that has both."""
        first = min(self.first, other.first)
        stop = max(self.first + self.count, other.first + other.count)
        return Slice(self.variable, first, stop - first)


def slices(roots: Iterable[Value], *kinds: str) -> list[Slice]:
    """What the roots read of variables of some kinds: of each, the least slice that has it all.

    A vector that is read at computed positions is needed as a whole.
    """
    found: dict[Value, Slice] = {}
    for value in topological(roots):
        if value.op == "component":
            vector, *computed = value.args
            read = Slice(vector, 0, vector.dim) if computed else Slice(vector, value["position"], 1)
        elif value.op == "variable" and value.dim == 1:
            read = Slice(value, 0, 1)
        else:
            continue
        variable = read.variable
        if variable.op == "variable" and variable["kind"] in kinds:
            found[variable] = found.get(variable, read).joined(read)
    return list(found.values())


def record_of(parts: Iterable[Slice]) -> Record:
    """A record of slices; its offsets are where component 0 would be."""
    listed = tuple(parts)
    offsets: dict[Value, int] = {}
    width = 0
    for part in listed:
        offsets[part.variable] = width - part.first
        width += part.count
    return Record(tuple(part.variable for part in listed), offsets, width)


def prepared(nest: Nest) -> list[Value]:
    """What is computed once a column: hoisted values, and the vectors of products."""
    vectors = [h.definition.args[1] for h in nest.products]
    return [*(h.definition for h in nest.columns), *vectors]


def product_width(product: Hoisted, dtype: str) -> int:
    """Components of the vector of a column in shared memory, zeros up to whole products included.

    A warp reads some neighbouring components of eight columns, and with this width from as many
    banks.
    """
    depth = PRODUCTS[dtype].depth(product.definition.args[1].dim)
    return depth + (4 - depth) % 8


def beside(first: Record, second: Record, start: int) -> Record:
    """Both records in one; the second begins at component `start`."""
    moved = {variable: start + offset for variable, offset in second.offsets.items()}
    width = start + second.width if second.width else first.width
    return Record((*first.variables, *second.variables), {**first.offsets, **moved}, width)
