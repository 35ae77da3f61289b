"""A stand-in for the driver of a GPU: kernels are interpreted, and what they do is checked."""

from __future__ import annotations

import ctypes
import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ptxsim.banks import Banks
from ptxsim.errors import PtxError, Report
from ptxsim.execute import execute
from ptxsim.memory import DeviceMemory, Region, write_bytes
from ptxsim.parser import parse
from ptxsim.scalars import GLOBAL_START, TYPES
from ptxsim.syntax import Module
from redcomp.runtime.device import Device, DeviceError

_DEVICE_BITS = 40  # each device's memory has its own range of addresses

# Modules are not changed by execution.  A parsed one takes a hundred times its text's memory, so
# the latest are kept only.
_parse = functools.lru_cache(maxsize=32)(parse)


class Findings(AssertionError):  # noqa: N818 - a failure of the test, whose name says what it has
    """A kernel or a copy did what it must not: out of bounds, a race, an uninitialised read, ...

    `reports` are the findings of a kernel that could go on; where it could not, there are none.
    """

    def __init__(self, message: str, reports: Sequence[Report] = ()) -> None:
        super().__init__(message)
        self.reports = tuple(reports)


@dataclass(frozen=True, slots=True)
class Launch:
    """A launch that has been done."""

    kernel: str
    blocks: int
    threads: int


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A module on a device, with the addresses of its variables."""

    device: Device
    code: str
    stored: dict[str, int] = field(default_factory=dict)

    @property
    def module(self) -> Module:
        return _parse(self.code)


class StandIn:
    """The `Driver` protocol of `redcomp.runtime.device`, without a GPU.

    Everything is done at once, so streams are in order.  What memory kernels touch, whether it has
    been written, and whether threads race is checked; findings raise `Findings`.  `launches` are
    those done so far.
    """

    def __init__(
        self,
        devices: int = 1,
        capability: tuple[int, int] = (9, 0),
        processors: int = 4,
        resident: int = 2,
    ) -> None:
        """`resident` is how many blocks fit into a multiprocessor, whatever the kernel."""
        self._devices = tuple(
            Device(number, "stand-in", capability, processors) for number in range(devices)
        )
        self._resident = resident
        self._memory = {
            device.number: DeviceMemory(GLOBAL_START + (device.number << _DEVICE_BITS))
            for device in self._devices
        }
        self._handles = itertools.count(1)
        self._modules: dict[int, _Loaded] = {}
        self._functions: dict[int, tuple[_Loaded, str]] = {}
        self._of_modules: set[int] = set()  # addresses of variables, which stay
        self.launches: list[Launch] = []
        self.banks: Banks | None = None  # counts the conflicts of all launches, if there is one

    @property
    def version(self) -> str:
        """It assembles nothing, so its code never changes."""
        return "stand-in"

    def devices(self) -> Sequence[Device]:
        """All devices."""
        return self._devices

    def assemble(self, device: Device, ptx: str) -> bytes:
        """The text itself, once it has been parsed and the target has been checked."""
        try:
            module = _parse(ptx)
        except PtxError as error:
            raise DeviceError(f"the assembler refused the code: {error}") from error
        target = module.target.rstrip(",af").removeprefix("sm_")
        if not target.isdigit() or int(target) > int(device.target.removeprefix("sm_")):
            raise DeviceError(f"code for {module.target} does not run on {device.target}")
        return ptx.encode()

    def load(self, device: Device, code: bytes) -> int:
        """A module of code that `assemble` made; its variables get memory."""
        loaded = _Loaded(device, code.decode())
        for variable in loaded.module.stored_variables:
            memory = self._memory[device.number]
            region = memory.allocate(variable.size, variable.name, space=variable.space)
            data = np.frombuffer(variable.data.ljust(variable.size, b"\0"), np.uint8)
            write_bytes(region, 0, data.ctypes.data, variable.size)
            loaded.stored[variable.name] = region.base
            self._of_modules.add(region.base)
        handle = next(self._handles)
        self._modules[handle] = loaded
        return handle

    def unload(self, device: Device, module: int) -> None:
        """Forget a module; its kernels can be launched no more."""
        loaded = self._modules.pop(module)
        for base in loaded.stored.values():
            self._of_modules.remove(base)
            self.release(device, base)
        self._functions = {
            handle: found for handle, found in self._functions.items() if found[0] is not loaded
        }

    def function(self, device: Device, module: int, name: str) -> int:
        """A kernel of a module."""
        loaded = self._modules[module]
        if loaded.device != device:
            raise DeviceError("the module was loaded on another device")
        if name not in loaded.module.kernels:
            raise DeviceError(f"the module has no kernel '{name}'")
        handle = next(self._handles)
        self._functions[handle] = loaded, name
        return handle

    def resident_blocks(self, device: Device, function: int, threads: int) -> int:
        """A number chosen when the stand-in was made."""
        self._kernel(device, function)
        return self._resident

    def allocate(self, device: Device, size: int) -> int:
        """The address of memory that counts as never written."""
        if size <= 0:
            raise DeviceError(f"an allocation of {size} bytes")
        return self._memory[device.number].allocate(size).base

    def release(self, device: Device, address: int) -> None:
        """Give memory back; its addresses are never used again."""
        memory = self._memory[device.number]
        if address in self._of_modules or not memory.release(address):
            why = "released before" if address in memory.freed else "not what allocate gave"
            raise Findings(f"release of {address:#x}: {why}")

    def copy_in(self, device: Device, target: int, source: int, size: int, stream: int) -> None:
        """Copy from the host."""
        if size:
            region = self._region(device, target, size, "to the device")
            write_bytes(region, target - region.base, source, size)

    def copy_out(self, device: Device, target: int, source: int, size: int, stream: int) -> None:
        """Copy to the host; bytes that nothing has written are a finding."""
        if not size:
            return
        region = self._region(device, source, size, "to the host")
        start = source - region.base
        if region.written is not None and not region.written[start : start + size].all():
            first = start + int(region.written[start : start + size].argmin())
            raise Findings(
                f"copy of {size} bytes to the host: nothing has written {region.place(first)} "
                f"({region.size} bytes)"
            )
        ctypes.memmove(target, region.data.ctypes.data + start, size)

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
        loaded, name = self._kernel(device, function)
        launch = Launch(name, blocks, threads)
        self.launches.append(launch)
        if any(TYPES[p.type].itemsize != 8 for p in loaded.module.kernels[name].parameters):
            raise Findings(f"{name} has parameters of other sizes than 8 bytes")
        memory = self._memory[device.number]
        try:
            result = execute(
                loaded.module,
                name,
                blocks,
                threads,
                list(words),
                memory,
                loaded.stored,
                banks=self.banks,
            )
        except PtxError as error:
            raise Findings(f"{launch}: {error}") from error
        if result.reports:
            message = "\n".join([f"{launch}:", *map(str, result.reports)])
            raise Findings(message, result.reports)

    def leaks(self) -> list[str]:
        """The allocations that have not been released."""
        return [
            f"device {number}: {region.name}, {region.size} bytes at {address:#x}"
            for number, memory in self._memory.items()
            for address, region in memory.regions.items()
            if address not in self._of_modules
        ]

    def _kernel(self, device: Device, function: int) -> tuple[_Loaded, str]:
        loaded, name = self._functions[function]
        if loaded.device != device:
            raise DeviceError("the kernel was loaded on another device")
        return loaded, name

    def _region(self, device: Device, address: int, size: int, where: str) -> Region:
        """The allocation that has these bytes."""
        memory = self._memory[device.number]
        region = memory.find(address, size)
        if region is None:
            released = memory.was_released(address)
            why = "the memory has been released" if released else "no allocation has all of them"
            raise Findings(f"copy of {size} bytes {where}, at {address:#x}: {why}")
        return region
