"""The example programs, run as a user runs them: needs the CPU, matplotlib, SciPy and PyTorch."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import pytest

mpl.use("Agg")
from matplotlib import pyplot as plt

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[1] / "examples"
GALLERY = sorted((EXAMPLES / "gallery").glob("*.py"), key=lambda path: path.stem)
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PROGRAMS = ["sum_reduction_numpy", "sum_reduction_torch"]

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="PyTorch is not installed"
)
in_gallery = pytest.mark.parametrize("path", GALLERY, ids=lambda path: path.stem)


@pytest.mark.sampled(2)
@pytest.mark.slow
@pytest.mark.parametrize("program", [PROGRAMS[0], pytest.param(PROGRAMS[1], marks=needs_torch)])
def test_example_agrees_with_dense_and_draws(program: str, tmp_path: Path) -> None:
    picture = tmp_path / "made" / "picture.png"
    run = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{program}.py"), str(picture)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent), "REDCOMP_EXAMPLES_SMALL": "1"},
        check=False,
    )
    assert run.returncode == 0, run.stderr
    errors = re.findall(r"^(\w+) +max relative error (\S+)$", run.stdout, re.MULTILINE)
    assert [name for name, _ in errors] == ["sum", "gradient"]
    assert all(float(error) < 1e-5 for _, error in errors), run.stdout
    assert len(re.findall(r"first call [\d.]+ ms, then [\d.]+ ms", run.stdout)) == 2
    content = picture.read_bytes()
    assert content.startswith(PNG_SIGNATURE)
    assert len(content) > 20_000  # six panels with curves, not an empty canvas


@pytest.mark.parametrize("program", PROGRAMS)
def test_only_the_import_of_genred_names_redcomp(program: str) -> None:
    source = (EXAMPLES / f"{program}.py").read_text(encoding="utf-8")
    face = program.rpartition("_")[2]
    lines = [line for line in source.splitlines() if "redcomp" in line]
    assert lines == [f"from redcomp.{face} import Genred"]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The numbers of panels of the figures that a program shows, which is done without a window."""
    panels: list[int] = []

    def show() -> None:
        for number in plt.get_fignums():
            figure = plt.figure(number)
            figure.canvas.draw()
            panels.append(sum(panel.has_data() for panel in figure.axes))
        plt.close("all")

    monkeypatch.setattr(plt, "show", show)
    yield panels
    plt.close("all")


@pytest.mark.sampled(3)  # building the documentation runs all of them
@needs_torch
@in_gallery
def test_gallery_agrees_with_an_independent_answer_and_draws(
    path: Path, shown: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDCOMP_EXAMPLES_SMALL", "1")
    runpy.run_path(str(path), run_name="__main__")
    assert shown
    assert all(shown)
    assert not plt.get_fignums(), "a figure is drawn but not shown"


def test_gallery_is_large() -> None:
    assert len(GALLERY) >= 14


@in_gallery
def test_gallery_program_has_a_title_a_figure_and_a_check(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    title, line = (ast.get_docstring(tree) or "").splitlines()[:2]
    assert line == "=" * len(title)
    assert source.count("plt.show()") == 1
    assert any(_compares(node) for node in ast.walk(tree)), "no statement compares the result"
    assert 40 <= len(source.splitlines()) <= 110


def _compares(node: ast.AST) -> bool:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in ("assert_allclose", "assert_close")
    return isinstance(node, ast.Assert)


def test_gallery_is_listed() -> None:
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    names = re.findall(r"^\| \[`(\w+)\.py`\]\(gallery/\1\.py\) \|", listed, re.MULTILINE)
    assert names == [path.stem for path in GALLERY]
