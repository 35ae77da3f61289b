"""Lazy matrices that are made of lazy matrices: products, transposes and blocks."""

from __future__ import annotations

import contextlib
import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from redcomp import arguments, notebooks
from redcomp.errors import ArgumentError
from redcomp.frontend.lazy import display
from redcomp.frontend.lazy.core import LazyCore
from redcomp.frontend.lazy.matrix import Matrix
from redcomp.frontend.lazy.missing import Advising
from redcomp.frontend.lazy.protocols import product_in_torch
from redcomp.limits import MAX_DENSE


class LazyOperator(Matrix, Advising, ABC):
    """A matrix that is only multiplied with vectors, as those of SciPy's `aslinearoperator`.

    shape   (M, N), or (..., M, N) in a batch
    dtype   the name of the dtype
    """

    shape: tuple[int, ...]
    dtype: str | None

    @abstractmethod
    def _times(self, v: Any) -> Any:
        """The product with a vector (N,) or a matrix (N, E)."""

    @property
    @abstractmethod
    def _made_of(self) -> Sequence[Any]:
        """The lazy matrices that it is made of."""

    @abstractmethod
    def t(self) -> LazyOperator:
        """The transpose."""

    @abstractmethod
    def conj(self) -> LazyOperator:
        """The complex conjugate."""

    @property
    def T(self) -> LazyOperator:  # noqa: N802 (the name everywhere)
        """The transpose."""
        return self.t()

    def __matmul__(self, other: Any) -> Any:
        """The product with a vector (N,) or a matrix (N, E), or with another lazy matrix."""
        if is_factor(other, self):
            return LazyProduct([self, other])
        return self._times(other)

    # An array of NumPy's times this is `__rmatmul__`.
    __array_ufunc__ = None

    @classmethod
    def _called_by_torch(
        cls, function: Any, types: Any, inputs: Sequence[Any] = (), named: Any = None
    ) -> Any:
        """A product by one of PyTorch's functions; raises TypeError for any other function."""
        return product_in_torch(function, inputs, named or {}, cls.__name__)

    __torch_function__: ClassVar[Any] = _called_by_torch
    __members__: ClassVar[Any]  # of PyTorch's face

    def dense(self, limit: int = MAX_DENSE) -> Any:
        """The array of shape `self.shape`, differentiable; at most `limit` bytes.

        It is the product with the unit matrix, which is stored too.
        """
        columns = self.shape[-1]
        width = 16 if self.dtype == "complex128" else 8
        require_room(self.shape, width * max(math.prod(self.shape), columns**2), limit)
        first = _some_lazy_tensor(self)
        return self @ first.library.unit_matrix(columns, self.dtype, first.variables)

    @property
    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        listed = [f"{type(m).__name__} {tuple(m.shape)}" for m in self._made_of]
        return type(self).__name__, [
            ("shape", str(self.shape)),
            ("dtype", self.dtype or "that of the arrays it will meet"),
            ("made of", ", ".join(listed)),
            ("memory", "none of its own: it is never stored"),
            ("to compute", "@ v multiplies; .dense() gives the array"),
        ]

    def __repr__(self) -> str:
        return display.text(*self._facts)

    def _repr_html_(self) -> str:
        return notebooks.facts(*self._facts)


def require_room(shape: tuple[int, ...], size: int, limit: int) -> None:
    """Raise ArgumentError where an array that is asked for is larger than it may be, in bytes."""
    if size > arguments.integer("limit", limit):
        raise ArgumentError(
            f"the array of shape {shape} would take {size:,} bytes, more than the limit of "
            f"{limit:,}; reduce the LazyTensor instead, or give dense(limit=...)"
        )


def is_matrix(value: object) -> bool:
    """Whether a value is a `LazyOperator`, or a LazyTensor of scalars: (M, N), (M, 1), (1, 1)."""
    return isinstance(value, LazyOperator) or (isinstance(value, LazyCore) and value.ndim == 1)


def is_factor(value: object, matrix: Any) -> bool:
    """Whether a matrix times this is a product of two lazy matrices, and not one with an array.

    A LazyTensor stands for an array if it has vectors for the j of the matrix, and no i.
    """
    if not isinstance(value, LazyCore):
        return isinstance(value, LazyOperator)
    kinds = {argument.slot.kind for argument in value._bindings.arguments}
    if "j" not in kinds or kinds & {"i", "ij"}:
        return True
    is_open = isinstance(matrix, LazyCore) and matrix._bindings.has_symbols
    return not is_open and value.nj not in (None, matrix.shape[-1])


def _shape_of_product(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
    if left[-1] == right[-2]:
        with contextlib.suppress(ValueError):
            return (*np.broadcast_shapes(left[:-2], right[:-2]), left[-2], right[-1])
    raise ArgumentError(f"lazy matrices of shapes {left} and {right} have no product")


class LazyProduct(LazyOperator):
    """The product of lazy matrices, which multiplies with the last one first."""

    def __init__(self, factors: Sequence[Any]) -> None:
        self.factors = [f for factor in factors for f in getattr(factor, "factors", [factor])]
        self.shape = functools.reduce(_shape_of_product, [tuple(f.shape) for f in self.factors])
        if any(isinstance(f, LazyCore) and f._bindings.has_symbols for f in self.factors[1:]):
            raise ArgumentError(
                "in a product of lazy matrices only the first one may have symbols: the last one "
                "is multiplied first"
            )
        self.dtype = _dtype(self.factors)

    @property
    def _made_of(self) -> Sequence[Any]:
        return self.factors

    def _times(self, v: Any) -> Any:
        if len(self.shape) > 2 and len(getattr(v, "shape", ())) == 1:
            return self._times(v[:, None])[..., 0]
        for factor in reversed(self.factors):
            v = factor @ v
        return v

    def conj(self) -> LazyProduct:
        return LazyProduct([factor.conj() for factor in self.factors])

    def t(self) -> LazyProduct:
        return LazyProduct([factor.t() for factor in reversed(self.factors)])


class LazyBlocks(LazyOperator):
    """A matrix of blocks, each of them a lazy matrix, or None for zeros."""

    def __init__(self, blocks: Sequence[Sequence[Any]]) -> None:
        rows = arguments.items("blocks", blocks, "a list of rows of lazy matrices")
        self.blocks = [arguments.items("a row of blocks", row, "a list") for row in rows]
        if not self.blocks or len({len(row) for row in self.blocks}) != 1 or not self.blocks[0]:
            raise ArgumentError("blocks must be a list of rows with the same number of blocks")
        for block in (b for row in self.blocks for b in row if b is not None):
            if not is_matrix(block) or len(block.shape) != 2:
                raise ArgumentError(
                    "a block must be a LazyTensor of shape (M, N), another lazy matrix, or None, "
                    f"not {arguments.shown(block)}"
                )
        self.heights = [self._size("row", n, row, 0) for n, row in enumerate(self.blocks)]
        columns = list(zip(*self.blocks, strict=True))
        self.widths = [self._size("column", n, column, 1) for n, column in enumerate(columns)]
        self.shape = (sum(self.heights), sum(self.widths))
        self.dtype = _dtype(self._made_of)

    @property
    def _made_of(self) -> Sequence[Any]:
        return [b for row in self.blocks for b in row if b is not None]

    def _size(self, what: str, position: int, line: Sequence[Any], axis: int) -> int:
        sizes = {block.shape[axis] for block in line if block is not None}
        if len(sizes) != 1:
            raise ArgumentError(
                f"the blocks of {what} {position} need one size along axis {axis}, and a block "
                f"that is not None; they have {sorted(sizes)}"
            )
        return int(sizes.pop())

    def _times(self, v: Any) -> Any:
        if len(getattr(v, "shape", ())) not in (1, 2) or v.shape[0] != self.shape[1]:
            raise ArgumentError(
                f"a matrix of shape {self.shape} is multiplied with an array of "
                f"{self.shape[1]} rows, not with {arguments.shown(getattr(v, 'shape', v))}"
            )
        starts = [sum(self.widths[:n]) for n in range(len(self.widths))]
        parts = [v[at : at + width] for at, width in zip(starts, self.widths, strict=True)]
        products = [
            sum(b @ part for b, part in zip(row, parts, strict=True) if b is not None)
            for row in self.blocks
        ]
        first = next(b for b in self.blocks[0] if b is not None)
        return joined(first, products)

    def conj(self) -> LazyBlocks:
        return LazyBlocks([[b if b is None else b.conj() for b in row] for row in self.blocks])

    def t(self) -> LazyBlocks:
        columns = zip(*self.blocks, strict=True)
        return LazyBlocks([[b if b is None else b.t() for b in column] for column in columns])


def _dtype(matrices: Sequence[Any]) -> str | None:
    """The dtype of a sum or a product: complex if one of them is."""
    names = [matrix.dtype for matrix in matrices if matrix.dtype is not None]
    return next((n for n in names if n.startswith("complex")), names[0] if names else None)


def _some_lazy_tensor(matrix: Any) -> Any:
    """A LazyTensor in a lazy matrix."""
    while not isinstance(matrix, LazyCore):
        matrix = matrix._made_of[0]
    return matrix


def joined(matrix: Any, parts: Sequence[Any]) -> Any:
    """Arrays one below the other, by the library of the first LazyTensor in a lazy matrix.

    They may be of another library, as products with its arrays are.
    """
    if all(isinstance(part, np.ndarray) for part in parts):  # which matrices of tensors give too
        return np.concatenate(parts)
    library = _some_lazy_tensor(matrix).library
    others = [("a block's product", p) for p in parts if not isinstance(p, library.array_class)]
    if not others:
        return library.joined(parts)
    own = library.joined(
        [p if isinstance(p, library.array_class) else library.taken("", p) for p in parts]
    )
    of_results = library.result_library(others)
    return own if of_results is None else of_results.made(own)
