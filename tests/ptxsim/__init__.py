"""Executes PTX with NumPy and checks what it does to memory.

`driver.StandIn` takes the place of a GPU's driver.  `parse` reads PTX, `execute` runs a kernel,
`loops` finds the loops of a function.

Findings: races in shared and global memory, reads of bytes that nothing has written, shared memory
that is touched while a cp.async copy is under way, barriers that a part of a warp does not reach,
shuffles from absent lanes, integer divisions by zero.  Errors: out of bounds, misaligned, writes to
constants, deadlocks, endless loops, what is not supported: grids and blocks of more than one
dimension, dynamic shared memory, recursion, indirect calls, textures, mbarrier, bulk copies,
clusters, most matrix instructions, carries.
"""

from ptxsim.errors import ExecutionError, PtxError, Report
from ptxsim.execute import Result, execute
from ptxsim.loops import Loop, loops
from ptxsim.memory import DeviceMemory
from ptxsim.parser import parse
from ptxsim.syntax import Module

__all__ = [
    "DeviceMemory",
    "ExecutionError",
    "Loop",
    "Module",
    "PtxError",
    "Report",
    "Result",
    "execute",
    "loops",
    "parse",
]
