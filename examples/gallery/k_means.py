"""
K-means: the colours of a picture
=================================

Lloyd's algorithm finds the colours that represent those of a photograph best. What one learns:
``argmin`` over all pairs of a pixel and a centre, at a speed that makes the simplest program good
enough for a hundred thousand pixels. The centres are then the means of their pixels, which
is NumPy's work.
"""

import os

import numpy as np
from matplotlib import cbook
from matplotlib import pyplot as plt
from scipy.cluster.vq import kmeans2

from redcomp.numpy import Vi, Vj

small = "REDCOMP_EXAMPLES_SMALL" in os.environ
step, iterations = (16, 5) if small else (2, 30)

# %%
# Matplotlib brings a photograph of Grace Hopper, the pioneer of compilers.

with cbook.get_sample_data("grace_hopper.jpg") as file:
    picture = plt.imread(file, format="jpg")[::step, ::step] / np.float32(255)
pixels = picture.reshape(-1, 3)
print(f"{len(pixels):,} pixels")


# %%
# The two steps of an iteration. The matrix of all distances is not stored.


def assign(x, centres):
    """The index of the nearest centre of each x: (N, 3), (K, 3) -> (N,)."""
    return Vi(x).sqdist(Vj(centres)).argmin(axis=1)[:, 0]


def k_means(x, centres):
    """The centres after some iterations; a centre that no x is nearest to stays where it is."""
    for _ in range(iterations):
        labels = assign(x, centres)
        count = np.bincount(labels, minlength=len(centres))
        total = np.stack([np.bincount(labels, c, len(centres)) for c in x.T], axis=1)
        means = total / np.maximum(count, 1)[:, None]
        centres = np.where(count[:, None] > 0, means, centres).astype(x.dtype)
    return centres


# %%
# Pictures of few colours. The first centres are pixels drawn at random.

rng = np.random.default_rng(0)
first = {K: pixels[rng.choice(len(pixels), K, replace=False)] for K in (4, 8, 32)}
palettes = {K: k_means(pixels, centres) for K, centres in first.items()}

figure, panels = plt.subplots(2, 4, figsize=(11, 4.6), height_ratios=[8, 1], layout="constrained")
panels[0, 0].imshow(picture)
panels[0, 0].set_title("original")
for (K, palette), (top, bottom) in zip(palettes.items(), panels.T[1:], strict=True):
    top.imshow(palette[assign(pixels, palette)].reshape(picture.shape))
    top.set_title(f"{K} colours")
    stripes = palette[palette.sum(1).argsort()][None]
    bottom.imshow(stripes, extent=(0, 1, 0, 1), aspect="auto")
for panel in panels.flat:
    panel.axis("off")
plt.show()

# %%
# SciPy's k-means, from the same first centres, in float64.

x = pixels.astype(np.float64)
expected, _ = kmeans2(x, first[4].astype(np.float64), iter=iterations, minit="matrix")
np.testing.assert_allclose(k_means(x, first[4].astype(np.float64)), expected, rtol=1e-9)
