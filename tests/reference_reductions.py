"""Dense reductions of the terms of all pairs: needs PyTorch, no backend.

It shares no code with redcomp.  Terms have shape (B..., M, N, E); axis 1 reduces over N, axis 0
over M.  A mask of shape (M, N) says which pairs count.  Every reduction is differentiable where the
language says so, and takes what the language says for no pairs at all, for ties and for NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from reference import OPERATIONS, Tensor

INFINITY = float("inf")
NOTHING = -1  # the place of a winner that does not exist


class Pairs(NamedTuple):
    """What a reduction sees: the reduced axis C comes second to last.

    terms    (B..., R, C, E)
    mask     (R, C, 1)
    weights  (B..., R, C, G), of a second formula
    places   (B..., R, K, E), the columns that win, in their order, or NOTHING
    """

    terms: Tensor
    mask: Tensor
    weights: Tensor | None
    places: Tensor | None


class Selection(NamedTuple):
    """A reduction that returns some of the terms, where they are, or both."""

    is_largest: bool
    returns: tuple[str, ...]  # of "value" and "place"
    takes_count: bool = False


_VALUE, _PLACE, _BOTH = ("value",), ("place",), ("value", "place")
SELECTIONS: Mapping[str, Selection] = {
    "Min": Selection(False, _VALUE),
    "Max": Selection(True, _VALUE),
    "ArgMin": Selection(False, _PLACE),
    "ArgMax": Selection(True, _PLACE),
    "Min_ArgMin": Selection(False, _BOTH),
    "MinArgMin": Selection(False, _BOTH),
    "Max_ArgMax": Selection(True, _BOTH),
    "MaxArgMax": Selection(True, _BOTH),
    "KMin": Selection(False, _VALUE, True),
    "KMax": Selection(True, _VALUE, True),
    "ArgKMin": Selection(False, _PLACE, True),
    "ArgKMax": Selection(True, _PLACE, True),
    "KMin_ArgKMin": Selection(False, _BOTH, True),
    "KMinArgKMin": Selection(False, _BOTH, True),
    "KMax_ArgKMax": Selection(True, _BOTH, True),
    "KMaxArgKMax": Selection(True, _BOTH, True),
}


def reduce_pairs(
    name: str,
    terms: Tensor,
    axis: int,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    places: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """The results of a reduction; `places` are those of `winners`, which selections need."""
    pairs = arranged(terms, axis, mask, weights)._replace(places=places)
    if name in SELECTIONS:
        return _selected(pairs, SELECTIONS[name])
    return (REDUCTIONS[name](pairs),)


def winners(
    terms: Tensor,
    axis: int,
    mask: Tensor | None,
    count: int,
    is_largest: bool,
    has_infinity: bool = False,
) -> Tensor:
    """The places of the first `count` terms in their order, the first of equal ones first.

    NaN, which a sort puts last, never wins.  Unless `has_infinity`, neither does what is as bad as
    nothing: +inf for the smallest.
    """
    pairs = arranged(terms, axis, mask)
    known = -pairs.terms.detach() if is_largest else pairs.terms.detach()
    known = torch.where(pairs.mask & (has_infinity | (known < INFINITY)), known, torch.nan)
    values, places = known.sort(dim=-2, stable=True)
    places = torch.where(values.isnan(), NOTHING, places)
    missing = max(count - places.shape[-2], 0)
    padded = torch.nn.functional.pad(places, (0, 0, 0, missing), value=NOTHING)
    return padded[..., :count, :]


def pair_mask(ranges: Sequence[Tensor], rows: int, columns: int) -> Tensor:
    """Which pairs count, from the first three tensors of block-sparse ranges: (rows, columns)."""
    blocks, slices, intervals = (t.tolist() for t in ranges[:3])
    mask = torch.zeros(rows, columns, dtype=torch.bool)
    for (start, stop), first, last in zip(blocks, [0, *slices], slices, strict=False):
        for left, right in intervals[first:last]:
            mask[start:stop, left:right] = True
    return mask


def arranged(terms: Tensor, axis: int, mask: Tensor | None, weights: Tensor | None = None) -> Pairs:
    """The reduced axis second to last; a column that does not count where there would be none."""
    if mask is None:
        mask = torch.ones(terms.shape[-3:-1], dtype=torch.bool)
    tensors = [terms, mask.unsqueeze(-1), *([] if weights is None else [weights])]
    if axis == 0:
        tensors = [t.transpose(-3, -2) for t in tensors]
    if tensors[0].shape[-2] == 0:
        tensors = [torch.nn.functional.pad(t, (0, 0, 0, 1)) for t in tensors]
    return Pairs(tensors[0], tensors[1], tensors[2] if weights is not None else None, None)


def _filled(pairs: Pairs, neutral: float) -> Tensor:
    return torch.where(pairs.mask, pairs.terms, neutral)


def _sum(pairs: Pairs) -> Tensor:
    return _filled(pairs, 0.0).sum(-2)


def _quotient(top: Tensor, bottom: Tensor) -> Tensor:
    """NaN for 0 / 0, with gradient 0."""
    is_nothing = bottom == 0
    return torch.where(is_nothing, torch.nan, top / torch.where(is_nothing, 1, bottom))


def _norm(pairs: Pairs) -> Tensor:
    return OPERATIONS["Sqrt"](_filled(pairs, 0.0).square().sum(-2))


def _largest(pairs: Pairs) -> Tensor:
    """The largest term, (B..., R, 1): -inf for none."""
    places = pairs.places
    if places is None:
        places = winners(pairs.terms, 1, pairs.mask[..., 0], 1, is_largest=True)
    return _taken(pairs.terms, places, -INFINITY)[..., 0, :]


def _exponentials(pairs: Pairs, shift: Tensor) -> Tensor:
    """exp(term - shift), and 0 for pairs that do not count."""
    finite = torch.where(shift.isinf(), 0.0, shift).unsqueeze(-2)
    return torch.exp(_filled(pairs, -INFINITY) - finite)


def _shifted_sum(pairs: Pairs, shift: Tensor) -> Tensor:
    e = _exponentials(pairs, shift)
    return (e if pairs.weights is None else e * pairs.weights).sum(-2)


def _log_sum_exp(pairs: Pairs) -> Tensor:
    shift = _largest(pairs).detach()
    total = _shifted_sum(pairs, shift)
    is_nothing = total == 0
    return torch.where(is_nothing, -INFINITY, torch.where(is_nothing, 1.0, total).log() + shift)


def _soft_max(pairs: Pairs) -> Tensor:
    shift = _largest(pairs).detach()
    return _quotient(_shifted_sum(pairs, shift), _exponentials(pairs, shift).sum(-2))


def _max_sum_shift_exp(pairs: Pairs) -> Tensor:
    largest = _largest(pairs)
    return torch.cat([largest, _shifted_sum(pairs, largest)], dim=-1)


REDUCTIONS: Mapping[str, Callable[[Pairs], Tensor]] = {
    "Sum": _sum,
    "Mean": lambda pairs: _quotient(_sum(pairs), pairs.mask.sum(-2)),
    "Norm": _norm,
    "Prod": lambda pairs: _filled(pairs, 1.0).prod(-2),
    "Any": lambda pairs: (_filled(pairs, 0.0) != 0).any(-2),
    "All": lambda pairs: (_filled(pairs, 1.0) != 0).all(-2),
    "LogSumExp": _log_sum_exp,
    "LogSumExpWeight": _log_sum_exp,
    "SumSoftMaxWeight": _soft_max,
    "SoftMax": _soft_max,
    "Max_SumShiftExp": _max_sum_shift_exp,
    "MaxSumShiftExp": _max_sum_shift_exp,
    "Max_SumShiftExpWeight": _max_sum_shift_exp,
    "MaxSumShiftExpWeight": _max_sum_shift_exp,
}
# Those that know the largest term, and whose gradient depends on which it is.
EXPONENTS = tuple(name for name in REDUCTIONS if "Max_" in name or "MaxSum" in name)
TRUTHS = ("Any", "All")


def _taken(terms: Tensor, places: Tensor, neutral: float) -> Tensor:
    found = terms.gather(-2, places.clamp(min=0))
    return torch.where(places == NOTHING, neutral, found)


def _selected(pairs: Pairs, selection: Selection) -> tuple[Tensor, ...]:
    assert pairs.places is not None
    neutral = -INFINITY if selection.is_largest else INFINITY
    found = {
        "value": _taken(pairs.terms, pairs.places, neutral),
        "place": pairs.places.clamp(min=0),
    }
    return tuple(_shaped(found[r], selection.takes_count) for r in selection.returns)


def _shaped(selected: Tensor, takes_count: bool) -> Tensor:
    """(B..., R, K, E) without K where it was not asked for, and without E where that is 1."""
    if not takes_count:
        return selected.squeeze(-2)
    return selected.squeeze(-1) if selected.shape[-1] == 1 else selected
