"""LazyTensors by a table of what KeOps makes of them, and by dense computations: CPU, PyTorch.

`scripts/keops_lazy_tensors.py` writes the table. Shapes and dtypes are those that KeOps gives,
unless the table says that KeOps fails or is wrong; values are always those of the dense
computation.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dense_lazy import exact
from lazy_cases import Case, cases
from lazy_programs import dense_library, described, offered_by

import redcomp.numpy
import redcomp.numpy.cluster
import redcomp.torch
import redcomp.torch.cluster

pytestmark = pytest.mark.slow

CASES = cases()
DENSE = dense_library()
LIBRARIES = {
    "numpy": offered_by(redcomp.numpy, as_tensors=False),
    "torch": offered_by(redcomp.torch, as_tensors=True),
}
TABLE: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "keops_lazy_tensors.json").read_text()
)
# By how much a value may differ, relative to the largest of its array.
TOLERANCES = {"float64": 1e-11, "float32": 1e-5, "float16": 4e-3}


def _key(told: dict[str, Any]) -> tuple[str, str, str]:
    return told["lazy"], told["reduced"], told["dtype"]


KEOPS = {_key(told): told["keops"] for told in TABLE}


def keops(case: Case, library: str) -> dict[str, Any]:
    """What KeOps says of a case."""
    answers = KEOPS[case.lazy, case.reduced, case.dtype]
    answer: dict[str, Any] = answers.get("both") or answers[library]
    return answer


def is_right(case: Case, library: str) -> bool:
    return keops(case, library)["verdict"] == "same"


def near(values: Any, expected: Any, tolerance: float) -> bool:
    """Equal, relative to the largest finite one of them."""
    finite = np.abs(expected[np.isfinite(expected)])
    bound = tolerance * max(1.0, float(finite.max(initial=0.0)))
    return np.allclose(exact(values), expected, rtol=0, atol=bound)


def test_the_table_is_of_these_programs() -> None:
    assert list(KEOPS) == [(case.lazy, case.reduced, case.dtype) for case in CASES]
    assert len(CASES) >= 400
    assert sum(is_right(case, "torch") for case in CASES) >= 300


@pytest.mark.parametrize("library", LIBRARIES)
def test_where_keops_is_wrong_the_table_says_why(library: str) -> None:
    unsaid = [str(case) for case in CASES if not is_right(case, library) and not case.fault]
    assert unsaid == []


def test_what_is_said_to_be_wrong_in_keops_is() -> None:
    right = [case for case in CASES if all(is_right(case, library) for library in LIBRARIES)]
    assert [str(case) for case in right if case.fault] == []


def test_the_dense_values_are_those_of_keops() -> None:
    """So `Dense` means what KeOps means."""
    for case in CASES:
        for library in LIBRARIES:
            if is_right(case, library):
                _, expected = DENSE.run(*case.densely, "float64")
                told = keops(case, library)["results"]
                for each, dense in zip(told, expected, strict=True):
                    numbers = np.array(each["values"])
                    flat = numbers.view(np.complex128) if dense.dtype.kind == "c" else numbers
                    assert near(flat, dense.ravel(), 1e-4), case


@pytest.mark.sampled(196)
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_lazy_tensors_and_their_reductions(case: Case, library: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lazy, results = LIBRARIES[library].run(case.lazy, case.reduced, case.dtype)
    dense_lazy, expected = DENSE.run(*case.densely, "float64")
    if is_right(case, library):
        told = keops(case, library)
        assert described(lazy) == _counting_complex_numbers(lazy, told["lazy"])
        shapes = [(tuple(each["shape"]), each["dtype"]) for each in told["results"]]
    else:
        assert case.dense or tuple(lazy._shape) == dense_lazy._shape
        shapes = [(each.shape, _dtype(each, case.dtype)) for each in expected]
    found = [(tuple(each.shape), str(each.dtype).removeprefix("torch.")) for each in results]
    assert found == shapes
    for values, dense in zip(results, expected, strict=True):
        assert near(values, dense, TOLERANCES[case.dtype])


def _counting_complex_numbers(lazy: Any, told: dict[str, Any]) -> dict[str, Any]:
    """What KeOps says of a LazyTensor; its `_shape` and `ndim` count both parts of numbers."""
    if not lazy.is_complex:
        return told
    parts = told["ndim"]
    return {**told, "ndim": parts // 2, "_shape": [*told["_shape"][:-1], parts // 2]}


def _dtype(values: Any, dtype: str) -> str:
    """The dtype of a result, by the kind of the dense one."""
    if values.dtype.kind == "i":
        return "int64"
    if values.dtype.kind == "c":
        return "complex64" if dtype == "float32" else "complex128"
    return dtype
