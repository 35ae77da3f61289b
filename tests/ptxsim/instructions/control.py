"""Jumps, calls, barriers of blocks, and what has no effect here."""

from __future__ import annotations

import numpy as np

from ptxsim.barriers import EVERYBODY
from ptxsim.binder import Binder
from ptxsim.errors import ExecutionError
from ptxsim.instructions.table import control, plain
from ptxsim.layout import callee
from ptxsim.machine import Control, Run
from ptxsim.threads import WARP, Group

_NAMED_BARRIERS = 16


@plain("membar", "fence", "prefetch", "prefetchu", "nanosleep", "griddepcontrol", "discard")
def _nothing(binder: Binder) -> Run:
    return lambda group: None


@control("bra")
def _jump(binder: Binder) -> Control:
    label = binder.operands[0].value
    to = binder.places[binder.function.name][binder.function.labels[label]]
    return lambda group, depth: (to, group)


@control("brx")
def _jump_by_table(binder: Binder) -> Control:
    function, machine = binder.function, binder.machine
    which = binder.values(binder.operands[0], "u32")
    places = binder.places[function.name]
    targets = [places[function.labels[x]] for x in function.tables[binder.operands[1].value]]

    def run(group: Group, depth: int) -> None:
        chosen = which(group)
        if chosen.max() >= len(targets):
            message = f"index {chosen.max()} of {len(targets)} targets"
            raise ExecutionError("out-of-bounds", message, binder.instruction)
        for number in np.unique(chosen).tolist():
            machine.push(depth, targets[number], machine.indices(group)[chosen == number])

    return run


@control("ret", "exit")
def _return(binder: Binder) -> Control:
    machine, exits = binder.machine, binder.instruction.base == "exit"

    def run(group: Group, depth: int) -> None:
        if depth == 0 or exits:
            machine.exit(group)
            return
        threads = machine.indices(group)
        back = machine.return_places[depth - 1][threads]
        for place in np.unique(back).tolist():
            machine.push(depth - 1, place, threads[back == place])

    return run


@control("trap", "brkpt")
def _trap(binder: Binder) -> Control:
    machine = binder.machine

    def run(group: Group, depth: int) -> None:
        who = machine.threads.who(machine.indices(group)[0])
        raise ExecutionError("trap", who, binder.instruction)

    return run


@control("call")
def _call(binder: Binder) -> Control:
    machine, registers = binder.machine, binder.registers
    position, name = callee(binder.instruction)
    called = next(f for f in machine.functions if f.name == name)
    given = binder.operands[position + 1].items if len(binder.operands) > position + 1 else ()
    pairs = [
        (binder.parameter(operand.value), registers.parameter(called, parameter.name))
        for operand, parameter in zip(given, called.parameters, strict=True)
    ]
    entry, after = binder.places[name][0], binder.place + 1

    def run(group: Group, depth: int) -> None:
        for own, theirs in pairs:
            theirs[group] = own[group]
        empty = np.zeros(machine.threads.count, np.int64)
        machine.return_places.setdefault(depth, empty)[group] = after
        machine.push(depth + 1, entry, group)

    return run


@plain("call_end")
def _take_results(binder: Binder) -> Run:
    """The instruction that is put after each call."""
    position, name = callee(binder.instruction)
    called = next(f for f in binder.machine.functions if f.name == name)
    wanted = binder.operands[0].items if position else ()
    pairs = [
        (binder.parameter(operand.value), binder.registers.parameter(called, result.name))
        for operand, result in zip(wanted, called.results, strict=True)
    ]

    def run(group: Group) -> None:
        for own, theirs in pairs:
            own[group] = theirs[group]

    return run


@control("bar", "barrier")
def _barrier(binder: Binder) -> Control:
    instruction, machine, place = binder.instruction, binder.machine, binder.place
    if "warp" in instruction.modifiers:
        return _warp_barrier(binder)
    if instruction.one_of("cluster", "arrive", "red"):
        raise binder.refuse("barriers other than sync")
    operands = binder.operands
    name = binder.values(operands[0], "u32")
    count = binder.values(operands[1], "u32") if len(operands) > 1 else None
    is_simple = count is None and operands[0].kind == "integer"
    is_simple = is_simple and operands[0].value < _NAMED_BARRIERS

    def run(group: Group, depth: int) -> tuple[int, Group] | None:
        threads = machine.indices(group)
        if is_simple and machine.barriers.pass_at_once(instruction, threads):
            return place + 1, group
        names = name(group).astype(np.int64)
        needed = np.full(len(threads), EVERYBODY)
        if count is not None:
            needed = count(group).astype(np.int64)
        if names.max() >= _NAMED_BARRIERS or (count and (needed % WARP + (needed == 0)).any()):
            message = "barriers are 0 to 15, and take positive multiples of 32 threads"
            raise ExecutionError("divergent-barrier", message, instruction)
        machine.barriers.arrive(threads, place, depth, names, needed)
        return None

    return run


def _warp_barrier(binder: Binder) -> Control:
    machine = binder.machine

    def run(group: Group) -> None:
        threads = machine.indices(group)
        warps = machine.threads.warp[threads]
        for warp in np.unique(warps):
            machine.order.join(threads[warps == warp])

    mask = binder.source(binder.operands[0], "u32")
    return machine.collective(run, mask, binder.place)
