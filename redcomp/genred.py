"""`redcomp.Genred`: the public face that looks at its arguments to find their array library."""

from __future__ import annotations

import sys
from typing import Any

from redcomp.frontend.reductions.genred import GenredBase


class Genred(GenredBase):
    __doc__ = GenredBase.__doc__

    def __call__(self, *args: Any, **options: Any) -> Any:
        """As `redcomp.torch.Genred` if an argument is a tensor, else as `redcomp.numpy.Genred`."""
        torch = sys.modules.get("torch")  # without it nothing can be a tensor
        if torch is not None and any(isinstance(arg, torch.Tensor) for arg in args):
            import redcomp.torch.genred as face
        else:
            import redcomp.numpy.genred as face  # type: ignore[no-redef]  # both have the same names
        return face.call(self, *args, **options)
