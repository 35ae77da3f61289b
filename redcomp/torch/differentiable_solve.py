"""Solves as differentiable functions of tensors; their derivatives are solves and reductions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch._functorch.utils import unwrap_dead_wrappers

from redcomp.frontend.solvers.conjugate_gradients import SolveInfo
from redcomp.frontend.solvers.kernel_solve import Settings
from redcomp.torch.dynamo import untraced
from redcomp.torch.mapped import (
    below_autograd,
    by_vmap,
    in_turn,
    is_functionalized,
    is_transformed,
    is_within_transform,
    whole,
    with_mapped_first,
)
from redcomp.torch.memory import called_as_operator, is_traced
from redcomp.torch.rules import applied_within, pulled_back, pushed_forward, tangent_of

if TYPE_CHECKING:
    from redcomp.torch.solve import KernelSolve

T = TypeVar("T")
# A solution, and how the iterations ended; None where they are still to be made, in a graph.
Solved = tuple[torch.Tensor, SolveInfo | None]


def solved(
    solver: KernelSolve,
    settings: Settings,
    args: Sequence[torch.Tensor],
    alpha: torch.Tensor,
    is_transposed: bool = False,
) -> Solved:
    """The solution, and how the iterations ended where they have been made."""
    if (is_traced((alpha, *args)) and not is_transformed()) or is_functionalized():
        return _as_operator(solver, settings, args, alpha, is_transposed), None
    return differentiable_solve(solver, settings, args, alpha, is_transposed)


def differentiable_solve(
    solver: KernelSolve,
    settings: Settings,
    args: Sequence[torch.Tensor],
    alpha: torch.Tensor,
    is_transposed: bool,
) -> Solved:
    """The same, through autograd."""
    apply: Callable[..., Solved] = _Solve.apply
    if is_within_transform():
        apply = functools.partial(applied_within, _Solve)
    return apply(solver, settings, is_transposed, alpha, *args)


def _as_operator(
    solver: KernelSolve,
    settings: Settings,
    args: Sequence[torch.Tensor],
    alpha: torch.Tensor,
    is_transposed: bool,
) -> torch.Tensor:
    """The solution, as PyTorch's operator that is defined in `redcomp.torch.operators`."""
    options = settings.options
    solution: torch.Tensor = called_as_operator(
        torch.ops.redcomp.solve.default,
        list(args),
        alpha,
        list(map(torch.as_tensor, options["ranges"] or ())),
        solver.text,
        is_transposed,
        settings.eps,
        settings.rtol,
        settings.maxiter,
        settings.precondition,
        options["backend"],
        options["device_id"],
    )
    return solution


@untraced
class _Solve(torch.autograd.Function):
    """a = (alpha Id + K)^-1 b, or with the transpose of K, which has the same values.

    Backward, it is made of such a solve, with the other of the two, and of reductions; forward, of
    one with the same of the two.
    """

    @staticmethod
    def forward(
        solver: KernelSolve,
        settings: Settings,
        is_transposed: bool,
        alpha: torch.Tensor,
        *args: torch.Tensor,
    ) -> Solved:
        if is_traced((alpha, *args)):
            with below_autograd():
                return _as_operator(solver, settings, args, alpha, is_transposed), None
        plain = [arg.detach() for arg in args]
        return solver._solve(torch, plain, alpha.detach(), settings)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Solved) -> None:
        ctx.solver, ctx.settings, ctx.is_transposed, alpha, *args = inputs
        solution, _info = output
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(alpha, *args, solution)
        ctx.save_for_forward(alpha, *args, solution)

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        solver: KernelSolve,
        settings: Settings,
        is_transposed: bool,
        alpha: torch.Tensor,
        *args: torch.Tensor,
    ) -> tuple[Solved, tuple[int, None]]:
        given, alpha = mapped_system(solver, args, alpha, in_dims[4:], in_dims[3], info.batch_size)
        return solved(solver, settings, given, alpha, is_transposed), (0, None)

    @staticmethod
    def jvp(
        ctx: Any, _: None, __: None, ___: None, *tangents: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, None]:
        def rule(*tangents: torch.Tensor | None) -> list[torch.Tensor | None]:
            saved = unwrap_dead_wrappers(ctx.saved_tensors)
            return [pushed_forward(functools.partial(_Solve._tangent, ctx), saved, tangents)]

        # torch.vmap has no rule for dual numbers.
        return by_vmap(rule, tangents, in_turn)[0], None

    @staticmethod
    def _tangent(
        ctx: Any, saved: Sequence[torch.Tensor], tangents: Sequence[torch.Tensor | None]
    ) -> torch.Tensor | None:
        """(alpha Id + K)^-1 (db - d(alpha Id + K) a)."""
        solver: KernelSolve = ctx.solver
        settings: Settings = ctx.settings
        alpha, *args, solution = saved
        position = solver.position

        def left_side(alpha: torch.Tensor, *args: torch.Tensor) -> torch.Tensor:
            product = _product(solver, settings, _with(args, position, solution), ctx.is_transposed)
            return (alpha * solution).to(product.dtype) + product

        of_b = tangents[1 + position]
        of_matrix = tangent_of(left_side, (alpha, *args), _with(tangents, 1 + position, None))
        right = of_b if of_matrix is None else -of_matrix if of_b is None else of_b - of_matrix
        if right is None:
            return None
        system = _with(args, position, right)
        return solved(solver, settings.for_gradients, system, alpha, ctx.is_transposed)[0]

    @staticmethod
    def backward(ctx: Any, cotangent: torch.Tensor, _: None) -> tuple[torch.Tensor | None, ...]:
        return None, None, None, *by_vmap(functools.partial(_Solve._cotangents, ctx), [cotangent])

    @staticmethod
    def _cotangents(ctx: Any, cotangent: torch.Tensor | None) -> list[torch.Tensor | None]:
        solver: KernelSolve = ctx.solver
        settings: Settings = ctx.settings
        alpha, *args, solution = unwrap_dead_wrappers(ctx.saved_tensors)
        gradients: list[torch.Tensor | None] = [None] * len(args)
        if cotangent is None:
            return [None, *gradients]
        position = solver.position
        system = _with(args, position, cotangent)
        adjoint, _info = solved(
            solver, settings.for_gradients, system, alpha, is_transposed=not ctx.is_transposed
        )
        needs_alpha, *needs = ctx.needs_input_grad[3:]
        wanted = [n for n, needed in enumerate(needs) if needed and n != position]
        if needs[position]:
            gradients[position] = adjoint
        # What depends on K is -<left, K right>.
        left, right = (solution, adjoint) if ctx.is_transposed else (adjoint, solution)
        arguments = _with(args, position, right)
        for n, part in zip(
            wanted, _pulled_back(solver, settings, arguments, wanted, -left), strict=True
        ):
            gradients[n] = part
        of_alpha = -(adjoint * solution).to(alpha.dtype) if needs_alpha else None
        return [of_alpha, *gradients]


def mapped_system(
    solver: KernelSolve,
    args: Sequence[torch.Tensor],
    alpha: torch.Tensor,
    axes: Sequence[int | None],
    axis_of_alpha: int | None,
    count: int,
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The arguments and alpha of a batch of systems, from axes that `torch.vmap` maps.

    A batch has any number of axes, so the mapped one is one more; b and alpha have it whole.
    """
    given = list(with_mapped_first(solver.genred.reduction.parameters, args, axes))
    given[solver.position] = whole(args[solver.position], axes[solver.position], count)
    return given, whole(alpha, axis_of_alpha, count)


def _with(values: Sequence[T], position: int, value: T) -> list[T]:
    """The same values, but for one."""
    return [*values[:position], value, *values[position + 1 :]]


def _product(
    solver: KernelSolve, settings: Settings, args: Sequence[torch.Tensor], is_transposed: bool
) -> torch.Tensor:
    """K(args), or its transpose, times the vector in the unknown's place; differentiable."""
    genred: Any = solver.genred
    if not is_transposed:
        product: torch.Tensor = genred(*args, **settings.options)
        return product
    position = solver.position

    def of_vector(vector: torch.Tensor) -> Any:
        return genred(*_with(args, position, vector), **settings.options)

    (product,) = pulled_back(of_vector, args[position], args[position])
    return product


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

    return pulled_back(product, cotangent, *[args[n] for n in wanted])
