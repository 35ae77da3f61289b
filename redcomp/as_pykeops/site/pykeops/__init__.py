"""What `import pykeops` gives: KeOps' interface, release 2.3, on redcomp.

`pykeops.redcomp_version` is there in no other pykeops.  PyTorch is imported by `pykeops.torch`, and
by nothing else.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import keopscore

from . import config
from .config import numpy_found, pykeops_nvrtc_name, torch_found
from .installed import test_numpy_bindings, test_torch_bindings

__all__ = [
    "check_health",
    "clean_pykeops",
    "config",
    "default_device_id",
    "get_build_folder",
    "keops_get_build_folder",
    "numpy_found",
    "pykeops_nvrtc_name",
    "pykeopsconfig",
    "redcomp_version",
    "set_build_folder",
    "set_verbose",
    "show_cuda_status",
    "test_numpy_bindings",
    "test_torch_bindings",
    "torch_found",
    "verbose",
]

__version__: str = keopscore.__version__
redcomp_version: str = keopscore.redcomp_version
verbose: bool = keopscore.verbose
default_device_id = 0
pykeopsconfig = config
keops_get_build_folder = config.get_build_folder

SUBPACKAGES = ("common", "numpy", "torch")


def set_verbose(val: bool) -> None:
    """Whether the messages of KeOps' helpers are printed; redcomp logs with REDCOMP_DEBUG=1."""
    global verbose
    verbose = keopscore.verbose = val


def clean_pykeops(recompile_jit_binaries: bool = True) -> None:
    """Empty redcomp's disk cache.  Operations that are in use keep their code in memory."""
    keopscore.clean_keops(recompile_jit_binaries, verbose)


def check_health(config_type: str = "all") -> None:
    """Print what redcomp runs on; see `keopscore.check_health`."""
    keopscore.check_health(config_type)


def set_build_folder(path: str | None = None) -> None:
    """Keep compiled code in another folder, in this process; None: where it was at first."""
    keopscore.set_build_folder(path)


def get_build_folder() -> str:
    """Where compiled code is kept: redcomp's disk cache; "" where that is off."""
    return str(config.get_build_folder())


def __getattr__(name: str) -> object:
    if name == "show_cuda_status":
        return keopscore.show_cuda_status
    if name in SUBPACKAGES:  # which KeOps imports at once
        module: ModuleType = importlib.import_module(f"{__name__}.{name}")
        return module
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
