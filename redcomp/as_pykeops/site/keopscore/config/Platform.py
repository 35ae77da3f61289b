"""The platform."""  # noqa: N999 (KeOps' name)

from __future__ import annotations

import os
import platform
import sys

from .settings import Settings


def _environment() -> str:
    if "CONDA_DEFAULT_ENV" in os.environ:
        return f"conda ({os.environ['CONDA_DEFAULT_ENV']})"
    return "virtualenv" if sys.base_prefix != sys.prefix else "system"


class DetectPlatform(Settings):
    """The operating system, Python's version, and what kind of environment it runs in."""

    os: str = f"{platform.system()} {platform.release()}"
    python_version: str = platform.python_version()
    env_type: str = _environment()
