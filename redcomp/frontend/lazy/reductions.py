"""The reductions of the table as methods of LazyTensors."""

from __future__ import annotations

from typing import Any, TypeVar

from redcomp.errors import ArgumentError
from redcomp.frontend.lazy.methods import Methods

R = TypeVar("R", bound="Reductions")


def _over_pairs(reduction_op: str, doc: str) -> Any:
    def method(self: Any, axis: Any = None, dim: Any = None, **options: Any) -> Any:
        return self.reduction(reduction_op, axis=axis, dim=dim, **options)

    method.__doc__ = f"{doc}, over i (axis 0) or j (axis 1); options as for `reduction`."
    return method


def _over_any(reduction_op: str, callee: str, doc: str) -> Any:
    def method(self: Any, axis: Any = -1, dim: Any = None, **options: Any) -> Any:
        if type(axis) is int and axis == -1 and dim is None and not options:
            return self._of_this(callee)
        if self._axis(axis, dim) is None:
            self._check_inner(options)
            return self._of_this(callee)
        return self.reduction(reduction_op, axis=axis, dim=dim, **options)

    method.__doc__ = (
        f"{doc}: of the components of each vector (axis -1), which stays lazy, or over i (axis 0) "
        "or j (axis 1), which computes; options as for `reduction`."
    )
    return method


def _keeping(reduction_op: str, doc: str) -> Any:
    def method(self: Any, K: Any, axis: Any = None, dim: Any = None, **options: Any) -> Any:
        return self.reduction(reduction_op, opt_arg=K, axis=axis, dim=dim, **options)

    method.__doc__ = f"{doc}, over i (axis 0) or j (axis 1): (M, K, D), or (M, K) of scalars."
    return method


class Reductions(Methods):
    """Reductions over i, over j, and of the components of vectors."""

    __slots__ = ()

    sum = _over_any("Sum", "Sum", "The sum")
    max = amax = _over_any("Max", "Max", "The largest value")
    min = amin = _over_any("Min", "Min", "The smallest value")
    argmax = _over_any("ArgMax", "ArgMax", "The number of the first largest value")
    argmin = _over_any("ArgMin", "ArgMin", "The number of the first smallest value")
    sum_reduction = _over_pairs("Sum", "The sum")
    max_reduction = _over_pairs("Max", "The largest value")
    min_reduction = _over_pairs("Min", "The smallest value")
    argmax_reduction = _over_pairs("ArgMax", "The number of the first largest value")
    argmin_reduction = _over_pairs("ArgMin", "The number of the first smallest value")
    min_argmin = min_argmin_reduction = _over_pairs("Min_ArgMin", "The smallest value and where")
    max_argmax = max_argmax_reduction = _over_pairs("Max_ArgMax", "The largest value and where")
    prod = _over_pairs("Prod", "The product")
    any = _over_pairs("Any", "Whether any value is not 0")
    all = _over_pairs("All", "Whether no value is 0")
    Kmin = Kmin_reduction = _keeping("KMin", "The K smallest values")
    argKmin = argKmin_reduction = _keeping("ArgKMin", "The numbers of the K smallest")  # noqa: N815 (KeOps' names)
    Kmin_argKmin = Kmin_argKmin_reduction = _keeping("KMin_ArgKMin", "The K smallest, and where")
    Kmax = _keeping("KMax", "The K largest values")
    argKmax = _keeping("ArgKMax", "The numbers of the K largest")  # noqa: N815 (alike)
    Kmax_argKmax = _keeping("KMax_ArgKMax", "The K largest, and where")

    def _check_inner(self, options: Any) -> None:
        """Options of a sum of components: only what says nothing."""
        for name, value in options.items():
            if name not in ("keepdim", "keepdims", "call"):
                raise ArgumentError(f"{name}={value!r} means nothing for a sum of components")

    def mean(self: R, axis: Any = -1, dim: Any = None, **options: Any) -> Any:
        """The mean: of the components of each vector, or over i (axis 0) or j (axis 1)."""
        if self._axis(axis, dim) is None:
            self._check_inner(options)
            return self._of_this("Sum") / self.ndim
        return self.reduction("Mean", axis=axis, dim=dim, **options)

    def logsumexp(
        self: R, axis: Any = None, dim: Any = None, weight: Any = None, **options: Any
    ) -> Any:
        """The logarithm of the sum of exponentials, perhaps with weights; of components too."""
        weight = options.pop("other", weight)
        if weight is None and self._axis(axis, dim) is None:
            self._check_inner(options)
            most = self._of_this("Max")
            return (self - most)._of_this("Exp")._of_this("Sum")._of_this("Log") + most
        return self.reduction("LogSumExp", weight, axis=axis, dim=dim, **options)

    logsumexp_reduction = logsumexp

    def sumsoftmaxweight(
        self: R, weight: Any, axis: Any = None, dim: Any = None, **options: Any
    ) -> Any:
        """The sum of weights times the softmax over i (axis 0) or j (axis 1)."""
        return self.reduction("SumSoftMaxWeight", weight, axis=axis, dim=dim, **options)

    sumsoftmaxweight_reduction = sumsoftmaxweight
