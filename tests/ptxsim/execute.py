"""Launches: prepares the code of a kernel for batches of its blocks, and executes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ptxsim.banks import Banks
from ptxsim.binder import Binder, Registers
from ptxsim.errors import ExecutionError, PtxError, Report
from ptxsim.instructions import CONTROL, PLAIN
from ptxsim.layout import lay_out, offsets, reachable
from ptxsim.machine import Control, Counters, Machine, Run, Step
from ptxsim.memory import DeviceMemory
from ptxsim.scalars import TYPES
from ptxsim.syntax import Function, Instruction, Module, Operand
from ptxsim.threads import Group, Threads

_BATCH_THREADS = 4096
_LARGEST_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class Result:
    """What a launch did."""

    reports: tuple[Report, ...]
    steps: int  # instructions, each executed for a group of threads
    shared_size: int
    local_size: int  # of a thread


def execute(
    module: Module,
    kernel: str,
    blocks: int,
    threads: int,
    parameters: Sequence[int],
    memory: DeviceMemory,
    stored: dict[str, int] | None = None,
    *,
    max_steps: int = 50_000_000,
    banks: Banks | None = None,
) -> Result:
    """Run a kernel on a grid of one dimension.

    `stored` has the addresses of the module's variables in global memory.  Findings are in the
    result; ExecutionError is raised where the kernel cannot go on.  `banks` counts conflicts.
    """
    function = module.kernels[kernel]
    _check_launch(function, blocks, threads, parameters)
    functions = reachable(module, function)
    layout = lay_out(module, functions, _pack(function, parameters), stored or {})
    reports: dict[tuple[str, int], Report] = {}
    counters = Counters(max_steps)
    for region in memory.regions.values():
        region.forget()
    batch = max(1, _BATCH_THREADS // threads)
    with np.errstate(all="ignore"):
        for first in range(0, blocks, batch):
            machine = Machine(
                functions,
                layout,
                Threads(first, min(batch, blocks - first), threads),
                list(memory.regions.values()),
                list(memory.freed.values()),
                reports,
                counters,
                banks,
            )
            _bind(machine, blocks)
            machine.run()
    found = tuple(reports.values())
    return Result(found, counters.steps, layout.shared_size, layout.local_size)


def _check_launch(kernel: Function, blocks: int, threads: int, parameters: Sequence[int]) -> None:
    if not 1 <= threads <= _LARGEST_BLOCK or blocks < 1:
        raise PtxError(f"{blocks} blocks of {threads} threads")
    for limit in ("maxntid", "reqntid"):
        allowed = int(np.prod(kernel.limits.get(limit, [threads])))
        if threads > allowed or (limit == "reqntid" and threads != allowed):
            raise PtxError(f"{threads} threads a block, but the kernel's .{limit} is {allowed}")
    if len(parameters) != len(kernel.parameters):
        message = f"{kernel.name} takes {len(kernel.parameters)} parameters"
        raise PtxError(f"{message}, got {len(parameters)}")


def _pack(kernel: Function, values: Sequence[int]) -> bytes:
    """The bytes of the parameters: integers, or the bits of other types."""
    data, places = b"", offsets(kernel.parameters)
    for parameter, value in zip(kernel.parameters, values, strict=True):
        if parameter.is_array:
            raise PtxError(f"the parameter {parameter.name} is an array")
        size = TYPES[parameter.type].itemsize
        wrapped = value % (1 << 8 * size)
        data = data.ljust(places[parameter.name], b"\0") + wrapped.to_bytes(size, "little")
    return data


def _bind(machine: Machine, blocks: int) -> None:
    """Fill in the machine's code: that of all functions, one after the other."""
    registers = Registers(machine, blocks)
    listing: list[tuple[Function, Instruction]] = []
    places: dict[str, list[int]] = {}
    for function in machine.functions:
        places[function.name] = own = []
        for instruction in function.body:
            own.append(len(listing))
            listing.append((function, instruction))
            if instruction.base == "call":
                listing.append((function, replace(instruction, opcode="call_end", guard=None)))
        own.append(len(listing))
        end = function.body[-1].line if function.body else 0
        listing.append((function, Instruction(end, "(end of function)", "ret")))
    for place, (function, instruction) in enumerate(listing):
        binder = Binder(machine, registers, function, instruction, place, places)
        machine.code.append(_step(binder))


def _step(binder: Binder) -> Step:
    instruction = binder.instruction
    base, guard = instruction.base, instruction.guard
    if base not in PLAIN and base not in CONTROL:
        raise binder.refuse("unknown instruction")
    try:
        if base in PLAIN:
            run = PLAIN[base](binder)
            return Step(_guarded(binder, run) if guard else run, None, instruction)
        control = CONTROL[base](binder)
        return Step(None, _guarded_control(binder, control) if guard else control, instruction)
    except ExecutionError as error:
        if error.line is None:
            raise ExecutionError(error.kind, error.message, instruction) from None
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise binder.refuse(f"cannot be interpreted ({error!r})") from error


class _Guard:
    """Splits a group by the predicate of an instruction."""

    def __init__(self, binder: Binder) -> None:
        assert binder.instruction.guard is not None
        name, self._is_negated = binder.instruction.guard
        self._holds = binder.source(Operand("register", name), "pred")
        self._machine = binder.machine

    def split(self, group: Group) -> tuple[Group | None, Group | None]:
        """The threads that execute the instruction, and those that do not."""
        holds = self._holds(group) ^ self._is_negated
        if holds.all():
            return group, None
        threads = self._machine.indices(group)
        return (threads[holds], threads[~holds]) if holds.any() else (None, group)


def _guarded(binder: Binder, run: Run) -> Run:
    guard = _Guard(binder)

    def run_some(group: Group) -> None:
        chosen, _ = guard.split(group)
        if chosen is not None:
            run(chosen)

    return run_some


def _guarded_control(binder: Binder, control: Control) -> Control:
    guard, machine, after = _Guard(binder), binder.machine, binder.place + 1

    def run(group: Group, depth: int) -> tuple[int, Group] | None:
        chosen, others = guard.split(group)
        if chosen is None:
            return after, group
        if others is None:
            return control(group, depth)
        machine.push(depth, after, others)
        following = control(chosen, depth)
        if following is not None:
            machine.push(depth, *following)
        return None

    return run
