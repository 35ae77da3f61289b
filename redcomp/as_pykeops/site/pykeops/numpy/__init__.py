"""What `import pykeops.numpy` gives: `redcomp.numpy` with its modules where KeOps has them."""

from __future__ import annotations

import redcomp.numpy
import redcomp.numpy.cluster

from .. import installed
from ..lending import NAMES, lend

__all__ = sorted(NAMES)

lend(__name__, redcomp.numpy, redcomp.numpy.cluster, installed)
