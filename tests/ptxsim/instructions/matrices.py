"""mma.sync: products of small matrices whose elements are spread over the threads of a warp.

Which thread holds which elements: PTX ISA, section "Matrix Fragments for mma".  Of .tf32 operands
the low 13 bits are not read.  Products are exact, their sum is rounded to float32 once for each
instruction of hardware, whose order the ISA leaves open: here they are added in float64 to the
accumulator, and rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ptxsim.binder import Binder
from ptxsim.instructions.table import control
from ptxsim.machine import Control
from ptxsim.rounding import widen
from ptxsim.scalars import TYPES, Array
from ptxsim.threads import WARP, Group

_LANES = np.arange(WARP)
_GROUP, _MEMBER = _LANES >> 2, _LANES & 3
_ALL_LANES = (1 << WARP) - 1
_IGNORED = np.uint32(0x1FFF)

# From a lane and the number of its element to the row and the column.
Places = Callable[[int], tuple[Array, Array]]


@dataclass(frozen=True, slots=True)
class _Shape:
    """Rows, columns, and depth of a product; elements of a thread of each matrix, and where."""

    m: int
    n: int
    k: int
    a: Places
    b: Places
    c: Places

    def count(self, name: str) -> int:
        """Elements of a matrix that a thread holds."""
        sizes = {"a": self.m * self.k, "b": self.k * self.n, "c": self.m * self.n}
        return sizes[name] // WARP


def _of_words(i: int) -> tuple[Array, Array]:
    """A 16 x 8 matrix of 32-bit elements."""
    return _GROUP + 8 * (i & 1), _MEMBER + 4 * (i >> 1)


def _of_halves(i: int) -> tuple[Array, Array]:
    """A 16 x 16 matrix of 16-bit elements."""
    return _GROUP + 8 * (i >> 1 & 1), 2 * _MEMBER + (i & 1) + 8 * (i >> 2)


def _sums(i: int) -> tuple[Array, Array]:
    """An accumulator of 8 columns."""
    return _GROUP + 8 * (i >> 1), 2 * _MEMBER + (i & 1)


def _columns_of_halves(i: int) -> tuple[Array, Array]:
    return 2 * _MEMBER + (i & 1) + 8 * (i >> 1), _GROUP


_HALVES = _Shape(16, 8, 16, _of_halves, _columns_of_halves, _sums)
_SHAPES: Mapping[tuple[str, str], _Shape] = {
    ("m16n8k8", "tf32"): _Shape(16, 8, 8, _of_words, lambda i: (_MEMBER + 4 * i, _GROUP), _sums),
    ("m16n8k16", "f16"): _HALVES,
    ("m16n8k16", "bf16"): _HALVES,
    ("m8n8k4", "f64"): _Shape(
        8, 8, 4, lambda i: (_GROUP, _MEMBER), lambda i: (_MEMBER, _GROUP), _sums
    ),
}


@control("mma")
def _product(binder: Binder) -> Control:
    instruction, machine = binder.instruction, binder.machine
    types = instruction.types  # of the result, a, b and the accumulator
    shape = _SHAPES.get((instruction.one_of(*(name for name, _ in _SHAPES)) or "", types[1]))
    is_known = shape is not None and types[1] == types[2] and types[0] == types[3]
    if not is_known or {"sync", "row", "col"} - set(instruction.modifiers):
        raise binder.refuse("this product of matrices")
    assert shape is not None
    kind, total = types[1], types[0]
    registers = [operand.items for operand in binder.operands]
    stored = "b64" if kind == "f64" else "b32"
    a, b = ([binder.values(r, stored) for r in own] for own in registers[1:3])
    c = [binder.values(r, total) for r in registers[3]]
    put = [binder.target(r, total) for r in registers[0]]

    def fragment(get: list[Callable[[Group], Array]], group: Group, name: str) -> list[Array]:
        """The elements of a thread, one array each, with a row for each warp."""
        words = np.stack([one(group) for one in get], axis=1)
        values = _values(words, kind) if name != "c" else words.astype(np.float64)
        return list(values.reshape(-1, WARP, shape.count(name)).transpose(2, 0, 1))

    def run(group: Group) -> None:
        rows = _matrix(fragment(a, group, "a"), shape.a, shape.m, shape.k)
        columns = _matrix(fragment(b, group, "b"), shape.b, shape.k, shape.n)
        sums = _matrix(fragment(c, group, "c"), shape.c, shape.m, shape.n)
        made = (rows @ columns + sums).astype(TYPES[total])
        for i, store in enumerate(put):
            row, column = shape.c(i)
            store(group, made[:, row, column].reshape(-1))

    return machine.collective(run, lambda group: np.array(_ALL_LANES), binder.place)


def _values(words: Array, kind: str) -> Array:
    """The numbers in registers, in float64."""
    if kind == "tf32":
        return widen(words & ~_IGNORED, kind)
    return widen(np.ascontiguousarray(words).view(TYPES[kind]), kind)


def _matrix(elements: list[Array], places: Places, rows: int, columns: int) -> Array:
    """The matrices of all warps from the elements of their threads."""
    made = np.empty((elements[0].shape[0], rows, columns))
    for i, values in enumerate(elements):
        row, column = places(i)
        made[:, row, column] = values
    return made
