"""What a LazyTensor stands for, computed densely in float64: needs NumPy only.

`Dense` has the methods of KeOps' LazyTensor, and holds the values of all pairs. It shares no code
with redcomp.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def exact(values: Any) -> Array:
    """Numbers, lists, arrays and tensors as float64, complex128 or indices."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    array = np.asarray(values)
    if array.dtype.kind == "c":
        return array.astype(np.complex128)
    return array.astype(np.float64)


class Dense:
    """An array (..., M or 1, N or 1, D) with the methods of a LazyTensor."""

    __array_ufunc__ = None

    def __init__(self, x: Any, axis: int | None = None) -> None:
        array = exact(x)
        if array.ndim < 2:
            array = array.reshape(1, 1, -1)
        elif axis is not None:
            array = np.expand_dims(array, {0: -2, 1: -3, 2: -2}[axis])
            array = array[None] if axis == 2 else array
        self.values = array
        self.kept: Array | None = None  # (M, N): whether a pair takes part

    # -- shapes --

    @property
    def _shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape[:-1] if self.ndim == 1 else self._shape

    @property
    def ndim(self) -> int:
        return self._shape[-1]

    @property
    def nbatchdims(self) -> int:
        return len(self._shape) - 3

    def dim(self) -> int:
        return len(self._shape)

    def _with(self, values: Array, *others: Dense) -> Dense:
        result = Dense(values)
        known = [each.kept for each in (self, *others) if each.kept is not None]
        result.kept = known[0] if known else None
        return result

    def t(self) -> Dense:
        result = self._with(self.values.swapaxes(-3, -2))
        result.kept = None if self.kept is None else self.kept.T
        return result

    T = property(t)

    # -- one value from values of the same component --

    def _each(self, function: Callable[..., Array], *others: Any) -> Dense:
        lifted = [lift(other) for other in others]
        return self._with(function(self.values, *(each.values for each in lifted)), *lifted)

    def __add__(self, other: Any) -> Dense:
        return self._each(np.add, other)

    def __sub__(self, other: Any) -> Dense:
        return self._each(np.subtract, other)

    def __mul__(self, other: Any) -> Dense:
        return self._each(np.multiply, other)

    def __truediv__(self, other: Any) -> Dense:
        return self._each(np.divide, other)

    def __mod__(self, other: Any) -> Dense:
        return self._each(np.mod, other)

    def __floordiv__(self, other: Any) -> Dense:
        return self._each(np.floor_divide, other)

    def __pow__(self, other: Any) -> Dense:
        return self._each(np.power, other)

    __radd__ = __add__
    __rmul__ = __mul__
    power = __pow__

    def __rsub__(self, other: Any) -> Dense:
        return lift(other) - self

    def __rtruediv__(self, other: Any) -> Dense:
        return lift(other) / self

    def __rpow__(self, other: Any) -> Dense:
        return lift(other) ** self

    def __neg__(self) -> Dense:
        return self._each(np.negative)

    def abs(self) -> Dense:
        return self._each(np.abs)

    __abs__ = abs

    def _is(self, compare: Callable[..., Array], other: Any) -> Dense:
        return self._each(lambda a, b: compare(a, b).astype(float), other)

    def __eq__(self, other: object) -> Any:
        return self._is(np.equal, other)

    def __ne__(self, other: object) -> Any:
        return self._is(np.not_equal, other)

    def __lt__(self, other: Any) -> Dense:
        return self._is(np.less, other)

    def __gt__(self, other: Any) -> Dense:
        return self._is(np.greater, other)

    def __le__(self, other: Any) -> Dense:
        return self._is(np.less_equal, other)

    def __ge__(self, other: Any) -> Dense:
        return self._is(np.greater_equal, other)

    __hash__ = None  # type: ignore[assignment]

    def atan2(self, other: Any) -> Dense:
        return self._each(np.arctan2, other)

    def clamp(self, low: Any, high: Any) -> Dense:
        return self._each(lambda x, a, b: np.where(x < a, a, np.where(x > b, b, x)), low, high)

    def ifelse(self, yes: Any, no: Any) -> Dense:
        return self._each(lambda x, a, b: np.where(x >= 0, a, b), yes, no)

    def mod(self, modulus: Any, offset: Any = 0) -> Dense:
        return self._each(lambda x, n, d: x - n * np.floor((x - d) / n), modulus, offset)

    def round(self, digits: int = 0) -> Dense:
        def halves_away(x: Array) -> Array:
            scaled = np.abs(x) * 10.0**digits
            return np.copysign(np.floor(scaled + 0.5), x) / 10.0**digits

        return self._each(halves_away)

    # -- vectors --

    def __or__(self, other: Any) -> Dense:
        return (self * other).sum()

    def __ror__(self, other: Any) -> Dense:
        return (self * other).sum()

    def sqnorm2(self) -> Dense:
        return (self * self).sum()

    def norm2(self) -> Dense:
        return self.sqnorm2()._each(np.sqrt)

    def norm(self, dim: int) -> Dense:
        assert dim in (-1, self.dim() - 1)
        return self.norm2()

    def normalize(self) -> Dense:
        return self / self.norm2()

    def sqdist(self, other: Any) -> Dense:
        return (self - other).sqnorm2()

    def weightedsqnorm(self, weight: Any) -> Dense:
        weight, dim = lift(weight), self.ndim
        if weight.ndim != dim * dim or dim == 1:
            return (weight * self * self).sum()
        return self._each(
            lambda x, a: np.einsum(
                "...k,...kl,...l->...", x, a.reshape(*a.shape[:-1], dim, dim), x
            )[..., None],
            weight,
        )

    def weightedsqdist(self, other: Any, weight: Any) -> Dense:
        return (self - other).weightedsqnorm(weight)

    def elem(self, place: int) -> Dense:
        return self._each(lambda x: x[..., place, None])

    def extract(self, start: int, length: int) -> Dense:
        return self._each(lambda x: x[..., start : start + length])

    def __getitem__(self, key: Any) -> Dense:
        key = key[-1] if isinstance(key, tuple) else key
        return self.elem(key) if isinstance(key, int) else self._each(lambda x: x[..., key])

    def one_hot(self, count: int) -> Dense:
        return self._each(lambda x: (np.round(x) == np.arange(count)).astype(float))

    def concat(self, other: Any) -> Dense:
        return Dense.concatenate((self, other))

    @staticmethod
    def concatenate(parts: Sequence[Any], axis: int = -1) -> Dense:
        lifted = [lift(part) for part in parts]
        leading = np.broadcast_shapes(*(each._shape[:-1] for each in lifted))
        return lifted[0]._with(
            np.concatenate(
                [np.broadcast_to(each.values, (*leading, each.ndim)) for each in lifted], axis
            )
        )

    @staticmethod
    def cat(parts: Sequence[Any], dim: int) -> Dense:
        return Dense.concatenate(parts, dim)

    def matvecmult(self, vector: Any) -> Dense:
        def product(a: Array, b: Array) -> Array:
            matrix = a.reshape(*a.shape[:-1], -1, b.shape[-1])
            result: Array = (matrix @ b[..., None])[..., 0]
            return result

        return self._each(product, vector)

    def vecmatmult(self, matrix: Any) -> Dense:
        def product(b: Array, a: Array) -> Array:
            square = a.reshape(*a.shape[:-1], b.shape[-1], -1)
            result: Array = (b[..., None, :] @ square)[..., 0, :]
            return result

        return self._each(product, matrix)

    def tensorprod(self, other: Any) -> Dense:
        def product(a: Array, b: Array) -> Array:
            outer = a[..., :, None] * b[..., None, :]
            return outer.reshape(*outer.shape[:-2], -1)

        return self._each(product, other)

    def keops_kron(self, other: Any, dims: Sequence[int], other_dims: Sequence[int]) -> Dense:
        places = [*range(0, 2 * len(dims), 2), *range(1, 2 * len(dims), 2)]
        return self.keops_tensordot(other, dims, other_dims, (), (), places)

    def keops_tensordot(
        self,
        other: Any,
        dims: Sequence[int],
        other_dims: Sequence[int],
        summed: Sequence[int],
        other_summed: Sequence[int],
        places: Sequence[int] | None = None,
    ) -> Dense:
        """`places[k]` is where the k-th axis that is left goes."""

        def product(a: Array, b: Array) -> Array:
            letters, others = list("abcdef"[: len(dims)]), list("mnopqr"[: len(other_dims)])
            for left, right in zip(summed, other_summed, strict=True):
                others[right] = letters[left]
            both = {letters[left] for left in summed}
            left_over = [each for each in letters + others if each not in both]
            order = np.argsort(places) if places is not None else range(len(left_over))
            last = "".join(left_over[place] for place in order)
            tensor = np.einsum(
                f"...{''.join(letters)},...{''.join(others)}->...{last}",
                a.reshape(*a.shape[:-1], *dims),
                b.reshape(*b.shape[:-1], *other_dims),
            )
            return tensor.reshape(*tensor.shape[: tensor.ndim - len(last)], -1)

        return self._each(product, other)

    def factorize(self, _: Any) -> Dense:
        return self

    def auto_factorize(self) -> Dense:
        return self

    # -- complex numbers --

    @property
    def real(self) -> Dense:
        return self._each(np.real)

    @property
    def imag(self) -> Dense:
        return self._each(np.imag)

    def real2complex(self) -> Dense:
        return self._each(lambda x: x + 0j)

    def imag2complex(self) -> Dense:
        return self._each(lambda x: 1j * x)

    def exp1j(self) -> Dense:
        return self._each(lambda x: np.exp(1j * x))

    # -- reductions --

    def _reduced(
        self,
        axis: int | None,
        dim: int | None,
        neutral: float,
        reduce: Callable[..., Any],
        *others: Any,
    ) -> Any:
        """Over components a Dense; over i or j what `reduce(axis, *values)` makes of all pairs."""
        axis = dim if axis is None else axis
        assert axis is not None, "an axis is required"
        lifted = [self, *map(lift, others)]
        axis = axis - self.dim() if axis >= 0 else axis
        leading = np.broadcast_shapes(*(each._shape[:-1] for each in lifted))
        values = [np.broadcast_to(each.values, (*leading, each.ndim)) for each in lifted]
        if axis == -1:
            return self._with(reduce(-1, *values)[..., None])
        if self.kept is not None:
            values[0] = np.where(self.kept[..., None], values[0], neutral)
        return reduce(axis, *values)

    def sum(self, axis: int | None = None, dim: int | None = None, **_: Any) -> Any:
        axis = -1 if axis is None and dim is None else axis
        return self._reduced(axis, dim, 0.0, lambda axis, x: x.sum(axis))

    def _extremum(self, name: str, axis: int | None, dim: int | None) -> Any:
        axis = -1 if axis is None and dim is None else axis
        function, neutral = getattr(np, name), np.inf if "min" in name else -np.inf
        return self._reduced(axis, dim, neutral, lambda axis, x: function(x, axis=axis))

    def min(self, axis: int | None = None, dim: int | None = None, **_: Any) -> Any:
        return self._extremum("min", axis, dim)

    def max(self, axis: int | None = None, dim: int | None = None, **_: Any) -> Any:
        return self._extremum("max", axis, dim)

    def argmin(self, axis: int | None = None, dim: int | None = None, **_: Any) -> Any:
        return self._extremum("argmin", axis, dim)

    def argmax(self, axis: int | None = None, dim: int | None = None, **_: Any) -> Any:
        return self._extremum("argmax", axis, dim)

    sum_reduction = sum
    min_reduction = min
    max_reduction = max
    argmin_reduction = argmin
    argmax_reduction = argmax

    def min_argmin(self, axis: int | None = None, dim: int | None = None, **_: Any) -> Any:
        return self.min(axis, dim), self.argmin(axis, dim)

    def max_argmax(self, axis: int | None = None, dim: int | None = None, **_: Any) -> Any:
        return self.max(axis, dim), self.argmax(axis, dim)

    min_argmin_reduction = min_argmin
    max_argmax_reduction = max_argmax

    def argKmin(  # noqa: N802  as in KeOps
        self, K: int, axis: int | None = None, dim: int | None = None, **_: Any
    ) -> Any:
        def first(axis: int, x: Array) -> Array:
            order = np.argsort(x, axis=axis, kind="stable").take(range(K), axis)
            return _columns(order, axis)

        return self._reduced(axis, dim, np.inf, first)

    def Kmin(  # noqa: N802
        self, K: int, axis: int | None = None, dim: int | None = None, **_: Any
    ) -> Any:
        def first(axis: int, x: Array) -> Array:
            return _columns(np.sort(x, axis=axis).take(range(K), axis), axis)

        return self._reduced(axis, dim, np.inf, first)

    def Kmin_argKmin(  # noqa: N802
        self, K: int, axis: int | None = None, dim: int | None = None, **_: Any
    ) -> Any:
        return self.Kmin(K, axis, dim), self.argKmin(K, axis, dim)

    def logsumexp(
        self, axis: int | None = None, dim: int | None = None, weight: Any = 1.0, **_: Any
    ) -> Any:
        def logarithm(axis: int, x: Array, weights: Array) -> Array:
            largest = x.max(axis, keepdims=True)
            total = (np.exp(x - largest) * weights).sum(axis)
            result: Array = np.log(total) + largest.squeeze(axis)
            return result

        return self._reduced(axis, dim, -np.inf, logarithm, weight)

    def sumsoftmaxweight(
        self, weight: Any, axis: int | None = None, dim: int | None = None, **_: Any
    ) -> Any:
        def average(axis: int, x: Array, weights: Array) -> Array:
            factors = np.exp(x - x.max(axis, keepdims=True))
            result: Array = (factors * weights).sum(axis) / factors.sum(axis)
            return result

        return self._reduced(axis, dim, -np.inf, average, weight)

    logsumexp_reduction = logsumexp
    sumsoftmaxweight_reduction = sumsoftmaxweight

    def solve(self, other: Any, alpha: float = 1e-10, **_: Any) -> Array:
        """For a scalar matrix: arrays (M, E) and (..., M, 1, E) are indexed by i."""
        right = other.values if isinstance(other, Dense) else exact(other)[..., None, :]
        is_by_rows = right.shape[-2] == 1
        matrix = self.values[..., 0] if is_by_rows else self.values[..., 0].swapaxes(-1, -2)
        vectors = right[..., 0, :] if is_by_rows else right[..., 0, :, :]
        shifted = matrix + alpha * np.eye(matrix.shape[-1])
        leading = np.broadcast_shapes(shifted.shape[:-2], vectors.shape[:-2])
        return np.linalg.solve(shifted, np.broadcast_to(vectors, (*leading, *vectors.shape[-2:])))

    def __matmul__(self, other: Any) -> Array:
        matrix = self.values if self.kept is None else self.values * self.kept[..., None]
        assert self.ndim == 1
        result: Array = matrix[..., 0] @ exact(other)
        return result

    matvec = __matmul__

    def rmatvec(self, other: Any) -> Array:
        return self.t() @ other


def _columns(first: Array, axis: int) -> Array:
    """(..., K, R, D) or (..., R, K, D), which of them `axis` says, as (..., R, K[, D])."""
    found = np.moveaxis(first, axis, -2)
    return found[..., 0] if found.shape[-1] == 1 else found


def _method(function: Callable[[Array], Array]) -> Callable[[Dense], Dense]:
    return lambda self: self._each(function)


def _xlogx(x: Array) -> Array:
    return np.where(x == 0, 0.0, x * np.log(np.where(x == 0, 1.0, x)))


def _rsqrt(x: Array) -> Array:
    result: Array = np.where(x == 0, 0.0, 1 / np.sqrt(np.where(x == 0, 1.0, x)))
    return result


for _name in ("Kmin", "argKmin", "Kmin_argKmin"):
    setattr(Dense, f"{_name}_reduction", getattr(Dense, _name))
for _name, _function in {
    "exp": np.exp,
    "log": np.log,
    "xlogx": _xlogx,
    "cos": np.cos,
    "sin": np.sin,
    "sinxdivx": lambda x: np.sinc(x / np.pi),
    "sinc": np.sinc,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sqrt": np.sqrt,
    "rsqrt": _rsqrt,
    "square": np.square,
    "sign": np.sign,
    "step": lambda x: (x >= 0).astype(float),
    "relu": lambda x: np.maximum(x, 0.0),
    "angle": np.angle,
    "conj": np.conj,
}.items():
    setattr(Dense, _name, _method(_function))


def lift(x: Any) -> Dense:
    """A number, a list or an array as a Dense; a Dense as it is."""
    return x if isinstance(x, Dense) else Dense(x)


def Vi(x: Any) -> Dense:  # noqa: N802  as in KeOps
    return Dense(x, 0)


def Vj(x: Any) -> Dense:  # noqa: N802
    return Dense(x, 1)


def Pm(x: Any) -> Dense:  # noqa: N802
    return Dense(x, 2) if np.ndim(x) > 1 else Dense(x)
