"""Stages of a compilation, shown or written where the settings ask for it, and read back edited."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from redcomp import config
from redcomp.ir import AnyProgram, Kernel, Nest, Partition
from redcomp.text import parse_kernel, parse_nest, parse_partition, print_program
from redcomp.trust import COMMON_FLAGS, check_directory, read_file
from redcomp.verify import verify

# In bytes.
LONGEST_STAGE = 2**28
# The file that has the names of the stages of the latest compilation, in their order.
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
        self.written: list[str] = []  # the names of stages that have been dumped, in order

    @classmethod
    def from_settings(cls, kernel: Kernel, variant: str) -> Dumper:
        """`variant` tells compilations of the same kernel apart."""
        dump, override = config.dump_directory(), config.override_directory()
        level = config.debug()
        name = ""
        if dump or override or level:
            name = hashlib.sha256(f"{variant}\n{print_program(kernel)}".encode()).hexdigest()[:12]
        return cls(name, level, dump, override)

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

    def text(self, stage: str, text: str) -> str:
        """Dump a text, or replace it by the edited one of the same name."""
        if not self.name:
            return text
        edited = self.edited(stage)
        text = text if edited is None else edited
        if self.dump:
            _write(self.dump, self.name, stage, text)
            self.written = [name for name in self.written if name != stage] + [stage]
            _write(self.dump, self.name, INDEX, "\n".join(self.written) + "\n")
        return text

    def edited(self, stage: str) -> str | None:
        """The edited text of a stage, if there is one."""
        return _edited(self.override, self.name, stage) if self.override else None

    def compiled(self, what: str, late: Callable[[], Mapping[str, str]]) -> None:
        """After a compilation: one line, then LLVM and machine code where asked for.

        `late` makes the last two stages, which nothing else needed as text.
        """
        if self.dump:
            for stage, text in late().items():
                self.text(stage, text)
        if self.level >= 1:
            _show(f"{self.name} {what}", "")
        if self.level >= 3:
            llvm, code = late().values()
            for title, text in (("LLVM", llvm), ("machine code", code))[: self.level - 2]:
                _show(f"{self.name} {title}", text)


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
