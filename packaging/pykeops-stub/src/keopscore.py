"""Gives way to the package of this name that redcomp has; what imports it gets that one.

It is a module, not a package, so that it replaces no file of an installed KeOps.
"""

import sys

del sys.modules[__name__]

import redcomp.as_pykeops  # noqa: E402

redcomp.as_pykeops.install()
