"""Reductions over pairs, `out_i = sum_j F(x_i, y_j, p)`, compiled to SIMD code.

`redcomp.numpy` and `redcomp.torch` have the names of `pykeops.numpy` and `pykeops.torch`;
`redcomp.Genred` takes arrays of either library.  `redcomp.operations()` lists what formulas can
say, and `redcomp.reductions()` how they can be reduced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redcomp import numpy, torch
    from redcomp.catalogue import operations, reductions
    from redcomp.config import ConfigError
    from redcomp.errors import (
        ArgumentError,
        AxisWarning,
        CompilerError,
        ConvergenceWarning,
        FallbackWarning,
        FormulaError,
        KeywordError,
        RedcompError,
        SizeError,
        SolverError,
    )
    from redcomp.genred import Genred
    from redcomp.long_work import progress
    from redcomp.runtime.device import DeviceError

__version__ = "0.2.0"
__all__ = [
    "Genred",
    "numpy",
    "torch",
    "operations",
    "reductions",
    "progress",
    "ArgumentError",
    "AxisWarning",
    "CompilerError",
    "ConfigError",
    "ConvergenceWarning",
    "DeviceError",
    "FallbackWarning",
    "FormulaError",
    "KeywordError",
    "RedcompError",
    "SizeError",
    "SolverError",
    "__version__",
]

# Where each name is; modules are names of their own.
_MODULES = {
    "Genred": "redcomp.genred",
    "numpy": "redcomp.numpy",
    "torch": "redcomp.torch",
    "operations": "redcomp.catalogue",
    "reductions": "redcomp.catalogue",
    "progress": "redcomp.long_work",
    "ConfigError": "redcomp.config",
    "DeviceError": "redcomp.runtime.device",
}


def __getattr__(name: str) -> object:
    # The compiler and NumPy are loaded by the first use, so that `import redcomp` costs a
    # millisecond.
    import importlib

    if name not in __all__:
        of_libraries = ("LazyTensor", "ComplexLazyTensor", "KernelSolve", "Vi", "Vj", "Pm")
        instead = f": redcomp.numpy and redcomp.torch have {name}" if name in of_libraries else ""
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{instead}")

    try:
        module = importlib.import_module(_MODULES.get(name, "redcomp.errors"))
    except ModuleNotFoundError as error:
        # Not an error of imports: whoever lists what redcomp has asks for every name.
        raise AttributeError(
            f"redcomp.{name} needs {error.name}: pip install {error.name}"
        ) from None
    return module if module.__name__ == f"{__name__}.{name}" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
