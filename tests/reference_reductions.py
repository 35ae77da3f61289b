"""What each row of the table of reductions means, densely in float64: needs PyTorch, no backend.

It shares no code with redcomp: only the names of rows come from the table.  Terms have shape
(B..., M, N, D), one entry per pair; axis 1 reduces over N, axis 0 over M.  A mask of shape (M, N)
says which pairs count, weights have shape (B..., M, N, E).  Every meaning is differentiable where
the language says so, and gives what the language says for no pairs at all, for ties (the first one
wins) and for NaN (which never wins).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from reference import OPERATIONS, Tensor

from redcomp.ops.reductions import REDUCTIONS, REDUCTIONS_BY_SPELLING, Reduction

INFINITY = float("inf")
NOTHING = -1  # the place of a winner that does not exist
Results = tuple[Tensor, ...]


class Pairs(NamedTuple):
    """What a reduction sees: the reduced axis C comes second to last.

    terms    (B..., R, C, D)
    mask     (R, C, 1)
    weights  (B..., R, C, E), of a second formula
    count    K, how many columns to keep
    places   (B..., R, K, D), the columns that win, in their order, or NOTHING; None: not known yet
    """

    terms: Tensor
    mask: Tensor
    weights: Tensor | None = None
    count: int = 1
    places: Tensor | None = None

    def filled(self, neutral: float) -> Tensor:
        """The terms, and a neutral one for each pair that does not count."""
        return torch.where(self.mask, self.terms, neutral)


class Selection(NamedTuple):
    """A reduction that returns some of the terms, where they are, or both."""

    is_largest: bool
    returns: tuple[str, ...]  # of "value" and "place"
    takes_count: bool = False

    def places(self, pairs: Pairs) -> Tensor:
        """The places of the first terms in their order, the first of equal ones first.

        NaN, which a sort puts last, never wins.  Where only one is kept, neither does what is as
        bad as nothing: +inf for the smallest.
        """
        known = -pairs.terms.detach() if self.is_largest else pairs.terms.detach()
        known = torch.where(pairs.mask & (self.takes_count | (known < INFINITY)), known, torch.nan)
        values, places = known.sort(dim=-2, stable=True)
        places = torch.where(values.isnan(), NOTHING, places)
        count = pairs.count if self.takes_count else 1
        missing = max(count - places.shape[-2], 0)
        padded = torch.nn.functional.pad(places, (0, 0, 0, missing), value=NOTHING)
        return padded[..., :count, :]

    def __call__(self, pairs: Pairs) -> Results:
        places = self.places(pairs) if pairs.places is None else pairs.places
        neutral = -INFINITY if self.is_largest else INFINITY
        is_there, places = places != NOTHING, places.clamp(min=0)
        values = torch.where(is_there, pairs.terms.gather(-2, places), neutral)
        found = {"value": values, "place": places}
        return tuple(self.shaped(found[r]) for r in self.returns)

    def shaped(self, selected: Tensor) -> Tensor:
        """(B..., R, K, D) without K where it was not asked for, or without D where that is 1."""
        if not self.takes_count:
            return selected.squeeze(-2)
        return selected.squeeze(-1) if selected.shape[-1] == 1 else selected


# -- meanings --------------------------------------------------------------------------------------


def _sum(pairs: Pairs) -> Results:
    return (pairs.filled(0.0).sum(-2),)


def _quotient(top: Tensor, bottom: Tensor) -> Tensor:
    """NaN for 0 / 0, with gradient 0."""
    is_nothing = bottom == 0
    return torch.where(is_nothing, torch.nan, top / torch.where(is_nothing, 1, bottom))


def _mean(pairs: Pairs) -> Results:
    return (_quotient(*_sum(pairs), pairs.mask.sum(-2)),)


def _norm(pairs: Pairs) -> Results:
    """Its derivative is 0 at 0, to any order."""
    return (OPERATIONS["Sqrt"](pairs.filled(0.0).square().sum(-2)),)


def _product(pairs: Pairs) -> Results:
    """Of halves, so that autograd is exact to any order where terms are 0."""
    factors = pairs.filled(1.0)
    while factors.shape[-2] > 1:
        half = factors.shape[-2] // 2
        left, right, last = factors.split([half, half, factors.shape[-2] % 2], -2)
        factors = torch.cat([left * right, last], -2)
    return (factors.squeeze(-2),)


def _complex_product(pairs: Pairs) -> Results:
    """Of halves, as `_product`."""
    numbers = torch.view_as_complex(pairs.terms.unflatten(-1, (-1, 2)).contiguous())
    (product,) = _product(pairs._replace(terms=numbers))
    return (torch.view_as_real(product).flatten(-2),)


def _any(pairs: Pairs) -> Results:
    return ((pairs.filled(0.0) != 0).any(-2),)


def _all(pairs: Pairs) -> Results:
    return ((pairs.filled(1.0) != 0).all(-2),)


_LARGEST = Selection(True, ("value",))


def _shift(pairs: Pairs) -> Tensor:
    """The largest term, or 0 where that is infinite; results do not depend on it."""
    largest = _LARGEST(pairs)[0].detach()
    return torch.where(largest.isinf(), 0.0, largest)


def _shares(pairs: Pairs, shift: Tensor) -> Tensor:
    """exp(term - shift): infinity minus itself is 0, and pairs that do not count have none."""
    shift = shift.unsqueeze(-2)
    is_same = shift.isinf() & (pairs.terms == shift)
    exponents = torch.where(is_same, 0.0, pairs.terms - shift)
    return torch.exp(torch.where(pairs.mask, exponents, -INFINITY))


def _weighted(pairs: Pairs, shares: Tensor) -> Tensor:
    return (shares if pairs.weights is None else shares * pairs.weights).sum(-2)


def _log_sum_exp(pairs: Pairs) -> Results:
    shift = _shift(pairs)
    total = _weighted(pairs, _shares(pairs, shift))
    is_nothing = total == 0
    logarithm = torch.where(is_nothing, 1.0, total).log()
    return (torch.where(is_nothing, -INFINITY, logarithm) + shift,)


def _soft_max(pairs: Pairs) -> Results:
    """What infinite terms weigh relative to each other is not defined."""
    shares = _shares(pairs, _shift(pairs))
    return (_quotient(_weighted(pairs, shares), shares.sum(-2)),)


def _max_sum_shift_exp(pairs: Pairs) -> Results:
    (largest,) = _LARGEST(pairs)
    return (torch.cat([largest, _weighted(pairs, _shares(pairs, largest))], -1),)


_VALUE, _PLACE, _BOTH = ("value",), ("place",), ("value", "place")
# By the name of the row.  Random cases are drawn in this order: what is new comes last.
MEANINGS: Mapping[str, Callable[[Pairs], Results]] = {
    "sum": _sum,
    "compensated_sum": _sum,
    "mean": _mean,
    "norm": _norm,
    "prod": _product,
    "any": _any,
    "all": _all,
    "logsumexp": _log_sum_exp,
    "weighted_logsumexp": _log_sum_exp,
    "softmax": _soft_max,
    "max_sumshiftexp": _max_sum_shift_exp,
    "max_sumshiftexpweight": _max_sum_shift_exp,
    "min": Selection(False, _VALUE),
    "max": Selection(True, _VALUE),
    "argmin": Selection(False, _PLACE),
    "argmax": Selection(True, _PLACE),
    "min_argmin": Selection(False, _BOTH),
    "max_argmax": Selection(True, _BOTH),
    "kmin": Selection(False, _VALUE, True),
    "kmax": Selection(True, _VALUE, True),
    "argkmin": Selection(False, _PLACE, True),
    "argkmax": Selection(True, _PLACE, True),
    "kmin_argkmin": Selection(False, _BOTH, True),
    "kmax_argkmax": Selection(True, _BOTH, True),
    "complex_prod": _complex_product,
}

# Rows that a call can ask for; the others are for derivatives only.
KEPT = {row.kept for row in REDUCTIONS.values()}
SLOPES = {row.sloped.reduction for row in REDUCTIONS.values() if row.sloped} - {"sum"}
ASKED = [row for row in REDUCTIONS.values() if row.name not in KEPT | SLOPES]


def row_of(name: str) -> Reduction:
    """The row of a name: its own, or one that `reduction_op` takes."""
    return REDUCTIONS_BY_SPELLING.get(name) or REDUCTIONS[name]


def meaning_of(name: str) -> Callable[[Pairs], Results]:
    """The meaning of a row, by its name or by one that `reduction_op` takes."""
    row = row_of(name).name
    assert row in MEANINGS, f"say in MEANINGS of tests/reference_reductions.py what {row!r} means"
    return MEANINGS[row]


def is_complex(name: str) -> bool:
    """Whether a row reduces complex numbers."""
    return row_of(name).takes == "complex"


def taken_formula(name: str, formula: str) -> str:
    """A formula whose values a row takes: complex numbers f + (1 - f) i / 2, if it takes these."""
    return f"Complex({formula}, 0.5 - 0.5 * ({formula}))" if is_complex(name) else formula


def taken_terms(name: str, terms: Tensor) -> Tensor:
    """The same of the formula's values."""
    return torch.stack([terms, 0.5 - 0.5 * terms], -1).flatten(-2) if is_complex(name) else terms


# Names that `reduction_op` takes, by the kind of their meaning.
_SPELLED = {name: m for row, m in MEANINGS.items() for name in REDUCTIONS[row].spellings}
SELECTIONS = {name: m for name, m in _SPELLED.items() if isinstance(m, Selection)}
COMBINATIONS = tuple(name for name in _SPELLED if name not in SELECTIONS)
# Those that return the largest term, whatever is summed beside it.
EXPONENTS = tuple(name for name in COMBINATIONS if _SPELLED[name] is _max_sum_shift_exp)
TRUTHS = tuple(name for name in COMBINATIONS if _SPELLED[name] in (_any, _all))
# Those whose places or gradients depend on which terms win.
_CHOICES = {**SELECTIONS, **dict.fromkeys(EXPONENTS, _LARGEST)}
CHOOSING = tuple(_CHOICES)


# -- the terms of all pairs ------------------------------------------------------------------------


def reduce_pairs(
    name: str,
    terms: Tensor,
    axis: int = 1,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    count: int = 1,
    places: Tensor | None = None,
) -> Results:
    """The results of a reduction; `places` are winners that are known, as `winners` gives them."""
    return meaning_of(name)(arranged(terms, axis, mask, weights, count)._replace(places=places))


def winners(
    name: str, terms: Tensor, axis: int = 1, mask: Tensor | None = None, count: int = 1
) -> Tensor:
    """The places of the terms that win, (B..., R, K, D), of a reduction in CHOOSING."""
    return _CHOICES[name].places(arranged(terms, axis, mask, count=count))


def pair_mask(ranges: Sequence[Tensor], rows: int, columns: int) -> Tensor:
    """Which pairs count, from the first three tensors of block-sparse ranges: (rows, columns)."""
    blocks, slices, intervals = (t.tolist() for t in ranges[:3])
    mask = torch.zeros(rows, columns, dtype=torch.bool)
    for (start, stop), first, last in zip(blocks, [0, *slices], slices, strict=False):
        for left, right in intervals[first:last]:
            mask[start:stop, left:right] = True
    return mask


def arranged(
    terms: Tensor,
    axis: int,
    mask: Tensor | None,
    weights: Tensor | None = None,
    count: int = 1,
) -> Pairs:
    """The reduced axis second to last; a column that does not count where there would be none."""
    if mask is None:
        mask = torch.ones(terms.shape[-3:-1], dtype=torch.bool)
    tensors = [terms, mask.unsqueeze(-1), *([] if weights is None else [weights])]
    if axis == 0:
        tensors = [t.transpose(-3, -2) for t in tensors]
    if tensors[0].shape[-2] == 0:
        tensors = [torch.nn.functional.pad(t, (0, 0, 0, 1)) for t in tensors]
    return Pairs(tensors[0], tensors[1], tensors[2] if weights is not None else None, count)
