"""redcomp for PyTorch: the names of `pykeops.torch`, with autograd of any order."""

from redcomp.torch.genred import Genred
from redcomp.torch.solve import KernelSolve

__all__ = ["Genred", "KernelSolve"]
