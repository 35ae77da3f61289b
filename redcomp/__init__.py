"""Reductions over pairs, `out_i = sum_j F(x_i, y_j, p)`, compiled to SIMD code.

`redcomp.numpy` and `redcomp.torch` have the names of `pykeops.numpy` and `pykeops.torch`;
`redcomp.Genred` takes arrays of either library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redcomp.genred import Genred
    from redcomp.long_work import progress

__version__ = "0.1.0.dev0"
__all__ = ["Genred", "progress", "__version__"]


def __getattr__(name: str) -> object:
    # The compiler and NumPy are loaded by the first use, so that `import redcomp` costs a
    # millisecond.
    if name == "Genred":
        from redcomp.genred import Genred

        return Genred
    if name == "progress":
        from redcomp.long_work import progress

        return progress
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
