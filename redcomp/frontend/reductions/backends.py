"""The names of backends, and the GPUs that they ask for."""

from __future__ import annotations

from redcomp import arguments
from redcomp.errors import ArgumentError
from redcomp.ptx.targets import CAPABILITIES
from redcomp.runtime.device import Device, DeviceError, Driver
from redcomp.runtime.driver import driver
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
        raise DeviceError(f"backend={backend!r}: {error}") from None
    return Copies(found, find_device(found, 0 if device_id == ANY_DEVICE else device_id))
