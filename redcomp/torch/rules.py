"""What rules of `torch.autograd.Function`s do where they are made of differentiable computations.

PyTorch switches forward mode off while it runs a forward-mode rule, and transforms of torch.func do
so too: a tangent that PyTorch's own operators compute there would be a constant for forward mode at
levels further out, so second derivatives would miss a part without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._functorch.utils import enable_single_level_autograd_function, unwrap_dead_wrappers
from torch.autograd import forward_ad

Tensors = tuple[torch.Tensor, ...]


def applied_within(function: type[torch.autograd.Function], *args: Any) -> Any:
    """function.apply(*args), where a transform acts on the operator that is computed now.

    PyTorch's own would hand the function to the transforms, which have handed it on already.
    """
    record: Callable[..., Any] = super(torch.autograd.Function, function).apply  # type: ignore[misc]  # PyTorch has no types for it
    with enable_single_level_autograd_function():
        return record(*unwrap_dead_wrappers(args))


def pushed_forward(
    rule: Callable[..., torch.Tensor | None],
    saved: Sequence[torch.Tensor],
    tangents: Sequence[torch.Tensor | None],
) -> torch.Tensor | None:
    """rule(saved, tangents), whose operators are differentiated forward further out.

    What is saved comes without the tangents that the rule is about.
    """
    with forward_ad._set_fwd_grad_enabled(True):
        return rule([unpacked(tensor)[0] for tensor in saved], tangents)


def tangent_of(
    function: Callable[..., torch.Tensor],
    values: Sequence[torch.Tensor],
    tangents: Sequence[torch.Tensor | None],
) -> torch.Tensor | None:
    """The tangent of function(*values), or None without any; in a rule that is pushed forward."""
    if all(tangent is None for tangent in tangents):
        return None
    moving = [
        value if tangent is None else _dual(value, tangent)
        for value, tangent in zip(values, tangents, strict=True)
    ]
    return unpacked(function(*moving))[1]


def pulled_back(
    function: Callable[..., torch.Tensor], cotangent: torch.Tensor, *values: torch.Tensor
) -> Tensors:
    """The partial derivatives of <cotangent, function(*values)>, differentiable again.

    torch.func refuses hooks of saved tensors, so it computes without those that are set.
    """
    hooks = []
    while (hook := torch._C._autograd._top_saved_tensors_default_hooks(True)) is not None:
        hooks.append(hook)
        torch._C._autograd._pop_saved_tensors_default_hooks()
    try:
        gradients: Tensors = torch.func.vjp(function, *values)[1](cotangent)
        return gradients
    finally:
        for hook in reversed(hooks):
            torch._C._autograd._push_saved_tensors_default_hooks(*hook)


def _dual(value: torch.Tensor, tangent: torch.Tensor) -> torch.Tensor:
    # A tangent gets its value's strides, which must not be those of one number for several.
    dual: torch.Tensor = forward_ad.make_dual(value.contiguous(), tangent, level=_level())  # type: ignore[no-untyped-call]  # PyTorch has no types for it
    return dual


def unpacked(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A value, and its tangent if it has one."""
    primal, tangent = forward_ad.unpack_dual(tensor, level=_level())  # type: ignore[no-untyped-call]  # PyTorch has no types for it
    return primal, tangent


def _level() -> int:
    """The level of forward mode, of which there is one; a graph enters it without saying so."""
    return max(forward_ad._current_level, 0)
