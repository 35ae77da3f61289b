"""What pyproject.toml cannot say: on PyPI, README's links lead to the repository's pages."""

import re
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent


def found(pattern: str, file: str) -> str:
    """What a pattern finds in a file, which has it."""
    match = re.search(pattern, (ROOT / file).read_text("utf-8"), re.MULTILINE)
    if match is None:
        raise ValueError(f"{file} must have {pattern}")
    return match[1]


def readme() -> str:
    """README with links to the pages of this version."""
    repository = found(r'^Repository = "(.*)"$', "pyproject.toml")
    version = found(r'^__version__ = "(.*)"$', "redcomp/__init__.py")
    # Pictures are shown raw, other files as pages.
    text = (ROOT / "README.md").read_text("utf-8")
    for kind, links in (("raw", r"(!\[[^\]]*\]\()"), ("blob", r"(?<![!\w])(\[[^\]]*\]\()")):
        pages = rf"\1{repository}/{kind}/v{version}/"
        text = re.sub(links + r"(?!https?://|#|mailto:)", pages, text)
    return text


if __name__ == "__main__":
    setup(long_description=readme(), long_description_content_type="text/markdown")
