"""`KernelSolve` on PyTorch tensors, with autograd of any order."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import torch
from torch.compiler import is_dynamo_compiling

from redcomp import arguments, foreign
from redcomp.errors import ArgumentError
from redcomp.frontend.reductions.calls import Positions
from redcomp.frontend.reductions.genred import in_order, refuse_options
from redcomp.frontend.reductions.shapes import Shape
from redcomp.frontend.reductions.texts import text_of, values_of
from redcomp.frontend.solvers.conjugate_gradients import Callback, SolveInfo
from redcomp.frontend.solvers.kernel_solve import KernelSolveBase, Settings
from redcomp.torch import autocast
from redcomp.torch.differentiable_solve import solved
from redcomp.torch.dynamo import solve_in_graph
from redcomp.torch.executors import check_one_device
from redcomp.torch.foreign import tensor_of
from redcomp.torch.genred import Genred, as_tensors, call, takes_others
from redcomp.torch.memory import (
    check_arguments,
    check_dense,
    check_described,
    check_plain,
    describe,
    is_traced,
)
from redcomp.tracing import constant_in_graphs

if TYPE_CHECKING:
    from typing_extensions import Never

    from redcomp.frontend.reductions.genred import AnyDtype
    from redcomp.typing import Accumulator, Axis, Backend, Dtype, SumScheme

__all__ = ["KernelSolve"]


class _Kernel(Genred):
    """K, or its diagonal, in the dtype of its arguments also where backward is under autocast."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return call(self, *args, is_cast=False, **options)


_solvers: weakref.WeakValueDictionary[str, KernelSolve] = weakref.WeakValueDictionary()


class KernelSolve(KernelSolveBase):
    __doc__ = KernelSolveBase.__doc__
    genred_class = _Kernel
    # What it is made of, from which `solver_of` makes it again.
    text: str

    def __init__(
        self,
        formula: str,
        aliases: str | Iterable[str],
        varinvalias: str,
        axis: Axis | None = None,
        dtype_acc: Accumulator = "auto",
        use_double_acc: bool = False,
        sum_scheme: SumScheme = "auto",
        enable_chunks: bool = True,
        rec_multVar_highdim: bool | int | None = None,
        dtype: Dtype | AnyDtype | None = None,
        cuda_type: Dtype | AnyDtype | None = None,
        use_fast_math: bool | None = None,
        **unknown: Never,
    ) -> None:
        if unknown:
            refuse_options("KernelSolve", unknown, type(self))
        options = {
            "dtype_acc": dtype_acc,
            "use_double_acc": use_double_acc,
            "sum_scheme": sum_scheme,
            "use_fast_math": use_fast_math,
        }
        if is_dynamo_compiling():
            self.text = _text(formula, aliases, varinvalias, axis, options)
            return
        ignored = {
            "dtype": dtype,
            "cuda_type": cuda_type,
            "enable_chunks": enable_chunks,
            "rec_multVar_highdim": rec_multVar_highdim,
        }
        super().__init__(formula, aliases, varinvalias, axis, **options, **ignored)
        # What has been accepted may be NumPy's booleans, or 1.
        settled = [
            (n, v if v is None or isinstance(v, str) else bool(v)) for n, v in options.items()
        ]
        self.text = text_of(formula, self.aliases, varinvalias, self.axis, tuple(settled))
        _solvers.setdefault(self.text, self)

    @classmethod
    def of_text(cls, text: str) -> KernelSolve:
        """What stands for a solver in a trace."""
        made = object.__new__(cls)
        made.text = text
        return made

    @overload
    def __call__(
        self,
        /,
        *args: torch.Tensor | float | Sequence[float],
        backend: Backend = "auto",
        device_id: int = -1,
        alpha: float | torch.Tensor = 1e-10,
        eps: float | None = None,
        ranges: Any = None,
        rtol: float = 0.0,
        maxiter: int | None = None,
        precondition: bool = True,
        return_info: Literal[False] = False,
        callback: Callback | None = None,
        **named: torch.Tensor | float | Sequence[float],
    ) -> torch.Tensor: ...

    @overload
    def __call__(
        self,
        /,
        *args: torch.Tensor | float | Sequence[float],
        backend: Backend = "auto",
        device_id: int = -1,
        alpha: float | torch.Tensor = 1e-10,
        eps: float | None = None,
        ranges: Any = None,
        rtol: float = 0.0,
        maxiter: int | None = None,
        precondition: bool = True,
        return_info: Literal[True],
        callback: Callback | None = None,
        **named: torch.Tensor | float | Sequence[float],
    ) -> tuple[torch.Tensor, SolveInfo]: ...

    @overload
    def __call__(
        self,
        /,
        *args: torch.Tensor | float | Sequence[float],
        backend: Backend = "auto",
        device_id: int = -1,
        alpha: float | torch.Tensor = 1e-10,
        eps: float | None = None,
        ranges: Any = None,
        rtol: float = 0.0,
        maxiter: int | None = None,
        precondition: bool = True,
        return_info: bool = False,
        callback: Callback | None = None,
        **named: torch.Tensor | float | Sequence[float],
    ) -> torch.Tensor | tuple[torch.Tensor, SolveInfo]: ...

    def __call__(
        self,
        /,
        *args: torch.Tensor | float | Sequence[float],
        backend: Backend = "auto",
        device_id: int = -1,
        alpha: float | torch.Tensor = 1e-10,
        eps: float | None = None,
        ranges: Any = None,
        rtol: float = 0.0,
        maxiter: int | None = None,
        precondition: bool = True,
        return_info: bool = False,
        callback: Callback | None = None,
        **named: torch.Tensor | float | Sequence[float],
    ) -> torch.Tensor | tuple[torch.Tensor, SolveInfo]:
        """Solve (alpha Id + K) a = b; b stands in the place of the unknown, and a has its shape.

        Arguments may have the shapes that they may have for Genred.

        alpha         a number, or a tensor that broadcasts to b's shape: (M, 1) has one a row
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

        Differentiable in all arguments and in alpha, backward and forward, to any order, by
        implicit differentiation: a pass solves the same system (K is symmetric) for the cotangent,
        or for db - d(alpha Id + K) a, to the relative tolerance max(eps, rtol).  Only K's values
        are taken to be symmetric: derivatives of the gradient in x count what x does in K, and in
        its transpose, where y is another tensor.  torch.vmap, jacrev, jacfwd and hessian of
        torch.func map over it.  Under torch.autocast, arguments of half precision are cast to
        float32, as for torch.linalg.solve.

        Warns with ConvergenceWarning if the residual is larger than asked for and than rounding
        explains (a backward error of some units in the last place), the result being the last
        iterate; if the result is no better than zero, because b is below eps; and if K is found to
        be asymmetric, by the first two iterations.  Raises SolverError (an ArithmeticError) if
        alpha Id + K is not positive definite, or on NaN and infinity, and ArgumentError (a
        ValueError) for wrong arguments.
        """
        if named:
            args = in_order(self, positions_of_solver(self.text), args, named)
        if is_dynamo_compiling():
            refuse_in_graphs(return_info, callback)
            asked = (eps, rtol, maxiter, precondition)
            traced: torch.Tensor = solve_in_graph(
                self.text, args, alpha, ranges, asked, backend, device_id
            )
            return traced
        options = {"backend": backend, "device_id": device_id, "ranges": ranges}
        settings = Settings(eps, rtol, maxiter, precondition, options, callback)
        return_info = arguments.switch("return_info", return_info)
        reduction, position = self.genred.reduction, self.position
        tensors = as_tensors(reduction, args)
        check_described(reduction, describe(reduction, tensors))
        check_one_device(reduction, [t.device for t in tensors])
        check_arguments(reduction, tensors)
        if autocast.is_on():
            tensors = autocast.cast(tensors, torch.float32)
        shapes = self._read([t.shape for t in tensors])
        if not tensors[position].is_floating_point():
            name, dtype = self.unknown.name, tensors[position].dtype
            raise ArgumentError(f"argument {name!r} has dtype {dtype}; expected a float")
        dtype = tensors[position].dtype  # which numbers get too
        tensors = tuple(
            t.to(dtype) if takes_others(parameter, t.shape, t.dtype) else t
            for parameter, t in zip(reduction.parameters, tensors, strict=True)
        )
        full = [t.reshape(shape) for t, shape in zip(tensors, shapes.full, strict=True)]
        b = full[position] = full[position].expand(shapes.b)
        shift = _shift(alpha, shapes.solution, b.device).reshape(shapes.b)
        solution, info = solved(self, settings, full, shift)
        solution = solution.reshape(shapes.solution)
        if info is None:
            refuse_in_graphs(return_info, callback)
            return solution
        return (solution, info) if return_info else solution


def refuse_in_graphs(return_info: bool, callback: Callback | None) -> None:
    """Raise ArgumentError if a traced solve is to say how it goes or how it ended."""
    for name, is_asked in (("return_info", return_info), ("callback", callback is not None)):
        if is_asked:
            raise ArgumentError(f"{name} is for eager calls: a graph has no iterations to count")


@constant_in_graphs
def _text(*made_of: Any) -> str:
    """The text of a solver; raises FormulaError or ArgumentError."""
    formula, aliases, varinvalias, axis, options = made_of
    return KernelSolve(formula, aliases, varinvalias, axis, **options).text


@constant_in_graphs
def positions_of_solver(text: str) -> Positions:
    """The position of each argument of the solver of a text, by its names."""
    return solver_of(text).genred.positions


@functools.lru_cache(256)
def solver_of(text: str) -> KernelSolve:
    """The solver of a text, the one that somebody holds or a new one.

    Raises ArgumentError for a text of anything else.
    """
    found = _solvers.get(text)
    if found is None:
        values = values_of(text)
        if len(values) != 5 or not isinstance(values[4], tuple):
            raise ArgumentError(f"this is no text of a solver: {text[:80]}")
        formula, aliases, varinvalias, axis, options = values
        found = KernelSolve(formula, aliases, varinvalias, axis, **dict(options))
    return found


def _shift(alpha: object, shape: Shape, device: torch.device) -> torch.Tensor:
    """alpha in float64 with the solution's shape, differentiable if it is a tensor."""
    wanted = f"a number, or real numbers that broadcast to b's shape {shape}"
    is_other = foreign.speaks(alpha)
    given = tensor_of("alpha", alpha) if is_other else foreign.array_like("alpha", alpha, wanted)
    if isinstance(given, torch.Tensor):
        check = check_dense if is_traced([given]) else check_plain
        check("alpha", given)
    try:
        is_tensor = isinstance(given, torch.Tensor)
        tensor = torch.as_tensor(given if is_tensor else np.asarray(given), device=device)
        if tensor.is_complex():
            raise TypeError
        return tensor.to(torch.float64).expand(shape)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise ArgumentError(f"alpha must be {wanted}, not {arguments.shown(alpha)}") from None
