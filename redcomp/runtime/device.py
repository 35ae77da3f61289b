"""What the runtime needs of GPUs: devices, their errors, and the narrow class that is a driver."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Protocol

from redcomp.errors import RedcompError
from redcomp.records import record


class DeviceError(RedcompError, RuntimeError):
    """No GPU where one was asked for, or the driver reported a failure."""


@record
class Device:
    """A GPU: its number, name, compute capability (9, 0), and number of multiprocessors."""

    number: int
    name: str
    capability: tuple[int, int]
    processors: int

    @property
    def target(self) -> str:
        """The name of the target that code for it is compiled for."""
        return f"sm_{self.capability[0]}{self.capability[1]}"


class Driver(Protocol):
    """Devices, modules, memory, copies, streams, launches.  Failures raise DeviceError.

    Addresses, streams and handles are integers; stream 0 is the device's default stream.
    """

    def __hash__(self) -> int:
        """A driver is a key for what has been made for it."""

    @property
    def version(self) -> str:
        """Names the driver's release, which the machine code that it assembles depends on."""

    def devices(self) -> Sequence[Device]:
        """All GPUs of the machine."""

    def assemble(self, device: Device, ptx: str) -> bytes:
        """Machine code for a device; an error has the assembler's log."""

    def load(self, device: Device, code: bytes) -> int:
        """A module of machine code, loaded into the device's primary context."""

    def unload(self, device: Device, module: int) -> None:
        """Give a module's memory back when all work queued so far is done with it."""

    def function(self, device: Device, module: int, name: str) -> int:
        """A kernel of a module."""

    def resident_blocks(self, device: Device, function: int, threads: int) -> int:
        """Blocks of so many threads that a multiprocessor can hold at a time."""

    def allocate(self, device: Device, size: int) -> int:
        """The address of `size` bytes of the device's memory."""

    def release(self, device: Device, address: int) -> None:
        """Give memory back when all work queued so far is done with it."""

    def copy_in(self, device: Device, target: int, source: int, size: int, stream: int) -> None:
        """Copy from the host; the source may change as soon as this returns."""

    def copy_out(self, device: Device, target: int, source: int, size: int, stream: int) -> None:
        """Copy to the host, and wait until it is there."""

    def launch(
        self,
        device: Device,
        function: int,
        blocks: int,
        threads: int,
        stream: int,
        words: ctypes.Array[ctypes.c_int64],
    ) -> None:
        """Queue a kernel whose parameters are the words, each of 8 bytes."""
