"""Locks of LLVM, which are held while the process forks: a child has no thread to release them.

Whoever calls LLVM imports this module.
"""

from __future__ import annotations

import contextlib
import threading

import llvmlite.binding as llvm

from redcomp.concurrency import while_forking

# LLVM's optimiser and its JIT are not safe to be entered by several threads at once.  Reentrant,
# so that a fork within a call of ours, by a finalizer, is no deadlock.
lock = threading.RLock()
# llvmlite's own lock, which it has for every call; its other users may hold it as well.
llvmlite_lock = getattr(llvm.ffi.lib, "_lock", contextlib.nullcontext())

while_forking += [lock, llvmlite_lock]
