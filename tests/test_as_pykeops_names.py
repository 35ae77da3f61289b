"""Every public name of pykeops 2.3 is in what `redcomp.as_pykeops` offers: needs PyTorch.

`tests/pykeops_names.json` has the names, written by `scripts/pykeops_names.py` from the release.
"""

from __future__ import annotations

import fnmatch
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import redcomp.as_pykeops

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
keops_names: Any = importlib.import_module("keops_names")
LEFT_OUT = keops_names.LEFT_OUT

NAMES = json.loads(Path(__file__).with_name("pykeops_names.json").read_text(encoding="utf-8"))
# Objects whose members are listed by their class.
INSTANCES = {
    "Config": lambda: importlib.import_module("keopscore").config,
    "CUDAConfig": lambda: importlib.import_module("keopscore").cuda_config,
    "OpenMPConfig": lambda: importlib.import_module("keopscore").openmp_config,
    "DetectPlatform": lambda: importlib.import_module("keopscore").platform_detector,
    "GenericLazyTensor": lambda: importlib.import_module("pykeops.numpy").Vi(np.ones((3, 2))),
    "ComplexGenericLazyTensor": lambda: importlib.import_module("pykeops.numpy").Vi(
        np.ones((3, 2), np.complex64)
    ),
}


def is_left_out(name: str) -> bool:
    return keops_names.reason(name) is not None


def wanted(module: str) -> list[str]:
    return [name for name in NAMES[module] if not is_left_out(f"{module}:{name}")]


MODULES = [module for module in NAMES if wanted(module) or not NAMES[module]]


def is_there(module: str, name: str) -> bool:
    owner, _, member = name.partition(".")
    if member and owner in INSTANCES:
        return hasattr(INSTANCES[owner](), member)
    found = importlib.import_module(module)
    for part in name.split("."):
        if not hasattr(found, part):
            return False
        found = getattr(found, part)
    return True


@pytest.fixture(autouse=True)
def installed():
    redcomp.as_pykeops.install()


@pytest.mark.parametrize("module", MODULES)
def test_module_has_the_names_of_keops(module):
    assert importlib.import_module(module).__name__.startswith(module.split(".")[0])
    assert [name for name in wanted(module) if not is_there(module, name)] == []


def test_every_exception_is_of_use():
    names = [f"{module}:{name}" for module, listed in NAMES.items() for name in listed]
    for pattern in (p for patterns in LEFT_OUT.values() for p in patterns):
        assert any(fnmatch.fnmatchcase(name, pattern) for name in names), pattern


@pytest.mark.parametrize("module", MODULES)
def test_star_imports_work(module):
    found: dict[str, object] = {}
    exec(f"from {module} import *", found)
    assert not NAMES[module] or len(found) > 1  # beside "__builtins__"
