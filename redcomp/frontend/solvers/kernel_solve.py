"""What the `KernelSolve` of every array library shares: checks, the operator, its diagonal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from redcomp import arguments
from redcomp.errors import ArgumentError, ConvergenceWarning, FormulaError
from redcomp.frontend.language.aliases import Alias, parse_alias, parse_aliases
from redcomp.frontend.language.formula import EXAMPLE
from redcomp.frontend.reductions.backends import wants_gpu
from redcomp.frontend.reductions.calls import AXES, broadcast
from redcomp.frontend.reductions.genred import CallSignature, GenredBase
from redcomp.frontend.reductions.pair_reduction import Parameter
from redcomp.frontend.reductions.shapes import Shape, full_shapes
from redcomp.frontend.solvers.conjugate_gradients import (
    Array,
    Callback,
    SolveInfo,
    Stopping,
    System,
    conjugate_gradients,
)
from redcomp.ir import Kind
from redcomp.passes.linear import acts_alike, acts_componentwise, is_linear
from redcomp.records import record

if TYPE_CHECKING:
    from redcomp.typing import Axis

# Conjugate gradients end after as many steps as there are unknowns, were it not for rounding; and
# nobody wants to wait for more than some thousands of sweeps over all pairs.
STEPS_PER_UNKNOWN = 10
MOST_STEPS = 10_000
# Right-hand sides that are solved for together.
MOST_COLUMNS = 256
# The root mean square of a residual that counts as none, as in KeOps.
EPS = 1e-6
# A residual of so much of b, but for rounding, is that of zero.
ALL_OF_B = 1 - 1e-9


@record
class Settings:
    """What a call of `KernelSolve` asks for, beside the arguments; `options` go to Genred."""

    eps: float | None
    rtol: float
    maxiter: int | None
    precondition: bool
    options: Mapping[str, Any]
    callback: Callback | None = None

    def __post_init__(self) -> None:
        checked = {"rtol": arguments.number("rtol", self.rtol, 0)}
        if self.eps is not None:
            checked["eps"] = arguments.number("eps", self.eps, 0)
        if self.maxiter is not None:
            checked["maxiter"] = _steps(self.maxiter)
        checked["precondition"] = arguments.switch("precondition", self.precondition)
        if self.callback is not None and not callable(self.callback):
            wanted = "a function of an iteration's number and the residual after it"
            raise ArgumentError(f"callback must be {wanted}, not {arguments.shown(self.callback)}")
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def absolute(self) -> float:
        """The bound of a residual's root mean square; by default none beside a relative one."""
        if self.eps is not None:
            return self.eps
        return 0.0 if self.rtol else EPS

    def stopping(self, unknowns: int) -> Stopping:
        """The rule for a system of so many unknowns."""
        most = min(STEPS_PER_UNKNOWN * unknowns, MOST_STEPS)
        return Stopping(self.absolute, self.rtol, int(self.maxiter or max(most, 1)))

    @property
    def for_gradients(self) -> Settings:
        """The settings of a derivative's solve: as accurate, but relative to its right-hand side.

        Cotangents have the scale of a loss, often far below any absolute eps.  The callback is told
        of the solve that its caller has asked for only.
        """
        relative = max(self.absolute, self.rtol)
        return Settings(0.0, relative, self.maxiter, self.precondition, self.options)


class Shapes(NamedTuple):
    """The shapes of a call: the arguments' in full, the system's b in full, and the solution's."""

    full: tuple[Shape, ...]
    b: Shape
    solution: Shape


class KernelSolveBase:
    """Solves (alpha Id + K) a = b, where K a is a formula's sum, linear in a.

    formula      text in the formula language, such as "Exp(-SqDist(x, y)) * a"
    aliases      its variables, such as "x = Vi(3)", "y = Vj(3)", "a = Vj(1)"
    varinvalias  the name of the unknown a (or "Var(position, dim, category)"), a variable that is
                 reduced over: Vj for axis=1, Vi for axis=0
    axis         0 reduces over i, 1 over j
    options      those of Genred

    K must be symmetric: conjugate gradients and the gradients of `redcomp.torch` rely on it.
    Its values are computed anew in every iteration and never stored.

    Raises FormulaError (a ValueError) where the formula, an alias or the unknown is wrong, in
    particular if the formula is not linear in the unknown.
    """

    genred_class: ClassVar[type[GenredBase]]

    def __init__(
        self,
        formula: str,
        aliases: str | Iterable[str],
        varinvalias: str,
        axis: Axis | None = None,
        **options: Any,
    ) -> None:
        arguments.text("formula", formula, EXAMPLE)
        arguments.text("varinvalias", varinvalias, "b")
        self.genred = self.genred_class(formula, aliases, "Sum", axis, **options)
        self.formula, self.aliases, self.axis = formula, self.genred.aliases, self.genred.axis
        self.varinvalias = varinvalias
        self.position = self._find(varinvalias)
        self.is_componentwise = self._check_formula()
        self.diagonal = self._diagonal_genred(options)
        self._options, self._narrow = options, dict[int, GenredBase | None]()

    def __repr__(self) -> str:
        aliases = ", ".join(map(repr, self.aliases))
        return f"KernelSolve({self.formula!r}, [{aliases}], {self.varinvalias!r}, axis={self.axis})"

    __signature__ = CallSignature()

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """What arguments are expected, in their order; b is the unknown's."""
        return self.genred.parameters

    @property
    def unknown(self) -> Parameter:
        """The variable that is solved for."""
        return self.genred.reduction.parameters[self.position]

    # -- construction ------------------------------------------------------------------------------

    def _find(self, text: str) -> int:
        """The position of the unknown among the arguments."""
        parameters = self.genred.reduction.parameters
        for alias in parse_aliases(self.aliases):
            if alias.name == text.strip():
                return alias.position
        if "(" in text:
            alias = parse_alias(text, len(parameters))
            if alias.position < len(parameters):
                parameter = parameters[alias.position]
                if (parameter.kind, parameter.dim) == (alias.kind, alias.dim):
                    return alias.position
        known = ", ".join(parameter.name for parameter in parameters)
        raise FormulaError(f"varinvalias {arguments.shown(text)} is none of the variables: {known}")

    def _check_formula(self) -> bool:
        """Check that the formula is a linear map of the unknown; whether it keeps components apart.

        The kernel reduces over j, whatever the axis.
        """
        kernel = self.genred.reduction.kernel("f64")
        value, unknown = kernel.outputs[0].value, kernel.params[self.position]
        name = unknown["name"]
        if unknown["kind"] != "j":
            wanted = "Vj for axis=1" if self.axis == 1 else "Vi for axis=0"
            other = f", or axis={1 - self.axis}" if unknown["kind"] == "i" else ""
            message = f"{name!r} must be a variable that is reduced over: {wanted}{other}"
            raise self._error(message)
        if value.dim != unknown.dim:
            raise self._error(
                f"the formula has dimension {value.dim}, but {name!r} has {unknown.dim}: "
                "they must be equal"
            )
        if not is_linear(value, unknown):
            raise self._error(
                f"the formula must be linear in {name!r}: a sum of terms that have it as a factor, "
                "once each"
            )
        return acts_componentwise(value, unknown)

    def _error(self, message: str) -> FormulaError:
        return FormulaError(message, self.formula, 0, len(self.formula))

    def _diagonal_genred(self, options: Mapping[str, Any]) -> GenredBase | None:
        """The formula at the pairs (k, k): every variable is indexed like the result.

        None where the formula itself introduces variables or numbers, which keep their kind, or is
        given something for each pair.
        """
        reduction, aliases = self.genred.reduction, parse_aliases(self.aliases)
        if len({alias.position for alias in aliases}) < len(reduction.kernel("f64").params):
            return None
        if any(alias.kind == "ij" for alias in aliases):
            return None
        moved = [_spelled(_indexed(alias, reduction.rows)) for alias in aliases]
        try:
            return self.genred_class(self.formula, moved, "Sum", self.axis, **options)
        except FormulaError:
            return None

    # -- calls -------------------------------------------------------------------------------------

    def _read(self, shapes: Sequence[Sequence[int]]) -> Shapes:
        """What must hold before there is arithmetic on the arguments; Genred checks the rest."""
        reduction = self.genred.reduction
        given = tuple(map(tuple, shapes))
        full = full_shapes(reduction, given)
        sizes: list[tuple[int, str]] = []
        leading = []
        for parameter, shape in zip(reduction.parameters, full, strict=True):
            axes = len(AXES[parameter.kind])
            leading.append(shape[: -1 - axes])
            for size in shape[-1 - axes : -1] if len(shape) > axes else ():
                sizes.append((size, parameter.name))
        for n, second in sizes:
            m, first = sizes[0]
            if m == n:
                continue
            raise ArgumentError(
                f"the system is not square: argument {first!r} has {m} rows, {second!r} has {n}"
            )
        own = full[self.position]
        if len(own) < 2 or own[-1] != self.unknown.dim:
            raise ArgumentError(
                f"argument {self.unknown.name!r} must have shape (N, {self.unknown.dim}), "
                f"as its alias says; it has shape {own}"
            )
        batch: Shape | None = ()
        for dimensions in leading:
            batch = None if batch is None else broadcast(batch, dimensions)
        if batch is None:
            listed = ", ".join(map(str, given))
            raise ArgumentError(f"the batch dimensions do not fit: {listed}")
        b = (*batch, *own[-2:])
        return Shapes(full, b, b[:-1] if len(given[self.position]) < len(own) else b)

    def _solve(
        self, xp: Any, args: Sequence[Array], alpha: Array, settings: Settings
    ) -> tuple[Array, SolveInfo]:
        """The solution in b's dtype; no gradients.  `xp` is numpy or torch; alpha has b's shape."""
        b, wide = args[self.position], xp.asarray(args[self.position], dtype=xp.float64)
        alpha = xp.asarray(alpha, dtype=xp.float64)
        whole = _Operator(self.genred, self.position, xp, args, alpha, settings.options)
        diagonal = self._preconditioner(whole) if settings.precondition else None
        axes = (-2,) if self.is_componentwise else (-2, -1)
        unit = float(xp.finfo(b.dtype).eps) / 2
        problems = []
        for part, genred in self._parts(b, settings.options):
            own = 1.0 if diagonal is None else diagonal[..., part]
            problems.append((System(whole.of(part, genred), own, axes, unit), wide[..., part]))
        stopping = settings.stopping(math.prod(b.shape[axis] for axis in axes))
        solutions, info = conjugate_gradients(problems, stopping, settings.callback)
        for message in _doubts(info, stopping):
            arguments.warn_caller(message, ConvergenceWarning)
        solution = solutions[0] if len(solutions) == 1 else xp.concatenate(solutions, -1)
        return xp.asarray(solution, dtype=b.dtype), info

    def _parts(self, b: Array, options: Mapping[str, Any]) -> list[tuple[slice, GenredBase]]:
        """Components that are solved for together, and K for vectors of so many.

        A kernel is slow where a result has thousands of numbers, and so is arithmetic on arrays
        that leave the processor's caches; GPUs are not measured.
        """
        dim, whole = self.unknown.dim, [(slice(None), self.genred)]
        if dim <= MOST_COLUMNS or wants_gpu(options["backend"]) or getattr(b, "is_cuda", False):
            return whole
        width = -(-dim // -(-dim // MOST_COLUMNS))
        starts = range(0, dim, width)
        narrowed = [self._narrowed(min(width, dim - start)) for start in starts]
        found = [
            (slice(start, start + width), genred)
            for start, genred in zip(starts, narrowed, strict=True)
            if genred is not None
        ]
        return found if len(found) == len(starts) else whole

    def _narrowed(self, width: int) -> GenredBase | None:
        """K for vectors of so many components, if each component is treated as all others are."""
        if width not in self._narrow:
            self._narrow[width] = self._made_narrow(width)
        return self._narrow[width]

    def _made_narrow(self, width: int) -> GenredBase | None:
        kernel = self.genred.reduction.kernel("f64")
        if not acts_alike(kernel.outputs[0].value, kernel.params[self.position]):
            return None
        aliases = [
            _spelled(replace(a, dim=width) if a.position == self.position else a)
            for a in parse_aliases(self.aliases)
        ]
        try:
            made = self.genred_class(self.formula, aliases, "Sum", self.axis, **self._options)
        except FormulaError:  # other vectors of this length, for instance
            return None
        is_narrow = made.reduction.parameters[self.position].dim == width
        return made if is_narrow else None  # the formula may have introduced the unknown itself

    def _preconditioner(self, operator: _Operator) -> Array | None:
        """The diagonal of alpha*Id + K, or None where that is unknown or not positive."""
        if self.diagonal is None:
            return None
        xp, b = operator.xp, operator.args[self.position]
        diagonal = xp.zeros_like(operator.alpha)
        for unit, chosen in self._unit_vectors(xp, b):
            entries = replace(operator, genred=self.diagonal).evaluate(unit, ranges=None)
            diagonal[..., chosen] = entries[..., chosen]
        diagonal = diagonal + operator.alpha
        is_usable = xp.isfinite(diagonal) & (diagonal > 0)
        return diagonal if bool(is_usable.all()) else None

    def _unit_vectors(self, xp: Any, b: Array) -> list[tuple[Array, slice]]:
        """Vectors for each row, and the components of the diagonal that each one gives."""
        if self.is_componentwise:
            return [(xp.ones_like(b), slice(None))]
        units = []
        for component in range(self.unknown.dim):
            unit = xp.zeros_like(b)
            unit[..., component] = 1
            units.append((unit, slice(component, component + 1)))
        return units


@record
class _Operator:
    """alpha*Id + K from float64 to float64, K computing in the arguments' dtype."""

    genred: GenredBase
    position: int
    xp: Any
    args: Sequence[Array]
    alpha: Array
    options: Mapping[str, Any]

    def __call__(self, p: Array) -> Array:
        narrow = self.xp.asarray(p, dtype=self.args[self.position].dtype)
        return self.evaluate(narrow) + self.alpha * p

    def evaluate(self, vector: Array, **options: Any) -> Array:
        """K with the vector in the place of the unknown."""
        args = list(self.args)
        args[self.position] = vector
        genred: Any = self.genred
        result = genred(*args, **{**self.options, **options})
        return self.xp.asarray(result, dtype=self.xp.float64)

    def of(self, part: slice, genred: GenredBase) -> _Operator:
        """The operator for some components, K for vectors of so many being given."""
        return replace(self, genred=genred, alpha=self.alpha[..., part])


def _spelled(alias: Alias) -> str:
    """The text of an alias."""
    return alias.what if alias.name is None else f"{alias.name} = {alias.what}"


def _indexed(alias: Alias, rows: Kind) -> Alias:
    """An alias that is indexed like the rows, unless it is a parameter."""
    return alias if alias.kind == "parameter" else replace(alias, kind=rows)


def _steps(maxiter: object) -> int:
    number = arguments.number("maxiter", maxiter, 1)
    if number % 1:
        raise ArgumentError(f"maxiter must be a whole number, not {arguments.shown(maxiter)}")
    return int(number)


def _doubts(info: SolveInfo, stopping: Stopping) -> Iterator[str]:
    """What a user should know about a solution."""
    if not info.is_symmetric:
        yield (
            "K is not symmetric, which KernelSolve takes for granted: conjugate gradients may "
            "converge slowly or not at all, and gradients are wrong"
        )
    if info.converged and info.relative_residual >= ALL_OF_B:
        yield (
            "the answer of KernelSolve is no better than zero, because b is below "
            f"eps={stopping.eps:g}, which is absolute; rtol=1e-6 is relative to b"
        )
    if info.converged:
        return
    if info.iterations >= stopping.maxiter:
        why, remedy = "maxiter was reached", "raise maxiter, alpha or eps"
    else:
        why, remedy = "rounding allows no more", "use float64, or raise alpha or eps"
    yield (
        f"KernelSolve stopped after {info.iterations} iterations because {why}: the residual is "
        f"{info.residual:.2e} (root mean square), {info.relative_residual:.2e} relative to b; "
        f"asked for were eps={stopping.eps:g}, rtol={stopping.rtol:g}; {remedy}"
    )
