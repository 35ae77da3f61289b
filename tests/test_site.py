"""The documentation's site is complete: needs PyTorch for the names, and builds nothing."""

from __future__ import annotations

import ast
import importlib
import pydoc
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS, PACKAGE = ROOT / "docs", ROOT / "redcomp"
TOCTREE = re.compile(r"```\{toctree\}\n(.*?)```", re.DOTALL)
DIRECTIVE = re.compile(r"^\.\. (?:auto\w+|py:module):: (\S+)$", re.MULTILINE)
# Made when the site is built.
GENERATED = "gallery/"
PUBLIC = (
    "redcomp",
    "redcomp.numpy",
    "redcomp.numpy.cluster",
    "redcomp.torch",
    "redcomp.torch.cluster",
    "redcomp.torch.nn",
)
# Names that are no classes and no functions: the reference says in words what they are.
IN_WORDS = {"redcomp.__version__"}


def pages() -> dict[str, str]:
    """The texts of all pages by their names below docs/."""
    found = {
        page.relative_to(DOCS).as_posix(): page.read_text(encoding="utf-8")
        for page in DOCS.rglob("*.md")
    }
    return {name: text for name, text in found.items() if not name.startswith(("_", GENERATED))}


def reference() -> set[str]:
    """What the pages of the reference take docstrings from."""
    texts = [text for name, text in pages().items() if name.startswith("api/")]
    return {name for text in texts for name in DIRECTIVE.findall(text)}


def listed() -> Iterator[str]:
    """The pages that tables of contents name."""
    for name, text in pages().items():
        for entries in TOCTREE.findall(text):
            lines = [line for line in entries.splitlines() if line and not line.startswith(":")]
            for line in lines:
                folder = (DOCS / name).parent
                matches = folder.glob(f"{line}.md")
                yield from (match.resolve().relative_to(DOCS).as_posix() for match in matches)


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_in_the_reference(module: str) -> None:
    public = importlib.import_module(module)
    names = {f"{module}.{name}" for name in public.__all__}
    assert names
    missing = names - reference() - IN_WORDS
    # Some names are of other modules, under which they are listed.
    found = [getattr(public, name.removeprefix(f"{module}.")) for name in missing]
    homes = {f"{thing.__module__}.{thing.__qualname__}" for thing in found}
    assert not homes - reference()
    words = "".join(text for name, text in pages().items() if name.startswith("api/"))
    assert all(name in words for name in names & IN_WORDS)


def test_what_the_reference_names_is_there_and_documented() -> None:
    # Importing as_pykeops would replace pykeops for all tests of this process.
    for name in {name for name in reference() if "as_pykeops" not in name}:
        assert (pydoc.locate(name).__doc__ or "").strip(), name


def test_errors_are_in_the_reference() -> None:
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            bases = [ast.unparse(base) for base in getattr(node, "bases", [])]
            is_own = path.name == "errors.py" or "RedcompError" in bases
            if isinstance(node, ast.ClassDef) and is_own and node.name[0] != "_":
                found.add(f"{path.relative_to(ROOT).with_suffix('')}.{node.name}".replace("/", "."))
    assert len(found) >= 12
    assert not {name.replace(".__init__", "") for name in found} - reference()


def test_settings_have_every_environment_variable() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    names = set(re.findall(r"REDCOMP_[A-Z_]*[A-Z]", source))
    assert len(names) >= 9
    rows = re.findall(r"^\| `(REDCOMP_\w+)` \|", pages()["settings.md"], re.MULTILINE)
    assert set(rows) == names
    assert len(rows) == len(names)


def test_every_page_is_in_a_table_of_contents() -> None:
    assert set(pages()) - set(listed()) == {"index.md"}


def test_docstrings_become_text_and_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS / "_extensions"))
    restructured = importlib.import_module("house_docstrings").restructured
    written = """Sums |x * y| of `x`s; see docs/arrays.md.

        code(x)

    first, second  what they are,
                   continued with `code`
    long_name_here one space is enough here

    other: six arrays
    of integers"""
    lines = "\n".join(restructured([line.removeprefix("    ") for line in written.split("\n")]))
    assert (
        lines
        == r"""Sums \|x \* y\| of ``x``\ s; see :doc:`/arrays`.

::

    code(x)

``first``, ``second``
    what they are,
    continued with ``code``
``long_name_here``
    one space is enough here

``other``: six arrays
of integers
"""
    )
