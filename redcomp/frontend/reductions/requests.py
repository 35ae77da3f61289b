"""What a constructor asks for: formulas, how each is reduced, and how sums are accumulated; and the
kernel that this is.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from redcomp import arguments
from redcomp.errors import ArgumentError, FormulaError
from redcomp.frontend.language.aliases import Alias
from redcomp.frontend.language.expressions import Placed, Slot, lower_expressions, text_of
from redcomp.frontend.language.formula import EXAMPLE
from redcomp.frontend.language.lower import lower_formulas
from redcomp.ir import Kernel, Output, Value
from redcomp.limits import MAX_COUNT
from redcomp.ops.reductions import REDUCTIONS, REDUCTIONS_BY_SPELLING, usual_spellings
from redcomp.ops.table import ShapeError, apply
from redcomp.records import record

SCHEMES = ("auto", "block_sum", "direct_sum", "kahan_scheme")
ACCUMULATORS = ("auto", "float16", "float32", "float64")

F = TypeVar("F")


@record
class Request(Generic[F]):
    """A formula to be reduced: by which reduction, with which weights, how many columns to keep."""

    formula: F
    reduction: str
    weights: F | None = None
    count: int = 0


class RequestSource(ABC, Generic[F]):
    """Formulas that are reduced over the same variables, texts or expressions."""

    requests: tuple[Request[F], ...]

    @abstractmethod
    def lowered(
        self, formulas: Sequence[F], dtype: str
    ) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
        """The values of formulas over the variables, and these."""

    @abstractmethod
    def text(self, formula: F) -> str:
        """A formula's text."""

    @property
    def subject(self) -> str:
        return "the formula"

    @property
    def formula(self) -> str:
        return ", ".join(self.text(request.formula) for request in self.requests)

    @property
    def spanned(self) -> str:
        """The text that the spans of values point into; empty where there are several."""
        is_only = len(self.requests) == 1 and self.requests[0].weights is None
        return self.formula if is_only else ""

    def kernel(self, dtype: str) -> Kernel:
        outputs, variables = self._outputs(dtype)
        return Kernel(variables, tuple(itertools.chain.from_iterable(outputs)))

    def parts(self) -> tuple[int, ...]:
        """The number of outputs that each request has become."""
        if not any(REDUCTIONS[r.reduction].takes == "components" for r in self.requests):
            return (1,) * len(self.requests)
        return tuple(len(outputs) for outputs in self._outputs("f64")[0])

    def _outputs(self, dtype: str) -> tuple[list[list[Output]], tuple[Value, ...]]:
        """The outputs of each request, and all variables."""
        formulas = [r.formula for r in self.requests]
        formulas += [r.weights for r in self.requests if r.weights is not None]
        values, variables = self.lowered(formulas, dtype)
        weights = iter(values[len(self.requests) :])
        outputs: list[list[Output]] = []
        for request, value in zip(self.requests, values, strict=False):
            row = REDUCTIONS[request.reduction]
            try:
                row.check(value.dim)
            except ShapeError as error:
                text = self.text(request.formula)
                raise FormulaError(str(error), text, 0, len(text)) from None
            if request.weights is not None:
                value = apply("concat", value, next(weights))
            parts = [value]
            if row.takes == "components":
                parts = [apply("elem", value, m=m) for m in range(value.dim)]
            outputs.append([Output(part, row.name, count=request.count) for part in parts])
        return outputs, variables


@record
class FormulaSource(RequestSource[str]):
    """Texts of formulas, over declared variables."""

    requests: tuple[Request[str], ...]
    aliases: tuple[Alias, ...]

    def lowered(
        self, formulas: Sequence[str], dtype: str
    ) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
        return lower_formulas(formulas, self.aliases, dtype)

    def text(self, formula: str) -> str:
        return formula


@record
class ExpressionSource(RequestSource[Placed]):
    """An expression, and perhaps its weights."""

    requests: tuple[Request[Placed], ...]
    slots: tuple[Slot, ...]

    def lowered(
        self, formulas: Sequence[Placed], dtype: str
    ) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
        return lower_expressions(formulas, self.slots, dtype)

    def text(self, formula: Placed) -> str:
        return text_of(formula)


def formulas_of(formula: object) -> tuple[str, ...]:
    """The formula, or the formulas of a list; raises ArgumentError."""
    if isinstance(formula, str):
        return (arguments.text("formula", formula),)
    wanted = f'a string such as "{EXAMPLE}", or a list of strings'
    listed = arguments.items("formula", formula, wanted)
    if not listed:
        raise ArgumentError(f"there is no formula in the list: formula must be {wanted}")
    return tuple(arguments.text(f"formula[{n}]", item, EXAMPLE) for n, item in enumerate(listed))


def requests(
    formulas: Sequence[str], reduction_op: Any, opt_arg: Any, formula2: Any
) -> tuple[Request[str], ...]:
    """One request for each formula; raises FormulaError or ArgumentError."""
    each = {
        name: _for_each(name, value, len(formulas))
        for name, value in (
            ("reduction_op", reduction_op),
            ("opt_arg", opt_arg),
            ("formula2", formula2),
        )
    }
    weights = [None if w is None else arguments.text("formula2", w, "b") for w in each["formula2"]]
    return tuple(map(request, formulas, each["reduction_op"], each["opt_arg"], weights))


def _for_each(name: str, value: Any, count: int) -> list[Any]:
    """A list with one item a formula; what is no list serves all formulas."""
    if not isinstance(value, (list, tuple)):
        return [value] * count
    listed = arguments.items(name, value, "one for all formulas, or a list")
    if len(listed) != count:
        raise ArgumentError(
            f"{name} has {len(listed)} items for {count} formulas: give one for all, or one each"
        )
    return listed


def request(formula: F, reduction_op: object, opt_arg: object, weights: F | None) -> Request[F]:
    """The request of a formula, a text or an expression; raises FormulaError or ArgumentError."""
    spelling = arguments.text("reduction_op", reduction_op, "Sum")
    row = REDUCTIONS_BY_SPELLING.get(spelling)
    if row is None:
        known = ", ".join(usual_spellings())
        hint = arguments.nearest(spelling, REDUCTIONS_BY_SPELLING)
        message = (
            f"unknown reduction_op {arguments.shown(spelling)}{hint or f'; it is one of {known}'}"
        )
        raise FormulaError(message)
    named = f"reduction_op={spelling!r}"
    if weights is not None and row.takes != "weights":
        if not row.weighted:
            raise ArgumentError(f"formula2 has no effect for {named}: leave it out")
        row = REDUCTIONS[row.weighted]
    if weights is None and row.takes == "weights":
        raise ArgumentError(f'{named} needs formula2, the weights, such as formula2="b"')
    if not row.keeps and opt_arg is not None:
        raise ArgumentError(f"opt_arg has no effect for {named}: leave it out")
    return Request(formula, row.name, weights, _count(spelling, opt_arg) if row.keeps else 0)


def _count(reduction_op: str, opt_arg: object) -> int:
    if isinstance(opt_arg, bool) or not isinstance(opt_arg, (int, np.integer)):
        raise ArgumentError(
            f"reduction_op={reduction_op!r} needs opt_arg, the number K of columns to keep, "
            f"an integer such as opt_arg=10; it is {arguments.shown(opt_arg)}"
        )
    if not 1 <= opt_arg <= MAX_COUNT:
        found = arguments.shown(opt_arg)
        raise ArgumentError(f"opt_arg must be from 1 to {MAX_COUNT:,}, not {found}")
    return int(opt_arg)


def sum_row(
    requested: Sequence[Request[Any]], dtype_acc: object, use_double_acc: object, sum_scheme: object
) -> str:
    """The reduction that sums; totals are float64 anyway: what asks for less or as much has it."""
    dtype_acc = arguments.one_of("dtype_acc", dtype_acc, ACCUMULATORS)
    sum_scheme = arguments.one_of("sum_scheme", sum_scheme, SCHEMES)
    use_double_acc = arguments.switch("use_double_acc", use_double_acc)
    if use_double_acc and dtype_acc not in ("auto", "float64"):
        raise ArgumentError(
            f"use_double_acc contradicts dtype_acc={dtype_acc!r}: leave one of them out"
        )
    is_default = dtype_acc == sum_scheme == "auto" and not use_double_acc
    if not is_default and not any(REDUCTIONS[r.reduction].accumulates for r in requested):
        raise ArgumentError(
            "dtype_acc, use_double_acc and sum_scheme are for reductions that sum: leave them out"
        )
    is_double = use_double_acc or dtype_acc == "float64"
    is_compensated = sum_scheme == "kahan_scheme" or (sum_scheme == "direct_sum" and is_double)
    return "compensated_sum" if is_compensated else "sum"
