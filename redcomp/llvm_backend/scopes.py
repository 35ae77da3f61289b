"""Names in nested scopes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Scopes(Generic[K, V]):
    """What is known in the innermost of nested scopes.

    now  all of it, found at once however deep the scopes are; changed by `add` only, so that what a
         scope has added or hidden is undone when it closes
    """

    __slots__ = ("_before", "now")

    def __init__(self, known: Mapping[K, V] | None = None) -> None:
        self.now: dict[K, V] = dict(known or {})
        self._before: list[list[tuple[K, V | None]]] = []

    def copy(self) -> Scopes[K, V]:
        """The same, in a scope of its own."""
        return Scopes(self.now)

    def add(self, key: K, value: V) -> None:
        """Make something known until the innermost scope closes."""
        now = self.now
        if self._before:
            self._before[-1].append((key, now.get(key)))
        now[key] = value

    def enter(self) -> None:
        """Open a scope."""
        self._before.append([])

    def leave(self) -> None:
        """Close the innermost scope."""
        now = self.now
        for key, value in reversed(self._before.pop()):
            if value is None:
                del now[key]
            else:
                now[key] = value
