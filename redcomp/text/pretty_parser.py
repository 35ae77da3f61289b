"""The parser of the readable form, which `redcomp.text.pretty` writes.

What is from the formula, after `//`, says nothing about the program and is skipped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import cast

from redcomp.ir import (
    BINDERS,
    BOUND,
    FLOATS,
    I_BIT,
    J_BIT,
    KIND_BITS,
    NUMPY_DTYPES,
    STRUCTURAL,
    AnyProgram,
    Attribute,
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
    component,
    constant,
    constants,
    index,
    lookup,
    topological,
    variable,
)
from redcomp.ops.table import OPERATIONS
from redcomp.records import record
from redcomp.text.spelling import number_value
from redcomp.text.syntax import Reader, unescape
from redcomp.text.tokens import TextError, Tokens

_TOKEN = re.compile(
    r"""(?P<space>(?:\s|//[^\n]*)+)
    | (?P<string>"(?:[^"\\\n]|\\.)*")
    | (?P<name>[%@][\w$.-]+)
    | (?P<type>vector<\d+x\w+>)
    | (?P<number>(?:-?inf\b|nan\(0x[0-9A-Fa-f]+\)|-?\d[\d.]*(?:[eE][-+]?\d+)?|true\b|false\b)
        (?::\w+)?)
    | (?P<word>[A-Za-z_][\w.]*)
    | (?P<mark>[](){}<>:,=[])""",
    re.VERBOSE,
)
_WITHOUT_ROW = {*STRUCTURAL, "broadcast"} - {"variable", *BOUND, *BINDERS}
# The dictionaries of attributes are in MLIR's syntax, whose reader takes them.
_DICTIONARY = re.compile(r'\s*\{(?:[^{}"]|"(?:[^"\\\n]|\\.)*")*\}(?=\s*:)')


def parse_pretty(text: str) -> AnyProgram | Block:
    """The program that `redcomp.text.pretty.pretty` has written; raises TextError."""
    reader = _Reader(text)
    while reader.peek() == "func":
        reader.function()
    made = reader.program()
    reader.expect("")
    return made


@record
class _Number:
    """A constant as it is written, of which the dtype may not be known yet, and where."""

    text: str
    dtype: str
    place: int

    def value(self, dtype: str) -> Value:
        kind = self.dtype or dtype
        if self.text in ("true", "false"):
            return constant(self.text == "true", kind)
        if self.text.startswith("nan("):
            return constant(number_value(self.text[4:-1], kind), kind)
        return constant(float(self.text) if kind in FLOATS else int(self.text), kind)


@dataclass(slots=True)
class _Function:
    """A function of one value, which calls repeat."""

    parameter: Value
    result: Value


@dataclass(slots=True)
class _Parts:
    """What the lines of a program have said so far."""

    states: list[tuple[Value, Value, Value, float]] = field(default_factory=list)
    moved: dict[str, list[Hoisted]] = field(
        default_factory=lambda: {
            word: [] for word in ("uniform", "row", "column", "product", "update")
        }
    )
    bound: dict[str, dict[Value, Value]] = field(
        default_factory=lambda: {k: {} for k in ("start", "adjust", "step", "merge", "join")}
    )
    guards: list[Value] = field(default_factory=list)
    results: list[Value] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)


class _Reader(Tokens):
    """Recursive descent over the tokens, and the values that have names."""

    PATTERN = _TOKEN

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.intern = Interner()
        self.names: dict[str, Value] = {}
        self.functions: dict[str, _Function] = {}

    # -- values ------------------------------------------------------------------------------------

    def define(self, name: str, value: Value) -> Value:
        if name in self.names:
            self.next -= 1
            self.fail(f"{name} is defined twice")
        self.names[name] = self.intern(value)
        return self.names[name]

    def integer(self) -> int:
        token = self.take("number", "a number")
        if not re.fullmatch(r"-?\d+", token):
            self.next -= 1
            self.lacks("an integer")
        return int(token)

    def named(self) -> Value:
        name = self.take("name", "a value")
        if name not in self.names:
            self.next -= 1
            self.fail(f"{name} is not defined here")
        return self.names[name]

    def operand(self) -> Value | _Number:
        """A value, one of its components, or a constant."""
        if self.tokens[self.next][0] == "number":
            place = self.tokens[self.next][2]
            text, _, dtype = self.take("number", "a number").partition(":")
            if dtype and dtype not in NUMPY_DTYPES:
                self.next -= 1
                self.fail(f"expected a type, not {dtype!r}")
            return _Number(text, dtype, place)
        value = self.named()
        if not self.skip("["):
            return value
        found = self.operand()
        self.expect("]")
        if isinstance(found, _Number):
            position = self.resolved(found, "index") if found.dtype else self.whole(found)
        else:
            position = found
        return self.intern(component(value, position))

    def whole(self, found: _Number) -> int:
        if not found.text.isdigit():
            raise TextError(f"{found.text} is no position", self.text, found.place)
        return int(found.text)

    def value(self, dtype: str = "") -> Value:
        found = self.operand()
        return self.resolved(found, dtype)

    def resolved(self, found: Value | _Number, dtype: str) -> Value:
        if isinstance(found, Value):
            return found
        if not (found.dtype or dtype):
            message = f"the constant {found.text} needs a type, such as {found.text}:f32"
            raise TextError(message, self.text, found.place)
        try:
            return self.intern(found.value(dtype))
        except (ValueError, OverflowError):
            message = f"{found.text} is no number of type {found.dtype or dtype}"
            raise TextError(message, self.text, found.place) from None

    def param(self) -> Value:
        name = self.take("name", "a parameter")
        own = name[1:]
        if self.tokens[self.next][0] == "string":
            own = unescape(self.take("string", "a name"))
        self.expect(":")
        kind = self.take("word", "a kind")
        if kind not in KIND_BITS:
            self.fail(f"unknown kind {kind!r}")
        self.expect("[")
        position = self.integer()
        self.expect("]")
        type_ = self.type()
        stored = self.take("word", "a format") if self.skip("stored") else ""
        return self.define(name, variable(own, cast(Kind, kind), position, type_, None, stored))

    def definition(self) -> None:
        """One line `%name = operation operands : type`, or a loop."""
        name = self.take("name", "a value")
        self.expect("=")
        operation = self.take("word", "an operation")
        if operation in ("fold", "map", "scan"):
            self.define(name, self.loop(operation))
        elif operation == "call":
            self.define(name, self.call())
        else:
            self.define(name, self.operation(operation))

    def operation(self, name: str) -> Value:
        op, _, predicate = name.partition(".")
        if op not in OPERATIONS and op not in _WITHOUT_ROW:
            self.next -= 1
            self.fail(f"unknown operation {op!r}")
        found: list[Value | _Number] = []
        while self.peek() not in (":", "{", "in"):
            if found:
                self.expect(",")
            found.append(self.operand())
        table = self.listed("]", self.entry) if self.skip("in") and self.skip("[") else ()
        attributes = self.attributes()
        self.expect(":")
        type_ = self.type()
        first = found[0] if found else None
        dtype = first.dtype if op == "compare" and isinstance(first, Value) else type_.dtype
        args = tuple(self.resolved(each, dtype) for each in found)
        if predicate:
            attributes["predicate"] = predicate
        if op in ("convert", "bitcast"):
            attributes["dtype"] = type_.dtype
        if table:
            entries = tuple(self.resolved(t, type_.dtype)["value"] for t in table)
            if op == "constants":
                return constants(entries, type_.dtype)
            return lookup(entries, args[0], type_.dtype)
        row = OPERATIONS.get(op)
        if row is not None and row.arity is not None and row.arity != len(args):
            self.fail(f"wrong number of operands for {op}")
        return Value(op, args, type_, tuple(sorted(attributes.items())))

    def entry(self) -> _Number:
        place = self.tokens[self.next][2]
        return _Number(self.take("number", "a number"), "", place)

    def attributes(self) -> dict[str, Attribute]:
        """A dictionary in MLIR's syntax, if there is one."""
        start = self.tokens[self.next][2]
        match = _DICTIONARY.match(self.text, start)
        if match is None:
            return {}
        while self.tokens[self.next][2] < match.end():
            self.next += 1
        reader = Reader(match.group())
        reader.expect("{")
        return dict(reader.dictionary("}"))

    # -- loops and functions -----------------------------------------------------------------------

    def loop(self, operation: str) -> Value:
        counter_name = self.take("name", "the loop's counter")
        self.expect("<")
        extent = self.integer()
        level = self.integer() if self.skip("level") else 0
        counter = self.define(counter_name, index(extent, level))
        initial = self.operand() if self.skip("from") else None
        before_name = self.take("name", "a value") if self.skip("as") else ""
        bits = self.dependence() if operation == "fold" else 0
        attributes = self.attributes()
        self.expect(":")
        type_ = self.type()
        args: tuple[Value, ...] = ()
        before: tuple[Value, ...] = ()
        if operation == "fold":
            args = (self.resolved(initial, type_.dtype),) if initial is not None else ()
            attrs = (("dependence", bits), *counter.attrs)
            before = (self.define(before_name, Value("so_far", (), Type(type_.dtype), attrs)),)
        elif operation == "scan":
            before = (self.define(before_name, Value("earlier", (), type_, counter.attrs)),)
        yielded = self.body(type_.dtype)
        for local in filter(None, (counter_name, before_name)):
            del self.names[local]
        made = (*args, yielded, *before, counter)
        return Value(operation, made, type_, tuple(sorted(attributes.items())))

    def dependence(self) -> int:
        self.expect("(")
        letters = "" if self.peek() == ")" else self.take("word", "i, j or ij")
        self.expect(")")
        return I_BIT * ("i" in letters) | J_BIT * ("j" in letters)

    def body(self, dtype: str) -> Value:
        """The lines of a loop or a function; what they yield."""
        visible = len(self.names)
        self.expect("{")
        while not self.skip("yield"):
            self.definition()
        yielded = self.value(dtype)
        self.expect("}")
        for name in list(self.names)[visible:]:
            del self.names[name]
        return yielded

    def function(self) -> None:
        self.expect("func")
        name = self.take("name", "a function's name")
        self.expect("(")
        parameter_name = self.take("name", "a parameter")
        self.expect(":")
        parameter = self.define(parameter_name, variable(parameter_name, "i", 0, self.type()))
        self.expect(")")
        self.expect(":")
        result = self.body(self.type().dtype)
        del self.names[parameter_name]
        self.functions[name] = _Function(parameter, result)

    def call(self) -> Value:
        name = self.take("name", "a function")
        if name not in self.functions:
            self.next -= 1
            self.fail(f"{name} is not defined")
        self.expect("(")
        argument = self.value(self.functions[name].parameter.dtype)
        self.expect(")")
        self.expect(":")
        self.type()
        return self.inlined(self.functions[name], argument)

    def inlined(self, function: _Function, argument: Value) -> Value:
        done = {function.parameter: argument}
        for value in topological([function.result], known=(function.parameter,)):
            done[value] = self.intern(value.with_args(tuple(done[a] for a in value.args)))
        return done[function.result]

    # -- programs ----------------------------------------------------------------------------------

    def program(self) -> AnyProgram | Block:
        word = self.take("word", "a program: block, kernel, nest or partition")
        if word == "partition":
            return self.partition()
        if word not in ("block", "kernel", "nest"):
            self.next -= 1
            self.lacks("a program: block, kernel, nest or partition")
        self.expect("(")
        params = self.listed(")", self.param)
        self.expect("{")
        parts = _Parts()
        while not self.skip("}"):
            self.line(word, parts)
        if word == "block":
            return Block(params, tuple(parts.results))
        if word == "kernel":
            return Kernel(params, tuple(parts.outputs))
        return self.nest(params, parts)

    def partition(self) -> Partition:
        self.expect("{")
        parts = []
        while not self.skip("}"):
            self.expect("part")
            self.expect("(")
            pieces = self.listed(")", self.piece)
            self.expect("{")
            self.names, self.functions = {}, {}
            while self.peek() == "func":
                self.function()
            nest = self.program()
            self.expect("}")
            if not isinstance(nest, Nest):
                self.fail("a part is a nest")
            parts.append(Part(nest, pieces))
        return Partition(tuple(parts))

    def piece(self) -> Piece:
        result = self.integer()
        self.expect("[")
        first = self.integer()
        self.expect("]")
        self.expect("of")
        return Piece(result, first, self.integer())

    def line(self, program: str, parts: _Parts) -> None:
        if self.tokens[self.next][0] == "name":
            self.definition()
            return
        word = self.take("word", "a line")
        if program == "kernel":
            self.output(word, parts)
        elif program == "block" or word == "result":
            parts.results.append(self.value())
        elif word in ("once", "after"):  # the title of a section
            while not self.skip(":"):
                self.take("word", "a title")
        elif word == "guard":
            parts.guards.append(self.value())
        elif word == "state":
            parts.states.append(self.state())
        elif word in parts.moved:
            # The definition does not know the variable, which comes first in the text.
            param = self.param()
            self.expect("=")
            parts.moved[word].append(Hoisted(param, self.value()))
        elif word in parts.bound:
            target = self.named()
            self.expect("=")
            parts.bound[word][target] = self.value()
        else:
            self.next -= 1
            self.fail(f"unknown word {word!r}")

    def output(self, reduction: str, parts: _Parts) -> None:
        value = self.value()
        count = self.integer() if self.skip("keep") else 0
        scale = self.value() if self.skip("times") else None
        parts.outputs.append(Output(value, reduction, scale, count))

    def state(self) -> tuple[Value, Value, Value, float]:
        variables = [self.param()]
        for word in ("total", "other"):
            self.expect(",")
            self.expect(word)
            variables.append(self.param())
        self.expect(",")
        self.expect("from")
        initial = self.resolved(self.entry(), "f64")
        state, total, other = variables
        return state, total, other, float(initial["value"])

    def nest(self, params: tuple[Value, ...], parts: _Parts) -> Nest:
        made = []
        for state, total, other, initial in parts.states:
            start, merge = parts.bound["start"].get(state), parts.bound["merge"].get(total)
            if start is None or merge is None:
                self.fail(f"the state {state['name']} has no start or no merge")
            made.append(
                Carried(
                    state,
                    initial,
                    total,
                    other,
                    start,
                    parts.bound["adjust"].get(state, state),
                    parts.bound["step"].get(state, state),
                    merge,
                    parts.bound["join"].get(total),
                )
            )
        return Nest(
            params,
            tuple(made),
            tuple(parts.guards),
            tuple(parts.results),
            *(tuple(group) for group in parts.moved.values()),
        )
