"""How far a kernel's result may be from the exact one: needs the CPU, PyTorch.

The allowance is measured, not chosen.  A formula's own rounding noise is what PyTorch's dense
evaluation makes of it in float32, what one rounding of the arguments changes, and what one rounding
of every intermediate number changes, where float32 happens to be exact; a kernel may make
some tens of times that, and some tens of roundings of the sum of the absolute terms.  In float64
all of it is scaled by the ratio of the two units in the last place.  Float16 and bfloat16 are
computed in float32, and the result is rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from reference import Tensor, dense
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from redcomp.torch import Genred

EPSILON = {
    torch.float32: 2.0**-23,
    torch.float64: 2.0**-52,
    torch.float16: 2.0**-10,
    torch.bfloat16: 2.0**-7,
}
HALVES = (torch.float16, torch.bfloat16)
SMALLEST_HALF = 2.0**-24  # of the float16 numbers; below it is nothing
# Kernels evaluate with functions of up to 8 ULP, reorder sums, and differentiate by other rules.
TIMES_NOISE = 32.0
TIMES_EPSILON = 64.0
SUMS = (torch.ops.aten.sum, torch.ops.aten.prod)

Results = Sequence[Tensor]
Evaluate = Callable[[Sequence[Tensor]], Results]


def exact_and_noise(
    evaluate: Evaluate, tensors: Sequence[Tensor]
) -> tuple[list[Tensor], list[float]]:
    """Float64 results for tensors of float32 numbers, and each one's largest float32 noise."""
    exact = [t.detach() for t in evaluate(_leaves(tensors, torch.float64))]
    rounding = _Rounding()
    moved = [rounding.rounded(t.double()) for t in tensors]
    variants = [evaluate(_leaves(tensors, torch.float32)), evaluate(_leaves(moved, torch.float64))]
    leaves = _leaves(tensors, torch.float64)
    with rounding:
        variants.append(evaluate(leaves))
    noise = [0.0] * len(exact)
    for variant in variants:
        for n, other in enumerate(variant):
            noise[n] = max(noise[n], _distance(other.detach().double(), exact[n]))
    return exact, noise


def assert_close(
    computed: Tensor,
    exact: Tensor,
    noise: float,
    dtype: torch.dtype,
    size: Tensor | float,
    what: str,
) -> None:
    """`size` is the sum of the absolute terms, or what stands for it; NaN agrees with NaN."""
    assert computed.shape == exact.shape, (what, computed.shape, exact.shape)
    assert computed.dtype == dtype, what
    allowed = allowance(exact, noise, dtype, size)
    error = (computed.detach().double() - exact).abs()
    same = (computed == exact) | (computed.isnan() & exact.isnan())
    excess = torch.where(same, 0.0, error - allowed)
    if not bool((excess <= 0).all()):
        worst = int(excess.nan_to_num(nan=torch.inf).argmax())
        raise AssertionError(
            f"{what}: {computed.flatten()[worst].item()!r} instead of "
            f"{exact.flatten()[worst].item()!r} at {worst}; noise {noise:.1e} in float32, "
            f"{int((~(excess <= 0)).sum())} of {excess.numel()} differ"
        )


def value_and_gradients(
    op: Callable[..., Tensor], tensors: Sequence[Tensor], order: int
) -> list[Tensor]:
    """The value, the gradients for all arguments, then those of a mixture of these gradients."""
    generator = torch.Generator().manual_seed(1)

    def like(t: Tensor) -> Tensor:
        return torch.randn(t.shape, generator=generator).to(t.dtype)

    value = op(*tensors)
    results = [value]
    if order == 0:
        return results
    cotangent = like(value).requires_grad_()
    wanted = [*tensors, cotangent]
    options = {"allow_unused": True, "materialize_grads": True}
    value = value + 0 * sum(t.sum() for t in tensors)  # a graph even where all derivatives vanish
    first = torch.autograd.grad(value, tensors, cotangent, create_graph=order == 2, **options)
    results.extend(first)
    if order == 2:
        # The sum over the arguments themselves is there so that something can be differentiated.
        mixture = sum(
            (part * like(part)).sum() + t.sum() for t, part in zip(tensors, first, strict=True)
        )
        results.extend(torch.autograd.grad(mixture, wanted, **options))
    return results


def assert_as_reference(
    formula: str,
    aliases: list[str],
    tensors: Sequence[Tensor],
    dtype: torch.dtype,
    axis: int,
    order: int,
) -> None:
    """Value and gradients against the reference; the allowance is relative to the largest entry."""
    op = Genred(formula, aliases, axis=axis)

    def exactly(leaves: Sequence[Tensor]) -> list[Tensor]:
        return value_and_gradients(lambda *t: dense(formula, aliases, t, axis), leaves, order)

    exact, noise = exact_and_noise(exactly, tensors)
    leaves = [t.detach().to(dtype).requires_grad_() for t in tensors]
    computed = value_and_gradients(op, leaves, order)
    names = [alias.split("=")[0].strip() for alias in aliases]
    labels = ["value", *names, *(f"second {name}" for name in [*names, "cotangent"])]
    assert len(computed) == len(exact)
    for label, result, right, own in zip(labels, computed, exact, noise, strict=False):
        finite = right[right.isfinite()].abs()
        size = float(finite.max()) if finite.numel() else 0.0
        assert_close(result, right, own, dtype, size, f"{formula} {aliases} axis {axis}: {label}")


def allowance(
    exact: Tensor, noise: float, dtype: torch.dtype, size: Tensor | float
) -> Tensor | float:
    """The largest error that a result may have."""
    computed_in = EPSILON[torch.float32 if dtype in HALVES else dtype]
    ratio = computed_in / EPSILON[torch.float32]
    allowed = TIMES_EPSILON * computed_in * size + TIMES_NOISE * ratio * noise
    return allowed + EPSILON[dtype] * exact.abs() + SMALLEST_HALF if dtype in HALVES else allowed


class _Rounding(TorchDispatchMode):
    """Changes each float64 number that PyTorch computes, in gradients too, as float32 may."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(r.alias_info is not None for r in func._schema.returns):
            return result
        # A sum of n terms is rounded n times, which typically adds up to the root of n roundings.
        is_sum = func.overloadpacket in SUMS
        terms = args[0].numel() / max(result.numel(), 1) if is_sum else 1.0
        return tree_map(lambda t: self.rounded(t, max(terms, 1.0) ** 0.5), result)

    def rounded(self, t: Any, times: float = 1.0) -> Any:
        """Small multiples of 1/16 are exact in float32; what is no float64 tensor stays.

        Autograd's zero tensors have no memory that could be read.
        """
        if not isinstance(t, Tensor) or t.dtype != torch.float64:
            return t
        if t._is_zerotensor():
            return torch.zeros(t.shape, dtype=t.dtype)
        signed = 1 - 2 * torch.rand(t.shape, generator=self.generator, dtype=torch.float64)
        moved = t * (1 + times * EPSILON[torch.float32] * signed)
        return torch.where((t * 16 == (t * 16).round()) & (t.abs() < 1024), t, moved)


def _leaves(tensors: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    return [t.detach().to(dtype).requires_grad_() for t in tensors]


def _distance(a: Tensor, b: Tensor) -> float:
    difference = torch.where(a == b, 0.0, (a - b).abs())
    finite = difference[difference.isfinite()]
    return float(finite.max()) if finite.numel() else 0.0
