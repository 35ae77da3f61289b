"""Arithmetic, comparisons, conversions, moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ptxsim import integers
from ptxsim.binder import Binder
from ptxsim.conversions import convert
from ptxsim.floats import APPROXIMATE, float_function, per_element
from ptxsim.instructions.table import plain, space_of
from ptxsim.machine import Run
from ptxsim.rounding import flush, widen
from ptxsim.scalars import (
    FLOATS,
    GLOBAL_START,
    PACKED,
    TYPES,
    WINDOW,
    WINDOW_BITS,
    Array,
    integer,
)
from ptxsim.syntax import Instruction
from ptxsim.threads import Group


class _Row(NamedTuple):
    """How to make the function, the type of the result, and those of the operands.

    "last" and "first" stand for types of the opcode.
    """

    make: Callable[[Instruction], Callable[..., Any]]
    result: str
    operands: str


def _simple(function: Callable[..., Any], result: str, operands: str) -> _Row:
    return _Row(lambda instruction: function, result, operands)


def _convert_address(instruction: Instruction) -> Callable[[Array], Array]:
    window = np.uint64(WINDOW.get(space_of(instruction), 0))
    if "to" in instruction.modifiers:
        return lambda x: x - window
    return lambda x: x + window


def _is_in_space(instruction: Instruction) -> Callable[[Array], Array]:
    window = WINDOW.get(space_of(instruction), GLOBAL_START) >> WINDOW_BITS
    highest = np.uint64(GLOBAL_START >> WINDOW_BITS)
    return lambda x: np.minimum(x >> np.uint64(WINDOW_BITS), highest) == window


def _not(instruction: Instruction) -> Callable[..., Any]:
    return np.logical_not if instruction.types[-1] == "pred" else np.invert


_PROPERTIES: dict[str, Callable[..., Any]] = {
    "finite": np.isfinite,
    "infinite": np.isinf,
    "number": lambda x: ~np.isnan(x),
    "notanumber": np.isnan,
    "normal": lambda x: np.isfinite(x) & (flush(x) != 0),
    "subnormal": lambda x: (x != 0) & (flush(x) == 0),
}


def _test(instruction: Instruction) -> Callable[[Array], Any]:
    return _PROPERTIES[instruction.modifiers[0]]


_ROWS: dict[str, _Row] = {
    "not": _Row(_not, "last", "last"),
    "and": _simple(np.bitwise_and, "last", "last last"),
    "or": _simple(np.bitwise_or, "last", "last last"),
    "xor": _simple(np.bitwise_xor, "last", "last last"),
    "cnot": _simple(lambda x: (x == 0).astype(x.dtype), "last", "last"),
    "lop3": _Row(lambda i: integers.lookup(i.operands[4].value), "b32", "b32 b32 b32"),
    "shl": _simple(integers.shift_left, "last", "last u32"),
    "shr": _simple(integers.shift_right, "last", "last u32"),
    "shf": _Row(
        lambda i: integers.funnel("l" in i.modifiers, "wrap" in i.modifiers),
        "b32",
        "u32 u32 u32",
    ),
    "rem": _simple(integers.remainder, "last", "last last"),
    "popc": _simple(integers.count_ones, "u32", "last"),
    "clz": _simple(integers.leading_zeros, "u32", "last"),
    "bfind": _Row(lambda i: integers.find_bit("shiftamt" in i.modifiers), "u32", "last"),
    "brev": _simple(integers.reverse_bits, "last", "last"),
    "bfe": _simple(integers.extract_bits, "last", "last u32 u32"),
    "bfi": _simple(integers.insert_bits, "last", "last last u32 u32"),
    "prmt": _simple(integers.permute_bytes, "b32", "b32 b32 b32"),
    "sad": _simple(
        lambda a, b, c: np.where(a > b, a - b, b - a) + c,
        "last",
        "last last last",
    ),
    "selp": _simple(lambda a, b, p: np.where(p, a, b), "last", "last last pred"),
    "slct": _simple(lambda a, b, c: np.where(c >= 0, a, b), "first", "first first last"),
    "copysign": _simple(lambda a, b: np.copysign(b, a), "last", "last last"),
    "testp": _Row(_test, "pred", "last"),
    "cvta": _Row(_convert_address, "u64", "u64"),
    "isspacep": _Row(_is_in_space, "pred", "u64"),
    **{
        name: _Row(lambda i: float_function(i.base, i.types[-1], i.modifiers), "last", "last")
        for name in APPROXIMATE
    },
}


@plain(*_ROWS)
def _elementwise(binder: Binder) -> Run:
    instruction = binder.instruction
    if instruction.base == "prmt" and instruction.modifiers != ("b32",):
        raise binder.refuse("modes of prmt")
    row, types = _ROWS[instruction.base], instruction.types
    meaning = {"first": types[0], "last": types[-1]} if types else {}
    kinds = [meaning.get(kind, kind) for kind in row.operands.split()]
    return binder.elementwise(row.make(instruction), meaning.get(row.result, row.result), kinds)


@plain("add", "sub", "mul", "div", "min", "max", "neg", "abs", "mad", "fma")
def _arithmetic(binder: Binder) -> Run:
    instruction = binder.instruction
    kind, name, count = instruction.types[-1], instruction.base, len(binder.operands) - 1
    if kind in FLOATS:
        if instruction.types[0] != kind:
            raise binder.refuse("mixed precision")
        name = {"mad": "fma"}.get(name, name)
        function = float_function(name, kind, instruction.modifiers)
        return binder.elementwise(function, kind, [kind] * count)
    if "cc" in instruction.modifiers:
        raise binder.refuse("carries")
    if name in ("mul", "mad"):
        return _multiply(binder, kind)
    run = binder.elementwise(_integer_function(instruction, kind), kind, [kind] * count)
    return _checked_division(binder, kind, run) if name == "div" else run


def _multiply(binder: Binder, kind: str) -> Run:
    modifiers, wide = binder.instruction.modifiers, kind
    product: Callable[..., Any] = np.multiply
    if "wide" in modifiers:
        wide = f"{kind[0]}{2 * int(kind[1:])}"
        dtype = TYPES[wide]
        product = lambda a, b: a.astype(dtype) * b.astype(dtype)
    elif "hi" in modifiers:
        product = integers.high_product
    if binder.instruction.base == "mul":
        return binder.elementwise(product, wide, [kind, kind])
    return binder.elementwise(lambda a, b, c: product(a, b) + c, wide, [kind, kind, wide])


_INTEGER: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "div": integers.quotient,
    "min": np.minimum,
    "max": np.maximum,
    "neg": np.negative,
    "abs": np.abs,
}


def _integer_function(instruction: Instruction, kind: str) -> Callable[..., Any]:
    function = _INTEGER[instruction.base]
    dtype = TYPES[kind]
    if kind in PACKED:
        return per_element(function, PACKED[kind], kind)
    if "sat" in instruction.modifiers:
        low, high = -(1 << 31), (1 << 31) - 1
        return lambda a, b: np.clip(
            function(a.astype(np.int64), b.astype(np.int64)), low, high
        ).astype(dtype)
    if "relu" in instruction.modifiers:
        return lambda a, b: np.maximum(function(a, b), dtype.type(0))
    return function


def _checked_division(binder: Binder, kind: str, divide: Run) -> Run:
    machine, instruction = binder.machine, binder.instruction
    divisor = binder.values(binder.operands[2], kind)

    def run(group: Group) -> None:
        machine.found.add(
            "div-by-zero",
            instruction,
            divisor(group) == 0,
            machine.indices(group),
            lambda n: "divides an integer by zero",
        )
        divide(group)

    return run


@plain("cvt")
def _convert(binder: Binder) -> Run:
    target, source = binder.instruction.types[:2]
    modifiers = binder.instruction.modifiers
    if target not in PACKED:
        return binder.elementwise(lambda x: convert(x, source, target, modifiers), target, [source])

    def half(x: Array) -> Array:
        converted = np.atleast_1d(convert(x, source, PACKED[target], modifiers))
        return converted.view(np.uint16).astype(np.uint32)

    # the first operand goes to the upper half
    return binder.elementwise(
        lambda a, b: half(a) << np.uint32(16) | half(b), target, [source, source]
    )


_RELATIONS: dict[str, Callable[..., Any]] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "lo": np.less,
    "ls": np.less_equal,
    "hi": np.greater,
    "hs": np.greater_equal,
}
_JOINS: dict[str, Callable[..., Any]] = {
    "and": np.logical_and,
    "or": np.logical_or,
    "xor": np.logical_xor,
}


def _relation(instruction: Instruction, kind: str) -> Callable[..., Any]:
    """The comparison of setp and set: false on NaN, or, with the u of its name, true."""
    name = instruction.modifiers[0]
    if kind not in FLOATS:
        return _RELATIONS[name]

    def value(x: Array) -> Array:
        if kind == "bf16":
            return widen(x, kind)
        return flush(x) if "ftz" in instruction.modifiers else x

    def run(a: Array, b: Array) -> Any:
        a, b = value(a), value(b)
        is_nan = np.isnan(a) | np.isnan(b)
        if name in ("num", "nan"):
            return is_nan if name == "nan" else ~is_nan
        if name[-1] == "u":
            return _RELATIONS[name[:-1]](a, b) | is_nan
        return _RELATIONS[name](a, b) & ~is_nan

    return run


@plain("setp", "set")
def _compare(binder: Binder) -> Run:
    instruction, operands = binder.instruction, binder.operands
    kind, is_setp = instruction.types[-1], instruction.base == "setp"
    result = "pred" if is_setp else instruction.types[0]
    if kind in PACKED:
        return _compare_packed(binder, kind)
    relation = _relation(instruction, kind)
    first, second = (binder.values(operand, kind) for operand in operands[1:3])
    join = next((_JOINS[m] for m in instruction.modifiers[1:] if m in _JOINS), None)
    other = binder.source(operands[3], "pred") if join else None
    targets = operands[0].value if operands[0].kind == "pair" else (operands[0],)
    puts = [binder.target(target, result) for target in targets]
    is_number = TYPES[result].kind in "fb"
    yes = TYPES[result].type(1) if is_number else integer(-1, result)
    no = TYPES[result].type(0)

    def run(group: Group) -> None:
        holds = relation(first(group), second(group))
        joined = other(group) if other else None
        for put, value in zip(puts, (holds, ~holds), strict=False):
            value = join(value, joined) if join else value
            put(group, value if is_setp else np.where(value, yes, no))

    return run


def _compare_packed(binder: Binder, kind: str) -> Run:
    """setp of two elements, with a predicate for each."""
    instruction, operands = binder.instruction, binder.operands
    if instruction.base == "set" or any(m in _JOINS for m in instruction.modifiers[1:]):
        raise binder.refuse("set of packed numbers")
    part = PACKED[kind]
    relation = _relation(instruction, part)
    first, second = (binder.values(operand, kind) for operand in operands[1:3])
    puts = [binder.target(target, "pred") for target in operands[0].value]

    def run(group: Group) -> None:
        a, b = (
            np.ascontiguousarray(value).view(TYPES[part]).reshape(-1, 2).T
            for value in (first(group), second(group))
        )
        for put, holds in zip(puts, relation(a, b), strict=True):
            put(group, holds)

    return run


@plain("mov")
def _move(binder: Binder) -> Run:
    target, source = binder.operands
    kind = binder.instruction.types[-1]
    if source.kind == "vector":
        return _pack(binder, kind)
    if target.kind == "vector":
        return _unpack(binder, kind)
    put, get = binder.target(target, kind), binder.source(source, kind)
    return lambda group: put(group, get(group))


def _pack(binder: Binder, kind: str) -> Run:
    target, source = binder.operands
    whole, parts = TYPES[kind], source.items
    part = f"b{8 * whole.itemsize // len(parts)}"
    put, gets = binder.target(target, kind), [binder.values(item, part) for item in parts]

    def run(group: Group) -> None:
        put(group, np.stack([get(group) for get in gets], axis=1).view(whole)[:, 0])

    return run


def _unpack(binder: Binder, kind: str) -> Run:
    target, source = binder.operands
    parts = target.items
    part = f"b{8 * TYPES[kind].itemsize // len(parts)}"
    get, puts = binder.values(source, kind), [binder.target(item, part) for item in parts]

    def run(group: Group) -> None:
        columns = np.array(get(group)).view(TYPES[part]).reshape(-1, len(puts)).T
        for put, column in zip(puts, columns, strict=True):
            put(group, column)

    return run
