"""Products of small matrices by the threads of a warp: which there are, who holds what, what pays.

PTX ISA, section "Warp Level Matrix Multiply-Accumulate Instructions", and the figures of its
"Matrix Fragments".  Lane l of a warp is the member l % 4 of the group l // 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from redcomp.ir import SIZES
from redcomp.ptx.multiprocessor import FMA, FP64, TENSOR, TENSOR64, WARP, multiprocessor
from redcomp.target import UpdateLimits

# Lanes that have the same rows of a sum, each of them two of its columns.
MEMBERS = 4
# Lanes that prepare the vector of a column together.  Vectors are filled up with zeros to multiples
# of as many components, which are whole products of matrices too.
TOGETHER = 8


@dataclass(frozen=True, slots=True)
class MatrixProduct:
    """An instruction: an m x k matrix times one of k x n, added to one of m x n.

    The elements of a lane are at these offsets:

    a        (row, k) from (group, member)
    b        k from the member; the column is that of the group
    sums     (row, column) from (group, 2 * member)

    operand  LLVM's type of the elements of a and b
    pipe     what computes it (`redcomp.ptx.multiprocessor`)
    terms    the instructions for a product as exact as its dtype: which part of each factor they
             take, where a factor is the sum of parts
    """

    intrinsic: str
    dtype: str
    operand: str
    pipe: str
    m: int
    n: int
    k: int
    a: tuple[tuple[int, int], ...]
    b: tuple[int, ...]
    sums: tuple[tuple[int, int], ...]
    terms: tuple[tuple[int, int], ...] = ((0, 0),)

    @property
    def rows(self) -> int:
        """Rows of a lane, which are as far from each other as there are groups."""
        return self.m * MEMBERS // WARP

    def depth(self, dim: int) -> int:
        """The number of components with which vectors of so many are multiplied."""
        return -(-dim // TOGETHER) * TOGETHER

    def instructions(self, dim: int) -> float:
        """Of a warp, for a pair of each of its threads."""
        pairs = self.m * self.n // WARP
        return len(self.terms) * self.depth(dim) / self.k / pairs

    def shared(self, dim: int) -> int:
        """Components of a lane, of vectors of rows that are sums: neighbours, as it has sums."""
        return self.depth(dim) // MEMBERS

    def sum_registers(self, dim: int) -> int:
        """Of a thread, for its components of such vectors of m rows."""
        return self.shared(dim) * self.rows * SIZES[self.dtype] // 4

    def registers(self, dim: int) -> int:
        """Of a thread, for its elements of the vectors of m rows."""
        parts = 1 + max(part for part, _ in self.terms)
        return self.depth(dim) * self.m // WARP * parts * SIZES[self.dtype] // 4


PRODUCTS: Mapping[str, MatrixProduct] = {
    "f32": MatrixProduct(
        "llvm.nvvm.mma.m16n8k8.row.col.tf32",
        *("f32", "i32", TENSOR),
        *(16, 8, 8),
        a=((0, 0), (8, 0), (0, 4), (8, 4)),
        b=(0, 4),
        sums=((0, 0), (0, 1), (8, 0), (8, 1)),
        terms=((0, 0), (0, 1), (1, 0)),  # rounded factors, and each with the other's rest
    ),
    "f64": MatrixProduct(
        "llvm.nvvm.mma.m8n8k4.row.col.f64",
        *("f64", "double", TENSOR64),
        *(8, 8, 4),
        a=((0, 0),),
        b=(0,),
        sums=((0, 0), (0, 1)),
    ),
}

# Components of vectors: fewer are not copied by whole warps, and more would not fit into registers
# and shared memory.
_LEAST = 16
_MOST = {"f32": 128, "f64": 64}
# Instructions of a pair for a component, where products are written out (see `passes.products`).
_WRITTEN_OUT = {"product": 1, "distance": 2}
# What a pair takes besides, in clocks of a warp: two sums, and its share of preparing a tile.
_SUMS, _PREPARATION = 2, 2.0


# What a component of an update takes where it is written out, in clocks of a warp: a multiply-add,
# and what the load of a column that serves four rows keeps other pipes from; and what a pair takes
# where it is not: its number is divided into two parts.
_LOADED, _DIVIDED = 0.05, 1.25
# Components of wide states whose sums fit into registers, and numbers of a column of which 16 fit
# into shared memory, beside what else there is.
_MOST_UPDATED = {"f32": 256, "f64": 128}
_MEMORY = {"f32": 600, "f64": 320}


def update_limits(target: str) -> Mapping[str, UpdateLimits]:
    """Which updates by products of matrices pay, and fit into registers and shared memory."""
    limits = multiprocessor(target)
    arithmetic = {"f32": limits.clocks(FMA), "f64": limits.clocks(FP64)}
    found = {}
    for dtype, product in PRODUCTS.items():
        if product.pipe not in limits.results:
            continue
        divided = _DIVIDED if len(product.terms) > 1 else 0.0
        dims = [
            dim
            for dim in range(_LEAST, _MOST_UPDATED[dtype] + 1)
            if product.instructions(dim) * limits.clocks(product.pipe) + divided
            < dim * (arithmetic[dtype] + _LOADED)
        ]
        if dims:
            found[dtype] = UpdateLimits(dims[0], dims[-1], _MEMORY[dtype])
    return found


def product_dims(target: str) -> Mapping[tuple[str, str], tuple[int, int]]:
    """For how many components products of matrices are cheaper, see `Target.product_dims`."""
    limits = multiprocessor(target)
    arithmetic = {"f32": limits.clocks(FMA), "f64": limits.clocks(FP64)}
    found = {}
    for (use, operations), (dtype, product) in (
        (use, of_dtype) for use in _WRITTEN_OUT.items() for of_dtype in PRODUCTS.items()
    ):
        if product.pipe not in limits.results:
            continue
        around = _SUMS * arithmetic[dtype] + _PREPARATION
        dims = [
            dim
            for dim in range(_LEAST, _MOST[dtype] + 1)
            if product.instructions(dim) * limits.clocks(product.pipe) + around
            < operations * dim * arithmetic[dtype]
        ]
        if dims:
            found[use, dtype] = dims[0], dims[-1]
    return found
