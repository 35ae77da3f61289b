"""Reading assembly: the loop over pairs, and how many instructions a pair costs.

Where a reduction is rarely adjusted, the loop has branches.  What counts is the cheapest way
through it, on which nothing is adjusted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from redcomp.llvm_backend.control_flow import Block, ControlFlow, Instruction
from redcomp.records import record

_COMMENT = re.compile(r"\s#\s|//")  # on ARM, # starts a number
_LABEL = re.compile(r"^([.\w$]+):")
_JUMP = re.compile(r"^\s+(j\w+|b\.?\w*|cbn?z|tbn?z)\s+(?:.*,\s*)?([.\w$]+)\s*$")
_RETURN = re.compile(r"^\s+ret\w*\b")
_INSTRUCTION = re.compile(r"^\s+([a-z][\w.]*)(.*)$")
_SPILL = re.compile(
    r"%[xyz]mm\d+, -?\d*\(%r[sb]p\)|^\s+st[rpu]+\s+q\d+.*\[(?:sp|x29)\b", re.MULTILINE
)
_VECTOR = re.compile(r"%[xyz]mm\d|\bv\d+\.\d*[bhsd]\b|\bq\d+\b")


@record
class LoopBody:
    """The instructions of the cheapest way through a loop."""

    lines: tuple[Instruction, ...]

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


def _blocks(assembly: str) -> Iterator[tuple[str, Block]]:
    """The basic blocks of a text, in its order."""
    name, block, count = "", Block(), 0
    for place, line in enumerate(assembly.splitlines()):
        label = _LABEL.match(line)
        code = _COMMENT.split(line)[0].rstrip()
        if label:
            yield name, block
            name, block = label.group(1), Block()
        elif _INSTRUCTION.match(code):
            block.lines.append(Instruction(code, place))
            jump = _JUMP.match(code)
            if jump:
                block.targets.append(jump.group(2))
            block.falls_through = jump is None or jump.group(1) not in ("jmp", "b")
            if jump or _RETURN.match(code):
                block.falls_through &= jump is not None
                yield name, block
                count += 1
                name, block = f"{name} +{count}", Block()
    yield name, block


def loop_name(number: int) -> str:
    """The function of a pair loop; modules may have several."""
    return f"pairs{number or ''}"


def pair_loop(assembly: str, number: int = 0) -> LoopBody:
    """The loop over pairs that computes most, or the loop over components that is its core.

    Inside of the loop over blocks of rows there are the loops over the columns, which may have
    loops over components in them, and others that are rarely needed.
    """
    name = loop_name(number)
    labels = (match.group(1) for match in map(_LABEL.match, assembly.splitlines()) if match)
    entry = next((label for label in labels if label.strip("_") == name), None)
    if entry is None:
        raise ValueError("the assembly has no loop over pairs")
    function = ControlFlow(dict(_blocks(assembly)), entry)
    bodies = [
        LoopBody(function.lines(function.cheapest(core)))
        for rows in function.within(function.reachable)
        for header in function.within(function.loops[rows])
        for core in function.cores(header)
    ]
    if not bodies:
        raise ValueError("the assembly has no loop over pairs")
    return max(bodies, key=lambda body: body.arithmetic)
