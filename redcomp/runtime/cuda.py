"""NVIDIA's driver, through cuda-python: the `Driver` that runs kernels on real GPUs.

Documentation: CUDA Driver API (contexts, modules, memory, execution); cuda-python passes handles
and addresses as integers or as objects that convert to them, and returns (error, value).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from redcomp.runtime.device import Device, DeviceError

# CU_STREAM_LEGACY: the default stream of PyTorch and of everybody else, whatever cuda-python has
# been told to understand by 0.
_DEFAULT_STREAM = 1
_LOG_BYTES = 16 * 1024
_NAME_BYTES = 256
_NEEDS = "computing on a GPU needs NVIDIA's driver and cuda-python, but"


class _Context(NamedTuple):
    """The primary context of a device, as an object of cuda-python and as a number."""

    handle: Any
    number: int


class _Parameters(threading.local):
    """Each thread's memory for the parameters of a launch, and pointers to them, by their count.

    A launch copies the parameters before it returns, so the next one may use the memory again.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, int, object]] = {}

    def pointers(self, words: ctypes.Array[ctypes.c_int64]) -> int:
        """The address of an array of pointers to copies of the words."""
        count = len(words)
        known = self._known.get(count)
        if known is None:
            memory = (ctypes.c_int64 * count)()
            first = ctypes.addressof(memory)
            pointers = (ctypes.c_void_p * count)(*range(first, first + 8 * count, 8))
            known = first, ctypes.addressof(pointers), (memory, pointers)
            self._known[count] = known
        ctypes.memmove(known[0], words, 8 * count)
        return known[1]


class CudaDriver:
    """`redcomp.runtime.device.Driver` on NVIDIA's driver; for any number of threads.

    Work goes to the primary contexts, which PyTorch uses too.  A call makes the device's context
    current for its own duration, and leaves the caller's context as it was.
    """

    def __init__(self) -> None:
        self._api = _bindings()
        self._was_forked = False
        self._lock = threading.Lock()
        self._contexts: dict[int, _Context] = {}
        self._parameters = _Parameters()
        self._initialize()
        self._version = self._checked(self._api.cuDriverGetVersion(), "its version")
        self._devices = self._list_devices()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    @property
    def version(self) -> str:
        """The newest CUDA release that the driver supports."""
        return f"CUDA {self._version // 1000}.{self._version % 1000 // 10}"

    def devices(self) -> Sequence[Device]:
        """All GPUs that this process may use."""
        return self._devices

    # -- code --------------------------------------------------------------------------------------

    def assemble(self, device: Device, ptx: str) -> bytes:
        """Machine code for a device; an error has the assembler's log."""
        api, text = self._api, ptx.encode()
        log, errors = bytearray(_LOG_BYTES), bytearray(_LOG_BYTES)
        options = {
            api.CUjit_option.CU_JIT_INFO_LOG_BUFFER: log,
            api.CUjit_option.CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES: len(log),
            api.CUjit_option.CU_JIT_ERROR_LOG_BUFFER: errors,
            api.CUjit_option.CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES: len(errors),
        }
        with self._current(device):
            linker = self._checked(
                api.cuLinkCreate(len(options), list(options), list(options.values())), "a linker"
            )
            try:
                kind = api.CUjitInputType.CU_JIT_INPUT_PTX
                result = api.cuLinkAddData(linker, kind, text, len(text), b"redcomp", 0, [], [])
                if not int(result[0]):
                    result = api.cuLinkComplete(linker)
                if int(result[0]):
                    said = "\n".join(filter(None, (_text(errors), _text(log))))
                    what = f"assembling code for {device.name} ({device.target}, {self.version})"
                    raise self._failure(result[0], what, said)
                # The linker owns this memory.
                return ctypes.string_at(int(result[1]), int(result[2]))
            finally:
                api.cuLinkDestroy(linker)

    def load(self, device: Device, code: bytes) -> int:
        """A module of machine code, loaded into the device's primary context."""
        with self._current(device):
            loaded = self._given_memory(lambda: self._api.cuModuleLoadData(code))
            return int(self._checked(loaded, "loading machine code"))

    def unload(self, device: Device, module: int) -> None:
        """Give a module's memory back when all work queued so far is done with it."""
        with self._current(device):
            self._checked(self._api.cuCtxSynchronize(), "waiting for a GPU")
            self._checked(self._api.cuModuleUnload(module), "unloading machine code")

    def function(self, device: Device, module: int, name: str) -> int:
        """A kernel of a module."""
        with self._current(device):
            # Drivers that load lazily take the kernel's memory only now.
            found = self._given_memory(lambda: self._api.cuModuleGetFunction(module, name.encode()))
            return int(self._checked(found, f"finding the kernel {name}"))

    def resident_blocks(self, device: Device, function: int, threads: int) -> int:
        """Blocks of so many threads that a multiprocessor can hold at a time."""
        with self._current(device):
            count = self._api.cuOccupancyMaxActiveBlocksPerMultiprocessor(function, threads, 0)
            return int(self._checked(count, "the occupancy of a kernel"))

    # -- memory ------------------------------------------------------------------------------------

    def allocate(self, device: Device, size: int) -> int:
        """The address of `size` bytes of the device's memory."""
        with self._current(device):
            what = f"allocating {size} bytes on {device.name}"
            return int(self._checked(self._given_memory(lambda: self._api.cuMemAlloc(size)), what))

    def release(self, device: Device, address: int) -> None:
        """Give memory back when all work queued so far is done with it."""
        with self._current(device):
            # cuMemFree is not documented to wait for kernels that use the memory.
            self._checked(self._api.cuCtxSynchronize(), "waiting for a GPU")
            self._checked(self._api.cuMemFree(address), "releasing memory")

    def copy_in(self, device: Device, target: int, source: int, size: int, stream: int) -> None:
        """Copy from the host; the source may change as soon as this returns."""
        with self._current(device):
            on = stream or _DEFAULT_STREAM
            copied = self._api.cuMemcpyHtoDAsync(target, source, size, on)
            self._checked(copied, "copying to a GPU")
            # Without this, page-locked memory would still be read after the return.
            self._checked(self._api.cuStreamSynchronize(on), "copying to a GPU")

    def copy_out(self, device: Device, target: int, source: int, size: int, stream: int) -> None:
        """Copy to the host, and wait until it is there."""
        with self._current(device):
            on = stream or _DEFAULT_STREAM
            copied = self._api.cuMemcpyDtoHAsync(target, source, size, on)
            self._checked(copied, "copying from a GPU")
            self._checked(self._api.cuStreamSynchronize(on), "copying from a GPU")

    def _given_memory(self, ask: Callable[[], tuple[Any, ...]]) -> tuple[Any, ...]:
        """What a call returns; it is repeated once if the memory may be in PyTorch's pool.

        PyTorch keeps the memory of tensors that are gone, and gives it back only when asked to.
        """
        result = ask()
        # It has such a pool only if somebody has imported it; and may be being imported just now.
        empty = getattr(sys.modules.get("torch.cuda"), "empty_cache", None)
        if result[0] != self._api.CUresult.CUDA_ERROR_OUT_OF_MEMORY or empty is None:
            return result
        # What it raises says less than that the memory is full.
        with contextlib.suppress(RuntimeError):
            empty()
        return ask()

    # -- execution ---------------------------------------------------------------------------------

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
        pointers, on = self._parameters.pointers(words), stream or _DEFAULT_STREAM
        is_pushed = self._push(device)
        try:
            (error,) = self._api.cuLaunchKernel(
                function, blocks, 1, 1, threads, 1, 1, 0, on, pointers, 0
            )
        finally:
            if is_pushed:
                self._api.cuCtxPopCurrent()
        if int(error):
            what = f"starting a kernel of {blocks} blocks of {threads} threads on {device.name}"
            raise self._failure(error, what)

    # -- contexts ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _current(self, device: Device) -> Iterator[None]:
        is_pushed = self._push(device)
        try:
            yield
        finally:
            if is_pushed:
                self._api.cuCtxPopCurrent()

    def _push(self, device: Device) -> bool:
        """Make the device's context current; whether it was not, so that it must be popped."""
        if self._was_forked:
            raise DeviceError(
                "this process was forked from one that used the GPU, which CUDA does not survive: "
                "start processes that use a GPU by 'spawn' or 'forkserver'"
            )
        context = self._contexts.get(device.number) or self._retain(device)
        current = self._checked(self._api.cuCtxGetCurrent(), "the current context")
        if int(current) == context.number:
            return False
        self._checked(self._api.cuCtxPushCurrent(context.handle), "making a context current")
        return True

    def _retain(self, device: Device) -> _Context:
        """Retained until the process ends: modules live in it."""
        with self._lock:
            known = self._contexts.get(device.number)
            if known is None:
                ordinal = self._checked(self._api.cuDeviceGet(device.number), "a device")
                handle = self._checked(
                    self._api.cuDevicePrimaryCtxRetain(ordinal), f"the context of {device.name}"
                )
                known = self._contexts[device.number] = _Context(handle, int(handle))
        return known

    def _after_fork(self) -> None:
        self._was_forked = True

    # -- setting up --------------------------------------------------------------------------------

    def _initialize(self) -> None:
        codes = self._api.CUresult
        try:
            (error,) = self._api.cuInit(0)
        except RuntimeError as missing:  # cuda-python finds libcuda at the first call
            reason = f"{_NEEDS} libcuda could not be loaded: the NVIDIA driver is missing"
            raise DeviceError(f"{reason} ({missing})") from None
        if error == codes.CUDA_ERROR_NO_DEVICE:
            raise DeviceError(f"{_NEEDS} the driver reports no device")
        if error == codes.CUDA_ERROR_NOT_INITIALIZED:
            raise DeviceError(
                f"{_NEEDS} the driver cannot be initialised, most likely because this process was "
                "forked from one that used the GPU: use 'spawn' or 'forkserver'"
            )
        self._checked((error,), "initialising the driver")

    def _list_devices(self) -> tuple[Device, ...]:
        count = self._checked(self._api.cuDeviceGetCount(), "the number of devices")
        if not count:
            raise DeviceError(f"{_NEEDS} the driver reports no device")
        return tuple(map(self._describe, range(count)))

    def _describe(self, number: int) -> Device:
        api, attributes = self._api, self._api.CUdevice_attribute
        device = self._checked(api.cuDeviceGet(number), "a device")
        name = self._checked(api.cuDeviceGetName(_NAME_BYTES, device), "a device's name")

        def read(attribute: Any) -> int:
            return int(
                self._checked(api.cuDeviceGetAttribute(attribute, device), "a device's attributes")
            )

        return Device(
            number,
            _text(name),
            (
                read(attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
                read(attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR),
            ),
            read(attributes.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT),
        )

    # -- errors ------------------------------------------------------------------------------------

    def _checked(self, result: tuple[Any, ...], what: str) -> Any:
        """The value that a call of cuda-python returned after its error code; None without one."""
        if int(result[0]):
            raise self._failure(result[0], what)
        return result[1] if len(result) > 1 else None

    def _failure(self, error: Any, what: str, log: str = "") -> DeviceError:
        _, description = self._api.cuGetErrorString(error)
        reason = _text(description) if description else "unknown error"
        name = getattr(error, "name", int(error))
        listed = f":\n{log}" if log else ""
        return DeviceError(f"NVIDIA's driver failed at {what}: {reason} ({name}){listed}")


def _bindings() -> Any:
    """The module of cuda-python that speaks to the driver."""
    try:
        from cuda.bindings import driver
    except ImportError as error:
        reason = f"{_NEEDS} cuda-python is not installed (pip install redcomp[cuda])"
        raise DeviceError(f"{reason}: {error}") from None
    return driver


def _text(data: bytes | bytearray) -> str:
    """What stands before the first zero byte."""
    return bytes(data).split(b"\0")[0].decode(errors="replace").strip()
