"""The passes: functions from program to program, one module each.  `redcomp.compile` orders them.

A module in this folder is all that a new pass needs to be known by its name.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
