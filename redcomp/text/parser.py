"""The parser: operations as they are written become values, of which equal ones are one object."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, starmap
from typing import NoReturn, TypeVar, cast

from redcomp.ir import (
    BINDERS,
    KIND_BITS,
    AnyProgram,
    Block,
    Carried,
    Hoisted,
    Interner,
    Kernel,
    Kind,
    Nest,
    Output,
    Part,
    Partition,
    Piece,
    Type,
    Value,
    constant,
    index,
    variable,
)
from redcomp.ops.table import OPERATIONS
from redcomp.text.spelling import (
    BLOCK,
    DIALECT,
    KERNEL,
    NEST,
    NEST_CARRIED,
    NEST_COMPUTED,
    NEST_HOISTED,
    PART,
    PARTITION,
    PIECES,
    YIELD,
    attributes_of,
    operations_by_name,
    spell,
)
from redcomp.text.syntax import Reader, Written
from redcomp.text.tokens import TextError

_Item = TypeVar("_Item")


def parse_kernel(text: str) -> Kernel:
    """The kernel that the text describes, in our form or as MLIR's tools print it; or TextError."""
    return _kernel(*_program(text, KERNEL))


def parse_block(text: str) -> Block:
    """The block that the text describes; or TextError."""
    op, builder = _program(text, BLOCK)
    return Block(*builder.block(op))


def parse_nest(text: str) -> Nest:
    """The nest that the text describes; or TextError."""
    return _nest(*_program(text, NEST))


def parse_partition(text: str) -> Partition:
    """The partition that the text describes; or TextError."""
    return _partition(*_program(text, PARTITION))


def parse_program(text: str) -> AnyProgram:
    """What the text describes of what passes take; or TextError."""
    op, builder = _program(text, *_PROGRAMS)
    return _PROGRAMS[op.name](op, builder)


def _kernel(op: Written, builder: _Builder) -> Kernel:
    params, roots = builder.block(op)
    reductions = builder.items(op, "reductions", str)
    scaled = builder.items(op, "scaled", bool)
    counts = builder.items(op, "counts", int)
    if not len(counts) == len(scaled) == len(reductions) == len(roots) - sum(scaled):
        builder.fail(op, "`reductions`, `counts` and `scaled` do not fit the yielded values")
    scales = iter(roots[len(reductions) :])
    outputs = tuple(
        Output(value, reduction, next(scales) if has_scale else None, count)
        for value, reduction, has_scale, count in zip(
            roots, reductions, scaled, counts, strict=False
        )
    )
    return Kernel(params, outputs)


def _nest(op: Written, builder: _Builder) -> Nest:
    params, roots = builder.block(op)
    parts = (*NEST_CARRIED, *NEST_COMPUTED, *NEST_HOISTED)
    count = {part: builder.count(op, part) for part in parts}
    initial = builder.items(op, "initial", float)
    free = len(params) - sum(count[part] for part in (*NEST_CARRIED, *NEST_HOISTED))
    needed = sum(count[part] for part in (*NEST_COMPUTED, *NEST_HOISTED))
    if free < 0 or needed != len(roots):
        builder.fail(op, "the parts do not add up to the arguments and the yielded values")
    if not _is_complete(count, len(initial)):
        builder.fail(op, "the states do not all have the same parts")
    own, *given = _split(params, free, *(count[p] for p in (*NEST_CARRIED, *NEST_HOISTED)))
    made = _split(roots, *(count[p] for p in (*NEST_COMPUTED, *NEST_HOISTED)))
    lists = dict(zip(NEST_CARRIED, given, strict=False))
    lists |= dict(zip(NEST_COMPUTED, made, strict=False))
    size = len(NEST_HOISTED)
    hoisted = {
        part: tuple(map(Hoisted, variables, values))
        for part, variables, values in zip(NEST_HOISTED, given[-size:], made[-size:], strict=True)
    }
    guards, results = lists.pop("guards"), lists.pop("results")
    states = Carried.several(initial=initial, **lists)
    return Nest(params=own, states=states, guards=guards, results=results, **hoisted)


def _partition(op: Written, builder: _Builder) -> Partition:
    return Partition(tuple(_part(part, builder) for part in op.body))


def _part(op: Written, builder: _Builder) -> Part:
    if op.name != PART or [nest.name for nest in op.body] != [NEST]:
        builder.fail(op, f"{PARTITION} holds {PART} operations, each of which holds one {NEST}")
    numbers = [builder.items(op, name, int) for name in PIECES]
    if len(set(map(len, numbers))) > 1:
        builder.fail(op, f"`{'`, `'.join(PIECES)}` have different numbers of items")
    nest = _nest(op.body[0], _Builder(builder.text))
    return Part(nest, tuple(starmap(Piece, zip(*numbers, strict=True))))


_PROGRAMS: Mapping[str, Callable[[Written, _Builder], AnyProgram]] = {
    KERNEL: _kernel,
    NEST: _nest,
    PARTITION: _partition,
}


def _is_complete(count: Mapping[str, int], initial: int) -> bool:
    """Whether there is one of each part for each state; joins, and without guards adjusts, lack."""
    states = count["states"]
    always = (count[part] for part in ("totals", "others", "starts", "steps", "merges"))
    adjusts = states if count["guards"] else 0
    return {initial, *always} == {states} and (
        count["adjusts"] == adjusts and count["joins"] in (0, states)
    )


def _split(values: Sequence[Value], *sizes: int) -> list[tuple[Value, ...]]:
    """Consecutive groups of the given sizes."""
    stops = list(accumulate(sizes))
    return [tuple(values[stop - size : stop]) for size, stop in zip(sizes, stops, strict=True)]


def _program(text: str, *names: str) -> tuple[Written, _Builder]:
    """The one operation of a text, inside or outside of MLIR's module."""
    reader = Reader(text)
    ops = reader.operations("")
    if len(ops) == 1 and ops[0].name == "builtin.module":
        ops = ops[0].body
    if len(ops) != 1 or ops[0].name not in names:
        raise TextError(f"expected exactly one operation, {' or '.join(names)}", text, 0)
    return ops[0], _Builder(text)


class _Builder:
    """Values from operations as they are written; equal ones become one object."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.intern = Interner()
        self.operations = operations_by_name()
        self.names: dict[str, Value] = {}

    def fail(self, op: Written, message: str) -> NoReturn:
        raise TextError(message, self.text, op.position)

    def items(self, op: Written, name: str, kind: type[_Item]) -> tuple[_Item, ...]:
        """An attribute that is a list, of which every item has the given Python type."""
        found = op.attrs.get(name)
        if not isinstance(found, tuple) or any(type(item) is not kind for item in found):
            self.fail(op, f"{op.name} needs the attribute {name!r}, a list of {kind.__name__}")
        return found

    def count(self, op: Written, name: str) -> int:
        """An attribute that is a number of things."""
        found = op.attrs.get(name)
        if not isinstance(found, int) or found < 0:
            self.fail(op, f"{op.name} needs the attribute {name!r}, a number from 0")
        return found

    def block(self, op: Written) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
        """The parameters and the yielded values of a whole program."""
        names, kinds = self.items(op, "names", str), self.items(op, "kinds", str)
        positions = self.items(op, "positions", int)
        formats = self.items(op, "stored", str) if "stored" in op.attrs else ("",) * len(names)
        if {len(names), len(kinds), len(positions), len(formats)} != {len(op.params)}:
            self.fail(op, "`names`, `kinds` and `positions` need one item for each argument")
        params = []
        for (local, type_), name, kind, position, stored in zip(
            op.params, names, kinds, positions, formats, strict=True
        ):
            if kind not in KIND_BITS:
                self.fail(op, f"unknown kind {kind!r}")
            params.append(
                self.intern(variable(name, cast(Kind, kind), position, type_, None, stored))
            )
            self.define(op, local, params[-1])
        return tuple(params), self.region(op)

    def define(self, op: Written, name: str, value: Value) -> None:
        if name in self.names:
            self.fail(op, f"{name} is defined twice")
        self.names[name] = value

    def region(self, owner: Written) -> tuple[Value, ...]:
        """Build the operations of a region; the values that it yields."""
        visible = len(self.names)
        for op in owner.body[:-1]:
            if len(op.results) != 1 or len(op.outputs) != 1:
                self.fail(op, f"{op.name} must have one result")
            self.define(op, op.results[0], self.value(op))
        last = owner.body[-1] if owner.body else owner
        if last.name != YIELD:
            self.fail(last, f"the region must end with {YIELD}")
        yielded = self.operands(last)
        for name in list(self.names)[visible:]:
            del self.names[name]
        return yielded

    def operands(self, op: Written) -> tuple[Value, ...]:
        for name in op.operands:
            if name not in self.names:
                self.fail(op, f"{name} is not defined here")
        found = tuple(self.names[name] for name in op.operands)
        if tuple(value.type for value in found) != op.inputs:
            listed = ", ".join(str(value.type) for value in found)
            self.fail(op, f"the operands have types ({listed})")
        return found

    def value(self, op: Written) -> Value:
        operation = self.operations.get(op.name)
        if operation is None or operation in ("variable", "index"):
            self.fail(op, f"unknown operation {op.name!r}")
        if operation in BINDERS:
            return self.loop(op, operation)
        args = self.operands(op)
        row = OPERATIONS.get(operation)
        if op.params or op.body or (row is not None and row.arity != len(args)):
            self.fail(op, f"wrong number of operands or regions for {op.name}")
        (result,) = op.outputs
        try:
            value = Value(
                operation, args, result, attributes_of(operation, op.name, op.attrs, result)
            )
        except (KeyError, IndexError) as error:
            self.fail(op, f"wrong attributes for {op.name}: {error}")
        number = op.attrs.get("value")
        if op.name == "arith.constant" and isinstance(number, float if result.is_float else bool):
            value = constant(number, result.dtype)
        if not op.name.startswith(DIALECT) and spell(value)[0] != op.name:
            self.fail(op, f"{op.name} does not take these types or attributes")
        return self.intern(value)

    def loop(self, op: Written, operation: str) -> Value:
        extent, level = op.attrs.get("extent"), op.attrs.get("level")
        if not isinstance(extent, int) or not isinstance(level, int):
            self.fail(op, "a loop needs the integers `extent` and `level`")
        initial = self.operands(op)
        if len(initial) != (operation == "fold") or [t for _, t in op.params] != [Type("index")]:
            self.fail(
                op, "a fold starts from one operand, other loops from none; all count by an index"
            )
        ((name, _),) = op.params
        counter = self.intern(index(extent, level))
        self.define(op, name, counter)
        args = (*initial, *self.region(op), counter)
        del self.names[name]
        attrs = sorted((n, a) for n, a in op.attrs.items() if n not in ("extent", "level"))
        return self.intern(Value(operation, args, op.outputs[0], tuple(attrs)))
