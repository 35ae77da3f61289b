"""What `torch.vmap` maps over: one more axis of the batch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch.autograd import forward_ad

from redcomp.errors import ArgumentError
from redcomp.frontend.reductions.calls import AXES
from redcomp.frontend.reductions.pair_reduction import Parameter

Tensors = tuple[torch.Tensor, ...]


is_active: Callable[[], bool] = torch._C._are_functorch_transforms_active
_is_excluded: Callable[[torch._C.DispatchKey], bool] = (
    torch._C._dispatch_tls_is_dispatch_key_excluded
)
_FRONT = torch._C.DispatchKey.FuncTorchDynamicLayerFrontMode


def is_transformed() -> bool:
    """Whether a transform of torch.func acts on what is called now."""
    return is_active() and not _is_excluded(_FRONT)


def is_within_transform() -> bool:
    """Whether a transform of torch.func is acting on the operator that is computed now."""
    return is_active() and _is_excluded(_FRONT)


@contextlib.contextmanager
def below_autograd() -> Iterator[None]:
    """Calls of operators are not recorded by autograd, but by that of an outer transform."""
    with contextlib.ExitStack() as stack:
        if is_within_transform():
            # As torch.func does it: PyTorch has forbidden both while it computes a Function.
            stack.enter_context(torch.enable_grad())
            stack.enter_context(forward_ad._set_fwd_grad_enabled(True))
        stack.enter_context(torch._C._AutoDispatchBelowAutograd())
        yield


def is_functionalized() -> bool:
    """Whether the innermost transform of torch.func is `functionalize`."""
    return is_transformed() and is_innermost("Functionalize")


def is_innermost(name: str) -> bool:
    """Whether the innermost transform of torch.func, of which there are some, is of this type."""
    transform = torch._C._functorch.peek_interpreter_stack()
    return bool(transform.key() == getattr(torch._C._functorch.TransformType, name))


def check_transforms() -> None:
    """Raise ArgumentError where `functionalize` would meet a derivative of torch.func's."""
    kinds = [transform.key() for transform in torch._C._functorch.get_interpreter_stack() or ()]
    types = torch._C._functorch.TransformType
    if types.Functionalize in kinds[:-1] and kinds[-1] in (types.Grad, types.Jvp):
        raise ArgumentError(
            "torch.func.functionalize around derivatives of torch.func knows PyTorch's own "
            "operators only: take it within them, or leave it out (make_fx does not need it)"
        )


def unwrapped(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor that has the values, without what the transforms of torch.func wrap around it."""
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor


def is_mapped(tensor: torch.Tensor) -> bool:
    """Whether torch.vmap maps over an axis of the tensor."""
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        if torch._C._functorch.is_batchedtensor(tensor):
            return True
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return False


def with_mapped_first(
    parameters: Sequence[Parameter], tensors: Sequence[torch.Tensor], axes: Sequence[int | None]
) -> Tensors:
    """Arguments whose mapped axis, if they have one, is the first of the whole call's batch."""
    counts = [
        tensor.dim() - 1 - len(AXES[parameter.kind]) - (axis is not None)
        for parameter, tensor, axis in zip(parameters, tensors, axes, strict=True)
    ]
    batch = max(counts)
    return tuple(
        [
            tensor if axis is None else _first(tensor, axis, batch - count)
            for tensor, axis, count in zip(tensors, axes, counts, strict=True)
        ]
    )


def _first(tensor: torch.Tensor, axis: int, missing: int) -> torch.Tensor:
    """The tensor with one of its axes first, before axes that the batch has and it has not."""
    moved = tensor.movedim(axis, 0)
    return moved.reshape(len(moved), *(1,) * missing, *moved.shape[1:])


def whole(tensor: torch.Tensor, axis: int | None, count: int) -> torch.Tensor:
    """A tensor with its mapped axis first, repeated so many times if it has none."""
    return tensor.expand(count, *tensor.shape) if axis is None else tensor.movedim(axis, 0)


def in_turn(function: Callable[..., Tensors]) -> Callable[..., Tensors]:
    """What `torch.vmap` makes of the function, with a call for each entry."""

    def mapped(*tensors: torch.Tensor) -> Tensors:
        entries = [function(*entry) for entry in zip(*tensors, strict=True)]
        return tuple(torch.stack(parts) for parts in zip(*entries, strict=True))

    return mapped


def by_vmap(
    function: Callable[..., Sequence[torch.Tensor | None]],
    tensors: Sequence[torch.Tensor | None],
    vmap: Callable[..., Callable[..., Tensors]] = torch.vmap,
) -> tuple[torch.Tensor | None, ...]:
    """function(*tensors), whose results are tensors or None.

    Where PyTorch's older vmap maps the tensors, as for `is_grads_batched=True` and
    `torch.autograd.functional.jacobian(vectorize=True)`, the given one does instead: the older one
    has no rules for operators of others.
    """
    is_older = torch._C._functorch.is_legacy_batchedtensor
    for tensor in tensors:
        if tensor is not None and is_older(tensor):
            return _by_newer_vmap(function, tensors, vmap)
    return tuple(function(*tensors))


def _by_newer_vmap(
    function: Callable[..., Sequence[torch.Tensor | None]],
    tensors: Sequence[torch.Tensor | None],
    vmap: Callable[..., Callable[..., Tensors]],
) -> tuple[torch.Tensor | None, ...]:
    """function(*tensors), of which PyTorch's older vmap maps some."""
    is_older = torch._C._functorch.is_legacy_batchedtensor
    mapped = {n: t for n, t in enumerate(tensors) if t is not None and is_older(t)}
    level = torch._C._vmapmode_increment_nesting() - 1
    torch._C._vmapmode_decrement_nesting()
    present: list[int] = []
    count = 0

    def tensors_only(*entries: torch.Tensor) -> Tensors:
        nonlocal count
        given = list(tensors)
        for n, entry in zip(mapped, entries, strict=True):
            given[n] = entry
        results = function(*given)
        count, present[:] = len(results), [n for n, r in enumerate(results) if r is not None]
        return tuple(r for r in results if r is not None)

    # The size of what is mapped already is not asked for.
    plain = [torch._remove_batch_dim(t, level, 1, 0) for t in mapped.values()]
    parts = vmap(tensors_only)(*plain)
    results: list[torch.Tensor | None] = [None] * count
    for n, part in zip(present, parts, strict=True):
        results[n] = torch._add_batch_dim(part, 0, level)
    return tuple(results)
