"""`KernelSolve` on PyTorch tensors, with autograd of any order."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch._functorch.utils import unwrap_dead_wrappers

from redcomp import arguments, foreign
from redcomp.errors import ArgumentError
from redcomp.frontend.reductions.shapes import Shape
from redcomp.frontend.solvers.conjugate_gradients import SolveInfo
from redcomp.frontend.solvers.kernel_solve import KernelSolveBase, Settings
from redcomp.torch.dynamo import untraced
from redcomp.torch.foreign import tensor_of
from redcomp.torch.genred import Genred, as_tensors
from redcomp.torch.mapped import by_vmap, whole, with_mapped_first
from redcomp.torch.memory import check_arguments, check_described, check_plain, describe

__all__ = ["KernelSolve"]


@untraced
class KernelSolve(KernelSolveBase):
    __doc__ = KernelSolveBase.__doc__
    genred_class = Genred

    @untraced
    def __init__(
        self,
        formula: str,
        aliases: Sequence[str],
        varinvalias: str,
        axis: int = 0,
        dtype_acc: str = "auto",
        use_double_acc: bool = False,
        sum_scheme: str = "auto",
        enable_chunks: bool = True,
        rec_multVar_highdim: bool | int | None = None,
        dtype: object = None,
        cuda_type: object = None,
        use_fast_math: bool | None = None,
    ) -> None:
        options = {
            "dtype": dtype,
            "cuda_type": cuda_type,
            "dtype_acc": dtype_acc,
            "use_double_acc": use_double_acc,
            "sum_scheme": sum_scheme,
            "enable_chunks": enable_chunks,
            "rec_multVar_highdim": rec_multVar_highdim,
            "use_fast_math": use_fast_math,
        }
        super().__init__(formula, aliases, varinvalias, axis, **options)

    def __call__(
        self,
        *args: torch.Tensor | float,
        backend: str = "auto",
        device_id: int = -1,
        alpha: float | torch.Tensor = 1e-10,
        eps: float | None = None,
        ranges: Any = None,
        rtol: float = 0.0,
        maxiter: int | None = None,
        precondition: bool = True,
        return_info: bool = False,
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

        Components of b that the formula keeps apart, as in "Exp(-SqDist(x, y)) * b", are systems of
        their own, each with its own steps and its own end; other formulas give one system.

        Differentiable in all arguments and in alpha, to any order, by implicit differentiation: a
        backward pass solves the same system for the cotangent (K is symmetric), to the relative
        tolerance max(eps, rtol).  Only K's values are taken to be symmetric: derivatives of the
        gradient in x count what x does in K, and in its transpose, where y is another tensor.
        torch.vmap and jacrev map over it; forward mode is refused.

        Warns with ConvergenceWarning if the residual is larger than asked for and than rounding
        explains (a backward error of some units in the last place), the result being the last
        iterate; and if the result is no better than zero, because b is below eps.  Raises
        SolverError (an ArithmeticError) if alpha Id + K is not positive definite, or on NaN and
        infinity, and ArgumentError (a ValueError) for wrong arguments.
        """
        options = {"backend": backend, "device_id": device_id, "ranges": ranges}
        settings = Settings(eps, rtol, maxiter, precondition, options)
        return_info = arguments.switch("return_info", return_info)
        reduction, position = self.genred.reduction, self.position
        tensors = as_tensors(reduction, args)
        check_described(reduction, describe(reduction, tensors))
        check_arguments(reduction, tensors)
        shapes = self._read([t.shape for t in tensors])
        if not tensors[position].is_floating_point():
            name, dtype = self.unknown.name, tensors[position].dtype
            raise ArgumentError(f"argument {name!r} has dtype {dtype}; expected a float")
        full = [t.reshape(shape) for t, shape in zip(tensors, shapes.full, strict=True)]
        b = full[position] = full[position].expand(shapes.b)
        shift = _shift(alpha, shapes.solution, b.device).reshape(shapes.b)
        solution, info = _solve(self, settings, full, shift)
        solution = solution.reshape(shapes.solution)
        return (solution, info) if return_info else solution


def _shift(alpha: object, shape: Shape, device: torch.device) -> torch.Tensor:
    """alpha in float64 with the solution's shape, differentiable if it is a tensor."""
    wanted = f"a number, or real numbers that broadcast to b's shape {shape}"
    is_other = foreign.speaks(alpha)
    given = tensor_of("alpha", alpha) if is_other else foreign.array_like("alpha", alpha, wanted)
    if isinstance(given, torch.Tensor):
        check_plain("alpha", given)
    try:
        is_tensor = isinstance(given, torch.Tensor)
        tensor = torch.as_tensor(given if is_tensor else np.asarray(given), device=device)
        if tensor.device.type == "meta" or tensor.is_complex():
            raise TypeError
        return tensor.to(torch.float64).expand(shape)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise ArgumentError(f"alpha must be {wanted}, not {arguments.shown(alpha)}") from None


def _solve(
    solver: KernelSolve,
    settings: Settings,
    args: Sequence[torch.Tensor],
    alpha: torch.Tensor,
    is_transposed: bool = False,
) -> tuple[torch.Tensor, SolveInfo]:
    apply: Callable[..., tuple[torch.Tensor, SolveInfo]] = _Solve.apply
    return apply(solver, settings, is_transposed, alpha, *args)


@untraced
class _Solve(torch.autograd.Function):
    """a = (alpha Id + K)^-1 b, or with the transpose of K, which has the same values.

    Its backward is made of such a solve, with the other of the two, and of reductions.
    """

    @staticmethod
    def forward(
        solver: KernelSolve,
        settings: Settings,
        is_transposed: bool,
        alpha: torch.Tensor,
        *args: torch.Tensor,
    ) -> tuple[torch.Tensor, SolveInfo]:
        plain = [arg.detach() for arg in args]
        return solver._solve(torch, plain, alpha.detach(), settings)

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, SolveInfo]
    ) -> None:
        ctx.solver, ctx.settings, ctx.is_transposed, alpha, *args = inputs
        solution, _info = output
        ctx.save_for_backward(alpha, *args, solution)

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        solver: KernelSolve,
        settings: Settings,
        is_transposed: bool,
        alpha: torch.Tensor,
        *args: torch.Tensor,
    ) -> tuple[tuple[torch.Tensor, SolveInfo], tuple[int, None]]:
        # A batch has any number of axes, so the mapped one is one more; b and alpha have it whole.
        position, axes = solver.position, in_dims[4:]
        given = list(with_mapped_first(solver.genred.reduction.parameters, args, axes))
        given[position] = whole(args[position], axes[position], info.batch_size)
        alpha = whole(alpha, in_dims[3], info.batch_size)
        return _solve(solver, settings, given, alpha, is_transposed), (0, None)

    @staticmethod
    def jvp(ctx: Any, *tangents: torch.Tensor | None) -> None:
        raise ArgumentError(
            "KernelSolve has no forward mode: take torch.func.jacrev instead of jacfwd, and "
            "jacrev(jacrev(f)) instead of hessian(f)"
        )

    @staticmethod
    def backward(ctx: Any, cotangent: torch.Tensor, _: None) -> tuple[torch.Tensor | None, ...]:
        return None, None, None, *by_vmap(functools.partial(_Solve._cotangents, ctx), [cotangent])

    @staticmethod
    def _cotangents(ctx: Any, cotangent: torch.Tensor | None) -> list[torch.Tensor | None]:
        assert cotangent is not None
        solver: KernelSolve = ctx.solver
        settings: Settings = ctx.settings
        alpha, *args, solution = unwrap_dead_wrappers(ctx.saved_tensors)
        position = solver.position
        system = [cotangent if n == position else arg for n, arg in enumerate(args)]
        adjoint, _info = _solve(
            solver, settings.for_gradients, system, alpha, is_transposed=not ctx.is_transposed
        )
        needs_alpha, *needs = ctx.needs_input_grad[3:]
        wanted = [n for n, needed in enumerate(needs) if needed and n != position]
        gradients: list[torch.Tensor | None] = [None] * len(args)
        if needs[position]:
            gradients[position] = adjoint
        # What depends on K is -<left, K right>.
        left, right = (solution, adjoint) if ctx.is_transposed else (adjoint, solution)
        arguments = [right if n == position else arg for n, arg in enumerate(args)]
        for n, part in zip(
            wanted, _pulled_back(solver, settings, arguments, wanted, -left), strict=True
        ):
            gradients[n] = part
        of_alpha = -(adjoint * solution).to(alpha.dtype) if needs_alpha else None
        return [of_alpha, *gradients]


def _pulled_back(
    solver: KernelSolve,
    settings: Settings,
    args: Sequence[torch.Tensor],
    wanted: Sequence[int],
    cotangent: torch.Tensor,
) -> Sequence[torch.Tensor]:
    """Partial derivatives of <cotangent, K(args)>, differentiable again.

    Those of torch.func are partial indeed: the solution among the arguments depends on the others
    as well, and that dependence is not meant.
    """
    if not wanted:
        return ()
    genred: Any = solver.genred

    def product(*sources: torch.Tensor) -> Any:
        given = list(args)
        for n, source in zip(wanted, sources, strict=True):
            given[n] = source
        return genred(*given, **settings.options)

    pull = torch.func.vjp(product, *[args[n] for n in wanted])[1]
    gradients: Sequence[torch.Tensor] = pull(cotangent)
    return gradients
