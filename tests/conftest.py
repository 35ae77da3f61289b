"""Settings of every test: no backend needed.

The environment is set when this file is imported, so before any test imports redcomp: every pass is
verified, and machine code is cached in a folder of this session's own.
"""

from __future__ import annotations

import math
import os
import tempfile
import zlib

import pytest
from hypothesis import HealthCheck, settings

_CACHE = tempfile.TemporaryDirectory(prefix="redcomp-tests-")
os.environ["REDCOMP_VERIFY"] = "1"
os.environ["REDCOMP_CACHE_DIR"] = _CACHE.name

# Compiling makes the first example of a test slow, so no example has a deadline.  In continuous
# integration the same examples are drawn each time; elsewhere each run draws new ones.
settings.register_profile(
    "ci",
    deadline=None,
    derandomize=True,
    max_examples=50,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("dev", deadline=None, max_examples=50)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="run sampled tests in full")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of a test marked `sampled(n)` one variant in n is run, always the same ones.

    Several such marks multiply.
    """
    if config.getoption("--all"):
        return
    kept, left = [], []
    for item in items:
        one_in = math.prod(marker.args[0] for marker in item.iter_markers("sampled"))
        is_left = zlib.crc32(item.nodeid.encode()) % one_in > 0
        (left if is_left else kept).append(item)
    config.hook.pytest_deselected(items=left)
    items[:] = kept


def pytest_unconfigure() -> None:
    """Remove the session's cache."""
    _CACHE.cleanup()
