"""Check that this checkout can be released: python scripts/check_release.py [TAG]

TAG, such as v0.2.0, must be that of the version.  Prints what is missing and ends with status 1, or
prints the version.  See docs/internals/releasing.md.
"""

from __future__ import annotations

import datetime
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def only(pattern: str, file: str) -> str:
    """What a pattern finds in a file of the repository; empty if it finds nothing."""
    match = re.search(pattern, (ROOT / file).read_text("utf-8"), re.MULTILINE)
    return match[1] if match else ""


def version() -> str:
    """The version, from the one place where it stands."""
    return only(r'^__version__ = "(.*)"$', "redcomp/__init__.py")


def missing(tag: str = "") -> list[str]:
    """What is to be done before a release."""
    number = version()
    dated = only(rf"^## \[{re.escape(number)}\] - (\d{{4}}-\d\d-\d\d)$", "CHANGELOG.md")
    cited = only(r"^date-released: '?(\d{4}-\d\d-\d\d)'?$", "CITATION.cff")
    rules = {
        f"the tag is {tag}, but the version v{number}": tag in ("", f"v{number}"),
        f"{number} is no number of a release": bool(re.fullmatch(r"\d+\.\d+\.\d+", number)),
        f"CHANGELOG.md has no section [{number}] with a date": bool(dated and is_date(dated)),
        "CITATION.cff has another version": only(r"^version: (.*)$", "CITATION.cff") == number,
        f"CITATION.cff says {cited}, CHANGELOG.md {dated}": cited == dated,
        "the addresses of pyproject.toml are nobody's": ".example" not in addresses(),
    }
    return [what for what, holds in rules.items() if not holds]


def is_date(text: str) -> bool:
    """Whether there is such a day."""
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def addresses() -> str:
    """The table of addresses in pyproject.toml."""
    return only(r"^\[project\.urls\]\n((?:.+\n)*)", "pyproject.toml")


if __name__ == "__main__":
    found = missing(*sys.argv[1:2])
    print(*(found or [version()]), sep="\n")
    sys.exit(bool(found))
