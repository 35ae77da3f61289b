"""Object files loaded into the process, and given back when nobody needs their code."""

from __future__ import annotations

import collections
from typing import Any

import llvmlite.binding as llvm

from redcomp.concurrency import on_deep_stack
from redcomp.llvm_backend.code_generation import initialize
from redcomp.llvm_backend.locks import lock


class Library:
    """An object file loaded into the process; its code lives as long as this does."""

    def __init__(self, code: bytes, symbols: tuple[str, ...]) -> None:
        self._loaded = on_deep_stack(lambda: _link(code, symbols))

    def __del__(self) -> None:
        if hasattr(self, "_loaded"):
            _dropped.append(self._loaded)

    def address(self, symbol: str) -> int:
        """The address of an exported function."""
        return int(self._loaded[0][symbol])


# LLVM keeps a few kilobytes of each library until its JIT goes, so each JIT has only so many.
_LIBRARIES_OF_A_JIT = 32

# Libraries that are gone, each with its JIT.  They are unloaded when another one is loaded: an
# object may go at any time, in any thread, which is not to wait for LLVM.
_dropped: collections.deque[tuple[Any, Any]] = collections.deque()
_jit: tuple[Any, int] | None = None  # the one that takes the next library, and how many it has


def _link(code: bytes, symbols: tuple[str, ...]) -> tuple[Any, Any]:
    """An object's resources and the JIT that they belong to."""
    global _jit
    with lock:
        unload()
        jit, count = _jit or (_new_jit(), 0)
        builder = llvm.JITLibraryBuilder().add_object_img(code)
        for symbol in symbols:
            builder = builder.export_symbol(symbol)
        made = builder.link(jit, f"redcomp.{count}")
        _jit = (jit, count + 1) if count + 1 < _LIBRARIES_OF_A_JIT else None
    return made, jit


def unload() -> None:
    """Give back the memory of libraries that are gone."""
    with lock:
        while _dropped:
            resources, jit = _dropped.popleft()
            resources.close()
            del resources, jit


def _new_jit() -> Any:
    initialize()
    machine = llvm.Target.from_default_triple().create_target_machine(
        opt=2, reloc="pic", codemodel="small", jit=True
    )
    return llvm.create_lljit_compiler(machine, use_jit_link=False, suppress_errors=True)
