"""Reads PTX text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple, NoReturn

import numpy as np

from ptxsim.errors import PtxError
from ptxsim.scalars import SPACES, TYPES
from ptxsim.syntax import Function, Instruction, Module, Operand, Variable, constant

_TOKEN = re.compile(r'"[^"]*"|\.[A-Za-z_]\w*|[\w%$.]+(?:::[\w.]+)*|\S')
_NUMBER = re.compile(
    r"(0[fF][\da-fA-F]{8}|0[dD][\da-fA-F]{16}|0[xX][\da-fA-F]+U?|0[bB][01]+U?|\d+U?"
    r"|\d+\.\d*(?:[eE]\d+)?)$"
)
_NAME = re.compile(r"[A-Za-z_$%]")
_NUMBERED = re.compile(r"(.*?)(\d+)$")
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_LINKAGE = (".visible", ".weak", ".common", ".extern")


def parse(text: str) -> Module:
    """Read PTX text; PtxError has the line that cannot be read."""
    return _Parser(text).module()


class _Token(NamedTuple):
    text: str
    line: int
    column: int


class _Tokens:
    """The tokens of a text, and a place among them."""

    def __init__(self, text: str) -> None:
        clean = _COMMENT.sub(lambda match: "\n" * match[0].count("\n"), text)
        self.lines = [line.split("//")[0] for line in clean.split("\n")]
        self.tokens = [
            _Token(match[0], number, match.start())
            for number, line in enumerate(self.lines, 1)
            for match in _TOKEN.finditer(line)
        ]
        self.at = 0

    @property
    def more(self) -> bool:
        return self.at < len(self.tokens)

    @property
    def last(self) -> _Token:
        return self.tokens[self.at - 1]

    def peek(self) -> str:
        return self.tokens[self.at].text if self.more else ""

    def next(self) -> str:
        if not self.more:
            raise PtxError("unexpected end of the PTX text")
        self.at += 1
        return self.last.text

    def accept(self, *wanted: str) -> str | None:
        return self.next() if self.peek() in wanted else None

    def expect(self, wanted: str) -> None:
        if self.next() != wanted:
            self.refuse(f"expected '{wanted}', found ")

    def refuse(self, why: str = "cannot read ") -> NoReturn:
        line = self.last.line
        raise PtxError(f"line {line}: {why}'{self.last.text}': {self.lines[line - 1].strip()}")

    def skip_line(self) -> None:
        line = self.last.line
        while self.more and self.tokens[self.at].line == line:
            self.at += 1

    def skip_to(self, wanted: str) -> None:
        while self.next() != wanted:
            pass

    def until(self, end: str) -> Iterator[str]:
        """The tokens up to one, without the commas."""
        while (token := self.next()) != end:
            if token != ",":
                yield token

    def text_since(self, start: _Token) -> str:
        """The text from a token up to the last one, which is not part of it."""
        _, end, stop = self.last
        lines = self.lines[start.line - 1 : end]
        lines[-1] = lines[-1][:stop]
        lines[0] = lines[0][start.column :]
        return " ".join(" ".join(lines).split())


class _Parser:
    """One method for each construct; names are resolved through the scopes that `{ }` open."""

    def __init__(self, text: str) -> None:
        self.tokens = _Tokens(text)
        self.scopes: list[dict[str, tuple[str, str]]] = []  # name -> (kind, unique name)
        self.unique = 0
        self.function = Function("", False, [], [], {})

    def module(self) -> Module:
        module = Module()
        is_extern = False
        while self.tokens.more:
            token = self.tokens.next()
            if token in _LINKAGE:
                is_extern = token == ".extern"
                continue
            self.directive(token, module, is_extern)
            is_extern = False
        return module

    def directive(self, token: str, module: Module, is_extern: bool) -> None:
        tokens = self.tokens
        if token == ".version":
            module.version = tokens.next()
        elif token == ".target":
            module.target = tokens.next()
            tokens.skip_line()
        elif token == ".address_size":
            tokens.next()
        elif token in (".entry", ".func"):
            function = self.read_function(token == ".entry")
            group = module.kernels if function.is_kernel else module.functions
            if function.code is not None or function.name not in group:
                group[function.name] = function
        elif token[1:] in SPACES:
            variable = self.variable(token[1:])
            if not (is_extern and variable.name in module.variables):
                module.variables[variable.name] = variable
            tokens.expect(";")
        elif token in (".file", ".loc"):
            tokens.skip_line()
        elif token in (".section", ".pragma", ".alias"):
            tokens.skip_to("}" if token == ".section" else ";")
        else:
            tokens.refuse()

    def variable(self, space: str) -> Variable:
        """What follows a state space: attributes, type, name, dimensions, initialiser."""
        tokens = self.tokens
        alignment, kind, vector, is_pointer = 0, "b8", 1, False
        while tokens.peek().startswith("."):
            token = tokens.next()
            if token == ".align":
                number = int(tokens.next())
                alignment = alignment if is_pointer else number  # after .ptr it is the target's
            elif token[1:] in TYPES:
                kind = token[1:]
            elif token in (".v2", ".v4"):
                vector = int(token[2])
            elif token == ".attribute":
                tokens.skip_to(")")
            is_pointer |= token == ".ptr"
        name, count, is_array = tokens.next(), 1, False
        while tokens.accept("["):
            is_array = True
            count *= int(tokens.next()) if tokens.peek() != "]" else 0
            tokens.expect("]")
        size = TYPES[kind].itemsize * vector
        data = self.initialiser(kind) if tokens.accept("=") else b""
        return Variable(name, space, kind, max(alignment, size), size * count, data, is_array)

    def initialiser(self, kind: str) -> bytes:
        values: list[Operand] = [self.operand()]
        while any(value.kind == "vector" for value in values):
            values = [item for value in values for item in value.items]
        if any(value.kind not in ("integer", "float") for value in values):
            self.tokens.refuse("initialisers with addresses are not supported: ")
        return b"".join(constant(value, kind).tobytes() for value in values)

    def variables(self) -> list[Variable]:
        """The parameters or results in parentheses, if there are any."""
        tokens, found = self.tokens, []
        if tokens.peek() != "(":
            return []
        while tokens.accept("(", ","):
            if tokens.peek() != ")":
                found.append(self.variable(tokens.next()[1:]))
        tokens.expect(")")
        return found

    def read_function(self, is_kernel: bool) -> Function:
        tokens = self.tokens
        results = self.variables()
        name = tokens.next()
        parameters = self.variables()
        named = {variable.name: variable for variable in parameters + results}
        self.function = Function(name, is_kernel, parameters, results, named)
        while (token := tokens.next()) not in ("{", ";"):
            if token.startswith("."):
                self.function.limits[token[1:]] = self.limits()
        if token == "{":
            self.function.code = []
            self.scopes = [{variable: ("symbol", variable) for variable in named}]
            while self.scopes:
                self.statement()
        return self.function

    def limits(self) -> list[int]:
        numbers = []
        while self.tokens.peek().isdigit() or self.tokens.peek() == ",":
            if (token := self.tokens.next()) != ",":
                numbers.append(int(token))
        return numbers

    def declare(self, kind: str, name: str) -> str:
        """A name of the current scope; one of an inner scope is made unique."""
        unique = name
        if len(self.scopes) > 1:
            self.unique += 1
            is_prefix = name.endswith("<")
            unique = f"{name.rstrip('<')}@{self.unique}" + ("_<" if is_prefix else "")
        self.scopes[-1][name] = (kind, unique)
        return unique

    def statement(self) -> None:
        tokens = self.tokens
        if not tokens.more:
            raise PtxError("unexpected end of the PTX text")
        start = tokens.tokens[tokens.at]
        token = tokens.next()
        if token == "{":
            self.scopes.append({})
        elif token == "}":
            self.scopes.pop()
        elif token in (";", ".extern"):
            pass
        elif tokens.accept(":"):
            self.label(token)
        elif token == ".reg":
            self.registers()
        elif token[1:] in SPACES and token.startswith("."):
            variable = self.variable(token[1:])
            variable = replace(variable, name=self.declare("symbol", variable.name))
            self.function.variables[variable.name] = variable
            tokens.expect(";")
        elif token in (".loc", ".file"):
            tokens.skip_line()
        elif token.startswith("."):
            tokens.skip_to(";")
        else:
            self.instruction(start)

    def label(self, name: str) -> None:
        self.function.labels[name] = len(self.function.body)
        if self.tokens.accept(".branchtargets"):
            self.function.tables[name] = list(self.tokens.until(";"))
        elif self.tokens.accept(".callprototype"):
            self.tokens.skip_to(";")

    def registers(self) -> None:
        tokens = self.tokens
        while (kind := tokens.next()[1:]) not in TYPES:
            pass
        for name in tokens.until(";"):
            if tokens.accept("<"):
                tokens.next()
                tokens.expect(">")
                self.function.registers[self.declare("register", name + "<")] = kind
            else:
                self.function.registers[self.declare("register", name)] = kind

    def instruction(self, start: _Token) -> None:
        tokens, guard, opcode = self.tokens, None, start.text
        if opcode == "@":
            is_negated = bool(tokens.accept("!"))
            guard, opcode = (self.operand().value, is_negated), tokens.next()
        operands = []
        while not tokens.accept(";"):
            operands.append(self.operand())
            if tokens.peek() != ";":
                tokens.expect(",")
        text = tokens.text_since(start)
        self.function.body.append(Instruction(start.line, text, opcode, tuple(operands), guard))

    def operand(self) -> Operand:
        tokens = self.tokens
        token = tokens.next()
        if token == "[":
            base = self.operand()
            tokens.expect("]")
            return Operand("memory", replace(base, offset=0), base.offset)
        if token in ("{", "("):
            return self.vector()
        if token == "!":
            return Operand("not", self.operand())
        if token == "-":
            operand = _negated(_number(tokens.next()))
        elif _NUMBER.match(token):
            operand = _number(token)
        elif _NAME.match(token):
            operand = self.name(token)
        else:
            tokens.refuse()
        if tokens.accept("|"):
            return Operand("pair", (operand, self.operand()))
        while sign := tokens.accept("+", "-"):
            step = self.operand().value
            operand = replace(operand, offset=operand.offset + (step if sign == "+" else -step))
        return operand

    def vector(self) -> Operand:
        values = []
        while not self.tokens.accept("}", ")"):
            values.append(self.operand())
            self.tokens.accept(",")
        return Operand("vector", tuple(values))

    def name(self, token: str) -> Operand:
        if token == "_":
            return Operand("sink", None)
        if token == "WARP_SZ":
            return Operand("integer", 32)
        numbered = _NUMBERED.match(token)
        for scope in reversed(self.scopes):
            if token in scope:
                return Operand(*scope[token])
            if numbered and numbered[1] + "<" in scope:
                prefix = scope[numbered[1] + "<"][1]
                unique = prefix[:-1] + numbered[2]
                self.function.registers[unique] = self.function.registers[prefix]
                return Operand("register", unique)
        return Operand("special" if token[0] == "%" else "symbol", token)


def _number(token: str) -> Operand:
    if not _NUMBER.match(token):
        raise PtxError(f"'{token}' is not a number")
    if token[:2].lower() in ("0f", "0d"):
        return Operand("float", (int(token[2:], 16), 4 if token[1] in "fF" else 8))
    if "." in token:
        return Operand("float", (int(np.float64(token).view(np.uint64)), 8))
    token = token.rstrip("U")
    return Operand("integer", int(token, 8) if re.match(r"0\d", token) else int(token, 0))


def _negated(number: Operand) -> Operand:
    if number.kind == "integer":
        return Operand("integer", -number.value)
    bits, size = number.value
    return Operand("float", (bits ^ 1 << (8 * size - 1), size))
