"""NVIDIA's assembler and disassembler: PTX to machine code, and machine code to text.

The driver assembles PTX by itself; these programs are for reading and checking it without a GPU.
"""

from __future__ import annotations

import functools
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from redcomp.errors import CompilerError, RedcompError
from redcomp.records import record

if TYPE_CHECKING:
    import subprocess

# Each program and the packages on PyPI that have it, under nvidia/.../bin/; names without a suffix
# are those since CUDA 13.
PTXAS = ("ptxas", ("nvidia-cuda-nvcc", "nvidia-cuda-nvcc-cu12"))
NVDISASM = ("nvdisasm", ("nvidia-cuda-nvdisasm",))

# What ptxas -v says of each kernel.
_KERNEL = re.compile(r"Compiling entry function '([^']+)'")
_STACK = re.compile(
    r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
)  # fmt: skip
_REGISTERS = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")
_RELEASE = re.compile(r"release (\d+\.\d+)")
_UNKNOWN_TARGET = re.compile(r"is not defined for option 'gpu-name'")


class ToolError(RedcompError, RuntimeError):
    """A program of NVIDIA's toolkit that is missing, or too old or too new for a target."""


@record
class Resources:
    """What a kernel takes: registers a thread; bytes a thread, and of shared memory a block.

    spill_stores, spill_loads   bytes of the instructions that move registers to the stack and back
    """

    registers: int
    stack_frame: int
    spill_stores: int
    spill_loads: int
    shared: int


@record
class Assembled:
    """Machine code (a cubin), what each of its kernels takes, and all that the assembler said."""

    code: bytes
    kernels: Mapping[str, Resources]
    log: str


def assemble(ptx: str, target: str, *options: str) -> Assembled:
    """Assemble PTX for a target such as "sm_90"; an error has the assembler's log."""
    with tempfile.TemporaryDirectory(prefix="redcomp-") as folder:
        source, cubin = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        source.write_text(ptx, encoding="utf-8")
        arguments = ("--verbose", f"--gpu-name={target}", "-o", str(cubin), str(source))
        done = _run(PTXAS, *options, *arguments)
        log = done.stdout + done.stderr
        if _UNKNOWN_TARGET.search(log):
            raise ToolError(f"this version of ptxas does not know {target}: {log.strip()}")
        if done.returncode:
            raise CompilerError(f"ptxas refused the PTX for {target}:\n{log}")
        return Assembled(cubin.read_bytes(), dict(_resources(log)), log)


def version() -> str:
    """The release of the assembler, such as "13.0"."""
    said = _run(PTXAS, "--version").stdout
    found = _RELEASE.search(said)
    if found is None:
        raise ToolError(f"ptxas does not say which release it is:\n{said}")
    return found.group(1)


def disassemble(code: bytes, *options: str) -> str:
    """The instructions of a cubin (SASS)."""
    with tempfile.TemporaryDirectory(prefix="redcomp-") as folder:
        cubin = Path(folder, "kernel.cubin")
        cubin.write_bytes(code)
        done = _run(NVDISASM, *options, "--print-code", str(cubin))
    if done.returncode:
        raise ToolError(f"nvdisasm cannot read the machine code:\n{done.stderr}")
    return done.stdout


def _resources(log: str) -> Iterator[tuple[str, Resources]]:
    """The figures of each kernel; its name comes before them."""
    parts = _KERNEL.split(log)
    for name, text in zip(parts[1::2], parts[2::2], strict=True):
        stack, registers, shared = (p.search(text) for p in (_STACK, _REGISTERS, _SHARED))
        if stack is None or registers is None:
            raise ToolError(f"ptxas says nothing of what {name} takes:\n{log}")
        frame, stores, loads = map(int, stack.groups())
        yield (
            name,
            Resources(
                int(registers.group(1)), frame, stores, loads, int(shared.group(1)) if shared else 0
            ),
        )


def _run(program: tuple[str, tuple[str, ...]], *arguments: str) -> subprocess.CompletedProcess[str]:
    import subprocess  # takes milliseconds, which only those pay who run the programs

    path = find_program(*program)
    try:
        return subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    except OSError as error:
        raise ToolError(f"{path} cannot be run: {error}") from error


@functools.cache
def find_program(name: str, packages: tuple[str, ...]) -> str:
    """The path of a program: on PATH, or in one of the packages."""
    found = shutil.which(name) or next(_in_packages(name, packages), None)
    if found is None:
        raise ToolError(
            f"{name} was not found: put the one of NVIDIA's CUDA toolkit on PATH, "
            f"or install it with `pip install {packages[0]}`"
        )
    return found


def _in_packages(name: str, packages: tuple[str, ...]) -> Iterator[str]:
    """The paths of a program in those packages that are installed."""
    from importlib import metadata  # as above

    for package in packages:
        try:
            files = metadata.files(package) or ()
        except metadata.PackageNotFoundError:
            continue
        for file in files:
            path = Path(str(file.locate()))
            if file.stem == name and file.parent.name == "bin" and path.is_file():
                yield str(path)
