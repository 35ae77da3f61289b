"""Stages of a compilation, shown or written where the settings ask for it, and read back edited."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from redcomp import config
from redcomp.ir import AnyProgram, Kernel, Nest, Output, Partition, Value
from redcomp.text import parse_kernel, parse_nest, parse_partition, print_program
from redcomp.trust import COMMON_FLAGS, check_directory, read_file
from redcomp.verify import verify

# In bytes.
LONGEST_STAGE = 2**28
# The file that says what the latest compilation was about, and the names of its stages in order.
INDEX = "index.txt"
_PARSERS: Mapping[type, Callable[[str], AnyProgram]] = {
    Kernel: parse_kernel,
    Nest: parse_nest,
    Partition: parse_partition,
}
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | COMMON_FLAGS


class Dumper:
    """Shows stages where the settings ask for it, and reads edited ones back."""

    def __init__(self, name: str, level: int, dump: Path | None, override: Path | None) -> None:
        self.name, self.level = name, level
        self.dump, self.override = dump, override
        self.last = ""
        self.is_ended = False
        self.written: list[str] = []  # the names of stages that have been dumped, in order
        self.read: list[str] = []  # the names of edited stages that have been read
        self.facts: dict[str, str] = {}  # what the index says beside them

    @classmethod
    def from_settings(cls, kernel: Kernel, variant: str) -> Dumper:
        """`variant` tells compilations of the same kernel apart."""
        dump, override = config.dump_directory(), config.override_directory()
        level = config.debug()
        name = ""
        if dump or override or level:
            name = hashlib.sha256(f"{variant}\n{print_program(kernel)}".encode()).hexdigest()[:12]
        made = cls(name, level, dump, override)
        made.about("arguments", lambda: ", ".join(map(_argument, kernel.params)))
        made.about("results", lambda: ", ".join(map(_result, kernel.outputs)))
        return made

    @property
    def is_wanted(self) -> bool:
        """Whether any setting asks for stages."""
        return bool(self.name)

    def about(self, fact: str, text: Callable[[], str]) -> None:
        """Add to the index what a compilation is about."""
        if self.dump:
            self.facts[fact] = text()

    def stage(self, stage: str, program: AnyProgram) -> AnyProgram:
        """Dump a program, or replace it by the edited one of the same name."""
        if not self.name:
            return program
        given = print_program(program)
        text = self.text(f"{stage}.mlir", given)
        if text != given:
            program = _PARSERS[type(program)](text)
            verify(program)
        if self.level >= 2 and text != self.last:
            _show(f"{self.name} {stage}", text)
        self.last = text
        return program

    def made_from(self, stage: str, program: AnyProgram) -> None:
        """Dump what the first stage has been made from, which is not read back."""
        text = print_program(program)
        if self.dump:
            self._write(f"{stage}.mlir", text)
        if self.level >= 2:
            _show(f"{self.name} {stage}", text)

    def text(self, stage: str, text: str) -> str:
        """Dump a text, or replace it by the edited one of the same name."""
        if not self.name:
            return text
        edited = self.edited(stage)
        text = text if edited is None else edited
        if self.dump:
            self._write(stage, text)
        return text

    def _write(self, stage: str, text: str) -> None:
        assert self.dump is not None
        _write(self.dump, self.name, stage, text)
        self.written = [name for name in self.written if name != stage] + [stage]
        facts = [f"{fact:<10} {text}" for fact, text in self.facts.items()]
        _write(self.dump, self.name, INDEX, "\n".join([*facts, "", *self.written]) + "\n")

    def edited(self, stage: str) -> str | None:
        """The edited text of a stage, if there is one."""
        if not self.override:
            return None
        text = _edited(self.override, self.name, stage)
        if text is not None:
            self.read.append(stage)
            _show(f"REDCOMP_OVERRIDE: {self.override / self.name / stage} is used", "")
        return text

    def _tell_what_is_not_used(self, directory: Path) -> None:
        folder = directory / self.name
        if not folder.is_dir():
            _show(f"REDCOMP_OVERRIDE: nothing is replaced, for there is no folder {folder}", "")
            return
        unused = sorted({path.name for path in folder.iterdir()} - {*self.read, INDEX})
        if unused:
            _show(f"REDCOMP_OVERRIDE: not used of {folder}: {', '.join(unused)}", "")

    def ended(self, late: Callable[[], Mapping[str, str]]) -> None:
        """After the last stage, once: dump it and LLVM, and tell which edited stages are not used.

        `late` makes these two, which nothing else may have needed as text.
        """
        if self.is_ended:
            return
        self.is_ended = True
        if self.dump:
            for stage, text in late().items():
                self._write(stage, text)
        if self.override:
            self._tell_what_is_not_used(self.override)

    def compiled(self, what: str, times: str, late: Callable[[], Mapping[str, str]]) -> None:
        """After a compilation: what it was and took, then LLVM and machine code where asked for."""
        self.ended(late)
        if self.level >= 1:
            _show(f"{self.name} {what}", f"  {times}")
        if self.level >= 3:
            llvm, code = late().values()
            for title, text in (("LLVM", llvm), ("machine code", code))[: self.level - 2]:
                _show(f"{self.name} {title}", text)


def _argument(variable: Value) -> str:
    return f"{variable['name']} ({variable['kind']}, {variable.type})"


def _result(output: Output) -> str:
    count = f" of {output.count}" if output.count else ""
    return f"{output.reduction}{count} over j of {output.value.type}"


def _edited(directory: Path, name: str, stage: str) -> str | None:
    """An edited stage, which will be run: so nobody else may have written it."""
    path = directory / name / stage
    try:
        for folder in (directory, path.parent):
            check_directory(folder)
        return read_file(path, LONGEST_STAGE).decode().replace("\r\n", "\n")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise config.ConfigError(f"REDCOMP_OVERRIDE: {path}: {error}") from None
    except OSError as error:
        raise config.ConfigError(f"REDCOMP_OVERRIDE: {error}") from None


def _write(directory: Path, name: str, stage: str, text: str) -> None:
    """Write a stage; not through a link, with which somebody else could choose the file."""
    path = directory / name / stage
    try:
        for folder in (directory, path.parent):
            os.makedirs(folder, mode=0o700, exist_ok=True)
            check_directory(folder)
        with open(os.open(path, _WRITE, 0o666), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise config.ConfigError(f"REDCOMP_DUMP: {error}") from None


def _show(title: str, text: str) -> None:
    """REDCOMP_DEBUG writes to standard error even where logging is not configured."""
    print(f"redcomp: {title}\n{text}".rstrip(), file=sys.stderr)
