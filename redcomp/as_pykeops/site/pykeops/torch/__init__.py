"""What `import pykeops.torch` gives: `redcomp.torch` with its modules where KeOps has them."""

from __future__ import annotations

import redcomp.torch
import redcomp.torch.cluster

from .. import installed
from ..lending import NAMES, lend

__all__ = sorted(NAMES)

lend(__name__, redcomp.torch, redcomp.torch.cluster, installed)
