"""
Kernel density estimation
=========================

The density of a sample is the mean of a Gaussian around each of its points. Here it is drawn on a
grid of pixels for bandwidths from too small to too large, and the best of them is chosen by the
likelihood of points that were left out. What one learns: sums over all pairs of a pixel and a point
as a product with a :class:`~redcomp.numpy.LazyTensor`, ``where`` and ``logsumexp``.
"""

import os

import numpy as np
from matplotlib import pyplot as plt
from scipy.stats import gaussian_kde

from redcomp.numpy import Vi, Vj

small = "REDCOMP_EXAMPLES_SMALL" in os.environ
N, side = (300, 20) if small else (5_000, 200)

# %%
# The sample: two moons, with noise.

rng = np.random.default_rng(0)
angle = np.pi * rng.random(N)
moon = rng.integers(2, size=N)
sign = 1 - 2 * moon
x = np.stack([sign * np.cos(angle) + moon, sign * np.sin(angle) + moon / 2], axis=1)
x += 0.12 * rng.normal(size=x.shape)


# %%
# The density at points p is the mean of normal densities with the standard deviation h. The matrix
# of all pairs of a pixel and a point is never stored: there are 40,000 times 5,000 of them.


def density(p, x, h):
    """The estimate at the points p, from the sample x with bandwidth h: (M, 2), (N, 2) -> (M,)."""
    K = (-Vi(p).sqdist(Vj(x)) / (2 * h**2)).exp()
    return K @ np.ones(len(x)) / (2 * np.pi * h**2 * len(x))


axis_x, axis_y = np.linspace(-1.7, 2.7, side), np.linspace(-1.2, 1.7, side)
pixels = np.stack(np.meshgrid(axis_x, axis_y), axis=-1).reshape(-1, 2)

# %%
# A good bandwidth gives a high likelihood to each point when its own Gaussian is left out: the mask
# takes out the pairs of a point with itself.


def left_out(x, h):
    """The mean log-likelihood of each point under the density of all the others."""
    index = np.arange(len(x), dtype=x.dtype)[:, None]
    others = Vi(index) != Vj(index)
    exponent = others.where(-Vi(x).sqdist(Vj(x)) / (2 * h**2), -np.inf)
    return (exponent.logsumexp(axis=1) - np.log(2 * np.pi * h**2 * (len(x) - 1))).mean()


bandwidths = np.geomspace(0.01, 1, 13)
likelihoods = [left_out(x, h) for h in bandwidths]
best = bandwidths[np.argmax(likelihoods)]

# %%
# The figure.

figure, panels = plt.subplots(2, 2, figsize=(9, 6), layout="constrained")
for panel, h, word in zip(
    panels.flat, [best / 6, best, best * 6], ["too small", "best", "too large"], strict=False
):
    image = density(pixels, x, h).reshape(side, side)
    panel.contourf(axis_x, axis_y, image, levels=12, cmap="Blues")
    panel.scatter(*x[:300].T, s=1, color="tab:orange")
    panel.set(title=f"bandwidth {h:.3f}, {word}", aspect="equal")
panels[1, 1].semilogx(bandwidths, likelihoods, "o-")
panels[1, 1].axvline(best, color="0.5", linestyle=":")
panels[1, 1].set(xlabel="bandwidth", ylabel="log-likelihood per point left out")
plt.show()

# %%
# SciPy computes the same. Its Gaussians have the covariance of the sample, times the bandwidth
# squared, so both are compared on a sample that a linear map has given the covariance 1.

to_white = np.linalg.cholesky(np.linalg.inv(np.cov(x.T)))
few = pixels[:: len(pixels) // 100] @ to_white
expected = gaussian_kde((x @ to_white).T, bw_method=best)(few.T)
np.testing.assert_allclose(density(few, x @ to_white, best), expected, rtol=1e-10)
