"""KeOps' axes and categories, batch dimensions and messages."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

__all__ = [
    "WarmUpGpu",
    "axis2cat",
    "c_type",
    "cat2axis",
    "check_broadcasting",
    "get_tools",
    "max_tuple",
    "pyKeOps_Message",
    "pyKeOps_Print",
    "pyKeOps_Warning",
]

c_type = {"float16": "half2", "float32": "float", "float64": "double"}
_LIBRARIES = {"numpy": "numpy", "torch": "torch", "pytorch": "torch"}


def axis2cat(axis: int) -> int:
    """The category of what is left when an axis is reduced: 1 for axis 0, 0 for axis 1."""
    if axis not in (0, 1):
        raise ValueError(f"axis must be 0 or 1, not {axis!r}")
    return 1 - axis


def cat2axis(cat: int) -> int:
    """The axis that is reduced where a category is left: 1 for i (0), 0 for j (1)."""
    if cat not in (0, 1):
        raise ValueError(f"the category must be 0 (Vi) or 1 (Vj), not {cat!r}")
    return 1 - cat


def get_tools(lang: str) -> Any:
    """What KeOps' helpers call arrays with: `numpytools` or `torchtools`."""
    if lang not in _LIBRARIES:
        raise ValueError(f"lang must be one of {', '.join(_LIBRARIES)}, not {lang!r}")
    library = _LIBRARIES[lang]
    utils = importlib.import_module(f"pykeops.{library}.utils")
    return getattr(utils, f"{library}tools")()


def WarmUpGpu(lang: str) -> None:  # noqa: N802 (KeOps' name)
    """Do nothing: in KeOps it lets a first call take the time that CUDA takes to start."""
    get_tools(lang)


def max_tuple(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """The larger one of each two numbers."""
    return tuple(map(max, a, b))


def check_broadcasting(
    dims_1: tuple[int, ...] | None, dims_2: tuple[int, ...] | None
) -> tuple[int, ...] | None:
    """The batch dimensions of two together; None is for no batch.

    Raises ValueError if they do not broadcast.
    """
    if dims_1 is None or dims_2 is None:
        return dims_1 if dims_2 is None else dims_2
    try:
        return np.broadcast_shapes(dims_1, dims_2)
    except ValueError:
        raise ValueError(f"Incompatible batch dimensions: {dims_1} and {dims_2}.") from None


def pyKeOps_Print(message: str, **kwargs: Any) -> None:  # noqa: N802 (KeOps' name)
    """Print a message if pykeops is verbose."""
    if importlib.import_module("pykeops").verbose:
        print(message, **kwargs)


def pyKeOps_Message(message: str, use_tag: bool = True, **kwargs: Any) -> None:  # noqa: N802
    """Print a message, with pykeops' name before it, if pykeops is verbose."""
    pyKeOps_Print(f"[pyKeOps] {message}" if use_tag else message, **kwargs)


def pyKeOps_Warning(message: str) -> None:  # noqa: N802
    """Print a warning if pykeops is verbose."""
    pyKeOps_Print(f"[pyKeOps] Warning : {message}")
