"""Dense float64 reductions over some of the pairs: needs PyTorch, no backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

Tensor = torch.Tensor
INF = float("inf")
COUNT = 3

ALIASES = ["x = Vi(3)", "y = Vj(3)", "b = Vj(2)", "g = Pm(1)"]
KINDS = ("i", "j", "j", "parameter")
SCALAR = "Exp(-g * SqDist(x, y)) + Sum(b)"
VECTOR = "b * Exp(-g * SqDist(x, y))"


def scalar_terms(x: Tensor, y: Tensor, b: Tensor, g: Tensor) -> Tensor:
    """`SCALAR` for all pairs, (M, N, 1), of float64 arguments without a batch."""
    return torch.exp(-g * _distances(x, y)) + b.sum(-1)[None, :, None]


def vector_terms(x: Tensor, y: Tensor, b: Tensor, g: Tensor) -> Tensor:
    """`VECTOR` for all pairs, (M, N, 2)."""
    return b[None] * torch.exp(-g * _distances(x, y))


def _distances(x: Tensor, y: Tensor) -> Tensor:
    return ((x[:, None] - y[None]) ** 2).sum(-1, keepdim=True)


def arguments(
    rows: int,
    columns: int,
    dtype: torch.dtype,
    batches: Sequence[tuple[int, ...]] = ((), (), (), ()),
    seed: int = 0,
) -> list[Tensor]:
    """Random x, y, b, g, each with its dimensions of a batch."""
    generator = torch.Generator().manual_seed(seed)
    own = ((rows, 3), (columns, 3), (columns, 2), (1,))
    return [
        torch.rand((*batch, *shape), generator=generator, dtype=torch.float64).to(dtype)
        for batch, shape in zip(batches, own, strict=True)
    ]


def _sum(terms: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
    return (torch.where(mask, terms, 0.0).sum(1),)


def _smallest(terms: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
    """Values and first places along axis 1; (inf, 0) without any."""
    known = torch.where(mask, terms, INF)
    value = known.amin(1)
    place = (known == value[:, None]).to(torch.int8).argmax(1)  # argmax gives the first one
    return value, torch.where(value == INF, 0, place)


def _largest(terms: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
    value, place = _smallest(-terms, mask)
    return -value, place


def _log_sum_exp(terms: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
    nothing = ~mask.any(1)
    known = torch.where(mask | nothing[:, None], terms, -INF)
    return (torch.where(nothing, -INF, known.logsumexp(1)),)


def _softmax(terms: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
    """The last components, weighted by the softmax of the first."""
    nothing = ~mask.any(1, keepdim=True)
    known = torch.where(mask | nothing, terms[..., :1], -INF)
    mean = (known.softmax(1) * terms[..., 1:]).sum(1)
    return (torch.where(nothing[:, 0], torch.nan, mean),)


def _least(terms: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
    """The `COUNT` smallest and their places; (inf, 0) where there are fewer."""
    known = torch.nn.functional.pad(torch.where(mask, terms, INF), (0, 0, 0, COUNT), value=INF)
    value, place = known.sort(dim=1, stable=True)
    value, place = value[:, :COUNT], place[:, :COUNT]
    return value, torch.where(value == INF, 0, place)


# What each reduction means: terms (M, N, E) and mask (M, N, 1) to results (M, E).
MEANINGS: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, ...]]] = {
    "Sum": _sum,
    "Min": lambda terms, mask: _smallest(terms, mask)[:1],
    "Max": lambda terms, mask: _largest(terms, mask)[:1],
    "ArgMin": lambda terms, mask: _smallest(terms, mask)[1:],
    "ArgMax": lambda terms, mask: _largest(terms, mask)[1:],
    "Min_ArgMin": _smallest,
    "Max_ArgMax": _largest,
    "LogSumExp": _log_sum_exp,
    "Mean": lambda terms, mask: (_sum(terms, mask)[0] / mask.sum(1),),
    "SumSoftMaxWeight": _softmax,
    "KMin_ArgKMin": _least,
}


def formula(name: str) -> str:
    """The formula that a reduction is tested with."""
    return SCALAR if name in ("LogSumExp", "SumSoftMaxWeight") else VECTOR


def options(name: str) -> dict[str, Any]:
    """What else a reduction is made with."""
    more = {"SumSoftMaxWeight": {"formula2": VECTOR}, "KMin_ArgKMin": {"opt_arg": COUNT}}
    return {"reduction_op": name, **more.get(name, {})}


def dense(
    name: str, given: Sequence[Tensor], axis: int, mask: np.ndarray[Any, Any] | None = None
) -> tuple[Tensor, ...]:
    """The results for the pairs of the mask (M, N), or all; differentiable; no batch."""
    exact = [t.double() for t in given]
    terms = scalar_terms(*exact) if formula(name) == SCALAR else vector_terms(*exact)
    if name == "SumSoftMaxWeight":
        terms = torch.cat([terms, vector_terms(*exact)], -1)
    if mask is None:
        mask = np.ones(terms.shape[:2], np.bool_)
    pairs = torch.from_numpy(mask)[:, :, None]
    if axis == 0:
        terms, pairs = terms.transpose(0, 1), pairs.transpose(0, 1)
    return MEANINGS[name](terms, pairs)


def dense_batch(
    name: str, given: Sequence[Tensor], axis: int, mask: np.ndarray[Any, Any] | None = None
) -> tuple[Tensor, ...]:
    """The results entry by entry, each argument broadcast to the dimensions of the whole batch."""
    own = [1 if kind == "parameter" else 2 for kind in KINDS]
    batch = torch.broadcast_shapes(
        *(t.shape[: t.dim() - n] for t, n in zip(given, own, strict=True))
    )
    spread = [t.expand(*batch, *t.shape[t.dim() - n :]) for t, n in zip(given, own, strict=True)]
    entries = [dense(name, [t[index] for t in spread], axis, mask) for index in np.ndindex(*batch)]
    return tuple(
        torch.stack(parts).reshape(*batch, *parts[0].shape) for parts in zip(*entries, strict=True)
    )


def as_tuple(results: Any) -> tuple[Any, ...]:
    """The results of a call as a tuple, also if there is only one."""
    return results if isinstance(results, tuple) else (results,)


def check(computed: Any, expected: Sequence[Tensor], dtype: torch.dtype) -> None:
    """All results agree, integers and infinities exactly."""
    tolerance = 2e-6 if dtype == torch.float32 else 1e-13
    for a, b in zip(as_tuple(computed), expected, strict=True):
        result = torch.as_tensor(a)
        assert result.shape == b.shape
        assert result.dtype == (torch.int64 if b.dtype == torch.int64 else dtype)
        finite = b[b.isfinite()]
        scale = 1.0 + float(finite.abs().max()) if finite.numel() else 1.0
        torch.testing.assert_close(
            result.double(),
            b.detach().double(),
            rtol=0,
            atol=tolerance * scale,
            equal_nan=True,
        )


def check_derivatives(
    call: Callable[..., Tensor], meaning: Callable[..., Tensor], given: Sequence[Tensor]
) -> None:
    """Gradients of every argument in float64, and the gradients of those."""
    leaves = [t.detach().clone().requires_grad_() for t in given]
    computed, expected = call(*leaves), meaning(*leaves)
    generator = torch.Generator().manual_seed(1)
    # A row without pairs is infinite, whatever the arguments are.
    counts = expected.detach().isfinite()
    e = torch.rand(expected.shape, generator=generator, dtype=torch.float64) * counts
    first = [torch.autograd.grad(r, leaves, e, create_graph=True) for r in (computed, expected)]
    _agree(*first)
    weights = [torch.rand(t.shape, generator=generator, dtype=torch.float64) for t in leaves]
    mixtures = [sum((t * w).sum() for t, w in zip(ts, weights, strict=True)) for ts in first]
    options = {"allow_unused": True, "materialize_grads": True}
    _agree(*(torch.autograd.grad(mixture, leaves, **options) for mixture in mixtures))


def _agree(computed: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    for a, b in zip(computed, expected, strict=True):
        assert a.shape == b.shape
        assert a.isfinite().all()
        assert (a - b).abs().max() <= 1e-11 * (1 + b.abs().max())
