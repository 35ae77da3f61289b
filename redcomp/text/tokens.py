"""The tokens of a text, and what takes them one by one: for the readers of both syntaxes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar, NoReturn, TypeVar

from redcomp.errors import RedcompError
from redcomp.ir import NUMPY_DTYPES, Type

_Item = TypeVar("_Item")


class TextError(RedcompError, ValueError):
    """A text that is not a kernel or block; the message shows the line."""

    def __init__(self, message: str, text: str, position: int) -> None:
        self.line = text.count("\n", 0, position) + 1
        shown = text.splitlines()[self.line - 1 : self.line] or [""]
        super().__init__(f"line {self.line}: {message}\n  {shown[0].strip()}")


class Tokens:
    """The tokens of a text; `next` is the number of the first one that is not taken yet.

    A reader is a subclass.  Its pattern has a group for each kind of token, "space" for what is
    none, and "name", "word", "type" and "number" among the others.
    """

    PATTERN: ClassVar[re.Pattern[str]]

    def __init__(self, text: str) -> None:
        self.text, self.next = text, 0
        self.tokens: list[tuple[str, str, int]] = []
        place = 0
        while place < len(text):
            match = self.PATTERN.match(text, place)
            if match is None:
                raise TextError(f"unexpected {text[place]!r}", text, place)
            kind = str(match.lastgroup)
            if kind != "space":
                self.tokens.append((kind, match.group(), place))
            place = match.end()
        self.tokens.append(("end", "", len(text)))

    def fail(self, message: str) -> NoReturn:
        """Raise an error at the next token."""
        raise TextError(message, self.text, self.tokens[self.next][2])

    def lacks(self, expected: str) -> NoReturn:
        """Raise an error that says what should be there instead of the next token."""
        found = self.peek()
        self.fail(f"expected {expected}, {f'not {found!r}' if found else 'but the text ends'}")

    def peek(self) -> str:
        """The next token, which is not taken."""
        return self.tokens[self.next][1]

    def skip(self, mark: str) -> bool:
        """Whether the next token is this one, which is then taken."""
        found = self.peek() == mark
        self.next += found
        return found

    def expect(self, mark: str) -> None:
        """Take this token."""
        if not self.skip(mark):
            self.lacks(repr(mark) if mark else "the end")

    def take(self, kind: str, described: str) -> str:
        """Take a token of a kind."""
        found, token, _ = self.tokens[self.next]
        if found != kind:
            self.lacks(described)
        self.next += 1
        return token

    def listed(self, end: str, item: Callable[[], _Item]) -> tuple[_Item, ...]:
        """Items with commas between them, up to the end mark, which is taken."""
        found: list[_Item] = []
        while not self.skip(end):
            if found:
                self.expect(",")
            found.append(item())
        return tuple(found)

    def type(self) -> Type:
        """Take a type."""
        kind, token, _ = self.tokens[self.next]
        dim, dtype = token[len("vector<") : -1].split("x") if kind == "type" else ("1", token)
        if dtype not in NUMPY_DTYPES or int(dim) < 1:
            self.lacks(f"a type, {', '.join(NUMPY_DTYPES)} or a vector of one of them")
        self.next += 1
        return Type(dtype, int(dim))
