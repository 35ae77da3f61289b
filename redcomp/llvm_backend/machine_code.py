"""Reading assembly: the innermost loop over pairs, and how many instructions a pair costs."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

_LABEL = re.compile(r"^([.\w$]+):")
_JUMP = re.compile(r"^\s+(?:j\w+|b\.?\w*|cbn?z|tbn?z)\s+(?:.*,\s*)?([.\w$]+)\s*$")
_INSTRUCTION = re.compile(r"^\s+([a-z][\w.]*)(.*)$")
_VECTOR = re.compile(r"%[xyz]mm\d|\bv\d+\.\d*[bhsd]\b|\bq\d+\b")


@dataclass(frozen=True, slots=True)
class LoopBody:
    """The instructions of a loop that jumps back to its own start."""

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

    def __str__(self) -> str:
        return "\n".join(self.lines)


def _is_move(name: str) -> bool:
    return name.startswith(("vmov", "mov", "vbroadcast", "ld", "st", "dup", "vpbroadcast"))


def innermost_loops(assembly: str) -> list[LoopBody]:
    """Every loop that is one basic block, as the assembler's text has it."""
    loops: list[LoopBody] = []
    label, body = "", list[str]()
    for line in assembly.splitlines():
        match = _LABEL.match(line)
        if match:
            label, body = match.group(1), []
            continue
        code = line.split("#")[0].rstrip()
        if not _INSTRUCTION.match(code):
            continue
        body.append(code)
        jump = _JUMP.match(code)
        if jump and label and jump.group(1) == label:
            loops.append(LoopBody(tuple(body)))
            label = ""
    return loops


def pair_loop(assembly: str) -> LoopBody:
    """The innermost loop that computes most: the pair loop, or a loop over components in it."""
    loops = innermost_loops(assembly)
    if not loops:
        raise ValueError("the assembly has no loop")
    return max(loops, key=lambda loop: loop.arithmetic)
