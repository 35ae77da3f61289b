"""`Attention`: what `torch.nn.functional.scaled_dot_product_attention` computes, and biases."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from redcomp import arguments
from redcomp.torch.genred import Genred
from redcomp.torch.nn.shared import NEVER, check_points, features, over_columns, shared

# The kinds of a mask, by which of the axes of queries and of keys it has.
_KINDS = {(True, True): "Vij", (True, False): "Vi", (False, True): "Vj", (False, False): "Pm"}

Kinds = tuple[tuple[str, str], ...]


def _masked(score: str, kinds: Kinds, is_causal: bool) -> str:
    """A score plus masks of these names, for the pairs that a causal mask leaves."""
    terms = [score, *(f"Maximum({name}, {NEVER})" for name, _ in kinds)]
    total = " + ".join(terms)
    return f"IfElse(Ind_i() - Ind_j(), {total}, {NEVER})" if is_causal else total


@shared
def _attention(dims: tuple[int, int], scale: float | None, kinds: Kinds, is_causal: bool) -> Genred:
    """sum_j softmax_j(scale * (query_i | key_j) + masks) value_j."""
    columns, outputs = dims
    factor = columns**-0.5 if scale is None else scale
    aliases = [f"query = Vi({columns})", f"key = Vj({columns})", f"value = Vj({outputs})"]
    masks = [f"{name} = {kind}(1)" for name, kind in kinds]
    score = _masked(f"{factor!r} * (query | key)", kinds, is_causal)
    return over_columns(score, [*aliases, *masks], "SumSoftMaxWeight", "value")


@shared
def _largest_mask(columns: int, kinds: Kinds, is_causal: bool) -> Genred:
    """max_j of the masks alone; where queries are given, they are only counted."""
    aliases = [f"{name} = {kind}(1)" for name, kind in kinds]
    queries = [f"query = Vi({columns})"] if is_causal else []
    return over_columns(_masked("0", kinds, is_causal), [*aliases, *queries], "Max")


def _as_numbers(name: str, mask: object, dtype: torch.dtype) -> Tensor:
    """A mask as numbers to be added."""
    tensor = check_points(name, mask)
    return torch.where(tensor, 0.0, NEVER).to(dtype) if tensor.dtype == torch.bool else tensor


def _kind(mask: Tensor) -> str:
    rows, columns = mask.shape[-2:]
    return _KINDS[rows != 1, columns != 1]


def _as_argument(mask: Tensor, kind: str) -> Tensor:
    """A mask (..., L, S), either of which may be 1, in the shape of an argument of its kind."""
    if kind == "Vij":
        return mask[..., None]
    if kind == "Pm":
        return mask[..., 0]
    return mask.mT if kind == "Vj" else mask


class Attention(nn.Module):
    """softmax(scale * query @ key^T + mask + bias) @ value, without the array of all pairs.

    scale      what scores are multiplied by; 1 / sqrt(E) by default
    is_causal  whether query i sees the keys up to i only (counted from the first one, as PyTorch's)

    It has no parameters: projections are `torch.nn.Linear`s before and after it.

    Shapes, as those of `torch.nn.functional.scaled_dot_product_attention`: query (..., H, L, E),
    key (..., H, S, E), value (..., H, S, Ev); the result is (..., H, L, Ev).  Leading axes
    broadcast, so keys shared by G heads are query (B, H, G, L, E), key and value (B, H, 1, S, E).
    attn_mask and bias are optional, and broadcast to (..., H, L, S); both have two axes or more.

    attn_mask  booleans, True where a key takes part, or numbers that are added to scores; -inf
               takes a key out, as does anything below -1e30
    bias       numbers that are added too, such as learned biases of relative positions

    Both may be given, and with is_causal; numbers get gradients.  What has one entry for all
    queries, such as a mask of padded keys (B, 1, 1, S), is read as a vector, not spread to pairs.
    A query that sees no key gives 0, with gradients of 0, never NaN.  There is no dropout.

    Raises ArgumentError (a ValueError) that names the argument.
    """

    def __init__(self, *, is_causal: bool = False, scale: float | None = None) -> None:
        super().__init__()
        self.is_causal = arguments.switch("is_causal", is_causal)
        self.scale = None if scale is None else arguments.number("scale", scale)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """The weighted values."""
        for name, tensor in (("query", query), ("key", key), ("value", value)):
            check_points(name, tensor)
        masks = (("attn_mask", attn_mask), ("bias", bias))
        given = {n: _as_numbers(n, m, query.dtype) for n, m in masks if m is not None}
        kinds = tuple((name, _kind(mask)) for name, mask in given.items())
        tensors = [_as_argument(given[name], kind) for name, kind in kinds]
        dims = features(query), features(value)
        reduction = _attention(dims, self.scale, kinds, self.is_causal)
        result: Tensor = reduction(query, key, value, *tensors)
        if key.shape[-2] == 0:  # the softmax of nothing is NaN
            return result.nan_to_num(0.0)
        return self._without_masked_rows(result, query, kinds, tensors) if given else result

    def _without_masked_rows(
        self, result: Tensor, query: Tensor, kinds: Kinds, masks: list[Tensor]
    ) -> Tensor:
        """The result, and 0 for queries that see no key."""
        queries = [query.detach()] if self.is_causal else []
        reduction = _largest_mask(features(query), kinds, self.is_causal)
        largest = reduction(*(mask.detach() for mask in masks), *queries)
        return torch.where(largest > NEVER / 2, result, 0.0)

    def extra_repr(self) -> str:
        return f"is_causal={self.is_causal}, scale={self.scale}"
