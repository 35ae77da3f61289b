"""How many GPUs there are."""

from __future__ import annotations

from keopscore.utils.gpu_utils import get_gpu_props

__all__ = ["get_gpu_number", "get_gpu_props"]


def get_gpu_number() -> int:
    """The number of GPUs that redcomp can use."""
    return int(get_gpu_props()[0])
