"""Reading assembly: the loop over pairs, and how many instructions a pair costs.

Where a reduction is rarely adjusted, the loop has branches.  What counts is the cheapest way
through it, on which nothing is adjusted.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

PAIRS = "pairs"

_COMMENT = re.compile(r"\s#\s|//")  # on ARM, # starts a number
_LABEL = re.compile(r"^([.\w$]+):")
_JUMP = re.compile(r"^\s+(j\w+|b\.?\w*|cbn?z|tbn?z)\s+(?:.*,\s*)?([.\w$]+)\s*$")
_RETURN = re.compile(r"^\s+ret\w*\b")
_INSTRUCTION = re.compile(r"^\s+([a-z][\w.]*)(.*)$")
_SPILL = re.compile(
    r"%[xyz]mm\d+, -?\d*\(%r[sb]p\)|^\s+st[rpu]+\s+q\d+.*\[(?:sp|x29)\b", re.MULTILINE
)
_VECTOR = re.compile(r"%[xyz]mm\d|\bv\d+\.\d*[bhsd]\b|\bq\d+\b")


@dataclass(frozen=True, slots=True)
class LoopBody:
    """The instructions of the cheapest way through a loop."""

    lines: tuple[str, ...]

    @property
    def vector_instructions(self) -> int:
        """Instructions that touch a vector register."""
        return sum(bool(_VECTOR.search(line)) for line in self.lines)

    @property
    def arithmetic(self) -> int:
        """Vector instructions that compute: everything but moves, loads, stores and broadcasts."""
        return sum(count for name, count in self.counts.items() if not _is_move(name))

    @property
    def counts(self) -> Counter[str]:
        """Vector instructions by name."""
        return Counter(
            match.group(1)
            for line in self.lines
            if _VECTOR.search(line) and (match := _INSTRUCTION.match(line))
        )

    @property
    def spills(self) -> int:
        """Vector registers that are saved on the stack."""
        return sum(bool(_SPILL.search(line)) for line in self.lines)

    def __str__(self) -> str:
        return "\n".join(self.lines)


def _is_move(name: str) -> bool:
    return name.startswith(("vmov", "mov", "vbroadcast", "ld", "st", "dup", "vpbroadcast"))


@dataclass(slots=True)
class _Block:
    """Instructions without a jump between them, and the blocks that may follow."""

    lines: list[str]
    targets: list[str]
    falls_through: bool = True


class _Function:
    """The control flow from one label on: basic blocks by name, and where each may go."""

    def __init__(self, assembly: str, entry: str) -> None:
        blocks = dict(_blocks(assembly))
        order = list(blocks)
        following = dict(pairwise(order))
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

    def body(self, names: Sequence[str]) -> LoopBody:
        return LoopBody(tuple(line for name in names for line in self.blocks[name].lines))


def _blocks(assembly: str) -> Iterator[tuple[str, _Block]]:
    """The basic blocks of a text, in its order."""
    name, block, count = "", _Block([], []), 0
    for line in assembly.splitlines():
        label = _LABEL.match(line)
        code = _COMMENT.split(line)[0].rstrip()
        if label:
            yield name, block
            name, block = label.group(1), _Block([], [])
        elif _INSTRUCTION.match(code):
            block.lines.append(code)
            jump = _JUMP.match(code)
            if jump:
                block.targets.append(jump.group(2))
            block.falls_through = jump is None or jump.group(1) not in ("jmp", "b")
            if jump or _RETURN.match(code):
                block.falls_through &= jump is not None
                yield name, block
                count += 1
                name, block = f"{name} +{count}", _Block([], [])
    yield name, block


def pair_loop(assembly: str) -> LoopBody:
    """The loop over pairs that computes most, or the loop over components that is its core.

    Inside of the loop over blocks of rows there are the loops over the columns, which may have
    loops over components in them, and others that are rarely needed.
    """
    labels = (match.group(1) for match in map(_LABEL.match, assembly.splitlines()) if match)
    entry = next((label for label in labels if label.strip("_") == PAIRS), None)
    if entry is None:
        raise ValueError("the assembly has no loop over pairs")
    function = _Function(assembly, entry)
    bodies = [
        function.body(function.cheapest(core))
        for rows in function.within(function.reachable)
        for header in function.within(function.loops[rows])
        for core in _cores(function, header)
    ]
    if not bodies:
        raise ValueError("the assembly has no loop over pairs")
    return max(bodies, key=lambda body: body.arithmetic)


def _cores(function: _Function, header: str) -> list[str]:
    """The innermost loops on the cheapest way through a loop; if there are none, itself."""
    way = set(function.cheapest(header))
    inner = [h for h in function.within(function.loops[header]) if h in way]
    return [core for h in inner for core in _cores(function, h)] or [header]
