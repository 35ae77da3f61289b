"""`KernelSolve` on PyTorch tensors, with autograd of any order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from redcomp import arguments
from redcomp.errors import ArgumentError
from redcomp.frontend.conjugate_gradients import SolveInfo
from redcomp.frontend.kernel_solve import KernelSolveBase, Settings
from redcomp.torch.genred import Genred

__all__ = ["KernelSolve"]


class KernelSolve(KernelSolveBase):
    __doc__ = KernelSolveBase.__doc__
    genred_class = Genred

    def __call__(
        self,
        *args: torch.Tensor,
        backend: str = "auto",
        device_id: int = -1,
        alpha: float | torch.Tensor = 1e-10,
        eps: float = 1e-6,
        ranges: Any = None,
        rtol: float = 0.0,
        maxiter: int | None = None,
        precondition: bool = True,
        return_info: bool = False,
    ) -> torch.Tensor | tuple[torch.Tensor, SolveInfo]:
        """Solve (alpha Id + K) a = b; b stands in the place of the unknown, and a has its shape.

        alpha         a number, or a tensor that broadcasts to b's shape: (M, 1) has one a row
        eps           stop when the root mean square of b - (alpha Id + K) a is at most eps, ...
        rtol          ... or its norm at most rtol times that of b
        maxiter       the most iterations; by default 10 an unknown, at most 10,000
        precondition  divide by the diagonal of alpha Id + K, which makes rows of different scales
                      converge alike
        return_info   return (a, info), a `SolveInfo` with the iterations and the residual

        Components of b that the formula keeps apart, as in "Exp(-SqDist(x, y)) * b", are systems of
        their own, each with its own steps and its own end; other formulas give one system.

        Differentiable in all arguments and in alpha, to any order, by implicit differentiation: a
        backward pass solves the same system for the cotangent (K is symmetric), to the relative
        tolerance max(eps, rtol).

        Warns with ConvergenceWarning if the residual is larger than asked for and than rounding
        explains (a backward error of some units in the last place); the result is then the last
        iterate.  Raises SolverError (an ArithmeticError) if alpha Id + K is not positive definite,
        or on NaN and infinity, and ArgumentError (a ValueError) for wrong arguments.
        """
        options = {"backend": backend, "device_id": device_id, "ranges": ranges}
        settings = Settings(eps, rtol, maxiter, precondition, options, return_info)
        self._check(args, torch.Tensor)
        given = args[self.position]
        if not given.is_floating_point():
            name = self.unknown.name
            raise ArgumentError(f"argument {name!r} has dtype {given.dtype}; expected a float")
        b = given.expand(*self._leading(args), *given.shape[-2:])
        args = (*args[: self.position], b, *args[self.position + 1 :])
        solution, info = _solve(self, settings, args, _shift(alpha, b))
        return (solution, info) if settings.return_info else solution


def _shift(alpha: float | torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """alpha in float64 with b's shape, differentiable if it is a tensor."""
    wanted = f"a number, or real numbers that broadcast to b's shape {tuple(b.shape)}"
    given = arguments.array_like("alpha", alpha, wanted)
    try:
        is_tensor = isinstance(given, torch.Tensor)
        tensor = torch.as_tensor(given if is_tensor else np.asarray(given), device=b.device)
        if not tensor.is_complex():
            return tensor.to(torch.float64).expand(b.shape)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        pass
    raise ArgumentError(f"alpha must be {wanted}, not {arguments.shown(alpha)}")


def _solve(
    solver: KernelSolve, settings: Settings, args: Sequence[torch.Tensor], alpha: torch.Tensor
) -> tuple[torch.Tensor, SolveInfo]:
    apply: Callable[..., tuple[torch.Tensor, SolveInfo]] = _Solve.apply
    return apply(solver, settings, alpha, *args)


class _Solve(torch.autograd.Function):
    """a = (alpha Id + K)^-1 b; its backward is made of the same solve and of reductions."""

    @staticmethod
    def forward(
        ctx: Any,
        solver: KernelSolve,
        settings: Settings,
        alpha: torch.Tensor,
        *args: torch.Tensor,
    ) -> tuple[torch.Tensor, SolveInfo]:
        plain = [arg.detach() for arg in args]
        solution, info = solver._solve(torch, plain, alpha.detach(), settings)
        ctx.solver, ctx.settings = solver, settings
        ctx.save_for_backward(alpha, *args, solution)
        return solution, info

    @staticmethod
    def backward(ctx: Any, cotangent: torch.Tensor, _: None) -> tuple[torch.Tensor | None, ...]:
        solver: KernelSolve = ctx.solver
        settings: Settings = ctx.settings
        alpha, *args, solution = ctx.saved_tensors
        position = solver.position
        right = [cotangent if n == position else arg for n, arg in enumerate(args)]
        adjoint, _info = _solve(solver, settings.for_gradients, right, alpha)
        needs_alpha, *needs = ctx.needs_input_grad[2:]
        wanted = [n for n, needed in enumerate(needs) if needed and n != position]
        gradients: list[torch.Tensor | None] = [None] * len(args)
        if needs[position]:
            gradients[position] = adjoint
        arguments = [solution if n == position else arg for n, arg in enumerate(args)]
        for n, part in zip(
            wanted, _pulled_back(solver, settings, arguments, wanted, -adjoint), strict=True
        ):
            gradients[n] = part
        of_alpha = -(adjoint * solution).to(alpha.dtype) if needs_alpha else None
        return None, None, of_alpha, *gradients


def _pulled_back(
    solver: KernelSolve,
    settings: Settings,
    args: Sequence[torch.Tensor],
    wanted: Sequence[int],
    cotangent: torch.Tensor,
) -> Sequence[torch.Tensor | None]:
    """Partial derivatives of <cotangent, K(args)>, differentiable again if somebody records that.

    Views stand for the arguments, because the solution among them depends on them as well, and
    that dependence is not meant.
    """
    if not wanted:
        return ()
    genred: Any = solver.genred
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        views = [arg.view_as(arg) if again else arg.detach() for arg in args]
        sources = [views[n] if again else views[n].requires_grad_() for n in wanted]
        product = genred(*views, **settings.options)
    return torch.autograd.grad(product, sources, cotangent, create_graph=again, allow_unused=True)
