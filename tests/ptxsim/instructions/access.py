"""Loads, stores, atomic operations, asynchronous copies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ptxsim.binder import Binder, Get
from ptxsim.errors import ExecutionError
from ptxsim.floats import float_function
from ptxsim.instructions.table import plain, space_of
from ptxsim.layout import offsets
from ptxsim.machine import Run
from ptxsim.memory import (
    CHANGE,
    COPY,
    READ,
    READ_CONSTANT,
    READ_STRONG,
    WRITE,
    WRITE_STRONG,
    Access,
    Hit,
    Site,
)
from ptxsim.scalars import FLOATS, TYPES, Array
from ptxsim.syntax import Instruction
from ptxsim.threads import Group

_STRONG = ("volatile", "relaxed", "acquire", "release", "mmio")
_COPY_SIZES = (4, 8, 16)


def _load_access(instruction: Instruction) -> Access:
    if instruction.one_of(*_STRONG):
        return READ_STRONG
    return READ_CONSTANT if "nc" in instruction.modifiers else READ


@plain("ld", "ldu")
def _load(binder: Binder) -> Run:
    instruction, machine = binder.instruction, binder.machine
    space, kind, source = space_of(instruction), instruction.types[-1], binder.operands[1]
    targets = binder.operands[0].items
    if space == "param" and source.value.kind == "symbol":
        return _load_parameter(binder, kind)
    dtype, count = TYPES[kind], len(targets)
    puts = [binder.target(target, kind) for target in targets]
    address, site = binder.address(source, space), Site(instruction, space, dtype.itemsize * count)
    access = _load_access(instruction)

    def read(group: Group) -> Array:
        threads = machine.indices(group)
        return machine.read(site, access, address(group), threads, dtype.itemsize)

    def run(group: Group) -> None:
        puts[0](group, read(group).view(dtype))

    def run_vector(group: Group) -> None:
        values = read(group)
        for column, put in enumerate(puts):
            put(group, values[:, column].view(dtype))

    return run if count == 1 else run_vector


def _load_parameter(binder: Binder, kind: str) -> Run:
    function, source = binder.function, binder.operands[1]
    targets, size = binder.operands[0].items, TYPES[kind].itemsize
    puts = [binder.target(target, kind) for target in targets]
    variable = function.variables[source.value.value]
    if not 0 <= source.offset <= variable.size - size * len(puts):
        message = f"'{variable.name}' has {variable.size} bytes"
        raise ExecutionError("out-of-bounds", message, binder.instruction)
    if function.is_kernel and variable in function.parameters:
        start = offsets(function.parameters)[variable.name] + source.offset
        data = binder.machine.layout.parameters[start : start + size * len(puts)]
        values = data.copy().view(TYPES[kind])

        def run_kernel(group: Group) -> None:
            for put, value in zip(puts, values, strict=True):
                put(group, value)

        return run_kernel
    rows = binder.parameter(variable.name)

    def run(group: Group) -> None:
        for number, put in enumerate(puts):
            start = source.offset + number * size
            put(group, rows[group, start : start + size].copy().view(TYPES[kind])[:, 0])

    return run


@plain("st")
def _store(binder: Binder) -> Run:
    instruction, machine = binder.instruction, binder.machine
    space, target = space_of(instruction), binder.operands[0]
    size, sources = TYPES[instruction.types[-1]].itemsize, binder.operands[1].items
    gets = [binder.values(source, f"b{8 * size}") for source in sources]
    if space == "param":
        return _store_parameter(binder, gets, size)
    address, site = binder.address(target, space), Site(instruction, space, size * len(gets))
    access = WRITE_STRONG if instruction.one_of(*_STRONG) else WRITE

    def run(group: Group) -> None:
        columns = [get(group) for get in gets]
        values = columns[0] if len(columns) == 1 else np.stack(columns, axis=1)
        machine.write(site, access, address(group), machine.indices(group), values, size)

    return run


def _store_parameter(binder: Binder, gets: list[Get], size: int) -> Run:
    target = binder.operands[0]
    rows = binder.parameter(target.value.value)

    def run(group: Group) -> None:
        for number, get in enumerate(gets):
            start = target.offset + number * size
            values = np.ascontiguousarray(get(group)).view(np.uint8).reshape(-1, size)
            rows[group, start : start + size] = values

    return run


_INTEGER_CHANGES: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}
_CHANGES: dict[str, Callable[..., Any]] = {
    "exch": lambda old, new: new,
    "cas": lambda old, expected, new: np.where(old == expected, new, old),
    "inc": lambda old, top: np.where(old >= top, old.dtype.type(0), old + old.dtype.type(1)),
    "dec": lambda old, top: np.where((old == 0) | (old > top), top, old - old.dtype.type(1)),
}


def _change(binder: Binder, kind: str) -> Callable[..., Any]:
    name = binder.instruction.one_of(*_INTEGER_CHANGES, *_CHANGES)
    if name is None:
        raise binder.refuse("this atomic operation")
    if name in _CHANGES:
        return _CHANGES[name]
    return float_function(name, kind, ["rn"]) if kind in FLOATS else _INTEGER_CHANGES[name]


@plain("atom", "red")
def _atomic(binder: Binder) -> Run:
    instruction, machine = binder.instruction, binder.machine
    space, kind, operands = space_of(instruction), instruction.types[-1], list(binder.operands)
    dtype, change = TYPES[kind], _change(binder, kind)
    put = binder.target(operands.pop(0), kind) if instruction.base == "atom" else None
    if any(operand.kind == "vector" for operand in operands):
        raise binder.refuse("vectors")
    address, site = binder.address(operands[0], space), Site(instruction, space, dtype.itemsize)
    gets = [binder.values(operand, kind) for operand in operands[1:]]

    def run(group: Group) -> None:
        threads, values = machine.indices(group), [get(group) for get in gets]
        old = np.zeros(len(threads), dtype)
        for hit in machine.memory.find(site, address(group), threads):
            mine = np.arange(len(threads))[hit.selected]
            machine.note(site, CHANGE, hit, threads[mine])
            cells = hit.region.rows(dtype.itemsize, 1).view(dtype)
            for turn in _turns(hit, dtype.itemsize):
                at, who = hit.offsets[turn] // dtype.itemsize, mine[turn]
                old[who] = cells[at]
                cells[at] = change(old[who], *(value[who] for value in values))
        if put:
            put(group, old)

    return run


def _turns(hit: Hit, size: int) -> list[Array]:
    """Threads with one address take turns, in their order."""
    cells = hit.offsets // size
    order = np.argsort(cells, kind="stable")
    every = np.arange(len(cells))
    begins = np.concatenate([[True], np.diff(cells[order]) != 0])
    turn = every - np.maximum.accumulate(np.where(begins, every, 0))
    return [order[turn == number] for number in range(int(turn.max()) + 1)]


@plain("cp")
def _copy(binder: Binder) -> Run:
    instruction, machine = binder.instruction, binder.machine
    copies = machine.copies
    if instruction.modifiers[0] != "async" or instruction.one_of("bulk", "mbarrier"):
        raise binder.refuse("copies other than cp.async, commit_group, wait_group and wait_all")
    if "commit_group" in instruction.modifiers:
        return lambda group: copies.commit(machine.indices(group))
    if instruction.one_of("wait_group", "wait_all"):
        newest = binder.operands[0].value if binder.operands else None
        return lambda group: copies.wait(machine.indices(group), newest)
    return _start_copy(binder)


def _start_copy(binder: Binder) -> Run:
    instruction, machine, operands = binder.instruction, binder.machine, binder.operands
    size: int = operands[2].value
    if size not in ((16,) if "cg" in instruction.modifiers else _COPY_SIZES):
        raise binder.refuse(f"cp.async of {size} bytes")
    target, source = binder.address(operands[0], "shared"), binder.address(operands[1], "global")
    to_site = Site(instruction, "shared", size)
    counts = _bytes_to_read(binder, size)

    def run(group: Group) -> None:
        threads, addresses = machine.indices(group), source(group)
        count = np.broadcast_to(counts(group), len(threads)).astype(np.int64)
        if (count > size).any():
            message = f"{count.max()} bytes to read for a copy of {size}"
            raise ExecutionError("out-of-bounds", message, instruction)
        wrong = addresses & np.uint64(size - 1) != 0
        if wrong.any():
            who = machine.threads.who(threads[wrong][0])
            message = f"{who}: the source {int(addresses[wrong][0]):#x} is not a multiple of {size}"
            raise ExecutionError("misaligned", message, instruction)
        (hit,) = machine.memory.find(to_site, target(group), threads)
        data = _read_sources(binder, addresses, threads, count, size)
        machine.note(to_site, COPY, hit, threads)
        machine.copies.start(threads, hit.offsets, data)

    return run


def _bytes_to_read(binder: Binder, size: int) -> Get:
    """How many bytes are read; the rest become zeros."""
    if len(binder.operands) <= 3:
        return lambda group: size
    last = binder.operands[3]
    if not binder.predicate(last):
        return binder.source(last, "u32")
    ignores = binder.source(last, "pred")
    return lambda group: np.where(ignores(group), 0, size)


def _read_sources(
    binder: Binder, addresses: Array, threads: Array, count: Array, size: int
) -> Array:
    """A row of bytes for each thread; only the bytes that are really read must be there."""
    data = np.zeros((len(threads), size), np.uint8)
    for present in np.unique(count[count > 0]).tolist():
        some, unit = count == present, present & -present
        site = Site(binder.instruction, "global", unit)
        for start in range(0, present, unit):
            at = addresses[some] + np.uint64(start)
            values = binder.machine.read(site, READ, at, threads[some], min(unit, 8))
            data[some, start : start + unit] = (
                np.ascontiguousarray(values).view(np.uint8).reshape(-1, unit)
            )
    return data
