"""The natural loops of a function: what is executed again and again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ptxsim.syntax import Function, Instruction

_LEAVES = ("bra", "brx", "ret", "exit", "trap")


@dataclass(frozen=True)
class Loop:
    """A loop: the label of its header, its instructions in order (with those of inner loops)."""

    label: str
    instructions: tuple[Instruction, ...]
    depth: int  # from 1
    is_innermost: bool

    @property
    def opcodes(self) -> Counter[str]:
        """How many instructions there are of each opcode."""
        return Counter(instruction.opcode for instruction in self.instructions)


def loops(function: Function) -> list[Loop]:
    """Back edges go to a block that dominates theirs; loops with one header are one."""
    code = function.body
    blocks = _basic_blocks(function)
    following = _successors(function, blocks)
    before = [[n for n, to in enumerate(following) if m in to] for m in range(len(blocks))]
    dominators = _dominators(before)
    bodies: dict[int, set[int]] = {}
    for block, targets in enumerate(following):
        for header in targets:
            if header in dominators[block]:
                body = bodies.setdefault(header, {header})
                _add_body(body, block, before)
    names = {place: label for label, place in reversed(function.labels.items())}
    return [
        Loop(
            names.get(blocks[header].start, f"line {code[blocks[header].start].line}"),
            tuple(code[place] for block in sorted(body) for place in blocks[block]),
            sum(header in other for other in bodies.values()),
            not any(other in body for other in bodies if other != header),
        )
        for header, body in sorted(bodies.items())
    ]


def _basic_blocks(function: Function) -> list[range]:
    code = function.body
    after = (place + 1 for place, i in enumerate(code) if i.base in _LEAVES)
    starts = sorted({0, *function.labels.values(), *after} - {len(code)})
    return [range(a, b) for a, b in zip(starts, [*starts[1:], len(code)], strict=True)]


def _successors(function: Function, blocks: Sequence[range]) -> list[list[int]]:
    numbers = {block.start: number for number, block in enumerate(blocks)}
    found = []
    for number, block in enumerate(blocks):
        last = function.body[block[-1]]
        labels: list[str] = []
        if last.base == "bra":
            labels = [last.operands[0].value]
        elif last.base == "brx":
            labels = function.tables[last.operands[1].value]
        places = (function.labels[label] for label in labels)
        to = [numbers[place] for place in places if place in numbers]
        if (last.guard or last.base not in _LEAVES) and number + 1 < len(blocks):
            to.append(number + 1)
        found.append(to)
    return found


def _dominators(before: Sequence[Sequence[int]]) -> list[set[int]]:
    """For each block, the blocks that are on every way to it."""
    everything = set(range(len(before)))
    current = [{0}] + [everything] * (len(before) - 1)
    while True:
        refined = [{0}]
        for block in range(1, len(before)):
            ways = [current[other] for other in before[block]]
            common = set.intersection(*ways) if ways else set()
            refined.append({block} | common)
        if refined == current:
            return current
        current = refined


def _add_body(body: set[int], end: int, before: Sequence[Sequence[int]]) -> None:
    """Add all blocks from which the end of a loop is reached without its header."""
    left = [end]
    while left:
        block = left.pop()
        if block not in body:
            body.add(block)
            left += before[block]
