"""What each row of the table of reductions means, densely in torch: needs no backend.

A meaning takes terms of shape (R, N, D), weights of shape (R, N, E) or None, and the number K of
columns to keep; it gives the results and is differentiable.  NaN is passed over where the language
says so, and ties go to the first column.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from redcomp.ops.reductions import REDUCTIONS, Reduction
from redcomp.torch import Genred

Tensor = torch.Tensor
Results = tuple[Tensor, ...]
Dense = Callable[[Tensor, Tensor | None, int], Results]

INF, NAN = math.inf, math.nan
SCALAR = "b - p * SqDist(x, y)"
VECTOR = "b * (x - y) - p"
WEIGHTS = "w * (1 + Square(Elem(x, 0)))"


def smallest(terms: Tensor, count: int, has_infinity: bool = True) -> Results:
    """The first columns of each component in a stable order, padded with infinity.

    NaN, which a sort puts last, stands for no column, and so does infinity without `has_infinity`.
    """
    if terms.shape[1] < count:
        filling = terms.new_full((terms.shape[0], count - terms.shape[1], terms.shape[2]), NAN)
        terms = torch.cat([terms, filling], 1)
    known = terms.detach()
    if not has_infinity:
        known = torch.where(known == INF, NAN, known)
    order = known.argsort(dim=1, stable=True)[:, :count]
    is_there = ~known.gather(1, order).isnan()
    values = torch.where(is_there, terms.gather(1, order), INF)
    return values, torch.where(is_there, order, 0)


def extremum(sign: float, *kept: int) -> Dense:
    """One column: values and places, of which `kept` says which are results."""

    def meaning(terms: Tensor, weights: Tensor | None, count: int) -> Results:
        values, places = smallest(sign * terms, 1, has_infinity=False)
        return tuple((sign * values[:, 0], places[:, 0])[n] for n in kept)

    return meaning


def nearest(sign: float, *kept: int) -> Dense:
    """Several columns; the last axis is left out for scalars."""

    def meaning(terms: Tensor, weights: Tensor | None, count: int) -> Results:
        values, places = smallest(sign * terms, count)
        both = (sign * values, places)
        return tuple(both[n].squeeze(-1) if terms.shape[2] == 1 else both[n] for n in kept)

    return meaning


def shifted(terms: Tensor, weights: Tensor | None) -> Results:
    """The largest value m, and the sums of exp(terms - m) * weights; infinity minus itself is 0."""
    values, _ = smallest(-terms, 1)
    largest = -values
    shares = torch.where(terms == largest, 1.0, torch.exp(terms - largest))
    sums = (shares if weights is None else shares * weights).sum(1)
    return largest[:, 0], sums


def logsumexp(terms: Tensor, weights: Tensor | None, count: int) -> Results:
    largest, sums = shifted(terms, weights)
    return (largest + torch.log(sums),)


def softmax(terms: Tensor, weights: Tensor | None, count: int) -> Results:
    largest, total = shifted(terms, None)
    return (torch.where(largest.isinf(), NAN, shifted(terms, weights)[1] / total),)


def product(terms: Tensor) -> Tensor:
    """Pairwise, so that autograd is exact to any order where terms are 0."""
    if terms.shape[1] == 0:
        return terms.sum(1) + 1
    while terms.shape[1] > 1:
        half = terms.shape[1] // 2
        last = terms[:, 2 * half :]
        terms = torch.cat([terms[:, :half] * terms[:, half : 2 * half], last], 1)
    return terms[:, 0]


DENSE: Mapping[str, Dense] = {
    "sum": lambda terms, weights, count: (terms.sum(1),),
    "compensated_sum": lambda terms, weights, count: (terms.sum(1),),
    "mean": lambda terms, weights, count: (terms.sum(1) / terms.shape[1],),
    "norm": lambda terms, weights, count: (torch.linalg.vector_norm(terms, dim=1),),
    "prod": lambda terms, weights, count: (product(terms),),
    "any": lambda terms, weights, count: ((terms != 0).any(1),),
    "all": lambda terms, weights, count: ((terms != 0).all(1),),
    "min": extremum(1.0, 0),
    "max": extremum(-1.0, 0),
    "argmin": extremum(1.0, 1),
    "argmax": extremum(-1.0, 1),
    "min_argmin": extremum(1.0, 0, 1),
    "max_argmax": extremum(-1.0, 0, 1),
    "kmin": nearest(1.0, 0),
    "kmax": nearest(-1.0, 0),
    "argkmin": nearest(1.0, 1),
    "argkmax": nearest(-1.0, 1),
    "kmin_argkmin": nearest(1.0, 0, 1),
    "kmax_argkmax": nearest(-1.0, 0, 1),
    "logsumexp": logsumexp,
    "weighted_logsumexp": logsumexp,
    "softmax": softmax,
    "max_sumshiftexp": lambda terms, weights, count: (torch.cat(shifted(terms, None), -1),),
    "max_sumshiftexpweight": lambda terms, weights, count: (
        torch.cat(shifted(terms, weights), -1),
    ),
}

# Rows that a call can ask for; the others are for derivatives only.
KEPT = {row.kept for row in REDUCTIONS.values()}
ASKED = [row for row in REDUCTIONS.values() if row.name not in KEPT]

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
        return f"1 + ({formula}) * 0.015625" if self.row.name == "prod" else formula

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
        if self.row.name == "prod":
            terms = 1 + terms * 0.015625
        return terms, w[0][None] * (1 + x[:, None, :1] ** 2) if w else None

    def dense(self, given: Sequence[Tensor], axis: int) -> Results:
        """The results in float64 (and int64, and bool)."""
        terms, weights = self.terms(given)
        if axis == 0:
            terms = terms.transpose(0, 1)
            weights = None if weights is None else weights.transpose(0, 1)
        return DENSE[self.row.name](terms, weights, self.count)


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
