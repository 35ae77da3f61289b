"""
Block-sparse reductions
=======================

A narrow kernel is zero for most pairs. Points are sorted into cells, and only pairs of cells that
are near each other are computed. What one learns: ``grid_cluster``, ``sort_clusters`` and
``from_matrix`` of :mod:`redcomp.numpy.cluster`, and the ``ranges`` of a reduction that they make.
"""

import os
import time

import numpy as np
from matplotlib import pyplot as plt

from redcomp.numpy import Genred
from redcomp.numpy.cluster import (
    cluster_ranges_centroids,
    from_matrix,
    grid_cluster,
    sort_clusters,
)

small = "REDCOMP_EXAMPLES_SMALL" in os.environ
N = 500 if small else 30_000

# %%
# Points of a spiral, with a signal to be smoothed by a Gaussian kernel of width 0.03.

rng = np.random.default_rng(0)
angle = 4 * np.pi * np.sqrt(rng.random(N))
x = angle[:, None] / 12 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
x += 0.02 * rng.normal(size=x.shape)
b = np.sin(3 * angle)[:, None] + 0.5 * rng.normal(size=(N, 1))
width = 0.03

# %%
# Cells are squares of side 0.1. Sorted points of a cell follow each other, so a cell is an interval
# of rows: its range. A centroid is at most a diagonal away from the points of its cell, so pairs of
# points of cells that are skipped are more than six widths apart.

labels = grid_cluster(x, 0.1)
ranges, centroids, _ = cluster_ranges_centroids(x, labels)
(x, b), labels = sort_clusters((x, b), labels)

distances = np.linalg.norm(centroids[:, None] - centroids[None], axis=-1)
near = distances < 6 * width + 2 * 0.1 * np.sqrt(2)
blocks = from_matrix(ranges, ranges, near)

lengths = np.diff(ranges)[:, 0]
share = lengths @ near @ lengths / N**2
print(f"{len(ranges)} cells; {share:.0%} of {N**2:.0e} pairs are computed")

# %%
# The same reduction with and without ranges: the weighted mean of the signal around each point.

smooth = Genred(
    ["Exp(-SqDist(x, y) / (2 * Square(h))) * b", "Exp(-SqDist(x, y) / (2 * Square(h)))"],
    ["x = Vi(2)", "y = Vj(2)", "b = Vj(1)", "h = Pm(1)"],
    axis=1,
)
smooth(x, x, b, width, ranges=blocks)  # compiled at the first call
start = time.perf_counter()
sparse = smooth(x, x, b, width, ranges=blocks)
middle = time.perf_counter()
full = smooth(x, x, b, width)
print(f"blocks {middle - start:.3f} s, all pairs {time.perf_counter() - middle:.3f} s")

# %%
# The figure: the points and their cells, the pairs of cells that are computed, and the result.

figure, panels = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
panels[0].scatter(*x.T, s=1, c=labels % 7, cmap="Set2")
panels[0].plot(*centroids.T, "k+", markersize=4)
panels[0].set(title=f"{len(ranges)} cells and their centroids", aspect="equal")
panels[1].imshow(near, cmap="Greys", interpolation="nearest")
panels[1].set(title=f"pairs of cells computed: {share:.0%} of pairs", xlabel="cell", ylabel="cell")
colours = panels[2].scatter(*x.T, s=1, c=sparse[0] / sparse[1], cmap="PuOr", vmin=-1, vmax=1)
panels[2].set(title="signal, smoothed", aspect="equal")
figure.colorbar(colours, ax=panels[2])
plt.show()

# %%
# The sums over blocks are those over all pairs, and both those of NumPy, for some of the points.

some = slice(None, None, N // 100)
weights = np.exp(-np.sum((x[some, None] - x[None]) ** 2, axis=-1) / (2 * width**2))
np.testing.assert_allclose(sparse, full, rtol=1e-6, atol=1e-6)
np.testing.assert_allclose(sparse[0][some], weights @ b, rtol=1e-6, atol=1e-6)
np.testing.assert_allclose(sparse[1][some], weights.sum(1, keepdims=True), rtol=1e-6)
