"""Write docs/examples.png, README's picture: panels of figures of the gallery, side by side.

It runs the scripts at full size, which takes a minute.
"""

from __future__ import annotations

import io
import runpy
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.transforms import Bbox
from PIL import Image

ROOT = Path(__file__).parents[1]
# The script, the number of the figure's axes, and what stands above the panel.
PANELS = (
    ("kernel_density", 1, "kernel density"),
    ("nearest_neighbours", 1, "nearest neighbours"),
    ("kriging", 1, "kriging"),
    ("optimal_transport", 2, "optimal transport"),
    ("vortices", 1, "vortices"),
    ("thomson_problem", 1, "equal charges"),
)
HEIGHT = 400  # of a panel, in pixels


def main() -> None:
    """Run the scripts and join their panels."""
    matplotlib.use("Agg")
    panels = [square(panel(script, axes)) for script, axes, _ in PANELS]
    figure, axes = plt.subplots(1, len(panels), figsize=(2.2 * len(panels), 2.5), dpi=110)
    for ax, image, (_, _, title) in zip(axes, panels, PANELS, strict=True):
        ax.imshow(image)
        ax.set_title(title, fontsize=11)
        ax.axis("off")
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.01, top=0.88, wspace=0.03)
    figure.savefig(ROOT / "docs" / "examples.png")


def panel(script: str, number: int) -> Image.Image:
    """The inside of one of the axes of a script's first figure."""
    figures = list(run(script))
    axes = figures[0].axes[number]
    axes.figure.canvas.draw()
    inside: Bbox = axes.get_window_extent().transformed(axes.figure.dpi_scale_trans.inverted())
    picture = io.BytesIO()
    axes.figure.savefig(picture, format="png", dpi=2 * HEIGHT / inside.height, bbox_inches=inside)
    plt.close("all")
    return Image.open(picture).convert("RGB")


def run(script: str) -> Iterator[plt.Figure]:
    """The figures of a script."""
    show, plt.show = plt.show, lambda *_, **__: None
    try:
        runpy.run_path(str(ROOT / "examples" / "gallery" / f"{script}.py"), run_name="__main__")
    finally:
        plt.show = show
    return (plt.figure(number) for number in plt.get_fignums())


def square(image: Image.Image) -> np.ndarray:
    """The middle of a picture, as large as its shorter side."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)).resize((HEIGHT, HEIGHT)))


if __name__ == "__main__":
    main()
