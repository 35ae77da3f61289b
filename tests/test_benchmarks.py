"""The benchmarks' check of results, in small: CPU, PyTorch."""

from __future__ import annotations

import dataclasses
import itertools
import os
import stat
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.cases import REDUCTION_CASES, SAMPLE, Array, Case, inputs, reference, sample
from benchmarks.competitors import COMPETITORS, UnsupportedError, competitor
from benchmarks.measure import (
    CACHE_VARIABLES,
    Results,
    WrongResultError,
    fresh_process,
    largest_error,
    prepare,
)
from benchmarks.report import markdown
from benchmarks.suites import SUITES, Suite

SMALL = [dataclasses.replace(case, rows=300, columns=300) for case in REDUCTION_CASES]
by_case = pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)


def outputs(name: str, case: Case) -> tuple[list[Array], list[Array], tuple[Array, ...]]:
    """The arguments, the reference, and a competitor's outputs, which `prepare` has checked."""
    arrays = inputs(case)
    expected = reference(case, arrays)
    computation, _ = prepare(competitor(name), case, arrays, expected)
    return arrays, expected, tuple(np.asarray(output) for output in computation())


@pytest.mark.sampled(96)
@by_case
@pytest.mark.parametrize("name", ["redcomp", "torch", "NumPy"])
def test_right_results_pass_and_others_do_not(case: Case, name: str) -> None:
    try:
        arrays, expected, found = outputs(name, case)
    except UnsupportedError as reason:
        pytest.skip(str(reason))
    assert largest_error(case, arrays, found, expected) <= case.tolerance
    for position in range(len(found)):
        spoiled = [np.roll(f, 1, axis=0) if n == position else f for n, f in enumerate(found)]
        assert largest_error(case, arrays, tuple(spoiled), expected) > case.tolerance
        spoiled[position] = found[position][:, :0]
        assert not largest_error(case, arrays, tuple(spoiled), expected) <= case.tolerance


@by_case
def test_wrong_results_are_not_measured(case: Case) -> None:
    spoiler = dataclasses.replace(
        competitor("redcomp"),
        prepare=lambda case, arrays: (
            lambda: tuple(
                np.zeros(
                    (300, part.shape[1]), np.int64 if case.formula.reduction.is_index else float
                )
                for part in reference(case, arrays)
            )
        ),
    )
    arrays = inputs(case)
    with pytest.raises(WrongResultError, match="wrong result"):
        prepare(spoiler, case, arrays, reference(case, arrays))


def test_kept_blocks_are_few_and_change_the_sum() -> None:
    sparse = next(case for case in REDUCTION_CASES if case.kept is not None)
    full = dataclasses.replace(sparse, kept=None)
    assert sparse.pairs is not None
    assert full.pairs is not None
    assert 0.09 < sparse.pairs / full.pairs < 0.13
    arrays = inputs(sparse)
    (few,), (all_,) = reference(sparse, arrays), reference(full, arrays)
    assert few.shape == (SAMPLE, 1)
    assert np.all(few < 0.5 * all_)


def test_the_reference_of_a_solve_is_its_right_hand_side() -> None:
    case = next(case for case in SMALL if case.alpha is not None)
    x, y, b = inputs(case)
    assert x is y
    np.testing.assert_array_equal(reference(case, [x, y, b])[0], b[sample(case)])


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_suites_are_complete(suite: Suite) -> None:
    names = [case.name for case in suite.cases]
    assert len(set(names)) == len(names)
    known = {row.name for row in COMPETITORS}
    assert set(suite.competitors) <= known


@pytest.mark.skipif(sys.platform == "win32", reason="modes of files")
def test_caches_of_fresh_processes_are_private_whatever_the_mask(tmp_path: Path) -> None:
    """redcomp takes no code from a folder in which others may write."""
    answer = tmp_path / "answer"
    answer.write_text("7", encoding="utf-8")
    before = os.umask(0o002)
    try:
        found = fresh_process("json.tool", [str(answer)], str(tmp_path))
    finally:
        os.umask(before)
    assert found == 7
    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in CACHE_VARIABLES}
    assert modes == dict.fromkeys(CACHE_VARIABLES, 0o700)


def test_the_report_shows_ratios_errors_and_what_is_left_out() -> None:
    results = Results("Reductions on the CPU", machine=dict.fromkeys(MACHINE, "?") | VERSIONS)
    for (name, seconds), case in itertools.product({"redcomp": 1, "KeOps": 20}.items(), "ab"):
        results.speed.append(RECORD | {"case": case, "competitor": name, "median_s": seconds})
        results.skip(case, "numba", "no derivatives")
    page = markdown(results, "command")
    assert "| a | 1 s | 20 s | 20 |" in page
    assert "| a | 3e-07 | 3e-07 |" in page
    assert "| a, b | numba | no derivatives |" in page


MACHINE = ("cpu", "cores", "system", "python", "date")
VERSIONS: dict[str, object] = {"versions": {"redcomp": "1"}}
RECORD = {"title": "`x`", "pairs_per_s": 1.0, "error": 3e-7, "target": None}
