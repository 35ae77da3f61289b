"""The passes: functions from program to program, one module each.  `redcomp.compile` orders them.

Every module of this folder is imported here, which registers its pass by name.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
