"""The variables of a kernel, as the aliases and the formulas themselves introduce them."""

from __future__ import annotations

from collections.abc import Sequence

from redcomp.errors import FormulaError
from redcomp.frontend.language.aliases import KIND_OF_CONSTRUCTOR, Alias
from redcomp.frontend.language.formula import Call, Node, Number, walk
from redcomp.ir import INTEGER_OF_WIDTH, Kind, Span, Type, Value, number_variable, variable


class Scope:
    """The kernel's variables: one value for each position, whatever names refer to it.

    Numbers of rows and columns are variables too, for which a call has no arguments.
    """

    def __init__(self, aliases: Sequence[Alias], dtype: str) -> None:
        self.dtype = dtype
        self.names: dict[str, Value] = {}
        self.arguments: dict[int, Value] = {}
        self.numbers: dict[Kind, Value] = {}
        self.reserved: dict[int, tuple[str, Span]] = {}
        # Named ones first: a generated name must not be one of them.
        for alias in sorted(aliases, key=lambda alias: alias.name is None):
            argument = self.argument(
                alias.kind, alias.position, alias.dim, alias.name, is_integer=alias.is_integer
            )
            if alias.name is not None:
                self.names[alias.name] = argument

    def reserve(self, formula: str, tree: Node) -> None:
        """Keep the positions that a formula states from being given to variables without one."""
        for node in walk(tree):
            if not isinstance(node, Call) or not node.args:
                continue
            position = node.args[0]
            states_position = node.callee.name == "Var" or (
                node.callee.name in KIND_OF_CONSTRUCTOR and len(node.args) == 2
            )
            if states_position and isinstance(position, Number):
                self.reserved.setdefault(int(position.value), (formula, node.span))

    def next_position(self) -> int:
        """The lowest position that nothing has or states."""
        position = 0
        while position in self.arguments or position in self.reserved:
            position += 1
        return position

    def argument(
        self,
        kind: Kind,
        position: int,
        dim: int,
        name: str | None = None,
        span: Span | None = None,
        is_integer: bool = False,
    ) -> Value:
        """The variable at a position; a new one, perhaps with a generated name, unless known."""
        known = self.arguments.get(position)
        if known is not None:
            return known
        dtype = INTEGER_OF_WIDTH[self.dtype] if is_integer else self.dtype
        made = variable(name or self.new_name(position), kind, position, Type(dtype, dim), span)
        self.arguments[position] = made
        return made

    def number(self, kind: Kind) -> Value:
        """The number of the row ("i_index") or of the column ("j_index")."""
        return self.numbers.setdefault(kind, number_variable(kind, self.dtype))

    def new_name(self, position: int) -> str:
        name = f"v{position}"
        while name in self.names:
            name += "_"
        return name

    def variables(self) -> tuple[Value, ...]:
        """All arguments by position, which leaves none out, and then the numbers."""
        count = len(self.arguments)
        missing = next((k for k in range(count) if k not in self.arguments), None)
        if missing is not None:
            formula, span = self.reserved[max(self.reserved)]
            message = f"nothing describes argument {missing}, which comes before this one"
            raise FormulaError(message, formula, span.start, span.stop)
        return (*(self.arguments[k] for k in range(count)), *self.numbers.values())
