"""Settings of every test: no backend needed.

The environment is set when this file is imported, so before any test imports redcomp: every pass is
verified, and machine code is cached in a folder of this session's own, which all its workers share,
with a key of its own.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

os.environ["REDCOMP_VERIFY"] = "1"
_CACHE = None
if "PYTEST_XDIST_WORKER" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory(prefix="redcomp-tests-")
    os.environ["REDCOMP_CACHE_DIR"] = _CACHE.name
    os.environ["REDCOMP_DATA_DIR"] = os.path.join(_CACHE.name, "data")

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
    parser.addoption("--all", action="store_true", help="run sampled tests in full, and others too")
    parser.addoption(
        "--interpreted", action="store_true", help="run all interpreted tests, which takes hours"
    )


@pytest.hookimpl(tryfirst=True)  # so that pytest orders only what is left
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of tests marked `sampled` or `interpreted` only some are run, always the same ones."""
    kept = items if config.getoption("--all") else _sample(items)
    if not config.getoption("--interpreted"):
        kept = _with_few_interpreted(kept)
    remaining = set(kept)
    config.hook.pytest_deselected(items=[item for item in items if item not in remaining])
    items[:] = kept


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Keep the garbage collector from what has been imported and collected.

    These are millions of objects, which would take it about a second each time that it is called.
    """
    gc.freeze()


def _number(item: pytest.Item) -> int:
    return zlib.crc32(item.nodeid.encode())


def _variants(items: list[pytest.Item], marker: str) -> dict[tuple[object, ...], list[pytest.Item]]:
    """The variants of each test with a marker, by its arguments and the test's name."""
    variants: dict[tuple[object, ...], list[pytest.Item]] = {}
    for item in items:
        if found := item.get_closest_marker(marker):
            key = (*found.args, item.nodeid.split("[")[0])
            variants.setdefault(key, []).append(item)
    return variants


def _sample(items: list[pytest.Item]) -> list[pytest.Item]:
    """The tests without the thorough ones and without most variants of the sampled ones."""
    left = {item for item in items if item.get_closest_marker("thorough")}
    for (one_in, _), together in _variants(items, "sampled").items():
        left |= set(sorted(together, key=_number)[-(-len(together) // one_in) :])
    return [item for item in items if item not in left]


def _with_few_interpreted(items: list[pytest.Item]) -> list[pytest.Item]:
    """The tests without all but a few variants of each that is interpreted."""
    left: set[pytest.Item] = set()
    for (count, one_test_in, name), together in _variants(items, "interpreted").items():
        kept = 0 if zlib.crc32(name.encode()) % one_test_in else count
        left |= set(sorted(together, key=_number)[kept:])
    return [item for item in items if item not in left]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Most tests are of programs that were not written for KeOps, and that have to give an axis."""
    name = "redcomp.as_pykeops"
    if item.path.name.startswith("test_as_pykeops") or item.path.parent.name == "clients":
        return (yield)
    imported = sys.modules.pop(name, None)
    try:
        return (yield)
    finally:
        if imported is not None:
            sys.modules[name] = imported


def pytest_unconfigure() -> None:
    """Remove the session's cache."""
    if _CACHE is not None:
        _CACHE.cleanup()
