"""Syntax trees to IR values: resolves names, folds arithmetic on numbers, checks dimensions.

Numbers are exact until they meet a vector; then they are rounded, once, to the kernel's dtype.

Operations come from the table by their spelling.  What can be called and is no operation
(variables, constants, Grad, ...) has a builder in `BUILDERS`.
"""

from __future__ import annotations

import contextlib
import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from redcomp.errors import FormulaError
from redcomp.frontend.aliases import (
    KIND_OF_CATEGORY,
    KIND_OF_CONSTRUCTOR,
    MAX_DIM,
    Alias,
    spell,
)
from redcomp.frontend.exact import Exact, fold, rounded
from redcomp.frontend.formula import (
    COMPARISONS,
    Binary,
    Call,
    List,
    Name,
    Node,
    Number,
    Unary,
    children,
    parse,
)
from redcomp.frontend.scope import Scope
from redcomp.ir import Attribute, Kind, Type, Value, constant, topological, zero
from redcomp.ops import SPELLINGS, ShapeError, apply
from redcomp.passes.grad import gradient

MAX_VALUES = 20_000
# Integer literals become attributes, which C and LLVM hold in 32 bits.
MAX_INTEGER = 2**31 - 1

# How many names an error message lists.
MAX_LISTED = 20

# Parameters of operations that are lists of integers, and the one that may be left out.
LIST_PARAMETERS = ("dimsf", "dimsg", "contf", "contg", "perm")
OPTIONAL_PARAMETER = "perm"

OPERATORS: Mapping[str, str] = {
    "+": "add",
    "-": "subtract",
    "*": "multiply",
    "/": "divide",
    "|": "scalprod",
    "<": "less_than",
    "<=": "less_or_equal",
    ">": "less_than",
    ">=": "less_or_equal",
    "==": "equal",
    "!=": "not_equal",
}
SWAPPED = (">", ">=")

Item = Value | int | Fraction | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Lowered:
    """A formula's value, and all variables of the kernel in the order of their positions."""

    value: Value
    variables: tuple[Value, ...]


def lower_formula(formula: str, aliases: Sequence[Alias], dtype: str) -> Lowered:
    """The IR of a formula over aliases, in dtype "f32" or "f64"; raises FormulaError."""
    (value,), variables = lower_formulas((formula,), aliases, dtype)
    return Lowered(value, variables)


def lower_formulas(
    formulas: Sequence[str], aliases: Sequence[Alias], dtype: str
) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
    """The values of several formulas over the same variables, and these variables."""
    trees = [parse(formula) for formula in formulas]
    scope = Scope(aliases, dtype)
    for formula, tree in zip(formulas, trees, strict=True):
        scope.reserve(formula, tree)
    values = tuple(
        _Lowering(formula, scope).run(tree) for formula, tree in zip(formulas, trees, strict=True)
    )
    return values, scope.variables()


@dataclass(frozen=True, slots=True)
class _Operand:
    """A lowered node: what it became, and where it stands."""

    node: Node
    item: Item


class _Lowering:
    """Lowers the nodes of one formula, children first."""

    def __init__(self, formula: str, scope: Scope) -> None:
        self.formula = formula
        self.scope = scope
        self.dtype = scope.dtype
        self.made = 0

    def run(self, root: Node) -> Value:
        """The value of a tree.  Left-associative chains are deep, so this keeps its own stack."""
        done: list[_Operand] = []
        stack: list[tuple[Node, bool]] = [(root, False)]
        while stack:
            node, ready = stack.pop()
            below = children(node)
            if not ready and isinstance(node, Call):
                self.check_callee(node)
            if below and not ready:
                stack.append((node, True))
                stack.extend((child, False) for child in reversed(below))
                continue
            first = len(done) - len(below)
            operands = done[first:]
            del done[first:]
            done.append(_Operand(node, self.lower(node, operands)))
        return self.vector(done.pop())

    def lower(self, node: Node, operands: Sequence[_Operand]) -> Item:
        match node:
            case Number():
                return node.value if isinstance(node.value, int) else Fraction(node.value)
            case Name():
                return self.name(node)
            case List():
                return tuple(self.integer(o, "an element of a list") for o in operands)
            case Unary():
                return self.unary(node, operands[0])
            case Binary():
                return self.binary(node, *operands)
        return self.call(node, operands)

    # -- operands

    def vector(self, operand: _Operand) -> Value:
        """An operand as a value; numbers become constants of the kernel's dtype."""
        item, node = operand.item, operand.node
        if isinstance(item, Value):
            return item
        if isinstance(item, tuple):
            raise self.error("a list stands where a vector is expected", node)
        value: Value | None = None
        with contextlib.suppress(OverflowError):
            value = constant(rounded(item, self.dtype), self.dtype, node.span)
        if value is None or math.isinf(value["value"]):
            raise self.error(f"the number is too large for {self.dtype}", node)
        return self.keep(value, (), node)

    def integer(self, operand: _Operand, what: str) -> int:
        item = operand.item
        if not isinstance(item, int):
            raise self.error(f"{what} must be an integer literal such as 3", operand.node)
        if abs(item) > MAX_INTEGER:
            raise self.error(f"{what} is at most {MAX_INTEGER:,} in absolute value", operand.node)
        return item

    def dimension(self, operand: _Operand) -> int:
        dim = self.integer(operand, "the dimension")
        if not 1 <= dim <= MAX_DIM:
            raise self.error(f"expected a dimension from 1 to {MAX_DIM:,}, got {dim}", operand.node)
        return dim

    # -- names and operators

    def name(self, node: Name) -> Value:
        found = self.scope.names.get(node.name)
        if found is not None:
            return found
        if node.name in SPELLINGS or node.name in BUILDERS:
            raise self.error(f"{node.name} is an operation: write {_signature(node.name)}", node)
        names = list(self.scope.names)
        known = ", ".join(names[:MAX_LISTED] + ["..."] * (len(names) > MAX_LISTED)) or "none"
        nearest = _nearest(node.name, names)
        raise self.error(f"unknown name {node.name!r}{nearest}; the names are: {known}", node)

    def unary(self, node: Unary, operand: _Operand) -> Item:
        item = operand.item
        if node.op == "-" and isinstance(item, int):
            return -item
        # Fractions have no -0.0, so that one is left to the simplifier.
        if node.op == "-" and isinstance(item, Fraction) and item != 0:
            return -item
        if node.op == "-":
            return self.apply("negate", (self.vector(operand),), {}, node)
        return self.vector(operand) if isinstance(item, tuple) else item

    def binary(self, node: Binary, left: _Operand, right: _Operand) -> Item:
        a, b = left.item, right.item
        if node.op == "/" and isinstance(b, Exact) and b == 0:
            raise self.error("division by zero", node)
        is_arithmetic = node.op not in COMPARISONS and node.op != "|"
        if is_arithmetic and isinstance(a, Exact) and isinstance(b, Exact):
            return self.fold(node, a, b)
        if node.op == "**":
            return self.power(node, left, right)
        operands = (self.vector(left), self.vector(right))
        if node.op in SWAPPED:
            operands = operands[::-1]
        return self.apply(OPERATORS[node.op], operands, {}, node)

    def fold(self, node: Binary, a: Exact, b: Exact) -> Exact:
        try:
            return fold(node.op, a, b)
        except ZeroDivisionError:
            raise self.error("division by zero", node) from None
        except OverflowError:
            raise self.error("the number is too large for float64", node) from None
        except ValueError:
            raise self.error("a negative number has no such power", node) from None

    def power(self, node: Binary, left: _Operand, right: _Operand) -> Value:
        base, exponent = self.vector(left), right.item
        if not isinstance(exponent, Exact):
            return self.apply("powf", (base, self.vector(right)), {}, node)
        if exponent == 2:
            return self.apply("square", (base,), {}, node)
        if exponent == Fraction(1, 2):
            return self.apply("sqrt", (base,), {}, node)
        if exponent == Fraction(-1, 2):
            return self.apply("rsqrt", (base,), {}, node)
        if exponent.denominator == 1 and abs(exponent.numerator) <= MAX_INTEGER:
            return self.apply("pow", (base,), {"m": exponent.numerator}, node)
        return self.apply("powf", (base, self.vector(right)), {}, node)

    # -- calls

    def check_callee(self, node: Call) -> None:
        """Fail unless the call is of something known and has as many arguments as that takes."""
        name = node.callee.name
        if name in self.scope.names:
            raise self.error(f"{name} is a variable: it cannot be called", node.callee)
        if name not in SPELLINGS and name not in BUILDERS:
            nearest = _nearest(name, (*SPELLINGS, *BUILDERS))
            raise self.error(f"unknown operation {name!r}{nearest}", node.callee)
        least, most = _argument_counts(name)
        if not least <= len(node.args) <= most:
            wanted = f"{least}" if least == most else f"{least} to {most}"
            plural = "" if wanted == "1" else "s"
            raise self.error(
                f"{_signature(name)} takes {wanted} argument{plural}, got {len(node.args)}", node
            )

    def call(self, node: Call, operands: Sequence[_Operand]) -> Item:
        name = node.callee.name
        if name in BUILDERS:
            return BUILDERS[name].build(self, node, operands)
        row = SPELLINGS[name]
        if row.name == "divide" and operands[1].item == 0:
            raise self.error("division by zero", node)
        vectors = tuple(self.vector(operand) for operand in operands[: row.arity])
        attrs: dict[str, Attribute] = {}
        if OPTIONAL_PARAMETER in row.parameters:
            attrs[OPTIONAL_PARAMETER] = ()
        for parameter, operand in zip(row.parameters, operands[row.arity :], strict=False):
            attrs[parameter] = self.parameter(name, parameter, operand)
        return self.apply(row.name, vectors, attrs, node)

    def parameter(self, name: str, parameter: str, operand: _Operand) -> Attribute:
        if parameter not in LIST_PARAMETERS:
            return self.integer(operand, f"{name}'s argument {parameter}")
        if not isinstance(operand.item, tuple):
            raise self.error(
                f"{name}'s argument {parameter} must be a list, such as [2,3]", operand.node
            )
        return operand.item

    def apply(
        self, op: str, operands: tuple[Value, ...], attrs: Mapping[str, Attribute], node: Node
    ) -> Value:
        """The operation on the operands; dimensions that do not fit fail at the node."""
        try:
            value = apply(op, *operands, **attrs)
        except ShapeError as error:
            raise self.error(str(error), node) from None
        if value.dim > MAX_DIM:
            raise self.error(f"the result has more than {MAX_DIM:,} components", node)
        # A definition may return an operand, which keeps its own place (and identity).
        if any(value is operand for operand in operands):
            return value
        return self.keep(replace(value, span=node.span), operands, node)

    def keep(self, value: Value, inputs: Iterable[Value], node: Node) -> Value:
        """Count what was made from `inputs`, and stop when it becomes too much."""
        self.made += sum(1 for _ in topological([value], known={id(v) for v in inputs}))
        if self.made > MAX_VALUES:
            raise self.error(f"the formula becomes more than {MAX_VALUES:,} operations", node)
        return value

    def variable(self, kind: Kind, position: int, dim: int, node: Node) -> Value:
        found = self.scope.argument(kind, position, dim, span=node.span)
        if (found["kind"], found.dim) != (kind, dim):
            known = spell(found["kind"], position, found.dim)
            raise self.error(f"argument {position} is {known}, called {found['name']}", node)
        return found

    def error(self, message: str, node: Node) -> FormulaError:
        return FormulaError(message, self.formula, node.span.start, node.span.stop)


# -- what can be called and is not in the table

Operands = Sequence[_Operand]


@dataclass(frozen=True, slots=True)
class Builder:
    """Something that can be called: its arguments as one writes them, and what a call becomes.

    `least` is the number of arguments that it needs, where the last ones may be left out.
    """

    arguments: tuple[str, ...]
    build: Callable[[_Lowering, Call, Operands], Item]
    least: int | None = None


def _integer_constant(lowering: _Lowering, node: Call, operands: Operands) -> Item:
    item = operands[0].item
    if not isinstance(item, int):
        raise lowering.error("IntCst's argument must be an integer", operands[0].node)
    return item


def _rational(lowering: _Lowering, node: Call, operands: Operands) -> Item:
    *p, q = (lowering.integer(operand, f"{node.callee.name}'s argument") for operand in operands)
    if q == 0:
        raise lowering.error("division by zero", node)
    return Fraction(p[0] if p else 1, q)


def _zero(lowering: _Lowering, node: Call, operands: Operands) -> Item:
    made = zero(Type(lowering.dtype, lowering.dimension(operands[0])))
    return replace(made, span=node.span)


def _var(lowering: _Lowering, node: Call, operands: Operands) -> Item:
    position, dim = _position(lowering, operands[0]), lowering.dimension(operands[1])
    category = lowering.integer(operands[2], "the category")
    if not 0 <= category < len(KIND_OF_CATEGORY):
        message = f"expected a category: 0 (i), 1 (j) or 2 (parameter), got {category}"
        raise lowering.error(message, operands[2].node)
    return lowering.variable(KIND_OF_CATEGORY[category], position, dim, node)


def _vi_vj_pm(lowering: _Lowering, node: Call, operands: Operands) -> Item:
    dim = lowering.dimension(operands[-1])
    if len(operands) == 2:
        position = _position(lowering, operands[0])
    else:
        position = lowering.scope.next_position()
    return lowering.variable(KIND_OF_CONSTRUCTOR[node.callee.name], position, dim, node)


def _position(lowering: _Lowering, operand: _Operand) -> int:
    """A stated position, which is written as a number so that `Scope.reserve` could see it."""
    if not isinstance(operand.node, Number):
        raise lowering.error("the position must be written as a number", operand.node)
    return lowering.integer(operand, "the position")


def _grad(lowering: _Lowering, node: Call, operands: Operands) -> Item:
    output, wrt = lowering.vector(operands[0]), operands[1].item
    if not isinstance(wrt, Value) or wrt.op != "variable":
        raise lowering.error("Grad differentiates with respect to a variable", operands[1].node)
    if len(operands) == 3:
        cotangent = lowering.vector(operands[2])
    elif wrt["kind"] == "parameter":
        raise lowering.error("Grad with respect to a parameter needs its third argument", node)
    else:
        other: Kind = "j" if wrt["kind"] == "i" else "i"
        position = lowering.scope.next_position()
        cotangent = lowering.variable(other, position, output.dim, node)
    if cotangent.dim != output.dim:
        message = f"Grad's third argument has dimension {cotangent.dim}, its first {output.dim}"
        raise lowering.error(message, operands[2].node)
    value = gradient(output, wrt, cotangent)
    return lowering.keep(value, topological((output, wrt, cotangent)), node)


def _first(lowering: _Lowering, node: Call, operands: Operands) -> Item:
    """Factorize and AutoFactorize ask for shared sub-formulas, which `passes.cse` always shares."""
    for operand in operands[1:]:
        lowering.vector(operand)
    return lowering.vector(operands[0])


BUILDERS: Mapping[str, Builder] = {
    "Var": Builder(("position", "dim", "category"), _var),
    **{
        constructor: Builder(("position", "dim"), _vi_vj_pm, 1)
        for constructor in KIND_OF_CONSTRUCTOR
    },
    "IntCst": Builder(("n",), _integer_constant),
    "IntInv": Builder(("n",), _rational),
    "RatCst": Builder(("p", "q"), _rational),
    "Zero": Builder(("dim",), _zero),
    "Grad": Builder(("f", "v", "e"), _grad, 2),
    "Factorize": Builder(("f", "g"), _first),
    "AutoFactorize": Builder(("f",), _first),
}


def _arguments(name: str) -> tuple[str, ...]:
    if name in BUILDERS:
        return BUILDERS[name].arguments
    row = SPELLINGS[name]
    return (*"fghuvw"[: row.arity], *row.parameters)


def _argument_counts(name: str) -> tuple[int, int]:
    """How many arguments a call takes, at least and at most."""
    most = len(_arguments(name))
    if name in BUILDERS:
        least = BUILDERS[name].least
        return (most if least is None else least), most
    return most - (OPTIONAL_PARAMETER in SPELLINGS[name].parameters), most


def _signature(name: str) -> str:
    return f"{name}({', '.join(_arguments(name))})"


def _nearest(name: str, known: Iterable[str]) -> str:
    """A question for the nearest known names, whatever their case, or nothing."""
    by_lower = {other.lower(): other for other in known}
    nearest = difflib.get_close_matches(name.lower(), by_lower, n=3)
    return f"; did you mean {' or '.join(by_lower[n] for n in nearest)}?" if nearest else ""
