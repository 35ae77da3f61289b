"""Threads that wait at barriers of their block."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ptxsim.errors import ExecutionError
from ptxsim.findings import Findings
from ptxsim.order import Order
from ptxsim.scalars import Array
from ptxsim.syntax import Instruction
from ptxsim.threads import WARP, Threads

_NONE = -1
EVERYBODY = -1  # as the number of threads that a barrier takes


def is_aligned(instruction: Instruction) -> bool:
    """Whether all threads of a warp must execute the same barrier together."""
    return instruction.base == "bar" or "aligned" in instruction.modifiers


class Barriers:
    """Where each thread waits, and until when."""

    def __init__(
        self,
        threads: Threads,
        order: Order,
        found: Findings,
        instruction_at: Callable[[int], Instruction],
        resume: Callable[[int, int, Array], None],
    ) -> None:
        """`resume` lets threads go on: the depth of their calls, the place in the code, threads."""
        self._threads, self._order, self._found = threads, order, found
        self._instruction_at, self._resume = instruction_at, resume
        self.name = np.full(threads.count, _NONE)
        self.place = np.full(threads.count, _NONE)
        self._depth = np.full(threads.count, _NONE)
        self._needed = np.full(threads.count, _NONE)

    @property
    def waiting(self) -> Array:
        """The threads that wait."""
        return np.flatnonzero(self._threads.alive & (self.name != _NONE))

    def pass_at_once(self, instruction: Instruction, threads: Array) -> bool:
        """The usual case: all running threads of some blocks arrive together and go on."""
        here = np.bincount(self._threads.block[threads], minlength=self._threads.blocks)
        if not ((here == self._threads.alive_in_block) | (here == 0)).all():
            return False
        if is_aligned(instruction):
            self._check_exited(instruction, here > 0)
        self._order.join_blocks(here > 0)
        return True

    def arrive(self, threads: Array, place: int, depth: int, name: Array, needed: Array) -> None:
        """Threads begin to wait; barriers that are complete let theirs go."""
        self.name[threads], self._needed[threads] = name, needed
        self.place[threads], self._depth[threads] = place, depth
        self.release(np.unique(self._threads.block[threads]).tolist())

    def release(self, blocks: Sequence[int]) -> None:
        """Let go the barriers of these blocks at which all have arrived."""
        for block in blocks:
            mine = self._threads.block == block
            for name in np.unique(self.name[mine & (self.name != _NONE)]):
                waiting = np.flatnonzero(mine & (self.name == name))
                if self._is_complete(waiting, block, int(name)):
                    self._let_go(waiting, block)

    def _is_complete(self, waiting: Array, block: int, name: int) -> bool:
        needed = int(self._needed[waiting].max())
        if needed == EVERYBODY:
            return len(waiting) == int(self._threads.alive_in_block[block])
        lanes = self._threads.lane_bits(waiting)
        arrived = int(((lanes != 0) & (lanes == self._threads.alive_lanes)).sum()) * WARP
        if arrived > needed:
            raise ExecutionError(
                "deadlock",
                f"{arrived} threads arrive at barrier {name}, which takes {needed}",
                self._instruction_at(int(self.place[waiting[0]])),
            )
        return arrived == needed

    def _let_go(self, waiting: Array, block: int) -> None:
        here = np.arange(self._threads.blocks) == block
        places, depths = self.place[waiting], self._depth[waiting]
        instruction = self._instruction_at(int(places[0]))
        if is_aligned(instruction):
            self._check_same_place(waiting, instruction)
            self._check_exited(instruction, here)
        if self._needed[waiting].max() == EVERYBODY:
            self._order.join_blocks(here)
        else:
            self._order.join(waiting)
        self.name[waiting] = _NONE
        for place, depth in {*zip(places.tolist(), depths.tolist(), strict=True)}:
            self._resume(depth, place + 1, waiting[(places == place) & (depths == depth)])

    def _check_same_place(self, waiting: Array, instruction: Instruction) -> None:
        places, warps = self.place[waiting], self._threads.warp[waiting]
        if (np.diff(places)[np.diff(warps) == 0] != 0).any():
            lines = sorted({self._instruction_at(place).line for place in places.tolist()})
            who = self._threads.who(waiting[0])
            raise ExecutionError(
                "divergent-barrier",
                f"the warp of {who} waits at barriers at lines {lines}",
                instruction,
            )

    def _check_exited(self, instruction: Instruction, blocks: Array) -> None:
        """Report threads that have exited while others of their warp wait at an aligned barrier."""
        threads = self._threads
        if (blocks & (threads.alive_in_block < threads.block_size)).any():
            lanes = threads.alive_lanes[threads.warp]
            self._found.add(
                "divergent-barrier",
                instruction,
                ~threads.alive & blocks[threads.block] & (lanes != 0),
                threads.index,
                lambda n: "has exited while others of its warp wait at an aligned barrier",
            )
