"""Reductions that give their derivatives in the same sweep, on GPUs: needs PyTorch."""

from __future__ import annotations

from on_gpu import machines
from test_sweeps_of_gradients import (
    no_call_is_short,
    test_batches,
    test_gradients,
    test_logarithms_of_nothing,
    test_masks,
    test_rows_without_pairs,
)

machine = machines()

__all__ = [
    "machine",
    "no_call_is_short",
    "test_batches",
    "test_gradients",
    "test_logarithms_of_nothing",
    "test_masks",
    "test_rows_without_pairs",
]
