"""Runs a few lines of PTX on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from ptxsim.execute import Result, execute
from ptxsim.memory import DeviceMemory, write_bytes
from ptxsim.parser import parse
from ptxsim.scalars import GLOBAL_START, TYPES, Array

REGISTERS = """.reg .b32 %r<40>; .reg .b64 %rd<40>; .reg .pred %p<20>; .reg .b16 %h<20>;
.reg .f32 %f<20>; .reg .f64 %d<20>;"""

# An array is passed by its address and changed in place; a size stands for bytes that nothing has
# written.
Argument: TypeAlias = "Array | Uninitialised | int"


class Uninitialised(int):
    """As an argument: the address of so many bytes that nothing has written."""


def kernel(body: str, parameters: Sequence[str] = (), head: str = "") -> str:
    """The text of a kernel k, whose parameters have 64 bits."""
    listed = ", ".join(f".param .u64 {name}" for name in parameters)
    return f"""
.version 8.6
.target sm_90
.address_size 64
{head}
.visible .entry k({listed})
{{
{REGISTERS}
{body}
ret;
}}
"""


def run(
    text: str,
    arguments: Sequence[Argument] = (),
    *,
    blocks: int = 1,
    threads: int = 32,
    max_steps: int = 1_000_000,
) -> Result:
    """Run the kernel k of a text."""
    memory = DeviceMemory(GLOBAL_START)
    words, arrays = [], []
    for argument in arguments:
        if isinstance(argument, Uninitialised):
            words.append(memory.allocate(int(argument)).base)
        elif isinstance(argument, int):
            words.append(argument)
        else:
            region = memory.allocate(argument.nbytes)
            write_bytes(region, 0, argument.ctypes.data, argument.nbytes)
            words.append(region.base)
            arrays.append((argument, region))
    result = execute(parse(text), "k", blocks, threads, words, memory, max_steps=max_steps)
    for array, region in arrays:
        array[...] = region.data[: array.nbytes].view(array.dtype).reshape(array.shape)
    return result


def apply(instruction: str, kind: str, *inputs: Array) -> Array:
    """What an instruction makes of inputs, one for each thread.

    In its text {0} is the register of the result, of a type, and {1}, {2}, ... are the inputs'.
    """
    banks = {1: "%r", 2: "%h", 4: "%r", 8: "%rd"}
    floats = {"f2": "%h", "f4": "%f", "f8": "%d"}

    def register(dtype: np.dtype[np.generic], number: int) -> str:
        return floats.get(dtype.str[1:], banks[dtype.itemsize]) + str(number)

    result = np.zeros(inputs[0].size, TYPES[kind])
    lines = ["mov.u32 %r39, %tid.x;"]
    names = [register(result.dtype, 0)]
    for number, array in enumerate(inputs, 1):
        size = array.dtype.itemsize
        names.append(register(array.dtype, number))
        lines.append(f"ld.param.u64 %rd39, [x{number}]; mad.wide.u32 %rd39, %r39, {size}, %rd39;")
        lines.append(f"ld.global.b{8 * size} {names[-1]}, [%rd39];")
    lines.append(instruction.format(*names))
    size = result.dtype.itemsize
    lines.append(f"ld.param.u64 %rd39, [y]; mad.wide.u32 %rd39, %r39, {size}, %rd39;")
    lines.append(f"st.global.b{8 * size} [%rd39], {names[0]};")
    parameters = [*(f"x{number}" for number in range(1, len(inputs) + 1)), "y"]
    copies = [np.ascontiguousarray(array) for array in inputs]
    found = run(kernel("\n".join(lines), parameters), [*copies, result], threads=result.size)
    assert not found.reports, found.reports
    return result
