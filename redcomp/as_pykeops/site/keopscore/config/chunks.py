"""Thresholds of KeOps' schemes for long vectors, which can be set and change nothing."""

from __future__ import annotations

enable_chunk = True
enable_final_chunk = True
mult_var_highdim = False
dimchunk = 64
dimfinalchunk = 64
dim_treshold_chunk = 146
specdims_use_chunk = [99, 100, 102, 120, 133, 138, 139, 140, 141, 142]


def get_enable_chunk() -> bool:
    """The flag `enable_chunk`."""
    return enable_chunk


def set_enable_chunk(val: int) -> None:
    """Set the flag `enable_chunk`."""
    global enable_chunk
    enable_chunk = bool(val)


def set_enable_finalchunk(val: int) -> None:
    """Set the flag `enable_final_chunk`."""
    global enable_final_chunk
    enable_final_chunk = bool(val)


def get_dimfinalchunk() -> int:
    """The number `dimfinalchunk`."""
    return dimfinalchunk


def set_dimfinalchunk(val: int) -> None:
    """Set the number `dimfinalchunk`."""
    global dimfinalchunk
    dimfinalchunk = val


def set_mult_var_highdim(val: int) -> None:
    """Set the flag `mult_var_highdim`."""
    global mult_var_highdim
    mult_var_highdim = bool(val)
