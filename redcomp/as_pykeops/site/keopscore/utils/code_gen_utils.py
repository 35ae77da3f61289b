"""Emptying the cache of compiled code, and what redcomp runs on."""

from __future__ import annotations

from redcomp.runtime.cache import default_cache

from ..config import config, cuda_config, openmp_config, platform_detector
from .misc_utils import KeOps_Message


def clean_keops(recompile_jit_binary: bool = True, verbose: bool = True) -> None:
    """Empty redcomp's disk cache.  Operations that are in use keep their code in memory."""
    cache = default_cache()
    if cache is None:
        return
    cache.clear()
    if verbose:
        KeOps_Message(f"{cache.directory} has been cleaned.")


def check_health(config_type: str = "all") -> None:
    """Print what redcomp runs on: "platform", "base", "cuda", "openmp" or "all" of them.

    Raises ValueError for another word.
    """
    parts = {
        "platform": platform_detector,
        "base": config,
        "cuda": cuda_config,
        "openmp": openmp_config,
    }
    if config_type != "all" and config_type not in parts:
        raise ValueError(f"config_type must be one of all, {', '.join(parts)}, not {config_type!r}")
    for name, part in parts.items():
        if config_type in ("all", name):
            part.print_all()
