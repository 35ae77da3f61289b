"""The errors of the compiled elementary functions: needs a CPU, mpmath.

The same measurement as that of docs/accuracy.md, with fewer points.
"""

from __future__ import annotations

import importlib
import platform
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redcomp.ops.table import OPERATIONS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
measure_ulp: Any = importlib.import_module("measure_ulp")

FLOATS = [("f32", 100_000), ("f64", 200)]
PAGE_ROW = re.compile(r"\| (\w+) \| (f32|f64) \| (\S+) \| (\S+) \|")


@pytest.mark.sampled(36)
@pytest.mark.parametrize(("dtype", "count"), FLOATS, ids=["f32", "f64"])
@pytest.mark.parametrize("op", measure_ulp.MEASURED)
def test_compiled_function_is_within_its_limit(op: str, dtype: str, count: int) -> None:
    targets = measure_ulp.targets()
    found = measure_ulp.measure(op, dtype, measure_ulp.points(op, dtype, count), targets)
    assert [m.target for m in found] == targets
    for m in found:
        assert m.count >= count
        assert 0.3 < m.error <= OPERATIONS[op].ulp, m


@pytest.mark.sampled(6)
@pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"), reason="SSE2 is an x86-64 target"
)
@pytest.mark.parametrize(("dtype", "count"), [("f32", 20_000), ("f64", 100)], ids=["f32", "f64"])
@pytest.mark.parametrize("op", ["exp", "log", "sin", "tanh", "erfc", "cbrt"])
def test_limits_hold_without_fused_multiply_adds(op: str, dtype: str, count: int) -> None:
    (found,) = measure_ulp.measure(op, dtype, measure_ulp.points(op, dtype, count), ["sse2"])
    assert 0.3 < found.error <= OPERATIONS[op].ulp, found


def test_targets_differ_in_the_form_of_exp() -> None:
    if "avx512" not in measure_ulp.targets():
        pytest.skip("this machine has one form only")
    x = np.linspace(-5.0, 5.0, 1000, dtype=np.float32)
    forms = [measure_ulp.evaluate("exp", x, target=name) for name in ("avx512", "avx2")]
    assert 0 < np.count_nonzero(forms[0] != forms[1]) < len(x)


def test_rows_of_two_operands_say_how_pairs_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    row = OPERATIONS["powf"]
    monkeypatch.setitem(OPERATIONS, "powf", replace(row, domain=replace(row.domain, drawn=None)))
    with pytest.raises(AssertionError, match=r"the domain of 'powf' has to say how .* `drawn`"):
        list(measure_ulp.points("powf", "f32", 10))


def test_page_lists_every_function_with_its_limit() -> None:
    text = (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8")
    listed = {(row[1], row[2]): (row[3], float(row[4])) for row in PAGE_ROW.finditer(text)}
    rows = [OPERATIONS[op] for op in measure_ulp.MEASURED]
    assert set(listed) == {(row.spelling, dtype) for row in rows for dtype in measure_ulp.DTYPES}
    for row in rows:
        for dtype in measure_ulp.DTYPES:
            allowed, largest = listed[row.spelling, dtype]
            assert allowed == f"{row.ulp:g}"
            assert largest <= row.ulp
