"""redcomp for NumPy: the names of `pykeops.numpy`."""

from redcomp.concurrency import uncollected

# Modules make so many objects that Python's collector would look at all of the process, twice.
with uncollected():
    from redcomp.numpy.generic import (
        generic_argkmin,
        generic_argmin,
        generic_logsumexp,
        generic_sum,
    )
    from redcomp.numpy.genred import Genred
    from redcomp.numpy.lazy_tensor import ComplexLazyTensor, LazyTensor, Pm, Vi, Vj
    from redcomp.numpy.solve import KernelSolve

__all__ = [
    "ComplexLazyTensor",
    "Genred",
    "KernelSolve",
    "LazyTensor",
    "Pm",
    "Vi",
    "Vj",
    "generic_argkmin",
    "generic_argmin",
    "generic_logsumexp",
    "generic_sum",
]
