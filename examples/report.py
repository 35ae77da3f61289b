"""What both examples share: a clock and a picture."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt

Array = np.ndarray[Any, Any]
SHOWN = 40  # entries of each component in the picture


def seconds(function: Callable[[], object]) -> float:
    """The wall time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def median_seconds(function: Callable[[], object], calls: int) -> float:
    """The median wall time of a few calls, after one that is not counted."""
    function()
    return statistics.median(seconds(function) for _ in range(calls))


def check(name: str, value: Array, dense: Array, tolerance: float = 1e-4) -> None:
    """Print the largest relative error against the dense result; fail if it is out of tolerance."""
    error = float(np.max(np.abs(value - dense) / np.abs(dense)))
    print(f"{name:9s} max relative error {error:.1e}")
    np.testing.assert_allclose(value, dense, rtol=tolerance, err_msg=name)


def print_times(name: str, first: float, warm: float, dense: float) -> None:
    """One line: the first call (it compiles), later calls, and the dense computation."""
    print(
        f"{name:9s} first call {first * 1e3:.1f} ms, then {warm * 1e3:.2f} ms "
        f"(median); dense {dense * 1e3:.1f} ms"
    )


def plot(
    path: Path, title: str, library: str, results: dict[str, tuple[str, Array, Array]]
) -> None:
    """Draw each result (label: name of the index, value, dense value) as a row of panels."""
    components = next(iter(results.values()))[1].shape[1]
    figure, axes = plt.subplots(
        len(results), components, figsize=(4.2 * components, 3.2 * len(results)), squeeze=False
    )
    for row, (label, (index, value, dense)) in zip(axes, results.items(), strict=True):
        for k, panel in enumerate(row):
            panel.plot(dense[:SHOWN, k], color="0.6", linewidth=3, label="dense")
            panel.plot(value[:SHOWN, k], "x", color="tab:red", markersize=5, label=library)
            panel.set_title(f"component {k + 1}", fontsize=10)
            panel.set_xlabel(index)
            panel.grid(alpha=0.3)
        row[0].set_ylabel(label)
    axes[0, 0].legend()
    figure.suptitle(title)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    print(f"picture: {path}")
