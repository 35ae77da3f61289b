"""PTX as data: operands, instructions, variables, functions, modules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ptxsim.scalars import TYPES, float_bits, integer


@dataclass(frozen=True, slots=True)
class Operand:
    """An operand; what `value` is depends on `kind`.

    register, special, symbol: a name.  integer: an int.  float: (bits, bytes).  memory: the operand
    of the address.  vector, pair: a tuple of operands.  not: an operand.  sink: nothing.
    """

    kind: str
    value: Any
    offset: int = 0

    @property
    def items(self) -> tuple[Operand, ...]:
        """The elements of a vector; of any other operand, itself."""
        if self.kind != "vector":
            return (self,)
        items: tuple[Operand, ...] = self.value
        return items

    def symbols(self) -> Iterator[str]:
        """The variables, labels and functions that it names."""
        if self.kind == "symbol":
            yield self.value
        elif self.kind in ("memory", "not"):
            yield from self.value.symbols()
        elif self.kind in ("vector", "pair"):
            for item in self.value:
                yield from item.symbols()


def constant(operand: Operand, kind: str) -> Any:
    """A literal operand as a NumPy scalar of a type."""
    if operand.kind == "float":
        bits, size = operand.value
        return float_bits(bits, size, kind)
    return integer(operand.value, kind)


@dataclass(frozen=True, eq=False)
class Instruction:
    """An instruction: its opcode is split at the dots into a base, modifiers, and types."""

    line: int
    text: str
    opcode: str
    operands: tuple[Operand, ...] = ()
    guard: tuple[str, bool] | None = None  # a register, and whether it is negated
    base: str = field(init=False)
    modifiers: tuple[str, ...] = field(init=False)
    types: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        base, *modifiers = self.opcode.split(".")
        plain = tuple(modifier.split("::")[0] for modifier in modifiers)
        object.__setattr__(self, "base", base)
        object.__setattr__(self, "modifiers", plain)
        object.__setattr__(self, "types", tuple(m for m in plain if m in TYPES))

    def one_of(self, *names: str) -> str | None:
        """The first modifier that is one of these."""
        return next((m for m in self.modifiers if m in names), None)


@dataclass(frozen=True, slots=True, eq=False)
class Variable:
    """A variable or parameter; `data` are the bytes it starts with, if they are given."""

    name: str
    space: str
    type: str
    alignment: int
    size: int
    data: bytes = b""
    is_array: bool = False


@dataclass(eq=False)
class Function:
    """A kernel (`is_kernel`) or function; `code` is None where there is only a declaration."""

    name: str
    is_kernel: bool
    parameters: list[Variable]
    results: list[Variable]
    variables: dict[str, Variable]  # parameters, local and shared variables
    registers: dict[str, str] = field(default_factory=dict)  # name, or "prefix<", -> type
    code: list[Instruction] | None = None
    labels: dict[str, int] = field(default_factory=dict)
    tables: dict[str, list[str]] = field(default_factory=dict)  # of .branchtargets
    limits: dict[str, list[int]] = field(default_factory=dict)  # maxntid, reqntid, ...

    @property
    def body(self) -> list[Instruction]:
        """The instructions; none where there is only a declaration."""
        return [] if self.code is None else self.code


@dataclass(eq=False)
class Module:
    """What a PTX file holds."""

    version: str = ""
    target: str = ""
    kernels: dict[str, Function] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)

    @property
    def stored_variables(self) -> list[Variable]:
        """The variables that need memory of the device: global ones and constants."""
        return [v for v in self.variables.values() if v.space in ("global", "const")]
