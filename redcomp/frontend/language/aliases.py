"""Alias strings such as `"x = Vi(3)"`: the names, kinds and dimensions of a kernel's arguments.

    [name =] Vi(dim)         Vi: a vector for each row i; Vj: for each column j; Vij: for each pair;
                             Pm: a parameter
    [name =] Vi(position, dim)
    [name =] Var(position, dim, category)      category 0: i, 1: j, 2: parameter

A last argument `int`, as in `"l = Vi(1, int)"`, declares integers.  `Vx` and `Vy` are old names of
`Vi` and `Vj`.  Without a position, an alias describes the argument at its place in the list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from redcomp import arguments
from redcomp.errors import FormulaError
from redcomp.frontend.language.formula import Token, syntax_error, tokenize
from redcomp.ir import Kind
from redcomp.limits import MAX_DIM
from redcomp.records import record

KIND_OF_CONSTRUCTOR: Mapping[str, Kind] = {
    "Vi": "i",
    "Vj": "j",
    "Vij": "ij",
    "Pm": "parameter",
    "Vx": "i",
    "Vy": "j",
}
# The word that declares integers.
INTEGER = "int"
EXAMPLE = "x = Vi(3)"
KIND_OF_CATEGORY: tuple[Kind, ...] = ("i", "j", "parameter")


_AS_IN = f'; an alias is such as "{EXAMPLE}"'


@record
class Alias:
    """An argument of a kernel: its name in the formula (if any), kind, position and dimension."""

    name: str | None
    kind: Kind
    position: int
    dim: int
    is_integer: bool = False

    @property
    def what(self) -> str:
        """The argument without its name, as one writes it."""
        return spell(self.kind, self.position, self.dim, self.is_integer)


def spell(kind: Kind, position: int, dim: int, is_integer: bool = False) -> str:
    """An argument as one writes it: Vi(0, 3) or Vi(0, 3, int)."""
    constructor = next(c for c, k in KIND_OF_CONSTRUCTOR.items() if k == kind)
    return f"{constructor}({position}, {dim}{', ' + INTEGER if is_integer else ''})"


def texts_of_aliases(aliases: object) -> tuple[str, ...]:
    """The aliases of a list, or the only one; raises ArgumentError."""
    wanted = f'a list of strings such as ["{EXAMPLE}", "y = Vj(3)"]'
    listed = [aliases] if isinstance(aliases, str) else arguments.items("aliases", aliases, wanted)
    return tuple(arguments.text(f"aliases[{n}]", alias, EXAMPLE) for n, alias in enumerate(listed))


def parse_aliases(aliases: Sequence[str]) -> tuple[Alias, ...]:
    """The aliases in the order of the list; together they describe the arguments 0 to n - 1.

    Two names may stand for one argument, which then needs the same kind and dimension in both.
    """
    parsed = tuple(parse_alias(text, place) for place, text in enumerate(aliases))
    names: set[str] = set()
    arguments: dict[int, Alias] = {}
    for alias, text in zip(parsed, aliases, strict=True):
        if alias.name in names:
            start = text.index(alias.name)
            message = f"the name {alias.name!r} is given twice"
            raise FormulaError(message, text, start, start + len(alias.name))
        if alias.name is not None:
            names.add(alias.name)
        known = arguments.setdefault(alias.position, alias)
        if known.what != alias.what:
            message = f"argument {alias.position} is {known.what} in another alias"
            raise FormulaError(message, text, 0, len(text))
    _require_all_positions(arguments, parsed, aliases)
    return parsed


def _require_all_positions(
    arguments: Mapping[int, Alias], parsed: Sequence[Alias], texts: Sequence[str]
) -> None:
    missing = next((k for k in range(len(arguments)) if k not in arguments), None)
    if missing is None:
        return
    last = max(range(len(parsed)), key=lambda place: parsed[place].position)
    text = texts[last]
    position, dim = parsed[last].position, parsed[last].dim
    message = (
        f"no alias describes argument {missing}, but one describes {position}: of two numbers the "
        f"first one is the position of the argument, and arrays of any length have ({dim})"
    )
    raise FormulaError(message, text, 0, len(text))


def parse_alias(alias: str, place: int = 0) -> Alias:
    """One alias; `place` is the position of an argument that states none."""
    return _Reader(alias).alias(place)


class _Reader:
    """The tokens of an alias, read from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = tokenize(text, "alias")
        self.next = 0

    def alias(self, place: int) -> Alias:
        name = None
        if len(self.tokens) > 1 and self.tokens[1].text == "=":
            name = self.take("a name", kind="name").text
            self.take("'='", text="=")
        constructor = self.take("Vi, Vj, Vij, Pm or Var", kind="name")
        if constructor.text != "Var" and constructor.text not in KIND_OF_CONSTRUCTOR:
            hint = arguments.nearest(constructor.text, (*KIND_OF_CONSTRUCTOR, "Var")) or _AS_IN
            message = f"expected Vi, Vj, Vij, Pm or Var, got {constructor}{hint}"
            raise self.error(message, constructor)
        numbers, is_integer = self.numbers()
        if constructor.text == "Var":
            return self.variable(name, constructor, numbers, is_integer)
        if len(numbers) > 2:
            message = (
                f"{constructor.text} takes (dimension) or (position, dimension), "
                f"and {INTEGER!r} after them for integers"
            )
            raise self.error(message, numbers[2])
        position = int(numbers[0].text) if len(numbers) == 2 else place
        kind = KIND_OF_CONSTRUCTOR[constructor.text]
        return Alias(name, kind, position, self.dimension(numbers[-1]), is_integer)

    def variable(
        self, name: str | None, constructor: Token, numbers: list[Token], is_integer: bool
    ) -> Alias:
        if len(numbers) != 3:
            raise self.error("Var takes (position, dimension, category)", constructor)
        position, dim, category = numbers
        if int(category.text) >= len(KIND_OF_CATEGORY):
            message = f"expected a category: 0 (i), 1 (j) or 2 (parameter), got {category.text}"
            raise self.error(message, category)
        kind = KIND_OF_CATEGORY[int(category.text)]
        return Alias(name, kind, int(position.text), self.dimension(dim), is_integer)

    def numbers(self) -> tuple[list[Token], bool]:
        """`(number, ...)` and the end; whether `int` stands after the numbers."""
        self.take("'('", text="(")
        numbers, is_integer = [self.number()], False
        while self.tokens[self.next].text == "," and not is_integer:
            self.next += 1
            is_integer = self.tokens[self.next].text == INTEGER
            if is_integer:
                self.next += 1
            else:
                numbers.append(self.number())
        self.take("')'" if is_integer else "',' or ')'", text=")")
        self.take("the end", kind="end")
        return numbers, is_integer

    def number(self) -> Token:
        token = self.take("a whole number")
        if not token.text.isdecimal():
            message = f"expected a whole number, the dimension, got {token}{_AS_IN}"
            raise self.error(message, token)
        # Numbers of thousands of digits are not even readable in Python.
        if len(token.text) > len(str(MAX_DIM)):
            raise self.error("the number is too large", token)
        return token

    def dimension(self, token: Token) -> int:
        dim = int(token.text)
        if not 1 <= dim <= MAX_DIM:
            raise self.error(f"expected a dimension from 1 to {MAX_DIM:,}, got {dim}", token)
        return dim

    def take(self, expected: str, *, kind: str | None = None, text: str | None = None) -> Token:
        token = self.tokens[self.next]
        if (kind is not None and token.kind != kind) or (text is not None and token.text != text):
            raise self.error(f"expected {expected}, got {token}{_AS_IN}", token)
        self.next += 1
        return token

    def error(self, message: str, token: Token) -> FormulaError:
        return syntax_error(message, self.text, token.span, "alias")
