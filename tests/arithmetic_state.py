"""The state of this thread's arithmetic, which says how it rounds and flushes: needs llvmlite."""

from __future__ import annotations

import ctypes
import functools
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import llvmlite.binding as llvm
import pytest

# Functions `read`, of the control bits, and `write`; states that programs set; those that flush.
_X86 = """
define i64 @read() {
  %p = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %p)
  %all = load i32, ptr %p
  %control = and i32 %all, 65472
  %state = zext i32 %control to i64
  ret i64 %state
}
define void @write(i64 %state) {
  %p = alloca i32
  %word = trunc i64 %state to i32
  store i32 %word, ptr %p
  call void @llvm.x86.sse.ldmxcsr(ptr %p)
  ret void
}
declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)
"""
_AARCH64 = """
define i64 @read() {
  %state = call i64 @llvm.aarch64.get.fpcr()
  ret i64 %state
}
define void @write(i64 %state) {
  call void @llvm.aarch64.set.fpcr(i64 %state)
  ret void
}
declare i64 @llvm.aarch64.get.fpcr()
declare void @llvm.aarch64.set.fpcr(i64)
"""
IS_X86 = platform.machine().lower() in ("x86_64", "amd64")

# As a process starts; flushing everything, as `torch.set_flush_denormal` does; rounding towards 0.
USUAL, FLUSHING, TOWARDS_ZERO = (0x1F80, 0x9FC0, 0x7F80) if IS_X86 else (0, 1 << 24, 3 << 22)
STATES = [
    pytest.param(USUAL, id="usual"),
    pytest.param(FLUSHING, id="flushing"),
    pytest.param(TOWARDS_ZERO, id="towards zero"),
]


@functools.cache
def _engine() -> llvm.ExecutionEngine:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine()
    module = llvm.parse_assembly(_X86 if IS_X86 else _AARCH64)
    return llvm.create_mcjit_compiler(module, machine)


def read() -> int:
    """The bits that say how this thread computes."""
    address = _engine().get_function_address("read")
    return ctypes.CFUNCTYPE(ctypes.c_int64)(address)()


def write(state: int) -> None:
    """Let this thread compute so."""
    address = _engine().get_function_address("write")
    ctypes.CFUNCTYPE(None, ctypes.c_int64)(address)(state)


@contextmanager
def computing(state: int) -> Iterator[None]:
    """Within, this thread computes so."""
    before = read()
    write(state)
    try:
        yield
    finally:
        write(before)
