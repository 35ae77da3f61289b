"""The tables that instructions are registered in, by the first part of their opcode."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ptxsim.binder import Binder
from ptxsim.machine import Control, Run
from ptxsim.scalars import SPACES
from ptxsim.syntax import Instruction

RunBuilder: TypeAlias = Callable[[Binder], Run]
ControlBuilder: TypeAlias = Callable[[Binder], Control]

PLAIN: dict[str, RunBuilder] = {}
CONTROL: dict[str, ControlBuilder] = {}


def plain(*names: str) -> Callable[[RunBuilder], RunBuilder]:
    """Register what makes instructions that go on with the next one."""

    def register(build: RunBuilder) -> RunBuilder:
        PLAIN.update(dict.fromkeys(names, build))
        return build

    return register


def control(*names: str) -> Callable[[ControlBuilder], ControlBuilder]:
    """Register what makes instructions that may go elsewhere, or wait."""

    def register(build: ControlBuilder) -> ControlBuilder:
        CONTROL.update(dict.fromkeys(names, build))
        return build

    return register


def space_of(instruction: Instruction) -> str:
    """The state space that is named, or nothing for generic addresses."""
    return instruction.one_of(*SPACES) or ""
