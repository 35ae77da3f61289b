"""What users read runs as it stands: needs PyTorch, and the CPU's backend.

Blocks of a page are one program, from the first to the last.  A page may leave out what another
library would compute, if that library is not installed; all others are run.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)
# Pages that have tests of their own, which look at what the programs compute.
TESTED_ELSEWHERE = {
    "lazy-tensor.md": "tests/test_documentation.py",
    "inside-pytorch.md": "tests/test_torch_compile.py",
    "torch-nn.md": "tests/test_torch_nn_modules.py",
}
# What a page imports that this project does not need.
FOREIGN = {"arrays.md": "jax"}


def pages() -> list[str]:
    """The pages with programs in them, by their names below docs/."""
    found = (page.relative_to(DOCS) for page in DOCS.rglob("*.md"))
    names = sorted(page.as_posix() for page in found if page.parts[0] not in ("_build", "gallery"))
    return [n for n in names if n not in TESTED_ELSEWHERE and blocks(DOCS / n)]


def blocks(page: Path) -> list[str]:
    return PYTHON.findall(page.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("page", pages())
def test_programs_of_a_page_run(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if page in FOREIGN:
        pytest.importorskip(FOREIGN[page], reason=f"the page is about {FOREIGN[page]}")
    monkeypatch.chdir(tmp_path)
    program = compile("\n".join(blocks(DOCS / page)), page, "exec")
    exec(program, {"__name__": "page"})


def test_programs_are_found() -> None:
    assert {"quick-start.md", "guides/statistician.md", "guides/compiler-engineer.md"} <= set(
        pages()
    )


def test_other_tests_read_their_pages() -> None:
    for page, test in TESTED_ELSEWHERE.items():
        text = (ROOT / test).read_text(encoding="utf-8")
        assert page in text or page.removesuffix(".md").replace("-", "_") in text, page
