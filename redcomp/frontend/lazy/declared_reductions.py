"""Declarations of the methods that reductions make, written by scripts/make_declared.py.

Type checkers and editors read them; when redcomp runs, the class is empty.
"""

# ruff: noqa: N802, N815 (KeOps' names)

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redcomp.frontend.lazy.operators import Operators


class DeclaredReductions(Operators):
    """What reductions add to LazyTensors."""

    __slots__ = ()

    if TYPE_CHECKING:

        def sum(self, axis: Any = -1, dim: Any = None, **options: Any) -> Any:
            """The sum: of each vector's components (axis -1), which stays lazy, or over i (axis 0)
            or j (axis 1), which computes; options as for `reduction`.
            """
            ...

        def mean(self, axis: Any = -1, dim: Any = None, **options: Any) -> Any:
            """The mean: of each vector's components (axis -1), which stays lazy, or over i (axis 0)
            or j (axis 1), which computes; options as for `reduction`.
            """
            ...

        def norm(self, axis: Any = -1, dim: Any = None, **options: Any) -> Any:
            """The Euclidean norm: of each vector's components (axis -1), which stays lazy, or over
            i (axis 0) or j (axis 1), which computes; options as for `reduction`.
            """
            ...

        def prod(self, axis: Any = -1, dim: Any = None, **options: Any) -> Any:
            """The product: of each vector's components (axis -1), which stays lazy, or over i (axis
            0) or j (axis 1), which computes; options as for `reduction`.
            """
            ...

        def any(self, axis: Any = -1, dim: Any = None, **options: Any) -> Any:
            """Whether any value is not 0: of each vector's components (axis -1), which stays lazy,
            or over i (axis 0) or j (axis 1), which computes; options as for `reduction`.
            """
            ...

        def all(self, axis: Any = -1, dim: Any = None, **options: Any) -> Any:
            """Whether no value is 0: of each vector's components (axis -1), which stays lazy, or
            over i (axis 0) or j (axis 1), which computes; options as for `reduction`.
            """
            ...

        def max(self, axis: Any = -1, dim: Any = None, **options: Any) -> Any:
            """The largest value: of each vector's components (axis -1), which stays lazy, or over i
            (axis 0) or j (axis 1), which computes; options as for `reduction`.
            """
            ...

        def min(self, axis: Any = -1, dim: Any = None, **options: Any) -> Any:
            """The smallest value: of each vector's components (axis -1), which stays lazy, or over
            i (axis 0) or j (axis 1), which computes; options as for `reduction`.
            """
            ...

        def argmax(self, axis: Any = -1, dim: Any = None, **options: Any) -> Any:
            """The index of the first largest value: of each vector's components (axis -1), which
            stays lazy, or over i (axis 0) or j (axis 1), which computes; options as for
            `reduction`.
            """
            ...

        def argmin(self, axis: Any = -1, dim: Any = None, **options: Any) -> Any:
            """The index of the first smallest value: of each vector's components (axis -1), which
            stays lazy, or over i (axis 0) or j (axis 1), which computes; options as for
            `reduction`.
            """
            ...

        def max_argmax(self, axis: Any = -1, dim: Any = None, **options: Any) -> Any:
            """The largest value and its index: of each vector's components (axis -1), which stays
            lazy, or over i (axis 0) or j (axis 1), which computes; options as for `reduction`.
            """
            ...

        def min_argmin(self, axis: Any = -1, dim: Any = None, **options: Any) -> Any:
            """The smallest value and its index: of each vector's components (axis -1), which stays
            lazy, or over i (axis 0) or j (axis 1), which computes; options as for `reduction`.
            """
            ...

        def sum_reduction(self, axis: Any = None, dim: Any = None, **options: Any) -> Any:
            """The sum, over i (axis 0) or j (axis 1); options as for `reduction`."""
            ...

        def max_reduction(self, axis: Any = None, dim: Any = None, **options: Any) -> Any:
            """The largest value, over i (axis 0) or j (axis 1); options as for `reduction`."""
            ...

        def min_reduction(self, axis: Any = None, dim: Any = None, **options: Any) -> Any:
            """The smallest value, over i (axis 0) or j (axis 1); options as for `reduction`."""
            ...

        def argmax_reduction(self, axis: Any = None, dim: Any = None, **options: Any) -> Any:
            """The index of the first largest value, over i (axis 0) or j (axis 1); options as for
            `reduction`.
            """
            ...

        def argmin_reduction(self, axis: Any = None, dim: Any = None, **options: Any) -> Any:
            """The index of the first smallest value, over i (axis 0) or j (axis 1); options as for
            `reduction`.
            """
            ...

        def max_argmax_reduction(self, axis: Any = None, dim: Any = None, **options: Any) -> Any:
            """The largest value and its index, over i (axis 0) or j (axis 1); options as for
            `reduction`.
            """
            ...

        def min_argmin_reduction(self, axis: Any = None, dim: Any = None, **options: Any) -> Any:
            """The smallest value and its index, over i (axis 0) or j (axis 1); options as for
            `reduction`.
            """
            ...

        def Kmin(self, K: Any, axis: Any = None, dim: Any = None, **options: Any) -> Any:
            """The K smallest values, over i (axis 0) or j (axis 1): (M, K, D), or (M, K) where D =
            1.
            """
            ...

        def argKmin(self, K: Any, axis: Any = None, dim: Any = None, **options: Any) -> Any:
            """The indices of the K smallest values, over i (axis 0) or j (axis 1): (M, K, D), or
            (M, K) where D = 1.
            """
            ...

        def Kmin_argKmin(self, K: Any, axis: Any = None, dim: Any = None, **options: Any) -> Any:
            """The K smallest values and their indices, over i (axis 0) or j (axis 1): (M, K, D), or
            (M, K) where D = 1.
            """
            ...

        def Kmax(self, K: Any, axis: Any = None, dim: Any = None, **options: Any) -> Any:
            """The K largest values, over i (axis 0) or j (axis 1): (M, K, D), or (M, K) where D =
            1.
            """
            ...

        def argKmax(self, K: Any, axis: Any = None, dim: Any = None, **options: Any) -> Any:
            """The indices of the K largest values, over i (axis 0) or j (axis 1): (M, K, D), or (M,
            K) where D = 1.
            """
            ...

        def Kmax_argKmax(self, K: Any, axis: Any = None, dim: Any = None, **options: Any) -> Any:
            """The K largest values and their indices, over i (axis 0) or j (axis 1): (M, K, D), or
            (M, K) where D = 1.
            """
            ...

        amax = max
        amin = min
        Kmin_reduction = Kmin
        argKmin_reduction = argKmin
        Kmin_argKmin_reduction = Kmin_argKmin
