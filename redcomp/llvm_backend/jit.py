"""LLVM text to machine code: optimise, emit an object, load it into the process."""

from __future__ import annotations

import functools
import itertools
import os
import threading
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm

from redcomp.errors import CompilerError
from redcomp.llvm_backend.target import Target

# LLVM's optimiser and its JIT are not safe to be entered by several threads at once.
_lock = threading.Lock()
_LIBRARY_NUMBERS = itertools.count()


@functools.cache
def _initialize() -> None:
    """Register every target that LLVM was built with, once."""
    for function in (llvm.initialize_all_targets, llvm.initialize_all_asmprinters):
        function()


@functools.cache
def _switch_on(option: str) -> None:
    """Set one of LLVM's options, which may be given once a process."""
    llvm.set_option("redcomp", option)


@functools.lru_cache(maxsize=32)
def _machine(triple: str, cpu: str, features: str, options: tuple[str, ...]) -> Any:
    _initialize()
    for option in options:
        _switch_on(option)
    return llvm.Target.from_triple(triple).create_target_machine(
        cpu=cpu, features=features, opt=2, reloc="pic", codemodel="small"
    )


@dataclass(frozen=True, slots=True)
class Compiled:
    """What LLVM made of a module: its text after optimisation and the object file."""

    llvm: str
    code: bytes


def _optimized(text: str, target: Target) -> tuple[Any, Any]:
    machine = _machine(target.triple, target.cpu, target.features, target.llvm_options)
    try:
        module = llvm.parse_assembly(text)
        module.verify()
    except RuntimeError as error:
        raise CompilerError(f"LLVM refused the generated module: {error}") from error
    module.data_layout = str(machine.target_data)
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options())
    passes = llvm.create_new_module_pass_manager()
    for name in target.llvm_passes:
        getattr(passes, f"add_{name}_pass")()
    passes.run(module, builder)
    return module, machine


def compile_object(text: str, target: Target) -> bytes:
    """The object file of a module."""
    with _lock:
        module, machine = _optimized(text, target)
        return bytes(machine.emit_object(module))


def optimized_llvm(text: str, target: Target) -> str:
    """A module's text after LLVM's optimiser, for reading."""
    with _lock:
        return str(_optimized(text, target)[0])


def assembly(text: str, target: Target) -> str:
    """A module's assembly, for reading."""
    with _lock:
        module, machine = _optimized(text, target)
        return str(machine.emit_assembly(module))


class Library:
    """An object file loaded into the process; its code lives as long as this does."""

    def __init__(self, code: bytes, symbols: tuple[str, ...]) -> None:
        builder = llvm.JITLibraryBuilder().add_object_img(code)
        for symbol in symbols:
            builder = builder.export_symbol(symbol)
        with _lock:
            self._tracker = builder.link(_jit(), f"redcomp.{next(_LIBRARY_NUMBERS)}")

    def address(self, symbol: str) -> int:
        """The address of an exported function."""
        return int(self._tracker[symbol])


@functools.cache
def _jit() -> Any:
    _initialize()
    machine = llvm.Target.from_default_triple().create_target_machine(
        opt=2, reloc="pic", codemodel="small", jit=True
    )
    return llvm.create_lljit_compiler(machine, use_jit_link=False, suppress_errors=True)


def _forget_lock() -> None:
    """After a fork: whoever held the lock is not in the child and will never release it."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_lock)
