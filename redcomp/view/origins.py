"""Which value each instruction computes: in the LLVM that redcomp writes, after LLVM, in assembly.

While a module is written, the emitter tells which operands hold which values.  Then each line of
the module gets its own number as a debug location; LLVM, NVIDIA's assembler and its disassembler
carry these numbers along.  The code is the same with and without them (tests/test_view.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher

from redcomp.ir import Value
from redcomp.llvm_backend.code import Code
from redcomp.llvm_backend.emit import BINDINGS, Operands
from redcomp.llvm_backend.scopes import Scopes
from redcomp.target import Target

# Instructions that are from no line then have line 0, not that of the instruction before.
_UNKNOWN_LOCATIONS = "-use-unknown-locations=Enable"
# Numbers of metadata beyond those that redcomp's own modules use.
_FIRST = 2_000_000
_UNIT, _FILE, _TYPE, _VERSION, _DWARF = (f"!{_FIRST + n}" for n in range(5))
_HEADER = f"""\
!llvm.dbg.cu = !{{{_UNIT}}}
!llvm.module.flags = !{{{_VERSION}, {_DWARF}}}
{_UNIT} = distinct !DICompileUnit(language: DW_LANG_C, file: {_FILE}, isOptimized: true, \
runtimeVersion: 0, emissionKind: DebugDirectivesOnly)
{_FILE} = !DIFile(filename: "module.ll", directory: "/")
{_TYPE} = !DISubroutineType(types: !{{}})
{_VERSION} = !{{i32 2, !"Debug Info Version", i32 3}}
{_DWARF} = !{{i32 7, !"Dwarf Version", i32 4}}
"""

_DEFINE = re.compile(r"^define .*?@([\w.]+)\(")
_RESULT = re.compile(r"^  (%[\w.]+) = ")
_NAME = re.compile(r"%[\w.]+")
_DEBUG = re.compile(r",? !dbg !(\d+)")
_LOCATION = re.compile(r"^!(\d+) = !DILocation\(line: (\d+)")
_LOC = re.compile(r"^\s*\.loc\s+\d+\s+(\d+)\b")
_LLVM_OPCODE = re.compile(r"^  (?:%[\w.]+ = )?(\w+)")
_OPCODE = re.compile(r"^\t(?:@!?%p\d+ )?([a-z][\w.]*)")
_SASS_OPCODE = re.compile(r"^\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)")
_SASS_LINE = re.compile(r'^\s*//## File ".*", line (\d+)')


@dataclass(slots=True)
class Recorder:
    """What emitters write: for each function's code, the value of each operand."""

    codes: list[tuple[Code, dict[str, Value]]] = field(default_factory=list)

    def bindings(self, code: Code) -> Scopes[Value, Operands]:
        for known, values in self.codes:
            if known is code:
                return _Recording(values)
        self.codes.append((code, {}))
        return _Recording(self.codes[-1][1])


class _Recording(Scopes[Value, Operands]):
    """Scopes that also write down the value that each operand was first bound to."""

    __slots__ = ("_values",)

    def __init__(
        self, values: dict[str, Value], known: Mapping[Value, Operands] | None = None
    ) -> None:
        super().__init__(known)
        self._values = values

    def copy(self) -> _Recording:
        return _Recording(self._values, self.now)

    def add(self, key: Value, value: Operands) -> None:
        super().add(key, value)
        for operand in filter(None, value.operands):  # vectors are in memory
            self._values.setdefault(operand, key)


@contextmanager
def recorded() -> Iterator[Recorder]:
    """Record what emitters write that are made in the block."""
    recorder = Recorder()
    token = BINDINGS.set(recorder.bindings)
    try:
        yield recorder
    finally:
        BINDINGS.reset(token)


def values_of_lines(module: str, recorder: Recorder) -> dict[int, Value]:
    """The value that each line of a module computes, by the line's number from 1."""
    lines, found = module.splitlines(), dict[int, Value]()
    bodies = {tuple(code.lines): values for code, values in recorder.codes}
    for start, stop in _functions(lines):
        # The skeleton may write something before and after the code.
        for body, values in bodies.items():
            first = next((k for k in range(start, stop) if lines[k : k + 1] == [*body[:1]]), stop)
            if body and tuple(lines[first : first + len(body)]) == body:
                found.update(_of_function(lines, start, stop, values))
    return found


def _functions(lines: Sequence[str]) -> Iterator[tuple[int, int]]:
    """The first and the last line of each function."""
    start = 0
    for number, line in enumerate(lines):
        if _DEFINE.match(line):
            start = number
        elif line == "}":
            yield start, number


def _of_function(
    lines: Sequence[str], start: int, stop: int, values: Mapping[str, Value]
) -> dict[int, Value]:
    """An instruction that only helps another one, as an address does, is of that one's value."""
    found: dict[int, Value] = {}
    wanted: dict[str, Value] = {}
    for number in range(stop, start, -1):
        line = lines[number]
        result = _RESULT.match(line)
        name = result[1] if result else ""
        operands = _NAME.findall(line[result.end() :] if result else line)
        is_phi = " = phi " in line  # what a loop counts serves all of its values
        value = values.get(name) or (None if is_phi else wanted.get(name))
        if line.startswith("  store"):
            value = values.get(operands[0]) if operands else None
        if value is None:
            continue
        found[number + 1] = value
        if not is_phi:
            wanted.update({operand: value for operand in operands if operand not in values})
    return found


# -- numbers of lines ------------------------------------------------------------------------------


def located(module: str, target: Target) -> tuple[str, Target]:
    """The module with the number of each line as its location; a target that keeps them."""
    lines, metadata, count, scope = [], [_HEADER], _FIRST + 10, ""
    for number, line in enumerate(module.splitlines(), 1):
        if line.startswith("define"):
            count, scope = count + 1, f"!{count}"
            metadata.append(_subprogram(scope, _name_of(line)))
            line = f"{line.removesuffix('{')}!dbg {scope} {{"
        elif line.startswith("  ") and scope:
            metadata.append(f"!{count} = !DILocation(line: {number}, column: 1, scope: {scope})")
            line, count = f"{line}, !dbg !{count}", count + 1
        elif line == "}":
            scope = ""
        lines.append(line)
    options = (*target.llvm_options, _UNKNOWN_LOCATIONS)
    return "\n".join([*lines, *metadata]) + "\n", replace(target, llvm_options=options)


def _name_of(line: str) -> str:
    match = _DEFINE.match(line)
    return match[1] if match else ""


def _subprogram(scope: str, name: str) -> str:
    return (
        f'{scope} = distinct !DISubprogram(name: "{name}", scope: {_FILE}, file: {_FILE}, line: 1, '
        f"type: {_TYPE}, unit: {_UNIT}, spFlags: DISPFlagDefinition)"
    )


def optimized_places(plain: str, debug: str) -> list[int]:
    """For each line of LLVM's optimised text the module's line that it is from; 0 if of none."""
    matches = map(_LOCATION.match, debug.splitlines())
    locations = {match[1]: int(match[2]) for match in matches if match}

    def read(line: str, place: int) -> int:
        found = _DEBUG.search(line)
        return locations.get(found[1], 0) if found else 0

    return _aligned(plain, debug, _LLVM_OPCODE, read)


def assembly_places(plain: str, debug: str) -> list[int]:
    """The same for each line of assembly, or of PTX."""
    return _aligned(plain, debug, _OPCODE, _following(_LOC))


def sass_places(plain: str, debug: str) -> list[int]:
    """The same for each line of a kernel's machine code."""
    return _aligned(plain, debug, _SASS_OPCODE, _following(_SASS_LINE))


def _following(pattern: re.Pattern[str]) -> Callable[[str, int], int]:
    """A location is that of all instructions until the next one."""

    def read(line: str, place: int) -> int:
        found = pattern.match(line)
        return int(found[1]) if found else place

    return read


def _aligned(
    plain: str, debug: str, opcode: re.Pattern[str], read: Callable[[str, int], int]
) -> list[int]:
    """The locations of a debug build for the same instructions without them.

    Only the order of what saves registers may differ, on ARM; what has no counterpart gets 0.
    """
    opcodes, places, place = [], [], 0
    for line in debug.splitlines():
        place = read(line, place)
        match = opcode.match(line)
        if match:
            opcodes.append(match[1])
            places.append(place)
    found = [
        (n, match[1]) for n, match in enumerate(map(opcode.match, plain.splitlines())) if match
    ]
    made = [0] * len(plain.splitlines())
    matcher = SequenceMatcher(None, [name for _, name in found], opcodes, autojunk=False)
    for here, there, size in matcher.get_matching_blocks():
        for k in range(size):
            made[found[here + k][0]] = places[there + k]
    return made
