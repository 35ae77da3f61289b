"""What type checkers and editors see of LazyTensors: needs no backend."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

import pytest

from redcomp.frontend.lazy.lazy_tensor import LazyTensorBase
from redcomp.frontend.lazy.methods import OTHER_NAMES, TABLE_METHODS
from redcomp.frontend.lazy.reductions import OTHER_REDUCTIONS, REDUCTION_METHODS

ROOT = Path(__file__).parents[1]
PROGRAM = ROOT / "tests" / "typed_program.py"
sys.path.insert(0, str(ROOT / "scripts"))
make_declared: Any = importlib.import_module("make_declared")


def test_declarations_are_what_their_script_writes() -> None:
    for path, make in make_declared.MODULES.items():
        assert path.read_text(encoding="utf-8") == make(), "run python scripts/make_declared.py"


@pytest.mark.parametrize("name", [*TABLE_METHODS, *OTHER_NAMES, *REDUCTION_METHODS])
def test_methods_of_tables_are_declared(name: str) -> None:
    text = make_declared.operations() + make_declared.reductions()
    assert f"        def {name}(" in text or f"\n        {name} = " in text


def test_every_method_is_documented() -> None:
    names = [n for n in dir(LazyTensorBase) if not n.startswith("_") and n not in OTHER_REDUCTIONS]
    without = [n for n in names if not inspect.getdoc(getattr(LazyTensorBase, n))]
    assert set(without) <= {"backend", "ranges"}  # attributes


@pytest.mark.thorough
def test_a_program_is_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYPYPATH", str(ROOT))
    api = pytest.importorskip("mypy.api", reason="mypy is in the extra lint only")
    options = ["--strict", "--follow-imports=silent", "--cache-dir", str(tmp_path)]
    text, errors, status = api.run([*options, "--config-file", "", str(PROGRAM)])
    assert status == 0, text + errors
