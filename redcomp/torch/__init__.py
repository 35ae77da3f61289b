"""redcomp for PyTorch: the names of `pykeops.torch`, with autograd of any order."""

from redcomp.torch.genred import Genred

__all__ = ["Genred"]
