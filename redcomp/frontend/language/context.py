"""What lowering one formula needs at every step: checked operands, values with places, errors."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from redcomp.errors import FormulaError
from redcomp.frontend.language.aliases import spell
from redcomp.frontend.language.exact import rounded
from redcomp.frontend.language.formula import Node
from redcomp.frontend.language.integers import apply_exactly, fits, is_exact
from redcomp.frontend.language.scope import Scope
from redcomp.ir import INTEGER_OF_WIDTH, Attribute, Kind, Type, Value, constant, convert
from redcomp.limits import MAX_DIM, MAX_INTEGER, MAX_OPERATIONS
from redcomp.ops import ShapeError, apply
from redcomp.passes.scalars import written_out
from redcomp.records import record

Item = Value | int | Fraction | tuple["Operand", ...]


@record
class Operand:
    """A lowered node: what it became, and where it stands."""

    node: Node
    item: Item


class FormulaContext:
    """One formula on its way to a value: its text, its variables, how much it has become."""

    def __init__(self, formula: str, scope: Scope) -> None:
        self.formula = formula
        self.scope = scope
        self.dtype = scope.dtype
        self.made = 0

    def vector(self, operand: Operand) -> Value:
        """An operand as a value of the kernel's dtype, to which numbers and integers convert."""
        item, node = operand.item, operand.node
        if isinstance(item, Value):
            return convert(item, self.dtype)
        if isinstance(item, tuple):
            raise self.error("a list stands where a vector is expected", node)
        value: Value | None = None
        with contextlib.suppress(OverflowError):
            value = constant(rounded(item, self.dtype), self.dtype, node.span)
        if value is None or math.isinf(value["value"]):
            raise self.error(f"the number is too large for {self.dtype}", node)
        return self.keep(value, set(), node)

    def operands(self, op: str, operands: Sequence[Operand]) -> tuple[Value, ...]:
        """The operands of an operation: integers if it is exact and they all are, else floats."""
        known = any(isinstance(operand.item, Value) for operand in operands)
        exact = [self.exact(operand) for operand in operands] if known and is_exact(op) else []
        integers = tuple(value for value in exact if value is not None)
        if integers and len(integers) == len(operands):
            return integers
        return tuple(map(self.vector, operands))

    def exact(self, operand: Operand) -> Value | None:
        """An operand as an integer value, if it is one or a number that becomes one."""
        item = operand.item
        if isinstance(item, Value):
            return None if item.type.is_float else item
        if isinstance(item, int) and fits(item, self.dtype):
            return constant(item, INTEGER_OF_WIDTH[self.dtype], operand.node.span)
        return None

    def integer(self, operand: Operand, what: str) -> int:
        item = operand.item
        if not isinstance(item, int):
            raise self.error(f"{what} must be an integer literal such as 3", operand.node)
        if abs(item) > MAX_INTEGER:
            raise self.error(f"{what} is at most {MAX_INTEGER:,} in absolute value", operand.node)
        return item

    def dimension(self, operand: Operand) -> int:
        dim = self.integer(operand, "the dimension")
        if not 1 <= dim <= MAX_DIM:
            raise self.error(f"expected a dimension from 1 to {MAX_DIM:,}, got {dim}", operand.node)
        return dim

    def apply(
        self, op: str, operands: tuple[Value, ...], attrs: Mapping[str, Attribute], node: Node
    ) -> Value:
        """The operation on the operands; dimensions that do not fit fail at the node."""
        try:
            if is_exact(op) and not operands[0].type.is_float:
                value = apply_exactly(op, operands, attrs, self.dtype)
            else:
                value = apply(op, *operands, **attrs)
        except ShapeError as error:
            raise self.error(str(error), node) from None
        if value.dim > MAX_DIM:
            raise self.error(f"the result has more than {MAX_DIM:,} components", node)
        # A definition may return an operand, which keeps its own place (and identity).
        if any(value is operand for operand in operands):
            return value
        known = set(operands)
        return self.keep(replace(value, span=node.span), known, node)

    def keep(self, value: Value, known: Collection[Value], node: Node) -> Value:
        """Count what was made of `known` values, and stop when it becomes too much."""
        self.count(written_out([value], known), node)
        return value

    def count(self, operations: int, node: Node) -> None:
        """Count operations that a formula becomes, or that have to be gone through for it."""
        self.made += operations
        if self.made > MAX_OPERATIONS:
            raise self.error(f"the formula becomes more than {MAX_OPERATIONS:,} operations", node)

    def variable(self, kind: Kind, position: int, dim: int, node: Node) -> Value:
        found = self.scope.argument(kind, position, dim, span=node.span)
        if (found["kind"], found.type) != (kind, Type(self.dtype, dim)):
            known = spell(found["kind"], position, found.dim, not found.type.is_float)
            raise self.error(f"argument {position} is {known}, called {found['name']}", node)
        return found

    def error(self, message: str, node: Node) -> FormulaError:
        return FormulaError(message, self.formula, node.span.start, node.span.stop)
