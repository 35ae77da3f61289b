"""What users read runs as it stands: needs PyTorch, and the CPU's backend.

Blocks of a page are one program, from the first to the last.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import pytest
from foreign_arrays import OfLibrary

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)
# Pages that have tests of their own, which look at what the programs compute.
TESTED_ELSEWHERE = {
    "lazy-tensor.md": "tests/test_documentation.py",
    "inside-pytorch.md": "tests/test_torch_compile.py",
    "torch-nn.md": "tests/test_torch_nn_modules.py",
}


def pages() -> list[str]:
    """The pages with programs in them, by their names below docs/."""
    found = (page.relative_to(DOCS) for page in DOCS.rglob("*.md"))
    names = sorted(page.as_posix() for page in found if page.parts[0] not in ("_build", "gallery"))
    return [n for n in names if n not in TESTED_ELSEWHERE and blocks(DOCS / n)]


def blocks(page: Path) -> list[str]:
    return PYTHON.findall(page.read_text(encoding="utf-8"))


def library_like_jax(name: str) -> ModuleType:
    """A module whose arrays have the protocols of JAX's, which this project does not need."""
    module: Any = ModuleType(name)
    module.ones = lambda shape: OfLibrary(np.ones(shape, np.float32))
    return cast(ModuleType, module)


@pytest.mark.slow
@pytest.mark.parametrize("page", pages())
def test_programs_of_a_page_run(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("jax", "jax.numpy"):
        monkeypatch.setitem(sys.modules, name, library_like_jax(name))
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
