"""Hostile inputs end with a result or an error of redcomp's own: needs a CPU and PyTorch.

Each input is a number, so a failure can be had again; `make fuzz-hostile` goes through many more.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
from hostile_inputs import LATER, program

# Of the first so many inputs, and of the first so many of the kinds that were thought of later.
CASES, LATER_CASES = 250, 100
PARTS = 4
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
fuzz_hostile: Any = importlib.import_module("fuzz_hostile")
worker_pool: Any = importlib.import_module("worker_pool")

pytestmark = pytest.mark.slow


def test_inputs_are_the_same_each_time() -> None:
    programs = [program(seed) for seed in range(200)]
    assert programs == [program(seed) for seed in range(200)]
    assert len(set(programs)) > 150


@pytest.mark.sampled(PARTS)
@pytest.mark.parametrize("part", range(PARTS))
def test_no_input_crashes_hangs_or_raises_what_is_not_ours(
    part: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = [*range(part, CASES, PARTS), *range(LATER + part, LATER + LATER_CASES, PARTS)]
    pool = worker_pool.Pool(fuzz_hostile.Hostile(str(tmp_path)), inputs)
    counts = pool.run(processes=1)
    assert not counts["failed"], capsys.readouterr().out
    assert counts.total() == len(inputs)
    assert min(counts["passed"], counts["refused"]) > len(inputs) // 12


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("1 + 1", ""),
        ("redcomp.numpy.Genred('x', 3, axis=1)", "refused"),
        ("1 / 0", "invalid"),
        ("main(['show'])", "refused"),
        (
            "redcomp.numpy.Genred('x', 'x=Vi(1)', axis=1).reduction.kernel('f16')",
            "ValueError at values.py",
        ),
    ],
)
def test_outcomes(text: str, outcome: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_hostile, "_NAMESPACE", {})
    exec(fuzz_hostile.PREAMBLE, fuzz_hostile._NAMESPACE)
    assert fuzz_hostile._outcome(text).startswith(outcome)
    assert bool(fuzz_hostile._outcome(text)) == bool(outcome)
