"""redcomp for PyTorch: the names of `pykeops.torch`, with autograd of any order."""

from redcomp.concurrency import uncollected

# Modules make so many objects that Python's collector would look at all of the process, twice.
with uncollected():
    import redcomp.torch.operators  # noqa: F401 (so that graphs find them)
    from redcomp.torch.generic import (
        generic_argkmin,
        generic_argmin,
        generic_logsumexp,
        generic_sum,
    )
    from redcomp.torch.genred import Genred
    from redcomp.torch.lazy_tensor import ComplexLazyTensor, LazyTensor, Pm, Vi, Vj
    from redcomp.torch.solve import KernelSolve

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
