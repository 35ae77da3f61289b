"""Which tensors have values in memory that machine code can read, and errors for all others.

A call describes its arguments anyway, and a kernel's addresses are at hand anyway: so what a warm
call pays is a look at whether PyTorch records operators.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence

import torch
from torch.fx import _symbolic_trace

from redcomp.errors import ArgumentError
from redcomp.frontend.reductions.calls import check_count
from redcomp.frontend.reductions.pair_reduction import PairReduction

# What is known of a tensor before its values are: class, shape, dtype and device.
Description = tuple[type, torch.Size, torch.dtype, torch.device]

_PLAIN = (torch.Tensor, torch.nn.Parameter)
_MODES = torch._C._TorchDispatchModeKey
_tracing_state, _count_modes = torch._C._get_tracing_state, torch._C._len_torch_dispatch_stack


def describe(reduction: PairReduction, args: Sequence[torch.Tensor]) -> tuple[Description, ...]:
    """The arguments' descriptions; raises ArgumentError for what is no tensor or has no shape."""
    try:
        return tuple([(type(t), t.shape, t.dtype, t.device) for t in args])
    except (AttributeError, RuntimeError) as error:
        check_count(reduction, len(args))
        for parameter, argument in zip(reduction.parameters, args, strict=True):
            name = f"argument {parameter.name!r}"
            _check_class(name, type(argument))
            _check_shape(name, argument)
        raise ArgumentError(f"an argument has no shape: {error}") from None


def check_described(reduction: PairReduction, described: Sequence[Description]) -> None:
    """Raise ArgumentError unless there is a tensor with memory of its own for each variable."""
    check_count(reduction, len(described))
    for parameter, (kind, *_) in zip(reduction.parameters, described, strict=True):
        _check_class(f"argument {parameter.name!r}", kind)


def check_plain(name: str, tensor: torch.Tensor) -> None:
    """Raise ArgumentError unless a tensor that errors call by this name has values in memory."""
    _check_class(name, type(tensor))
    _check_shape(name, tensor)
    if tensor.layout != torch.strided:
        raise ArgumentError(
            f"{name} has layout {tensor.layout}; expected a dense tensor: use .to_dense()"
        )
    tensor = torch._C._functorch.unwrap_if_dead(tensor)
    is_wrapped = torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    if is_wrapped and torch._C._are_functorch_transforms_active():
        return
    if not torch._C._has_storage(tensor) or is_cut_off(tensor):
        raise ArgumentError(f"{name} has no memory for its values, or less than they take")
    if tensor.device.type == "meta":
        raise ArgumentError(f"{name} is on {tensor.device}, where it has no values")


def check_arguments(reduction: PairReduction, args: Sequence[torch.Tensor]) -> None:
    """Raise ArgumentError unless PyTorch can compute with the arguments' values."""
    check_nothing_records()
    for parameter, arg in zip(reduction.parameters, args, strict=True):
        check_plain(f"argument {parameter.name!r}", arg)


def in_memory(
    reduction: PairReduction, tensors: Sequence[torch.Tensor], integers: Mapping[int, torch.dtype]
) -> tuple[list[torch.Tensor], list[int]]:
    """Arguments as machine code reads them, and where these are; raises ArgumentError.

    integers  the dtypes that some arguments get, by position
    """
    packed = []
    try:
        for t in tensors:
            # All that is asked of most tensors: each call pays for it.
            is_plain = t.is_contiguous() and not (t.is_neg() or t.storage_offset())
            is_whole = is_plain and t.untyped_storage().nbytes() >= t.nbytes
            packed.append(t if is_whole else _packed(t))
        for n, dtype in integers.items():
            packed[n] = packed[n].to(dtype)
        addresses = [t.data_ptr() for t in packed]
    except RuntimeError:
        _check_memory(reduction, tensors)
        raise
    if 0 in addresses:
        # PyTorch's zeros among derivatives have no memory.
        packed = [t.clone() if t._is_zerotensor() else t for t in packed]
        _check_memory(reduction, packed)
        addresses = [t.data_ptr() for t in packed]
    return packed, addresses


def check_results(results: Sequence[torch.Tensor]) -> None:
    """Raise ArgumentError unless a kernel's results are in memory."""
    for tensor in results:
        _check_address("what PyTorch gives for a result", tensor)


def _packed(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor as machine code reads it.

    Raises RuntimeError for one that is cut off, which PyTorch would read all the same.
    """
    if is_cut_off(tensor):
        raise RuntimeError("a tensor's storage is shorter than its values")
    return tensor.resolve_neg().contiguous()


def _check_memory(reduction: PairReduction, tensors: Sequence[torch.Tensor]) -> None:
    """Raise ArgumentError unless a kernel's arguments are in memory."""
    for parameter, tensor in zip(reduction.parameters, tensors, strict=True):
        _check_address(f"argument {parameter.name!r}", tensor)


def _check_address(name: str, tensor: torch.Tensor) -> None:
    check_plain(name, tensor)
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor) or not (
        tensor.data_ptr() or _bytes(tensor) == 0
    ):
        raise ArgumentError(f"{name} has no memory: it stands for a tensor without values")


def is_cut_off(tensor: torch.Tensor) -> bool:
    """Whether a dense tensor's storage ends before its values do: somebody has shortened it."""
    return _bytes(tensor) > tensor.untyped_storage().nbytes()


def check_nothing_records() -> None:
    """Raise ArgumentError where PyTorch records operators: a kernel is none of them.

    A trace would compute without it, and a mode may give out tensors without values.
    """
    if _tracing_state() is not None:
        raise _recorded("torch.jit.trace")
    if _count_modes() or _symbolic_trace._is_fx_tracing_flag:
        for key in (_MODES.FAKE, _MODES.PROXY, _MODES.FUNCTIONAL):
            before = torch._ops._get_dispatch_mode_pre_dispatch
            mode: object = torch._C._get_dispatch_mode(key)
            if mode is None and key != _MODES.FAKE:
                mode = before(key)  # type: ignore[no-untyped-call]  # PyTorch has no types for it
            if mode is not None:
                raise _recorded(type(mode).__name__)


def _recorded(what: str) -> ArgumentError:
    return ArgumentError(
        f"{what} knows PyTorch's operators only, so a reduction of redcomp cannot be computed "
        "under it: call it before or after (torch.compile does that by itself)"
    )


def _check_class(name: str, kind: type) -> None:
    if kind in _PLAIN:
        return
    if not issubclass(kind, torch.Tensor):
        raise ArgumentError(f"{name} must be a tensor, not a {kind.__name__}")
    # Such a class decides itself what its values are.
    if kind.__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        raise ArgumentError(
            f"{name} is a {kind.__name__}, which has no values in memory of its own: give a plain "
            "tensor"
        )


def _check_shape(name: str, tensor: torch.Tensor) -> None:
    if tensor.is_nested:
        raise ArgumentError(
            f"{name} is a nested tensor: pad it with .to_padded_tensor(), or give one tensor and "
            "`ranges`"
        )
    if torch.nn.parameter.is_lazy(tensor):
        raise ArgumentError(f"{name} has no shape: it has not been initialized")


def _bytes(tensor: torch.Tensor) -> int:
    """How long a storage must be for all entries of a tensor."""
    if not tensor.numel() or tensor._is_zerotensor():
        return 0
    strides = tensor.stride()
    last = tensor.storage_offset() + sum(map(operator.mul, tensor.shape, strides)) - sum(strides)
    return int(last + 1) * tensor.element_size()
