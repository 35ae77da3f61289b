"""Multiply-adds of float64, rounded once: LLVM's `llvm.fma`, by the processor or the C library.

NumPy has no such operation, and one made of several of its operations takes several times as long.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numpy as np

from ptxsim.scalars import Array

# An operand whose step is 0 is the same for all elements.
_TEXT = """
declare double @llvm.fma.f64(double, double, double)

define void @fused(ptr %out, i64 %count,
                   ptr %a, i64 %step_a, ptr %b, i64 %step_b, ptr %c, i64 %step_c) {
entry:
  %is_empty = icmp eq i64 %count, 0
  br i1 %is_empty, label %done, label %loop
loop:
  %n = phi i64 [ 0, %entry ], [ %next, %loop ]
  %at_a = mul i64 %n, %step_a
  %at_b = mul i64 %n, %step_b
  %at_c = mul i64 %n, %step_c
  %from_a = getelementptr double, ptr %a, i64 %at_a
  %from_b = getelementptr double, ptr %b, i64 %at_b
  %from_c = getelementptr double, ptr %c, i64 %at_c
  %to = getelementptr double, ptr %out, i64 %n
  %x = load double, ptr %from_a
  %y = load double, ptr %from_b
  %z = load double, ptr %from_c
  %result = call double @llvm.fma.f64(double %x, double %y, double %z)
  store double %result, ptr %to
  %next = add i64 %n, 1
  %is_last = icmp eq i64 %next, %count
  br i1 %is_last, label %done, label %loop
done:
  ret void
}
"""


class _Compiled(NamedTuple):
    """A function, and what holds its machine code."""

    function: Any
    held: Any


def multiply_add(a: Array, b: Array, c: Array) -> Array:
    """a * b + c of arrays that broadcast."""
    operands = [np.ascontiguousarray(x, np.float64) for x in (a, b, c)]
    shape = operands[0].shape
    if operands[1].shape != shape or operands[2].shape != shape:
        shape = np.broadcast_shapes(*(x.shape for x in operands))
        operands = [
            x if x.size == 1 else np.ascontiguousarray(np.broadcast_to(x, shape)) for x in operands
        ]
    out = np.empty(shape, np.float64)
    located = (n for x in operands for n in (x.ctypes.data, int(x.size != 1)))
    _compiled().function(out.ctypes.data, out.size, *located)
    return out


@functools.cache
def _compiled() -> _Compiled:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), jit=True
    )
    compiler = llvm.create_lljit_compiler(machine, use_jit_link=False)
    builder = llvm.JITLibraryBuilder().add_ir(_TEXT).export_symbol("fused").add_current_process()
    library = builder.link(compiler, "fused")
    types = (ctypes.c_void_p, ctypes.c_int64)
    function = ctypes.CFUNCTYPE(None, *types, *3 * types)(library["fused"])
    return _Compiled(function, (compiler, library))
