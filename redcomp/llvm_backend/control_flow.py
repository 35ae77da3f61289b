"""Control flow of machine code: basic blocks, natural loops, and the cheapest way through a loop.

Loops have branches that are rarely taken.  What counts is the cheapest way from a loop's header
back to it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise


class Instruction(str):
    """An instruction's text, and the number of its line in the text that it is from."""

    __slots__ = ("place",)
    place: int

    def __new__(cls, text: str, place: int) -> Instruction:
        made = super().__new__(cls, text)
        made.place = place
        return made


@dataclass(slots=True)
class Block:
    """Instructions without a jump between them, and the blocks that may follow.

    targets        names of the blocks that it may jump to
    falls_through  whether the next block of the text may follow
    """

    lines: list[Instruction] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    falls_through: bool = True


class ControlFlow:
    """The control flow from one block on.

    blocks     the basic blocks by name, in the order of the text
    next       where each of them may go
    reachable  the blocks that can be reached from the entry
    loops      the natural loops among them: each header and its blocks
    """

    def __init__(self, blocks: Mapping[str, Block], entry: str) -> None:
        following = dict(pairwise(blocks))
        self.entry, self.blocks = entry, blocks
        self.next = {
            name: [t for t in block.targets if t in blocks]
            + [following[name] for _ in range(block.falls_through and name in following)]
            for name, block in blocks.items()
        }
        self.reachable = self._reached(entry, frozenset())
        self.loops = self._loops()

    def _reached(self, start: str, avoided: frozenset[str]) -> frozenset[str]:
        """The blocks that a way from `start` may come to, around the avoided ones."""
        found, left = set[str](), [start]
        while left:
            name = left.pop()
            if name not in found and name not in avoided:
                found.add(name)
                left += self.next[name]
        return frozenset(found)

    def _loops(self) -> dict[str, frozenset[str]]:
        """The natural loops: each header and the blocks from which it is reached again."""
        before: dict[str, list[str]] = {name: [] for name in self.reachable}
        for name in self.reachable:
            for target in self.next[name]:
                before[target].append(name)
        loops = {}
        for header in self.reachable:
            # A jump is back to the header if there is no way to it but through the header.
            around = self._reached(self.entry, frozenset({header}))
            left = [name for name in before[header] if name not in around]
            inside = {header} if left else set[str]()
            while left:
                name = left.pop()
                if name not in inside:
                    inside.add(name)
                    left += before[name]
            if inside:
                loops[header] = frozenset(inside)
        return loops

    def within(self, loop: frozenset[str]) -> list[str]:
        """The headers of the loops directly inside of a set of blocks."""
        inner = [h for h, blocks in self.loops.items() if blocks < loop]
        return [h for h in inner if not any(self.loops[h] < self.loops[other] for other in inner)]

    def cheapest(self, header: str) -> list[str]:
        """The names of the blocks of the shortest way through a loop."""
        loop = self.loops[header]
        left: list[tuple[int, tuple[str, ...]]] = [(0, (header,))]
        done = set[str]()
        while left:
            cost, way = heapq.heappop(left)
            if way[-1] == header and len(way) > 1:
                return list(way[:-1])
            if way[-1] in done:
                continue
            done.add(way[-1])
            cost += len(self.blocks[way[-1]].lines)
            for target in self.next[way[-1]]:
                if target in loop:
                    heapq.heappush(left, (cost, (*way, target)))
        raise ValueError(f"no way leads back to {header}")

    def cores(self, header: str) -> list[str]:
        """The innermost loops on the cheapest way through a loop; if there are none, itself."""
        way = set(self.cheapest(header))
        inner = [h for h in self.within(self.loops[header]) if h in way]
        return [core for h in inner for core in self.cores(h)] or [header]

    def lines(self, names: Iterable[str]) -> tuple[Instruction, ...]:
        """The instructions of some blocks."""
        return tuple(line for name in names for line in self.blocks[name].lines)
