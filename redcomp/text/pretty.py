"""The readable form: short names of operations, decimals, components where they are used.

    kernel (%x: i[0] vector<3xf32>, %y: j[1] vector<3xf32>) {
      %0 = subtract %x, %y : vector<3xf32>  // x - y
      %1 = scalprod %0, %0 : f32
      sum %1
    }

A listing is lines of pieces, so that a page can show which value each piece is; `pretty` joins
them.  `redcomp.text.pretty_parser` reads the text back.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from redcomp.ir import (
    BINDERS,
    FLOATS,
    I_BIT,
    J_BIT,
    NUMPY_DTYPES,
    AnyProgram,
    Block,
    Hoisted,
    Kernel,
    Nest,
    Partition,
    Span,
    Value,
    free_indices,
    loop_of,
    shared,
    stored_of,
    topological,
)
from redcomp.records import record
from redcomp.text.functions import CALL, Function, with_calls
from redcomp.text.spelling import attributes_text, number_text, string_text, type_text

_Loops = frozenset[tuple[int, int]]
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*", re.ASCII)

# What an operand may be written in place of: it costs nothing and is read where it is used.
_INLINE = ("constant", "component")


@record
class Piece:
    """A piece of a line; `value` is what it stands for, if it is a value.

    role   "name", "op", "number", "type", "word", "mark" or "note"
    """

    text: str
    role: str
    value: Value | None = None


@record
class Line:
    """A line of a listing; `value` is what it defines."""

    indent: int
    pieces: tuple[Piece, ...]
    value: Value | None = None

    def __str__(self) -> str:
        return "  " * self.indent + "".join(piece.text for piece in self.pieces)


def pretty(program: AnyProgram | Block, source: str = "") -> str:
    """The program in the readable form; `source` is the formula that comments quote."""
    return "".join(f"{line}\n" for line in _with_functions(program, source))


def listing_of(
    program: AnyProgram | Block, source: str = "", names: Mapping[Value, str] | None = None
) -> list[Line]:
    """The lines of the readable form.

    names   of values, as `redcomp.ir.shared` gives them; what has none is numbered
    """
    if isinstance(program, Partition):
        return list(_partition(program, lambda nest: listing_of(nest, source, names)))
    return list(_SECTIONS[type(program)](program, _Lister(source, names)))


def _with_functions(program: AnyProgram | Block, source: str) -> list[Line]:
    """The lines of a program, and before it, once, those of functions that it has several times."""
    if isinstance(program, Partition):
        return list(_partition(program, lambda nest: _with_functions(nest, source)))
    if isinstance(program, Block):
        return listing_of(program, source)
    functions, calling = with_calls(program)
    lines = [line for function in functions for line in _function(function)]
    return [*lines, *listing_of(calling, source)]


def _function(function: Function) -> Iterator[Line]:
    lister = _Lister("", None)
    lister.share([function.result])
    argument, result = (lister.known[v] for v in (function.argument, function.result))
    name = lister.name(argument, "a")
    head = (_word("func "), Piece(f"@{function.name}", "op"), _mark(f"(%{name}: "))
    yield Line(0, (*head, _type(argument), _mark(") : "), _type(result), _mark(" {")))
    yield from lister.define([result], 1)
    yield Line(1, (_word("yield "), *lister.operand(result, result.dtype)), result)
    yield Line(0, (_mark("}"),))


def decimal(value: float, dtype: str) -> str:
    """A number as people write it, with as many digits as tell it from all others of its dtype."""
    if dtype == "i1":
        return "true" if value else "false"
    if dtype not in FLOATS:
        return str(value)
    if math.isnan(value):
        bits, _ = number_text(value, dtype).split(" : ")
        return f"nan({bits})"
    return str(NUMPY_DTYPES[dtype](value))


class _Lister:
    """Writes values as lines, each where it is first needed."""

    def __init__(self, source: str, names: Mapping[Value, str] | None) -> None:
        self.source, self.given = source, names
        self.known: dict[Value, Value] = {}
        self.free: Mapping[Value, _Loops] = {}
        self.names: dict[Value, str] = {}
        self.taken: set[str] = set()
        self.last_span: Span | None = None
        self.count = 0

    def share(self, roots: Iterable[Value]) -> None:
        """Let values of equal structure be one; their loops."""
        self.known = shared(list(roots))
        self.free = free_indices(self.known.values())

    def name(self, value: Value, wanted: str = "") -> str:
        """The name of a value that is defined now."""
        if self.given is not None and value in self.given:
            wanted = self.given[value]
        base = re.sub(r"\W", "_", wanted, flags=re.ASCII) or str(self.count)
        self.count += base == str(self.count)
        name, n = base, 0
        while name in self.taken:
            n += 1
            name = f"{base}.{n}"
        self.taken.add(name)
        self.names[value] = name
        return name

    # -- pieces ------------------------------------------------------------------------------------

    def operand(self, value: Value, dtype: str = "") -> list[Piece]:
        """A value where it is used; a constant has its dtype where that is not `dtype`."""
        if value.op == "constant":
            text = decimal(value["value"], value.dtype)
            typed = "" if value.dtype == dtype else f":{value.dtype}"
            return [Piece(f"{text}{typed}", "number", value)]
        if value in self.names:
            return [Piece(f"%{self.names[value]}", "name", value)]
        vector, *position = value.args
        # A constant of the IR has its dtype here, so that it is no plain position.
        at = self.operand(position[0]) if position else [_number(value["position"])]
        (name,) = self.operand(vector)
        return [Piece(name.text, "name", value), _mark("["), *at, _mark("]")]

    def operands(self, values: Sequence[Value], dtype: str = "") -> list[Piece]:
        pieces: list[Piece] = []
        for n, value in enumerate(values):
            pieces += [_mark(", ")] * (n > 0) + self.operand(value, dtype)
        return pieces

    def is_inline(self, value: Value) -> bool:
        return value.op in _INLINE and not (value.op == "constant" and len(value.attrs) != 1)

    def note(self, value: Value) -> list[Piece]:
        """The piece of the formula that a value is from, where it is another than above."""
        span = value.span
        if span is None or not self.source or span == self.last_span:
            return []
        self.last_span = span
        text = " ".join(self.source[span.start : span.stop].split())
        return [Piece(f"  // {text}", "note")] if text else []

    # -- lines -------------------------------------------------------------------------------------

    def params(self, word: str, params: Sequence[Value]) -> Line:
        pieces = [_word(word), _mark(" (")]
        for n, param in enumerate(params):
            pieces += [_mark(", ")] * (n > 0) + self.param(param)
        return Line(0, (*pieces, _mark(") {")))

    def param(self, param: Value) -> list[Piece]:
        """A parameter: its name, the one of the formula where that is no identifier, kind, type."""
        param = self.known.get(param, param)
        name = self.name(param, param["name"])
        own = [] if name == param["name"] else [_mark(f" {string_text(param['name'])}")]
        place = f"{param['kind']}[{param['position']}] "
        return [
            Piece(f"%{name}", "name", param),
            *own,
            _mark(": "),
            _word(place),
            _type(param),
            *([_word(f" stored {stored_of(param)}")] if stored_of(param) else []),
        ]

    def define(
        self, roots: Iterable[Value], indent: int, opened: _Loops = frozenset()
    ) -> Iterator[Line]:
        """Lines for what the roots need that is new and that the open loops determine."""
        nothing: _Loops = frozenset()
        for value in topological([self.known.get(r, r) for r in roots], known=self.names):
            inside = self.free.get(value, nothing)
            if self.is_inline(value) or (inside and not inside <= opened):
                continue
            if value.op in BINDERS:
                yield from self.loop(value, indent, opened)
            elif value.op in ("so_far", "earlier", "index", "variable"):
                raise KeyError(f"{value.op} is not known here")
            else:
                yield self.line(value, indent)

    def line(self, value: Value, indent: int) -> Line:
        operation, shown, attributes = _spelling(value)
        dtype = value.dtype
        if value.op == "compare":
            dtype = "" if value.args[0].is_constant else value.args[0].dtype
        operands = self.operands(value.args, dtype)
        if value.op == CALL:
            operands = [Piece(f"@{value['function']}", "op"), _mark("("), *operands, _mark(")")]
        name = self.name(value)
        pieces = [
            Piece(f"%{name}", "name", value),
            _mark(" = "),
            Piece(operation, "op", value),
            *([_mark(" ")] if operands else []),
            *operands,
            *([_number(shown)] if shown else []),
            *([_mark(attributes)] if attributes else []),
            _mark(" : "),
            _type(value),
            *self.note(value),
        ]
        return Line(indent, tuple(pieces), value)

    def loop(self, value: Value, indent: int, opened: _Loops) -> Iterator[Line]:
        """A loop's head, what is computed in it, and what that yields."""
        *operands, counter = value.args
        level, outside = counter["level"], len(self.names)
        head = [
            _word(f"{value.op} "),
            Piece(f"%{self.name(counter, 'k')}", "name", counter),
            _mark(f" < {counter['extent']}" + (f" level {level}" if level else "")),
        ]
        roots = operands
        if value.op == "fold":
            initial, following, before = operands
            start = self.operand(initial, value.dtype)
            depends = _dependence(before["dependence"])
            head += [_mark(" from "), *start, _mark(" as ")]
            head += [Piece(f"%{self.name(before, 'acc')}", "name", before), _mark(f" {depends}")]
            roots = [following]
        elif value.op == "scan":
            element, before = operands
            head += [_mark(" as "), Piece(f"%{self.name(before, 'earlier')}", "name", before)]
            roots = [element]
        body = list(self.define(roots, indent + 1, opened | {loop_of(counter)}))
        end = Line(indent + 1, (_word("yield "), *self.operands(roots, value.dtype)))
        for local in list(self.names)[outside:]:
            self.taken.discard(self.names.pop(local))
        name = self.name(value)
        attributes = attributes_text(value.attrs)
        first = [Piece(f"%{name}", "name", value), _mark(" = "), *head]
        tail = [_mark(f"{attributes} : "), _type(value), _mark(" {"), *self.note(value)]
        yield Line(indent, (*first, *tail), value)
        yield from body
        yield end
        yield Line(indent, (_mark("}"),))

    def bind(self, word: str, target: Value | None, value: Value, indent: int) -> Line:
        """A line that says what a value is for: "step %state0 = %3"."""
        value = self.known.get(value, value)
        target = self.known.get(target, target) if target is not None else None
        left = [] if target is None else [*self.operand(target), _mark(" = ")]
        return Line(indent, (_word(f"{word} "), *left, *self.operand(value)), value)


def _spelling(value: Value) -> tuple[str, str, str]:
    """The name of an operation, numbers that it shows, and its other attributes."""
    attributes = dict(value.attrs)
    if value.op == CALL:
        return CALL, "", ""
    if value.op == "compare":
        return f"compare.{attributes['predicate']}", "", ""
    if value.op in ("convert", "bitcast") and attributes == {"dtype": value.dtype}:
        return value.op, "", ""
    if value.op in ("lookup", "constants") and attributes.get("dtype", value.dtype) == value.dtype:
        return value.op, f" in {_table(attributes['table'], value.dtype)}", ""
    return value.op, "", attributes_text(value.attrs)


def _table(bits: Any, dtype: str) -> str:
    formats = {"f32": ("<i", "<f"), "f64": ("<q", "<d")}[dtype]
    entries = (struct.unpack(formats[1], struct.pack(formats[0], b))[0] for b in bits)
    return f"[{', '.join(decimal(entry, dtype) for entry in entries)}]"


def _dependence(bits: int) -> str:
    return f"({'i' * bool(bits & I_BIT)}{'j' * bool(bits & J_BIT)})"


def _mark(text: str) -> Piece:
    return Piece(text, "mark")


def _word(text: str) -> Piece:
    return Piece(text, "word")


def _number(value: object) -> Piece:
    return Piece(str(value), "number")


def _type(value: Value) -> Piece:
    return Piece(type_text(value.type), "type")


# -- programs --------------------------------------------------------------------------------------


def _block(block: Block, lister: _Lister) -> Iterator[Line]:
    lister.share((*block.params, *block.outs))
    yield lister.params("block", block.params)
    yield from lister.define(block.outs, 1)
    for out in block.outs:
        yield lister.bind("yield", None, out, 1)
    yield Line(0, (_mark("}"),))


def _kernel(kernel: Kernel, lister: _Lister) -> Iterator[Line]:
    lister.share((*kernel.params, *kernel.roots))
    yield lister.params("kernel", kernel.params)
    for output in kernel.outputs:
        yield from lister.define([output.value], 1)
        line = lister.bind(output.reduction, None, output.value, 1)
        tail: list[Piece] = [_mark(f" keep {output.count}")] if output.count else []
        if output.scale is not None:
            yield from lister.define([output.scale], 1)
            scale = lister.known[output.scale]
            tail += [_word(" times "), *lister.operand(scale)]
        yield Line(1, (*line.pieces, *tail), line.value)
    yield Line(0, (_mark("}"),))


def _nest(nest: Nest, lister: _Lister) -> Iterator[Line]:
    variables = [v for s in nest.states for v in (s.variable, s.total, s.other)]
    moved = (h.variable for h in nest.hoisted)
    lister.share((*nest.params, *variables, *moved, *nest.roots))
    yield lister.params("nest", nest.params)
    for state in nest.states:
        yield _state(state, lister)
    for word, title, group in (
        ("uniform", "once per call", nest.uniform),
        ("row", "once per row", nest.rows),
        ("column", "once per column", nest.columns),
        ("product", "once per step", nest.products),
        ("update", "once per column as a matrix", nest.updates),
    ):
        if group:
            yield _title(title)
        for hoisted in group:
            yield from _hoisted(word, hoisted, lister)
    yield from _computed(nest, lister)
    yield Line(0, (_mark("}"),))


def _state(state: Any, lister: _Lister) -> Line:
    variables = (("state", state.variable), ("total", state.total), ("other", state.other))
    pieces: list[Piece] = []
    for word, variable in variables:
        pieces += [_word(f"{', ' if pieces else ''}{word} "), *lister.param(variable)]
    initial = decimal(state.initial, "f64")
    return Line(1, (*pieces, _word(", from "), _number(initial)))


def _hoisted(word: str, hoisted: Hoisted, lister: _Lister) -> Iterator[Line]:
    yield from lister.define([hoisted.definition], 2)
    definition = lister.known[hoisted.definition]
    pieces = [_word(f"{word} "), *lister.param(hoisted.variable), _mark(" = ")]
    yield Line(2, (*pieces, *lister.operand(definition)), definition)


def _computed(nest: Nest, lister: _Lister) -> Iterator[Line]:
    """The parts of a nest by when they are computed, each in a section."""
    states = nest.states
    changed = [s for s in states if s.adjust is not s.variable] if nest.guards else []
    parts: list[tuple[str, list[tuple[str, Value | None, Value]]]] = [
        ("once per tile", [("start", s.variable, s.start) for s in states]),
        (
            "once per pair",
            [
                *(("guard", None, g) for g in nest.guards),
                *(("adjust", s.variable, s.adjust) for s in changed),
                *(("step", s.variable, s.step) for s in states if s.step is not s.variable),
            ],
        ),
        ("after a tile", [("merge", s.total, s.merge) for s in states]),
        ("after parts", [("join", s.total, s.join) for s in states if s.join is not None]),
        ("once per row at the end", [("result", None, r) for r in nest.results]),
    ]
    for title, bound in parts:
        if bound:
            yield _title(title)
        for word, target, value in bound:
            yield from lister.define([value], 2)
            yield lister.bind(word, target, value, 2)


def _title(text: str) -> Line:
    return Line(1, (Piece(f"{text}:", "word"),))


def _partition(partition: Partition, lines_of: Callable[[Nest], list[Line]]) -> Iterator[Line]:
    yield Line(0, (_word("partition {"),))
    for part in partition.parts:
        pieces = ", ".join(f"{p.result}[{p.first}] of {p.dim}" for p in part.pieces)
        yield Line(1, (_word("part "), _mark(f"({pieces}) {{")))
        for line in lines_of(part.nest):
            yield Line(line.indent + 2, line.pieces, line.value)
        yield Line(1, (_mark("}"),))
    yield Line(0, (_mark("}"),))


_SECTIONS: Mapping[type, Callable[[Any, _Lister], Iterator[Line]]] = {
    Block: _block,
    Kernel: _kernel,
    Nest: _nest,
}
