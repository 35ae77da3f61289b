"""Cases of each row of the table of reductions: formulas, arguments, and the dense results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from reference_reductions import ASKED, Results, reduce_pairs, taken_formula, taken_terms

from redcomp.ops.reductions import REDUCTIONS, Reduction
from redcomp.torch import Genred

Tensor = torch.Tensor

INF, NAN = math.inf, math.nan
SCALAR = "b - p * SqDist(x, y)"
VECTOR = "b * (x - y) - p"
PRODUCTS = ("prod", "complex_prod")
WEIGHTS = "w * (1 + Square(Elem(x, 0)))"

# Rows that `reduction_op` can name.
ROWS = [row for row in REDUCTIONS.values() if row.spellings]


class Case(NamedTuple):
    """A row, with a scalar or a vector formula, a number of columns to keep, weights."""

    row: Reduction
    is_vector: bool = False
    count: int = 0
    width: int = 0

    def __str__(self) -> str:
        parts = [self.row.name, "vector" * self.is_vector]
        parts += [f"K{self.count}" * bool(self.count), f"w{self.width}" * bool(self.width)]
        return "-".join(filter(None, parts))

    @property
    def formula(self) -> str:
        formula = VECTOR if self.is_vector else SCALAR
        # Products of many terms are to stay in the range of the numbers.
        if self.row.name in PRODUCTS:
            formula = f"1 + ({formula}) * 0.015625"
        return taken_formula(self.row.name, formula)

    def genred(
        self, axis: int, formula: str = "", aliases: Sequence[str] = (), **options: Any
    ) -> Genred:
        options.setdefault("reduction_op", self.row.spellings[0] if self.row.spellings else "Sum")
        if self.row.name == "compensated_sum":
            options["sum_scheme"] = "kahan_scheme"
        return Genred(
            formula or self.formula,
            aliases or self.aliases,
            axis=axis,
            opt_arg=self.count or None,
            **{"formula2": WEIGHTS if self.width else None, **options},
        )

    @property
    def aliases(self) -> list[str]:
        weights = [f"w = Vj({self.width})"] if self.width else []
        return ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)", "p = Pm(1)", *weights]

    def terms(self, given: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """The formula and the weights at all pairs, in float64."""
        x, y, b, p, *w = (t.double() for t in given)
        difference = x[:, None] - y[None]
        terms = b[None] - p * (difference**2).sum(-1, keepdim=True)
        if self.is_vector:
            terms = b[None] * difference - p
        if self.row.name in PRODUCTS:
            terms = 1 + terms * 0.015625
        terms = taken_terms(self.row.name, terms)
        return terms, w[0][None] * (1 + x[:, None, :1] ** 2) if w else None

    def dense(self, given: Sequence[Tensor], axis: int) -> Results:
        """The results in float64 (and int64, and bool)."""
        terms, weights = self.terms(given)
        return reduce_pairs(self.row.name, terms, axis, weights=weights, count=self.count)


def cases() -> list[Case]:
    """Each row with a scalar formula, and with a vector if it takes one."""
    found = []
    for row in ASKED:
        count, width = 4 if row.keeps else 0, 2 if row.takes == "weights" else 0
        vectors = (False,) if row.takes in ("scalar", "weights") else (False, True)
        found += [Case(row, is_vector, count, width) for is_vector in vectors]
    return found


def call(operation: Genred, *given: Tensor) -> Results:
    """The results as a tuple, also if there is only one."""
    results = operation(*given)
    return results if isinstance(results, tuple) else (results,)


def grid(
    rows: int, columns: int, dtype: torch.dtype, width: int = 0, seed: int = 0
) -> list[Tensor]:
    """x, y, b, p and w: multiples of 1/4, so that float32 terms are exact and often equal."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randint(-8, 9, shape, generator=generator).to(dtype) / 4

    given = [draw(rows, 3), draw(columns, 3), draw(columns, 1), torch.tensor([0.75], dtype=dtype)]
    return [*given, draw(columns, width).abs() + 0.25] if width else given


def generic(rows: int, columns: int, width: int = 0, seed: int = 0) -> list[Tensor]:
    """Float64 leaves of which no two terms are equal."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(rows, 3), (columns, 3), (columns, 1), (1,)]
    given = [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
    if width:
        given.append(torch.rand((columns, width), generator=generator, dtype=torch.float64) + 0.5)
    return [t.requires_grad_() for t in given]
