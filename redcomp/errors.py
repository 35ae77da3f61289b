"""The errors and warnings that redcomp raises on purpose."""

from __future__ import annotations


class RedcompError(Exception):
    """Base class of every error that redcomp raises on purpose."""


class FormulaError(RedcompError, ValueError):
    """A formula or an alias that cannot be understood; the message points at the place."""

    def __init__(self, message: str, formula: str = "", start: int = 0, stop: int = 0) -> None:
        self.formula, self.start, self.stop = formula, start, stop
        super().__init__(message + _caret(formula, start, stop) if formula else message)


class SizeError(FormulaError):
    """Formulas that take too much time and memory; a call says whether they or a derivative do.

    what    the end of a sentence about the formulas
    """

    def __init__(self, what: str, subject: str = "the formula", formula: str = "") -> None:
        self.what = what
        super().__init__(f"{subject} {what}", formula, 0, len(formula))


class ArgumentError(RedcompError, ValueError):
    """An argument of a call with the wrong count, shape, dtype or device."""


class KeywordError(ArgumentError, TypeError):
    """An argument by a name that nothing has, or one that is given twice or not at all."""


class SolverError(RedcompError, ArithmeticError):
    """A linear system that conjugate gradients cannot solve: not positive definite, or NaN."""


class ConvergenceWarning(UserWarning):
    """A linear system was solved less accurately than was asked for, or is not symmetric."""


class AxisWarning(UserWarning):
    """A reduction that says no axis: it is over i then, as in KeOps, which few programs mean."""


class FallbackWarning(UserWarning):
    """A call that asks for a GPU runs on the host, because there is no GPU."""


class CompilerError(RedcompError, RuntimeError):
    """An internal inconsistency: a bug in redcomp, never the fault of a formula."""


def _caret(formula: str, start: int, stop: int, width: int = 100) -> str:
    """The formula's line around `start`, with a caret under the place."""
    line_start = formula.rfind("\n", 0, start) + 1
    line_stop = formula.find("\n", start)
    line_stop = len(formula) if line_stop < 0 else line_stop
    left = max(line_start, start - width // 2)
    right = min(line_stop, left + width)
    prefix = "..." if left > line_start else ""
    suffix = "..." if right < line_stop else ""
    underline = "^" + "~" * max(0, min(stop, right) - start - 1)
    padding = " " * (len(prefix) + start - left)
    return f"\n  {prefix}{formula[left:right]}{suffix}\n  {padding}{underline}"
