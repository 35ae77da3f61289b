"""The tokens of the form for people, and what takes them one by one."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NoReturn, TypeVar

from redcomp.ir import NUMPY_DTYPES, Type
from redcomp.text.syntax import TextError

_Item = TypeVar("_Item")
_TOKEN = re.compile(
    r"""(?P<space>(?:\s|//[^\n]*)+)
    | (?P<string>"(?:[^"\\\n]|\\.)*")
    | (?P<name>[%@][\w$.-]+)
    | (?P<type>vector<\d+x\w+>)
    | (?P<number>(?:-?inf\b|nan\(0x[0-9A-Fa-f]+\)|-?\d[\d.]*(?:[eE][-+]?\d+)?|true\b|false\b)
        (?::\w+)?)
    | (?P<word>[A-Za-z_][\w.]*)
    | (?P<mark>[](){}<>:,=[])""",
    re.VERBOSE,
)


class Tokens:
    """The tokens of a text; `next` is the number of the first one that is not taken yet."""

    def __init__(self, text: str) -> None:
        self.text, self.next = text, 0
        self.tokens: list[tuple[str, str, int]] = []
        place = 0
        while place < len(text):
            match = _TOKEN.match(text, place)
            if match is None:
                raise TextError(f"unexpected {text[place]!r}", text, place)
            kind = str(match.lastgroup)
            if kind != "space":
                self.tokens.append((kind, match.group(), place))
            place = match.end()
        self.tokens.append(("end", "", len(text)))

    def peek(self) -> str:
        return self.tokens[self.next][1]

    def fail(self, message: str) -> NoReturn:
        raise TextError(message, self.text, self.tokens[self.next][2])

    def skip(self, mark: str) -> bool:
        found = self.peek() == mark
        self.next += found
        return found

    def expect(self, mark: str) -> None:
        if not self.skip(mark):
            self.fail(f"expected {mark or 'the end'!r}, not {self.peek() or 'the end'!r}")

    def take(self, kind: str, described: str) -> str:
        found, token, _ = self.tokens[self.next]
        if found != kind:
            self.fail(f"expected {described}, not {token or 'the end'!r}")
        self.next += 1
        return token

    def integer(self) -> int:
        token = self.take("number", "a number")
        if not re.fullmatch(r"-?\d+", token):
            self.next -= 1
            self.fail(f"expected an integer, not {token!r}")
        return int(token)

    def listed(self, end: str, item: Callable[[], _Item]) -> list[_Item]:
        found: list[_Item] = []
        while not self.skip(end):
            if found:
                self.expect(",")
            found.append(item())
        return found

    def type(self) -> Type:
        kind, token, _ = self.tokens[self.next]
        dim, dtype = token[len("vector<") : -1].split("x") if kind == "type" else ("1", token)
        if dtype not in NUMPY_DTYPES or int(dim) < 1:
            self.fail(f"expected a type, not {token!r}")
        self.next += 1
        return Type(dtype, int(dim))
