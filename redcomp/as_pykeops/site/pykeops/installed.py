"""KeOps' check of an installation: one small reduction with each array library."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


def test_numpy_bindings() -> None:
    """Compute a small reduction with NumPy, and print whether it is right."""
    numpy = importlib.import_module("numpy")
    _check("numpy", numpy.asarray)


def test_torch_bindings() -> None:
    """Compute a small reduction with PyTorch, and print whether it is right."""
    torch = importlib.import_module("torch")
    _check("torch", torch.tensor)


def _check(library: str, array: Callable[[Any], Any]) -> None:
    from .common.utils import pyKeOps_Message

    genred = importlib.import_module(f"redcomp.{library}").Genred
    x, y = array([[1.0, 2.0], [3.0, 5.0]]), array([[2.0, 2.0], [0.0, 4.0], [1.0, 1.0]])
    found = genred("SqDist(x, y)", ["x = Vi(2)", "y = Vj(2)"], axis=1)(x, y)
    is_right = found.tolist() == [[7.0], [40.0]]  # 1 + 5 + 1 and 10 + 10 + 20
    said = "is working, on redcomp!" if is_right else "outputs wrong values..."
    pyKeOps_Message(f"pyKeOps with {library} bindings {said}", use_tag=False)
