"""Pipelines of passes, as text too: `"simplify,scalarize{states=4},cse"`.

Every module of this folder is imported here, which makes its pass known.  `redcomp.compile` has
the list of passes that run, in their order.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Mapping

from redcomp import config, passes
from redcomp.errors import ArgumentError
from redcomp.ir import AnyProgram
from redcomp.limits import check_values
from redcomp.passes.registry import PASSES, Option
from redcomp.records import record
from redcomp.target import Context
from redcomp.verify import verify

__all__ = ["PASSES", "Step", "parse_pipeline", "run_pipeline", "stage_names"]

for _module in pkgutil.iter_modules(passes.__path__):
    importlib.import_module(f"{passes.__name__}.{_module.name}")

_TYPES: Mapping[str, Callable[[str], Option]] = {
    "int": int,
    "float": float,
    "str": str,
    "tuple[int, ...]": lambda text: tuple(map(int, text.split(","))),
}


@record
class Step:
    """A pass of a pipeline, with its options."""

    name: str
    options: tuple[tuple[str, Option], ...] = ()

    def __call__(self, program: AnyProgram, context: Context) -> AnyProgram:
        """The program after the pass, verified where the settings say so and it is another one."""
        made = PASSES[self.name].run(program, context, **dict(self.options))
        if made is not program:
            check_values(len(made.values))
            if config.verify():
                verify(made)
        return made


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
