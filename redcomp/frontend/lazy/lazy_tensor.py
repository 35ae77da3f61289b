"""`LazyTensor`: an array over all pairs (i, j) that is never stored; the class users see."""

from __future__ import annotations

from typing import Any, TypeVar

from redcomp import arguments
from redcomp.errors import ArgumentError
from redcomp.frontend.language.expressions import rebound
from redcomp.frontend.lazy.bindings import exchanged
from redcomp.frontend.lazy.reductions import Reductions

Own = TypeVar("Own", bound="LazyTensorBase")


class LazyTensorBase(Reductions):
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

    Arrays are float32, float64, or of half precision, or integers and booleans, which are converted
    to the others' dtype.  Python's numbers have no dtype of their own.

    Raises ArgumentError (a ValueError) for anything else.
    """

    __slots__ = ()

    # -- linear algebra ----------------------------------------------------------------------------

    def t(self: Own) -> Own:
        """The transpose: i and j exchanged, and the two halves of `ranges`."""
        bindings = exchanged(self._bindings, self.library)
        slots = tuple(a.slot for a in bindings.arguments)
        made = self._made(rebound(self._expression, slots), bindings)
        if self.ranges is not None:
            made.ranges = (*self.ranges[3:], *self.ranges[:3])
        return made

    T = property(t)

    def __matmul__(self, v: Any) -> Any:
        """The product of the matrix over all pairs with a vector (N,) or a matrix (..., N, E)."""
        return self.matmul(v)

    def matmul(self, v: Any, **options: Any) -> Any:
        """As `@`, with options of a reduction; raises ArgumentError if this has vectors."""
        if self.ndim != 1:
            raise ArgumentError(
                f"a LazyTensor of shape {self._shape} is no matrix: it has vectors of "
                f"{self.ndim} components"
            )
        if isinstance(v, LazyTensorBase):
            return (self * v).reduction("Sum", axis=self.nbatchdims + 1, **options)
        given, back = self.library.right_hand_side(v, self.dtype, self.variables)
        is_vector = len(given.shape) == 1
        columns = type(self)(given, axis=1)
        product = self * columns
        found = product.reduction("Sum", axis=product.nbatchdims + 1, **options)
        return back(found[..., 0] if is_vector else found)

    def matvec(self, v: Any) -> Any:
        """`self @ v`, the name that SciPy asks for."""
        return self @ v

    def rmatvec(self, v: Any) -> Any:
        """`self.t() @ v`, the name that SciPy asks for."""
        return self.t() @ v


def variable_maker(lazy_class: type[Own], axis: int) -> Any:
    """`Vi`, `Vj` or `Pm` of a class of LazyTensors."""
    name = ("Vi", "Vj", "Pm")[axis]
    what = ("a vector for each i", "a vector for each j", "a parameter")[axis]
    shape = ("(..., M, D)", "(..., N, D)", "(..., D) or a number or a list of them")[axis]

    def make(x_or_ind: Any, dim: int | None = None) -> Own:
        if dim is None:
            is_plain = axis == 2 and not lazy_class.library.is_array(x_or_ind)
            return lazy_class(x_or_ind, None if is_plain else axis)
        return lazy_class((arguments.integer("ind", x_or_ind), dim, axis))

    make.__name__ = make.__qualname__ = name
    make.__doc__ = (
        f"A LazyTensor that is {what}: `{name}(x)` of an array of shape {shape}, or "
        f"`{name}(position, dimension)`, a symbol for what a call brings."
    )
    return make
