"""
Spectral embedding through a linear operator
============================================

The eigenvectors of a graph's Laplacian unroll what is curved, and separate what k-means cannot.
What one learns: a symmetric kernel matrix as an operator of SciPy, whose eigenvectors ``eigsh``
finds by products with it alone.
"""

import os

import numpy as np
from matplotlib import pyplot as plt
from scipy.cluster.vq import kmeans2
from scipy.sparse.linalg import aslinearoperator, eigsh

from redcomp.numpy import Vi, Vj

small = "REDCOMP_EXAMPLES_SMALL" in os.environ
N = 300 if small else 3_000

# %%
# Two data sets: rings in the plane, and a Swiss roll in space.

rng = np.random.default_rng(0)
ring = rng.integers(3, size=N)
angle = 2 * np.pi * rng.random(N)
rings = (1 + ring)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
rings += 0.1 * rng.normal(size=rings.shape)

turn = 1.5 * np.pi * (1 + 2 * rng.random(N))
roll = np.stack([turn * np.cos(turn), 10 * rng.random(N), turn * np.sin(turn)], axis=1)

# %%
# The weights of the graph's edges are Gaussians of the distances. With the degrees D, the matrix
# ``D^-1/2 K D^-1/2`` has the eigenvectors of the normalised Laplacian, those of the smallest first.


def embedding(x, scale, dimensions):
    """The eigenvectors after the first, divided by the roots of the degrees."""
    weights = (-Vi(x).sqdist(Vj(x)) / (2 * scale**2)).exp()
    factors = 1 / np.sqrt(weights @ np.ones(len(x)))[:, None]
    normalised = weights * Vi(factors) * Vj(factors)
    start = np.ones(len(x))  # eigsh draws it at random otherwise
    values, vectors = eigsh(aslinearoperator(normalised), k=dimensions + 1, v0=start)
    order = values.argsort()[::-1]
    return values[order], vectors[:, order[1:]] * factors


_, rings_vectors = embedding(rings, 0.2, 2)
_, roll_vectors = embedding(roll, 1.5, 2)

# %%
# K-means starts from points that are far from each other, each one the farthest from those before.


def farthest(points, count):
    chosen = points[:1]
    for _ in range(count - 1):
        distances = Vi(points).sqdist(Vj(chosen)).min(axis=1)
        chosen = np.vstack([chosen, points[distances.argmax()]])
    return chosen


# %%
# The figure. The rings are points in the embedding, so k-means finds them; without it, it cuts the
# plane into sectors. The roll becomes a curve, of which the first coordinate is the turn.

figure, panels = plt.subplots(2, 3, figsize=(11, 6.5), layout="constrained")
for panel, title, points in [
    (panels[0, 0], "k-means of the points", rings),
    (panels[0, 1], "k-means of the embedding", rings_vectors),
]:
    _, labels = kmeans2(points, farthest(points, 3), minit="matrix")
    panel.scatter(*rings.T, s=2, c=labels, cmap="viridis")
    panel.set(title=title, aspect="equal")
panels[0, 2].scatter(*rings_vectors.T, s=8, c=ring, cmap="viridis")
panels[0, 2].set(title="embedding", xlabel="eigenvector 2", ylabel="eigenvector 3")
panels[0, 2].set(xticks=[], yticks=[])
figure.delaxes(panels[1, 0])
space = figure.add_subplot(2, 3, 4, projection="3d")
space.scatter(*roll.T, s=2, c=turn)
space.set(title="Swiss roll", xticklabels=[], yticklabels=[], zticklabels=[])
panels[1, 1].scatter(*roll_vectors.T, s=2, c=turn)
panels[1, 1].set(title="embedding", xlabel="eigenvector 2", ylabel="eigenvector 3")
panels[1, 1].set(xticks=[], yticks=[])
panels[1, 2].scatter(turn, roll_vectors[:, 0], s=2, c=turn)
panels[1, 2].set(xlabel="angle along the roll [rad]", ylabel="eigenvector 2", yticks=[])
plt.show()

# %%
# NumPy finds the same eigenvalues of the matrix itself, for some of the points.

for x, scale in [(rings[:500], 0.2), (roll[:500], 1.5)]:
    squares = np.sum((x[:, None] - x[None]) ** 2, axis=-1)
    K = np.exp(-squares / (2 * scale**2))
    roots = np.sqrt(K.sum(1))
    expected = np.linalg.eigvalsh(K / np.outer(roots, roots))[:-4:-1]
    values, _ = embedding(x, scale, 2)
    np.testing.assert_allclose(values, expected, rtol=1e-8)
