"""Linear systems whose matrix is a LazyTensor, as jobs of `KernelSolve`."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

from redcomp.frontend.language.expressions import Placed, aliases_of, text_of
from redcomp.frontend.lazy.bindings import Bindings
from redcomp.frontend.lazy.library import Library
from redcomp.frontend.lazy.reduction import (
    KEPT,
    OF_CALLS,
    OF_SYSTEMS,
    check_options,
    compilation_options,
    values_of,
)
from redcomp.frontend.solvers.kernel_solve import KernelSolveBase

S = TypeVar("S", bound=KernelSolveBase)
OF_SOLVERS = ("alpha", "eps", "rtol", "maxiter", "precondition", "return_info", "callback")


class System(NamedTuple):
    """A linear system: the sum over an axis of the formula, which is linear in one variable."""

    library: Library
    formula: Placed
    unknown: int
    axis: int

    def check(self, library: Library, options: Mapping[str, Any]) -> None:
        library.solver(self, compilation_options(dict(options), OF_SYSTEMS))

    def run(self, library: Library, bindings: Bindings, options: dict[str, Any]) -> Any:
        solver = library.solver(self, compilation_options(options, OF_SYSTEMS))
        check_options(options, (*OF_SOLVERS, *OF_CALLS[:-1]), OF_SYSTEMS)
        values = library.arrays(values_of(bindings), bindings.agreed.dtype)
        return solver(*values, **options)

    @property
    def text(self) -> str:
        return f"the solution of the sum over {'ij'[self.axis]} of {text_of(self.formula)}"


@functools.lru_cache(KEPT)
def solver(system: System, compilation: tuple[Any, ...]) -> Any:
    """The `KernelSolve` of a system, with options in the order of OF_SYSTEMS."""
    solver_class = system.library.kernel_solve
    return made_solver(solver_class, system.formula, system.unknown, system.axis, compilation)


def made_solver(
    solver_class: type[S], formula: Placed, unknown: int, axis: int, compilation: tuple[Any, ...]
) -> S:
    """The same, of a class."""
    aliases = aliases_of(formula.expression.slots)
    return solver_class(
        text_of(formula, sys.maxsize),
        [f"{alias.name} = {alias.what}" for alias in aliases],
        aliases[unknown].name or "",
        axis=1 if axis else 0,
        **dict(zip(OF_SYSTEMS, compilation, strict=True)),
    )
