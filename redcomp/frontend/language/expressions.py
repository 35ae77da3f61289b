"""Expressions that a program builds operation by operation, as `LazyTensor` does.

An expression is a graph: what stands in it twice is one object.  It names no variables; it has
slots for them, and an operation says which of its own slots those of each operand are.  So the same
operations give the same object, whatever the arrays are, and the reduction that was compiled for it
is found by identity.  Lowering is the parser's, node by node.
"""

from __future__ import annotations

import functools
import itertools
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from redcomp.errors import ArgumentError, FormulaError
from redcomp.frontend.language.aliases import Alias
from redcomp.frontend.language.builders import DERIVATIVES
from redcomp.frontend.language.context import Item, Operand
from redcomp.frontend.language.formula import Binary, Call, List, Name, Node, Number, Unary
from redcomp.frontend.language.lower import OPERATORS, Lowering
from redcomp.frontend.language.scope import Scope
from redcomp.ir import INTEGER_OF_WIDTH, Kind, Span, Type, Value
from redcomp.ir import variable as ir_variable

T = TypeVar("T")

# Expressions that are found again; one that is forgotten is made anew, and so is its reduction.
_KEPT = 2**14
# What is longer is shown with dots.
_MOST_CHARACTERS = 2_000
_NOWHERE = Span(0, 0)
_NOTHING = Number(0, _NOWHERE)

# What stands for an operation where a formula has no name: a variable, a number, a list of them.
VARIABLE, NUMBER, LIST, NEGATION = "variable", "number", "list", "negation"
BINARY = (*OPERATORS, "**")


# How the names of variables begin in texts.
_LETTERS: Mapping[str, str] = {"i": "x", "j": "y", "ij": "v", "parameter": "p"}


class Slot(NamedTuple):
    """What a variable of an expression is: as in an alias, but for the name."""

    kind: Kind
    dim: int
    is_integer: bool = False


# For each slot of an operand, which one it is of the operation.
Placement = tuple[int, ...]


class Placed(NamedTuple):
    """An expression whose slots are some of the slots of what it is a part of."""

    expression: Expression
    placement: Placement


@dataclass(frozen=True, eq=False)
class Expression:
    """A variable, numbers, or an operation; only the functions below make one.

    callee      the operation's or the builder's name in formulas, an operator, or a word from above
    operands    what it is applied to
    numbers     the value of a number or of a list
    slots       its variables
    everywhere  its slots as they are: 0, 1, ...
    stand_in    a value of its type, from which follow the types of operations on it; a number is
                its own
    dim         the dimension of its vectors; 1 for a number
    in_place    the expression with its slots as they are
    key         a number of its own, by which `expression_of` finds it
    """

    callee: str
    operands: tuple[Placed, ...]
    numbers: tuple[int, ...]
    slots: tuple[Slot, ...]
    everywhere: Placement
    stand_in: Item
    # Each operation asks for these, so they are kept.
    dim: int = field(init=False)
    in_place: Placed = field(init=False, repr=False)
    key: int = field(default_factory=itertools.count().__next__)

    def __post_init__(self) -> None:
        _living[self.key] = self
        object.__setattr__(self, "in_place", Placed(self, self.everywhere))
        self.set_type(self.stand_in)

    def set_type(self, stand_in: Item) -> None:
        """Say what its type is, which follows from all the rest of it."""
        object.__setattr__(self, "stand_in", stand_in)
        object.__setattr__(self, "dim", stand_in.dim if isinstance(stand_in, Value) else 1)

    def __reduce__(self) -> tuple[Callable[..., Expression], tuple[Any, ...]]:
        # Copies and what is read from files are the same objects as what is built here.
        match self.callee:
            case "variable":
                return variable, self.slots
            case "number":
                return number, self.numbers
            case "list":
                return integers, (self.numbers,)
        return operation, (self.callee, *self.operands)


_living: weakref.WeakValueDictionary[int, Expression] = weakref.WeakValueDictionary()


def expression_of(key: int) -> Expression:
    """The expression of that number, which somebody holds; raises KeyError."""
    return _living[key]


@functools.lru_cache(_KEPT)
def variable(slot: Slot) -> Expression:
    """A variable."""
    return Expression(VARIABLE, (), (), (slot,), (0,), _stand_in(slot.dim, slot.is_integer))


@functools.lru_cache(_KEPT)
def number(value: int) -> Expression:
    """An integer, which is part of the expression."""
    return Expression(NUMBER, (), (value,), (), (), value)


@functools.lru_cache(_KEPT)
def integers(values: tuple[int, ...]) -> Expression:
    """A list of integers."""
    items = tuple(Operand(_NOTHING, value) for value in values)
    return Expression(LIST, (), values, (), (), items)


@functools.lru_cache(_KEPT)
def operation(callee: str, *operands: Placed) -> Expression:
    """An operation on expressions; raises ArgumentError where their dimensions do not fit."""
    placed = {p: slot for e, at in operands for p, slot in zip(at, e.slots, strict=True)}
    slots = tuple(placed[n] for n in range(len(placed)))
    made = Expression(callee, operands, (), slots, tuple(range(len(slots))), 0)
    try:
        made.set_type(_type_of(made))
    except FormulaError as error:
        raise ArgumentError(f"{callee}: {error}") from None
    return made


def _type_of(made: Expression) -> Item:
    """A value of the type that the operation gives, or the number that it gives."""
    if made.callee in DERIVATIVES:  # their types follow from what is differentiated
        item: Item = ExpressionLowering(made.slots, "f64").value(made.in_place)
    else:
        lowering = Lowering("", Scope((), "f64"))
        operands = [Operand(_NOTHING, operand.expression.stand_in) for operand in made.operands]
        item = lowering.lower(_node(made), operands)
    if isinstance(item, Value):
        return _stand_in(item.dim, not item.type.is_float)
    return item


def _stand_in(dim: int, is_integer: bool) -> Value:
    dtype = INTEGER_OF_WIDTH["f64"] if is_integer else "f64"
    return ir_variable("f", "parameter", 0, Type(dtype, dim))


def _node(expression: Expression, span: Span = _NOWHERE) -> Node:
    """What the parser would make of the operation, without what it is applied to."""
    callee = expression.callee
    if callee == NUMBER:
        return Number(expression.numbers[0], span)
    if callee == NEGATION:
        return Unary("-", _NOTHING, span)
    if callee in BINARY:
        return Binary(callee, _NOTHING, _NOTHING, span)
    return Call(Name(callee, span), (), span)


class ExpressionLowering(Lowering):
    """Lowers expressions over the same variables; what they share is lowered once."""

    def __init__(self, slots: Sequence[Slot], dtype: str, text: str = "") -> None:
        super().__init__(text, Scope(aliases_of(slots), dtype))
        self.span = Span(0, len(text))
        self.known: dict[Placed, Operand] = {}

    def value(self, root: Placed) -> Value:
        """The value of an expression; raises FormulaError."""
        return self.vector(_folded(root, self.lowered, self.known))

    def lowered(self, placed: Placed, operands: Sequence[Operand]) -> Operand:
        expression = placed.expression
        if expression.callee == VARIABLE:
            return Operand(_NOTHING, self.scope.arguments[placed.placement[0]])
        if expression.callee == LIST:
            return Operand(List((), self.span), expression.stand_in)
        node = _node(expression, self.span)
        return Operand(node, self.lower(node, operands))


def _folded(
    root: Placed, make: Callable[[Placed, list[T]], T], known: dict[Placed, T] | None = None
) -> T:
    """What `make` makes of an expression and of what it has made of the operands, each once."""
    known = {} if known is None else known
    stack = [root]
    while stack:
        placed = stack[-1]
        below = [_within(operand, placed) for operand in placed.expression.operands]
        missing = [operand for operand in below if operand not in known]
        if missing:
            stack.extend(reversed(missing))
            continue
        stack.pop()
        if placed not in known:
            known[placed] = make(placed, [known[b] for b in below])
    return known[root]


def _within(operand: Placed, outer: Placed) -> Placed:
    """An operand, its slots being those of what the operation is placed in."""
    at = outer.placement
    return Placed(operand.expression, tuple([at[n] for n in operand.placement]))


def lower_expressions(
    expressions: Sequence[Placed], slots: Sequence[Slot], dtype: str
) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
    """The values of expressions over the same variables, and these variables."""
    lowering = ExpressionLowering(slots, dtype, ", ".join(map(text_of, expressions)))
    values = tuple(map(lowering.value, expressions))
    return values, lowering.scope.variables()


def rebound(expression: Expression, slots: tuple[Slot, ...]) -> Expression:
    """The same operations on other variables; raises ArgumentError where they do not fit."""

    def made(placed: Placed, below: list[Expression]) -> Expression:
        own = placed.expression
        if own.callee == VARIABLE:
            return variable(slots[placed.placement[0]])
        if not below:
            return own
        operands = zip(below, own.operands, strict=True)
        return operation(own.callee, *[Placed(b, o.placement) for b, o in operands])

    return _folded(expression.in_place, made)


# -- text


def aliases_of(slots: Sequence[Slot]) -> tuple[Alias, ...]:
    """The variables, with the names that they have in texts: x0, y1, p2."""
    return tuple(
        Alias(_name(slot.kind, n), slot.kind, n, slot.dim, slot.is_integer)
        for n, slot in enumerate(slots)
    )


def _name(kind: Kind, position: int) -> str:
    return f"{_LETTERS[kind]}{position}"


def text_of(root: Placed, most: int = _MOST_CHARACTERS) -> str:
    """The formula that the expression is; what takes more than `most` characters is "..."."""

    def made(placed: Placed, operands: list[str]) -> str:
        text = _text(placed, operands)
        return text if len(text) <= most else "..."

    return _bare(_folded(root, made))


def _bare(text: str) -> str:
    """A text that stands alone; only operators have brackets around all of it."""
    return text[1:-1] if text.startswith("(") else text


def _text(placed: Placed, operands: Sequence[str]) -> str:
    expression = placed.expression
    match expression.callee:
        case "variable":
            return _name(expression.slots[0].kind, placed.placement[0])
        case "number":
            value = expression.numbers[0]
            return str(value) if value >= 0 else f"({value})"
        case "list":
            return f"[{', '.join(map(str, expression.numbers))}]"
        case "negation":
            return f"(-{operands[0]})"
    if expression.callee in BINARY:
        return f"({operands[0]} {expression.callee} {operands[1]})"
    return f"{expression.callee}({', '.join(map(_bare, operands))})"
