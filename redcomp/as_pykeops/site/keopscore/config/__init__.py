"""The settings of KeOps, which can be read and set; see `keopscore`."""

from __future__ import annotations

import sys
from typing import Any

from . import chunks
from .base_config import Config
from .cuda import CUDAConfig
from .openmp import OpenMPConfig
from .Platform import DetectPlatform

__all__ = [
    "config",
    "platform_detector",
    "cuda_config",
    "openmp_config",
    "get_config",
    "get_platform_config",
    "get_cuda_config",
    "get_openmp_config",
    "chunks",
    "CUDAConfig",
    "Config",
    "DetectPlatform",
    "OpenMPConfig",
]

cuda_config = CUDAConfig()
openmp_config = OpenMPConfig()
platform_detector = DetectPlatform()
# Before KeOps 2.3 the settings were a module, `keopscore.config.config`; since then they are an
# object, which `keopscore.config` is after `import keopscore`.  Here all three are this package.
config: Any = sys.modules[__name__]
config.__class__ = Config
sys.modules[f"{__name__}.config"] = config


def get_config() -> Any:
    """The settings of the whole."""
    return config


def get_cuda_config() -> CUDAConfig:
    """The settings of GPUs."""
    return cuda_config


def get_openmp_config() -> OpenMPConfig:
    """The settings of threads."""
    return openmp_config


def get_platform_config() -> DetectPlatform:
    """The platform."""
    return platform_detector
