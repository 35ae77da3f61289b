"""The passes by name, each made known by the decorator of its function.

A pass is a function of a program, a context, and options by keyword.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from redcomp.errors import CompilerError
from redcomp.ir import AnyProgram, Nest, Partition
from redcomp.records import record
from redcomp.target import Context

Option = int | float | str | tuple[int, ...]
F = TypeVar("F", bound=Callable[..., Any])


@record
class Pass:
    """A pass by its name.

    takes    "Kernel" or "Nest", where it takes one of them only
    options  what it can be told, and the type of each
    needed   those of them that have no default
    """

    name: str
    function: Callable[..., AnyProgram]
    takes: str
    options: Mapping[str, str]
    needed: tuple[str, ...]

    def run(self, program: AnyProgram, context: Context, **options: Option) -> AnyProgram:
        """The program after the pass, which runs on each part of a partition.

        Raises CompilerError for another kind of program than it takes.
        """
        if isinstance(program, Partition):
            return program.map_nests(lambda nest: self._run_on_part(nest, context, **options))
        given = type(program).__name__
        if self.takes in _WORDS and given != self.takes:
            raise CompilerError(
                f"pass {self.name!r} takes {_WORDS[self.takes]}, not {_WORDS[given]}"
            )
        return self.function(program, context, **options)

    def _run_on_part(self, nest: Nest, context: Context, **options: Option) -> Nest:
        found = self.run(nest, context, **options)
        if not isinstance(found, Nest):
            raise CompilerError(f"pass {self.name!r} takes a whole nest of loops, not its parts")
        return found


_WORDS: Mapping[str, str] = {"Kernel": "a kernel", "Nest": "a nest of loops"}

# Of the modules that have been imported; `pipeline` imports them all.
PASSES: dict[str, Pass] = {}


def compiler_pass(function: F) -> F:
    """Make a pass known by its function's name."""
    program, _, *options = inspect.signature(function).parameters.values()
    types = {option.name: str(option.annotation).split(" | ")[0] for option in options}
    name = function.__name__
    needed = tuple(option.name for option in options if option.default is option.empty)
    PASSES[name] = Pass(name, function, str(program.annotation), types, needed)
    return function
