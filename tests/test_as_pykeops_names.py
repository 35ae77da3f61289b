"""Every public name of pykeops 2.3 is in what `redcomp.as_pykeops` offers: needs PyTorch.

`tests/pykeops_names.json` has the names, written by `scripts/pykeops_names.py` from the release.
"""

from __future__ import annotations

import fnmatch
import importlib
import json
from pathlib import Path

import numpy as np
import pytest

import redcomp.as_pykeops

NAMES = json.loads(Path(__file__).with_name("pykeops_names.json").read_text(encoding="utf-8"))
# What is not there, by the reason, as patterns of "module:name".
LEFT_OUT = {
    "generates C++ code": [
        "keopscore:Gpu_link_compile",
        "keopscore:jit_compile_dll",
        "keopscore.get_keops_dll:*",
        "keopscore.utils.KeopsSize:*",
        "keopscore.utils.Tree:*",
        "keopscore.utils.math_functions:*",
        "keopscore.utils.gpu_utils:*_cuda_include_fp16_path",
        "keopscore.config.chunks:use_final_chunks",
        "pykeops.torch.half2_convert:*",
        *(f"keopscore.utils.code_gen_utils:{pattern}" for pattern in ("[!c]*", "c_*", "ca*")),
    ],
    "runs compilers and loads what they made": [
        "keopscore.utils.Cache:*",
        "keopscore.utils.build_folder:*",
        *(
            f"keopscore.utils.misc_utils:{name}"
            for name in ("KeOps_OS_Run", "*_string", "string_*", "find_library*", "pack_header")
        ),
        "pykeops:compile_jit_binary",
        "pykeops*:keops_io",
        "pykeops.common.keops_io*:*",
        "pykeops.common.get_options:*",
    ],
    "is how LazyTensor and Genred are made": [
        "pykeops.common.parse_type:*",
        "pykeops.common.operations:p*process",
        "pykeops.common.lazy_tensor:*_test",
        "pykeops.common.lazy_tensor:is_*",
        *(
            f"pykeops.common.lazy_tensor:*GenericLazyTensor.{name}"
            for name in (
                *("*op", "Genred", "KernelSolve", "binary", "fixvariables", "get_tools", "init"),
                *("join", "lt_constructor", "new_variable_index", "promote", "separate_kwargs"),
                *("ternary", "tools", "unary"),
            )
        ),
        "pykeops.torch*:*Autograd*",
        "pykeops.torch.generic.generic_red:Genred_parameters",
        "pykeops.torch.generic.generic_red:check_AD_supported",
        "pykeops.torch.generic.generic_red:set_device",
    ],
    "belongs to KeOps' own tests": [
        "keopscore.utils.Test*:*",
        "pykeops.*.test_install:[!t]*",
    ],
    "is a note of a module to itself": [
        "keopscore:here",
        "keopscore.config:get_instance",
        "pykeops.torch:torch_version_required",
    ],
}
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
    patterns = [pattern for patterns in LEFT_OUT.values() for pattern in patterns]
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


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
