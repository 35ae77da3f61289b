"""Syntax trees to IR values: resolves names, folds arithmetic on numbers, checks dimensions.

Numbers are exact until they meet a vector; then they are rounded, once, to the kernel's dtype.

Operations come from the table by their spelling.  What can be called and is no operation
(variables, constants, derivatives) has a builder in `builders.BUILDERS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from redcomp.arguments import nearest
from redcomp.frontend.language.aliases import Alias
from redcomp.frontend.language.builders import BUILDERS
from redcomp.frontend.language.context import FormulaContext, Item, Operand
from redcomp.frontend.language.exact import Exact, fold
from redcomp.frontend.language.formula import (
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
from redcomp.frontend.language.scope import Scope
from redcomp.ir import Attribute, Value
from redcomp.limits import MAX_INTEGER
from redcomp.ops import SPELLINGS
from redcomp.ops.table import LIST_PARAMETERS
from redcomp.records import record

# How many names an error message lists.
MAX_LISTED = 20

# The parameter of operations that may be left out.
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


@record
class Lowered:
    """A formula's value, and all variables of the kernel: arguments by position, numbers."""

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
        Lowering(formula, scope).run(tree) for formula, tree in zip(formulas, trees, strict=True)
    )
    return values, scope.variables()


class Lowering(FormulaContext):
    """Lowers the nodes of one formula, children first."""

    def run(self, root: Node) -> Value:
        """The value of a tree.  Left-associative chains are deep, so this keeps its own stack."""
        done: list[Operand] = []
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
            done.append(Operand(node, self.lower(node, operands)))
        return self.vector(done.pop())

    def lower(self, node: Node, operands: Sequence[Operand]) -> Item:
        match node:
            case Number():
                return node.value if isinstance(node.value, int) else Fraction(node.value)
            case Name():
                return self.name(node)
            case List():
                return tuple(operands)
            case Unary():
                return self.unary(node, operands[0])
            case Binary():
                return self.binary(node, *operands)
        return self.call(node, operands)

    # -- names and operators

    def name(self, node: Name) -> Value:
        found = self.scope.names.get(node.name)
        if found is not None:
            return found
        if node.name in SPELLINGS or node.name in BUILDERS:
            raise self.error(f"{node.name} is an operation: write {_signature(node.name)}", node)
        hint = _of_name(node.name, list(self.scope.names))
        raise self.error(f"unknown name {node.name!r}{hint}", node)

    def unary(self, node: Unary, operand: Operand) -> Item:
        item = operand.item
        if node.op == "-" and isinstance(item, int):
            return -item
        # Fractions have no -0.0, so that one is left to the simplifier.
        if node.op == "-" and isinstance(item, Fraction) and item != 0:
            return -item
        if node.op == "-":
            return self.apply("negate", self.operands("negate", (operand,)), {}, node)
        return self.vector(operand) if isinstance(item, tuple) else item

    def binary(self, node: Binary, left: Operand, right: Operand) -> Item:
        a, b = left.item, right.item
        if node.op == "/" and isinstance(b, Exact) and b == 0:
            raise self.error("division by zero", node)
        is_arithmetic = node.op not in COMPARISONS and node.op != "|"
        if is_arithmetic and isinstance(a, Exact) and isinstance(b, Exact):
            return self.fold(node, a, b)
        if node.op == "**":
            return self.power(node, left, right)
        ordered = (right, left) if node.op in SWAPPED else (left, right)
        op = OPERATORS[node.op]
        return self.apply(op, self.operands(op, ordered), {}, node)

    def fold(self, node: Binary, a: Exact, b: Exact) -> Exact:
        try:
            return fold(node.op, a, b)
        except ZeroDivisionError:
            raise self.error("division by zero", node) from None
        except OverflowError:
            raise self.error("the number is too large for float64", node) from None
        except ValueError:
            raise self.error("a negative number has no such power", node) from None

    def power(self, node: Binary, left: Operand, right: Operand) -> Value:
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
            message = f"{name!r} is a variable, which cannot be called"
            raise self.error(f"{message}; a product is written with '*'", node.callee)
        if name not in SPELLINGS and name not in BUILDERS:
            raise self.error(f"unknown operation {name!r}{_of_operation(name)}", node.callee)
        least, most = _argument_counts(name)
        if not least <= len(node.args) <= most:
            wanted = f"{least}" if least == most else f"{least} to {most}"
            plural = "" if wanted == "1" else "s"
            came = f"got {len(node.args)}{_of_two(name, len(node.args))}"
            raise self.error(f"{_signature(name)} takes {wanted} argument{plural}, {came}", node)

    def call(self, node: Call, operands: Sequence[Operand]) -> Item:
        name = node.callee.name
        if name in BUILDERS:
            return BUILDERS[name].build(self, node, operands)
        row = SPELLINGS[name]
        if row.name == "divide" and operands[1].item == 0:
            raise self.error("division by zero", node)
        vectors = self.operands(row.name, operands[: row.arity])
        attrs: dict[str, Attribute] = {}
        if OPTIONAL_PARAMETER in row.parameters:
            attrs[OPTIONAL_PARAMETER] = ()
        for parameter, operand in zip(row.parameters, operands[row.arity :], strict=False):
            attrs[parameter] = self.parameter(name, parameter, operand)
        return self.apply(row.name, vectors, attrs, node)

    def parameter(self, name: str, parameter: str, operand: Operand) -> Attribute:
        if parameter not in LIST_PARAMETERS:
            return self.integer(operand, f"{name}'s argument {parameter}")
        if not isinstance(operand.item, tuple):
            raise self.error(
                f"{name}'s argument {parameter} must be a list, such as [2,3]", operand.node
            )
        return tuple(self.integer(item, "an element of a list") for item in operand.item)


def _arguments(name: str) -> tuple[str, ...]:
    if name in BUILDERS:
        return BUILDERS[name].arguments
    return SPELLINGS[name].arguments


def _argument_counts(name: str) -> tuple[int, int]:
    """How many arguments a call takes, at least and at most."""
    most = len(_arguments(name))
    if name in BUILDERS:
        least = BUILDERS[name].least
        return (most if least is None else least), most
    return most - (OPTIONAL_PARAMETER in SPELLINGS[name].parameters), most


def _signature(name: str) -> str:
    return f"{name}({', '.join(_arguments(name))})"


# -- what errors say of words that nothing has; only mistakes pay for the tables of those


def _of_name(name: str, names: Sequence[str]) -> str:
    from redcomp.frontend.language import habits

    known = ", ".join([*names[:MAX_LISTED], *["..."] * (len(names) > MAX_LISTED)]) or "none"
    plain, index = (name[:-2], name[-1]) if name.endswith(("_i", "_j")) else (name, "")
    hint = nearest(name, names) or (nearest(plain, names) if index else "")
    if not hint and name.lower() in habits.NAMES:
        hint = f"; {habits.NAMES[name.lower()]}"
    kind = f"V{index}(3)" if index else "Pm(1)"
    declare = "" if hint else f'; to declare it, add an alias such as "{name} = {kind}"'
    return f"{hint}; the names are: {known}{declare}"


def _of_operation(name: str) -> str:
    from redcomp.frontend.language import habits

    if name.lower() in habits.OPERATIONS:
        return f"; {habits.OPERATIONS[name.lower()]}"
    if (reduction := habits.reduction_named(name)) is not None:
        return f': it is a reduction, which Genred takes as reduction_op="{reduction}"'
    return nearest(name, (*SPELLINGS, *BUILDERS)) or "; redcomp.operations() lists all operations"


def _of_two(name: str, count: int) -> str:
    from redcomp.frontend.language import habits

    return f"; {habits.OF_TWO[name]}" if count == 2 and name in habits.OF_TWO else ""
