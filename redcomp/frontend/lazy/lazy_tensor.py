"""`LazyTensor`: an array over all pairs (i, j) that is never stored; the class users see."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from redcomp import arguments, foreign
from redcomp.errors import ArgumentError
from redcomp.frontend.lazy.bindings import (
    Bindings,
    Symbol,
    Unique,
    columns_as_batch,
    diagonal,
    exchanged,
    exchanged_argument,
    special,
)
from redcomp.frontend.lazy.checked import checked, with_checked_methods
from redcomp.frontend.lazy.linear import LazyBlocks, LazyProduct, is_factor, require_room
from redcomp.frontend.lazy.matrix import Matrix
from redcomp.frontend.lazy.protocols import Protocols
from redcomp.frontend.lazy.reduction import Arranged, Job
from redcomp.frontend.lazy.solve import System
from redcomp.limits import MAX_DENSE

Own = TypeVar("Own", bound="LazyTensorBase")


@with_checked_methods
class LazyTensorBase(Protocols, Matrix):
    """An array of vectors for all pairs (i, j), which is computed when it is reduced.

        x_i = LazyTensor(x[:, None, :])                   # (M, 1, D)
        y_j = LazyTensor(y[None, :, :])                   # (1, N, D)
        K = (-((x_i - y_j) ** 2).sum(-1)).exp()           # (M, N), never stored
        K @ b, K.sum(axis=1), K.argmin(axis=1)

    x     an array of shape (..., M, 1, D), which has a vector for each i; (..., 1, N, D), for each
          j; (..., M, N, D), for each pair; or (..., 1, 1, D), (D,) or (), parameters; a number; a
          list of numbers, a vector; or (position, dimension, category), a symbol for what a call
          brings
    axis  0, 1 or 2 for an array of shape (..., M, D), (..., N, D) or (..., D): a vector for each i,
          for each j, or a parameter
    is_complex  make a `ComplexLazyTensor` of real x too, as complex x does by itself

    Arrays are float32, float64, or of half precision, or integers and booleans, which are converted
    to the others' dtype.  Python's numbers have no dtype of their own.  Arrays of other libraries
    than NumPy and PyTorch (CuPy, JAX, TensorFlow and others) are taken too.

    Raises ArgumentError (a ValueError) for anything else.
    """

    __slots__ = ()

    # -- matrices ----------------------------------------------------------------------------------

    def t(self: Own) -> Own:
        """The transpose: i and j are exchanged, and so are the two halves of `ranges`."""
        return self._moved(exchanged)

    @property
    def T(self: Own) -> Own:  # noqa: N802 (the name everywhere)
        """The transpose."""
        return self.t()

    def __matmul__(self, v: Any, **options: Any) -> Any:
        """The product with a vector (N,), a matrix (..., N, E), or another lazy matrix (N, P).

        A LazyTensor that depends on j alone, for the same j, counts as an array: of a vector for
        each j.  `K.matmul(v, ...)` takes the options of a reduction too.  Raises ArgumentError if
        this has vectors, or if the sizes do not fit.
        """
        if self.ndim != 1:
            raise ArgumentError(
                f"a LazyTensor of shape {self._shape} is no matrix: it has vectors of "
                f"{self.ndim} components, which .sum(-1) adds up"
            )
        if not isinstance(v, self.library.array_class):
            if is_factor(v, self):
                if options:
                    raise ArgumentError(f"a product of lazy matrices takes no {', '.join(options)}")
                return LazyProduct([self, v])
            if isinstance(v, LazyTensorBase):
                return (self * v)._total(1, options)
        own, back = self.library.right_hand_side(v, self._bindings.agreed.dtype, self)
        if not own.shape:
            raise ArgumentError(
                f"K @ v needs an array, not the number {v!r}: K * v is the multiple"
            )
        factor = self._taken(own, axis=1)
        if own is not v and foreign.speaks(v):
            factor = factor._of_other(v)
        is_vector = len(own.shape) == 1
        return (self * factor)._summed(
            lambda found: back(found[..., 0] if is_vector else found), **options
        )

    matmul = __matmul__

    @staticmethod
    def block(blocks: Sequence[Sequence[Any]]) -> LazyBlocks:
        """The matrix of blocks [[K, L], ...], each a LazyTensor (M, N), a lazy matrix, or None."""
        return LazyBlocks(blocks)

    def mask(self: Own, where: Any, value: Any = 0.0) -> Own:
        """This where an array (..., M, N) of booleans is true, and `value` elsewhere."""
        return self._at_pairs("mask", where).where(self, value)

    def bias(self: Own, array: Any) -> Own:
        """This plus an array (..., M, N), in which results are differentiable too."""
        return self + self._at_pairs("bias", array)

    def _at_pairs(self: Own, name: str, array: Any) -> Own:
        """An array of a number for each pair, as a LazyTensor."""
        if isinstance(array, LazyTensorBase):
            return self._taken(array)
        if not isinstance(array, self.library.array_class) or len(array.shape) < 2:
            raise ArgumentError(
                f"{name} takes an array of {self.library.name} of shape (..., M, N), not "
                f"{arguments.shown(array)}"
            )
        return self._taken(array[..., None])

    # -- values that are stored --------------------------------------------------------------------

    def dense(self, limit: int = MAX_DENSE) -> Any:
        """The array of shape `self.shape`, differentiable; at most `limit` bytes.

        It has all values, whatever `ranges` a reduction visits.  Raises ArgumentError if it is
        larger, or where there are symbols.
        """
        shape = self._shape
        numbers = math.prod(shape[:-1]) * self._expression.dim
        size = numbers * (8 if self._bindings.agreed.dtype == "float64" else 4)
        require_room(self.shape, size, limit)
        columns_first = (*shape[:-3], shape[-2], shape[-3], shape[-1])
        return self._moved(columns_as_batch)._value_of_rows(
            lambda found: self.library.transposed(found.reshape(columns_first)).reshape(self.shape)
        )

    def diagonal(self) -> Any:
        """The values at the pairs (k, k): (..., M), or (..., M, D) of vectors."""
        return self._on_diagonal(lambda found: found)

    def trace(self) -> Any:
        """The sum of the diagonal: (...), or (..., D) of vectors."""
        return self._on_diagonal(lambda found: found.sum(-1 if self.ndim == 1 else -2))

    def _on_diagonal(self, arrange: Callable[[Any], Any]) -> Any:
        """The values at the pairs (k, k), arranged by a function of the library's own arrays."""
        self._require_square("diagonal")
        shape = self._shape[:-2] if self.ndim == 1 else (*self._shape[:-2], self.ndim)
        return self._moved(diagonal)._value_of_rows(lambda found: arrange(found.reshape(shape)))

    def _require_square(self, name: str) -> None:
        rows, columns = self._shape[-3:-1]
        if rows != columns:
            raise ArgumentError(
                f"{name} needs as many rows i as columns j; there are {rows} and {columns}"
            )

    def _of_other(self: Own, given: object) -> Own:
        """This variable, whose array was made of one of another library."""
        (argument,) = self._bindings.arguments
        bound = special(argument, given)
        return self._made(self._expression, Bindings.of([bound], bound.agreed))

    def _moved(self: Own, move: Callable[[Bindings, Any], Bindings]) -> Own:
        """The same expression of other variables."""
        bindings = move(self._bindings, self.library)
        slots = tuple(argument.slot for argument in bindings.arguments)
        made = self._made(self.library.build.rebound(self._expression, slots), bindings)
        made.ranges = None
        if move is exchanged and self.ranges is not None:
            made.ranges = (*self.ranges[3:], *self.ranges[:3])
        return made

    def _value_of_rows(self, arrange: Callable[[Any], Any]) -> Any:
        """The value for each i, where nothing depends on j, arranged by the function."""
        if self._bindings.has_symbols:
            raise ArgumentError(
                "a LazyTensor with symbolic variables has no values yet: call a reduction of it "
                "with arrays"
            )
        return self._summed(arrange)

    # -- systems -----------------------------------------------------------------------------------

    def solve(
        self,
        other: Any,
        var: Any = None,
        call: bool = True,
        alpha: Any = 1e-10,
        eps: float | None = None,
        **options: Any,
    ) -> Any:
        """The solution a of (alpha Id + K) a = other, K being this: symmetric, or Hermitian.

        other    the right-hand side: an array (M, E), a vector for each i, or (M,), of which the
                 solution is (M,) too; or a LazyTensor that is a variable of i, or of j for systems
                 of the transpose
        var      a symbol in this that is solved for, this being linear in it; without it K is a
                 matrix, and multiplied with the unknown
        call     False returns a `LazyReduction`, to be called later
        options  those of `KernelSolve` and of its call

        Raises ArgumentError and SolverError, and warns, as `KernelSolve` does.
        """
        is_vector = False
        if not isinstance(other, LazyTensorBase):
            is_vector = len(getattr(other, "shape", ())) == 1
            other = self._named("the right-hand side", other, axis=0)
        if self.is_complex and not other.is_complex and other.variables:
            (b,) = other._bindings.arguments
            made = self._taken(b.value + 0j, axis=other.axis)
            other = made._of_other(b.given) if b.agreed.is_special else made
        if other.axis not in (0, 1):
            raise ArgumentError("the right-hand side must be an array, a Vi or a Vj")
        over = 1 - other.axis
        formula, unknown = self._of_unknown(other, over, var)
        system: Job = formula._job(
            System(self.library, formula._expression.in_place, unknown, over)
        )
        if is_vector:
            system = Arranged(system, _without_last_axis)
        return formula._run(system, formula._bindings, call=call, alpha=alpha, eps=eps, **options)

    def _of_unknown(self: Own, other: Any, over: int, var: Any) -> tuple[Own, int]:
        """This as a function of the unknown, and the position of that, which has b's values."""
        (b,) = other._bindings.arguments
        b = exchanged_argument(b, self.library)
        if var is None:
            b = b if isinstance(b.given, Symbol) else replace(b, key=Unique())
            unknown = other._made(self.library.build.variable(b.slot), Bindings.of([b], b.agreed))
            product = self * unknown
            return product, [a.key for a in product._bindings.arguments].index(b.key)
        key = var._bindings.arguments[0].key if isinstance(var, LazyTensorBase) else None
        bound = self._bindings.arguments
        found = [n for n, a in enumerate(bound) if a.key == key and isinstance(a.given, Symbol)]
        if not found:
            raise ArgumentError("var must be a symbolic variable of the LazyTensor")
        given = (*bound[: found[0]], b, *bound[found[0] + 1 :])
        return self._made(self._expression, self._bindings.with_arguments(given)), found[0]


def _without_last_axis(solution: Any) -> Any:
    """Numbers, of a solution of vectors with one component; what is known of it comes after it."""
    if isinstance(solution, tuple):
        return (_without_last_axis(solution[0]), *solution[1:])
    return solution.reshape(solution.shape[:-1])


def variable_maker(lazy_class: type[Own], axis: int) -> Callable[..., Own]:
    """`Vi`, `Vj` or `Pm` of a class of LazyTensors."""
    name = ("Vi", "Vj", "Pm")[axis]
    what = ("a vector for each i", "a vector for each j", "a parameter")[axis]
    shape = ("(..., M, D)", "(..., N, D)", "(..., D) or a number or a list of them")[axis]

    def make(x_or_ind: Any, dim: int | None = None) -> Own:
        if dim is None:
            return lazy_class(x_or_ind, axis)
        return lazy_class((arguments.integer("ind", x_or_ind), dim, axis))

    make.__name__ = make.__qualname__ = name
    make.__doc__ = (
        f"A LazyTensor that is {what}: `{name}(x)` of an array of shape {shape}, or "
        f"`{name}(position, dimension)`, a symbol for what a call brings."
    )
    return checked(make)
