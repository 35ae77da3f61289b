"""Linear systems whose operator is a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from redcomp.frontend.solvers.conjugate_gradients import Stopping, System, conjugate_gradients
from redcomp.frontend.solvers.kernel_solve import MOST_STEPS, STEPS_PER_UNKNOWN

from .utils import get_tools

__all__ = ["ConjugateGradientSolver", "KernelLinearSolver"]

Array = Any


def ConjugateGradientSolver(  # noqa: N802 (KeOps' name)
    binding: str, linop: Callable[[Array], Array], b: Array, eps: float = 1e-6
) -> Array:
    """The solution a of linop(a) = b in b's shape and dtype; `linop` must be positive definite.

    It is done when the root mean square of b - linop(a) is at most eps, or as small as b's dtype
    allows, and at the latest after some thousands of steps.  Raises SolverError where `linop` is
    not positive definite, or not finite.
    """
    xp = get_tools(binding).library

    def apply(p: Array) -> Array:
        return xp.asarray(linop(xp.asarray(p, dtype=b.dtype)), dtype=xp.float64)

    wide = xp.asarray(b, dtype=xp.float64)
    system = System(apply, 1.0, tuple(range(b.ndim)), float(xp.finfo(b.dtype).eps) / 2)
    steps = min(STEPS_PER_UNKNOWN * max(get_tools(binding).size(b), 1), MOST_STEPS)
    (solution,), _ = conjugate_gradients([(system, wide)], Stopping(eps, 0.0, steps))
    return xp.asarray(solution, dtype=b.dtype)


def KernelLinearSolver(  # noqa: N802 (KeOps' name)
    binding: str,
    K: Callable[[Array, Array, Array], Array] | tuple[str, int, int, float],
    x: Array,
    b: Array,
    alpha: float = 0,
    eps: float = 1e-6,
    precond: bool = False,
    precondKernel: object = None,
) -> Array:
    """The solution a of K(x, x, a) + alpha a = b.

    K may also be ("gaussian", D, E, sigma), the Gaussian kernel exp(-|x_i - x_j|^2 / sigma^2) for
    points of dimension D and values of dimension E.  KeOps' preconditioner is not needed: `precond`
    and `precondKernel` are ignored.
    """
    product = _gaussian(binding, *K[1:], b) if isinstance(K, tuple) else K
    return ConjugateGradientSolver(binding, lambda a: product(x, x, a) + alpha * a, b, eps)


def _gaussian(binding: str, D: int, E: int, sigma: float, like: Array) -> Callable[..., Array]:
    tools = get_tools(binding)
    aliases = [f"x = Vi({D})", f"y = Vj({D})", f"b = Vj({E})", "p = Pm(1)"]
    genred = tools.Genred("Exp(-p * SqDist(x, y)) * b", aliases, axis=1)
    scale = tools.library.asarray([1 / sigma**2], dtype=like.dtype)
    return lambda x, y, b: genred(x, y, b, scale)
