"""Products of small matrices by the threads of a warp: which there are, who holds what, what pays.

PTX ISA, section "Warp Level Matrix Multiply-Accumulate Instructions", and the figures of its
"Matrix Fragments".  Lane l of a warp is the member l % 4 of the group l // 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from redcomp.ir import SIZES
from redcomp.ptx.multiprocessor import FMA, FP64, TENSOR, TENSOR64, WARP, multiprocessor
from redcomp.records import record
from redcomp.target import UpdateLimits

# Lanes that have the same rows of a sum, each of them two of its columns.
MEMBERS = 4
# Lanes that prepare the vector of a column together.  Vectors are filled up with zeros to multiples
# of as many components, which are whole products of matrices too.
TOGETHER = 8


@record
class MatrixProduct:
    """An instruction: an m x k matrix times one of k x n, added to one of m x n.

    Which components of vectors are which k does not matter for a sum, if both factors agree.  So
    the elements of a lane are at these offsets:

    a        (row, components) of each operand, from (group, member)
    b        components of each operand, from the member; the column is that of the group
    sums     (row, column) from (group, 2 * member)

    dtype    of the sums
    format   of the elements of a and b: "f64", "tf32", "f16" or "bf16"
    operand  LLVM's type of what holds an element, or two of 16 bits
    pipe     what computes it (`redcomp.ptx.multiprocessor`)
    terms    the instructions for a product: which part of each factor they take, where a factor is
             the sum of parts.  A factor in one part is a number of the format
    kept     components that vectors of rows have at most to be kept in registers, and those of
             columns in a tile; longer ones come in chunks (`redcomp.ptx.chunks`)
    """

    intrinsic: str
    dtype: str
    format: str
    operand: str
    pipe: str
    m: int
    n: int
    k: int
    a: tuple[tuple[int, tuple[int, ...]], ...]
    b: tuple[tuple[int, ...], ...]
    sums: tuple[tuple[int, int], ...]
    terms: tuple[tuple[int, int], ...] = ((0, 0),)
    kept: int = 256

    @property
    def rows(self) -> int:
        """Rows of a lane, which are as far from each other as there are groups."""
        return self.m * MEMBERS // WARP

    @property
    def packed(self) -> int:
        """Elements in an operand."""
        return len(self.b[0])

    @property
    def parts(self) -> tuple[int, int]:
        """Of how many parts each factor is the sum."""
        first, second = zip(*self.terms, strict=True)
        return 1 + max(first), 1 + max(second)

    def chunk(self, dim: int) -> int:
        """The components of vectors of so many that are multiplied at a time.

        All of them if they are kept, else as many as leave least to fill up.
        """
        unit = max(self.k, TOGETHER)
        if dim <= self.kept:
            return _multiple(dim, unit)
        sizes = range(_multiple(_LEAST_CHUNK, unit), _MOST_CHUNK + 1, unit)
        return min(reversed(sizes), key=lambda size: _multiple(dim, size))

    def depth(self, dim: int) -> int:
        """The number of components with which vectors of so many are multiplied."""
        return _multiple(dim, self.chunk(dim))

    def instructions(self, dim: int) -> float:
        """Of a warp, for the product of vectors of a pair of each of its threads."""
        pairs = self.m * self.n // WARP
        return len(self.terms) * self.depth(dim) / self.k / pairs

    def update_instructions(self, dim: int) -> float:
        """Of a warp, for what a pair of each of its threads adds to vectors of so many."""
        pairs = self.m * self.k // WARP
        return len(self.terms) * padded(dim) / self.n / pairs

    def shared(self, dim: int) -> int:
        """Components of a lane, of vectors of rows that are sums: neighbours, as it has sums."""
        return padded(dim) // MEMBERS

    def sum_registers(self, dim: int) -> int:
        """Of a thread, for its components of such vectors of m rows."""
        return self.shared(dim) * self.rows * SIZES[self.dtype] // 4

    def registers(self, dim: int) -> int:
        """Of a thread, for its elements of the vectors of m rows."""
        operands = self.depth(dim) // self.k * len(self.a) * self.parts[0]
        return operands * SIZES[self.dtype] // 4


def padded(dim: int) -> int:
    """The components that there are of vectors of so many, those that fill them up included."""
    return _multiple(dim, TOGETHER)


def _multiple(number: int, unit: int) -> int:
    return -(-number // unit) * unit


# Components of a chunk: of few a thread prepares few at a time, and many take many registers.
_LEAST_CHUNK, _MOST_CHUNK = 24, 32

_SUMS_OF_16 = ((0, 0), (0, 1), (8, 0), (8, 1))
_TF32 = MatrixProduct(
    "llvm.nvvm.mma.m16n8k8.row.col.tf32",
    *("f32", "tf32", "i32", TENSOR),
    *(16, 8, 8),
    a=((0, (0,)), (8, (0,)), (0, (4,)), (8, (4,))),
    b=((0,), (4,)),
    sums=_SUMS_OF_16,
)
_BF16 = MatrixProduct(
    "llvm.nvvm.mma.m16n8k16.row.col.bf16",
    *("f32", "bf16", "i32", TENSOR),
    *(16, 8, 16),
    a=((0, (0, 4)), (8, (0, 4)), (0, (8, 12)), (8, (8, 12))),
    b=((0, 4), (8, 12)),
    sums=_SUMS_OF_16,
)

# By the numbers that vectors have: those of their dtype, or of a shorter format (`Factors`).
PRODUCTS: Mapping[str, MatrixProduct] = {
    # Rounded factors, and each with the other's rest.
    "f32": replace(_TF32, terms=((0, 0), (0, 1), (1, 0)), kept=128),
    "f64": MatrixProduct(
        "llvm.nvvm.mma.m8n8k4.row.col.f64",
        *("f64", "f64", "double", TENSOR64),
        *(8, 8, 4),
        a=((0, (0,)),),
        b=((0,),),
        sums=((0, 0), (0, 1)),
        kept=64,
    ),
    "tf32": _TF32,
    "f16": replace(
        _BF16,
        intrinsic="llvm.nvvm.mma.m16n8k16.row.col.f32.f32",
        format="f16",
        operand="<2 x half>",
    ),
    "bf16": _BF16,
}
# The same for updates, whose first factor is a number of the pair: only the vector is shorter than
# its dtype.  Numbers beyond the range of float16 are possible, so that its vectors are TF32's.
UPDATES: Mapping[str, MatrixProduct] = {
    **PRODUCTS,
    "f16": replace(_TF32, terms=((0, 0), (1, 0))),
    "bf16": replace(_BF16, terms=((0, 0), (1, 0))),
}

# Components of vectors: fewer are not copied by whole warps.  Chunks of so many rows take as much
# memory as a block may have; those of float64 would need more registers.
_LEAST, _LONGEST = 16, 8192
# Instructions of a pair for a component, where products are written out (see `passes.products`).
# Points as they are stored have no distance from a common origin in so few bits.
_WRITTEN_OUT = {"product": 1, "distance": 2}
_STORED = frozenset({"f16", "bf16"})
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
    for factors, product in UPDATES.items():
        if product.pipe not in limits.results:
            continue
        divided = _DIVIDED if product.parts[0] > 1 else 0.0
        dims = [
            dim
            for dim in range(_LEAST, _MOST_UPDATED[product.dtype] + 1)
            if product.update_instructions(dim) * limits.clocks(product.pipe) + divided
            < dim * (arithmetic[product.dtype] + _LOADED)
        ]
        if dims:
            found[factors] = UpdateLimits(
                dims[0], dims[-1], _MEMORY[product.dtype], product.kept, _MOST_CHUNK
            )
    return found


def product_dims(target: str) -> Mapping[tuple[str, str], tuple[int, int]]:
    """For how many components products of matrices are cheaper, see `Target.product_dims`."""
    limits = multiprocessor(target)
    arithmetic = {"f32": limits.clocks(FMA), "f64": limits.clocks(FP64)}
    found = {}
    for (use, operations), (factors, product) in (
        (use, row) for use in _WRITTEN_OUT.items() for row in PRODUCTS.items()
    ):
        if product.pipe not in limits.results or (use == "distance" and factors in _STORED):
            continue
        around = _SUMS * arithmetic[product.dtype] + _PREPARATION
        dims = [
            dim
            for dim in range(_LEAST, product.kept + 1)
            if product.instructions(dim) * limits.clocks(product.pipe) + around
            < operations * dim * arithmetic[product.dtype]
        ]
        if dims:
            found[use, factors] = dims[0], dims[-1] if product.dtype == "f64" else _LONGEST
    return found


def kept_dims() -> Mapping[str, int]:
    """How many components vectors have at most that are kept as a whole, see `Target.kept_dims`."""
    return {factors: product.kept for factors, product in PRODUCTS.items()}
