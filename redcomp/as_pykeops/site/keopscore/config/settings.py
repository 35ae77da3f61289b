"""What KeOps' classes of settings share: for every value x there are get_x, set_x and print_x."""

from __future__ import annotations

import functools
from typing import Any

from redcomp import config as environment

VERBS = ("get", "set", "print")


def build_folder() -> str:
    """Where compiled code is kept: redcomp's disk cache; "" where that is off."""
    return str(environment.cache_directory() or "")


class Settings:
    """Values, which are attributes, and KeOps' three methods for each of them.

    `set_x()` without a value looks for it anew in KeOps; here it leaves it as it is.
    """

    def __getattr__(self, name: str) -> Any:
        verb, _, what = name.partition("_")
        if verb in VERBS and what and hasattr(self, what):
            return functools.partial(getattr(self, f"_{verb}"), what)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _get(self, what: str) -> Any:
        return getattr(self, what)

    def _set(self, what: str, *value: object) -> None:
        if value:
            setattr(self, what, *value)

    def _print(self, what: str) -> None:
        print(f"{what}: {getattr(self, what)}")

    def values(self) -> dict[str, Any]:
        """The values that are shown, by name."""
        return {
            name: getattr(self, name)
            for kind in reversed(type(self).__mro__)
            for name in getattr(kind, "__annotations__", ())
            if not name.startswith("_")
        }

    def print_all(self) -> None:
        """Show all values, a line each."""
        print(f"\n{type(self).__name__}")
        for name, value in self.values().items():
            print(f"  {name}: {value}")
