"""Arrays of real libraries, where they are installed: needs a CPU, PyTorch, and each test its own.

`tests/test_foreign.py` has classes that offer what these do, and needs none of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from array_samples import ALIASES, FORMULA, assert_near, sample
from foreign_arrays import Converted

import redcomp
import redcomp.numpy
import redcomp.torch
from redcomp import foreign
from redcomp.errors import ArgumentError

# By library: an array of it, and where its memory begins.
LIBRARIES: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any], int]]] = {
    "jax.numpy": (lambda jnp, a: jnp.asarray(a), lambda a: a.unsafe_buffer_pointer()),
    "array_api_strict": (lambda xp, a: xp.asarray(a), lambda a: begin(np.from_dlpack(a))),
    "tensorflow": (lambda tf, a: tf.constant(a), lambda a: begin(np.from_dlpack(a))),
}
COLUMNS: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any], int]]] = {
    "pandas": (lambda pd, a: pd.Series(a), lambda s: begin(s.to_numpy())),
    "polars": (lambda pl, a: pl.Series(a), lambda s: begin(s.to_numpy(allow_copy=False))),
    "pyarrow": (lambda pa, a: pa.array(a), lambda a: a.buffers()[1].address),
}
MISSING: dict[str, dict[str, Callable[[Any], Any]]] = {
    "pandas": {
        "integers": lambda pd: pd.Series([1, None] * 35, dtype="Int64"),
        "floats": lambda pd: pd.array([1.0, pd.NA] * 35, dtype="Float64"),
        "a frame": lambda pd: pd.DataFrame({"a": pd.array([1, None] * 35, dtype="Int64")}),
    },
    "polars": {
        "floats": lambda pl: pl.Series([1.0, None] * 35),
        "a frame": lambda pl: pl.DataFrame({"a": [1.0, None] * 35}),
        "in arrays": lambda pl: pl.Series([[1.0, None]] * 70, dtype=pl.Array(pl.Float64, 2)),
        "in structs": lambda pl: pl.Series([{"a": 1.0}, {"a": None}] * 35),
    },
    "pyarrow": {
        "floats": lambda pa: pa.array([1.0, None] * 35),
        "chunks": lambda pa: pa.chunked_array([[1.0] * 69, [None]]),
        "a table": lambda pa: pa.table({"a": [1.0, None] * 35}),
    },
}


def begin(array: Any) -> int:
    found: int = array.__array_interface__["data"][0]
    return found


def library(name: str) -> Any:
    return pytest.importorskip(name, reason=f"{name} is no dependency: redcomp never imports it")


@pytest.mark.parametrize("name", LIBRARIES)
def test_arrays_come_back_as_they_came(name: str) -> None:
    module = library(name)
    make, address = LIBRARIES[name]
    arrays = sample()
    given = [make(module, a) for a in arrays]
    assert [begin(foreign.view("an array", a)) for a in given] == list(map(address, given))
    result = redcomp.Genred(FORMULA, ALIASES, axis=1)(*given)
    assert type(result) is type(given[0])
    assert_near(np.from_dlpack(result), arrays)


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_are_read_where_they_are(name: str) -> None:
    module = library(name)
    make, address = COLUMNS[name]
    column = np.linspace(0, 1, 70, dtype=np.float32)
    given = make(module, column)
    assert begin(foreign.view("a column", given)) == address(given)
    result = redcomp.Genred("x * y", ["x = Vi(1)", "y = Vj(1)"], axis=1)(given, given)
    np.testing.assert_allclose(result[:, 0], column * column.sum(), 1e-6)


@pytest.mark.parametrize(
    ("name", "case"), [(name, case) for name, cases in MISSING.items() for case in cases]
)
def test_missing_values_are_refused(name: str, case: str) -> None:
    given = MISSING[name][case](library(name))
    operation = redcomp.Genred("x * y", ["x = Vi(1)", "y = Vj(1)"], axis=1)
    with pytest.raises(ArgumentError, match=r"argument 'y' is of type .* and has missing values"):
        operation(np.ones((70, 1)), given)


@pytest.mark.parametrize("name", MISSING)
def test_columns_without_numbers_are_refused(name: str) -> None:
    module = library(name)
    texts = ["a", "b"] * 35
    columns = [module.array(texts) if name == "pyarrow" else module.Series(texts)]
    if name == "pandas":
        columns.append(module.Series(texts, dtype="category"))
        columns.append(module.Series(module.to_datetime(["2020-01-01"] * 70)))
    operation = redcomp.Genred("x * y", ["x = Vi(1)", "y = Vj(1)"], axis=1)
    for column in columns:
        with pytest.raises(ArgumentError, match=r"argument 'x' .* and holds no numbers"):
            operation(column, np.ones((70, 1)))


@pytest.mark.parametrize("reduction_op", ["Sum", "ArgMin", "LogSumExp"])
def test_bfloat16(reduction_op: str) -> None:
    bfloat16 = library("ml_dtypes").bfloat16
    operation = redcomp.Genred("SqDist(x, y) * g", ALIASES[:2] + ALIASES[3:], reduction_op, axis=1)
    x, y, _, g = (a.astype(bfloat16) for a in sample())
    expected = operation(x.astype(np.float32), y.astype(np.float32), g.astype(np.float32))
    for given in ((x, y, g), (x, y, float(g[0]))):
        result = operation(*given)
        if reduction_op == "ArgMin":
            np.testing.assert_array_equal(result, expected)
        else:
            assert result.dtype == bfloat16
            np.testing.assert_array_equal(result, expected.astype(bfloat16))
    with pytest.raises(ArgumentError, match=r"'g' is a number above 3.39e\+38"):
        operation(x, y, 3.4e38)
    with pytest.raises(ArgumentError, match="'y' has dtype float32, but 'x' has bfloat16"):
        operation(x, y.astype(np.float32), g)
    of_tensors = redcomp.torch.Genred("x * y", ["x = Vi(3)", "y = Vj(3)"], axis=1)
    found = of_tensors(Converted(x), Converted(y))
    exact = x.astype(np.float32) * y.astype(np.float32).sum(0)
    assert found.dtype == torch.bfloat16
    np.testing.assert_allclose(found.float().numpy(), exact, 2**-8, 2**-8)
    lazy = redcomp.numpy.Vi(x) - redcomp.numpy.Vj(y)
    assert lazy.sum(axis=1).dtype == bfloat16
    assert (lazy * 1j).sum(axis=1).dtype == np.complex64
    column = np.ones(len(y), bfloat16)
    np.testing.assert_array_equal(lazy.sqnorm2() @ column, lazy.sqnorm2().sum(axis=1)[:, 0])
