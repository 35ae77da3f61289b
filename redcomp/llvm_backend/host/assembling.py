"""Assembly to object code, for assembly that a user has edited.

LLVM ends the process where it cannot read a line, so it does this in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import llvmlite.binding as llvm

from redcomp.errors import CompilerError
from redcomp.llvm_backend import code_generation
from redcomp.llvm_backend.host.targets import host_target
from redcomp.target import Target


def assembled(text: str, target: Target) -> bytes:
    """The object file of an assembly text; raises CompilerError with what LLVM says of it."""
    # The child finds the same packages, however this process has found them.
    program = f"import sys; sys.path[:] = {sys.path!r}; import {__name__} as made; made.main()"
    given = json.dumps([text, target.name, target.triple, target.cpu, target.features])
    done = subprocess.run(
        [sys.executable, "-c", program], input=given.encode(), capture_output=True, check=False
    )
    if done.returncode:
        raise CompilerError(f"LLVM refused the assembly:\n{done.stderr.decode().strip()}")
    return done.stdout


def main() -> None:
    """Read a text and a target, write the object file."""
    text, name, triple, cpu, features = json.loads(sys.stdin.buffer.read())
    llvm.initialize_native_asmparser()
    lines = "\n".join(f'module asm "{_escaped(line)}"' for line in text.splitlines())
    target = replace(host_target(name), triple=triple, cpu=cpu, features=features, llvm_passes=())
    module = f'target triple = "{triple}"\n{lines}\n'
    sys.stdout.buffer.write(code_generation.compile_object(module, target))


def _escaped(line: str) -> str:
    """A line in LLVM's quotes."""
    return "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:02X}"
        for byte in line.encode()
    )
