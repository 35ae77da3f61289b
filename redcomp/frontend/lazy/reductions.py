"""The reductions of the table as methods of LazyTensors, and what is made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from redcomp import arguments
from redcomp.errors import ArgumentError
from redcomp.frontend.lazy.bindings import Bindings
from redcomp.frontend.lazy.checked import checked, with_checked_methods
from redcomp.frontend.lazy.methods import Methods
from redcomp.frontend.lazy.spread import Spread, center_of

R = TypeVar("R", bound="Reductions")
Method = Callable[..., Any]


def _over_pairs(reduction_op: str, doc: str) -> Method:
    def method(self: Any, axis: Any = None, dim: Any = None, **options: Any) -> Any:
        return self.reduction(reduction_op, axis=axis, dim=dim, **options)

    method.__doc__ = f"{doc}, over i (axis 0) or j (axis 1); options as for `reduction`."
    return method


def _over_any(reduction_op: str, doc: str, inner: Callable[[Any], Any]) -> Method:
    def method(self: Any, axis: Any = -1, dim: Any = None, **options: Any) -> Any:
        if type(axis) is int and axis == -1 and dim is None and not options:  # the usual way
            return inner(self)
        if self._is_inner(reduction_op, axis, dim, options):
            return inner(self)
        return self.reduction(reduction_op, axis=axis, dim=dim, **options)

    method.__doc__ = (
        f"{doc}: of each vector's components (axis -1), which stays lazy, or over i (axis 0) "
        "or j (axis 1), which computes; options as for `reduction`."
    )
    return method


def _keeping(reduction_op: str, doc: str) -> Method:
    def method(self: Any, K: Any, axis: Any = None, dim: Any = None, **options: Any) -> Any:
        count = arguments.integer("K", K)
        return self.reduction(reduction_op, opt_arg=count, axis=axis, dim=dim, **options)

    method.__doc__ = f"{doc}, over i (axis 0) or j (axis 1): (M, K, D), or (M, K) where D = 1."
    return method


def _row(callee: str) -> Callable[[Any], Any]:
    return lambda x: x._of_this(callee)


def _product(x: Any) -> Any:
    """The product of components, halves multiplied with each other."""
    while x.ndim > 1:
        half = x.ndim // 2
        product = x[:half] * x[half : 2 * half]
        x = product if x.ndim % 2 == 0 else product.concat(x[-1])
    return x


def _truth(callee: str) -> Callable[[Any], Any]:
    return lambda x: (x != 0)._of_this(callee)


def _both(value: str, place: str) -> Callable[[Any], Any]:
    return lambda x: (x._of_this(value), x._of_this(place))


# The methods that are reductions, by name.
REDUCTION_METHODS: Mapping[str, Method] = {
    "sum": _over_any("Sum", "The sum", _row("Sum")),
    "mean": _over_any("Mean", "The mean", lambda x: x._of_this("Sum") / x.ndim),
    "norm": _over_any("Norm", "The Euclidean norm", _row("Norm2")),
    "prod": _over_any("Prod", "The product", _product),
    "any": _over_any("Any", "Whether any value is not 0", _truth("Max")),
    "all": _over_any("All", "Whether no value is 0", _truth("Min")),
    "max": _over_any("Max", "The largest value", _row("Max")),
    "min": _over_any("Min", "The smallest value", _row("Min")),
    "argmax": _over_any("ArgMax", "The index of the first largest value", _row("ArgMax")),
    "argmin": _over_any("ArgMin", "The index of the first smallest value", _row("ArgMin")),
    "max_argmax": _over_any(
        "Max_ArgMax", "The largest value and its index", _both("Max", "ArgMax")
    ),
    "min_argmin": _over_any(
        "Min_ArgMin", "The smallest value and its index", _both("Min", "ArgMin")
    ),
    "sum_reduction": _over_pairs("Sum", "The sum"),
    "max_reduction": _over_pairs("Max", "The largest value"),
    "min_reduction": _over_pairs("Min", "The smallest value"),
    "argmax_reduction": _over_pairs("ArgMax", "The index of the first largest value"),
    "argmin_reduction": _over_pairs("ArgMin", "The index of the first smallest value"),
    "max_argmax_reduction": _over_pairs("Max_ArgMax", "The largest value and its index"),
    "min_argmin_reduction": _over_pairs("Min_ArgMin", "The smallest value and its index"),
    "Kmin": _keeping("KMin", "The K smallest values"),
    "argKmin": _keeping("ArgKMin", "The indices of the K smallest values"),
    "Kmin_argKmin": _keeping("KMin_ArgKMin", "The K smallest values and their indices"),
    "Kmax": _keeping("KMax", "The K largest values"),
    "argKmax": _keeping("ArgKMax", "The indices of the K largest values"),
    "Kmax_argKmax": _keeping("KMax_ArgKMax", "The K largest values and their indices"),
}
OTHER_REDUCTIONS: Mapping[str, str] = {
    "amax": "max",
    "amin": "min",
    "Kmin_reduction": "Kmin",
    "argKmin_reduction": "argKmin",
    "Kmin_argKmin_reduction": "Kmin_argKmin",
    "logsumexp_reduction": "logsumexp",
    "sumsoftmaxweight_reduction": "sumsoftmaxweight",
}


@with_checked_methods
class Reductions(Methods):
    """Reductions over i, over j, and of the components of vectors."""

    __slots__ = ()

    def _is_inner(self, name: str, axis: Any, dim: Any, options: Mapping[str, Any]) -> bool:
        """Whether it is components that are reduced, for which no option means anything."""
        if self._axis(axis, dim) is not None:
            return False
        for option, value in options.items():
            if option not in ("keepdim", "keepdims", "call"):
                raise ArgumentError(
                    f"{option}={arguments.shown(value)} has no effect on {name} of components, "
                    "which computes nothing yet: leave it out"
                )
        return True

    def topk(
        self,
        k: int,
        dim: Any = None,
        largest: bool = True,
        sorted: bool = True,
        *,
        axis: Any = None,
        **options: Any,
    ) -> Any:
        """The k largest values and their indices, as `Kmax_argKmax`; or the k smallest."""
        is_largest = arguments.switch("largest", largest)
        arguments.switch("sorted", sorted)  # they are, whatever it says
        kept = self.Kmax_argKmax if is_largest else self.Kmin_argKmin
        return kept(arguments.integer("k", k), axis, dim, **options)

    # -- exponentials ------------------------------------------------------------------------------

    def logsumexp(
        self: R, axis: Any = None, dim: Any = None, weight: Any = None, **options: Any
    ) -> Any:
        """The logarithm of the sum of exponentials; over i or j perhaps with weights."""
        weight = options.pop("other", weight)
        if weight is None and self._is_inner("LogSumExp", axis, dim, options):
            most = self._of_this("Max")
            shift = (abs(most) == float("inf")).where(0, most)
            return (self - shift)._of_this("Exp")._of_this("Sum")._of_this("Log") + shift
        return self.reduction("LogSumExp", weight, axis=axis, dim=dim, **options)

    def sumsoftmaxweight(
        self: R, weight: Any, axis: Any = None, dim: Any = None, **options: Any
    ) -> Any:
        """The sum over i (axis 0) or j (axis 1) of softmax times weights, real or complex."""
        return self.reduction("SumSoftMaxWeight", weight, axis=axis, dim=dim, **options)

    def softmax(self: R, axis: Any = -1, dim: Any = None) -> R:
        """The softmax of the components of each vector."""
        self._only_inner("softmax", axis, dim)
        powers = (self - self._of_this("Max"))._of_this("Exp")
        return powers / powers._of_this("Sum")

    def log_softmax(self: R, axis: Any = -1, dim: Any = None) -> R:
        """The logarithm of the softmax of the components of each vector."""
        self._only_inner("log_softmax", axis, dim)
        less = self - self._of_this("Max")
        return less - less._of_this("Exp")._of_this("Sum")._of_this("Log")

    def _only_inner(self, name: str, axis: Any, dim: Any) -> None:
        if self._axis(axis, dim) is not None:
            raise ArgumentError(
                f"{name} is of components, axis=-1; over i or j sumsoftmaxweight(weight, axis) "
                "gives the sum of the softmax times weights"
            )

    # -- how far values spread ---------------------------------------------------------------------

    def var(self: R, axis: Any = -1, dim: Any = None, **options: Any) -> Any:
        """The variance: the mean of squared differences from the mean, times n / (n - ddof).

        Of the components of each vector (axis -1), which stays lazy, or over i (axis 0) or j
        (axis 1), which computes, in two passes.  Of complex numbers, squared moduli of differences.

        options   those of `reduction`, without `out`, and one of these:
        ddof      `correction` in PyTorch; as in the library by default: 0 for NumPy, 1 for PyTorch
        unbiased  True stands for ddof=1, False for 0

        Raises ArgumentError.
        """
        return self._spread("var", False, axis, dim, options)

    def std(self: R, axis: Any = -1, dim: Any = None, **options: Any) -> Any:
        """The standard deviation: the square root of `var`, which has the same parameters."""
        return self._spread("std", True, axis, dim, options)

    def _ddof(self, options: dict[str, Any]) -> float:
        """What the number of values is lessened by, taken out of the options."""
        names = ("ddof", "correction", "unbiased")
        given = [options.pop(n) for n in names if n in options]
        said = [value for value in given if value is not None]
        if len(said) > 1:
            raise ArgumentError("ddof, correction and unbiased say the same: give one of them")
        return arguments.number("ddof", said[0]) if said else self.library.correction

    def _spread(
        self: R, name: str, is_root: bool, axis: Any, dim: Any, options: dict[str, Any]
    ) -> Any:
        ddof = self._ddof(options)
        if self._is_inner(name, axis, dim, options):
            if self.ndim <= ddof:
                raise ArgumentError(f"{name} of {self.ndim} components with ddof={ddof:g}")
            difference = self - self._of_this("Sum") / self.ndim
            variance = difference._of_this("SqNorm2") / (self.ndim - ddof)
            return variance._of_this("Sqrt") if is_root else variance
        over = self._axis(axis, dim)
        assert over is not None
        if "out" in options:
            raise ArgumentError(f"{name} takes no out")
        values = self._read_as(self.real_class)._with_an_index()
        center = center_of(values._bindings, over, values.ndim)
        less = values - values._made_of(center)
        moments = less._apply("Concat", less._of_this("Square"))
        first = values[:1]
        ones = (first == first).maximum(first != first)
        job = Spread(
            values._reduced("Mean", over),
            moments._reduced("Mean", over),
            ones._reduced("Sum", over),
            center,
            values.ndim // self.ndim,
            ddof,
            is_root,
        )
        return values._run(values._keeping(job, over - 2, options), values._bindings, **options)

    def _made_of(self: R, argument: Any) -> R:
        made = self._made(self._expression, Bindings.of([argument], argument.agreed))
        made._bind(argument)
        return made


def _add_methods() -> None:
    for name, method in REDUCTION_METHODS.items():
        method.__name__, method.__qualname__ = name, f"LazyTensor.{name}"
        setattr(Reductions, name, checked(method))
    for name, known in OTHER_REDUCTIONS.items():
        setattr(Reductions, name, getattr(Reductions, known))


_add_methods()
