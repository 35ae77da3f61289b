"""`KernelSolve` on NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from redcomp import arguments
from redcomp.errors import ArgumentError
from redcomp.frontend.conjugate_gradients import SolveInfo
from redcomp.frontend.kernel_solve import KernelSolveBase, Settings
from redcomp.numpy.genred import Genred

__all__ = ["KernelSolve"]

_Array = np.ndarray[Any, np.dtype[Any]]


class KernelSolve(KernelSolveBase):
    __doc__ = KernelSolveBase.__doc__
    genred_class = Genred

    def __call__(
        self,
        *args: _Array,
        backend: str = "auto",
        device_id: int = -1,
        alpha: float | _Array = 1e-10,
        eps: float = 1e-6,
        ranges: Any = None,
        rtol: float = 0.0,
        maxiter: int | None = None,
        precondition: bool = True,
        return_info: bool = False,
    ) -> _Array | tuple[_Array, SolveInfo]:
        """Solve (alpha Id + K) a = b; b stands in the place of the unknown, and a has its shape.

        alpha         a number, or an array that broadcasts to b's shape: (M, 1) has one a row
        eps           stop when the root mean square of b - (alpha Id + K) a is at most eps, ...
        rtol          ... or its norm at most rtol times that of b
        maxiter       the most iterations; by default 10 an unknown, at most 10,000
        precondition  divide by the diagonal of alpha Id + K, which makes rows of different scales
                      converge alike
        return_info   return (a, info), a `SolveInfo` with the iterations and the residual

        Components of b that the formula keeps apart, as in "Exp(-SqDist(x, y)) * b", are systems of
        their own, each with its own steps and its own end; other formulas give one system.

        Warns with ConvergenceWarning if the residual is larger than asked for and than rounding
        explains (a backward error of some units in the last place); the result is then the last
        iterate.  Raises SolverError (an ArithmeticError) if alpha Id + K is not positive definite,
        or on NaN and infinity, and ArgumentError (a ValueError) for wrong arguments.
        """
        options = {"backend": backend, "device_id": device_id, "ranges": ranges}
        settings = Settings(eps, rtol, maxiter, precondition, options, return_info)
        self._check(args, np.ndarray)
        given = args[self.position]
        shape = (*self._leading(args), *given.shape[-2:])
        b = np.broadcast_to(_native_float(given, self.unknown.name), shape)
        args = (*args[: self.position], b, *args[self.position + 1 :])
        shift = _shift(alpha, shape)
        with np.errstate(all="ignore"):  # NaN and infinity become a SolverError
            solution, info = self._solve(np, args, shift, settings)
        return (solution, info) if settings.return_info else solution


def _shift(alpha: object, shape: tuple[int, ...]) -> _Array:
    """alpha in float64, of a shape."""
    wanted = f"a number, or real numbers that broadcast to b's shape {shape}"
    given = arguments.array_like("alpha", alpha, wanted)
    try:
        array = np.asarray(given)
        return np.broadcast_to(array.astype(np.float64, casting="same_kind"), shape)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise ArgumentError(f"alpha must be {wanted}, not {arguments.shown(alpha)}") from None


def _native_float(array: _Array, name: str) -> _Array:
    """Plain, in the machine's byte order."""
    if array.dtype.kind != "f":
        raise ArgumentError(f"argument {name!r} has dtype {array.dtype}; expected float32, float64")
    return np.asarray(array, dtype=array.dtype.newbyteorder("="))
