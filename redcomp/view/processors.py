"""What processors do with an instruction: LLVM's scheduling models, as a table.

`processors.json` has, for each form of an instruction that pair loops use, its micro-operations,
its latency, and how long it takes which ports.  `scripts/make_processors.py` makes it with LLVM's
llvm-mca, which llvmlite does not have.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("processors.json")
# How often work is spread again, and what is too little to be shown, in clocks.
_ROUNDS, _NOTHING = 500, 1e-6

_COMMENT = re.compile(r"\s#\s.*|//.*")
_INSTRUCTION = re.compile(r"^\s*([a-z][\w.]*)\s*(.*?)\s*$")
JUMP = re.compile(r"(?:j[a-z]+|b|b\.[a-z]+|cbn?z|tbn?z)$")
_OPERANDS = re.compile(r",\s*(?![^()\[\]]*[)\]])")
_VECTOR = re.compile(r"%([xyz])mm\d+")
_ARM_VECTOR = re.compile(r"v\d+(?:\.(\d*[bhsd]))?(?:\[\d+\])?$")
_ARM_REGISTER = re.compile(r"([qdsxw])(?:\d+|zr)$|(sp)$")


@dataclass(frozen=True, slots=True)
class Cost:
    """What an instruction takes.

    uops     micro-operations
    latency  clocks until its result is there, from the first-level cache if it reads memory
    uses     clocks on a set of ports, of which any may do it
    """

    uops: int
    latency: int
    uses: tuple[tuple[frozenset[str], float], ...]


@dataclass(frozen=True, slots=True)
class Processor:
    """LLVM's model of a processor.

    name   the model's, of one of the processors that have it
    width  micro-operations that begin in a clock at most
    ports  in their order
    """

    name: str
    width: int
    ports: tuple[str, ...]
    costs: Mapping[str, Cost]

    def cost(self, line: str) -> Cost | None:
        """The cost of an instruction; None if the table lacks its form.

        All conditional jumps cost the same.
        """
        name = form(line)
        found = self.costs.get(name)
        if found is None and JUMP.match(name):
            return next((cost for key, cost in self.costs.items() if JUMP.match(key)), None)
        return found


@dataclass(frozen=True, slots=True)
class Bound:
    """How long the instructions of a loop take at least, when none waits for another's result.

    clocks   an iteration
    limit    the ports that are busy all the time, or "issue"
    busy     by port the clocks that it is busy, if the work is spread as evenly as can be
    unknown  instructions whose cost is not known
    """

    clocks: float
    limit: str
    busy: Mapping[str, float]
    uops: int
    unknown: tuple[str, ...]


def form(line: str) -> str:
    """An instruction's form: its name and what kind its operands are, such as "vaddps m,z,z"."""
    match = _INSTRUCTION.match(_COMMENT.sub("", line))
    if match is None:
        return ""
    name, operands = match.groups()
    if JUMP.match(name):
        return name
    kinds = [_kind(operand) for operand in _OPERANDS.split(operands)] if operands else []
    return f"{name} {','.join(kinds)}".strip()


def _kind(operand: str) -> str:
    """One operand: m for memory, i for a number, r for a register, or the width of a vector."""
    mask = "k" if "{%k" in operand else ""
    if "(" in operand or ("[" in operand and not _ARM_VECTOR.match(operand)):
        broadcast = re.search(r"\{1to\d+\}", operand)
        return "m" + (broadcast[0] if broadcast else "") + mask
    if operand.startswith(("$", "#")):
        return "i"
    vector = _VECTOR.match(operand)
    if vector:
        return vector[1] + mask
    if operand.startswith("%k"):
        return "k"
    arm = _ARM_VECTOR.match(operand)
    if arm:
        return f"v{arm[1] or ''}" + ("[]" if operand.endswith("]") else "")
    register = _ARM_REGISTER.match(operand)
    return register[1] if register and register[1] in ("q", "d", "s") else "r"


@functools.cache
def _table() -> Any:
    return json.loads(TABLE.read_text("utf-8"))


def source() -> str:
    """Where the figures are from."""
    return str(_table()["source"])


def processor(cpu: str) -> Processor | None:
    """The model of a processor by LLVM's name of it; None if there is none."""
    table = _table()
    name = table["names"].get(cpu)
    if name is None:
        return None
    model = table["models"][name]
    ports = tuple(model["ports"])
    sets = [frozenset(ports[n] for n in numbers) for numbers in model["sets"]]
    costs = {
        key: Cost(uops, latency, tuple((sets[n], clocks) for n, clocks in uses))
        for key, (uops, latency, uses) in zip(
            table["forms"],
            (model["kinds"][k] if k >= 0 else (0, 0, None) for k in model["costs"]),
            strict=True,
        )
        if uses is not None
    }
    return Processor(name, model["width"], ports, costs)


def bound(lines: Sequence[str], model: Processor) -> Bound:
    """The bound of a loop's instructions."""
    work: dict[frozenset[str], float] = {}
    uops, unknown = 0, []
    for line in lines:
        cost = model.cost(line)
        if cost is None:
            unknown.append(line.strip())
            uops += 1
            continue
        uops += cost.uops
        for ports, clocks in cost.uses:
            work[ports] = work.get(ports, 0.0) + clocks
    clocks, limit = uops / model.width, "issue"
    # Ports that only serve each other's work are busy for its sum over their number.
    for union in _unions(list(work)):
        inside = sum(taken for ports, taken in work.items() if ports <= union) / len(union)
        if inside > clocks + 1e-9:
            clocks, limit = inside, "+".join(p for p in model.ports if p in union)
    return Bound(clocks, limit, _spread(work, model.ports), uops, tuple(unknown))


def _unions(sets: list[frozenset[str]]) -> set[frozenset[str]]:
    found: set[frozenset[str]] = set()
    for ports in sorted(sets, key=len):
        found |= {ports} | {ports | other for other in found}
    return found


def beside(first: Cost, other: Cost, width: int) -> float:
    """How many of another instruction a clock has room for beside as many of the first as can be.

    width  how many instructions begin in a clock
    """

    def inside(cost: Cost, union: frozenset[str]) -> float:
        return sum(clocks for ports, clocks in cost.uses if ports <= union)

    unions = _unions([ports for ports, _ in (*first.uses, *other.uses)])
    rate = min((len(u) / inside(first, u) for u in unions if inside(first, u)), default=0.0)
    rooms = [
        (len(u) - rate * inside(first, u)) / inside(other, u) for u in unions if inside(other, u)
    ]
    return min([*rooms, max(width - rate, 0.0)])


def _spread(work: Mapping[frozenset[str], float], ports: Sequence[str]) -> dict[str, float]:
    """The work of each port, as even as can be.

    The work that some ports share is spread again over these, beside all other work, until nothing
    changes: the squares of the ports' work only get less, and where they are least, the port that
    is busiest has as little as it can.
    """
    busy = dict.fromkeys(ports, 0.0)
    shares = {chosen: dict.fromkeys(chosen, 0.0) for chosen in work}
    for _ in range(_ROUNDS):
        before = dict(busy)
        for chosen, clocks in work.items():
            others = {port: busy[port] - shares[chosen][port] for port in chosen}
            level = _level(list(others.values()), clocks)
            shares[chosen] = {port: max(level - taken, 0.0) for port, taken in others.items()}
            busy |= {port: taken + shares[chosen][port] for port, taken in others.items()}
        if max(abs(busy[port] - before[port]) for port in ports) < _NOTHING:
            break
    return {port: taken for port, taken in busy.items() if taken > _NOTHING}


def _level(heights: Sequence[float], amount: float) -> float:
    """The level to which an amount fills vessels that are filled to some heights."""
    rising = sorted(heights)
    levels = [(amount + sum(rising[:n])) / n for n in range(1, len(rising) + 1)]
    higher = [*rising[1:], math.inf]
    return next(level for level, height in zip(levels, higher, strict=True) if level <= height)
