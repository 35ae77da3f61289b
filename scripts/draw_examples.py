"""Run programs of the gallery, and keep their pictures instead of showing them.

python scripts/draw_examples.py examples/output kernel_density kriging
"""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

GALLERY = Path(__file__).resolve().parents[1] / "examples" / "gallery"


def draw(name: str, folder: Path) -> list[Path]:
    """Run a program; the pictures that it would have shown."""
    drawn: list[Path] = []

    def show() -> None:
        for number in plt.get_fignums():
            drawn.append(folder / f"{name}_{len(drawn) + 1}.png")
            plt.figure(number).savefig(drawn[-1], dpi=150)
        plt.close("all")

    plt.show = show
    runpy.run_path(str(GALLERY / f"{name}.py"), run_name="__main__")
    return drawn


def main(given: str, *names: str) -> None:
    """Run the programs one after the other, each with a line before it."""
    folder = Path(given)
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        print(f"examples/gallery/{name}.py", flush=True)
        begin = time.perf_counter()
        drawn = draw(name, folder)
        print(f"    {len(drawn)} pictures, {time.perf_counter() - begin:.1f} s", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
