"""
K nearest neighbours: a decision map
====================================

A pixel takes the class that most of its K nearest training points have. What one learns: the
indices of the K nearest points with ``argKmin``, in any metric that can be written down, without
a tree. The maps compare few and many neighbours, and Euclidean with Manhattan distances.
"""

import os

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.colors import ListedColormap
from scipy.spatial import cKDTree

from redcomp.numpy import LazyTensor

small = "REDCOMP_EXAMPLES_SMALL" in os.environ
N, side = (150, 20) if small else (600, 300)

# %%
# Three classes in the arms of a spiral.

rng = np.random.default_rng(0)
radius = np.sqrt(rng.random(N))
labels = rng.integers(3, size=N)
angle = 2 * np.pi * labels / 3 + 4 * radius + 0.55 * rng.normal(size=N)
points = (radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)).astype(np.float32)
axis = np.linspace(-1.1, 1.1, side, dtype=np.float32)
pixels = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)

# %%
# ``distances`` stands for the matrix of all pairs, which is not stored. ``argKmin`` keeps, for each
# pixel, the indices of the K smallest values of its row, in ascending order.

METRICS = {
    "Euclidean": lambda difference: (difference**2).sum(-1),
    "Manhattan": lambda difference: difference.abs().sum(-1),
}


def neighbours(pixels, K, metric):
    """(M, K): the indices of the K nearest training points."""
    x_i, y_j = LazyTensor(pixels[:, None, :]), LazyTensor(points[None, :, :])
    distances = METRICS[metric](x_i - y_j)
    return distances.argKmin(K, axis=1)


def classes(pixels, K, metric):
    """The class of most neighbours; the smallest one of those that are equally frequent."""
    votes = labels[neighbours(pixels, K, metric)]
    return np.stack([(votes == label).sum(1) for label in range(3)]).argmax(0)


# %%
# The figure. The colours are distinct for colour-blind eyes too.

colours = ["#0072B2", "#E69F00", "#009E73"]
figure, panels = plt.subplots(1, 3, figsize=(12, 4.3), layout="constrained")
cases = [(1, "Euclidean"), (20, "Euclidean"), (20, "Manhattan")]
for panel, (K, metric) in zip(panels, cases, strict=True):
    image = classes(pixels, K, metric).reshape(side, side)
    extent = (axis[0], axis[-1], axis[0], axis[-1])
    panel.imshow(image, origin="lower", extent=extent, cmap=ListedColormap(colours), alpha=0.35)
    for label, (colour, marker) in enumerate(zip(colours, "os^", strict=True)):
        panel.scatter(*points[labels == label].T, s=10, color=colour, marker=marker)
    panel.set(title=f"K = {K}, {metric} distance", aspect="equal", xticks=[], yticks=[])
plt.show()

# %%
# SciPy's tree finds neighbours at the same distances.

few = pixels[:: len(pixels) // 200]
for metric, p in [("Euclidean", 2), ("Manhattan", 1)]:
    expected, _ = cKDTree(points).query(few, k=20, p=p)
    found = points[neighbours(few, 20, metric)] - few[:, None, :]
    np.testing.assert_allclose(np.linalg.norm(found, ord=p, axis=-1), expected, rtol=1e-5)
