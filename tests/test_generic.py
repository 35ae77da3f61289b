"""generic_sum and its like against dense float64: CPU, PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import redcomp.numpy
import redcomp.torch
from redcomp.errors import ArgumentError, FormulaError

FACES = {"numpy": redcomp.numpy, "torch": redcomp.torch}
NAMES = ("generic_sum", "generic_logsumexp", "generic_argmin", "generic_argkmin")
M, N = 13, 17
Array = Any


def sample() -> tuple[Array, Array, Array]:
    random = np.random.default_rng(0)
    return random.random((M, 3)), random.random((N, 3)), random.standard_normal((N, 2))


def squared(x: Array, y: Array) -> Array:
    return ((x[:, None] - y[None]) ** 2).sum(-1)


def call(face: str, op: Any, *arrays: Array) -> Array:
    """The result as an array, whichever library computes it."""
    if face == "numpy":
        return op(*arrays)
    return op(*(torch.tensor(a) for a in arrays)).numpy()


@pytest.mark.parametrize("face", FACES)
def test_sum_over_either_index(face: str) -> None:
    x, y, b = sample()
    make = FACES[face].generic_sum
    rows = make("Exp(-SqDist(x,y))*b", "a = Vi(2)", "x=Vi(3)", "y=Vj(3)", "b=Vj(2)")
    exact = np.exp(-squared(x, y)) @ b
    np.testing.assert_allclose(call(face, rows, x, y, b), exact, rtol=0, atol=1e-13)
    columns = make("Exp(-SqDist(x,y))*b", "Vj(2)", "x=Vi(3)", "y=Vj(3)", "b=Vi(2)")
    np.testing.assert_allclose(call(face, columns, y, x, b), exact, rtol=0, atol=1e-13)
    assert (rows.axis, columns.axis) == (1, 0)
    assert isinstance(rows, FACES[face].Genred)


@pytest.mark.parametrize("face", FACES)
def test_logsumexp(face: str) -> None:
    x, y, _ = sample()
    make = FACES[face].generic_logsumexp
    exact = np.log(np.exp(-squared(x, y)).sum(axis=1, keepdims=True))
    op = make("-SqDist(x,y)", "a=Vi(1)", "x=Vi(3)", "y=Vj(3)")
    np.testing.assert_allclose(call(face, op, x, y), exact, rtol=0, atol=1e-13)


@pytest.mark.parametrize("face", FACES)
def test_argmin(face: str) -> None:
    x, y, _ = sample()
    op = FACES[face].generic_argmin("SqDist(x,y)", "a=Vj(1)", "x=Vi(3)", "y=Vj(3)")
    result = call(face, op, x, y)
    assert result.dtype == np.int64
    np.testing.assert_array_equal(result, squared(x, y).argmin(axis=0)[:, None])


@pytest.mark.parametrize("face", FACES)
def test_argkmin(face: str) -> None:
    x, y, _ = sample()
    op = FACES[face].generic_argkmin("SqDist(x,y)", "a=Vi(4)", "x=Vi(3)", "y=Vj(3)")
    result = call(face, op, x, y)
    assert result.dtype == np.int64
    np.testing.assert_array_equal(result, np.argsort(squared(x, y), axis=1, kind="stable")[:, :4])


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("name", NAMES[:3])
def test_dimension_of_the_output_is_checked(face: str, name: str) -> None:
    make = getattr(FACES[face], name)
    with pytest.raises(FormulaError, match="has dimension 1, but the output says 3"):
        make("SqDist(x,y)", "a=Vi(3)", "x=Vi(3)", "y=Vj(3)")


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("name", NAMES)
def test_outputs_that_say_nothing_are_errors(face: str, name: str) -> None:
    make = getattr(FACES[face], name)
    with pytest.raises(FormulaError, match="not a parameter"):
        make("SqDist(x,y)", "a=Pm(1)", "x=Vi(3)", "y=Vj(3)")
    with pytest.raises(FormulaError, match="expected Vi, Vj, Vij, Pm or Var"):
        make("SqDist(x,y)", "a", "x=Vi(3)", "y=Vj(3)")


@pytest.mark.parametrize("face", FACES)
def test_options_go_to_genred(face: str) -> None:
    make = FACES[face].generic_sum
    with pytest.raises(ArgumentError, match="dtype_acc must be"):
        make("x*y", "a=Vi(3)", "x=Vi(3)", "y=Vj(3)", dtype_acc="int8")
    with pytest.raises(TypeError, match="no argument 'no_such_option'"):
        make("x*y", "a=Vi(3)", "x=Vi(3)", "y=Vj(3)", no_such_option=1)
