"""Ties an instruction's operands to registers, addresses and constants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from ptxsim.errors import ExecutionError
from ptxsim.machine import Machine, Run
from ptxsim.scalars import POISON, TYPES, UNSIGNED, WINDOW, Array, DType, integer
from ptxsim.syntax import Function, Instruction, Operand, constant
from ptxsim.threads import WARP, Group

Get: TypeAlias = Callable[[Group], Any]
Put: TypeAlias = Callable[[Group, Any], None]

_CLOCKS = ("%clock", "%clock64", "%clock_hi", "%globaltimer")
_ALL_LANES = (1 << 32) - 1
_MULTIPROCESSORS = 132


class Registers:
    """The registers of a batch, made when they are first named."""

    def __init__(self, machine: Machine, blocks: int) -> None:
        """`blocks` is the number of the whole grid."""
        self._count = machine.threads.count
        self._arrays: dict[tuple[str, str], Array] = {}
        self._parameters: dict[tuple[str, str], Array] = {}
        self._special = _special_registers(machine, blocks)

    def get(self, function: Function, name: str) -> Array:
        """A register of a function: one element a thread."""
        key = function.name, name
        if key not in self._arrays:
            dtype = TYPES[function.registers[name]]
            if dtype.kind in "bV":
                self._arrays[key] = np.zeros(self._count, dtype)
            else:
                self._arrays[key] = np.full(
                    self._count, POISON[dtype.itemsize], UNSIGNED[dtype.itemsize]
                )
        return self._arrays[key]

    def special(self, name: str) -> Array:
        """A special register, with 64 bits."""
        if name not in self._special:
            raise ExecutionError("unsupported", f"special register {name}")
        return self._special[name]

    def parameter(self, function: Function, name: str) -> Array:
        """A .param variable of a call: a row of bytes for each thread."""
        key = function.name, name
        if key not in self._parameters:
            size = -(-function.variables[name].size // 16) * 16
            self._parameters[key] = np.zeros((self._count, size), np.uint8)
        return self._parameters[key]


def _special_registers(machine: Machine, blocks: int) -> dict[str, Array]:
    threads = machine.threads
    bit = 1 << threads.lane
    values: dict[str, Any] = {
        "%tid.x": threads.within,
        "%ntid.x": threads.block_size,
        "%ctaid.x": threads.grid_block,
        "%nctaid.x": blocks,
        "%laneid": threads.lane,
        "%warpid": threads.within // WARP,
        "%nwarpid": -(-threads.block_size // WARP),
        "%smid": threads.grid_block % _MULTIPROCESSORS,
        "%nsmid": _MULTIPROCESSORS,
        "%gridid": 1,
        "%lanemask_eq": bit,
        "%lanemask_lt": bit - 1,
        "%lanemask_le": 2 * bit - 1,
        "%lanemask_ge": _ALL_LANES + 1 - bit,
        "%lanemask_gt": _ALL_LANES + 1 - 2 * bit,
    }
    for axis in "yz":
        values |= {f"%tid.{axis}": 0, f"%ntid.{axis}": 1}
        values |= {f"%ctaid.{axis}": 0, f"%nctaid.{axis}": 1}
    return {
        name: np.broadcast_to(np.asarray(value), threads.count).astype(np.uint64)
        for name, value in values.items()
    }


class Binder:
    """One instruction, at its place in the code of a machine."""

    def __init__(
        self,
        machine: Machine,
        registers: Registers,
        function: Function,
        instruction: Instruction,
        place: int,
        places: dict[str, list[int]],
    ) -> None:
        """`places` are those of each function's instructions."""
        self.machine, self.registers, self.function = machine, registers, function
        self.instruction, self.place, self.places = instruction, place, places

    @property
    def operands(self) -> tuple[Operand, ...]:
        """The operands of the instruction."""
        return self.instruction.operands

    def refuse(self, message: str) -> ExecutionError:
        """An error to raise: something that is not supported."""
        return ExecutionError("unsupported", message, self.instruction)

    def register(self, name: str) -> Array:
        """A register of this function."""
        return self.registers.get(self.function, name)

    def predicate(self, operand: Operand) -> bool:
        """Whether an operand is a predicate register."""
        return operand.kind == "register" and self.function.registers[operand.value] == "pred"

    def source(self, operand: Operand, kind: str) -> Get:
        """A function from a group to the operand's values: an array, or one number for all."""
        dtype = TYPES[kind]
        if operand.kind == "not":
            inner = self.source(operand.value, "pred")
            return lambda group: ~inner(group)
        if operand.kind in ("integer", "float", "symbol"):
            is_symbol = operand.kind == "symbol"
            value = integer(self.symbol(operand), kind) if is_symbol else constant(operand, kind)
            return lambda group: value
        if operand.kind == "special" and operand.value in _CLOCKS:
            return lambda group: dtype.type(self.machine.counters.steps)
        if operand.kind == "special":
            array = self.registers.special(operand.value).astype(UNSIGNED[dtype.itemsize])
        else:
            array = self.register(operand.value)
        return self._viewed(array, dtype, operand)

    def _viewed(self, array: Array, dtype: DType, operand: Operand) -> Get:
        if array.dtype == dtype:
            return lambda group: array[group]
        self._check_width(array, dtype, operand)
        if array.dtype.itemsize == dtype.itemsize:
            return lambda group: array[group].view(dtype)
        low = UNSIGNED[dtype.itemsize]
        return lambda group: array[group].astype(low).view(dtype)

    def _check_width(self, array: Array, dtype: DType, operand: Operand) -> None:
        is_other = array.dtype.kind in "bV" or dtype.kind in "bV"
        if is_other or array.dtype.itemsize < dtype.itemsize:
            width = 8 * array.dtype.itemsize
            raise self.refuse(f"{dtype} in the {width}-bit register {operand.value}")

    def values(self, operand: Operand, kind: str) -> Get:
        """Like source, but always with one value for each thread."""
        get = self.source(operand, kind)
        if operand.kind == "register":
            return get
        return lambda group: np.broadcast_to(get(group), self.machine.size_of(group))

    def target(self, operand: Operand, kind: str) -> Put:
        """A function that stores values for a group; wider registers are extended."""
        if operand.kind == "sink":
            return lambda group, values: None
        array, dtype = self.register(operand.value), TYPES[kind]

        def put(group: Group, values: Any) -> None:
            array[group] = values

        def put_viewed(group: Group, values: Any) -> None:
            array[group] = values.view(array.dtype)

        if array.dtype == dtype:
            return put
        self._check_width(array, dtype, operand)
        if array.dtype.itemsize == dtype.itemsize:
            return put_viewed
        if dtype.kind == "f":
            bits = UNSIGNED[dtype.itemsize]
            return lambda group, values: put(group, values.view(bits).astype(array.dtype))
        wide = np.dtype(f"{dtype.kind}{array.dtype.itemsize}")
        return lambda group, values: put(group, values.astype(wide).astype(array.dtype))

    def symbol(self, operand: Operand) -> int:
        """The address of a variable in its own state space."""
        for scope in (self.function.name, ""):
            address = self.machine.layout.addresses.get((scope, operand.value))
            if address is not None:
                return address + operand.offset
        raise self.refuse(f"no address is known for '{operand.value}'")

    def address(self, operand: Operand, space: str) -> Get:
        """A function from a group to the generic addresses of a memory operand."""
        base: Operand = operand.value
        add = operand.offset + WINDOW.get(space, 0)
        if base.kind == "register":
            array, step = self.register(base.value), np.uint64(add % (1 << 64))
            return lambda group: array[group].astype(np.uint64, copy=False) + step
        add += self.symbol(base) if base.kind == "symbol" else base.value
        return lambda group: np.full(self.machine.size_of(group), add % (1 << 64), np.uint64)

    def parameter(self, name: str, function: Function | None = None) -> Array:
        """The bytes of a .param variable of a call."""
        return self.registers.parameter(function or self.function, name)

    def elementwise(self, run: Callable[..., Any], result: str, kinds: Sequence[str]) -> Run:
        """The instruction that stores a function of its operands."""
        if len(self.operands) <= len(kinds):
            raise self.refuse("too few operands")
        put = self.target(self.operands[0], result)
        pairs = zip(self.operands[1:], kinds, strict=False)
        sources = [self.source(operand, kind) for operand, kind in pairs]
        if len(sources) == 1:
            (only,) = sources
            return lambda group: put(group, run(only(group)))
        if len(sources) == 2:
            first, second = sources
            return lambda group: put(group, run(first(group), second(group)))
        return lambda group: put(group, run(*[source(group) for source in sources]))
