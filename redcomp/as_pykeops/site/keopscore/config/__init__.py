"""The settings of KeOps, which can be read and set; see `keopscore`."""

from __future__ import annotations

import sys

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
# An object since KeOps 2.3 and a module before: both `keopscore.config.config.use_cuda` and
# `from keopscore.config.config import get_build_folder` work.
config = Config(f"{__name__}.config", cuda_config, openmp_config)
sys.modules[config.__name__] = config


def get_config() -> Config:
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
