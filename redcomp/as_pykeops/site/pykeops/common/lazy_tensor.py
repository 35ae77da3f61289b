"""The classes that LazyTensors of NumPy and of PyTorch share."""

from __future__ import annotations

from redcomp.frontend.lazy.complex import ComplexLazyTensorBase as ComplexGenericLazyTensor
from redcomp.frontend.lazy.lazy_tensor import LazyTensorBase as GenericLazyTensor

__all__ = ["ComplexGenericLazyTensor", "GenericLazyTensor"]
