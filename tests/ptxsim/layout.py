"""Where variables of a kernel are: shared and local memory, parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ptxsim.errors import ExecutionError
from ptxsim.memory import Region
from ptxsim.races import RED_ZONE, WRITER
from ptxsim.scalars import TYPES, WINDOW, Array, round_up
from ptxsim.syntax import Function, Instruction, Module, Variable
from ptxsim.threads import Threads

_SHARED_START = 1024  # where shared memory begins on recent GPUs
_LOCAL_START = 16  # so that no variable is at address 0
_GAP = 16  # bytes between shared variables, at least
_SHARED_LIMIT = 48 << 10  # bytes of static shared memory that a block may have
_ACCESSES = ("ld", "st", "atom", "red")
_FENCES = ("membar", "fence")
_ORDERING = {"acquire", "release", "acq_rel"}


@dataclass(frozen=True, eq=False)
class Layout:
    """Addresses, and what the checks need to know about the code as a whole."""

    addresses: dict[tuple[str, str], int]  # (function, variable)
    parameters: Array  # the bytes of the parameters
    shared_size: int
    shared_parts: tuple[tuple[int, str], ...]  # where shared variables begin in the region
    red_zones: tuple[tuple[int, int], ...]
    local_size: int
    granule: int  # bytes, of the shadow memory
    has_fences: bool

    def shared_region(self, threads: Threads) -> Region:
        """A copy for each block; red zones are marked."""
        region = Region(
            "shared",
            "shared memory",
            WINDOW["shared"] + _SHARED_START,
            self.shared_size,
            owners=threads.blocks,
            owner=threads.block,
            parts=self.shared_parts,
        )
        writer = region.shadow(WRITER, self.granule).reshape(threads.blocks, -1)
        for start, end in self.red_zones:
            writer[:, -(-start // self.granule) : end // self.granule] = RED_ZONE
        return region

    def local_region(self, threads: Threads) -> Region:
        """A copy for each thread."""
        return Region(
            "local",
            "local memory",
            WINDOW["local"] + _LOCAL_START,
            self.local_size,
            owners=threads.count,
            owner=threads.index,
            tracks_writes=True,
        )

    def parameter_region(self) -> Region:
        """The parameters, for loads whose address is computed."""
        size = len(self.parameters)
        region = Region("param", "parameters", WINDOW["param"], size, is_readonly=True)
        region.data[:size] = self.parameters
        return region


def reachable(module: Module, kernel: Function) -> list[Function]:
    """A kernel and the functions that it calls, each once; recursion is refused."""
    found: list[Function] = []
    _visit(module, kernel, [], found)
    return found


def _visit(
    module: Module, function: Function, callers: list[Function], found: list[Function]
) -> None:
    if function not in found:
        found.append(function)
    for instruction in function.body:
        if instruction.base != "call":
            continue
        called = module.functions.get(callee(instruction)[1])
        if called is None or called.code is None:
            raise ExecutionError("unsupported", "the function has no body", instruction)
        if called in (*callers, function):
            raise ExecutionError("unsupported", "a recursive call", instruction)
        _visit(module, called, [*callers, function], found)


def callee(instruction: Instruction) -> tuple[int, str]:
    """The position and name of the function that a call names."""
    for position, operand in enumerate(instruction.operands):
        if operand.kind == "symbol":
            return position, operand.value
    raise ExecutionError("unsupported", "an indirect call", instruction)


def lay_out(
    module: Module,
    functions: Sequence[Function],
    parameters: bytes,
    stored: dict[str, int],
) -> Layout:
    """Choose addresses; `stored` has those of the module's variables in global memory."""
    code = [instruction for function in functions for instruction in function.body]
    addresses = {("", name): address for name, address in stored.items()}
    shared, zones, shared_end = _shared_variables(module, functions, code)
    addresses.update({key: _SHARED_START + start for key, start in shared.items()})
    local_end = _LOCAL_START
    for function in functions:
        for variable in function.variables.values():
            if variable.space == "local":
                local_end = round_up(local_end, variable.alignment)
                addresses[function.name, variable.name] = local_end
                local_end += variable.size
    kernel = functions[0]
    addresses.update({(kernel.name, name): at for name, at in offsets(kernel.parameters).items()})
    return Layout(
        addresses,
        np.frombuffer(parameters, np.uint8),
        shared_end,
        tuple(sorted((start, name) for (_, name), start in shared.items())),
        tuple(zones),
        local_end - _LOCAL_START,
        _granule(code),
        any(i.base in _FENCES or _ORDERING & set(i.modifiers) for i in code),
    )


def offsets(parameters: Sequence[Variable]) -> dict[str, int]:
    """Where each parameter is among the bytes of all."""
    found, end = {}, 0
    for parameter in parameters:
        found[parameter.name] = round_up(end, parameter.alignment)
        end = found[parameter.name] + parameter.size
    return found


def _shared_variables(
    module: Module, functions: Sequence[Function], code: Sequence[Instruction]
) -> tuple[dict[tuple[str, str], int], list[tuple[int, int]], int]:
    """Offsets of shared variables, the gaps between them, and the end of the last."""
    used = {name for i in code for operand in i.operands for name in operand.symbols()}
    variables = [("", v) for v in module.variables.values() if v.name in used]
    variables += [(f.name, v) for f in functions for v in f.variables.values()]
    found: dict[tuple[str, str], int] = {}
    zones, end, total = [], 0, 0
    for scope, variable in variables:
        if variable.space != "shared":
            continue
        if not variable.size:
            raise ExecutionError("unsupported", f"dynamic shared memory: '{variable.name}'")
        start = round_up(end + _GAP * bool(found), variable.alignment)
        zones.append((end, start))
        found[scope, variable.name] = start
        end, total = start + variable.size, total + variable.size
    if total > _SHARED_LIMIT:
        message = f"{total} bytes of static shared memory, {_SHARED_LIMIT} are allowed"
        raise ExecutionError("unsupported", message)
    return found, zones, end


def _granule(code: Sequence[Instruction]) -> int:
    """The size of the smallest access to memory, at most 4."""
    sizes = [
        TYPES[i.types[-1]].itemsize
        for i in code
        if i.base in _ACCESSES and "param" not in i.modifiers and i.types
    ]
    return min([4, *sizes])
