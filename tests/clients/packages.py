"""Imports of the packages under test, whose own warnings are theirs."""

from __future__ import annotations

import warnings
from typing import Any

import pytest


def package(name: str) -> Any:
    """A package; without it the tests of the module are skipped."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"needs {name}: make test-clients installs it")
