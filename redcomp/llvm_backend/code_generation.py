"""LLVM text to machine code or assembly: optimise and emit.

LLVM is entered by one thread at a time, on a deep stack, since its passes recurse as deeply as a
formula is long.  A fork waits until no thread is inside: the child would find locks of LLVM's and
llvmlite's held by threads that it does not have.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import llvmlite.binding as llvm

from redcomp.concurrency import on_deep_stack
from redcomp.errors import CompilerError
from redcomp.llvm_backend.locks import lock
from redcomp.target import Target

T = TypeVar("T")

# Combination follows conditions through the operations that they are made of, and takes up to 4 ms
# for each of those; see docs/decisions/0007-llvm-passes.md.
_MOST_CONDITIONS = 500
_CONDITION = re.compile(r" = (?:and|or|xor) (?:<\d+ x i1>|i1) ")

# With each loop that rotation changes, LLVM forgets what it knows of all loops beside it.
_MOST_LOOPS = 100
_LOOP = re.compile(r"^head\.", re.MULTILINE)


@functools.cache
def initialize() -> None:
    """Register every target that LLVM was built with, once."""
    for function in (llvm.initialize_all_targets, llvm.initialize_all_asmprinters):
        function()


@functools.cache
def _switch_on(option: str) -> None:
    """Set one of LLVM's options, which may be given once a process."""
    llvm.set_option("redcomp", option)


class _Tools:
    """What compiles for a target.  It is kept: llvmlite frees little of a builder or its passes."""

    def __init__(
        self,
        triple: str,
        cpu: str,
        features: str,
        options: tuple[str, ...],
        passes: tuple[str, ...],
    ) -> None:
        initialize()
        for option in options:
            _switch_on(option)
        self.machine = llvm.Target.from_triple(triple).create_target_machine(
            cpu=cpu, features=features, opt=2, reloc="pic", codemodel="small"
        )
        self._builder = llvm.create_pass_builder(
            self.machine, llvm.create_pipeline_tuning_options()
        )
        self._passes = llvm.create_new_module_pass_manager()
        for name in passes:
            getattr(self._passes, f"add_{name}_pass")()

    def optimize(self, module: Any) -> None:
        module.data_layout = str(self.machine.target_data)
        self._passes.run(module, self._builder)


_tools = functools.lru_cache(maxsize=32)(_Tools)


def _of_optimized(text: str, target: Target, read: Callable[[Any, Any], T]) -> T:
    """What `read` takes from the optimised module and the target's machine."""

    def compute() -> T:
        with lock, _optimized(text, target) as (module, machine):
            return read(module, machine)

    return on_deep_stack(compute)


@contextlib.contextmanager
def _optimized(text: str, target: Target) -> Iterator[tuple[Any, Any]]:
    """In a context of its own: LLVM keeps every type and constant as long as the context."""
    tools = _tools(
        target.triple, target.cpu, target.features, target.llvm_options, target.llvm_passes
    )
    with llvm.create_context() as context, _parsed(text, context) as module:
        tools.optimize(module)
        yield module, tools.machine


def _parsed(text: str, context: Any) -> Any:
    try:
        module = llvm.parse_assembly(text, context)
        module.verify()
    except RuntimeError as error:
        raise CompilerError(f"LLVM refused the generated module: {error}") from error
    return module


def conditions(text: str) -> int:
    """How many operations on conditions a module has.

    They are counted in the text because it may be an edited one, and before LLVM reads it because
    the passes are part of the cache's key.
    """
    return len(_CONDITION.findall(text))


def for_module(target: Target, text: str) -> Target:
    """The target with the LLVM passes that suit a module: many conditions or loops are left."""
    left = set()
    if conditions(text) > _MOST_CONDITIONS:
        left.add("instruction_combine")
    if len(_LOOP.findall(text)) > _MOST_LOOPS:
        left.add("loop_rotate")
    if not left:
        return target
    return replace(target, llvm_passes=tuple(p for p in target.llvm_passes if p not in left))


def compile_object(text: str, target: Target) -> bytes:
    """The object file of a module."""
    return _of_optimized(text, target, lambda module, machine: bytes(machine.emit_object(module)))


def optimized_llvm(text: str, target: Target) -> str:
    """A module's text after LLVM's optimiser, for reading."""
    return _of_optimized(text, target, lambda module, machine: str(module))


def assembly(text: str, target: Target) -> str:
    """A module's assembly, for reading."""
    return _of_optimized(text, target, lambda module, machine: str(machine.emit_assembly(module)))
