"""redcomp for NumPy: the names of `pykeops.numpy`."""

from redcomp.numpy.genred import Genred
from redcomp.numpy.solve import KernelSolve

__all__ = ["Genred", "KernelSolve"]
