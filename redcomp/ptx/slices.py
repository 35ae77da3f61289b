"""Which components of their arguments kernels read."""

from __future__ import annotations

from collections.abc import Iterable

from redcomp.ir import SIZES, Hoisted, Nest, Value, factors_of, topological
from redcomp.llvm_backend.records import Record
from redcomp.ptx.mma import PRODUCTS, padded
from redcomp.records import record

# More 32-bit words of a vector are not kept close to the arithmetic: in registers, shared memory.
MOST_WORDS = 64


@record
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
    found: dict[Value, tuple[int, int]] = {}
    for value in topological(roots):
        if value.op == "component":
            variable, is_whole = value.args[0], len(value.args) > 1
        elif value.op == "variable" and value.dim == 1:
            variable, is_whole = value, True
        else:
            continue
        if variable.op == "variable" and variable["kind"] in kinds:
            first = 0 if is_whole else value["position"]
            stop = variable.dim if is_whole else first + 1
            known = found.get(variable, (first, stop))
            found[variable] = min(first, known[0]), max(stop, known[1])
    return [Slice(variable, first, stop - first) for variable, (first, stop) in found.items()]


def record_of(parts: Iterable[Slice]) -> Record:
    """A record of slices; its offsets are where component 0 would be."""
    listed = tuple(parts)
    offsets: dict[Value, int] = {}
    width = 0
    for part in listed:
        offsets[part.variable] = width - part.first
        width += part.count
    return Record(tuple(part.variable for part in listed), offsets, width)


@record
class Matrix:
    """The vectors of all columns of a tile, one after the other, as factors of products.

    name    the variable of the nest that it is the matrix of
    vector  what a column has: a map
    depth   components of a column, what is lacking to whole products included; or of a chunk
    width   how far the vectors of columns are from each other
    """

    name: Value
    vector: Value
    depth: int
    width: int

    @property
    def is_whole(self) -> bool:
        """Whether all components are there at a time."""
        return self.vector.dim <= self.depth

    @property
    def raw(self) -> Slice | None:
        """The components of an argument that the vector is a copy of; None if it is computed."""
        element, counter = self.vector.args
        if element.op != "component" or element.args[0].op != "variable":
            return None
        source, *computed = element.args
        place, first = computed[0] if computed else None, 0
        if place is not None and place.op == "add" and place.args[1].is_constant:
            place, first = place.args[0], place.args[1]["value"]
        return Slice(source, first, self.vector.dim) if place is counter else None


def matrices(nest: Nest) -> list[Matrix]:
    """Those of a nest.

    Of a product a warp reads some neighbouring components of eight columns.  Of an update it reads
    eight neighbouring components of every other column, or the half of it that is served at a time
    reads four of doubles.  With these widths they are in different banks.
    """
    found = []
    for h in nest.products:
        vector = h.definition.args[1]
        found.append((h.variable, vector, PRODUCTS[factors_of(h.definition)].chunk(vector.dim), 4))
    beyond = 4 if nest.dtype == "f32" else 2
    found += [(h.variable, h.definition, padded(h.definition.dim), beyond) for h in nest.updates]
    return [Matrix(name, vector, depth, depth + beyond) for name, vector, depth, beyond in found]


def chunked(nest: Nest) -> Hoisted | None:
    """The product whose vectors come in chunks of components; such a nest has no other one."""
    whole = {matrix.name for matrix in matrices(nest) if matrix.is_whole}
    return next((h for h in nest.products if h.variable not in whole), None)


def chunks(nest: Nest) -> int:
    """The chunks in which vectors of products come; 0 if they come as a whole."""
    product = chunked(nest)
    if product is None:
        return 0
    dim, kind = product.definition.args[0].dim, PRODUCTS[factors_of(product.definition)]
    return kind.depth(dim) // kind.chunk(dim)


def prepared(nest: Nest) -> list[Value]:
    """What is computed once a column: hoisted values, and vectors that are no mere copies."""
    vectors = [matrix.vector for matrix in matrices(nest) if matrix.raw is None]
    return [*(h.definition for h in nest.columns), *vectors]


def beside(first: Record, second: Record, start: int) -> Record:
    """Both records in one; the second begins at component `start`."""
    moved = {variable: start + offset for variable, offset in second.offsets.items()}
    width = start + second.width if second.width else first.width
    return Record((*first.variables, *second.variables), {**first.offsets, **moved}, width)
