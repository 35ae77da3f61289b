"""What `import keopscore` gives: the flags and settings of KeOps 2.1 to 2.3, on redcomp.

Flags can be read and set.  What they choose in KeOps - compilers, files, schemes of reduction -
redcomp decides by itself, so they change nothing but themselves.
"""

from __future__ import annotations

import os

from redcomp import __version__ as redcomp_version

from .config import (
    config,
    cuda_config,
    get_config,
    get_cuda_config,
    get_openmp_config,
    get_platform_config,
    openmp_config,
    platform_detector,
)
from .utils.code_gen_utils import check_health, clean_keops
from .utils.misc_utils import CHECK_MARK, CROSS_MARK

__all__ = [
    "CHECK_MARK",
    "CROSS_MARK",
    "auto_factorize",
    "build_folder",
    "check_health",
    "clean_keops",
    "config",
    "cuda_block_size",
    "cuda_config",
    "debug_ops",
    "debug_ops_at_exec",
    "get_build_folder",
    "get_config",
    "get_cuda_config",
    "get_openmp_config",
    "get_platform_config",
    "openmp_config",
    "platform_detector",
    "redcomp_version",
    "set_build_folder",
    "show_cuda_status",
    "show_gpu_config",
    "verbose",
]

__version__ = "2.3"  # of KeOps, whose names these are
verbose = os.getenv("KEOPS_VERBOSE") != "0" and os.getenv("PYKEOPS_VERBOSE") != "0"

set_build_folder = config.set_different_build_folder
get_build_folder = config.get_build_folder
build_folder = get_build_folder()

debug_ops = False
debug_ops_at_exec = False
auto_factorize = False  # redcomp always computes common sub-formulas once

show_gpu_config = cuda_config
cuda_block_size = cuda_config.get_cuda_block_size()


def __getattr__(name: str) -> object:
    # Looking for a GPU takes time, and must not happen before a process forks.
    if name == "show_cuda_status":
        return cuda_config.get_use_cuda()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
