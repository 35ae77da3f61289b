"""Small classes that speak the protocols of array libraries, for tests: needs no backend.

Each holds an array of NumPy's, `held`, and offers one protocol, as the library in its comment does.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class Held:
    """What holds an array and offers nothing."""

    def __init__(self, held: Array) -> None:
        self.held = held


class Interface(Held):
    """By NumPy's own protocol, as arrays of Numba's typed containers and images do."""

    @property
    def __array_interface__(self) -> Any:
        return self.held.__array_interface__


class Converted(Held):
    """By a method, as columns of pandas and polars, which hand out what they hold."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        return self.held


class Dlpack(Held):
    """By DLPack alone, as the array API asks for; on the CPU unless `device` says otherwise."""

    device: tuple[int, int] = (1, 0)

    def __dlpack__(self, **options: Any) -> Any:
        return self.held.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device


class OfLibrary(Dlpack):
    """With a namespace that makes arrays, as those of JAX and CuPy."""

    def __array_namespace__(self, api_version: Any = None) -> Any:
        return LIBRARY

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, (OfLibrary, int)):
            return NotImplemented
        return OfLibrary(self.held + getattr(other, "held", other))

    __radd__ = __add__


class OfOther(Converted):
    """With another namespace, which knows no DLPack."""

    def __array_namespace__(self, api_version: Any = None) -> Any:
        return OTHER


def _from_dlpack(array: Any) -> OfLibrary:
    return OfLibrary(np.from_dlpack(array))


LIBRARY = SimpleNamespace(__name__="library.arrays", from_dlpack=_from_dlpack, asarray=OfLibrary)
OTHER = SimpleNamespace(__name__="other", asarray=lambda array: OfOther(np.asarray(array)))


class OnGpu(Held):
    """On a GPU by CUDA's protocol, as arrays of Numba: its memory is the host's, unseen."""

    @property
    def __cuda_array_interface__(self) -> Any:
        return self.held.__array_interface__


class DlpackOnGpu(OfLibrary):
    """On a GPU by DLPack: what it hands out stands for memory there."""

    device = (2, 0)
