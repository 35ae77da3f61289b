"""Which tensors have values in memory that machine code can read, and errors for all others.

A call describes its arguments anyway, and a kernel's addresses are at hand anyway: so what a warm
call pays is a look at whether PyTorch records operators.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.fx import _symbolic_trace

from redcomp.errors import ArgumentError
from redcomp.frontend.reductions.calls import check_count
from redcomp.frontend.reductions.pair_reduction import PairReduction
from redcomp.torch.mapped import is_active, is_within_transform

# What is known of a tensor before its values are: class, shape, dtype and device.
Description = tuple[type, torch.Size, torch.dtype, torch.device]

_PLAIN = (torch.Tensor, torch.nn.Parameter)
_MODES = torch._C._TorchDispatchModeKey
_tracing_state = torch._C._get_tracing_state
count_modes: Callable[[], int] = torch._C._len_torch_dispatch_stack


def describe(reduction: PairReduction, args: Sequence[torch.Tensor]) -> tuple[Description, ...]:
    """The arguments' descriptions; raises ArgumentError for what is no tensor or has no shape."""
    try:
        return tuple([(type(t), t.shape, t.dtype, t.device) for t in args])
    except (AttributeError, RuntimeError) as error:
        check_count(reduction, args)
        for parameter, argument in zip(reduction.parameters, args, strict=True):
            name = f"argument {parameter.name!r}"
            _check_tensor(name, type(argument))
            _check_shape(name, argument)
        raise ArgumentError(f"an argument has no shape: {error}") from None


def check_described(reduction: PairReduction, described: Sequence[Description]) -> None:
    """Raise ArgumentError unless there is a tensor for each variable."""
    check_count(reduction, described)
    for parameter, (kind, *_) in zip(reduction.parameters, described, strict=True):
        _check_tensor(f"argument {parameter.name!r}", kind)


def check_plain(name: str, tensor: torch.Tensor) -> None:
    """Raise ArgumentError unless a tensor that errors call by this name has values in memory."""
    _check_class(name, type(tensor))
    check_dense(name, tensor)
    tensor = torch._C._functorch.unwrap_if_dead(tensor)
    is_wrapped = torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    if is_wrapped and torch._C._are_functorch_transforms_active():
        return
    if not torch._C._has_storage(tensor) or is_cut_off(tensor):
        raise ArgumentError(f"{name} has no memory for its values, or less than they take")
    if tensor.device.type == "meta":
        raise ArgumentError(f"{name} is on {tensor.device}, where it has no values")


def check_readable(name: str, tensor: torch.Tensor) -> None:
    """Raise ArgumentError unless PyTorch can compute with a tensor's values."""
    if is_traced((tensor,)):  # its sizes may be symbols, which comparing would make numbers
        check_dense(name, tensor)
        return
    try:
        is_whole = not is_cut_off(tensor)
    except RuntimeError:
        is_whole = False
    if not is_whole:
        check_plain(name, tensor)


def check_dense(name: str, tensor: torch.Tensor) -> None:
    """Raise ArgumentError unless a tensor has a shape, and all of its values."""
    _check_shape(name, tensor)
    if tensor.layout != torch.strided:
        raise ArgumentError(
            f"{name} has layout {tensor.layout}; expected a dense tensor: use .to_dense()"
        )


def check_arguments(reduction: PairReduction, args: Sequence[torch.Tensor]) -> None:
    """Raise ArgumentError unless PyTorch can compute with the arguments' values."""
    check = check_dense if is_traced(args) else check_plain
    for parameter, arg in zip(reduction.parameters, args, strict=True):
        check(f"argument {parameter.name!r}", arg)


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
        tensor.data_ptr() or bytes_of(tensor) == 0
    ):
        raise ArgumentError(f"{name} has no memory: it stands for a tensor without values")


def is_cut_off(tensor: torch.Tensor) -> bool:
    """Whether a dense tensor's storage ends before its values do: somebody has shortened it."""
    return bytes_of(tensor) > tensor.untyped_storage().nbytes()


def is_traced(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether somebody looks at operators instead of values, so that a kernel has to be one.

    A trace would go on without what is no operator, modes want to see it or give out tensors
    without values, and some tensors decide themselves what an operator does with them.
    """
    if count_modes() or _tracing_state() is not None or _symbolic_trace._is_fx_tracing_flag:
        return True
    if is_active() and is_within_transform():
        return True
    for tensor in tensors:
        if type(tensor) not in _PLAIN and decides_itself(type(tensor)):
            return True
    return bool(tensors) and tensors[0].is_meta


def called_as_operator(operator: Any, *args: Any) -> Any:
    """operator(*args); raises ArgumentError where a class of tensors does not take it."""
    try:
        return operator(*args)
    except (AssertionError, NotImplementedError, TypeError) as error:
        tensors = [t for arg in args for t in (arg if isinstance(arg, list) else [arg])]
        kinds = {type(t) for t in tensors if isinstance(t, torch.Tensor)}
        listed = " and a ".join(sorted(kind.__name__ for kind in kinds if decides_itself(kind)))
        if not listed:
            raise
        raise ArgumentError(
            f"a {listed} decides itself what an operator does with it, and refuses {operator}: "
            f"{error}"
        ) from None


def check_untraced(what: str, tensors: Sequence[torch.Tensor] = ()) -> None:
    """Raise ArgumentError where operators are traced: what is done here depends on values."""
    if is_traced(tensors):
        raise ArgumentError(
            f"{what} depends on values, so it cannot be traced (by make_fx, torch.jit.trace, "
            "FakeTensorMode or the like): call it before or after"
        )


def decides_itself(kind: type) -> bool:
    """Whether tensors of a class are asked what an operator does with them."""
    asked: object = getattr(kind, "__torch_dispatch__", None)
    return asked is not torch.Tensor.__torch_dispatch__


def _check_tensor(name: str, kind: type) -> None:
    if kind not in _PLAIN and not issubclass(kind, torch.Tensor):
        raise ArgumentError(f"{name} must be a tensor, not a {kind.__name__}")


def _check_class(name: str, kind: type) -> None:
    if kind in _PLAIN:
        return
    _check_tensor(name, kind)
    if decides_itself(kind):
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


def bytes_of(tensor: torch.Tensor) -> int:
    """How long a storage must be for all entries of a tensor."""
    if not tensor.numel() or tensor._is_zerotensor():
        return 0
    strides = tensor.stride()
    last = tensor.storage_offset() + sum(map(operator.mul, tensor.shape, strides)) - sum(strides)
    return int(last + 1) * tensor.element_size()
