"""`KernelSolve` on NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from redcomp import arguments, foreign
from redcomp.errors import ArgumentError
from redcomp.frontend.reductions.calls import check_count
from redcomp.frontend.reductions.genred import in_order, refuse_options
from redcomp.frontend.reductions.shapes import Shape
from redcomp.frontend.solvers.conjugate_gradients import Callback, SolveInfo
from redcomp.frontend.solvers.kernel_solve import KernelSolveBase, Settings
from redcomp.numpy.genred import Genred, as_arrays, takes_others

if TYPE_CHECKING:
    from typing_extensions import Never

    from redcomp.frontend.reductions.genred import AnyDtype
    from redcomp.typing import Accumulator, Axis, Backend, Dtype, SumScheme

__all__ = ["KernelSolve"]

_Array = np.ndarray[Any, np.dtype[Any]]


class KernelSolve(KernelSolveBase):
    __doc__ = KernelSolveBase.__doc__
    genred_class = Genred

    def __init__(
        self,
        formula: str,
        aliases: str | Iterable[str],
        varinvalias: str,
        axis: Axis | None = None,
        dtype: Dtype | AnyDtype | None = None,
        opt_arg: object = None,
        dtype_acc: Accumulator = "auto",
        use_double_acc: bool = False,
        sum_scheme: SumScheme = "auto",
        enable_chunks: bool = True,
        rec_multVar_highdim: bool | int | None = None,
        use_fast_math: bool | None = None,
        **unknown: Never,
    ) -> None:
        if unknown:
            refuse_options("KernelSolve", unknown, type(self))
        options = {
            "dtype": dtype,
            "dtype_acc": dtype_acc,
            "use_double_acc": use_double_acc,
            "sum_scheme": sum_scheme,
            "enable_chunks": enable_chunks,
            "rec_multVar_highdim": rec_multVar_highdim,
            "use_fast_math": use_fast_math,
        }
        super().__init__(formula, aliases, varinvalias, axis, **options)

    @overload
    def __call__(
        self,
        /,
        *args: _Array | float | Sequence[float],
        backend: Backend = "auto",
        device_id: int = -1,
        alpha: float | _Array = 1e-10,
        eps: float | None = None,
        ranges: Any = None,
        rtol: float = 0.0,
        maxiter: int | None = None,
        precondition: bool = True,
        return_info: Literal[False] = False,
        callback: Callback | None = None,
        **named: _Array | float | Sequence[float],
    ) -> _Array: ...

    @overload
    def __call__(
        self,
        /,
        *args: _Array | float | Sequence[float],
        backend: Backend = "auto",
        device_id: int = -1,
        alpha: float | _Array = 1e-10,
        eps: float | None = None,
        ranges: Any = None,
        rtol: float = 0.0,
        maxiter: int | None = None,
        precondition: bool = True,
        return_info: Literal[True],
        callback: Callback | None = None,
        **named: _Array | float | Sequence[float],
    ) -> tuple[_Array, SolveInfo]: ...

    @overload
    def __call__(
        self,
        /,
        *args: _Array | float | Sequence[float],
        backend: Backend = "auto",
        device_id: int = -1,
        alpha: float | _Array = 1e-10,
        eps: float | None = None,
        ranges: Any = None,
        rtol: float = 0.0,
        maxiter: int | None = None,
        precondition: bool = True,
        return_info: bool = False,
        callback: Callback | None = None,
        **named: _Array | float | Sequence[float],
    ) -> _Array | tuple[_Array, SolveInfo]: ...

    def __call__(
        self,
        /,
        *args: _Array | float | Sequence[float],
        backend: Backend = "auto",
        device_id: int = -1,
        alpha: float | _Array = 1e-10,
        eps: float | None = None,
        ranges: Any = None,
        rtol: float = 0.0,
        maxiter: int | None = None,
        precondition: bool = True,
        return_info: bool = False,
        callback: Callback | None = None,
        **named: _Array | float | Sequence[float],
    ) -> _Array | tuple[_Array, SolveInfo]:
        """Solve (alpha Id + K) a = b; b stands in the place of the unknown, and a has its shape.

        Arguments may have the shapes that they may have for Genred, and be of other libraries.

        alpha         a number, or an array that broadcasts to b's shape: (M, 1) has one a row
        eps           stop when the root mean square of b - (alpha Id + K) a is at most eps ...
        rtol          ... or its norm is at most rtol times that of b; eps is 1e-6 by default, as in
                      KeOps, or 0 if there is a rtol
        maxiter       the most iterations; by default 10 an unknown, at most 10,000
        precondition  divide by the diagonal of alpha Id + K, which makes rows of different scales
                      converge alike
        return_info   return (a, info), a `SolveInfo` with the iterations and the residual
        callback      a function that is called with (iteration, residual) after each iteration, an
                      int from 1 on and a float: the root mean square of b - (alpha Id + K) a, which
                      eps bounds, of several systems the largest.  What it returns is ignored; what
                      it raises ends the solve

        Components of b that the formula keeps apart, as in "Exp(-SqDist(x, y)) * b", are systems of
        their own, each with its own steps and its own end; other formulas give one system.

        Warns with ConvergenceWarning if the residual is larger than asked for and than rounding
        explains (a backward error of some units in the last place), the result being the last
        iterate; if the result is no better than zero, because b is below eps; and if K is found to
        be asymmetric, by the first two iterations.  Raises SolverError (an ArithmeticError) if
        alpha Id + K is not positive definite, or on NaN and infinity, and ArgumentError (a
        ValueError) for wrong arguments.
        """
        if named:
            args = in_order(self, self.genred.positions, args, named)
        options = {"backend": backend, "device_id": device_id, "ranges": ranges}
        settings = Settings(eps, rtol, maxiter, precondition, options, callback)
        return_info = arguments.switch("return_info", return_info)
        reduction = self.genred.reduction
        check_count(reduction, args)
        arrays, library = as_arrays(reduction, args)
        shapes = self._read([a.shape for a in arrays])
        b = _native_float(arrays[self.position], self.unknown.name)
        arrays = [
            (a.astype(b.dtype) if takes_others(parameter, a.shape, a.dtype) else a).reshape(shape)
            for parameter, a, shape in zip(reduction.parameters, arrays, shapes.full, strict=True)
        ]
        b = b.reshape(shapes.full[self.position])
        arrays[self.position] = np.broadcast_to(b, shapes.b)
        shift = _shift(alpha, shapes.solution)
        with np.errstate(all="ignore"):  # NaN and infinity become a SolverError
            solution, info = self._solve(np, arrays, shift.reshape(shapes.b), settings)
        solution = solution.reshape(shapes.solution)
        solution = solution if library is None else library.made(solution)
        return (solution, info) if return_info else solution


def _shift(alpha: object, shape: Shape) -> _Array:
    """alpha in float64 with the solution's shape."""
    wanted = f"a number, or real numbers that broadcast to b's shape {shape}"
    given = foreign.array_like("alpha", alpha, wanted)
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
