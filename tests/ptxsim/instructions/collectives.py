"""Instructions in which the threads of a warp take part together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ptxsim.binder import Binder
from ptxsim.instructions.table import control, plain
from ptxsim.machine import Control, Run
from ptxsim.scalars import POISON, Array
from ptxsim.syntax import Operand
from ptxsim.threads import WARP, Group

_SINK = Operand("sink", None)
_ALL_LANES = Operand("integer", -1)


@plain("activemask")
def _active_mask(binder: Binder) -> Run:
    put, machine = binder.target(binder.operands[0], "b32"), binder.machine

    def run(group: Group) -> None:
        lanes = machine.threads.lane_bits(machine.indices(group))
        put(group, lanes[machine.threads.warp[group]].astype(np.uint32))

    return run


@control("shfl")
def _shuffle(binder: Binder) -> Control:
    instruction, machine, operands = binder.instruction, binder.machine, binder.operands
    pair = operands[0].value if operands[0].kind == "pair" else (operands[0], _SINK)
    put, put_valid = binder.target(pair[0], "b32"), binder.target(pair[1], "pred")
    is_sync = "sync" in instruction.modifiers
    given = (*operands[1:4], operands[4] if is_sync else _ALL_LANES)
    value, step, limit, mask = (binder.values(operand, "u32") for operand in given)
    choose = _SOURCES[instruction.one_of(*_SOURCES) or "idx"]
    count, threads = machine.threads.count, machine.threads

    def run(group: Group) -> None:
        here = machine.indices(group)
        lane, limits = threads.lane[here], limit(group).astype(np.int64)
        lanes, is_valid = choose(lane, step(group).astype(np.int64) & WARP - 1, limits)
        lanes = np.where(is_valid, lanes, lane)
        source = here - lane + lanes
        values, is_here = np.zeros(count + WARP, np.uint32), np.zeros(count + WARP, bool)
        values[here], is_here[here] = value(group), True
        other_warp = threads.warp[np.minimum(source, count - 1)] != threads.warp[here]
        unnamed = mask(group).astype(np.int64) >> lanes & 1 == 0
        lost = ~is_here[source] | other_warp | unnamed
        machine.found.add(
            "shfl-source",
            instruction,
            lost,
            here,
            lambda n: f"reads lane {lanes[n]}, which takes no part",
        )
        put(group, np.where(lost, np.uint32(POISON[4]), values[source]))
        put_valid(group, is_valid)

    return machine.collective(run, mask, binder.place)


def _bounded(
    lanes: Callable[[Array, Array, Array], Array], *, is_up: bool = False
) -> Callable[[Array, Array, Array], tuple[Array, Array]]:
    """The lane to read from, and whether it is in the segment of the warp."""

    def choose(lane: Array, step: Array, limits: Array) -> tuple[Array, Array]:
        segment = limits >> 8 & WARP - 1
        source = lanes(lane, step, segment)
        bound = lane & segment | limits & WARP - 1 & ~segment
        return source, source >= bound if is_up else source <= bound

    return choose


_SOURCES = {
    "up": _bounded(lambda lane, step, segment: lane - step, is_up=True),
    "down": _bounded(lambda lane, step, segment: lane + step),
    "bfly": _bounded(lambda lane, step, segment: lane ^ step),
    "idx": _bounded(lambda lane, step, segment: lane & segment | step & ~segment),
}


def _ballot(flags: Array, lanes: Array) -> Any:
    return np.uint32(((1 << lanes) * flags).sum())


_VOTES: dict[str, Callable[[Array, Array], Any]] = {
    "ballot": _ballot,
    "all": lambda flags, lanes: flags.all(),
    "any": lambda flags, lanes: flags.any(),
    "uni": lambda flags, lanes: flags.all() or not flags.any(),
}


@control("vote")
def _vote(binder: Binder) -> Control:
    instruction, machine, operands = binder.instruction, binder.machine, binder.operands
    is_sync = "sync" in instruction.modifiers
    name = instruction.one_of(*_VOTES)
    if name is None:
        raise binder.refuse("this vote")
    vote = _VOTES[name]
    mask = binder.values(operands[-1] if is_sync else _ALL_LANES, "u32")
    value = binder.values(operands[1], "pred")
    put = binder.target(operands[0], "b32" if name == "ballot" else "pred")

    def run(group: Group) -> None:
        here, flags = machine.indices(group), value(group)
        lanes, named = machine.threads.lane[here], mask(group).astype(np.int64)
        together = machine.threads.warp[here] << WARP | named
        takes_part = named >> lanes & 1 == 1
        for one in np.unique(together[takes_part]):
            some = (together == one) & takes_part
            put(here[some], vote(flags[some], lanes[some]))

    return machine.collective(run, mask, binder.place)
