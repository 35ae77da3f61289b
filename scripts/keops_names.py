"""What became of the names of pykeops 2.3: which redcomp lacks, and which are different.

`tests/pykeops_names.json` has the names.  Here a name is "module:name", and what is said of several
is said of a pattern.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence

# What is not there, by the reason.
LEFT_OUT: Mapping[str, Sequence[str]] = {
    "it generates C++ code": [
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
    "it runs compilers and loads what they made": [
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
    "it is a part from which KeOps builds LazyTensor and Genred": [
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
    "it belongs to KeOps' own tests": [
        "keopscore.utils.Test*:*",
        "pykeops.*.test_install:[!t]*",
    ],
    "it is a variable that only its module uses": [
        "keopscore:here",
        "keopscore.config:get_instance",
        "pykeops.torch:torch_version_required",
    ],
}
# What is there and different, by how.
DIFFERENT: Mapping[str, Sequence[str]] = {
    "arguments are checked; several formulas may be given as a list; `dtype` and `cuda_type` are "
    "not needed": ["pykeops.numpy*:Genred", "pykeops.torch*:Genred"],
    "it always ends: with a solution, a `ConvergenceWarning` or a `SolverError`; `alpha` may be an "
    "array and has a gradient; `rtol`, `maxiter` and `return_info` are new": [
        "pykeops.numpy*:KernelSolve",
        "pykeops.torch*:KernelSolve",
    ],
    "it is neither true nor false; a product with 0 is a LazyTensor; numbers take the dtype of the "
    "arrays": [
        "pykeops.numpy*:LazyTensor",
        "pykeops.torch*:LazyTensor",
        "*.lazy_tensor:GenericLazyTensor",
    ],
    "`ndim` and `shape` count complex numbers, where KeOps counts real and imaginary parts": [
        "*:ComplexLazyTensor",
        "*.lazy_tensor:ComplexGenericLazyTensor",
    ],
    "labels of different cells are never equal": ["*cluster*:grid_cluster"],
    "counts are exact for any number of points": ["*cluster*:cluster_ranges"],
    "blocks that overlap are an error when they are used": ["*cluster*:from_matrix"],
    "it empties redcomp's cache on disk": ["*:clean_pykeops", "*:clean_keops"],
    "it moves redcomp's cache on disk": ["*:set_build_folder", "*.set_different_build_folder"],
    "it is the folder of redcomp's cache on disk": [
        "*:get_build_folder",
        "*:build_folder",
        "*:keops_get_build_folder",
        "*Config.get_build_folder",
    ],
    "it prints what redcomp runs on": ["*:check_health"],
    "common expressions are always computed once, so it changes nothing": [
        "*:auto_factorize",
        "*.auto_factorize",
        "*.factorize",
    ],
    "it can be set, and changes nothing": [
        "keopscore:debug_ops*",
        "keopscore:cuda_block_size",
        "keopscore.config.chunks:*",
        "keopscore.config*Config.set_*",
        "keopscore.config*:DetectPlatform.set_*",
    ],
    "there is no such file": ["*:pykeops_nvrtc_name", "*:pykeops_cpp_name"],
    "`precond` and `precondKernel` are ignored": ["*:KernelLinearSolver"],
    "it ends on every input": ["*:ConjugateGradientSolver"],
    "it has gradients": [
        f"*LazyTensor.{name}{suffix}"
        for name in ("min", "max", "min_argmin", "max_argmax", "Kmin", "Kmin_argKmin")
        for suffix in ("", "_reduction")
    ],
    "it works, for all dimensions": ["*.grad_matrix", "*.difference_matrix"],
}


def reason(name: str) -> str | None:
    """Why redcomp lacks the name "module:name"; None if it has it."""
    return _found(LEFT_OUT, name)


def difference(name: str) -> str | None:
    """What is different of the name "module:name", if anything is."""
    return _found(DIFFERENT, name)


def _found(said: Mapping[str, Sequence[str]], name: str) -> str | None:
    for what, patterns in said.items():
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
            return what
    return None
