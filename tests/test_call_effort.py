"""How much Python a warm call runs, counted in calls of functions: needs the CPU's backend.

A call of a function takes some tenths of a microsecond, a reduction of 100 x 100 pairs a few.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch

import redcomp
import redcomp.numpy
import redcomp.torch
from redcomp.frontend.language.expressions import operation, variable

HOME = os.path.dirname(redcomp.__file__)
ALIASES = ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)"]


def gaussian(library: Any, x: Any, y: Any, b: Any) -> Any:
    """The product with a matrix that is built anew."""
    x_i, y_j = library.LazyTensor(x[:, None, :]), library.LazyTensor(y[None, :, :])
    return (-((x_i - y_j) ** 2).sum(-1)).exp() @ b


def arrays(rows: int = 100) -> list[Any]:
    random = np.random.default_rng(0)
    return [random.random((rows, 3)), random.random((100, 3)), random.random((100, 1))]


def tensors(requires_grad: bool) -> list[torch.Tensor]:
    return [torch.from_numpy(array).requires_grad_(requires_grad) for array in arrays()]


def gradients(function: Callable[..., torch.Tensor]) -> Callable[..., Any]:
    return lambda *given: torch.autograd.grad(function(*given).sum(), given)


def calls_of(function: Callable[..., Any], *given: Any) -> int:
    """How many functions of redcomp a call runs."""
    count = 0

    def counted(frame: FrameType, event: str, _: object) -> None:
        nonlocal count
        count += event == "call" and frame.f_code.co_filename.startswith(HOME)

    for _ in range(2):
        function(*given)
    sys.setprofile(counted)
    try:
        function(*given)
    finally:
        sys.setprofile(None)
    return count


of_numpy = redcomp.numpy.Genred("Exp(-SqDist(x, y)) * b", ALIASES, axis=1)
of_torch = redcomp.torch.Genred("Exp(-SqDist(x, y)) * b", ALIASES, axis=1)


def lazy_of_numpy(x: Any, y: Any, b: Any) -> Any:
    return gaussian(redcomp.numpy, x, y, b)


def lazy_of_torch(x: Any, y: Any, b: Any) -> Any:
    return gaussian(redcomp.torch, x, y, b)


@pytest.mark.sampled(15)
@pytest.mark.parametrize(
    ("function", "given", "most"),
    [
        pytest.param(of_numpy, arrays(), 18, id="NumPy"),
        pytest.param(lazy_of_numpy, arrays(), 71, id="LazyTensors of NumPy"),
        pytest.param(of_torch, tensors(False), 19, id="PyTorch"),
        pytest.param(of_torch, tensors(True), 23, id="PyTorch, recorded"),
        pytest.param(gradients(of_torch), tensors(True), 53, id="PyTorch, gradients"),
        pytest.param(lazy_of_torch, tensors(False), 93, id="LazyTensors of PyTorch"),
        pytest.param(
            gradients(lazy_of_torch), tensors(True), 127, id="LazyTensors of PyTorch, gradients"
        ),
    ],
)
def test_warm_calls_are_short(function: Any, given: Any, most: int) -> None:
    assert calls_of(function, *given) <= most


@pytest.mark.parametrize("rows", [100, 70])
def test_an_expression_is_known_by_its_structure(rows: int) -> None:
    """Other arrays and other sizes make no other expression, and nothing is compiled again."""
    lazy_of_numpy(*arrays())
    before = [made.cache_info().misses for made in (variable, operation)]
    lazy_of_numpy(*arrays(rows))
    assert [made.cache_info().misses for made in (variable, operation)] == before


@pytest.mark.thorough
def test_gradients_of_lazy_tensors_leave_no_memory() -> None:
    given = tensors(True)
    call = gradients(lazy_of_torch)

    def objects_after(count: int) -> int:
        for _ in range(count):
            call(*given)
        gc.collect()
        return len(gc.get_objects())

    before = objects_after(100)
    assert objects_after(1000) - before < 100
