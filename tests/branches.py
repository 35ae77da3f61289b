"""Which branches of some files a run takes: needs no backend.

A branch is one of the two ways on from an `if`, or into and past a loop.  Lines are traced, so a
condition inside of an expression is no branch.
"""

from __future__ import annotations

import ast
import contextlib
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

END = -1  # of a function


class Branch(NamedTuple):
    """The way on from the lines of a condition to its body, or elsewhere."""

    path: str
    line: int
    is_taken: bool

    def __str__(self) -> str:
        path = Path(self.path)
        return f"{path.parent.name}/{path.name}:{self.line} {'holds' if self.is_taken else 'fails'}"


class Branches:
    """The branches of some files, and those that have been taken."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.conditions = {str(path): _conditions(path) for path in paths}
        self.arcs: dict[str, set[tuple[int, int]]] = {path: set() for path in self.conditions}

    @contextlib.contextmanager
    def traced(self) -> Iterator[None]:
        """Record what is run meanwhile, in new threads too: kernels are compiled there."""
        threading.settrace(self._enter)
        sys.settrace(self._enter)
        try:
            yield
        finally:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]  # typeshed knows no end of it

    def _enter(self, frame: FrameType, event: str, argument: object) -> Any:
        arcs = self.arcs.get(frame.f_code.co_filename)
        if arcs is None:
            return None
        last = frame.f_lineno

        def local(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal last
            if event in ("line", "return"):
                line = frame.f_lineno if event == "line" else END
                arcs.add((last, line))
                last = line
            return local

        return local

    def found(self) -> dict[Branch, bool]:
        """Each branch, and whether it has been taken."""
        answers: dict[Branch, bool] = {}
        for path, conditions in self.conditions.items():
            for test, first in conditions:
                ways = {
                    to == first for line, to in self.arcs[path] if line in test and to not in test
                }
                for is_taken in (True, False):
                    answers[Branch(path, test.start, is_taken)] = is_taken in ways
        return answers


def _conditions(path: Path) -> list[tuple[range, int]]:
    """The lines of each condition, and the first line of what it leads to."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, (ast.If, ast.While, ast.For)):
            head = node.iter if isinstance(node, ast.For) else node.test
            lines = range(node.lineno, (head.end_lineno or node.lineno) + 1)
            found.append((lines, node.body[0].lineno))
    return found
