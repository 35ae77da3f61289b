"""Passes by name, and pipelines of them as text: `"simplify,scalarize{states=4},cse"`.

A pass is a function of a program, a context, and options by keyword.  The decorator
`@compiler_pass` registers it by its name.  `redcomp.compile` has the list of passes that run, in
their order.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from redcomp import config
from redcomp.errors import ArgumentError, CompilerError
from redcomp.ir import AnyProgram, Nest, Partition
from redcomp.limits import check_values
from redcomp.target import Context
from redcomp.verify import verify

Option = int | float | str | tuple[int, ...]
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
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
_TYPES: Mapping[str, Callable[[str], Option]] = {
    "int": int,
    "float": float,
    "str": str,
    "tuple[int, ...]": lambda text: tuple(map(int, text.split(","))),
}

# All passes, in the order of their modules' names.
PASSES: dict[str, Pass] = {}


def compiler_pass(function: F) -> F:
    """Make a pass known by its function's name."""
    program, _, *options = inspect.signature(function).parameters.values()
    types = {option.name: str(option.annotation).split(" | ")[0] for option in options}
    name = function.__name__
    needed = tuple(option.name for option in options if option.default is option.empty)
    PASSES[name] = Pass(name, function, str(program.annotation), types, needed)
    return function


@dataclass(frozen=True, slots=True)
class Step:
    """A pass of a pipeline, with its options."""

    name: str
    options: tuple[tuple[str, Option], ...] = ()

    def __call__(self, program: AnyProgram, context: Context) -> AnyProgram:
        """The program after the pass, verified where the settings say so."""
        program = PASSES[self.name].run(program, context, **dict(self.options))
        check_values(len(program.values))
        if config.verify():
            verify(program)
        return program


def run_pipeline(steps: tuple[Step, ...], program: AnyProgram, context: Context) -> AnyProgram:
    """The program after all steps."""
    for step in steps:
        program = step(program, context)
    return program


_STEP = re.compile(r"\s*([\w-]+)\s*(?:\{([^{}]*)\})?\s*(,|$)")


def parse_pipeline(text: str) -> tuple[Step, ...]:
    """The steps of a pipeline: names with options, separated by commas.

    Options stand in braces and are separated by spaces, as in MLIR and xDSL:
    `"scalarize{states=4 lists=1},cse"`.  Raises ArgumentError.
    """
    steps, position = [], 0
    while text[position:].strip():
        match = _STEP.match(text, position)
        if match is None:
            raise ArgumentError(
                f"a pipeline is NAME or NAME{{OPTION=VALUE ...}}, separated by commas; it cannot "
                f"be read from {text[position:].strip()!r} on"
            )
        steps.append(_step(match[1], match[2] or ""))
        position = match.end()
    return tuple(steps)


def _step(name: str, options: str) -> Step:
    if name not in PASSES:
        raise ArgumentError(f"unknown pass {name!r}; known ones: {', '.join(PASSES)}")
    known, given = PASSES[name].options, []
    for item in options.split():
        key, _, value = item.partition("=")
        if key not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise ArgumentError(f"pass {name!r} has no option {key!r}; {has}")
        try:
            given.append((key, _TYPES[known[key]](value)))
        except ValueError:
            raise ArgumentError(
                f"option {key!r} of pass {name!r} must be of type {known[key]}, not {value!r}"
            ) from None
    for key in PASSES[name].needed:
        if key not in dict(given):
            raise ArgumentError(f"pass {name!r} needs the option {key!r}: {name}{{{key}=...}}")
    return Step(name, tuple(given))


def stage_names(steps: tuple[Step, ...]) -> tuple[str, ...]:
    """A name for the stage after each step: the pass's, and after what it runs if it is not new."""
    names: list[str] = []
    for step in steps:
        name = step.name
        names.append(f"{name}-after-{steps[len(names) - 1].name}" if name in names else name)
    return tuple(names)
