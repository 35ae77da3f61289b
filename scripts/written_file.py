"""What scripts share that write one file of the repository: they write it, or check it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path


def write_or_check(
    path: Path, make: Callable[[], str], doc: str, arguments: Sequence[str] | None = None
) -> int:
    """Run such a script; the exit status, which with --check is 1 if the file is not current."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    text = make()
    if parser.parse_args(arguments).check:
        return int(path.read_text(encoding="utf-8") != text)
    path.write_text(text, encoding="utf-8")
    return 0
