"""A stand-in for the driver of a GPU: kernels are interpreted, and what they do is checked."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ptxsim import old as machine
from redcomp.runtime.driver import Device, DeviceError

_SPACING = 1 << 20  # unused bytes between two allocations, at least
_ALIGNMENT = 256  # of every allocation, as cuMemAlloc promises
_DEVICE_BITS = 40  # each device's memory has its own range of addresses


class Findings(AssertionError):
    """A kernel or a copy did what it must not: out of bounds, a race, an uninitialised read, ..."""


@dataclass(frozen=True, slots=True)
class Launch:
    """A launch that has been done."""

    kernel: str
    blocks: int
    threads: int


class StandIn:
    """The `Driver` protocol of `redcomp.runtime.driver`, without a GPU.

    Everything is done at once, so streams are in order.  What memory kernels may touch, which of it
    has been written, and races between threads are checked; findings raise `Findings`.
    """

    def __init__(
        self,
        devices: int = 1,
        capability: tuple[int, int] = (9, 0),
        processors: int = 4,
        resident: int = 2,
    ) -> None:
        self._devices = tuple(
            Device(number, "stand-in", capability, processors) for number in range(devices)
        )
        self._resident = resident
        self._memory: dict[int, dict[int, machine.Region]] = {d.number: {} for d in self._devices}
        self._freed: dict[int, dict[int, machine.Region]] = {d.number: {} for d in self._devices}
        self._next = {d.number: machine.GLOBAL0 + (d.number << _DEVICE_BITS) for d in self._devices}
        self._handles = itertools.count(1)
        self._modules: dict[int, tuple[Device, machine.Module]] = {}
        self._functions: dict[int, tuple[Device, machine.Module, str]] = {}
        self.launches: list[Launch] = []

    @property
    def version(self) -> str:
        """It assembles nothing, so its code never changes."""
        return "stand-in"

    def devices(self) -> Sequence[Device]:
        """All devices."""
        return self._devices

    def assemble(self, device: Device, ptx: str) -> bytes:
        """The text itself, after it has been parsed and the target has been checked."""
        try:
            module = machine.parse(ptx)
        except machine.PtxError as error:
            raise DeviceError(f"the assembler refused the code: {error}") from error
        target = module.target.rstrip("af")
        if not target.startswith("sm_") or int(target[3:]) > int(device.target[3:]):
            raise DeviceError(f"code for {module.target} does not run on {device.target}")
        return ptx.encode()

    def load(self, device: Device, code: bytes) -> int:
        """A module of code that `assemble` made."""
        handle = next(self._handles)
        self._modules[handle] = (device, machine.parse(code.decode()))
        return handle

    def function(self, device: Device, module: int, name: str) -> int:
        """A kernel of a module."""
        owner, code = self._modules[module]
        if owner != device:
            raise DeviceError("the module was loaded on another device")
        if name not in code.kernels:
            raise DeviceError(f"the module has no kernel '{name}'")
        handle = next(self._handles)
        self._functions[handle] = (device, code, name)
        return handle

    def resident_blocks(self, device: Device, function: int, threads: int) -> int:
        """A number chosen when the stand-in was made."""
        self._kernel(device, function)
        return self._resident

    def allocate(self, device: Device, size: int) -> int:
        """The address of memory that counts as never written."""
        if size <= 0:
            raise DeviceError(f"an allocation of {size} bytes")
        address = self._next[device.number]
        region = machine.Region("global", f"allocation at {address:#x}", address, size)
        region.init = np.zeros(len(region.data), bool)
        step = size + _SPACING + _ALIGNMENT
        self._next[device.number] += step // _ALIGNMENT * _ALIGNMENT
        self._memory[device.number][address] = region
        return address

    def release(self, device: Device, address: int) -> None:
        """Give memory back; its addresses are never used again."""
        region = self._memory[device.number].pop(address, None)
        if region is None:
            freed = address in self._freed[device.number]
            raise Findings(
                f"release of {address:#x}: " + ("released before" if freed else "never allocated")
            )
        self._freed[device.number][address] = region

    def copy_in(self, device: Device, target: int, source: int, size: int, stream: int) -> None:
        """Copy from the host."""
        if size:
            region, at = self._region(device, target, size, "copy to the device")
            ctypes.memmove(region.data.ctypes.data + at, source, size)
            region.init[at : at + size] = True

    def copy_out(self, device: Device, target: int, source: int, size: int, stream: int) -> None:
        """Copy to the host; bytes that nothing has written are a finding."""
        if size:
            region, at = self._region(device, source, size, "copy to the host")
            unwritten = np.flatnonzero(~region.init[at : at + size])
            if unwritten.size:
                raise Findings(
                    f"copy to the host of {size} bytes of {region.name}: {unwritten.size} bytes were "
                    f"never written, the first at {at + int(unwritten[0])}"
                )
            ctypes.memmove(target, region.data.ctypes.data + at, size)

    def launch(
        self,
        device: Device,
        function: int,
        blocks: int,
        threads: int,
        stream: int,
        words: ctypes.Array[ctypes.c_int64],
    ) -> None:
        """Interpret a kernel; whatever its checks find is raised as `Findings`."""
        code, name = self._kernel(device, function)
        self.launches.append(Launch(name, blocks, threads))
        parameters: list[Any] = code.kernels[name].params
        if len(words) != len(parameters):
            raise Findings(f"{name} takes {len(parameters)} parameters, got {len(words)}")
        if any(machine.TYPES[p.type].itemsize != 8 or p.array for p in parameters):
            raise Findings(f"{name} has parameters of other sizes than 8 bytes")
        try:
            result = code.launch(
                name,
                blocks,
                threads,
                list(words),
                buffers=list(self._memory[device.number].values()),
                freed=list(self._freed[device.number].values()),
            )
        except machine.PtxError as error:
            raise Findings(f"{name} with {blocks} blocks of {threads} threads: {error}") from error
        if result.reports:
            raise Findings("\n".join([f"{name}:", *map(str, result.reports)]))

    def leaks(self) -> list[str]:
        """The allocations that have not been released."""
        return [
            f"device {number}: {region.size} bytes at {address:#x}"
            for number, regions in self._memory.items()
            for address, region in regions.items()
        ]

    def _kernel(self, device: Device, function: int) -> tuple[machine.Module, str]:
        owner, code, name = self._functions[function]
        if owner != device:
            raise DeviceError("the kernel was loaded on another device")
        return code, name

    def _region(
        self, device: Device, address: int, size: int, what: str
    ) -> tuple[machine.Region, int]:
        """The allocation with these bytes, and where in it they are."""
        for region in self._memory[device.number].values():
            if region.base <= address and address + size <= region.base + region.size:
                return region, address - region.base
        freed = any(
            region.base <= address < region.base + region.size
            for region in self._freed[device.number].values()
        )
        why = "that memory has been released" if freed else "no allocation holds all of them"
        raise Findings(f"{what} of {size} bytes at {address:#x}: {why}")
