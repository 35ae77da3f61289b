"""Types of options on command lines."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence


def subset(known: Sequence[str]) -> Callable[[str], list[str]]:
    """An argparse type: names separated by commas, each one of the known ones."""

    def parse(text: str) -> list[str]:
        names = text.split(",")
        unknown = set(names) - set(known)
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}")
        return names

    return parse
