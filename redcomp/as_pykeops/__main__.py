"""Runs a program with redcomp in the place of KeOps.

    python -m redcomp.as_pykeops script.py arguments ...
    python -m redcomp.as_pykeops -m module arguments ...

The program sees what it would see if `python` had run it: its arguments, its own folder first among
those of imports (behind redcomp's packages), and `__name__ == "__main__"`.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence

USER_ERROR = 2
USAGE = "usage: python -m redcomp.as_pykeops {script.py | -m module} [arguments ...]"


def main(arguments: Sequence[str]) -> int:
    """Run the program; the exit status, where the program itself sets none."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    is_module = arguments[:1] == ["-m"]
    program = arguments[1:] if is_module else arguments
    if not program or (program[0].startswith("-") and not is_module):
        print(USAGE, file=sys.stderr)
        return USER_ERROR
    sys.argv[:] = program
    if is_module:
        runpy.run_module(program[0], run_name="__main__", alter_sys=True)
        return 0
    if not os.path.exists(program[0]):
        print(f"redcomp.as_pykeops: {program[0]}: no such file", file=sys.stderr)
        return USER_ERROR
    _put_folder_first(program[0])
    runpy.run_path(program[0], run_name="__main__")
    return 0


def _put_folder_first(script: str) -> None:
    """Let the script's folder stand where `python -m` has put the working directory, if it has."""
    if getattr(sys.flags, "safe_path", False):
        return
    cwd = os.getcwd()
    if cwd in sys.path:
        sys.path.remove(cwd)
    sys.path.insert(1, os.path.dirname(os.path.realpath(script)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
