"""Pages show what their commands print: needs the CPU's backend, whose costs one shows."""

from __future__ import annotations

import io
import re
import shlex
import sys
from pathlib import Path

import pytest

from redcomp.__main__ import main

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "tutorial" / "reading-the-compiler.md"
OTHERS = ("guides/compiler-engineer.md", "performance.md", "view.md")
PAGES = [PAGE, *(DOCS / name for name in OTHERS)]
PROGRAM = "python -m redcomp "


def definition() -> str:
    """The command that the page's shell function stands for."""
    (body,) = re.findall(r"cauchy\(\) \{\n(.*?)\n\}", PAGE.read_text("utf-8"), re.DOTALL)
    return str(body).replace("\\\n", " ").replace('"$@"', "").strip()


def examples() -> list[tuple[str, str]]:
    """Each command of the pages, and what they say that it prints."""
    text = "".join(page.read_text("utf-8") for page in PAGES)
    blocks = re.findall(r"```console\n\$ (.*?)\n(.*?)```", text, re.DOTALL)
    return [(command.replace("cauchy", definition()), shown) for command, shown in blocks]


def printed(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> str:
    """The output of redcomp's commands, piped into each other."""
    out = ""
    for part in command.split(" | "):
        assert part.startswith(PROGRAM)
        monkeypatch.setattr(sys, "stdin", io.StringIO(out))
        assert main(shlex.split(part.removeprefix(PROGRAM))) == 0
        out = capsys.readouterr().out
    return out


def as_pattern(shown: str) -> str:
    """The shown lines as a regular expression, in which ... stands for any lines."""
    lines = shown.splitlines(keepends=True)
    return "".join("(?:.*\n)*?" if line == "...\n" else re.escape(line) for line in lines)


@pytest.mark.parametrize(("command", "shown"), examples())
def test_page_shows_what_is_printed(
    command: str,
    shown: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert re.fullmatch(as_pattern(shown), printed(command, capsys, monkeypatch))


def test_examples_are_found() -> None:
    assert len(examples()) >= 12
    with_commands = {
        page for page in DOCS.rglob("*.md") if "```console\n$ " in page.read_text("utf-8")
    }
    assert with_commands == set(PAGES)
    assert not re.fullmatch(as_pattern("a\n...\nc\n"), "a\nb\nd\n")
