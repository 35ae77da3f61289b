"""What a reader needs to know to compare the numbers with their own."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from pathlib import Path
from typing import Any

PACKAGES = (
    "redcomp", "llvmlite", "numpy", "cuda-bindings", "pykeops", "torch", "triton", "numba",
    "scikit-learn",
)  # fmt: skip


def describe() -> dict[str, Any]:
    """Processor, system, versions and date."""
    return {
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "date": time.strftime("%Y-%m-%d"),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's name and its widest vectors, where the system tells."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return platform.processor() or platform.machine()
    lines = (line.split(":", 1) for line in path.read_text("utf-8").splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in lines}
    name = fields.get("model name", platform.machine())
    flags = fields.get("flags", "").split()
    vectors = next((flag for flag in ("avx512f", "avx2", "avx") if flag in flags), None)
    return f"{name}, {vectors}" if vectors else name
