"""Reading machine code of NVIDIA's GPUs: the loop over pairs, and its instructions by pipe.

What counts is the cheapest way through the loop, on which nothing is adjusted.  The assembler may
unroll a loop by itself, and then an iteration has more pairs than the schedule says; loops that
are marked with `llvm.loop.unroll.disable` it leaves as they are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping

from redcomp.llvm_backend.control_flow import Block, ControlFlow, Instruction
from redcomp.records import record

# The instructions of each pipe, without their modifiers: "CUDA Binary Utilities", section
# "Instruction Set Reference", for the names; "Nsight Compute", section "Pipelines", for the pipes.
# Names that begin with U are of the uniform pipe, which computes once a warp.
_PIPES: Mapping[str, str] = {
    "fma": """FADD FADD2 FADD32I FMUL FMUL2 FMUL32I FFMA FFMA2 FFMA32I FSWZADD
        HADD2 HMUL2 HFMA2 IMAD IMUL IDP""",
    "alu": """FMNMX FMNMX3 FSEL FSET FSETP FCHK HMNMX2 HSET2 HSETP2 F2FP F2IP I2FP
        IADD IADD3 IADD32I VIADD VIADDMNMX VIMNMX VIMNMX3 IABS IMNMX ISET ISETP ISCADD LEA
        LOP3 LOP32I PLOP3 SEL SHF SHL SHR SGXT BMSK PRMT MOV MOV32I P2R R2P PSETP VABSDIFF VOTE""",
    "fp64": "DADD DMUL DFMA DMNMX DSETP",
    "xu": "MUFU F2F F2I I2F I2I FRND POPC FLO BREV",
    "tensor": "HMMA IMMA BMMA QMMA OMMA",
    "tensor64": "DMMA",
    "lsu": """LDS LDSM STS LDG STG LDGSTS LDL STL LD ST ATOM ATOMG ATOMS RED REDG SHFL MATCH""",
    "uniform": "R2UR S2UR VOTEU",
    "control": """BRA BRX JMP JMX CALL RET EXIT BSSY BSYNC BREAK BAR WARPSYNC DEPBAR LDGDEPBAR
        MEMBAR ERRBAR NANOSLEEP YIELD NOP""",
}
PIPE: Mapping[str, str] = {name: pipe for pipe, names in _PIPES.items() for name in names.split()}

# Instructions of two results take their pipe twice as long.
_RESULTS = {"FADD2": 2, "FMUL2": 2, "FFMA2": 2}

# Instructions on float32 and float64.  Those on halves are left out: they set registers to zero.
_ARITHMETIC = re.compile(r"[FD](?!CHK|LO|EPBAR)|MUFU|I2F|[A-Z]MMA")

_SECTION = re.compile(r"^//-+ \.text\.(\S+) ", re.MULTILINE)
_LABEL = re.compile(r"^(\.L\w+):")
_INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]+\*/\s+(.*?)\s*;")
_PARTS = re.compile(r"(@!?U?P\w+\s+)?([A-Z][A-Z0-9]*)([.\w]*)\s*(.*)")
_TARGET = re.compile(r"`\((\.L\w+)\)")
_BARRIER = re.compile(r"\bB\d+\b")


@record
class MachineLoop:
    """The instructions of the cheapest way through a loop.

    core    those of them that are a loop inside
    again   how often that loop runs, besides the first time
    """

    lines: tuple[Instruction, ...]
    core: tuple[Instruction, ...] = ()
    again: int = 0

    @property
    def executed(self) -> tuple[Instruction, ...]:
        """What is executed, each instruction as often as that."""
        return self.lines + self.core * self.again

    @property
    def counts(self) -> Counter[str]:
        """Instructions by name and modifiers."""
        return Counter(name + rest for _, name, rest, _ in map(_split, self.executed))

    @property
    def pipes(self) -> Counter[str]:
        """Instructions by pipe; those of no known pipe are "other"."""
        return Counter(map(pipe_of, self.executed))

    @property
    def work(self) -> Counter[str]:
        """How often each pipe is taken by a warp.

        Shared memory gives 32 words a clock (32 banks of 4 bytes), so a load of four words a
        thread takes four times as long as that of one.
        """
        work: Counter[str] = Counter()
        for line in self.executed:
            work[pipe_of(line)] += taken(line)
        return work

    @property
    def arithmetic(self) -> int:
        """Instructions on floating-point numbers, but for what moves them."""
        return sum(bool(_ARITHMETIC.match(name)) for _, name, _, _ in map(_split, self.lines))

    @property
    def prepares_tiles(self) -> bool:
        """Whether it writes to shared memory, or waits for the other threads that do."""
        return any(name in ("STS", "LDGSTS", "BAR") for _, name, _, _ in map(_split, self.lines))

    @property
    def spills(self) -> int:
        """Loads and stores of the stack."""
        return sum(name in ("LDL", "STL") for _, name, _, _ in map(_split, self.lines))

    def __str__(self) -> str:
        return "\n".join(self.lines)


def pair_loop(sass: str, kernel: str, chunks: int = 0) -> MachineLoop:
    """The loop of a kernel that computes most of those that prepare no tiles.

    Around it there are loops over tiles, which merge totals and wait for copies, and over tasks,
    whose cheapest way has no columns; beside it are loops that fill the tile, that take the columns
    that remain, or that are rarely needed.  If it has a loop over components in it, that one is its
    core.

    Where vectors come in chunks, so many a tile, it is the loop over tiles: the one around the loop
    over chunks, which multiplies matrices.
    """
    blocks = dict(_blocks(section(sass, kernel)))
    flow = ControlFlow(blocks, next(iter(blocks)))
    loops = {header: MachineLoop(flow.lines(flow.cheapest(header))) for header in flow.loops}
    if chunks:
        return _over_tiles(flow.loops, loops, chunks)
    tiles = [flow.loops[header] for header, loop in loops.items() if loop.prepares_tiles]
    bodies = [
        loop
        for header, loop in loops.items()
        if flow.cores(header) == [header] and not any(own < flow.loops[header] for own in tiles)
    ]
    if not bodies:
        raise ValueError(f"the machine code of {kernel} has no loop")
    return max(bodies, key=lambda body: (not body.prepares_tiles, body.arithmetic))


def _over_tiles(
    blocks: Mapping[str, frozenset[str]], loops: Mapping[str, MachineLoop], chunks: int
) -> MachineLoop:
    """The loop over tiles with that over chunks, of the loops of some blocks."""
    innermost = [h for h in loops if not any(own < blocks[h] for own in blocks.values())]
    core = max(innermost, key=lambda h: loops[h].pipes["tensor"])
    around = [h for h in loops if blocks[core] < blocks[h]]
    outer = loops[min(around, key=lambda h: len(blocks[h]))]
    inside = {line.place for line in outer.lines}
    runs = all(line.place in inside for line in loops[core].lines)
    return MachineLoop(outer.lines, loops[core].lines, chunks - runs)


def section(sass: str, kernel: str) -> str:
    """The part of the text that is a kernel's code; places of its instructions are lines of it."""
    parts = _SECTION.split(sass)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    if kernel not in found:
        raise ValueError(f"the machine code has no kernel {kernel!r}, but {sorted(found)}")
    return found[kernel].split("\n//---", 1)[0]


def _split(line: str) -> tuple[str, str, str, str]:
    """An instruction's guard, name, modifiers and operands."""
    match = _PARTS.match(line)
    if match is None:
        raise ValueError(f"not an instruction: {line!r}")
    guard, name, modifiers, operands = match.groups()
    return guard or "", name, modifiers, operands


def pipe_of(line: str) -> str:
    """The pipe that an instruction takes; "other" if it is not known."""
    _, name, _, _ = _split(line)
    return PIPE.get(name) or ("uniform" if name.startswith("U") else "other")


def taken(line: str) -> int:
    """How often an instruction takes its pipe, see `MachineLoop.work`."""
    _, name, modifiers, _ = _split(line)
    words = (int(width) // 32 for width in re.findall(r"\.(64|128)\b", modifiers))
    return max([1, *words]) if pipe_of(line) == "lsu" else _RESULTS.get(name, 1)


def _blocks(code: str) -> Iterator[tuple[str, Block]]:
    """The basic blocks of a kernel, in the order of its text."""
    name, block, count = "", Block(), 0
    meetings: dict[str, str] = {}
    for place, line in enumerate(code.splitlines()):
        label, instruction = _LABEL.match(line), _INSTRUCTION.match(line)
        if label:
            yield name, block
            name, block = label.group(1), Block()
        elif instruction:
            block.lines.append(Instruction(instruction.group(1), place))
            if _ends(block, meetings):
                yield name, block
                count += 1
                name, block = f"{name} +{count}", Block()
    yield name, block


def _ends(block: Block, meetings: dict[str, str]) -> bool:
    """Whether the last instruction may go elsewhere than to the next; says where to.

    meetings   where the threads that wait at each barrier go on (BSSY says it, BSYNC goes there)
    """
    guard, name, _, operands = _split(block.lines[-1])
    target, barrier = _TARGET.search(operands), _BARRIER.search(operands)
    if name == "BSSY" and target and barrier:
        meetings[barrier.group()] = target.group(1)
    elif name in ("BRA", "JMP", "CALL") and target:
        block.targets.append(target.group(1))
        # A branch with operands besides its target is taken or not; a call returns.
        is_sure = name != "CALL" and not guard and operands == target.group()
        block.falls_through = not is_sure
        return True
    elif name == "BSYNC" and barrier and barrier.group() in meetings:
        block.targets.append(meetings[barrier.group()])
        block.falls_through = bool(guard)
        return True
    elif name in ("EXIT", "RET"):
        block.falls_through = bool(guard)
        return True
    return False
