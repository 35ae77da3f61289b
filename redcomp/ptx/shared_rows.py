"""Vectors of rows of which the threads that share a row have some components each.

A lane has those that it has in the sums of products of matrices: pairs of neighbours.  So wide
states stay in registers while pairs are reduced, at places that are known when code is written.
"""

from __future__ import annotations

from collections.abc import Iterator

from redcomp.ir import Value
from redcomp.llvm_backend.code import Code
from redcomp.ptx.kernel_code import KernelCode, ThreadMemory
from redcomp.ptx.mma import MEMBERS, PRODUCTS, padded
from redcomp.ptx.multiprocessor import WARP
from redcomp.records import record

_NEIGHBOURS = 2


class SharedRows:
    """The components of the thread, and where it has them: the n-th has place n."""

    def __init__(self, kernel: KernelCode) -> None:
        code, self.product = kernel.code, PRODUCTS[kernel.nest.dtype]
        lane = code.integer("urem", kernel.thread, WARP)
        self.member, self.group = (code.integer(op, lane, MEMBERS) for op in ("urem", "udiv"))
        self.first = code.integer("mul", self.member, _NEIGHBOURS)
        self._places: dict[str, int] = {}

    def positions(self, code: Code, extent: int) -> Iterator[str]:
        """The thread's components, those that fill up whole products included."""
        for place in range(self.product.shared(extent)):
            block, own = divmod(place, _NEIGHBOURS)
            position = code.integer("add", self.first, block * _NEIGHBOURS * MEMBERS + own)
            self._places[position] = place
            yield position

    def inside(self, code: Code, extent: int) -> Iterator[str]:
        """Those of them that there are."""
        is_whole = extent == padded(extent)
        for position in self.positions(code, extent):
            if is_whole:
                yield position
                continue
            with code.when(code.value(f"icmp slt i64 {position}, {extent}")):
                yield position

    def place(self, position: int | str) -> int:
        """Where a component is that `positions` has given; a scalar is at 0."""
        return position if isinstance(position, int) else self._places[position]


@record
class SharedMemory:
    """Memory of what a thread has of such vectors."""

    rows: SharedRows
    memory: ThreadMemory

    def load(self, code: Code, variable: Value, position: int | str, row: int = 0) -> str:
        return self.memory.load(code, variable, self.rows.place(position), row)

    def store(
        self, code: Code, operand: str, variable: Value, position: int | str, row: int = 0
    ) -> None:
        self.memory.store(code, operand, variable, self.rows.place(position), row)

    def positions(self, code: Code, extent: int) -> Iterator[str]:
        return self.rows.positions(code, extent)


@record
class ByLength:
    """Scalars, and vectors that threads share, each in a memory of their own."""

    scalars: ThreadMemory
    vectors: SharedMemory

    def _of(self, variable: Value) -> ThreadMemory | SharedMemory:
        return self.scalars if variable.dim == 1 else self.vectors

    def load(self, code: Code, variable: Value, position: int | str, row: int = 0) -> str:
        return self._of(variable).load(code, variable, position, row)

    def store(
        self, code: Code, operand: str, variable: Value, position: int | str, row: int = 0
    ) -> None:
        self._of(variable).store(code, operand, variable, position, row)

    def positions(self, code: Code, extent: int) -> Iterator[str]:
        return self.vectors.positions(code, extent)
