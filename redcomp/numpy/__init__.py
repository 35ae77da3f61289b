"""redcomp for NumPy: the names of `pykeops.numpy`."""

from redcomp.numpy.genred import Genred

__all__ = ["Genred"]
