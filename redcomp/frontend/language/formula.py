"""The text of a formula to its syntax tree: a lexer and an operator-precedence parser.

The grammar is the part of Python's expression grammar that formulas use, with Python's precedences:
KeOps hands formulas to Python's `eval`, and they must keep their meaning.  From loose to tight:

    <  <=  >  >=  ==  !=     elementwise; not chained
    |                        scalar product
    +  -
    *  /
    unary -  +
    **                       right associative
    names, numbers, name(argument, ...), [item, ...], (item, ...), (expression)

Nothing here recurses: the parser keeps its own stack, so a hostile formula meets a limit and its
error message, never Python's recursion limit.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from redcomp.errors import FormulaError
from redcomp.ir import Span
from redcomp.limits import MAX_CHARACTERS, MAX_NESTING, MAX_TOKEN_CHARACTERS, MAX_TOKENS
from redcomp.records import record


@record
class Number:
    """An integer or floating-point literal; never negative."""

    value: int | float
    span: Span


@record
class Name:
    """A name that is not called."""

    name: str
    span: Span


@record
class Unary:
    """`-operand` or `+operand`."""

    op: str
    operand: Node
    span: Span


@record
class Binary:
    """`left op right`."""

    op: str
    left: Node
    right: Node
    span: Span


@record
class Call:
    """`callee(args, ...)`."""

    callee: Name
    args: tuple[Node, ...]
    span: Span


@record
class List:
    """`[items, ...]`, or a tuple: `()`, `(item,)`, `(item, item, ...)`."""

    items: tuple[Node, ...]
    span: Span


Node = Number | Name | Unary | Binary | Call | List


def children(node: Node) -> tuple[Node, ...]:
    """The nodes directly below a node, from left to right."""
    match node:
        case Unary():
            return (node.operand,)
        case Binary():
            return (node.left, node.right)
        case Call():
            return node.args
        case List():
            return node.items
    return ()


def walk(root: Node) -> Iterator[Node]:
    """A node and all nodes below it, each before its children, from left to right."""
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(reversed(children(node)))


# Whose text it is.
Subject = Literal["formula", "alias"]


class Token(NamedTuple):
    """A piece of the text; its kind is "name", "number", "symbol" or "end"."""

    kind: str
    text: str
    span: Span

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else repr(self.text)


_TOKEN = re.compile(
    r"""(?P<number> (?: [0-9]+\.?[0-9]* | \.[0-9]+ ) (?: [eE][+-]?[0-9]+ )? )
      | (?P<name>   [A-Za-z_][A-Za-z_0-9]* )
      | (?P<symbol> \*\* | [<>=!]= | [-+*/|<>()\[\],=] )
      | (?P<space>  [ \t\r\n\f]+ )""",
    re.VERBOSE,
)


def tokenize(text: str, what: Subject = "formula") -> list[Token]:
    """Cut a formula or an alias into tokens; the last one is the end."""
    if not isinstance(text, str):
        raise FormulaError(f"expected a string, got {type(text).__name__}")
    if len(text) > MAX_CHARACTERS:
        limit = f"the limit is {MAX_CHARACTERS:,}"
        raise FormulaError(f"the text has {len(text):,} characters; {limit}", text)
    tokens: list[Token] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            message = f"unexpected character {_describe(text[position])}"
            raise syntax_error(message, text, Span(position, position + 1), what)
        kind, span = str(match.lastgroup), Span(position, match.end())
        position = match.end()
        if kind == "space":
            continue
        if len(tokens) == MAX_TOKENS:
            message = f"more than {MAX_TOKENS:,} names, numbers and symbols"
            raise FormulaError(message, text, span.start, span.stop)
        if span.stop - span.start > MAX_TOKEN_CHARACTERS:
            message = f"a {kind} of more than {MAX_TOKEN_CHARACTERS} characters"
            raise FormulaError(message, text, span.start, span.stop)
        tokens.append(Token(kind, match.group(), span))
    tokens.append(Token("end", "", Span(len(text), len(text))))
    return tokens


def syntax_error(message: str, text: str, span: Span, what: Subject = "formula") -> FormulaError:
    """The error at a place, or what it says of the habit that the text is written by."""
    from redcomp.frontend.language import habits  # only mistakes pay for it

    rows = habits.FORMULAS if what == "formula" else habits.ALIASES
    found = habits.habit_at(rows, text, span.start)
    if found is not None:
        return FormulaError(found.says, text, found.start, found.stop)
    return FormulaError(message, text, span.start, span.stop)


def _describe(character: str) -> str:
    return f"{character!r} (U+{ord(character):04X})"


@functools.lru_cache(maxsize=8)  # it is lowered again in the dtype of the first call
def parse(formula: str) -> Node:
    """The syntax tree of a formula; raises FormulaError, which points at the place."""
    return _Parser(formula).parse()


# What errors show where there is no formula.
EXAMPLE = "Exp(-SqDist(x, y)) * b"
COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
_COMPARISON, _SCALAR_PRODUCT, _SUM, _PRODUCT, _PREFIX, _POWER = range(1, 7)
_LEVELS = {
    **dict.fromkeys(COMPARISONS, _COMPARISON),
    "|": _SCALAR_PRODUCT,
    **dict.fromkeys("+-", _SUM),
    **dict.fromkeys("*/", _PRODUCT),
    "**": _POWER,
}
_CLOSERS = {"(": ")", "[": "]"}


@dataclass(slots=True)
class _Operator:
    """An operator that waits for its right operand; `level` says how tightly it binds."""

    token: Token
    level: int
    depth: int


@dataclass(slots=True)
class _Open:
    """A bracket that waits for being closed, with the items before the last comma."""

    token: Token
    callee: Name | None
    depth: int
    items: list[Node] = field(default_factory=list)
    has_comma: bool = False

    @property
    def closer(self) -> str:
        return _CLOSERS[self.token.text]

    @property
    def groups(self) -> bool:
        """Whether it is there for precedence only, and neither a call, a list nor a tuple."""
        is_single = len(self.items) == 1 and not self.has_comma
        return self.callee is None and self.token.text == "(" and is_single


class _Parser:
    """Two stacks: operands that are complete, and what waits for more of them, innermost last."""

    def __init__(self, formula: str) -> None:
        self.formula = formula
        self.tokens = tokenize(formula)
        self.position = 0
        self.operands: list[Node] = []
        self.pending: list[_Operator | _Open] = []

    def parse(self) -> Node:
        if self.tokens[0].kind == "end":
            raise FormulaError(f'the formula is empty: write one such as "{EXAMPLE}"')
        expects_operand = True
        while self.position < len(self.tokens):
            token = self.tokens[self.position]
            self.position += 1
            if expects_operand:
                expects_operand = self.take_operand(token)
            else:
                expects_operand = self.take_operator(token)
        (root,) = self.operands
        return root

    def take_operand(self, token: Token) -> bool:
        """Take a token where an operand must come; whether an operand must still come."""
        after = self.tokens[min(self.position, len(self.tokens) - 1)]
        if token.kind == "number":
            self.operands.append(Number(self.number(token), token.span))
            return False
        if token.kind == "name" and after.text != "(":
            self.operands.append(Name(token.text, token.span))
            return False
        if token.kind == "name":
            self.position += 1
            self.open(after, Name(token.text, token.span))
        elif token.text in _CLOSERS:
            self.open(token, None)
        elif token.text in ("-", "+"):
            self.push(token, _PREFIX)
        elif (bracket := self.closed_without_operand(token)) is not None:
            self.close(bracket, token)
            return False
        else:
            message = f"expected a name, a number, '(' or '-', got {token}"
            raise syntax_error(message, self.formula, token.span)
        return True

    def take_operator(self, token: Token) -> bool:
        """Take a token after a complete operand; whether an operand must come next."""
        level = _LEVELS.get(token.text)
        if level is not None:
            self.reduce(level, token)
            self.push(token, level)
            return True
        self.reduce()
        bracket = self.pending[-1] if self.pending else None
        if not isinstance(bracket, _Open):
            if token.kind == "end":
                return False
            raise self.unexpected("an operator or the end", token)
        if token.text == ",":
            bracket.has_comma = True
            bracket.items.append(self.operands.pop())
            return True
        if token.text == bracket.closer:
            bracket.items.append(self.operands.pop())
            self.close(bracket, token)
            return False
        if token.kind == "end":
            raise self.error(f"{bracket.token} is never closed", bracket.token)
        raise self.unexpected(f"an operator, ',' or {bracket.closer!r}", token)

    def unexpected(self, expected: str, token: Token) -> FormulaError:
        """The error of a token that stands after a complete operand."""
        hint = _hint(token, bool(self.pending))
        return syntax_error(f"expected {expected}, got {token}{hint}", self.formula, token.span)

    def number(self, token: Token) -> int | float:
        value = float(token.text)
        if math.isinf(value):
            raise self.error("the number is too large for float64", token)
        return int(token.text) if token.text.isdecimal() else value

    def depth_below(self, token: Token, nests: bool) -> int:
        depth = (self.pending[-1].depth if self.pending else 0) + nests
        if depth > MAX_NESTING:
            raise self.error(f"nested more than {MAX_NESTING} levels deep", token)
        return depth

    def push(self, token: Token, level: int) -> None:
        # Only signs and powers pile up without brackets: the other operators associate to the left.
        depth = self.depth_below(token, level >= _PREFIX)
        self.pending.append(_Operator(token, level, depth))

    def open(self, token: Token, callee: Name | None) -> None:
        self.pending.append(_Open(token, callee, self.depth_below(token, True)))

    def closed_without_operand(self, token: Token) -> _Open | None:
        """The bracket that `token` closes while empty or after a comma: Python has both."""
        bracket = self.pending[-1] if self.pending else None
        if not isinstance(bracket, _Open) or token.text != bracket.closer:
            return None
        previous = self.tokens[self.position - 2]
        return bracket if previous is bracket.token or previous.text == "," else None

    def close(self, bracket: _Open, closer: Token) -> None:
        """Make the innermost bracket, whose items are complete, an operand."""
        self.pending.pop()
        span = Span(bracket.token.span.start, closer.span.stop)
        items = tuple(bracket.items)
        if bracket.callee is not None:
            span = Span(bracket.callee.span.start, span.stop)
            self.operands.append(Call(bracket.callee, items, span))
        elif bracket.groups:
            self.operands.append(replace(items[0], span=span))
        else:
            self.operands.append(List(items, span))

    def reduce(self, level: int = 0, comparison: Token | None = None) -> None:
        """Complete the waiting operators, down to a bracket, that bind tighter than `level`."""
        while self.pending:
            operator = self.pending[-1]
            if isinstance(operator, _Open) or operator.level < level:
                return
            # An operator of the same level completes the one before it, except the power.
            if operator.level == level == _POWER:
                return
            if operator.level == level == _COMPARISON and comparison is not None:
                message = "comparisons cannot be chained; for a < b < c, write (a < b) * (b < c)"
                raise self.error(message, comparison)
            self.pending.pop()
            self.operands.append(self.complete(operator))

    def complete(self, operator: _Operator) -> Node:
        right = self.operands.pop()
        if operator.level == _PREFIX:
            span = Span(operator.token.span.start, right.span.stop)
            return Unary(operator.token.text, right, span)
        left = self.operands.pop()
        return Binary(operator.token.text, left, right, Span(left.span.start, right.span.stop))

    def error(self, message: str, token: Token) -> FormulaError:
        return FormulaError(message, self.formula, token.span.start, token.span.stop)


def _hint(token: Token, is_within: bool) -> str:
    """What to write instead of a token after an operand; whether that is in brackets."""
    match token.text:
        case "=" if is_within:
            return "; operations take arguments by position, without names; equality is '=='"
        case "=":
            return "; a formula is an expression alone, and equality is '=='"
        case "(":
            return "; only a name can be called, and a product is written with '*'"
        case ")" | "]":
            return f"; this {token.text!r} closes nothing"
        case ",":
            return "; several formulas are a list of strings, and a decimal point is '.'"
    return "; a product is written with '*'" if token.kind in ("name", "number") else ""
