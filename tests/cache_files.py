"""What tests of the disk cache share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from redcomp.runtime.cache import DiskCache

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX ownership and modes")


def files(cache: DiskCache) -> list[Path]:
    return sorted(cache.directory.iterdir()) if cache.directory.exists() else []


def entry(cache: DiskCache, key: str = "key", data: bytes = b"data") -> Path:
    """The file of a stored entry, the only file."""
    cache.store(key, data)
    (path,) = files(cache)
    return path


def reports(caplog) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "redcomp"]
