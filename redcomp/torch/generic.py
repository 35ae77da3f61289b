"""`generic_sum` and its like on PyTorch tensors: a `Genred` by the name of its reduction."""

from __future__ import annotations

from redcomp.frontend.reductions.generic import GenericFunctions
from redcomp.torch.genred import Genred

__all__ = ["generic_argkmin", "generic_argmin", "generic_logsumexp", "generic_sum"]

_functions = GenericFunctions(Genred)
generic_sum = _functions.generic_sum
generic_logsumexp = _functions.generic_logsumexp
generic_argmin = _functions.generic_argmin
generic_argkmin = _functions.generic_argkmin
