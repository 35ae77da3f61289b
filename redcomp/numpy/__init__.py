"""redcomp for NumPy: the names of `pykeops.numpy`."""

from redcomp.numpy.generic import generic_argkmin, generic_argmin, generic_logsumexp, generic_sum
from redcomp.numpy.genred import Genred
from redcomp.numpy.solve import KernelSolve

__all__ = [
    "Genred",
    "KernelSolve",
    "generic_argkmin",
    "generic_argmin",
    "generic_logsumexp",
    "generic_sum",
]
