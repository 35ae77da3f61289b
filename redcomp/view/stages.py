"""The stages of a compilation as data for the page: lines, and whose value each of them is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redcomp.abi import RUN, kernel_name
from redcomp.backends.gpu import GpuLowering
from redcomp.backends.host import HostLowering
from redcomp.ir import BOUND, Value
from redcomp.llvm_backend import code_generation
from redcomp.passes.pipeline import PASSES
from redcomp.ptx.assemble import ToolError, assemble, disassemble
from redcomp.ptx.sass import section
from redcomp.text.pretty import listing_of
from redcomp.view import origins
from redcomp.view.sameness import Sameness, Stage

Json = dict[str, Any]

_ROLES = {"name": "n", "op": "o", "number": "u", "type": "t", "word": "w", "mark": "m", "note": "c"}
_NO_GROUP = -1
_LLVM_FUNCTION = re.compile(r"^define .*?@([\w.]+)\(")
_LABEL = re.compile(r"^_?([A-Za-z]\w*):")
_SASS_ADDRESS = re.compile(r"^\s+/\*([0-9a-f]+)\*/\s+")
_PTX_FUNCTION = re.compile(r"^(?:\.visible )?\.entry (\w+)\(|^\.func .*?(\w+)\(")

# By whether it is for a GPU: the stage's name, what it is, and how its functions begin.
_ASSEMBLY = {
    False: ("asm", "the assembly that LLVM makes", _LABEL),
    True: ("ptx", "the PTX that LLVM makes", _PTX_FUNCTION),
}


@dataclass(frozen=True, slots=True)
class Places:
    """Which group and family the value of each line of the module has, by its number from 1."""

    of: Mapping[int, tuple[int, int]]

    def __getitem__(self, place: int) -> tuple[int, int]:
        return self.of.get(place, (_NO_GROUP, _NO_GROUP))


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts after the passes, and of which line of the module each of their lines is.

    machine   of each kernel its machine code and places; nothing on hosts or without its tools
    """

    module: str
    llvm: str
    llvm_places: Sequence[int]
    assembly: str
    assembly_places: Sequence[int]
    machine: Mapping[str, tuple[str, Sequence[int]]]
    values: Mapping[int, Value]


def texts_of(lowering: HostLowering | GpuLowering) -> Texts:
    """Compile with and without debug locations; LLVM makes the same instructions of both."""
    with origins.recorded() as recorder:
        module = lowering.module_text
    given, target = lowering.given_llvm
    located, keeping = origins.located(given, target)
    llvm = code_generation.optimized_llvm(located, keeping)
    assembly = code_generation.assembly(located, keeping)
    return Texts(
        module,
        lowering.llvm,
        origins.optimized_places(lowering.llvm, llvm),
        lowering.asm,
        origins.assembly_places(lowering.asm, assembly),
        _machine(lowering, assembly) if isinstance(lowering, GpuLowering) else {},
        origins.values_of_lines(module, recorder),
    )


def _machine(lowering: GpuLowering, located: str) -> dict[str, tuple[str, Sequence[int]]]:
    """What NVIDIA's assembler makes of the kernels over pairs, where it is installed."""
    name = lowering.target.name
    try:
        plain = lowering.sass
        marked = disassemble(assemble(located, name, "-lineinfo").code, "--print-line-info")
    except ToolError:
        return {}
    found: dict[str, tuple[str, Sequence[int]]] = {}
    for number in range(len(lowering.planned)):
        kernel = kernel_name(RUN, number)
        text = section(plain, kernel)
        found[kernel] = text, origins.sass_places(text, section(marked, kernel))
    return found


def places_of(texts: Texts, sameness: Sameness) -> Places:
    """The groups of the values that lines of the module compute."""
    known = sameness.stages[-1].known
    found = {}
    for line, value in texts.values.items():
        same = known.get(value)
        if same is not None:
            found[line] = sameness.group[same], sameness.family[same]
    return Places(found)


def program_stages(sameness: Sameness, source: str) -> list[Json]:
    """The stages that are programs of values."""
    keys = {value: n for n, value in enumerate(sameness.group)}
    made: list[Json] = []
    before: list[Any] = []
    for stage in sameness.stages:
        lines = [
            [
                line.indent,
                [[p.text, _ROLES[p.role], _group(p.value, stage, sameness)] for p in line.pieces],
                *_of_line(line.value, stage, sameness, keys),
            ]
            for line in listing_of(stage.program, source, names_of(stage, sameness))
        ]
        about = _about(stage.name)
        made.append(
            {
                "name": stage.name,
                "kind": "ir",
                "about": about,
                "changes": not before or lines != before,
                "lines": lines,
            }
        )
        before = lines
    return made


def names_of(stage: Stage, sameness: Sameness) -> dict[Value, str]:
    """Values have the numbers of their groups, so that they are called the same in all stages."""
    return {
        value: str(sameness.group[same])
        for value, same in stage.known.items()
        if value.op not in ("variable", *BOUND)
    }


def _group(value: Value | None, stage: Stage, sameness: Sameness) -> int:
    if value is None:
        return _NO_GROUP
    return sameness.group.get(stage.known.get(value, value), _NO_GROUP)


def _of_line(
    value: Value | None, stage: Stage, sameness: Sameness, keys: Mapping[Value, int]
) -> list[int]:
    """The group, the family and the identity of the value that a line defines."""
    same = None if value is None else stage.known.get(value, value)
    if same not in sameness.group:
        return [_NO_GROUP, _NO_GROUP, _NO_GROUP]
    return [sameness.group[same], sameness.family[same], keys[same]]


def _about(name: str) -> str:
    """What a pass does, in its own words."""
    row = PASSES.get(name.partition("-after-")[0])
    text = (row.function.__doc__ or "") if row else "what the frontend makes of the formula"
    return text.split("\n\n")[0].strip().rstrip(".")


# -- texts -----------------------------------------------------------------------------------------


def text_stages(
    texts: Texts, places: Places, pair_functions: Sequence[str], is_gpu: bool
) -> list[Json]:
    """The stages after the passes."""
    own = range(1, texts.module.count("\n") + 2)
    name, about, function = _ASSEMBLY[is_gpu]
    made = [
        ("module", "llvm", "LLVM as redcomp writes it", texts.module, own, _LLVM_FUNCTION),
        ("llvm", "llvm", "after LLVM's optimiser", texts.llvm, texts.llvm_places, _LLVM_FUNCTION),
        (name, "asm", about, texts.assembly, texts.assembly_places, function),
    ]
    stages = []
    for name, kind, about, text, numbers, pattern in made:
        functions = _functions(text.splitlines(), numbers, places, pattern, pair_functions)
        stages.append(_text_stage(name, kind, about, functions))
    if texts.machine:
        kernels = [
            _function(kernel, 0, _lines(text.splitlines(), numbers, places))
            for kernel, (text, numbers) in texts.machine.items()
        ]
        stages.append(_text_stage("sass", "sass", "machine code, by NVIDIA's assembler", kernels))
    return stages


def _text_stage(name: str, kind: str, about: str, functions: list[Json]) -> Json:
    return {"name": name, "kind": kind, "about": about, "changes": True, "functions": functions}


def _function(name: str, first: int, lines: list[Any], is_open: bool = True) -> Json:
    return {"name": name, "open": is_open, "first": first, "lines": lines}


def _functions(
    lines: Sequence[str],
    numbers: Sequence[int],
    places: Places,
    pattern: re.Pattern[str],
    pair_functions: Sequence[str],
) -> list[Json]:
    """The functions of a text; those of the pair loops are open."""
    starts = [(0, "before the functions")]
    for number, line in enumerate(lines):
        match = pattern.match(line)
        if match:
            starts.append((number, next(filter(None, match.groups()))))
    made = []
    stops = [*(start for start, _ in starts[1:]), len(lines)]
    for (start, name), stop in zip(starts, stops, strict=True):
        if stop > start:
            found = _lines(lines[start:stop], list(numbers)[start:stop], places)
            made.append(_function(name, start, found, name in pair_functions))
    return made


def _lines(lines: Sequence[str], numbers: Sequence[int], places: Places) -> list[Any]:
    return [[_shown(line), *places[n]] for line, n in zip(lines, numbers, strict=False)]


def _shown(line: str) -> str:
    """A line without the room that NVIDIA's disassembler leaves before instructions."""
    return _SASS_ADDRESS.sub(r"  \1  ", line.expandtabs(8))
