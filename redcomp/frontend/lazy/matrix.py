"""What everything that can be multiplied as a matrix has, whatever it is made of."""

from __future__ import annotations

from typing import Any

from redcomp.frontend.lazy.checked import with_checked_methods


@with_checked_methods
class Matrix:
    """A lazy matrix: a LazyTensor of scalars, or what is made of such.

    It has `@`, `t()`, and `conj()`.
    """

    __slots__ = ()

    def __rmatmul__(self: Any, v: Any) -> Any:
        """The product of a vector (M,) or a matrix (..., E, M) with this."""
        if len(getattr(v, "shape", ())) < 2:
            return self.t() @ v
        return (self.t() @ v.swapaxes(-1, -2)).swapaxes(-1, -2)

    def matvec(self: Any, v: Any) -> Any:
        """`self @ v`, the name that SciPy asks for."""
        return self @ v

    def rmatvec(self: Any, v: Any) -> Any:
        """`self.conj().t() @ v`, the name that SciPy asks for."""
        return self.conj().t() @ v
