"""The reader of MLIR's generic syntax: text to a tree of operations as they are written.

It knows nothing of what the operations mean, and as much of the syntax as the IR uses: at most one
result and one region of one block an operation, scalars and vectors, and attributes that are
numbers, strings, truth values and lists of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from redcomp.ir import Type
from redcomp.records import record
from redcomp.text.spelling import number_value
from redcomp.text.tokens import Tokens


@record
class Written:
    """An operation as it is written."""

    position: int
    results: tuple[str, ...]
    name: str
    operands: tuple[str, ...]
    params: tuple[tuple[str, Type], ...]
    body: tuple[Written, ...]
    attrs: Mapping[str, Any]
    inputs: tuple[Type, ...]
    outputs: tuple[Type, ...]


_TOKEN = re.compile(
    r"""(?P<space>(?:\s|//[^\n]*)+)
    | (?P<string>"(?:[^"\\\n]|\\.)*")
    | (?P<name>[%^][\w$.-]+)
    | (?P<type>vector<\d+x\w+>)
    | (?P<number>0x[0-9A-Fa-f]+|-?\d+(?:\.\d*(?:[eE][-+]?\d+)?)?)
    | (?P<default>\#\w+\.\w+<none>)
    | (?P<word>[A-Za-z_][\w$.]*)
    | (?P<mark>->|<\{|\}>|[](){}<>:,=[])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(rb'\\(["\\nt]|[0-9A-Fa-f]{2})')
_ESCAPED = {b'"': b'"', b"\\": b"\\", b"n": b"\n", b"t": b"\t"}
_DEFAULT = object()  # the value of an attribute that MLIR adds and that says nothing


class Reader(Tokens):
    """Recursive descent over the tokens; the depth is that of the nested regions."""

    PATTERN = _TOKEN

    def operations(self, end: str) -> tuple[Written, ...]:
        found = []
        while not self.skip(end):
            found.append(self.operation())
        return tuple(found)

    def operation(self) -> Written:
        results: tuple[str, ...] = ()
        position = self.tokens[self.next][2]
        if self.tokens[self.next][0] == "name":
            results = (self.take("name", "a name"),)
            self.expect("=")
        name = self.take("string", "an operation's name in quotes")[1:-1]
        self.expect("(")
        operands = self.listed(")", lambda: self.take("name", "a value"))
        attrs = dict(self.dictionary("}>")) if self.skip("<{") else {}
        params: tuple[tuple[str, Type], ...] = ()
        body: tuple[Written, ...] = ()
        if self.skip("("):
            params, body = self.region()
            self.expect(")")
        if self.skip("{"):
            attrs |= self.dictionary("}")
        self.expect(":")
        self.expect("(")
        inputs = self.listed(")", self.type)
        self.expect("->")
        outputs = self.listed(")", self.type) if self.skip("(") else (self.type(),)
        return Written(position, results, name, operands, params, body, attrs, inputs, outputs)

    def region(self) -> tuple[tuple[tuple[str, Type], ...], tuple[Written, ...]]:
        self.expect("{")
        params: tuple[tuple[str, Type], ...] = ()
        if self.tokens[self.next][1].startswith("^"):
            self.next += 1
            params = self.listed(")", self.param) if self.skip("(") else ()
            self.expect(":")
        return params, self.operations("}")

    def param(self) -> tuple[str, Type]:
        name = self.take("name", "a block's argument")
        self.expect(":")
        return name, self.type()

    def dictionary(self, end: str) -> dict[str, Any]:
        return {n: v for n, v in self.listed(end, self.entry) if v is not _DEFAULT}

    def entry(self) -> tuple[str, object]:
        name = self.take("word", "an attribute's name")
        self.expect("=")
        return name, self.attribute()

    def attribute(self) -> object:
        kind, token, _ = self.tokens[self.next]
        if kind == "number":
            return self.number()
        self.next += 1
        if kind == "string":
            return unescape(token)
        if kind == "default":
            return _DEFAULT
        if token in ("true", "false"):
            return token == "true"
        if token == "[":
            return self.listed("]", self.attribute)
        if token != "array":
            self.next -= 1
            self.lacks("an attribute's value")
        return self.array()

    def array(self) -> tuple[float | int, ...]:
        self.expect("<")
        dtype = self.type().dtype
        if self.skip(">"):
            return ()
        self.expect(":")
        return self.listed(">", lambda: self.number(dtype))

    def number(self, dtype: str = "") -> float | int:
        literal = self.take("number", "a number")
        dtype = dtype or ("f64" if "." in literal else "i64")
        if self.skip(":"):
            dtype = self.type().dtype
        try:
            return number_value(literal, dtype)
        except ValueError:
            self.next -= 1
            self.lacks(f"a number of type {dtype}")


def unescape(token: str) -> str:
    """The text of a string literal."""

    def character(match: re.Match[bytes]) -> bytes:
        code = match.group(1)
        return _ESCAPED[code] if code in _ESCAPED else bytes.fromhex(code.decode())

    return _ESCAPE.sub(character, token[1:-1].encode()).decode(errors="replace")
