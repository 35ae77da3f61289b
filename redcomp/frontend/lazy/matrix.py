"""What everything that can be multiplied as a matrix has, whatever it is made of."""

from __future__ import annotations

from typing import Any

import numpy as np

from redcomp.frontend.lazy.checked import with_checked_methods

# By the dtype of a matrix, those of real and of complex vectors.
_PRECISIONS = {
    **dict.fromkeys(("float32", "complex64"), (np.float32, np.complex64)),
    **dict.fromkeys(("float64", "complex128"), (np.float64, np.complex128)),
}


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
        """`self @ v`, the name that SciPy asks for: arrays of NumPy are converted to the dtype."""
        return self @ _converted(v, self.dtype)

    def rmatvec(self: Any, v: Any) -> Any:
        """`self.conj().t() @ v`, the name that SciPy asks for; converts as `matvec`."""
        return self.conj().t() @ _converted(v, self.dtype)


def _converted(v: Any, dtype: str | None) -> Any:
    """An array of NumPy's in a matrix's precision: SciPy's solvers make theirs in float64."""
    if not isinstance(v, np.ndarray) or v.dtype.kind not in "fc" or dtype not in _PRECISIONS:
        return v
    return v.astype(_PRECISIONS[dtype][v.dtype.kind == "c"], copy=False)
