"""The GPU that is measured: whether there is one, what it is, and how its clocks ran meanwhile."""

from __future__ import annotations

import contextlib
import gc
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from redcomp.ptx.multiprocessor import Gpu
from redcomp.runtime.device import Device, DeviceError
from redcomp.runtime.driver import driver

TOOL = "nvidia-smi"
MEASURED = ("clocks.sm", "temperature.gpu", "power.draw", "utilization.gpu")
EVERY_MS = 500
BUSY_PERCENT = 50  # samples with less were taken between measurements

Record = dict[str, Any]


class NoGpuError(Exception):
    """There is no GPU to measure; the message says what was looked for and what was found."""


def find() -> Device:
    """The GPU that PyTorch and redcomp use unless told otherwise."""
    try:
        import torch
    except ImportError:
        raise NoGpuError(_nothing("PyTorch is not installed")) from None
    if not torch.cuda.is_available():
        build = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "has no CUDA"
        raise NoGpuError(_nothing(f"PyTorch {torch.__version__} {build} and sees none"))
    try:
        return driver().devices()[torch.cuda.current_device()]
    except DeviceError as error:
        raise NoGpuError(_nothing(f"PyTorch sees one, but redcomp does not: {error}")) from None


def _nothing(found: str) -> str:
    return f"no measurement: an NVIDIA GPU was looked for through PyTorch and redcomp; {found}"


def describe(device: Device) -> Record:
    """What the device and its driver say of themselves; the largest clock is in Hz."""
    import torch

    said = _ask("name,driver_version,clocks.max.sm,memory.total")
    return {
        "name": device.name,
        "target": device.target,
        "processors": device.processors,
        "cuda": torch.version.cuda,
        "driver": said[1] if said else None,
        "largest_clock": float(said[2]) * 1e6 if said and _is_number(said[2]) else None,
        "memory_mib": float(said[3]) if said and _is_number(said[3]) else None,
    }


def gpu_of(described: Record) -> Gpu | None:
    """The GPU of the ceilings, at its largest clock; None where that is not known."""
    clock = described["largest_clock"]
    return None if clock is None else Gpu(described["target"], described["processors"], clock)


def _ask(fields: str) -> list[str] | None:
    """What the driver's tool answers for the GPU in use; None without the tool."""
    command = _command(fields)
    if command is None:
        return None
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    return [field.strip() for field in run.stdout.split(",")] if run.returncode == 0 else None


def _command(fields: str) -> list[str] | None:
    tool = shutil.which(TOOL)
    if tool is None:
        return None
    import torch

    # The tool counts all GPUs, PyTorch those of CUDA_VISIBLE_DEVICES: identifiers are the same.
    number = torch.cuda.current_device()
    identifier = getattr(torch.cuda.get_device_properties(number), "uuid", None)
    chosen = str(number) if identifier is None else f"GPU-{identifier}"
    return [tool, "-i", chosen, f"--query-gpu={fields}", "--format=csv,noheader,nounits"]


@contextlib.contextmanager
def watched(state: Record) -> Iterator[None]:
    """Fill `state` with how clocks, temperature and power were meanwhile, if that is told."""
    command = _command(",".join(MEASURED))
    if command is None:
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples"
        with path.open("w", encoding="utf-8") as file:
            process = subprocess.Popen([*command, "-lms", str(EVERY_MS)], stdout=file)
            try:
                yield
            finally:
                process.terminate()
                process.wait()
        state.update(summary(path.read_text(encoding="utf-8").splitlines()))


def summary(lines: Sequence[str]) -> Record:
    """Of the samples taken under load: the clock's extremes and median, the largest of the rest."""
    rows = [[field.strip() for field in line.split(",")] for line in lines]
    busy = [
        [float(field) for field in row]
        for row in rows
        if len(row) == len(MEASURED)
        and all(map(_is_number, row))
        and float(row[-1]) >= BUSY_PERCENT
    ]
    if not busy:
        return {}
    clocks, temperatures, powers, _ = zip(*busy, strict=True)
    return {
        "samples": len(busy),
        "clock_mhz": [min(clocks), statistics.median(clocks), max(clocks)],
        "hottest_c": max(temperatures),
        "most_w": max(powers),
    }


def give_back() -> None:
    """Let go of the memory of tensors that are gone, which PyTorch would keep for itself."""
    import torch

    gc.collect()
    # After a fault of the GPU it fails like all else: that is told of whoever caused the fault.
    with contextlib.suppress(RuntimeError):
        torch.cuda.empty_cache()  # does nothing where no GPU is in use


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
