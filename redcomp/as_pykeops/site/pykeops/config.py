"""Which libraries are there, and the settings of `keopscore`."""

from __future__ import annotations

import importlib.util
import os
import sysconfig

from keopscore.config import (
    config,
    cuda_config,
    get_config,
    get_cuda_config,
    get_openmp_config,
    get_platform_config,
    openmp_config,
    platform_detector,
)

__all__ = [
    "config",
    "cuda_config",
    "get_build_folder",
    "get_config",
    "get_cuda_config",
    "get_openmp_config",
    "get_platform_config",
    "gpu_available",  # noqa: F822 (made when it is asked for)
    "numpy_found",
    "openmp_config",
    "platform_detector",
    "pykeops_base",
    "pykeops_cpp_name",
    "pykeops_cuda",
    "pykeops_nvrtc_name",
    "pykeops_openmp",
    "python_includes",
    "torch_found",
]

numpy_found = importlib.util.find_spec("numpy") is not None
torch_found = importlib.util.find_spec("torch") is not None
pykeops_cuda, pykeops_openmp, pykeops_base = cuda_config, openmp_config, config
get_build_folder = config.get_build_folder
python_includes = ""  # there is no C++ compiler


def pykeops_nvrtc_name(type: str = "src") -> str:
    """Where KeOps has its compiler for GPUs; there is no such file."""
    return _in_build_folder("pykeops_nvrtc", ".cpp" if type == "src" else _suffix())


def pykeops_cpp_name(tag: str = "", extension: str = "") -> str:
    """Where KeOps keeps an operation's code; there is no such file."""
    return _in_build_folder("pykeops_cpp_", tag + extension)


def _in_build_folder(name: str, rest: str) -> str:
    return os.path.join(get_build_folder(), name + rest)


def _suffix() -> str:
    return str(sysconfig.get_config_var("EXT_SUFFIX"))


def __getattr__(name: str) -> object:
    # Looking for a GPU takes time, and must not happen before a process forks.
    if name == "gpu_available":
        return cuda_config.get_use_cuda()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
