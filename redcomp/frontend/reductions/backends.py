"""The names of backends, and the GPUs that they ask for."""

from __future__ import annotations

import functools
import warnings

from redcomp import arguments, config
from redcomp.errors import ArgumentError, FallbackWarning
from redcomp.ptx.targets import CAPABILITIES
from redcomp.runtime.device import Device, DeviceError, Driver
from redcomp.runtime.driver import driver, given_driver
from redcomp.runtime.gpu import Copies

HOST_BACKENDS = ("auto", "CPU")
# One scheme serves them all, and arrays are copied where they are not on the GPU.
GPU_BACKENDS = (
    "GPU",
    "GPU_1D",
    "GPU_1D_device",
    "GPU_1D_host",
    "GPU_2D",
    "GPU_2D_device",
    "GPU_2D_host",
)
ANY_DEVICE = -1
OLDEST = divmod(CAPABILITIES[0].number, 10)  # compute capability that there is code for


def wants_gpu(backend: object) -> bool:
    """Whether a backend's name asks for a GPU; raises ArgumentError if there is no such backend."""
    if type(backend) is str and backend in HOST_BACKENDS:
        return False
    return arguments.one_of("backend", backend, HOST_BACKENDS + GPU_BACKENDS) in GPU_BACKENDS


def falls_back() -> bool:
    """Whether a call that asks for a GPU runs on the host instead, which a process warns of once.

    So it is where there is no GPU and the setting REDCOMP_GPU_FALLBACK is 1.
    """
    if not config.gpu_fallback() or (reason := _missing_gpu(given_driver())) is None:
        return False
    _warn_of_fallback(reason)
    return True


@functools.lru_cache(maxsize=8)  # a process looks for GPUs once: without one that takes time
def _missing_gpu(_: Driver | None) -> str | None:
    """Why there is no GPU in the driver that was given, or in NVIDIA's; None if there is one."""
    try:
        return None if driver().devices() else "the driver reports no device"
    except DeviceError as error:
        return str(error)


@functools.cache
def _warn_of_fallback(reason: str) -> None:
    message = f"calls for a GPU run on the host, as REDCOMP_GPU_FALLBACK=1 asks for: {reason}"
    warnings.warn(message, FallbackWarning, stacklevel=2)


def device_number(device_id: object) -> int:
    """A call's `device_id`; raises ArgumentError unless it is an integer."""
    return device_id if type(device_id) is int else arguments.integer("device_id", device_id)


def find_device(driver: Driver, device_id: int) -> Device:
    """The device of that number.

    Raises ArgumentError if there is none, and DeviceError if it is too old.
    """
    devices = driver.devices()
    if device_id in range(len(devices)):
        device = devices[device_id]
        if device.capability >= OLDEST:
            return device
        raise DeviceError(
            f"GPU {device.number}, {device.name}, has compute capability "
            f"{device.capability[0]}.{device.capability[1]}; redcomp needs {OLDEST[0]}.{OLDEST[1]}"
        )
    raise ArgumentError(
        f"device_id must be a number below {len(devices)}, the GPUs of this machine, or "
        f"{ANY_DEVICE}; it is {device_id!r}"
    )


def copies_on_gpu(backend: str, device_id: int) -> Copies:
    """The GPU that computes with copies of the host's arrays, the first one by default.

    Raises DeviceError if there is none, and ArgumentError if there is none of that number.
    """
    try:
        found = driver()
    except DeviceError as error:
        hint = "with REDCOMP_GPU_FALLBACK=1 the call runs on the host"
        raise DeviceError(f"backend={backend!r}: {error}; {hint}") from None
    return Copies(found, find_device(found, 0 if device_id == ANY_DEVICE else device_id))
