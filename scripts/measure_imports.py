"""Measure what imports and a first call cost: python scripts/measure_imports.py [CHECKOUT].

The least CPU time of several fresh processes, with bytecode on disk and without the disk cache.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

RUNS = 11
PROGRAM = """
import time, {library}
a = time.process_time()
import redcomp.{name}
b = time.process_time()
aliases = ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)"]
op = redcomp.{name}.Genred("Exp(-SqDist(x, y)) * b", aliases, axis=1)
x, v = {library}.ones((9, 3)), {library}.ones((9, 1))
op(x, x, v)
print(1e3 * (b - a), 1e3 * (time.process_time() - b))
"""


def least(name: str, checkout: Path) -> tuple[float, float]:
    """Of the import of a face and of a first call, in ms; what is least need not be of one run."""
    library = "torch" if name == "torch" else "numpy"
    program = PROGRAM.format(name=name, library=library)
    variables = {**os.environ, "PYTHONPATH": str(checkout), "REDCOMP_CACHE_DIR": "off"}
    found = [
        subprocess.run(
            [sys.executable, "-c", program],
            env=variables,
            text=True,
            capture_output=True,
            check=True,
        ).stdout.split()
        for _ in range(RUNS)
    ]
    imports, calls = zip(*((float(a), float(b)) for a, b in found[1:]), strict=True)
    return min(imports), min(calls)


def main() -> None:
    """Print a row of a table for each face."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path, nargs="?", default=Path(__file__).parents[1])
    checkout = parser.parse_args().checkout.resolve()
    print("| face | import | first call |\n|---|---|---|")
    for name in ("numpy", "torch"):
        imports, calls = least(name, checkout)
        print(f"| `redcomp.{name}` | {imports:.0f} | {calls:.0f} |")


if __name__ == "__main__":
    main()
