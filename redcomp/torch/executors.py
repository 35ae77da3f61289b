"""Where a call on tensors runs: on the device that they are on, unless a backend says otherwise."""

from __future__ import annotations

import collections
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

from redcomp.errors import ArgumentError
from redcomp.frontend.reductions.backends import ANY_DEVICE, copies_on_gpu, find_device, wants_gpu
from redcomp.frontend.reductions.pair_reduction import PairReduction
from redcomp.frontend.reductions.ranges import Ranges
from redcomp.records import record
from redcomp.runtime.device import Device, DeviceError, Driver
from redcomp.runtime.driver import driver
from redcomp.runtime.gpu import Copies, Queue
from redcomp.torch.mapped import is_mapped, unwrapped
from redcomp.torch.memory import is_cut_off

# Copies of the latest ranges on GPUs, so that a loop over the same ones waits for nothing.
_KEPT = 8


@record
class CudaTensors:
    """A GPU that has the tensors; work is queued on the stream that is PyTorch's at the time."""

    driver: Driver
    device: Device
    torch_device: torch.device

    def queue(self) -> Queue:
        """PyTorch's current stream on the device, with PyTorch's memory for temporaries."""
        # What torch.cuda.current_stream wraps in an object; PyTorch's own kernels are queued so.
        stream: int = torch._C._cuda_getCurrentRawStream(self.device.number)
        return Queue(self.driver, self.device, stream, self._allocate, self._is_recorded)

    def _allocate(self, size: int) -> tuple[int, torch.Tensor]:
        # What a tensor leaves is reused in the order of the stream on which it was made.
        memory = torch.empty(size, dtype=torch.uint8, device=self.torch_device)
        return memory.data_ptr(), memory

    def _is_recorded(self) -> bool:
        # What stands in for a GPU records nothing.
        if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # PyTorch has no types for it
            return False
        with torch.cuda.device(self.torch_device):
            return bool(torch.cuda.is_current_stream_capturing())


Executor = CudaTensors | Copies | None
Tensors = tuple[torch.Tensor, ...]
# The pairs of a call: all of them, those of some ranges, or of ranges that are to be checked.
Visited = Ranges | Tensors | None


class Asked(NamedTuple):
    """What a call asks for, where it is not known yet what runs it: its options of that name."""

    backend: str
    device_id: int


def asked_of(executor: Executor | Asked) -> Asked:
    """Options that ask for the executor."""
    match executor:
        case Asked():
            return executor
        case None:
            return Asked("auto", ANY_DEVICE)
        case CudaTensors():
            return Asked("auto", executor.device.number)
    return Asked("GPU", executor.device.number)


def tensors_of(ranges: Visited) -> list[torch.Tensor]:
    """The six tensors of ranges, or none."""
    if isinstance(ranges, Ranges):
        return [torch.from_numpy(array.copy()) for array in ranges.arrays]
    return list(ranges or ())


def check_one_device(reduction: PairReduction, devices: Sequence[torch.device]) -> None:
    """Raise ArgumentError unless all arguments are on the same device."""
    first = reduction.parameters[0].name
    for device, parameter in zip(devices, reduction.parameters, strict=True):
        if device != devices[0]:
            raise ArgumentError(
                f"argument {parameter.name!r} is on {device}, but {first!r} is on {devices[0]}: "
                f"all arguments must be on the same device: move {parameter.name} with "
                f".to({str(devices[0])!r})"
            )


def executor_of(
    reduction: PairReduction, devices: Sequence[torch.device], backend: str, device_id: int
) -> Executor:
    """Where a call runs whose arguments are on these devices, which are one.

    Raises ArgumentError, and DeviceError if the GPU cannot be used.
    """
    is_gpu_wanted = wants_gpu(backend)
    device, first = devices[0], reduction.parameters[0].name
    if device.type == "cpu":
        return copies_on_gpu(backend, device_id) if is_gpu_wanted else None
    if device.type != "cuda":
        raise ArgumentError(
            f"argument {first!r} is on {device}: redcomp computes on CPUs and on NVIDIA GPUs"
        )
    if backend == "CPU":
        raise ArgumentError(
            f"argument {first!r} is on {device}, but backend='CPU' computes on the host: move the "
            "arguments there with .cpu(), or use backend='auto'"
        )
    if device_id not in (ANY_DEVICE, device.index):
        raise ArgumentError(f"argument {first!r} is on {device}, but device_id is {device_id!r}")
    try:
        found = driver()
    except DeviceError as error:
        raise DeviceError(f"argument {first!r} is on {device}: {error}") from None
    return CudaTensors(found, find_device(found, device.index), device)


class _Moved:
    """Tensors and their copies on the host, which count for as long as nobody writes to those."""

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        self._originals = [(weakref.ref(t), t._version) for t in tensors]
        self.copies = tuple(t.cpu() for t in tensors)

    def is_of(self, tensors: Sequence[torch.Tensor]) -> bool:
        return len(tensors) == len(self._originals) and all(
            reference() is tensor and version == tensor._version
            for tensor, (reference, version) in zip(tensors, self._originals, strict=True)
        )


_moved: collections.deque[_Moved] = collections.deque(maxlen=_KEPT)


def on_host(ranges: Sequence[Any] | None) -> Sequence[Any] | None:
    """`ranges` where NumPy can read them: tables of tasks are made from them on the host."""
    if not isinstance(ranges, (tuple, list)) or not all(
        isinstance(array, torch.Tensor) for array in ranges
    ):
        return ranges
    if torch._C._are_functorch_transforms_active():
        if any(is_mapped(tensor) for tensor in ranges):
            raise ArgumentError("ranges cannot be mapped by vmap: all entries have the same ones")
        with temporarily_clear_interpreter_stack():  # it would wrap what NumPy is to read
            return [unwrapped(tensor).cpu().numpy() for tensor in ranges]
    if all(tensor.device.type == "cpu" for tensor in ranges):
        for n, tensor in enumerate(ranges):
            if tensor.layout == torch.strided and is_cut_off(tensor):
                raise ArgumentError(f"ranges[{n}] has less memory than its values take")
        return ranges
    for n, tensor in enumerate(ranges):
        if tensor.device.type not in ("cpu", "cuda"):
            raise ArgumentError(f"ranges[{n}] is on {tensor.device}, where it cannot be read")
    if any(tensor.is_inference() for tensor in ranges):  # these do not tell when they change
        return tuple(tensor.cpu() for tensor in ranges)
    for known in tuple(_moved):
        if known.is_of(ranges):
            return known.copies
    _moved.append(made := _Moved(ranges))
    return made.copies
