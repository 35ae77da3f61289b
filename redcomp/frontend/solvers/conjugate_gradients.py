"""Preconditioned conjugate gradients on NumPy arrays and PyTorch tensors alike.

Vectors are kept in float64, whatever the dtype in which the operator computes: they are small
beside the pairs.  One array may hold several systems that share the operator; each has its own
steps and stops by itself, as if it were solved alone.

Source: Y. Saad, Iterative Methods for Sparse Linear Systems, 2nd ed., algorithm 9.1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Generator, Sequence
from typing import Any

from redcomp import long_work
from redcomp.errors import SolverError
from redcomp.records import record

# An array or a tensor in float64 (or bool).  Both libraries have what is used here: arithmetic,
# comparisons, `sum` and `clip` with these keywords, `any`, `all`, `max`.
Array = Any
# What is told after each iteration: its number, from 1 on, and the residual, a float.
Callback = Callable[[int, float], object]

# Curvatures within so many rounding errors of 0 say nothing about the operator's sign.
CURVATURE_NOISE = 64.0
# Directions that are conjugate to within so much of their lengths are so but for rounding errors.
CONJUGATE = 1e-3
# With a residual within so many rounding errors of |A| |x|, x solves a neighbouring system.
BACKWARD_ERROR = 4.0
FLOAT64_UNIT = 2.0**-53


@record
class SolveInfo:
    """How a solve went; of several systems, the worst one counts.

    iterations         evaluations of the operator, but for those that check the result
    residual           root mean square of b - A a, the quantity that `eps` bounds
    relative_residual  |b - A a| / |b|, the quantity that `rtol` bounds
    converged          whether the residual is as small as was asked for, or as the dtype allows
    is_symmetric       whether A was found to be symmetric, by its first two products
    """

    iterations: int
    residual: float
    relative_residual: float
    converged: bool
    is_symmetric: bool


@record
class Stopping:
    """When a system is solved: |b - A a| is at most eps * sqrt(size) or rtol * |b|."""

    eps: float
    rtol: float
    maxiter: int


@record
class System:
    """A symmetric positive definite operator, and which axes of an array make one system.

    apply     float64 to float64
    diagonal  the preconditioner: positive, near the operator's diagonal
    axes      the axes of a vector; the others tell systems apart
    unit      the rounding unit of the dtype in which `apply` computes
    """

    apply: Callable[[Array], Array]
    diagonal: Array | float
    axes: tuple[int, ...]
    unit: float

    def inner(self, a: Array, b: Array) -> Array:
        """An inner product a system, with axes of length 1."""
        return (a * b).sum(axis=self.axes, keepdims=True)

    def norm(self, a: Array) -> Array:
        """A norm a system, with axes of length 1."""
        return self.inner(a, a) ** 0.5


@record
class _Progress:
    """A solution so far; `growth` is the largest |A p| / |p| met, a lower bound of |A|."""

    x: Array
    growth: Array
    iterations: int
    is_symmetric: bool


@record
class _Direction:
    """A direction p, <p, A p>, and the rounding error of that."""

    p: Array
    curvature: Array
    noise: Array


def conjugate_gradients(
    problems: Sequence[tuple[System, Array]], stopping: Stopping, callback: Callback | None = None
) -> tuple[list[Array], SolveInfo]:
    """The solutions of A x = b in float64, from x = 0, for each A and b, an iteration at a time.

    After the recurrence has converged the residual is computed afresh.  If it is too large, by the
    rounding of the operator's dtype, the descent starts again from there for as long as that helps.

    callback  is told the recurrence's residual, as `SolveInfo` has it, after each iteration

    Raises SolverError if A is not positive definite, or not finite.
    """
    if not long_work.is_shown():
        return _solve_all(problems, stopping, callback)
    with long_work.Work("iterations", None) as work:

        def show(iteration: int, residual: float) -> None:
            work.show(iteration, residual)
            if callback is not None:
                callback(iteration, residual)

        return _solve_all(problems, stopping, show)


# After each iteration, the residual of each system; and in the end, what a `_solve` has found.
_Solved = tuple[Array, SolveInfo]
_Solve = Generator[Array, None, _Solved]


def _solve_all(
    problems: Sequence[tuple[System, Array]], stopping: Stopping, callback: Callback | None
) -> tuple[list[Array], SolveInfo]:
    """The same, the callback being all that is told of iterations."""
    running: dict[int, _Solve] = {
        n: _solve(system, b, stopping) for n, (system, b) in enumerate(problems)
    }
    found: dict[int, _Solved] = {}
    residuals = [0.0] * len(problems)
    for iteration in itertools.count(1):
        for n, solve in list(running.items()):
            try:
                residual = next(solve)
            except StopIteration as end:
                found[n] = end.value
                del running[n]
            else:
                residuals[n] = 0.0 if callback is None else _largest(residual)
        if not running:
            break
        if callback is not None:
            callback(iteration, max(residuals))
    solutions, infos = zip(*[found[n] for n in range(len(problems))], strict=True)
    return list(solutions), _worst(infos)


def _worst(infos: Sequence[SolveInfo]) -> SolveInfo:
    return SolveInfo(
        max(info.iterations for info in infos),
        max(info.residual for info in infos),
        max(info.relative_residual for info in infos),
        all(info.converged for info in infos),
        all(info.is_symmetric for info in infos),
    )


def _solve(system: System, b: Array, stopping: Stopping) -> _Solve:
    """The solution of A x = b, and how it went."""
    size = math.prod(b.shape[axis] for axis in system.axes)
    scale = _finite(system.norm(b))
    scale = scale + (scale == 0)
    b = b / scale  # so that neither small nor large systems leave float32's range
    # Beyond float64's rounding unit the recurrence has no meaning.
    tolerance = (stopping.eps * math.sqrt(size) / scale).clip(min=max(stopping.rtol, FLOAT64_UNIT))
    progress = _Progress(0.0 * b, 0.0 * scale, 0, True)
    residual_vector, residual = b, system.norm(b)
    is_open = residual >= 0
    unit = scale / math.sqrt(max(size, 1))
    while True:
        r = residual_vector * is_open
        progress = yield from _descend(system, progress, r, tolerance, stopping.maxiter, unit)
        previous, residual_vector = residual, b - system.apply(progress.x)
        residual = _finite(system.norm(residual_vector))
        solved = residual <= tolerance
        if bool(solved.all()) or progress.iterations >= stopping.maxiter:
            break
        rounding = BACKWARD_ERROR * system.unit * progress.growth * system.norm(progress.x)
        solved = solved | (residual <= rounding)
        is_open = is_open & ~solved & (residual <= 0.5 * previous)
        if not bool(is_open.any()):
            break
    info = SolveInfo(
        progress.iterations,
        _largest(residual * unit),
        _largest(residual),
        bool(solved.all()),
        progress.is_symmetric,
    )
    return progress.x * scale, info


def _descend(
    system: System, start: _Progress, r: Array, tolerance: Array, maxiter: int, unit: Array
) -> Generator[Array, None, _Progress]:
    """Conjugate gradients from `start`, where the residual is r, until all systems have stopped.

    Gives the norms of the residuals, in a unit, after each iteration.  A system that has stopped
    has a direction of 0, so nothing of it changes any more.
    """
    x, growth, is_symmetric = start.x, start.growth, start.is_symmetric
    first: _Direction | None = None
    is_active = system.norm(r) > tolerance
    p = z = r / system.diagonal
    rz = system.inner(r, z)
    for iteration in range(start.iterations, maxiter):
        if not bool(is_active.any()):
            return _Progress(x, growth, iteration, is_symmetric)
        p = p * is_active
        q = system.apply(p)
        curvature, length = _finite(system.inner(p, q)), system.inner(p, p)
        growth = (system.norm(q) / (length + (length == 0)) ** 0.5).clip(min=growth)
        noise = CURVATURE_NOISE * system.unit * growth * length
        _require_positive(is_active & (curvature <= -noise), iteration)
        direction = _Direction(p, curvature, noise)
        if iteration == 0:
            first = direction
        elif first is not None:
            is_symmetric = _are_conjugate(first, direction, system.inner(first.p, q))
            first = None
        is_active = is_active & (curvature > 0)
        step = is_active * rz / (curvature * is_active + ~is_active)
        x, r = x + step * p, r - step * q
        z = r / system.diagonal
        before, rz = rz, system.inner(r, z)
        p = z + is_active * rz / (before + (before == 0)) * p
        norm = system.norm(r)
        is_active = is_active & (norm > tolerance)
        yield norm * unit
    return _Progress(x, growth, maxiter, is_symmetric)


def _require_positive(violated: Array, iteration: int) -> None:
    if bool(violated.any()):
        raise SolverError(
            f"alpha*Id + K is not positive definite: iteration {iteration} of the conjugate "
            "gradients met a direction p with <p, (alpha*Id + K) p> <= 0; increase alpha, or check "
            "that K is the matrix of a positive definite kernel"
        )


def _are_conjugate(first: _Direction, second: _Direction, product: Array) -> bool:
    """Whether <first, A second> is 0 but for rounding errors, as it is if A is symmetric.

    The recurrence makes <second, A first> 0, whatever A is.
    """
    lengths = (first.curvature * second.curvature).clip(min=0) ** 0.5
    noise = (first.noise * second.noise) ** 0.5
    return bool((abs(product) <= CONJUGATE * lengths + noise).all())


def _finite(numbers: Array) -> Array:
    """The numbers, which must be finite."""
    if not math.isfinite(float(numbers.sum())):
        raise SolverError(
            "the conjugate gradients met NaN or infinity: look for them in the arguments, in alpha "
            "and in the formula's values"
        )
    return numbers


def _largest(numbers: Array) -> float:
    return float(numbers.max()) if math.prod(numbers.shape) else 0.0
