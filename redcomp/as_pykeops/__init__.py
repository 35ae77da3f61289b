"""Programs that were written for KeOps run on redcomp, unchanged.

    import redcomp.as_pykeops           # before anything imports pykeops
    python -m redcomp.as_pykeops script.py ...    # or -m module ...
    pytest -p redcomp.as_pykeops ...

From then on `pykeops` and `keopscore` are redcomp's own packages with the names of KeOps 2.3, in
this process and in those that `multiprocessing` starts, whatever else is installed.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from redcomp.errors import RedcompError

__all__ = ["AlreadyImportedError", "install"]

# What `pykeops` and `keopscore` are found in: first in `sys.path`, which new processes inherit.
SITE = str(Path(__file__).with_name("site"))
PACKAGES = ("keopscore", "pykeops")


class AlreadyImportedError(RedcompError, ImportError):
    """KeOps itself was imported first, and a process cannot have both."""


def install() -> None:
    """Make `pykeops` and `keopscore` redcomp's own; importing this package has done so.

    Raises AlreadyImportedError if the process has imported KeOps itself.
    """
    for name in PACKAGES:
        origin = getattr(sys.modules.get(name), "__file__", SITE)
        if not str(origin).startswith(SITE):
            raise AlreadyImportedError(
                f"{name} was imported before redcomp.as_pykeops, from {origin}: "
                "import redcomp.as_pykeops first"
            )
    sys.path[:] = [SITE, *(entry for entry in sys.path if entry != SITE)]
    for name in PACKAGES:  # now: nothing that a program does to `sys.path` later counts
        importlib.import_module(name)


install()
