"""The example programs, run as a user runs them: needs the CPU, matplotlib and PyTorch."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[1] / "examples"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PROGRAMS = ["sum_reduction_numpy", "sum_reduction_torch"]

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="PyTorch is not installed"
)


@pytest.mark.slow
@pytest.mark.parametrize("program", [PROGRAMS[0], pytest.param(PROGRAMS[1], marks=needs_torch)])
def test_example_agrees_with_dense_and_draws(program: str, tmp_path: Path) -> None:
    picture = tmp_path / "made" / "picture.png"
    run = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{program}.py"), str(picture)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent)},
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
