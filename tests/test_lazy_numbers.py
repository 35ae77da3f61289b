"""Numbers and arrays of all sorts in LazyTensors: their dtype is that of the data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import redcomp.numpy
import redcomp.torch
from redcomp.errors import ArgumentError

M, N, D = 7, 5, 3
TOLERANCES = {"float16": 2e-2, "float32": 1e-5, "float64": 1e-12}
LIBRARIES = ("numpy", "torch")


def points() -> tuple[Any, Any]:
    random = np.random.default_rng(2)
    return random.uniform(0.2, 0.9, (M, D)), random.uniform(0.2, 0.9, (N, D))


def given(library: str, dtype: str) -> list[Any]:
    """The points in a library and a dtype."""
    if library == "numpy":
        return [a.astype(dtype) for a in points()]
    return [torch.tensor(a, dtype=getattr(torch, dtype)) for a in points()]


NUMBERS: list[Callable[[Any], Any]] = [
    lambda k: k * 0.1 + 2 - 0.5 / k,
    lambda k: k * np.float64(0.1) + np.float32(2) * k - np.int64(3) * k,
    lambda k: np.float64(0.1) * k - np.float32(2) + k * np.bool_(True),
    lambda k: k * 1000 - 2000 * k + True,
    lambda k: k**1.5 + 2**k - k ** (-1) + k**0.5 - k**2.0,
    lambda k: k / 3 + k % 0.3 + (k // 0.3),
    lambda k: k * 0 + 0 / k,
    lambda k: k + float("inf"),
    lambda k: k * np.array(0.1) + np.array(2) * k + np.array(True),
    lambda k: np.array(0.1, np.float32) - k,
    lambda k: (k > 0.5) * 1.0 + (k == 0.25),
]


@pytest.mark.sampled(10)
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("of", NUMBERS, ids=[str(n) for n in range(len(NUMBERS))])
def test_numbers_have_the_dtype_of_the_data(
    of: Callable[[Any], Any], library: str, dtype: str
) -> None:
    module, (x, y) = getattr(redcomp, library), given(library, dtype)
    dense = np.asarray(x, float) @ np.asarray(y, float).T
    expected = of(dense).sum(1)[:, None]
    bound = of(module.Vi(x) | module.Vj(y))
    found = bound.sum(axis=1)
    later = of(module.Vi(0, D) | module.Vj(1, D)).sum(axis=1)(x, y)
    for result in (found, later):
        assert result.dtype == x.dtype
        np.testing.assert_allclose(np.asarray(result, float), expected, TOLERANCES[dtype])
    assert bound.dtype == dtype


@pytest.mark.parametrize("library", LIBRARIES)
def test_lists_are_vectors_of_the_dtype(library: str) -> None:
    module, (x, y) = getattr(redcomp, library), given(library, "float32")
    array = points()[0][:, None] * points()[1] * [0.5, 1, 2]
    found = (module.Vi(x) * [0.5, 1, 2] * module.Vj(y)).sum(axis=1)
    later = (module.Vi(0, D) * module.Vj(y) * module.LazyTensor([0.5, 1, 2])).sum(axis=1)(x)
    for result in (found, later):
        assert result.dtype == x.dtype
        np.testing.assert_allclose(result, array.sum(1), 1e-5)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("is_parameter", [False, True])
@pytest.mark.parametrize("own", [torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_tensors_without_axes(dtype: str, own: torch.dtype, is_parameter: bool) -> None:
    x, y = given("torch", dtype)
    scale = torch.tensor(2.0, dtype=own, requires_grad=True)
    if is_parameter:
        scale = torch.nn.Parameter(scale.detach())
    kernel = redcomp.torch.Vi(x) | redcomp.torch.Vj(y)
    symbolic = redcomp.torch.Vi(0, D) | redcomp.torch.Vj(1, D)
    for result in (
        (kernel * scale).sum(axis=1),
        (scale * kernel).sum(axis=1),
        (scale * symbolic).sum(axis=1)(x, y),
    ):
        assert result.dtype == x.dtype
        (gradient,) = torch.autograd.grad(result.sum(), scale)
        assert gradient.dtype == own
        assert gradient.shape == ()
        dense = (x.double() @ y.double().T).sum()
        np.testing.assert_allclose(gradient, dense, max(TOLERANCES[dtype], torch.finfo(own).eps))


@pytest.mark.parametrize("number", [torch.tensor(3), torch.tensor(True), np.array(3)], ids=str)
def test_integers_without_axes_become_floats(number: Any) -> None:
    library = "torch" if isinstance(number, torch.Tensor) else "numpy"
    module, (x, y) = getattr(redcomp, library), given(library, "float32")
    found = (number * module.Vi(x) * module.Vj(y)).sum(axis=1)
    expected = (points()[0][:, None] * points()[1]).sum(1) * float(number)
    np.testing.assert_allclose(found, expected, 1e-5)


def test_numbers_alone_have_the_dtype_of_the_library() -> None:
    assert redcomp.numpy.LazyTensor(2.5).sum(axis=1).dtype == np.float64
    assert redcomp.torch.LazyTensor(2.5).sum(axis=1).dtype == torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        assert redcomp.torch.LazyTensor(2.5).sum(axis=1).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.sampled(6)
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(("rows", "columns"), [(1, N), (M, 1), (1, 1)])
def test_a_single_i_or_j(rows: int, columns: int, library: str) -> None:
    module, (x, y) = getattr(redcomp, library), given(library, "float64")
    x, y = x[:rows], y[:columns]
    array = points()[0][:rows, None] - points()[1][:columns]
    norms = np.sqrt((array**2).sum(-1))
    for difference in (
        module.Vi(x) - module.Vj(y),
        module.LazyTensor(x[:, None]) - module.LazyTensor(y[None]),
        x[:, None] - module.LazyTensor(y[None]),
    ):
        assert difference.shape == (rows, columns, D)
        for axis in (0, 1):
            np.testing.assert_allclose(difference.sum(axis=axis), array.sum(axis), 1e-12)
            assert (np.asarray(difference.argmin(axis=axis)) == array.argmin(axis)).all()
            np.testing.assert_allclose(difference.var(axis, ddof=0), array.var(axis), 1e-9, 1e-15)
        matrix = difference.norm(-1)
        np.testing.assert_allclose(matrix.dense(), norms, 1e-12)
        np.testing.assert_allclose(matrix @ y, norms @ points()[1][:columns], 1e-12)
        np.testing.assert_allclose(matrix.T @ x, norms.T @ points()[0][:rows], 1e-12)


class Array(np.ndarray[Any, Any]):
    """A subclass of arrays."""


class Tensor(torch.Tensor):
    """A subclass of tensors."""


def mapped(folder: Path, array: Any) -> Any:
    """The array in a file."""
    found = np.memmap(folder / "array", array.dtype, "w+", shape=array.shape)
    found[:] = array
    return found


SORTS: dict[str, Callable[[Path, Any], Any]] = {
    "subclass": lambda folder, array: array.view(Array),
    "memmap": mapped,
    "matrix": lambda folder, array: array.view(np.matrix),
    "other byte order": lambda folder, array: array.astype(array.dtype.newbyteorder()),
    "strides": lambda folder, array: np.repeat(array, 2, 0)[::2],
    "columns first": lambda folder, array: np.asfortranarray(array),
    "read only": lambda folder, array: np.broadcast_to(array, array.shape),
    "unmasked": lambda folder, array: np.ma.array(array),
    "parameter": lambda folder, array: torch.nn.Parameter(torch.tensor(array)),
    "subclass of tensors": lambda folder, array: torch.tensor(array).as_subclass(Tensor),  # type: ignore[no-untyped-call]
    "strided tensor": lambda folder, array: torch.tensor(array).T.contiguous().T,
}


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("sort", SORTS)
def test_sorts_of_arrays(sort: str, tmp_path: Path) -> None:
    x, y = points()
    special = SORTS[sort](tmp_path, x)
    library = "torch" if isinstance(special, torch.Tensor) else "numpy"
    module, other = getattr(redcomp, library), given(library, "float64")[1]
    for product in (module.Vi(special) * module.Vj(other), module.Vj(other) * module.Vi(special)):
        found = product.sum(axis=1)
        np.testing.assert_allclose(np.asarray(found.tolist()), (x[:, None] * y).sum(1), 1e-12)


WRONG: list[tuple[str, Callable[[], Any]]] = [
    ("too large for a float", lambda: redcomp.numpy.Vi(points()[0]) * 10**400),
    ("not of None", lambda: redcomp.numpy.LazyTensor(None)),
    ("not of 'text'", lambda: redcomp.numpy.LazyTensor("text")),
    ("dtype object", lambda: redcomp.numpy.Vi(points()[0].astype(object))),
    ("dtype <U1", lambda: redcomp.numpy.LazyTensor(np.array(["a"]))),
    ("holds numbers", lambda: redcomp.numpy.LazyTensor([[1.0]])),
    ("dimension from 1", lambda: redcomp.numpy.LazyTensor([])),
    ("dtype", lambda: redcomp.torch.Vi(torch.ones(3, 2)) * torch.ones(2).double()),
    ("which says its dtype", lambda: redcomp.numpy.LazyTensor(3).sum(axis=1)),
    (
        "masked array",
        lambda: redcomp.numpy.Vi(np.ma.array(points()[0], mask=True)).sum(axis=0),
    ),
]


@pytest.mark.parametrize(("message", "call"), WRONG, ids=[m for m, _ in WRONG])
def test_what_is_no_number(message: str, call: Callable[[], Any]) -> None:
    with pytest.raises(ArgumentError, match=message):
        call()
